"""Points of a system of equations: inside the domain and of every condition.

The points of step s on rank r are a function of (seed, r, s) alone, as in
`sciml.data.collocation`; observations and single points are the same on all ranks. They are drawn
on the CPU, where shapes live, and are the same whatever device they are sent to.
"""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader

from sciml.autodiff.streams import Streams
from sciml.data.collocation import CollocationBatch
from sciml.data.steps import Counted, Counter
from sciml.errors import InvalidArgument
from sciml.networks.solutions.ansatz import network_sizes
from sciml.physics.systems import PointSet, System


class PointData(Counted):
    """Training and validation points of a system.

    Args:
        problem: The system.
        points: Points inside per step and rank.
        condition_points: Points per condition, step and rank, where a condition does not say.
        val_points: Validation points.
        candidates: Points drawn inside per point used; above 1 the module keeps those with large
            residuals.
        fixed_for: Steps for which a batch is kept before it is redrawn; 1 for fresh points.
        modes: Harmonics of periodic variables that the network sees.
        even: Whether points inside come from a Sobol sequence, a new one for every batch, instead
            of independently of each other.
        until: Time up to which points inside are drawn, for networks that carry on in time what
            holds there, such as `StandingWaves`; of windows the same share. None for all times.
        seed: Seed of all points.

    Raises:
        InvalidArgument: For sizes that are not positive, or `until` outside the time there is.

    Example:
        >>> from sciml.data import PointData
        >>> from sciml.physics.suite import Burgers1D
        >>> data = PointData(problem=Burgers1D(constraint="soft"), points=64, condition_points=16)
        >>> batch = data.batch(0)
        >>> tuple(batch.points.x.shape)
        (64, 2)
        >>> {name: tuple(points.x.shape) for name, points in batch.conditions.items()}
        {'start': (16, 2), 'ends': (16, 2)}
    """

    def __init__(
        self,
        *,
        problem: System,
        points: int = 1000,
        condition_points: int = 200,
        val_points: int = 1000,
        candidates: int = 1,
        fixed_for: int = 1,
        modes: int = 1,
        even: bool = True,
        until: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"points": points, "condition_points": condition_points, "val_points": val_points}
        sizes |= {"candidates": candidates, "fixed_for": fixed_for, "modes": modes}
        for name, value in sizes.items():
            if value < 1:
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        self.problem, self.points, self.condition_points = problem, points, condition_points
        self.val_points, self.candidates, self.fixed_for = val_points, candidates, fixed_for
        self.modes, self.even, self.until, self.seed = modes, even, until, seed
        time = problem.region.time
        if until is not None and (time is None or not time.low < until <= time.high):
            wanted = f"a time in ({time.low:g}, {time.high:g}]" if time else "null without time"
            raise InvalidArgument(f"data.until={until}", wanted)
        self._kept: tuple[tuple, CollocationBatch] | None = None

    @property
    def sizes(self) -> dict[str, int | bool]:
        """What the network's constructor is told."""
        return network_sizes(self.problem, self.modes)

    def example(self) -> dict[str, torch.Tensor]:
        """Return the coordinates of a few points, for the card of the trained network."""
        x = self.problem.sample(16, torch.Generator().manual_seed(5)).x
        return dict(zip(self.problem.region.variables, x.unbind(1), strict=True))

    # --- loaders: counters only -----------------------------------------------------------
    def val_dataloader(self) -> DataLoader:
        """Return a loader of one validation batch."""
        return DataLoader(Counter(1), batch_size=None)

    test_dataloader = val_dataloader

    def on_after_batch_transfer(self, batch: int, dataloader_idx: int) -> CollocationBatch:
        """Replace the step number by points drawn on the module's device."""
        trainer = self.trainer
        rank, world = trainer.global_rank, trainer.world_size
        if trainer.training:
            begin = getattr(trainer.lightning_module, "begin_step", None)
            if begin is not None:
                begin()
            return self.batch(self.next_step(), rank, world)
        return self.val_batch(rank, world)

    def _cast(self, p: PointSet) -> PointSet:
        """Return points on the device and in the precision of the module being trained."""
        module = self.trainer.lightning_module if self.trainer else None
        return p if module is None else p.to(module.device, module.dtype)

    # --- points -----------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> CollocationBatch:
        """Return the points of a step on a rank: always the same for the same arguments."""
        key = (step, rank, world, self.device())
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]  # with what has been computed of the points
        streams = Streams(self.seed, step, rank, world, self.device())
        n = self.points * self.candidates
        points = self._cast(self._inside(n, streams.generator("points", cpu=True)))
        conditions = {}
        for name, condition in self.problem.terms.items():
            n = condition.points or self.condition_points
            drawn = condition.sample(self.problem, n, streams.generator(name, cpu=True))
            conditions[name] = self._cast(drawn)
        # every rank draws as many of each: the parts of a boundary are the same for all
        counts = {"interior": self.points * world}
        counts |= {name: len(p) * world for name, p in conditions.items()}
        batch = CollocationBatch(points, conditions, streams, counts)
        self._kept = (key, batch) if self.fixed_for > 1 else None
        return batch

    def _inside(self, n: int, generator: torch.Generator) -> PointSet:
        if self.even:
            p = PointSet(self.problem.region.sample_evenly(n, generator))
        else:
            p = self.problem.sample(n, generator)
        if self.until is not None:
            time, column = self.problem.region.time, len(self.problem.region.space)
            share = (self.until - time.low) / (time.high - time.low)
            p.x[:, column] = time.low + share * (p.x[:, column] - time.low)
        return p

    def val_batch(self, rank: int = 0, world: int = 1) -> CollocationBatch:
        """Return this rank's validation points, the same at every validation."""
        streams = Streams(self.seed + 1, 0, rank, world, self.device())
        n = max(1, self.val_points // world)
        points = self._cast(self.problem.sample(n, streams.generator("validation", cpu=True)))
        return CollocationBatch(points, {}, streams, {"interior": n * world})


def test_points(problem: System, seed: int = 20_231) -> tuple | None:
    """Return points and answers of `System.reference`, the same for every run; None for none."""
    return problem.reference(torch.Generator().manual_seed(seed))
