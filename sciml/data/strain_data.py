"""Macro strains to train laws of cells on, and the solved fields that judge them.

Sets are solved when the data module is built, from seeds of their own, whatever the run's seed:
every run learns from the same snapshots and is judged by the same fields, see
`sciml.physics.solids.cell_snapshots`. `datasets/cell_snapshots/README.md` is the card.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument
from sciml.physics.solids import PeriodicCell, Quadrature, every_point, random_points
from sciml.physics.solids.cell_snapshots import LAWS, RTOL, SEEDS, VOLUMES, flattened, snapshots

CHUNK = 25  # test strains whose fields are looked at together
TESTS = ("test", "test_small", "test_isochoric")
DECADES = 1.5  # over which every other strain of a batch is spread inwards


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
        small: Strains of `test_small`, and of `test_isochoric`.
        radial: Whether half of the strains, in snapshots and in batches, are moved towards zero
            by up to 1 and 1.5 decades: what a structure sees is mostly small.
        isochoric: Whether half of the strains, in snapshots and in batches, lose their change of
            volume by up to 1.5 decades: structures with free sides hardly change theirs.
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

    Example:
        >>> from sciml.data import SnapshotData
        >>> from sciml.physics.solids import DiskCell
        >>> data = SnapshotData(
        ...     cell=DiskCell(2), train=6, val=2, test=2, small=2, labels=True, batch_size=4
        ... )
        >>> batch = data.batch(0)
        >>> tuple(batch.inputs["strain"].shape), tuple(batch.target.shape)
        ((4, 3), (4, 3))
    """

    kind = "regression"
    unit = "N/mm^2"
    names = ("xx", "yy", "xy")

    def __init__(
        self,
        *,
        cell: PeriodicCell,
        box: float = 0.04,
        train: int = 100,
        val: int = 25,
        test: int = 100,
        small: int = 25,
        radial: bool = True,
        isochoric: bool = True,
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
        counts = {"train": train, "val": val, "test": test}
        counts |= {"test_small": small, "test_isochoric": small}
        sizes = {"batch_size": batch_size, "warm_batch": warm_batch, "workers": workers}
        if not isinstance(warm_steps, int) or isinstance(warm_steps, bool) or warm_steps < 0:
            raise InvalidArgument(f"data.warm_steps={warm_steps}", "0 or a positive integer")
        for name, value in {**counts, **sizes}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                name = "small" if name.startswith("test_") else name
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        if not 0 < box < 1:
            raise InvalidArgument(f"data.box={box}", "a strain between 0 and 1")
        if law not in LAWS:
            raise InvalidArgument(f"data.law={law}", " or ".join(LAWS))
        if any(material.internal for material in cell.materials):
            raise InvalidArgument(
                f"data.cell={type(cell).__name__}, whose stress depends on its history",
                "a cell of elastic materials, whose stress is a function of the strain",
            )
        self.cell, self.box, self.radial, self.law = cell, box, radial, law
        self.isochoric = isochoric
        self.labels, self.batch_size, self.points = labels, batch_size, points
        self.warm_steps, self.warm_batch = warm_steps, warm_batch
        self.solver = cell.solver(rtol=RTOL)
        self.sets = snapshots(
            cell,
            self.solver,
            counts,
            box,
            law,
            radial=radial,
            isochoric=isochoric,
            cache=cache,
            workers=workers,
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
            inwards = 10 ** (-DECADES * torch.rand(own, 1, **kind))
            inwards[::2] = 1
            strain = strain * inwards
        if self.isochoric:
            less = 10 ** (-VOLUMES * torch.rand(own, 1, **kind))
            less[torch.arange(own) % 4 < 2] = 1
            strain = flattened(strain, less)
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

    def whole(self, part: str) -> Batch:
        """Return all snapshots of a set with their fields, for files (`sciml.data.export_sets`)."""
        return self._chunk(part, 0, True, len(self.sets[part].strain))

    def _chunk(self, part: str, start: int, fields: bool, size: int = CHUNK) -> Batch:
        rows = np.arange(start, min(start + size, len(self.sets[part].strain)))
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
        """Number of chunks of the test sets."""
        return len(self._chunks(TESTS))

    def test_chunk(self, index: int) -> Batch:
        """Return a chunk of a test set with its fields."""
        return self._chunk(*self._chunks(TESTS)[index], fields=True)

    def example(self) -> dict[str, Tensor]:
        """Return a few strains."""
        return {"strain": torch.from_numpy(self.sets["val"].strain[:4])}
