from .block_cells import add_midsides, disk_cell, join_blocks, laminate_cell, square_cell
from .bounds import voigt_reuss
from .cell_pod import PODBasis
from .cell_snapshots import Snapshots, macro_strains
from .cells import (
    DiskCell,
    LaminateCell,
    MeshCell,
    PaperCell,
    PeriodicCell,
    PlasticDiskCell,
    RandomCell,
)
from .composite import Composite, dual_energy
from .galerkin import GalerkinSolver, Quadrature, empirical_cubature, every_point, random_points
from .inclusion_cells import inclusion_cell, random_cell, rve1, rve2, rve3
from .inclusions import Ellipse, EllipticInclusion, gap, random_inclusions
from .material_laws import (
    EQUINO_FIBRE,
    EQUINO_MATRIX,
    J2Plasticity,
    LinearElastic,
    SofteningElastic,
)
from .materials import Material, Response
from .mesh_files import load_cell
from .quadratic_mesh import QuadraticMesh
from .rve_mesh import RVEMesh
from .rve_solver import RVESolution, RVESolver
from .structures import STRUCTURES, Structure, StructureMesh, cook, l_profile, plate

__all__ = [
    "Composite",
    "DiskCell",
    "EQUINO_FIBRE",
    "EQUINO_MATRIX",
    "Ellipse",
    "EllipticInclusion",
    "GalerkinSolver",
    "J2Plasticity",
    "LaminateCell",
    "LinearElastic",
    "Material",
    "MeshCell",
    "PODBasis",
    "PaperCell",
    "PeriodicCell",
    "PlasticDiskCell",
    "QuadraticMesh",
    "Quadrature",
    "RVEMesh",
    "RVESolution",
    "RVESolver",
    "RandomCell",
    "Response",
    "STRUCTURES",
    "Snapshots",
    "SofteningElastic",
    "Structure",
    "StructureMesh",
    "add_midsides",
    "cook",
    "disk_cell",
    "dual_energy",
    "empirical_cubature",
    "every_point",
    "gap",
    "inclusion_cell",
    "join_blocks",
    "l_profile",
    "laminate_cell",
    "load_cell",
    "macro_strains",
    "plate",
    "random_cell",
    "random_inclusions",
    "random_points",
    "rve1",
    "rve2",
    "rve3",
    "square_cell",
    "voigt_reuss",
]
