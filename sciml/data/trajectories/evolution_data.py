"""Inputs of a problem in space and time, and solutions to judge by.

Methods that learn from the equation alone need no solutions: training batches hold inputs only.
Validation and test solutions are made by the problem's own solver when the data module is built, in
float64 from seeds of their own, or read from a PDEBench file of the same problem. Training sees the
first `share` of the time levels; the set `test_beyond` holds the same trajectories as `test`, to be
judged at the levels after that.

Problems without time (Darcy flow, which stores one level) have no such set, and targets `(B,
*space)`.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import made, takes
from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.epochs import epoch_places
from sciml.data.steps import StepData
from sciml.data.trajectories.coarse_trajectories import on_grid_of
from sciml.data.trajectories.pdebench import official_split, read_pdebench
from sciml.data.trajectories.solved import recipe_of, solved_once
from sciml.errors import InvalidArgument
from sciml.physics.constraints.grid_derivatives import grading_of
from sciml.physics.evolution.evolution_problem import training_levels

SEEDS = {"train": 201, "val": 202, "test": 203}
CHUNK = 16  # fields predicted at once
SAME = 0.1  # relative distance of a file's trajectory from the problem's own that is still the same


class EvolutionData(StepData):
    """Inputs `field` `(B, C, *space)`; targets are solutions `(B, nt, *space)`, or empty.

    Args:
        problem: Samples and solves (`sciml.physics.evolution`).
        train: Inputs to train on.
        val: Validation solutions.
        test: Test solutions.
        references: Training inputs that are solved too, for baselines that learn from solutions;
            0 for none.
        batch_size: Inputs per step and rank.
        share: Share of the problem's time that training sees.
        file: PDEBench file of the problem; None samples and solves. It is split as PDEBench's
            loaders do; `val` is the end of its training part.
        cache: Folder where solutions are kept as files; None keeps them in memory.
        seed: Seed of the order.
        fixed_for: Steps for which a batch stays the same.

    Attributes:
        levels: Time levels of training; None without time.
        inputs: Inputs of every part, float64.
        targets: Solutions of `val` and `test`, float64.
        references: Solutions of the first training inputs, float64; None without.
        sizes: Mean and standard deviation of every input channel over the training set.
        solver_seconds: Wall time that the problem's solver took per test solution.
        file_distance: Relative L2 distance of the file's first test solution from the problem's
            own; None without a file.

    Raises:
        InvalidArgument: For sizes that cannot be, and a file that is not of this problem.
        ConvergenceError: If the problem's solver fails.

    Example:
        >>> from sciml.data import EvolutionData
        >>> from sciml.physics.evolution import Heat
        >>> data = EvolutionData(
        ...     problem=Heat(points=24, time_count=6), train=4, val=1, test=2, references=2,
        ...     batch_size=2,
        ... )
        >>> tuple(data.batch(0).inputs["field"].shape), tuple(data.test_chunk(0).target.shape)
        ((2, 1, 24), (2, 5, 24))
    """

    @takes(problem=made("times", "grids", "channels", what="a problem of sciml.physics.evolution"))
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
        file: str | None = None,
        cache: str | None = None,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        counts = {"train": train, "val": val, "test": test}
        for name, value in {**counts, "batch_size": batch_size}.items():
            if value < 1:
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        if not 0 <= references <= train:
            raise InvalidArgument(f"data.references={references}", f"0 to data.train={train}")
        if not 0 < share <= 1:
            raise InvalidArgument(f"data.share={share}", "more than 0, at most 1")
        self.problem, self.batch_size, self.cache = problem, batch_size, cache
        times = problem.times
        self.timed = len(times) > 1
        self.levels = training_levels(times, share) if self.timed else None
        self.beyond = self.timed and self.levels < len(times)
        self.file_distance: float | None = None
        if file is None:
            self._sample(counts, references)
        else:
            self._read(file, counts, references)
        fields = self.inputs["train"]
        dims = (0, *range(2, fields.dim()))
        spread = fields.std(dims)
        self.sizes = {
            "mean": fields.mean(dims).tolist(),
            "std": torch.where(spread > 0, spread, 1.0).tolist(),
        }
        if self.timed and len(problem.grids) == 1:
            # levels are columns of the picture, equally wide
            power = grading_of(times)
            grid, last = problem.grids[0], float(times[self.levels - 1]) ** (1 / power)
            self.plane = {
                "extent": [0.0, last, float(grid[0]), float(grid[-1])],
                "xlabel": "t" if abs(power - 1) < 1e-6 else f"t^(1/{power:.3g})",
                "ylabel": "x",
            }

    def _sample(self, counts: dict[str, int], references: int) -> None:
        """Sample the inputs, and solve those that are judged."""
        self.inputs = {
            part: self.problem.sample(n, torch.Generator().manual_seed(SEEDS[part]))
            for part, n in counts.items()
        }
        solved = {part: self._solved(part, counts[part]) for part in ("val", "test")}
        self.targets = {part: found for part, (found, _) in solved.items()}
        self.solver_seconds = solved["test"][1]
        self.references = self._solved("train", references)[0] if references else None

    def _solved(self, part: str, count: int) -> tuple[Tensor, float]:
        """Return solutions of the first inputs of a part, computed once, and seconds for each."""
        recipe = recipe_of(self.problem, part=part, count=count, seed=SEEDS[part])
        found = solved_once(recipe, lambda: self._solve(self.inputs[part][:count]), self.cache)
        return found["target"], float(found["seconds"])

    def _solve(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the problem's own solutions, and the wall time in seconds for each."""
        started = time.perf_counter()
        with torch.no_grad():
            found = self.problem.solve(inputs).value
        seconds = (time.perf_counter() - started) / len(inputs)
        return {
            "target": found if self.timed else found[:, 0],
            "seconds": torch.tensor(seconds, dtype=torch.float64),
        }

    def _read(self, file: str, counts: dict[str, int], references: int) -> None:
        """Take inputs and solutions from a file, and compare one with the problem's own."""
        head = read_pdebench(file, samples=[])
        training, testing = official_split(head.count, head.layout)
        most = len(training) - counts["val"]
        if counts["train"] > most or counts["test"] > len(testing):
            raise InvalidArgument(
                f"data.train={counts['train']}, data.val={counts['val']} and "
                f"data.test={counts['test']} of {file}",
                f"together at most {len(training)} for training and validation, and "
                f"{len(testing)} for the test, as PDEBench splits its {head.count} samples",
            )
        rows = {
            "train": training[: counts["train"]],
            "val": training[most:],
            "test": testing[: counts["test"]],
        }
        self.inputs, self.targets = {}, {}
        for part, chosen in rows.items():
            found = read_pdebench(file, samples=chosen)
            given, values = on_grid_of(self.problem, found, file)
            self.inputs[part] = given
            self.targets[part] = values if self.timed else values[:, 0]
        known = self.targets.pop("train")
        self.references = known[:references] if references else None
        found = self._solve(self.inputs["test"][:1])
        own, self.solver_seconds = found["target"], float(found["seconds"])
        wanted = self.targets["test"][:1]
        self.file_distance = float((wanted - own).norm() / own.norm())
        if not self.file_distance <= SAME:
            stored = ", ".join(f"{k}={v:g}" for k, v in head.attributes.items()) or "none"
            raise InvalidArgument(
                f"{file}, whose first test solution is {self.file_distance:.0%} away from the one "
                f"of {type(self.problem).__name__} for the same input",
                f"at most {SAME:.0%}: a file of the same equation with the same constants",
                f"Numbers stored in the file: {stored}; set data.problem.* accordingly",
            )

    # --- training ---------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the inputs of a step on a rank; the target is empty."""
        streams = Streams(self.seed, step, rank, world, self.device())
        field = self.inputs["train"][self.places(step, rank, world)]
        target = field.new_zeros(len(field), 0)
        return Batch({"field": field}, target, streams, self.batch_size * world)

    def places(self, step: int, rank: int, world: int) -> Tensor:
        """Return the places in the training set of a rank's inputs `(batch_size,)`."""
        n = len(self.inputs["train"])
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
