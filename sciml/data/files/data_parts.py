"""Which samples train, validate and test: of one file, or with test files of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from sciml.data.files.rows import FileRows
from sciml.data.files.statistics import check_finite
from sciml.data.layouts.alike import like_training
from sciml.data.layouts.field_layout import Layout
from sciml.data.readers import open_source
from sciml.data.readers.source import Source
from sciml.errors import InvalidArgument

CHUNK = 50  # samples looked at or evaluated at once

TestSets = dict[str, tuple[FileRows, np.ndarray, Layout]]


def pieces(rows: FileRows, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Yield row numbers in pieces that are read at once."""
    width = max(CHUNK, rows.block)
    for start in range(0, len(numbers), width):
        yield numbers[start : start + width]


def without_skipped(
    chosen: dict[str, np.ndarray], rows: FileRows, skip: str | Sequence[int] | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the parts without the samples to skip, and a note on these.

    Args:
        chosen: Row numbers by part.
        rows: The arrays.
        skip: Row numbers, "nan" for samples with numbers that are none, or None.

    Raises:
        InvalidArgument: For another word, or a number outside the file.
    """
    if skip is None:
        return chosen, []
    if isinstance(skip, str):
        if skip != "nan":
            raise InvalidArgument(f"data.skip={skip}", "nan, or a list of sample numbers")
        left = {int(i) for numbers in chosen.values() for i in not_finite(rows, numbers)}
    else:
        left = {int(i) for i in skip}
        outside = [i for i in left if not 0 <= i < rows.count]
        if outside:
            raise InvalidArgument(f"data.skip with {outside[0]}", f"numbers below {rows.count}")
    kept = {k: numbers[~np.isin(numbers, list(left))] for k, numbers in chosen.items()}
    return kept, [f"{len(left)} samples are left out (data.skip)"]


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
    paths: str | Sequence[str],
    layout: Layout,
    read: Callable[[Source], Layout],
    rows: Callable[[Layout, int], FileRows],
    units: Mapping[str, str],
) -> TestSets:
    """Return rows, their numbers and the layout of every test file by name.

    Args:
        paths: The files.
        layout: What was recognised in the file of training samples.
        read: Recognises the same in another file.
        rows: Makes the rows of a layout.
        units: That the user typed.

    Raises:
        InvalidArgument: If a file has other arrays, units or times than those of training.
    """
    found: TestSets = {}
    for path in [paths] if isinstance(paths, str) else list(paths):
        other = open_source(path)
        theirs = like_training(layout, read(other), path, units)
        name = "test" if not found else f"test_{Path(path).stem}"
        found[name] = (rows(theirs, other.chunked), np.arange(theirs.count), theirs)
    return found


def doubts_of(layout: Layout, tests: TestSets) -> list[str]:
    """Return what may well be read wrongly in the files of training and test, each once."""
    layouts = [layout, *(theirs for _, _, theirs in tests.values())]
    return list(dict.fromkeys(text for known in layouts for text in known.doubts))


def check_evaluated(rows: FileRows, numbers: np.ndarray, tests: Mapping, path: Path) -> None:
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
    others += [(held, n, f"{path}, test") for held, n, _ in tests.values()]
    for held, chosen, where in others:
        for i in range(0, len(chosen), CHUNK):
            piece = chosen[i : i + CHUNK]
            for name, value in held[piece].items():
                check_finite(name, value, piece, where)


def check_counts(**counts: int | None) -> None:
    """Refuse settings that count something and are below one; None counts nothing.

    Raises:
        InvalidArgument: Naming the first.
    """
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InvalidArgument(f"data.{name}={value}", "a positive integer")
