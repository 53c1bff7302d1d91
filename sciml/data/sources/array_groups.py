"""Groups inside one file: parts (`train/x`, `x_test`) and numbered samples (`sample_0/x`).

The same words make parts of files in a folder, see `sample_folder`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sciml.data.sources.array_moves import stacked
from sciml.data.sources.source import COORDINATES, KINDS, Array, Source, behind, joined
from sciml.errors import InvalidArgument

PARTS = {"train": "train", "training": "train", "valid": "val", "validation": "val"}
PARTS |= {"val": "val", "test": "test", "testing": "test"}
NUMBERED = re.compile(r"^(.*?)[_\-. ]?(\d+)$")
LEAST = 3  # numbered groups that are taken for samples


def without_part(name: str) -> tuple[str, str]:
    """Return the part that a name says, empty if none or several, and the name without it.

    Args:
        name: As `train/x`, `x_train` or `train`, of an array or of a file.
    """
    words = re.split(r"([/_\-.])", name)
    said = [k for k, word in enumerate(words) if word.lower() in PARTS]
    if len(said) != 1:
        return "", name
    part = PARTS[words[said[0]].lower()]
    del words[max(said[0] - 1, 0) : said[0] + 1 + (said[0] == 0)]
    return part, "".join(words)


def put_together(
    path: Path, arrays: Mapping[str, Array], sort: Callable[[dict[str, Array]], Source]
) -> Source:
    """Return a source of arrays whose numbered groups and parts are joined.

    Args:
        path: For messages.
        arrays: All of a file, by their full names.
        sort: What makes a source of the arrays of one part.
    """

    def one(held: dict[str, Array]) -> Source:
        together, notes = numbered(held)
        source = sort(together)
        source.notes += notes
        source.certain = source.certain or together.keys() != held.keys()
        return source

    return parted(path, arrays, one)


def parted(
    path: Path, arrays: Mapping[str, Array], one: Callable[[dict[str, Array]], Source]
) -> Source:
    """Return a source of arrays whose names may say parts: those of all parts are joined.

    Args:
        path: For messages.
        arrays: All of a file.
        one: What makes a source of the arrays of one part, by their names without it.
    """
    shared: dict[str, Array] = {}
    parts: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        part, rest = without_part(name)
        if part and array.shape:
            rest = rest or "values"
            parts.setdefault(part, {})[rest] = replace(array, name=rest)
        else:
            shared[name] = array
    inside = {name for held in parts.values() for name in held}
    if len(parts) < 2 or "train" not in parts or inside & shared.keys():
        source = one(dict(arrays))
        if len(parts) > 1 and "train" in parts:
            both = sorted(inside & shared.keys())[0]
            source.notes.append(f"train and test in names are no parts, as {both} is there without")
        return source
    sources = {p: one({**shared, **parts[p]}) for p in ("train", "val", "test") if p in parts}
    for source in sources.values():  # an array of all parts has no samples of one
        for name in shared.keys() & source.arrays.keys():
            source.arrays[name] = replace(source.arrays[name], sampled=False)
    notes = []
    for part in [p for p in sources if p != "train"]:
        unlike = _unlike(sources["train"], sources[part])
        if unlike:
            del sources[part]
            notes.append(
                f"the part {part} is left out: {unlike}; a file of its own can be typed as "
                "data.test_path"
            )
    source = joined_parts(path, {p: [s] for p, s in sources.items()})
    counts = ", ".join(f"{len(rows)} {part}" for part, rows in source.parts.items())
    source.notes += [*notes, f"parts are those that names in the file say: {counts}"]
    return source


def _unlike(first: Source, other: Source) -> str:
    """Return what an array of another part has that does not fit the first; empty if all fits."""
    for name, array in first.arrays.items():
        found = other.arrays.get(name)
        if found is None:
            return f"it has no {name}"
        if array.sampled and found.shape[1:] != array.shape[1:]:
            return f"its {name} is {found.shape}, and that of train {array.shape}"
    return ""


def joined_parts(path: Path, sources: Mapping[str, Sequence[Source]]) -> Source:
    """Return sources by part as one, with the rows of each part.

    Args:
        path: For messages.
        sources: By "train", "val" and "test", in the order in which they are joined.

    Raises:
        InvalidArgument: If arrays do not fit each other.
    """
    every = [s for found in sources.values() for s in found]
    for part, found in sources.items():
        unlike = _unlike(every[0], found[0])
        if unlike:
            raise InvalidArgument(
                f"{path}: the part {part} ({found[0].path.name}) does not fit, as {unlike}",
                "parts of the same arrays, samples of the same shape",
                f"Type data.path={every[0].path} data.test_path={found[0].path}",
            )
    counts = [rows_in(s) for s in every]
    source = replace(every[0], path=path, arrays=joined(path, every), parts={}, filed={})
    source.certain = every[0].certain or len({*counts}) > 1  # one shape but for the first axis
    source.notes = list(dict.fromkeys(note for s in every for note in s.notes))
    start = 0
    for name, found in sources.items():
        count = sum(rows_in(s) for s in found)
        source.parts[name] = np.arange(start, start + count)
        start += count
    return source


def rows_in(source: Source) -> int:
    """Return the number of samples of a source."""
    return next((a.shape[0] for a in source.arrays.values() if a.sampled and a.shape), 0)


def numbered(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """Return arrays of which those in numbered groups of one layout are put together.

    Groups of one shape are one sample each; where they differ along first axes, they are batches.

    Args:
        arrays: By full names, as `sample_0/x`.

    Returns:
        The arrays, and a sentence on every set of groups.
    """
    families: dict[tuple[str, str], dict[int, dict[str, Array]]] = {}
    for name, array in arrays.items():
        *groups, last = name.split("/")
        found = [(k, NUMBERED.match(group)) for k, group in enumerate(groups)]
        k, match = next(((k, m) for k, m in found if m), (0, None))
        if match:
            rest = "/".join((*groups[k + 1 :], last))
            held = families.setdefault(("/".join(groups[:k]), match[1]), {})
            held.setdefault(int(match[2]), {})[rest] = array
    kept, notes = dict(arrays), []
    for (before, prefix), members in families.items():
        order = sorted(members)
        title = f"the groups {'/'.join(filter(None, (before, prefix)))}…"
        unlike = _unlike_groups([members[k] for k in order])
        if len(order) < LEAST or unlike:
            notes += [f"{title} are not put together: {unlike}"] if len(order) >= LEAST else []
            continue
        counts = _lengths([members[k] for k in order])
        for rest in members[order[0]]:
            each = [members[k][rest] for k in order]
            for array in each:
                del kept[array.name]
            name = "/".join(filter(None, (before, rest)))
            if _is_shared(rest, each):
                kept[name] = replace(each[0], name=name)
            elif counts:
                kept[name] = _batch(name, each, counts)
            else:
                kept[name] = stacked(name, each)
        first, last = order[0], order[-1]
        what = "batches, one behind the other along first axes" if counts else "one sample each"
        notes.append(f"{len(order)} {title[4:]} ({first} to {last}) are {what}")
    return kept, notes


def _unlike_groups(members: Sequence[Mapping[str, Array]]) -> str:
    """Return why groups are no samples of one layout; empty if they are."""
    first, varying = members[0], []
    if any(held.keys() != first.keys() for held in members):
        return "they do not hold arrays of the same names"
    for name in first:
        shapes = {held[name].shape for held in members}
        if len(shapes) > 1 and (() in shapes or len({s[1:] for s in shapes}) > 1):
            return f"{name} has the shapes {' and '.join(map(str, sorted(shapes)[:2]))}"
        varying += [(name, sorted(shapes))] if len(shapes) > 1 else []
    if len(varying) == 1 and len(varying[0][1][0]) > 1:  # no pairs of inputs and outputs
        name, shapes = varying[0]
        return (
            f"{name} has {shapes[0]} and up to {shapes[-1]}: cut trajectories to one length, or "
            f"put batches into one array"
        )
    return ""


def _lengths(members: Sequence[Mapping[str, Array]]) -> list[int]:
    """Return how many samples each group has; nothing where all groups are of the same shapes."""
    varying = [n for n in members[0] if len({held[n].shape for held in members}) > 1]
    return [held[varying[0]].shape[0] for held in members] if varying else []


def _batch(name: str, each: Sequence[Array], counts: Sequence[int]) -> Array:
    """Return what groups of several samples hold as one array, with one row per sample.

    Args:
        name: Of the new array.
        each: By group: samples along the first axis, or what all samples of the group share.
        counts: Samples by group.
    """
    if [a.shape[:1] for a in each] == [(n,) for n in counts]:
        return behind([replace(a, name=name) for a in each])
    owner = np.repeat(np.arange(len(each)), counts)
    shared = stacked(name, each)
    shape = (len(owner), *shared.shape[1:])
    return replace(shared, shape=shape, read=lambda index: shared.rows(owner[index]))


def _is_shared(name: str, each: Sequence[Array]) -> bool:
    """Return whether arrays of groups are one coordinate, which every group has again."""
    first, last = each[0], each[-1]
    if name.rpartition("/")[2].lower() not in COORDINATES or first.dtype.kind not in KINDS:
        return False
    if len(first.shape) != 1 or first.shape != last.shape:
        return False
    return np.array_equal(first.rows(slice(None)), last.rows(slice(None)))
