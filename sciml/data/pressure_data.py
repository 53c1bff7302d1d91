"""Linear systems of random flow domains, made where they are used, with their solutions.

    random domains   white noise b on the unknowns, another family of matrices in every step
    box and Ritz     one box with p = 0 beyond its walls, and b mixed from its Ritz vectors, the
                     lower half of the spectrum nine times as strong as the upper one (DCDM)

Inputs are `residual` b `(N, *grid)` of 2-norm 1, `weights` and `shift` of the matrix (see
`sciml.networks.preconditioners`); the target is x = A^-1 b, found by multigrid-PCG. Training draws
are functions of (seed, rank, step); validation and test systems are the same for every seed.

Source of the mixture: Kaneda et al. 2023, arXiv 2205.10763, section 4 and the authors' code
(theta = 500 of 10,000 vectors; Ritz values below 1e-8 are dropped).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument
from sciml.networks.preconditioners.learned_preconditioner import arrays_of
from sciml.physics.fluids import Cell, RandomDomains, pressure_system
from sciml.solvers.linear import FlexibleCG, Multigrid, Stencil, ritz_pairs

SEEDS = {"val": 201, "test": 202}
SOLVED = 1e-6  # relative residual of the solutions that training compares with
LEAST = 1e-8  # Ritz values below are the null space
PART = 64  # Ritz vectors that are solved for at once
LOW = 9.0  # amplitude of the lower part of the spectrum


class SystemData(StepData):
    """What both kinds share: batches of systems with solutions, and the sets that judge.

    Args:
        problem: Family of the domains that judge (and train, in `PressureData`).
        dim: Axes of the grids, 2 or 3.
        batch_size: Systems per step and rank.
        val: Validation systems.
        test: Test systems of every size, one number or one for each of the sizes.
        val_size: Cells per axis of the validation systems.
        test_sizes: Cells per axis of the test systems; the first size is the part `test`, the
            others are `test_<size>`.
        chunk: Systems that are solved at once in validation and test.
        seed: Seed of the training batches.
        fixed_for: Steps for which a batch stays the same.

    Raises:
        InvalidArgument: For counts or sizes that cannot be.
    """

    kind = "regression"

    def __init__(
        self,
        *,
        problem: RandomDomains,
        dim: int = 2,
        batch_size: int = 8,
        val: int = 8,
        test: int | Sequence[int] = 16,
        val_size: int = 64,
        test_sizes: Sequence[int] = (64, 128),
        chunk: int = 8,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        several = [int(test)] * len(test_sizes) if isinstance(test, int) else list(test)
        if len(several) != len(test_sizes) or min(several, default=1) < 1:
            raise InvalidArgument(
                f"data.test={test} for test_sizes={list(test_sizes)}",
                "a positive integer, or one for each of the sizes",
                f"Type data.test=[{', '.join(['8'] * len(test_sizes))}]",
            )
        counts = {"batch_size": batch_size, "val": val, "chunk": chunk}
        for name, value in counts.items():
            if value < 1:
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        sides = [val_size, *test_sizes]
        if dim not in (2, 3) or len(sides) < 2 or min(sides) < 4:
            raise InvalidArgument(
                f"data.dim={dim}, val_size={val_size}, test_sizes={list(test_sizes)}",
                "2 or 3 axes, and one test size or more, of 4 cells or more",
            )
        self.problem, self.dim, self.batch_size, self.chunk = problem, dim, batch_size, chunk
        self.several = dict(zip(test_sizes, several, strict=True))
        self.tests = [  # size, and which chunk of it
            (size, place)
            for size, count in self.several.items()
            for place in range(math.ceil(count / chunk))
        ]
        self.val = val
        self.val_size, self.test_sizes = val_size, tuple(test_sizes)
        self.sizes = {"dim": dim}

    # --- evaluation -------------------------------------------------------------------------
    @property
    def val_chunks(self) -> int:
        """Number of chunks of the validation set."""
        return math.ceil(self.val / self.chunk)

    def val_chunk(self, index: int) -> Batch:
        """Return a chunk of the validation set."""
        return self._judging("val", index, self.val_size, self.val)

    @property
    def test_chunks(self) -> int:
        """Number of chunks of all test sets."""
        return len(self.tests)

    def test_chunk(self, index: int) -> Batch:
        """Return the chunk of that number, counted through the test sets of all sizes."""
        size, place = self.tests[index]
        batch = self._judging("test", place, size, self.several[size])
        batch.part = "test" if size == self.test_sizes[0] else f"test_{size}"
        return batch

    def _judging(self, part: str, index: int, size: int, of: int) -> Batch:
        """Return a chunk of `of` random domains with white noise, the same in every run."""
        streams = Streams(SEEDS[part], index)
        count = min(self.chunk, of - index * self.chunk)
        draw = streams.generator(f"domains{size}", cpu=True)
        stencil = self.problem.draw(count, (size,) * self.dim, draw).stencil
        b = white_noise(stencil, streams.generator(f"noise{size}", cpu=True))
        return system_batch(stencil, b, streams, count)


class PressureData(SystemData):
    """Random domains in every step; further arguments as in `SystemData`.

    Args:
        train_sizes: Cells per axis, one of them drawn for every step, on all ranks the same.

    Raises:
        InvalidArgument: For sizes below 4.

    Example:
        >>> from sciml.data import PressureData
        >>> from sciml.physics.fluids import RandomDomains
        >>> data = PressureData(problem=RandomDomains(), train_sizes=(8,), batch_size=2)
        >>> batch = data.batch(0)
        >>> {name: tuple(value.shape) for name, value in batch.inputs.items()}
        {'residual': (2, 8, 8), 'weights': (2, 2, 8, 8), 'shift': (2, 8, 8)}
    """

    def __init__(
        self,
        *,
        problem: RandomDomains,
        dim: int = 2,
        train_sizes: Sequence[int] = (32, 64),
        batch_size: int = 8,
        val: int = 8,
        test: int | Sequence[int] = 16,
        val_size: int = 64,
        test_sizes: Sequence[int] = (64, 128),
        chunk: int = 8,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(
            problem=problem,
            dim=dim,
            batch_size=batch_size,
            val=val,
            test=test,
            val_size=val_size,
            test_sizes=test_sizes,
            chunk=chunk,
            seed=seed,
            fixed_for=fixed_for,
        )
        if not train_sizes or min(train_sizes) < 4:
            raise InvalidArgument(f"data.train_sizes={list(train_sizes)}", "sizes of 4 or more")
        self.train_sizes = tuple(train_sizes)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the systems of a step on a rank."""
        streams = Streams(self.seed, step, rank, world, self.device())
        common = streams.generator("size", common=True, cpu=True)
        size = self.train_sizes[int(torch.randint(len(self.train_sizes), (), generator=common))]
        draw = streams.generator("domains", cpu=True)
        stencil = self.problem.draw(self.batch_size, (size,) * self.dim, draw).stencil
        b = white_noise(stencil, streams.generator("noise", cpu=True))
        batch = system_batch(stencil, b, streams, self.batch_size * world)
        ages = streams.generator("ages", cpu=True)
        batch.extra["age"] = torch.rand(self.batch_size, generator=ages)
        return batch


