"""Which samples train, validate and test: of one file, or with test files of their own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sciml.data.files.rows import FileRows, rows_of
from sciml.data.files.statistics import check_finite
from sciml.data.layouts.alike import like_training
from sciml.data.layouts.field_layout import Layout, recognise
from sciml.data.readers import open_source
from sciml.errors import InvalidArgument

CHUNK = 50  # samples looked at or evaluated at once, at most
POINTS = 2**20  # of the grids that are evaluated at once: what a network keeps for them is a GB
NAN = "nan"  # data.skip


class TestSet(NamedTuple):
    """Samples of one of the test sets.

    Attributes:
        rows: Of its file.
        numbers: Which of them.
        layout: What was recognised in the file.
        path: Of the file.
    """

    rows: FileRows
    numbers: np.ndarray
    layout: Layout
    path: Path

    @property
    def chunk(self) -> int:
        """Return how many of them a network is given at once, fewer on larger grids."""
        return max(1, min(CHUNK, POINTS // max(math.prod(self.layout.space), 1)))


TestSets = dict[str, TestSet]


class ReadingOptions(NamedTuple):
    """How further files are read: as that of the training was, see `FieldFiles`.

    Attributes:
        inputs: Names.
        outputs: Names.
        axes: By name.
        units: By name.
        subsample: Of points.
        subsample_time: Of times.
        memory: Bytes up to which a file is kept in memory.
        skip_nan: Whether samples with numbers that are none are left out.
    """

    inputs: str | Sequence[str] | None
    outputs: str | Sequence[str] | None
    axes: Mapping[str, Sequence[str]] | None
    units: Mapping[str, str]
    subsample: int | Sequence[int]
    subsample_time: int
    memory: int
    skip_nan: bool


def to_skip(skip: Any) -> str | set[int]:
    """Return which samples the user leaves out: row numbers, or "nan" for those with none.

    Args:
        skip: A list, one number, the word nan, or what YAML makes of that word.

    Raises:
        InvalidArgument: For something else.
    """
    if skip is None:
        return set()
    if skip == NAN or (isinstance(skip, float) and math.isnan(skip)):
        return NAN
    every = list(skip) if isinstance(skip, Sequence) and not isinstance(skip, str) else [skip]
    if any(isinstance(i, bool) or not isinstance(i, int | np.integer) for i in every):
        raise InvalidArgument(f"data.skip={skip}", "nan, or a list of sample numbers")
    return {int(i) for i in every}


def pieces(rows: FileRows, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Yield row numbers in pieces that are read at once."""
    width = rows.fitting(max(CHUNK, rows.block))
    for start in range(0, len(numbers), width):
        yield numbers[start : start + width]


