"""Inputs of a problem in space and time, and solutions to judge by.

Methods that learn from the equation alone need no solutions: training batches hold inputs only.
Validation and test solutions are made by the problem's own solver when the data module is built, in
float64 from seeds of their own. Training sees the first `share` of the time levels; the set
`test_beyond` holds the same trajectories as `test`, to be judged at the levels after that.

Problems without time (Darcy flow, which stores one level) have no such set, and targets `(B,
*space)`.
"""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument

SEEDS = {"train": 201, "val": 202, "test": 203}
CHUNK = 16  # fields predicted at once
_MADE: dict[str, tuple[Tensor, float]] = {}  # solutions made by this process, by recipe


class EvolutionData(StepData):
    """Inputs `field` `(B, C, *space)`; targets are solutions `(B, nt, *space)`, where there are any.

    Args:
        problem: Samples and solves (`sciml.physics.evolution`).
        train: Inputs to train on.
        val: Validation solutions.
        test: Test solutions.
        references: Training inputs that are solved too, for baselines that learn from solutions;
            0 for none.
        batch_size: Inputs per step and rank.
        share: Share of the problem's time that training sees.
        seed: Seed of the order.
        fixed_for: Steps for which a batch stays the same.

    Attributes:
        levels: Time levels of training; None without time.
        sizes: Mean and standard deviation of every input channel over the training set.
        solver_seconds: Time that the problem's solver took per test solution.

    Raises:
        InvalidArgument: For sizes that cannot be.
        ConvergenceError: If the problem's solver fails.
    """

    def __init__(
        self,
        *,
        problem: Any,
        train: int = 256,
        val: int = 8,
        test: int = 32,
        references: int = 16,
        batch_size: int = 4,
        share: float = 0.8,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        for name, value in (
            ("train", train),
            ("val", val),
            ("test", test),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        if not 0 <= references <= train:
            raise InvalidArgument(f"data.references={references}", f"0 to data.train={train}")
        if not 0 < share <= 1:
            raise InvalidArgument(f"data.share={share}", "more than 0, at most 1")
        self.problem, self.batch_size = problem, batch_size
        counts = {"train": train, "val": val, "test": test}
        self.inputs = {
            part: problem.sample(n, torch.Generator().manual_seed(SEEDS[part]))
            for part, n in counts.items()
        }
        times = problem.times
        self.timed = len(times) > 1
        self.levels = max(round(share * (len(times) - 1)) + 1, 3) if self.timed else None
        self.beyond = self.timed and self.levels < len(times)
        solved = {part: self._solved(part, counts[part]) for part in ("val", "test")}
        self.targets = {part: found for part, (found, _) in solved.items()}
        self.solver_seconds = solved["test"][1] / test
        self.references = self._solved("train", references)[0] if references else None
        fields = self.inputs["train"]
        dims = (0, *range(2, fields.dim()))
        spread = fields.std(dims)
        self.sizes = {
            "mean": fields.mean(dims).tolist(),
            "std": torch.where(spread > 0, spread, 1.0).tolist(),
        }
        if self.timed and len(problem.grids) == 1:
            grid, last = problem.grids[0], float(times[self.levels - 1])
            self.plane = {
                "extent": [0.0, last, float(grid[0]), float(grid[-1])],
                "xlabel": "t",
                "ylabel": "x",
            }
        self._orders: dict[int, Tensor] = {}

    def _solved(self, part: str, count: int) -> tuple[Tensor, float]:
        """Return solutions and the seconds they took, once per process."""
        kinds = (int, float, str)
        plain = {k: v for k, v in vars(self.problem).items() if isinstance(v, kinds)}
        recipe = json.dumps([type(self.problem).__name__, plain, part, count], sort_keys=True)
        if recipe not in _MADE:
            started = time.perf_counter()
            with torch.no_grad():
                found = self.problem.solve(self.inputs[part][:count]).value
            found = found if self.timed else found[:, 0]
            _MADE[recipe] = found, time.perf_counter() - started
        return _MADE[recipe]

    # --- training ---------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the inputs of a step on a rank; the target is empty."""
        streams = Streams(self.seed, step, rank, world, self.device())
        field = self.inputs["train"][self.places(step, rank, world)]
        target = field.new_zeros(len(field), 0)
        return Batch({"field": field}, target, streams, self.batch_size * world)

    def places(self, step: int, rank: int, world: int) -> Tensor:
        """Return the places in the training set of a rank's inputs `(batch_size,)`.

        Every epoch is one permutation that all ranks share.
        """
        n, start = len(self.inputs["train"]), (step * world + rank) * self.batch_size
        place = torch.arange(start, start + self.batch_size)
        first, last = start // n, (start + self.batch_size - 1) // n
        orders = torch.cat([self._order(epoch, n) for epoch in range(first, last + 1)])
        return orders[place - first * n]

    def _order(self, epoch: int, n: int) -> Tensor:
        generator = Streams(self.seed, epoch).generator("order", common=True)
        return torch.randperm(n, generator=generator)

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
        """Number of chunks of the test sets."""
        return len(self._test_chunks())

    def test_chunk(self, index: int) -> Batch:
        """Return a chunk of `test`, or of `test_beyond` behind it."""
        return self._chunk(self._test_chunks()[index])

    def _test_chunks(self) -> list[tuple[str, int]]:
        return self._chunks("test", *(["test_beyond"] if self.beyond else []))

    def _chunks(self, *parts: str) -> list[tuple[str, int]]:
        return [
            (p, i)
            for p in parts
            for i in range(0, len(self.inputs[p.removesuffix("_beyond")]), CHUNK)
        ]

    def _chunk(self, place: tuple[str, int]) -> Batch:
        part, start = place
        known = part.removesuffix("_beyond")
        field = self.inputs[known][start : start + CHUNK]
        target = self.targets[known][start : start + CHUNK]
        target = target if part != known or not self.timed else target[:, : self.levels]
        streams = Streams(SEEDS[known], start, device=self.device())
        return Batch({"field": field}, target, streams, len(field), part=part)
