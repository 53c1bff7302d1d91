from .cloud_files import CloudFiles
from .collocation import CollocationData
from .field_files import FieldFiles
from .graph.graph_sets import GraphFolds, GraphSet
from .graph.graphs import GraphData
from .graph.tu import TUFolder
from .image.images import ImageData
from .point_sets import PointData
from .pressure_data import PressureData, RitzData
from .steady_fields import FieldData
from .steps import StepData
from .strain_data import SnapshotData
from .trajectories.evolution_data import EvolutionData
from .trajectories.pdebench import Trajectories, read_pdebench
from .trajectories.rollouts import RolloutData
from .trajectories.write_pdebench import write_pdebench
from .walk_labels.walk_clouds import WalkClouds
from .walk_labels.walk_data import WalkData

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