class RitzData(SystemData):
    """Mixtures of the Ritz vectors of one box; further arguments as in `SystemData`.

    Args:
        size: Cells per axis of the box.
        lanczos: Steps m of Lanczos' method; memory is 2 m vectors of the size of the box.
        share: theta / m: how far beyond its middle the stronger part of the spectrum reaches.

    Raises:
        InvalidArgument: For settings that cannot be.

    Example:
        >>> from sciml.data import RitzData
        >>> from sciml.physics.fluids import RandomDomains
        >>> data = RitzData(
        ...     problem=RandomDomains(bodies=0), size=8, lanczos=24, batch_size=3, test_sizes=(8,)
        ... )
        >>> tuple(data.batch(0).target.shape)
        (3, 8, 8)
    """

    def __init__(
        self,
        *,
        problem: RandomDomains,
        dim: int = 2,
        size: int = 64,
        lanczos: int = 600,
        share: float = 0.05,
        batch_size: int = 16,
        val: int = 8,
        test: int | Sequence[int] = 16,
        val_size: int = 64,
        test_sizes: Sequence[int] = (64, 128),
        chunk: int = 8,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(
            problem=problem,
            dim=dim,
            batch_size=batch_size,
            val=val,
            test=test,
            val_size=val_size,
            test_sizes=test_sizes,
            chunk=chunk,
            seed=seed,
            fixed_for=fixed_for,
        )
        if size < 4 or lanczos < 1 or not 0 <= share <= 0.5:
            raise InvalidArgument(
                f"data.size={size}, lanczos={lanczos}, share={share}",
                "a size of 4 or more, one step or more, and a share in [0, 0.5]",
            )
        self.box = dirichlet_box(size, dim)
        start = torch.randn(
            (1, *self.box.grid), generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        with torch.no_grad():
            values, vectors = ritz_pairs(self.box.times, self.box.times(start), lanczos)
        kept = values > LEAST
        self.values, self.vectors = values[kept], vectors[kept, 0]
        self.strong = len(self.values) // 2 + round(share * len(self.values))

    @functools.cached_property
    def solutions(self) -> Tensor:
        """Return A^-1 of every Ritz vector; the target of a mixture is the mixture of these."""
        multigrid = Multigrid(self.box, dtype=torch.float32)
        solver = FlexibleCG(rtol=SOLVED / 10, max_iter=200, preconditioner=multigrid)
        parts = [part[:, None] for part in self.vectors.split(PART)]
        return torch.cat([solver(self.box.operator(b), b).value[:, 0] for b in parts])

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the box with fresh mixtures for a step on a rank."""
        streams = Streams(self.seed, step, rank, world, self.device())
        draw = streams.generator("mixture", cpu=True)
        c = torch.randn(self.batch_size, len(self.values), generator=draw, dtype=torch.float64)
        c[:, : self.strong] *= LOW
        b, x = (torch.tensordot(c, known, 1) for known in (self.vectors, self.solutions))
        many = self.box.map(lambda t: t.expand(self.batch_size, *t.shape[1:]))
        batch = system_batch(many, b, streams, self.batch_size * world, x)
        batch.extra["age"] = torch.zeros(self.batch_size)
        return batch


def dirichlet_box(size: int, dim: int) -> Stencil:
    """Return the matrix of a box with p = 0 at the centres of the cells beyond its walls."""
    cells = torch.full((1, *(size,) * dim), int(Cell.FLUID))
    return pressure_system(cells, walls=[(Cell.AIR, Cell.AIR)] * dim).stencil


def white_noise(stencil: Stencil, generator: torch.Generator) -> Tensor:
    """Return Gaussian noise on the unknowns, in the range of singular matrices."""
    b = torch.randn(stencil.shift.shape, generator=generator, dtype=stencil.shift.dtype)
    return stencil.project(torch.where(stencil.unknown, b, 0.0))


def system_batch(
    stencil: Stencil, b: Tensor, streams: Streams, count: int, x: Tensor | None = None
) -> Batch:
    """Return systems with unit right-hand sides and their solutions as a batch.

    Args:
        stencil: The matrices.
        b: Right-hand sides of any size.
        streams: The batch's.
        count: Samples of the batch on all ranks.
        x: Solutions for b; None solves.
    """
    norm = torch.linalg.vector_norm(b.flatten(1), dim=1)
    size = norm.masked_fill(norm == 0, 1.0).reshape(-1, *(1,) * stencil.ndim)
    b, x = b / size, None if x is None else x / size
    if x is None:
        multigrid = Multigrid(stencil, dtype=torch.float32)
        solver = FlexibleCG(rtol=SOLVED, max_iter=200, preconditioner=multigrid)
        x = solver(stencil.operator(b), b).value
    weights, shift = arrays_of(stencil)
    return Batch({"residual": b, "weights": weights, "shift": shift}, x, streams, count)
