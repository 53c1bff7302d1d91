"""Small-strain solids on two scales: materials, periodic cells, homogenisation, reduced bases.

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sciml.physics.solids.block_cells import (
        add_midsides,
        disk_cell,
        join_blocks,
        laminate_cell,
        square_cell,
    )
    from sciml.physics.solids.bounds import voigt_reuss
    from sciml.physics.solids.cells import (
        Cell,
        DiskCell,
        LaminateCell,
        MeshCell,
        PaperCell,
        PlasticDiskCell,
        RandomCell,
    )
    from sciml.physics.solids.composite import Composite, dual_energy
    from sciml.physics.solids.galerkin import (
        GalerkinSolver,
        Quadrature,
        empirical_cubature,
        every_point,
        random_points,
    )
    from sciml.physics.solids.inclusion_cells import inclusion_cell, random_cell, rve1, rve2, rve3
    from sciml.physics.solids.inclusions import Ellipse, gap, random_inclusions
    from sciml.physics.solids.materials import (
        EQUINO_FIBRE,
        EQUINO_MATRIX,
        J2Plasticity,
        LinearElastic,
        Material,
        Response,
        SofteningElastic,
    )
    from sciml.physics.solids.mesh import QuadraticMesh
    from sciml.physics.solids.mesh_files import load_cell
    from sciml.physics.solids.pod import PODBasis
    from sciml.physics.solids.rve_mesh import RVEMesh
    from sciml.physics.solids.rve_solver import RVESolution, RVESolver
    from sciml.physics.solids.snapshots import Snapshots, macro_strains
    from sciml.physics.solids.structures import (
        STRUCTURES,
        Structure,
        StructureMesh,
        cook,
        l_profile,
        plate,
    )

# Public names and the files they live in.
_HOMES = {
    "Cell": "cells",
    "Composite": "composite",
    "DiskCell": "cells",
    "EQUINO_FIBRE": "materials",
    "EQUINO_MATRIX": "materials",
    "Ellipse": "inclusions",
    "GalerkinSolver": "galerkin",
    "J2Plasticity": "materials",
    "LaminateCell": "cells",
    "LinearElastic": "materials",
    "Material": "materials",
    "MeshCell": "cells",
    "PODBasis": "pod",
    "PaperCell": "cells",
    "PlasticDiskCell": "cells",
    "QuadraticMesh": "mesh",
    "Quadrature": "galerkin",
    "RVEMesh": "rve_mesh",
    "RVESolution": "rve_solver",
    "RVESolver": "rve_solver",
    "RandomCell": "cells",
    "Response": "materials",
    "STRUCTURES": "structures",
    "Snapshots": "snapshots",
    "SofteningElastic": "materials",
    "Structure": "structures",
    "StructureMesh": "structures",
    "add_midsides": "block_cells",
    "cook": "structures",
    "disk_cell": "block_cells",
    "dual_energy": "composite",
    "empirical_cubature": "galerkin",
    "every_point": "galerkin",
    "gap": "inclusions",
    "inclusion_cell": "inclusion_cells",
    "join_blocks": "block_cells",
    "l_profile": "structures",
    "laminate_cell": "block_cells",
    "load_cell": "mesh_files",
    "macro_strains": "snapshots",
    "plate": "structures",
    "random_cell": "inclusion_cells",
    "random_inclusions": "inclusions",
    "random_points": "galerkin",
    "rve1": "inclusion_cells",
    "rve2": "inclusion_cells",
    "rve3": "inclusion_cells",
    "square_cell": "block_cells",
    "voigt_reuss": "bounds",
}

__all__ = [
    "Cell",
    "Composite",
    "DiskCell",
    "EQUINO_FIBRE",
    "EQUINO_MATRIX",
    "Ellipse",
    "GalerkinSolver",
    "J2Plasticity",
    "LaminateCell",
    "LinearElastic",
    "Material",
    "MeshCell",
    "PODBasis",
    "PaperCell",
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


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
