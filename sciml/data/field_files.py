"""Fields from people's own files: pairs of inputs and outputs, or trajectories.

    python train.py model=fno data.path=FILE

Files are read by `sciml.data.files`; what is an input, an output, an axis of time or of channels is
recognised there, and every guess can be typed instead. Batches hold arrays by the names of the file
and in its layout; targets are channels, as `sciml.networks.fields` has them.

A trajectory (one array, input and output) is learned as a step that is repeated: samples are random
windows of `history` states and `steps` calls behind them, which answer with `bundle` states each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.epochs import epoch_places
from sciml.data.files.coarse_solves import CoarseSolves, prepared
from sciml.data.files.data_parts import (
    NAN,
    ReadingOptions,
    TestSet,
    check_counts,
    check_evaluated,
    doubts_of,
    finite,
    pieces,
    test_sets,
    tested_times,
    to_skip,
    without_skipped,
)
from sciml.data.files.describe import increments, noisy, skeleton, statistics
from sciml.data.files.grids import grid_kinds, is_periodic, places
from sciml.data.files.rows import rows_of, window_places
from sciml.data.files.sample_split import split as split_rows
from sciml.data.files.single_precision import check_digits
from sciml.data.files.symmetries import Symmetries
from sciml.data.layouts.field_layout import SPACE, recognise
from sciml.data.layouts.windows import Windows, most_calls, rolls_out, times_of
from sciml.data.readers import open_source
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument
from sciml.networks.fields.description import FieldSet

LOOK = 256  # samples looked at to recognise periods and grids


class FieldFiles(StepData):
    """Samples of a file, a folder, or several files with test sets.

    Args:
        path: File or folder, see `sciml.data.files`.
        inputs: Names of the arrays that are given, or one name; None for those recognised.
        outputs: Names of the arrays that are wanted; a name in both is a trajectory.
        axes: Axes of arrays, "n" counts samples: `{u: [n, t, x, y]}`.
        units: Units by name.
        test_path: File or files of test samples, also on other grids; None to split `path`.
        split: "auto", "random" or "ordered", see `sciml.data.files.sample_split`.
        train: Training samples at most, a number or a share.
        val: Validation samples, a number or a share.
        test: Test samples, likewise.
        skip: Samples of `path` to leave out by number, or "nan" for all that hold a number that is
            none, of test files too.
        subsample: Keep every so many-th point, one number or one per direction.
        subsample_time: Keep every so many-th time.
        task: "rollout", "map" (all later states in one answer), or "auto": trajectories roll out.
        history: States that a step of a roll-out sees.
        bundle: States that it answers with.
        steps: Calls of the network in training, each on what the last one said.
        ramp: Steps of training after which one call more is made, up to `steps`; 0 for all at once.
        horizon: Calls in validation and test; None for whole trajectories.
        noise: Standard deviation of noise on training inputs, as a share of theirs.
        increment: Whether outputs are learned as changes of an input; None for trajectories, and
            for outputs whose first time is the input.
        periodic: Whether the domain is periodic in all directions; None to look at the data.
        grid: "left", "both" or "cells" (see `sciml.networks.fields.description`); None to look.
        symmetries: "transpose", "flip_x", "shift", "odd", ... (`fields.views`); checked and drawn.
        coarse: Classical solver whose answer the network sees and corrects, or None.
        batch_size: Samples per step and rank.
        memory: MB up to which a file is kept in memory.
        seed: Of order, windows, noise and views.
        fixed_for: Steps for which a batch stays the same.

    Attributes:
        sizes: `fields`, which networks are made from, and `coarse_solver`, where there is one.
        layout: What was recognised.
        notes: Sentences on what was recognised, left out or put right.
        doubts: Those of them that a run begins with, on what may well be read wrongly.
        statistics: Of the training part.
        ranges: Least and greatest value of every input there.

    Raises:
        InvalidArgument: For files that cannot be used, naming key and sample, and what to type.

    Example:
        >>> import tempfile
        >>> from sciml.data import FieldFiles
        >>> from sciml.testing.small_files import pairs
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = FieldFiles(path=pairs(f"{folder}/pairs.npz"), batch_size=4)
        >>> tuple(data.batch(0).inputs["x"].shape)
        (4, 16, 16)
    """

    def __init__(
        self,
        *,
        path: str,
        inputs: str | Sequence[str] | None = None,
        outputs: str | Sequence[str] | None = None,
        axes: Mapping[str, Sequence[str]] | None = None,
        units: Mapping[str, str] | None = None,
        test_path: str | Sequence[str] | None = None,
        split: Literal["auto", "random", "ordered"] = "auto",
        train: float | int | None = None,
        val: float | int = 0.1,
        test: float | int = 0.1,
        skip: Any = None,  # YAML reads the word nan as a number, which is no `float` of settings
        subsample: int | Sequence[int] = 1,
        subsample_time: int = 1,
        task: Literal["auto", "map", "rollout"] = "auto",
        history: int = 1,
        bundle: int = 1,
        steps: int = 1,
        ramp: int = 0,
        horizon: int | None = None,
        noise: float = 0.0,
        increment: bool | None = None,
        periodic: bool | None = None,
        grid: str | None = None,
        symmetries: str | Sequence[str] = (),
        coarse: Any = None,
        batch_size: int = 16,
        memory: int = 1000,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        counts = {"history": history, "bundle": bundle, "steps": steps, "horizon": horizon}
        check_counts(**counts, batch_size=batch_size, subsample_time=subsample_time)
        if noise < 0 or memory < 0 or ramp < 0:
            raise InvalidArgument("data.noise, data.memory or data.ramp below 0", "0 or more")
        self.path, self.batch_size, self.noise = Path(path), batch_size, float(noise)
        self.history, self.bundle, self.steps, self.ramp = history, bundle, steps, ramp
        self.source = open_source(path)
        self.layout = recognise(self.source, inputs, outputs, axes)
        self.notes = list(self.source.notes)
        self.rolls = rolls_out(self.layout, task)
        kept = (subsample, subsample_time, memory * 2**20)
        self.rows = rows_of(self.layout, *kept, self.source.chunked)
        parts = {"train": train, "val": val, "test": test, "apart": test_path is not None}
        chosen = split_rows(self.source, self.layout.count, how=split, **parts)
        left = to_skip(skip)
        self.chosen, said = without_skipped(chosen, self.rows, left, self.path)
        if parts["apart"]:
            read = ReadingOptions(inputs, outputs, axes, units or {}, *kept, left == NAN)
            self.tests, more = test_sets(test_path, self.path, self.layout, read)
            said += more
        else:
            self.tests = {"test": self._part("test")}
        self.doubts = doubts_of(self.layout, self.tests)
        self.notes += said + self.doubts
        self.times = times_of(self.layout, self.source.coordinates.get("t"), subsample_time)
        self.calls = 1
        if self.layout.moving:
            self.bundle = bundle if self.rolls else len(self.times) - history
            states = (len(self.times), history, self.bundle)
            self.calls = most_calls(*states, steps if self.rolls else 1, horizon)
            self.notes += tested_times(self.tests, *states, self.calls)
        self.windows = Windows(self.layout, self.history, self.bundle)
        self.coarse: CoarseSolves | None = None
        self.sizes = {"fields": self._describe(units or {}, increment, periodic, grid, coarse)}
        if self.coarse:
            self.sizes["coarse_solver"] = self.coarse.solver
        self.fields = FieldSet(self.sizes["fields"])
        said = {f.unit for f in self.fields.outputs}
        self.unit = said.pop() if len(said) == 1 else "1"
        self.names = tuple(f.name for f in self.fields.outputs)
        self.symmetries = Symmetries(symmetries, self.fields)
        if symmetries:
            self.sizes["fields"]["symmetries"] = list(self.symmetries.names)
            self.notes += self.symmetries.check(*self.known("train", 400))

    def _part(self, name: str) -> TestSet:
        return TestSet(self.rows, self.chosen[name], self.layout, self.path)

    # --- what data say ----------------------------------------------------------------------
    def _describe(
        self,
        units: Mapping[str, str],
        increment: bool | None,
        periodic: bool | None,
        grid: str | None,
        coarse: Any,
    ) -> dict[str, Any]:
        """Return what networks are told, from the training part alone."""
        plain = skeleton(self.layout, self.rows.steps, units, self.history, self.bundle)
        plain["samples"] = len(self.chosen["train"])
        look = FieldSet(plain)
        some = self.rows[self.chosen["train"][: self.rows.fitting(LOOK)]]
        given, target = self.windows.made(look, some, 0, 1)
        given, target = look.pack(given).double(), target.double()
        if periodic is None:
            periodic = is_periodic(self.source.attributes, given, target, self.notes)
        kinds = grid_kinds(self.source.coordinates, look.size, target, periodic, grid)
        asked = increment if coarse is None else False  # else changes of the solve are learned
        base = increments(look, given, target, asked, self.notes)
        plain |= {"grid": kinds, "periodic": periodic, "base": base}
        plain |= {"history": self.history, "bundle": self.bundle} if self.rolls else {}
        if coarse is not None:
            coarse = prepared(coarse, kinds[0], given, target, self.notes)
            plain["solved"] = more = look.out_channels
            plain |= {"mean": plain["mean"] + [0.0] * more, "std": plain["std"] + [1.0] * more}
            count = self.rows.count if self.rows.held and not self.rolls else 0
            self.coarse = CoarseSolves(coarse, FieldSet(plain), count)
        fields = FieldSet(plain)
        check_evaluated(self.rows, self.chosen["val"], self.tests, self.path)
        self.statistics = statistics(fields, self._pairs(fields), self.notes)
        self.doubts += check_digits(fields, self.statistics)
        self.ranges = self.statistics.ranges(fields)
        return plain | self.statistics.plain

    def _pairs(self, fields: FieldSet) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all training samples as channels, trajectories step by step."""
        for piece in pieces(self.rows, self.chosen["train"]):
            held = finite(self.rows, piece, self.path)
            last = len(self.times) - self.history - self.bundle if self.rolls else 0
            for start in range(0, last + 1, self.bundle):
                given, target = self.windows.made(fields, held, start, 1)
                packed = fields.pack(given)
                if self.coarse:
                    packed = torch.cat([packed, self.coarse(piece, given)], 1)
                yield packed, target

    # --- samples ----------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the samples of a step on a rank."""
        streams = Streams(self.seed, step, rank, world, self.device())
        rows = self.places(step, rank, world)
        held, extra, calls, start = self.rows[rows], {}, 1, 0
        if self.rolls:
            calls = min(self.steps, 1 + step // self.ramp) if self.ramp else self.steps
            last = len(self.times) - self.history - self.bundle * calls
            draw = Streams(self.seed, step).generator("window", common=True, cpu=True)
            start = int(torch.randint(last + 1, (1,), generator=draw))
        given, target = self.windows.made(self.fields, held, start, calls)
        if self.coarse and calls == 1:
            extra["solved"] = self.coarse(rows, given)
        if self.symmetries:
            both = torch.cat([target, *extra.values()], 1)
            given, both = self.symmetries.drawn(given, both, streams)
            target = both[:, : target.shape[1]]
            extra = {name: both[:, target.shape[1] :] for name in extra}
        if self.noise:
            given = noisy(self.fields, given, self.noise, streams.generator("noise", cpu=True))
        return Batch(given, target, streams, self.batch_size * world, extra=extra)

    def places(self, step: int, rank: int, world: int) -> np.ndarray:
        """Return the row numbers `(batch_size,)` in the file of a rank's samples in a step."""
        rows, args = self.chosen["train"], (self.batch_size, step, rank, world)
        if self.rows.held:
            return rows[epoch_places(self.seed, len(rows), *args).numpy()]
        return window_places(self.seed, rows, self.rows.block, *args)

    def known(self, part: str, most: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return the first samples of a part as one batch, for baselines and checks."""
        held = self.tests.get(part) or self._part(part)
        every = held.numbers[:: -(-len(held.numbers) // held.rows.fitting(most, 16))]
        return self.windows.made(self.fields, held.rows[every], 0, self.calls if self.rolls else 1)

    # --- evaluation -------------------------------------------------------------------------
    @property
    def val_chunks(self) -> int:
        """Number of chunks of the validation set."""
        return -(-len(self.chosen["val"]) // self._part("val").chunk)

    def val_chunk(self, index: int) -> Batch:
        """Return a chunk of the validation set."""
        held = self._part("val")
        return self._chunk(held, index * held.chunk, "val")

    @property
    def test_chunks(self) -> int:
        """Number of chunks of all test sets."""
        return len(self._test_chunks())

    def test_chunk(self, index: int) -> Batch:
        """Return a chunk of one of the test sets."""
        part, start = self._test_chunks()[index]
        return self._chunk(self.tests[part], start, part)

    def _test_chunks(self) -> list[tuple[str, int]]:
        each = self.tests.items()
        return [(p, i) for p, held in each for i in range(0, len(held.numbers), held.chunk)]

    def _chunk(self, chosen: TestSet, start: int, part: str) -> Batch:
        held = chosen.rows[chosen.numbers[start : start + chosen.chunk]]
        given, target = self.windows.made(self.fields, held, 0, self.calls if self.rolls else 1)
        streams = Streams(0, start, device=self.device())
        return Batch(given, target, streams, len(target), part=part)

    def example(self) -> dict[str, Tensor]:
        """Return a few inputs."""
        return {k: v[:4] for k, v in self.val_chunk(0).inputs.items()}

    def axis(self, k: int) -> np.ndarray:
        """Return the coordinates of direction k in training."""
        known, step = self.source.coordinates.get(SPACE[k]), self.rows.steps[SPACE[k]]
        n = self.fields.size[k]
        fits = known is not None and len(known[::step]) == n
        return known[::step] if fits else places(n, self.fields.grid[k])
