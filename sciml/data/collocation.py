"""Collocation points: drawn fresh for every step on the device that uses them.

The points of step s on rank r are a function of (seed, r, s) alone. A resumed run draws what the
interrupted one would have drawn, and no generator state is saved; only the step counter is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from sciml.autodiff.streams import Streams
from sciml.data.steps import Counted, Counter
from sciml.errors import InvalidArgument
from sciml.physics.pde import PDE, Points

_TEST_ELEMENTS = 2**28  # numbers drawn for the test set where its size is left open
_CHUNK_ELEMENTS = 2**23  # numbers in one chunk of test points


@dataclass
class CollocationBatch:
    """What one training step works on.

    Attributes:
        points: Collocation points of this rank.
        conditions: Points of the soft conditions by name.
        streams: Random streams of the step, for directions.
        counts: Number of points in the global batch: "interior" and the conditions' names.
    """

    points: Points
    conditions: dict[str, Points] = field(default_factory=dict)
    streams: Streams = Streams(0, 0)
    counts: dict[str, int] = field(default_factory=dict)


class CollocationData(Counted):
    """Training, validation and test points of a problem.

    Args:
        problem: The PDE, which knows where to sample.
        points: Collocation points per step and rank.
        condition_points: Points per soft condition, step and rank, that `sample_condition` is
            asked for; the loss is the mean over those that it returns.
        test_points: Test points in all; None for 20 000, fewer above 10 000 dimensions.
        val_points: Validation points.
        share_points: Whether all ranks draw the same points (parallel over dimensions).
        candidates: Points drawn per point used; above 1 the module keeps those with large
            residuals.
        fixed_for: Steps for which a batch is kept before it is redrawn, 1 for fresh points.
        seed: Seed of all points.

    Raises:
        InvalidArgument: For sizes that are not positive.

    Example:
        >>> from sciml.data import CollocationData
        >>> from sciml.physics import Poisson
        >>> data = CollocationData(problem=Poisson(dim=10), points=50)
        >>> batch = data.batch(0)
        >>> tuple(batch.points.x.shape), tuple(batch.points.source.shape)
        ((50, 10), (50,))
    """

    def __init__(
        self,
        *,
        problem: PDE,
        points: int = 100,
        condition_points: int = 100,
        test_points: int | None = None,
        val_points: int = 256,
        share_points: bool = False,
        candidates: int = 1,
        fixed_for: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"points": points, "condition_points": condition_points, "val_points": val_points}
        sizes |= {"candidates": candidates, "fixed_for": fixed_for}
        if test_points is not None:
            sizes["test_points"] = test_points
        for name, value in sizes.items():
            if value < 1:
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        self.problem, self.points, self.condition_points = problem, points, condition_points
        self.val_points, self.share_points, self.candidates = val_points, share_points, candidates
        self.fixed_for, self.seed = fixed_for, seed
        open_size = min(20_000, max(1000, _TEST_ELEMENTS // problem.dim))
        self.test_points = test_points or open_size

    # --- loaders: counters only -----------------------------------------------------------
    def val_dataloader(self) -> DataLoader:
        """Return a loader of one validation batch."""
        return DataLoader(Counter(1), batch_size=None)

    def test_dataloader(self) -> DataLoader:
        """Return a loader over the chunks of the test set that this rank evaluates."""
        return DataLoader(Counter(self._my_chunks()), batch_size=None)

    def on_after_batch_transfer(self, batch: int, dataloader_idx: int) -> CollocationBatch | Points:
        """Replace the step number by points drawn on the module's device."""
        trainer = self.trainer
        if trainer.testing:
            return self.test_chunk(int(batch) * trainer.world_size + trainer.global_rank)
        if trainer.validating or trainer.sanity_checking or not trainer.training:
            return self.val_batch(trainer.global_rank, trainer.world_size)
        begin = getattr(trainer.lightning_module, "begin_step", None)
        if begin is not None:
            begin()
        return self.batch(self.next_step(), trainer.global_rank, trainer.world_size)

    def _cast(self, p: Points) -> Points:
        """Return points in the precision of the module being trained."""
        module = self.trainer.lightning_module if self.trainer else None
        return p if module is None or module.dtype == p.x.dtype else p.to(module.dtype)

    # --- points -----------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> CollocationBatch:
        """Return the points of a step on a rank: always the same for the same arguments."""
        streams = Streams(self.seed, step, rank, world, self.device())
        n = self.points * self.candidates
        points = self.problem.sample(n, streams.generator("points", common=self.share_points))
        points = self._cast(points)
        conditions = {
            name: self._cast(
                self.problem.sample_condition(
                    name, self.condition_points, streams.generator(name, common=self.share_points)
                )
            )
            for name in self.problem.conditions
        }
        counts = {"interior": self.points * world}
        if conditions:
            found = _over_ranks([len(p) for p in conditions.values()], world, self.device())
            counts |= dict(zip(conditions, found, strict=True))
        return CollocationBatch(points, conditions, streams, counts)

    def val_batch(self, rank: int = 0, world: int = 1) -> CollocationBatch:
        """Return this rank's validation points, the same at every validation."""
        streams = Streams(self.seed + 1, 0, rank, world, self.device())
        n = max(1, min(self.val_points, _CHUNK_ELEMENTS // self.problem.dim) // world)
        points = self._cast(self.problem.sample(n, streams.generator("validation")))
        return CollocationBatch(points, {}, streams, {"interior": n * world})

    def test_chunk(self, index: int) -> Points:
        """Return chunk `index` of the test set, float64, independent of the run's seed."""
        size = self._chunk_size()
        n = min(size, self.test_points - index * size)
        if n <= 0:
            return self.test_chunk(0)[:0]
        streams = Streams(20_231, index, device=self.device())
        return self.problem.sample_test(n, streams.generator("test"))

    def _chunk_size(self) -> int:
        # At least 16 chunks, so that ranks share the work; the points must not depend on ranks.
        share = -(-self.test_points // 16)
        return max(1, min(share, _CHUNK_ELEMENTS // self.problem.dim))

    def _my_chunks(self) -> int:
        """Return the number of chunks per rank; ranks past the end get empty ones."""
        chunks = -(-self.test_points // self._chunk_size())
        return -(-chunks // (self.trainer.world_size if self.trainer else 1))


def _over_ranks(numbers: list[int], world: int, device: torch.device) -> list[int]:
    """Return the sums over ranks; where this process has no others, all ranks like this one."""
    if world == 1 or not (dist.is_available() and dist.is_initialized()):
        return [world * n for n in numbers]
    total = torch.tensor(numbers, device=device)
    dist.all_reduce(total)
    return total.tolist()
