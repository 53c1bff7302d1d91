"""Snapshots of a periodic cell: macro strains and the finite-element fields that answer them.

Sets are solved when the data module is built, from seeds of their own, whatever the run's seed:
every run learns from the same snapshots and is judged by the same fields. `test` holds uniform
strains independent of all others, `test_small` strains of at most a tenth of the box.

A file holds strains, fluctuations and tangents (npz, no pickle); stresses follow from the law.
`datasets/cell_snapshots/README.md` is the card.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument
from sciml.physics.solids import (
    Cell,
    PODBasis,
    Quadrature,
    RVESolution,
    RVESolver,
    every_point,
    random_points,
)

SEEDS = {"train": 201, "val": 202, "test": 203, "test_small": 204}
CHUNK = 25  # test strains whose fields are looked at together
SMALL = 0.1  # of the box: largest norm of the strains of test_small
DECADES = {"train": 1.0, "batch": 1.5}  # over which half of the strains are spread inwards
_MADE: dict[str, dict[str, Snapshots]] = {}  # sets made by this process, by recipe


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


class SnapshotData(StepData):
    """Macro strains to train on, and the solved fields of a cell.

    Inputs are `strain` `(N, 3)`; targets are homogenised stresses `(N, 3)`, zeros where a batch has
    no labels. Test batches carry "tangent", "local_stress" and "displacement" in `extra`.

    Args:
        cell: Mesh and materials.
        box: Strains lie in [-box, box]^3.
        train: Snapshots from which modes are made.
        val: Strains of the validation set.
        test: Strains of the test set.
        small: Strains of `test_small`.
        radial: Whether half of the strains, in snapshots and in batches, are moved towards zero
            by up to 1 and 1.5 decades: what a structure sees is mostly small.
        law: Law of the snapshots' strains: Latin hypercube, or a Laplace distribution of a quarter
            of the box folded back at its sides.
        labels: Whether batches are snapshots with stress and tangent, and not free strains.
        batch_size: Strains per step and rank.
        warm_steps: First steps, which draw `warm_batch` fresh strains each: Adam needs no more,
            whatever an optimizer that searches needs afterwards.
        warm_batch: Strains per step and rank in these.
        points: Quadrature points at which the loss is taken, drawn by their weight; None for all.
        cache: Folder where solved sets are kept as files; None keeps them in memory.
        workers: Processes that solve.
        seed: Seed of the strains of batches.
        fixed_for: Steps for which a batch stays the same, after the first ones.

    Raises:
        InvalidArgument: For numbers that cannot be used.
        ConvergenceError: If a snapshot cannot be solved.
    """

    kind = "regression"
    unit = "N/mm^2"
    names = ("xx", "yy", "xy")

    def __init__(
        self,
        *,
        cell: Cell,
        box: float = 0.04,
        train: int = 100,
        val: int = 25,
        test: int = 100,
        small: int = 25,
        radial: bool = True,
        law: Literal["latin_hypercube", "laplace"] = "latin_hypercube",
        labels: bool = False,
        batch_size: int = 250,
        warm_steps: int = 0,
        warm_batch: int = 32,
        points: int | None = 250,
        cache: str | None = None,
        workers: int = 1,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        counts = {"train": train, "val": val, "test": test, "test_small": small}
        sizes = {"batch_size": batch_size, "warm_batch": warm_batch, "workers": workers}
        if not isinstance(warm_steps, int) or isinstance(warm_steps, bool) or warm_steps < 0:
            raise InvalidArgument(f"data.warm_steps={warm_steps}", "0 or a positive integer")
        for name, value in {**counts, **sizes}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                name = "small" if name == "test_small" else name
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        if not 0 < box < 1:
            raise InvalidArgument(f"data.box={box}", "a strain between 0 and 1")
        if law not in ("latin_hypercube", "laplace"):
            raise InvalidArgument(f"data.law={law}", "latin_hypercube or laplace")
        if any(material.internal for material in cell.materials):
            raise InvalidArgument(
                f"data.cell={type(cell).__name__}, whose stress depends on its history",
                "a cell of elastic materials, whose stress is a function of the strain",
            )
        self.cell, self.box, self.radial, self.law = cell, box, radial, law
        self.labels, self.batch_size, self.points = labels, batch_size, points
        self.warm_steps, self.warm_batch = warm_steps, warm_batch
        self.solver = cell.solver()
        self.sets = snapshots(
            cell, self.solver, counts, box, law, radial=radial, cache=cache, workers=workers
        )
        self.sizes = {"box": box, "unit": self.unit, "nodes": len(self.solver.mesh.nodes)}

    @cached_property
    def quadrature(self) -> Quadrature:
        """Return the points of the loss; the same on all ranks."""
        mesh = self.solver.mesh
        return every_point(mesh) if self.points is None else random_points(mesh, self.points)

    # --- training -------------------------------------------------------------------------------
    def next_step(self) -> int:
        """Return the number that names the next training batch, and count it."""
        step, self.drawn = self.drawn, self.drawn + 1
        late = step - self.warm_steps
        return step if late < 0 else self.warm_steps + late // self.fixed_for

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the strains of a step on a rank: free ones, or snapshots with their labels."""
        streams = Streams(self.seed, step, rank, world, self.device())
        own = self.warm_batch if step < self.warm_steps else self.batch_size
        count = own * world
        draw = streams.generator("strains", cpu=True)
        if self.labels:
            rows = torch.randint(len(self.sets["train"].strain), (own,), generator=draw)
            return self._batch("train", rows.numpy(), streams, count)
        kind = {"generator": draw, "dtype": torch.float64}
        strain = self.box * (2 * torch.rand(own, 3, **kind) - 1)
        if self.radial:
            inwards = 10 ** (-DECADES["batch"] * torch.rand(own, 1, **kind))
            inwards[::2] = 1
            strain = strain * inwards
        return Batch({"strain": strain}, torch.zeros_like(strain), streams, count)

    def _batch(self, part: str, rows: np.ndarray, streams: Streams, count: int) -> Batch:
        chosen = self.sets[part]
        strain, target, tangent = (
            torch.from_numpy(v[rows]) for v in (chosen.strain, chosen.stress, chosen.tangent)
        )
        return Batch({"strain": strain}, target, streams, count, None, {"tangent": tangent}, part)

    # --- evaluation -----------------------------------------------------------------------------
    def _chunks(self, parts: tuple[str, ...]) -> list[tuple[str, int]]:
        return [(p, i) for p in parts for i in range(0, len(self.sets[p].strain), CHUNK)]

    def _chunk(self, part: str, start: int, fields: bool) -> Batch:
        rows = np.arange(start, min(start + CHUNK, len(self.sets[part].strain)))
        streams = Streams(SEEDS[part], start, device=self.device())
        batch = self._batch(part, rows, streams, len(rows))
        if fields:
            chosen, count = self.sets[part], len(rows)
            local = chosen.local_stress[rows].reshape(count, -1, 3)
            batch.extra["local_stress"] = torch.from_numpy(local)
            batch.extra["displacement"] = torch.from_numpy(chosen.displacement[rows])
        return batch

    @property
    def val_chunks(self) -> int:
        """Number of chunks of the validation set."""
        return len(self._chunks(("val",)))

    def val_chunk(self, index: int) -> Batch:
        """Return a chunk of the validation set."""
        return self._chunk(*self._chunks(("val",))[index], fields=False)

    @property
    def test_chunks(self) -> int:
        """Number of chunks of both test sets."""
        return len(self._chunks(("test", "test_small")))

    def test_chunk(self, index: int) -> Batch:
        """Return a chunk of a test set with its fields."""
        return self._chunk(*self._chunks(("test", "test_small"))[index], fields=True)

    def example(self) -> dict[str, Tensor]:
        """Return a few strains."""
        return {"strain": torch.from_numpy(self.sets["val"].strain[:4])}


