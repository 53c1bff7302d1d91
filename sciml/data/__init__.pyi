from .cloud_files import CloudFiles
from .collocation import CollocationData
from .evolution import EvolutionData
from .field_files import FieldFiles
from .fields import FieldData
from .graph_sets import GraphFolds, GraphSet
from .graphs import GraphData
from .images import ImageData
from .pdebench import Trajectories, read_pdebench, write_pdebench
from .point_sets import PointData
from .pressure import PressureData, RitzData
from .rollouts import RolloutData
from .snapshots import SnapshotData
from .steps import StepData
from .tu import TUFolder
from .walk_clouds import WalkClouds
from .walks import WalkData

__all__ = [
    "CloudFiles",
    "CollocationData",
    "EvolutionData",
    "FieldData",
    "FieldFiles",
    "GraphData",
    "GraphFolds",
    "GraphSet",
    "ImageData",
    "PointData",
    "PressureData",
    "RitzData",
    "RolloutData",
    "SnapshotData",
    "StepData",
    "TUFolder",
    "Trajectories",
    "WalkClouds",
    "WalkData",
    "read_pdebench",
    "write_pdebench",
]
