"""Lightning callbacks: checkpoints, run record, progress, plots, export, finite losses."""

from sciml.callbacks.checkpoint import RunCheckpoint as RunCheckpoint
from sciml.callbacks.export import ExportPretrained as ExportPretrained
from sciml.callbacks.finite import StopOnNonFinite as StopOnNonFinite
from sciml.callbacks.plots import Plots as Plots
from sciml.callbacks.progress import Progress as Progress
from sciml.callbacks.run_record import RunRecord as RunRecord