# --- the sets ------------------------------------------------------------------------------------
def macro_strains(part: str, count: int, box: float, law: str, radial: bool) -> np.ndarray:
    """Return the macro strains `(count, 3)` of a set."""
    draw = np.random.default_rng(SEEDS[part])
    if part == "test_small":
        way = draw.standard_normal((count, 3))
        length = SMALL * box * draw.uniform(size=(count, 1)) ** (1 / 3)
        return way / np.linalg.norm(way, axis=1, keepdims=True) * length
    if part != "train":
        return draw.uniform(-box, box, (count, 3))
    if law == "laplace":
        wide = draw.laplace(0.0, box / 4, (count, 3))
        strain = box - np.abs((wide + box) % (4 * box) - 2 * box)
    else:
        cube = np.stack([draw.permutation(count) for _ in range(3)], 1)
        strain = box * (2 * (cube + draw.uniform(size=cube.shape)) / count - 1)
    if radial:
        inwards = 10 ** -draw.uniform(0, DECADES["train"], (count, 1))
        inwards[::2] = 1
        strain = strain * inwards
    return strain


def snapshots(
    cell: Cell,
    solver: RVESolver,
    counts: Mapping[str, int],
    box: float = 0.04,
    law: str = "latin_hypercube",
    *,
    radial: bool = True,
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
        cache: Folder of files named by the recipe; None for memory.
        workers: Processes that solve.

    Raises:
        ConvergenceError: If a strain cannot be solved.
    """
    about = {"cell": type(cell).__name__, **asdict(cell), "law": law, "radial": radial}
    recipe = json.dumps({**about, "box": box, "rtol": solver.rtol, **counts}, sort_keys=True)
    if recipe not in _MADE:
        name = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        file = None if cache is None else Path(cache) / f"{name}.npz"
        if file is not None and file.exists():
            arrays = _read(file)
        else:
            arrays = {}
            for part, count in counts.items():
                strain = macro_strains(part, count, box, law, radial)
                found = solver.solve(strain, workers=workers)
                arrays[part] = strain, found.displacement, found.tangent
            if file is not None:
                _write(file, arrays)
        _MADE[recipe] = {part: Snapshots.of(solver, *found) for part, found in arrays.items()}
    return _MADE[recipe]


KINDS = ("strain", "displacement", "tangent")


def _read(file: Path) -> dict[str, tuple[np.ndarray, ...]]:
    with np.load(file, allow_pickle=False) as loaded:
        parts = dict.fromkeys(key.partition(".")[0] for key in loaded.files)
        return {part: tuple(loaded[f"{part}.{kind}"] for kind in KINDS) for part in parts}


def _write(file: Path, arrays: Mapping[str, tuple[np.ndarray, ...]]) -> None:
    """Write a file that is there only when it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    flat = {
        f"{part}.{kind}": value
        for part, found in arrays.items()
        for kind, value in zip(KINDS, found, strict=True)
    }
    with partial.open("wb") as stream:
        np.savez(stream, **flat)
    partial.replace(file)