def without_skipped(
    chosen: dict[str, np.ndarray], rows: FileRows, skip: str | set[int], path: str | Path
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the parts without the samples to skip, and a note on these.

    Args:
        chosen: Row numbers by part.
        rows: The arrays.
        skip: From `to_skip`.
        path: For messages.

    Raises:
        InvalidArgument: For a number outside the file, or if nothing is left of a part.
    """
    if not skip:
        return chosen, []
    if isinstance(skip, str):
        left = {int(i) for numbers in chosen.values() for i in not_finite(rows, numbers)}
    else:
        left = skip
        outside = [i for i in left if not 0 <= i < rows.count]
        if outside:
            raise InvalidArgument(f"data.skip with {outside[0]}", f"numbers below {rows.count}")
    kept = {k: numbers[~np.isin(numbers, list(left))] for k, numbers in chosen.items()}
    for part, numbers in kept.items():
        if not len(numbers):
            raise InvalidArgument(
                f"{path}: all {len(chosen[part])} samples of the part {part} are left out "
                "(data.skip)",
                "at least one sample in every part",
                "Skip fewer, or choose other parts with data.val=N data.test=N data.split=ordered",
            )
    said = f"{len(left)} samples of {path} are left out (data.skip)"
    return kept, [said] if left else []


def not_finite(rows: FileRows, numbers: np.ndarray) -> np.ndarray:
    """Return the row numbers of samples that hold a number that is none."""
    bad = []
    for piece in pieces(rows, numbers):
        whole = torch.ones(len(piece), dtype=torch.bool)
        for value in rows[piece].values():
            if value.is_floating_point():
                whole &= torch.isfinite(value).flatten(1).all(1)
        bad.append(piece[~whole.numpy()])
    return np.concatenate(bad) if bad else np.zeros(0, int)


def test_sets(
    paths: str | Sequence[str], path: Path, layout: Layout, read: ReadingOptions
) -> tuple[TestSets, list[str]]:
    """Return the test sets by name, and notes on samples that are left out.

    The first one is `test`, others are called like their files, with the folder in front where two
    files have one name.

    Args:
        paths: The files.
        path: Of the training samples.
        layout: What was recognised there.
        read: How files are read.

    Raises:
        InvalidArgument: If a file has other arrays, units or times than those of training, or is
            the file of training samples itself.
    """
    every = [Path(p) for p in ([paths] if isinstance(paths, str) else paths)]
    if not every:
        raise InvalidArgument("data.test_path=[]", "one file at least", "Leave data.test_path out")
    found: TestSets = {}
    notes: list[str] = []
    for name, file in zip(_titles(every), every, strict=True):
        check_apart(file, path)
        other = open_source(file)
        known = recognise(other, read.inputs, read.outputs, read.axes)
        theirs = like_training(layout, known, file, read.units)
        rows = rows_of(theirs, read.subsample, read.subsample_time, read.memory, other.chunked)
        numbers = np.arange(theirs.count)
        if read.skip_nan:
            kept, said = without_skipped({name: numbers}, rows, NAN, file)
            numbers, notes = kept[name], notes + said
        found[name] = TestSet(rows, numbers, theirs, file)
    return found, notes


def tested_times(tests: TestSets, states: int, history: int, bundle: int, calls: int) -> list[str]:
    """Return notes on test files with more times than those of training, which are tested.

    Args:
        tests: The test sets.
        states: Of a trajectory in training.
        history: Of these that are given.
        bundle: States that a call answers with.
        calls: In the test.

    Raises:
        InvalidArgument: If a file has fewer times.
    """
    notes, needed = [], history + bundle * calls
    for held in tests.values():
        known = [a for a in held.layout.outputs if a.name in held.layout.moving]
        every = held.rows.steps["t"]
        least = min(-(-a.shape[1 + a.axes.index("t")] // every) for a in known)
        if least < needed:
            fitting = (least - history) // bundle
            raise InvalidArgument(
                f"{held.path} with {least} times",
                f"{needed} times: {history} that {'is' if history == 1 else 'are'} given, "
                f"{calls * bundle} to answer, as in training",
                f"Type data.horizon={fitting} to test shorter roll-outs" if fitting > 0 else "",
            )
        if least > states:
            notes.append(f"{held.path} has {least} times, of which the first {needed} are tested")
    return notes


def check_apart(test_path: str | Path, path: str | Path) -> None:
    """Refuse to test on what is trained on.

    Raises:
        InvalidArgument: If both are one file or folder.
    """
    if Path(test_path).resolve() == Path(path).resolve():
        raise InvalidArgument(
            f"data.test_path={test_path}, which is data.path",
            "samples that are not trained on",
            "Leave data.test_path out: a tenth of data.path is kept for the test",
        )


def _titles(paths: Sequence[Path]) -> list[str]:
    """Return a name for every test file, each once."""
    stems = Counter(p.stem for p in paths[1:])
    names = ["test"]
    for path in paths[1:]:
        folder = path.absolute().parent.name
        name = f"test_{f'{folder}_' if stems[path.stem] > 1 and folder else ''}{path.stem}"
        again = sum(1 for n in names if n == name or n.startswith(f"{name}_no"))
        names.append(f"{name}_no{again + 1}" if again else name)
    return names


def doubts_of(layout: Layout, tests: TestSets) -> list[str]:
    """Return what may well be read wrongly in the files of training and test, each once."""
    layouts = [layout, *(held.layout for held in tests.values())]
    return list(dict.fromkeys(text for known in layouts for text in known.doubts))


def check_evaluated(rows: FileRows, numbers: np.ndarray, tests: TestSets, path: Path) -> None:
    """Refuse validation and test samples with numbers that are none.

    Args:
        rows: Of the file of training samples.
        numbers: Of validation samples.
        tests: The test sets.
        path: For messages.

    Raises:
        InvalidArgument: Naming array, sample and place.
    """
    others = [(rows, numbers, path)]
    others += [(held.rows, held.numbers, held.path) for held in tests.values()]
    for held, chosen, where in others:
        for piece in pieces(held, chosen):
            finite(held, piece, where, where == path)


def finite(
    rows: FileRows, piece: np.ndarray, path: Path, alone: bool = True
) -> dict[str, torch.Tensor]:
    """Return some rows, refusing numbers that are none; the rest as for `check_finite`.

    Raises:
        InvalidArgument: Naming array, sample and place.
    """
    held = rows[piece]
    for name, value in held.items():
        check_finite(name, value, piece, path, alone)
    return held


def check_counts(**counts: int | None) -> None:
    """Refuse settings that count something and are below one; None is not set.

    Raises:
        InvalidArgument: Naming the first.
    """
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InvalidArgument(f"data.{name}={value}", "a positive integer")
