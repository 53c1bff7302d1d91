"""Pairs of fields of a steady problem: what is given and what is in equilibrium with it.

The sets are made by the problem's own solver when the data module is built, in float64, from seeds
of their own: every run, whatever its seed, learns from and is judged by the same fields. Beside the
test set there is `test_hard`, of inputs outside the range of the training set. The recipe of a data
set is the problem with its numbers; `datasets/*/README.md` describe three of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.epochs import epoch_places
from sciml.data.steps import StepData
from sciml.data.trajectories.solved import recipe_of, solved_once
from sciml.errors import InvalidArgument
from sciml.physics.steady.steady_semilinear import SteadyProblem

SEEDS = {"train": 101, "val": 102, "test": 103, "test_hard": 104}
CHUNK = 64  # fields solved or evaluated at once
KINDS = ("field", "target")


class FieldData(StepData):
    """Fields and solutions of a steady problem.

    Inputs are `field` `(N, 1, n, n)`, targets `(N, 1, n, n)`.

    Args:
        problem: Draws and solves.
        train: Training pairs.
        val: Validation pairs.
        test: Test pairs.
        hard: Pairs of `test_hard`.
        batch_size: Pairs per step and rank.
        noise: Standard deviation of Gaussian noise added to training inputs and targets, fresh in
            every step, as a share of their standard deviations.
        cache: Folder where sets are kept as files; None keeps them in memory.
        seed: Seed of order and noise.
        fixed_for: Steps for which a batch stays the same.

    Attributes:
        sizes: `in_channels`, mean and standard deviation of inputs and outputs over the training
            set, and whether the network needs `positions` (the square is not periodic).

    Raises:
        InvalidArgument: For sizes that cannot be.
        ConvergenceError: If the problem's solver fails for a field.

    Example:
        >>> from sciml.data import FieldData
        >>> from sciml.physics.steady import Semilinear
        >>> data = FieldData(problem=Semilinear(n=20), train=4, val=2, test=2, hard=2, batch_size=2)
        >>> batch = data.batch(0)
        >>> tuple(batch.inputs["field"].shape), tuple(batch.target.shape)
        ((2, 1, 20, 20), (2, 1, 20, 20))
    """

    def __init__(
        self,
        *,
        problem: SteadyProblem,
        train: int = 512,
        val: int = 64,
        test: int = 128,
        hard: int = 128,
        batch_size: int = 16,
        noise: float = 0.0,
        cache: str | None = None,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        counts = {"train": train, "val": val, "test": test, "test_hard": hard}
        for name, value in {**counts, "batch_size": batch_size}.items():
            if value < 1:
                name = "hard" if name == "test_hard" else name
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        if noise < 0:
            raise InvalidArgument(f"data.noise={noise}", "zero or more")
        self.problem, self.batch_size, self.noise = problem, batch_size, noise
        self.sets = fields(problem, counts, cache)
        field, target = self.sets["train"]
        self.sizes = {
            "in_channels": 1,
            "positions": not problem.periodic,
            "mean": [float(field.mean())],
            "std": [float(field.std())],
            "out_mean": float(target.mean()),
            "out_std": float(target.std()),
        }
        length = getattr(getattr(problem, "grid", None), "length", 1.0)
        # a periodic grid has its first node at 0, the other its cells between 0 and 1
        shift = length / field.shape[-1] / 2 if problem.periodic else 0.0
        self.plane = {
            "extent": [-shift, length - shift] * 2,
            "xlabel": "x",
            "ylabel": "y",
        }

    # --- training ---------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the pairs of a step on a rank, with fresh noise."""
        streams = Streams(self.seed, step, rank, world, self.device())
        rows = self.places(step, rank, world)
        field, target = (values[rows] for values in self.sets["train"])
        if self.noise:
            draw = streams.generator("noise", cpu=True)
            shape, kind = (2, *field.shape), field.dtype
            noise = torch.randn(shape, generator=draw, dtype=kind) * self.noise
            field = field + noise[0] * self.sizes["std"][0]
            target = target + noise[1] * self.sizes["out_std"]
        return Batch({"field": field}, target, streams, self.batch_size * world)

    def places(self, step: int, rank: int, world: int) -> Tensor:
        """Return the places `(batch_size,)` in the training set of a rank's pairs in a step."""
        n = len(self.sets["train"][0])
        return epoch_places(self.seed, n, self.batch_size, step, rank, world)

    # --- evaluation -------------------------------------------------------------------------
    @property
    def val_chunks(self) -> int:
        """Number of chunks of the validation set."""
        return len(self._chunks("val"))

    def val_chunk(self, index: int) -> Batch:
        """Return a chunk of the validation set."""
        return self._chunk(self._chunks("val")[index])

    @property
    def test_chunks(self) -> int:
        """Number of chunks of both test sets."""
        return len(self._chunks("test", "test_hard"))

    def test_chunk(self, index: int) -> Batch:
        """Return a chunk of `test`, or of `test_hard` behind it."""
        return self._chunk(self._chunks("test", "test_hard")[index])

    def _chunks(self, *parts: str) -> list[tuple[str, int]]:
        return [(p, i) for p in parts for i in range(0, len(self.sets[p][0]), CHUNK)]

    def _chunk(self, place: tuple[str, int]) -> Batch:
        part, start = place
        field, target = (values[start : start + CHUNK] for values in self.sets[part])
        streams = Streams(SEEDS[part], start, device=self.device())
        return Batch({"field": field}, target, streams, len(field), part=part)


def fields(
    problem: SteadyProblem, counts: dict[str, int], cache: str | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return inputs and solutions `(count, 1, n, n)`, float64, of every set by name.

    The same recipe is solved once per process, and once at all with a cache.

    Args:
        problem: Draws and solves.
        counts: Fields per set; names are those of `SEEDS`.
        cache: Folder of files named by the recipe.

    Raises:
        ConvergenceError: If a solve fails.
    """
    found = solved_once(
        recipe_of(problem, **counts),
        lambda: {
            f"{part}.{kind}": value
            for part, n in counts.items()
            for kind, value in zip(KINDS, _solved(problem, part, n), strict=True)
        },
        cache,
    )
    return {part: tuple(found[f"{part}.{kind}"] for kind in KINDS) for part in counts}


def _solved(problem: SteadyProblem, part: str, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEEDS[part])
    given = problem.draw(count, generator, hard=part == "test_hard")
    with torch.no_grad():
        found = torch.cat([problem.solve(piece).value for piece in given.split(CHUNK)])
    return given[:, None], found[:, None]
