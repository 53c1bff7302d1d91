"""Snapshots of a cell: macro strains and the finite-element fields that answer them, by a recipe.

A recipe is the cell, the numbers of strains and the law they are drawn from; seeds belong to the
sets, so that the same recipe always gives the same snapshots. `test` holds uniform strains
independent of all others, `test_small` strains of at most a tenth of the box, `test_isochoric`
strains of which at most a tenth of the change of volume is left, as in structures with free sides.

A file holds strains, fluctuations and tangents (npz, no pickle); stresses follow from the law.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sciml.errors import InvalidArgument
from sciml.physics.solids.cell_pod import PODBasis
from sciml.physics.solids.cells import PeriodicCell
from sciml.physics.solids.materials import TensorOrArray
from sciml.physics.solids.rve_solver import RVESolution, RVESolver
from sciml.typed_arguments import typed

SEEDS = {"train": 201, "val": 202, "test": 203, "test_small": 204, "test_isochoric": 205}
LAWS = ("latin_hypercube", "laplace")
SMALL = 0.1  # of the box: largest norm of the strains of test_small
RTOL = 1e-12  # of snapshots: what is out of balance grows in the last modes, 1e-9 to 2e-7
DECADES = 1.0  # over which every other snapshot is spread inwards
VOLUMES = 1.5  # decades by which the change of volume of two snapshots of four is lowered
_MADE: dict[str, Snapshots] = {}  # sets made by this process, by recipe


@dataclass(frozen=True)
class Snapshots:
    """Solved cells; P strains, N nodes, E x Q points.

    Attributes:
        strain: `(P, 3)` macro strains.
        displacement: `(P, N, 2)` periodic fluctuations.
        tangent: `(P, 3, 3)` homogenised tangents.
        local_strain: `(P, E, Q, 3)`.
        local_stress: `(P, E, Q, 3)`.
        stress: `(P, 3)` homogenised stresses.

    Example:
        >>> import numpy as np
        >>> from sciml.physics.solids import DiskCell, Snapshots
        >>> solver = DiskCell(2).solver()
        >>> strain = np.array([[0.02, 0.0, 0.0], [0.0, 0.0, 0.02]])
        >>> found = solver.solve(strain)
        >>> snapshots = Snapshots.of(solver, strain, found.displacement, found.tangent)
        >>> snapshots.stress.shape, snapshots.basis(solver, rank=2).strain.shape
        ((2, 3), (2, 28, 9, 3))
    """

    strain: np.ndarray
    displacement: np.ndarray
    tangent: np.ndarray
    local_strain: np.ndarray
    local_stress: np.ndarray
    stress: np.ndarray

    @classmethod
    def of(
        cls, solver: RVESolver, strain: np.ndarray, displacement: np.ndarray, tangent: np.ndarray
    ) -> Snapshots:
        """Return the snapshots with these fluctuations."""
        mesh = solver.mesh
        local = strain[:, None, None] + mesh.strain(displacement)
        none = np.zeros((*mesh.weights.shape, solver.internal))
        stress = np.stack([solver.response(part, none)[0] for part in local])
        mean = np.einsum("eq,peqi->pi", mesh.weights, stress)
        return cls(strain, displacement, tangent, local, stress, mean)

    def basis(self, solver: RVESolver, rank: int) -> PODBasis:
        """Return the leading modes."""
        done = np.zeros(len(self.strain), dtype=np.int64)
        number = np.zeros(len(self.strain))
        state = np.zeros((*self.local_strain.shape[:-1], 0))
        solution = RVESolution(
            self.stress,
            self.tangent,
            self.displacement,
            self.local_strain,
            self.local_stress,
            state,
            done,
            done,
            number,
            number,
        )
        return PODBasis.from_solution(solver.mesh, solution, rank)


@typed
def macro_strains(
    part: str, count: int, box: float, law: str, radial: bool, isochoric: bool = False
) -> np.ndarray:
    """Return the macro strains `(count, 3)` of a set.

    Raises:
        InvalidArgument: For an unknown law.

    Example:
        >>> from sciml.physics.solids.cell_snapshots import macro_strains
        >>> macro_strains("train", 5, 0.04, "latin_hypercube", radial=True).shape
        (5, 3)
    """
    if law not in LAWS:
        raise InvalidArgument(f"law={law}", " or ".join(LAWS))
    if part not in SEEDS or count < 0 or not 0 <= box < np.inf:
        raise InvalidArgument(
            f"part={part!r}, count={count}, box={box}",
            f"one of {', '.join(SEEDS)}, and numbers that are not negative",
        )
    draw = np.random.default_rng(SEEDS[part])
    if part == "test_small":
        way = draw.standard_normal((count, 3))
        length = SMALL * box * draw.uniform(size=(count, 1)) ** (1 / 3)
        return way / np.linalg.norm(way, axis=1, keepdims=True) * length
    if part == "test_isochoric":
        strain = draw.uniform(-box, box, (count, 3))
        return flattened(strain, SMALL * draw.uniform(size=(count, 1)))
    if part != "train":
        return draw.uniform(-box, box, (count, 3))
    if law == "laplace":
        wide = draw.laplace(0.0, box / 4, (count, 3))
        strain = box - np.abs((wide + box) % (4 * box) - 2 * box)
    else:
        cube = np.stack([draw.permutation(count) for _ in range(3)], 1)
        strain = box * (2 * (cube + draw.uniform(size=cube.shape)) / count - 1)
    if radial:
        inwards = 10 ** -draw.uniform(0, DECADES, (count, 1))
        inwards[::2] = 1
        strain = strain * inwards
    if isochoric:
        less = 10 ** -draw.uniform(0, VOLUMES, (count, 1))
        less[np.arange(count) % 4 < 2] = 1
        strain = flattened(strain, less)
    return strain


def flattened(strain: TensorOrArray, share: TensorOrArray) -> TensorOrArray:
    """Return strains `(P, 3)` of which a share `(P, 1)` of the change of volume is left."""
    lost = (strain[:, :1] + strain[:, 1:2]) * (1 - share) / 2
    strain = strain - lost
    strain[:, 2:] += lost
    return strain


def snapshots(
    cell: PeriodicCell,
    solver: RVESolver,
    counts: Mapping[str, int],
    box: float = 0.04,
    law: str = "latin_hypercube",
    *,
    radial: bool = True,
    isochoric: bool = False,
    cache: str | None = None,
    workers: int = 1,
) -> dict[str, Snapshots]:
    """Return the solved sets by name; the same recipe is solved once per process, or once at all.

    Args:
        cell: Named in the recipe.
        solver: Of that cell.
        counts: Strains per set, by the names of `SEEDS`.
        box: As in `SnapshotData`.
        law: As in `SnapshotData`.
        radial: As in `SnapshotData`.
        isochoric: As in `SnapshotData`; laws whose card does not say so were trained without.
        cache: Folder of files named by the recipe; None for memory.
        workers: Processes that solve.

    Raises:
        ConvergenceError: If a strain cannot be solved.
    """
    about = {"cell": type(cell).__name__, **asdict(cell), "box": box, "rtol": solver.rtol}
    found = {}
    for part, count in counts.items():
        drawn = {"law": law, "radial": radial} if part == "train" else {}
        if isochoric and part == "train":
            drawn["isochoric"] = True
        recipe = json.dumps({**about, "part": part, "count": count, **drawn}, sort_keys=True)
        if recipe not in _MADE:
            name = hashlib.sha256(recipe.encode()).hexdigest()[:16]
            file = None if cache is None else Path(cache) / f"{part}_{name}.npz"
            if file is not None and file.exists():
                arrays = _read(file)
            else:
                strain = macro_strains(part, count, box, law, radial, isochoric)
                solved = solver.solve(strain, workers=workers)
                arrays = strain, solved.displacement, solved.tangent
                if file is not None:
                    _write(file, arrays)
            _MADE[recipe] = Snapshots.of(solver, *arrays)
        found[part] = _MADE[recipe]
    return found


KINDS = ("strain", "displacement", "tangent")


def _read(file: Path) -> tuple[np.ndarray, ...]:
    with np.load(file, allow_pickle=False) as loaded:
        return tuple(loaded[kind] for kind in KINDS)


def _write(file: Path, arrays: tuple[np.ndarray, ...]) -> None:
    """Write a file that is there only when it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez(stream, **dict(zip(KINDS, arrays, strict=True)))
    partial.replace(file)
