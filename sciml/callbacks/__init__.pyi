from .adaptive_batch import AdaptiveBatch
from .average import EMAWeightAveraging
from .checkpoint import RunCheckpoint
from .csv_log import CSVLog
from .curvature import CurvatureCallback
from .export_callback import ExportPretrained
from .finite import StopOnNonFinite
from .folds import FoldSelection
from .gradient_norm import GradientNorm
from .plots import Plots
from .progress import Progress
from .random_streams import RandomStreams
from .run_record import RunRecord

__all__ = [
    "AdaptiveBatch",
    "CSVLog",
    "CurvatureCallback",
    "EMAWeightAveraging",
    "ExportPretrained",
    "FoldSelection",
    "GradientNorm",
    "Plots",
    "Progress",
    "RandomStreams",
    "RunCheckpoint",
    "RunRecord",
    "StopOnNonFinite",
]
