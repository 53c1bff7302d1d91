"""Cells as plain data: which mesh, which phases; the recipe from which snapshots are made anew.

A cell is a frozen dataclass of numbers, so that a configuration or a card can name it. A new cell
is a class of a few lines with a `mesh` method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sciml.errors import InvalidArgument, did_you_mean
from sciml.physics.solids.block_cells import disk_cell, laminate_cell
from sciml.physics.solids.inclusion_cells import random_cell, rve1, rve2, rve3
from sciml.physics.solids.material_laws import EQUINO_FIBRE, EQUINO_MATRIX, J2Plasticity
from sciml.physics.solids.materials import Material
from sciml.physics.solids.mesh_files import load_cell
from sciml.physics.solids.rve_mesh import RVEMesh
from sciml.physics.solids.rve_solver import RVESolver
from sciml.typed_arguments import typed

PAPER = {"rve1": rve1, "rve2": rve2, "rve3": rve3}


@dataclass(frozen=True)
class PeriodicCell(ABC):
    """A periodic cell; phase 0 is the matrix, phase 1 the fibre of arXiv 2504.07976.

    Example:
        >>> from sciml.physics.solids import PeriodicCell, square_cell
        >>> class Homogeneous(PeriodicCell):
        ...     def mesh(self):
        ...         return square_cell(2)
        >>> cell = Homogeneous()
        >>> cell.mesh().dofs
        22
    """

    @abstractmethod
    def mesh(self) -> RVEMesh:
        """Return the mesh."""

    @property
    def materials(self) -> tuple[Material, ...]:
        """Return one material per phase."""
        return EQUINO_MATRIX, EQUINO_FIBRE

    def solver(self, **options: float) -> RVESolver:
        """Return the finite-element solver of the cell; options as in `RVESolver`."""
        return RVESolver(self.mesh(), self.materials, **options)


@typed
@dataclass(frozen=True)
class DiskCell(PeriodicCell):
    """One disk in the middle of the square.

    Args:
        n: Elements along a quarter of the circle, even; 7 n^2 elements in all.
        radius: Radius of the disk, at most 0.45.

    Example:
        >>> from sciml.physics.solids import DiskCell
        >>> DiskCell(4).mesh().dofs
        670
    """

    n: int = 8
    radius: float = 0.3

    def mesh(self) -> RVEMesh:
        """Return an O-grid."""
        return disk_cell(self.n, self.radius)


@typed
@dataclass(frozen=True)
class PlasticDiskCell(DiskCell):
    """The disk in a matrix of J2 plasticity: a cell with history.

    Args:
        n: As in `DiskCell`.
        radius: As in `DiskCell`.
        yield_stress: Of the matrix under uniaxial load, N/mm^2.
        hardening: Slope of its yield stress over the equivalent plastic strain, N/mm^2.

    Example:
        >>> from sciml.physics.solids import PlasticDiskCell
        >>> cell = PlasticDiskCell(2, yield_stress=20.0)
        >>> found = cell.solver().solve([[0.02, 0.0, 0.0]])
        >>> cell.materials[0].internal, bool(found.state[..., 3].max() > 0)  # it has yielded
        (4, True)
    """

    yield_stress: float = 20.0
    hardening: float = 100.0

    @property
    def materials(self) -> tuple[Material, ...]:
        """Return the matrix, as stiff at first as that of the elastic cell, and the fibre."""
        shear = EQUINO_MATRIX.a1 / EQUINO_MATRIX.a2 / 2
        matrix = J2Plasticity(EQUINO_MATRIX.bulk, shear, self.yield_stress, self.hardening)
        return matrix, EQUINO_FIBRE


@typed
@dataclass(frozen=True)
class LaminateCell(PeriodicCell):
    """Two layers normal to x, whose homogenised stress is known in closed form.

    Args:
        fraction: Share of the fibre.

    Example:
        >>> from sciml.physics.solids import LaminateCell
        >>> solver = LaminateCell(fraction=0.3).solver()
        >>> solver.solve([[0.02, 0.0, 0.0]]).stress.shape, solver.mesh.phase.tolist()
        ((1, 3), [0, 0, 0, 0, 1, 1, 1, 1])
    """

    fraction: float = 0.3

    def mesh(self) -> RVEMesh:
        """Return eight elements."""
        return laminate_cell(self.fraction)


@typed
@dataclass(frozen=True)
class PaperCell(PeriodicCell):
    """One of the three cells of arXiv 2504.07976.

    Args:
        name: rve1, rve2 or rve3.
        size: Sides of the elements; None for about as many unknowns as the paper's mesh.

    Example:
        >>> from sciml.physics.solids import PaperCell
        >>> mesh = PaperCell("rve1", size=0.1).mesh()  # coarser than the paper's
        >>> sorted(set(mesh.phase.tolist())), mesh.elements.shape[1]
        ([0, 1], 6)
    """

    name: str = "rve1"
    size: float | None = None

    def __post_init__(self) -> None:
        """Check the name."""
        if self.name not in PAPER:
            raise InvalidArgument(
                f"the cell {self.name!r}", "rve1, rve2 or rve3", did_you_mean(str(self.name), PAPER)
            )

    def mesh(self) -> RVEMesh:
        """Return triangles that follow the interfaces."""
        make = PAPER[self.name]
        return make() if self.size is None else make(self.size)


@typed
@dataclass(frozen=True)
class RandomCell(PeriodicCell):
    """Equal disks at random positions that do not overlap.

    Args:
        fraction: Share of the disks.
        count: Number of disks.
        size: Sides of the elements.
        layout: Seed of the positions.

    Example:
        >>> from sciml.physics.solids import RandomCell
        >>> mesh = RandomCell(fraction=0.3, count=3, size=0.1).mesh()
        >>> round(float(mesh.weights[mesh.phase == 1].sum()), 1)  # the share of the disks
        0.3
    """

    fraction: float = 0.3
    count: int = 8
    size: float = 0.04
    layout: int = 0

    def mesh(self) -> RVEMesh:
        """Return triangles that follow the interfaces."""
        return random_cell(self.fraction, self.count, size=self.size, seed=self.layout)


@typed
@dataclass(frozen=True)
class MeshCell(PeriodicCell):
    """A cell whose mesh stands in a file of another program, read by meshio.

    Args:
        file: The file.
        phase: As in `load_cell`.
        period: As in `load_cell`.

    Example:
        >>> from sciml.physics.solids import MeshCell
        >>> MeshCell("composite.msh", period=1.0).file  # `mesh()` reads it with meshio
        'composite.msh'
    """

    file: str
    phase: str | None = None
    period: float | None = None

    def mesh(self) -> RVEMesh:
        """Return the mesh in the file."""
        return load_cell(self.file, phase=self.phase, period=self.period)
