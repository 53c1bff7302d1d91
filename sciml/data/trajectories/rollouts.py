"""Windows of reference trajectories on a coarse grid, for correctors of a coarse solver.

The references are made once by the loop's own fine solver, in float64 from seeds of their own. A
training sample is a window: the state at a time, what acts from outside in the steps after it, and
the references after these steps. `source` is the state that the uncorrected coarse solver has
reached at that time from the reference `restart` steps ago at most. Validation and test are whole
trajectories.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.epochs import epoch_places
from sciml.data.steps import StepData
from sciml.data.trajectories.solved import recipe_of, solved_once
from sciml.errors import InvalidArgument
from sciml.physics.fluids.loops import Loop

SEEDS = {"train": 201, "val": 202, "test": 203}


class RolloutData(StepData):
    """Trajectories of a loop.

    Args:
        problem: The loop.
        train: Trajectories to train on.
        val: Validation trajectories.
        test: Test trajectories.
        steps: Of every trajectory.
        window: Steps of a training sample.
        restart: Steps after which the uncorrected trajectory starts again from the reference; 0 for
            never.
        batch_size: Windows per step and rank.
        cache: Folder where references are kept as files; None keeps them in memory.
        seed: Seed of the order.
        fixed_for: Steps for which a batch stays the same.

    Raises:
        InvalidArgument: For counts that cannot be.

    Example:
        >>> from sciml.data import RolloutData
        >>> from sciml.physics.fluids import ForcedBurgers
        >>> data = RolloutData(
        ...     problem=ForcedBurgers(cells=8, ratio=2, warm_up=2),
        ...     train=2, val=1, test=1, steps=6, window=3, restart=0, batch_size=2,
        ... )
        >>> {name: tuple(value.shape) for name, value in data.batch(0).inputs.items()}
        {'state': (2, 2, 8, 8), 'source': (2, 2, 8, 8), 'external': (2, 3, 2, 8, 8)}
    """

    kind = "regression"

    def __init__(
        self,
        *,
        problem: Loop,
        train: int = 10,
        val: int = 2,
        test: int = 5,
        steps: int = 200,
        window: int = 4,
        restart: int = 8,
        batch_size: int = 4,
        cache: str | None = None,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        counts = {"train": train, "val": val, "test": test}
        for name, value in {**counts, "batch_size": batch_size, "window": window}.items():
            if value < 1:
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        if steps < window or restart < 0:
            raise InvalidArgument(
                f"data.steps={steps}, restart={restart}",
                f"at least data.window={window} steps, and restart >= 0",
            )
        self.problem, self.steps, self.window = problem, steps, window
        self.restart = restart
        self.batch_size = batch_size
        self.sets = {
            part: solved_once(
                recipe_of(problem, part=part, count=count, steps=steps, seed=SEEDS[part]),
                functools.partial(problem.reference, count, steps, SEEDS[part]),
                cache,
            )
            for part, count in counts.items()
        }
        self.sets = {part: {**found, **self._coarse(found)} for part, found in self.sets.items()}
        known = self.sets["train"]
        spread = known["states"].std((0, 1, 3, 4))
        outer = known["external"].square().mean((0, 1, 3, 4)).sqrt()
        small = known["correction"]
        self.sizes = {
            "channels": problem.channels,
            "external": problem.external,
            "periodic": problem.periodic,
            "scale": torch.where(spread > 0, spread, 1.0).tolist(),
            "external_scale": torch.where(outer > 0, outer, 1.0).tolist(),
            "correction_scale": torch.where(small > 0, small, 1.0).tolist(),
        }

    def _coarse(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the uncorrected trajectories, and the size of what one step of P lacks."""
        states, external = found["states"], found["external"]
        source, squares = [states[:, 0]], []
        with torch.no_grad():
            for k in range(self.steps):
                last = self.problem.step(source[-1], external[:, k])
                again = self.restart and (k + 1) % self.restart == 0
                source.append(states[:, k + 1] if again else last)
                lacking = states[:, k + 1] - self.problem.step(states[:, k], external[:, k])
                squares.append(lacking.square().mean((0, 2, 3)))
        correction = torch.stack(squares).mean(0).sqrt()
        return {"source": torch.stack(source, 1), "correction": correction}

    # --- training ---------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the windows of a step on a rank."""
        known = self.sets["train"]
        starts = self.steps - self.window + 1
        count = len(known["states"]) * starts
        place = epoch_places(self.seed, count, self.batch_size, step, rank, world)
        run, first = place // starts, place % starts
        ahead = first[:, None] + torch.arange(self.window)
        inputs = {
            "state": known["states"][run, first],
            "source": known["source"][run, first],
            "external": known["external"][run[:, None], ahead],
        }
        target = known["states"][run[:, None], ahead + 1]
        streams = Streams(self.seed, step, rank, world, self.device())
        return Batch(inputs, target, streams, self.batch_size * world)

    # --- evaluation -------------------------------------------------------------------------
    @property
    def val_chunks(self) -> int:
        """All trajectories at once."""
        return 1

    def val_chunk(self, index: int) -> Batch:
        """Return the validation trajectories."""
        return self._whole("val")

    @property
    def test_chunks(self) -> int:
        """All trajectories at once."""
        return 1

    def test_chunk(self, index: int) -> Batch:
        """Return the test trajectories."""
        return self._whole("test")

    def _whole(self, part: str) -> Batch:
        known = self.sets[part]
        inputs = {
            "state": known["states"][:, 0],
            "source": known["source"][:, 0],
            "external": known["external"],
        }
        streams = Streams(SEEDS[part], 0, device=self.device())
        return Batch(inputs, known["states"][:, 1:], streams, len(known["states"]), part=part)

    def example(self) -> dict[str, Tensor]:
        """Return a state and what acts on it, as the corrector takes them."""
        known = self.sets["val"]
        return {"state": known["states"][:, 0], "external": known["external"][:, 0]}
