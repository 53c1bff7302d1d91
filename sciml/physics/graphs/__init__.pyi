from .chains import Chains
from .graph import Graph, GraphTask
from .heat_mesh import HeatMesh
from .motifs import Atlas, MotifSet
from .porous import PorousNetwork
from .resistors import ResistorNetwork
from .value_iteration import GraphValueIteration
from .walk_tasks import HittingProbability, PageRank

__all__ = [
    "Atlas",
    "Chains",
    "Graph",
    "GraphTask",
    "GraphValueIteration",
    "HeatMesh",
    "HittingProbability",
    "MotifSet",
    "PageRank",
    "PorousNetwork",
    "ResistorNetwork",
]
