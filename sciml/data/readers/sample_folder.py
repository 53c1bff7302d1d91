"""Folders: parts (`train`, `valid`, `test`) as folders or in file names, or one file per sample.

npy files hold one array each, so there they may also be one array per file (`x.npy`, `y.npy`), and
one per array and part (`x_train.npy`, `y_train.npy`, `x_test.npy`, `y_test.npy`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sciml.data.readers.single_files import READERS, open_file
from sciml.data.sources.array_groups import PARTS, joined_parts, rows_in, without_part
from sciml.data.sources.generic import assemble
from sciml.data.sources.source import Array, Source, joined, whole
from sciml.errors import InvalidArgument

POINTS = ("vertices", "points", "pos", "coords", "coordinates", "x", "input_geom")
LOOK = 50  # files looked at for samples of different sizes


def read(path: Path, names: Collection[str] = ()) -> Source:
    """Return the samples of all files of a folder.

    Files of parts are joined along their samples. Other files are one sample each, in the order of
    the numbers in their names.

    Args:
        path: The folder.
        names: Arrays that are looked for: an npy file called like one of them is that array.

    Raises:
        InvalidArgument: If there are no files, or files of several formats, or they do not fit.
    """
    root = path / "data" if (path / "data").is_dir() else path  # The Well
    parts: dict[str, list[Path]] = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        if folder.name.lower() in PARTS:
            parts[PARTS[folder.name.lower()]] = _files(folder, READERS)
    loose = _files(root, READERS)
    named = {} if parts else _named(loose, names)
    if named:
        return _one_array_each(path, named)
    if not parts:
        for file in loose:
            part = without_part(file.stem)[0]
            if part:
                parts.setdefault(part, []).append(file)
        first = [re.split(r"[_\-.]", file.stem.lower())[0] in PARTS for file in loose]
        if len(parts) == 1 and not all(first):
            parts = {}  # one part alone is a word of the names, unless they begin with it
    parts = {name: parts[name] for name in ("train", "val", "test") if parts.get(name)}
    if parts:
        sources = {name: [open_file(f) for f in files] for name, files in parts.items()}
        source = joined_parts(path, sources)
        files = [f for held in parts.values() for f in held]
        source.format = f"folder of {len(files)} files, {source.format}"
        beside = [f.name for f in loose if f not in files]
        if beside:
            source.notes.append(
                f"{', '.join(beside[:3])}{', …' if len(beside) > 3 else ''} "
                f"{'is' if len(beside) == 1 else 'are'} of no part (train, valid, test) and "
                f"left out"
            )
        return source
    if not loose:
        raise InvalidArgument(
            f"{path} holds no file that is read here",
            f"files ending in {', '.join(READERS)}, or folders train, valid and test of them",
        )
    kinds = {f.suffix.lower() for f in loose}
    if len(kinds) > 1:
        raise InvalidArgument(
            f"{path} holds files ending in {' and '.join(sorted(kinds))}",
            "files of one format",
            "Type data.path with one file, or move the others away",
        )
    return _one_each(path, loose)


def _are_clouds(first: Source, files: list[Path]) -> bool:
    """Return whether files hold points `(P, d)`, d at most 3, not as many in all of them."""
    where = next((n for n in POINTS if n in first.arrays), None)
    if where is None or len(first.arrays) < 2:
        return False
    shape = first.arrays[where].shape
    if len(shape) != 2 or not 1 <= shape[1] <= 3:
        return False
    for file in files[1:LOOK]:
        array = open_file(file).arrays.get(where)
        if array is None or len(array.shape) != 2 or array.shape[1] != shape[1]:
            return False
        if array.shape != shape:
            return True
    return False


def _numbers_and_arrays(source: Source) -> dict[str, np.ndarray]:
    numbers = {n: np.asarray(v) for n, v in source.attributes.items() if isinstance(v, float)}
    return numbers | {n: array.rows(slice(None)) for n, array in source.arrays.items()}


def _named(files: list[Path], known: Collection[str]) -> dict[str, dict[str, Path]]:
    """Return npy files by part ("" without one) and name of their array.

    Empty where they are something else: samples, whose names are numbered; parts of one array that
    is not known; or the same array in some parts only.
    """
    found: dict[str, dict[str, Path]] = {}
    for file in files:
        words = re.split(r"[_\-.]", file.stem)
        part = next((PARTS[w.lower()] for w in words if w.lower() in PARTS), "")
        name = "_".join(w for w in words if w.lower() not in PARTS)
        if file.stem in known:
            part, name = "", file.stem
        numbered = re.search(r"\d{2,}|^\d|_\d", name) and name not in known
        if file.suffix.lower() != ".npy" or not name or numbered:
            return {}
        found.setdefault(part, {})[name] = file
    names = {frozenset(held) for held in found.values()}
    if "" in found and len(found) > 1:
        return {}
    first = next(iter(names), frozenset())
    return found if len(names) == 1 and (len(first) > 1 or first & set(known)) else {}


def _one_array_each(path: Path, named: dict[str, dict[str, Path]]) -> Source:
    """Return arrays that are a file each as one source."""
    order = [part for part in ("train", "val", "test", "") if part in named]
    every = []
    for part in order:
        held = {n: next(iter(open_file(f).arrays.values())) for n, f in named[part].items()}
        arrays = {n: replace(a, name=n) for n, a in held.items()}
        source = assemble(path, "folder, one numpy array per file", arrays)
        every.append(replace(source, path=next(iter(named[part].values()))))
    source = replace(every[0], path=path)
    if len(order) > 1:
        counts = [rows_in(s) for s in every]
        ends = np.cumsum(counts)
        source = replace(source, arrays=joined(path, every))
        source.parts = {
            part: np.arange(end - n, end) for part, n, end in zip(order, counts, ends, strict=True)
        }
    return source


def _files(folder: Path, readers: Any) -> list[Path]:
    def number(file: Path) -> tuple:
        return [int(w) if w.isdigit() else w for w in re.split(r"(\d+)", file.name)]

    found = [f for f in folder.iterdir() if f.suffix.lower() in readers]
    return sorted((f for f in found if not f.name.startswith(".")), key=number)


def _one_each(path: Path, files: list[Path]) -> Source:
    """Return files that hold one sample each as one source."""
    first = open_file(files[0])
    if first.clouds is None and _are_clouds(first, files):
        clouds = [_numbers_and_arrays(open_file(f)) for f in files]
        arrays = {name: whole(name, value, sampled=False) for name, value in clouds[0].items()}
        notes = [f"every one of {len(files)} files is one sample of points"]
        kind = f"folder of samples of points, {first.format}"
        return Source(path, kind, arrays, notes=notes, clouds=clouds)
    if first.counted:  # a dimension of each file counts samples
        every = [first, *(open_file(f) for f in files[1:])]
        said = f"{len(files)} files, one behind the other along their samples"
        source = replace(first, path=path, arrays=joined(path, every), certain=True, filed={})
        return replace(source, notes=[*first.notes, said], format=f"folder, {first.format}")
    single = files[0].suffix.lower() == ".npy"  # its one array is called like its file
    held = {**first.arrays, **first.filed}
    arrays = {("values" if single else n): _stacked(path, files, n, a) for n, a in held.items()}
    varying = _numbers_that_differ(path, files, first)
    arrays |= varying
    rest = {n: v for n, v in first.attributes.items() if n not in arrays}
    notes = [f"every one of {len(files)} files is one sample"]
    found = replace(first, path=path, arrays=arrays, attributes=rest, notes=notes, certain=True)
    if len(held) == 1 and len(next(iter(held.values())).shape) > 1 and varying:
        found.inputs = found.outputs = tuple(n for n in arrays if n not in varying)  # no map of nu
    return replace(found, one_each=True, filed={}, format=f"folder, {first.format}")


def _stacked(path: Path, files: list[Path], name: str, array: Array) -> Array:
    """Return an array of every file as the rows of one."""
    single = files[0].suffix.lower() == ".npy"
    title = "values" if single else name

    def read(index: Any) -> np.ndarray:
        found = []
        for k in np.arange(len(files))[index]:
            source = open_file(files[k])
            held = {**source.arrays, **source.filed}
            one = next(iter(held.values())) if single else held.get(name)
            if one is None or one.shape != array.shape:
                has = f"{name} {one.shape}" if one is not None else f"no {name}"
                raise InvalidArgument(
                    f"{files[k]} (file {k}) has {has}, and {files[0].name} has {array.shape}",
                    "one sample per file, all of one shape",
                    f"Take {files[k].name} out of {path}",
                )
            found.append(one.rows(slice(None)))
        return np.stack(found) if found else np.zeros((0, *array.shape), array.dtype)

    shape = (len(files), *array.shape)
    return Array(title, shape, array.dtype, read, array.axes, array.unit, array.names)


def _numbers_that_differ(path: Path, files: list[Path], first: Source) -> dict[str, Array]:
    """Return single numbers that are not the same in all files, one per file.

    Raises:
        InvalidArgument: If a file lacks one that the first has.
    """
    names = [n for n, v in first.attributes.items() if isinstance(v, float)]
    every = [open_file(f).attributes for f in files] if names else []
    found = {}
    for name in names:
        for k, held in enumerate(every):
            if not isinstance(held.get(name), float):
                raise InvalidArgument(
                    f"{files[k]} (file {k}) has no number {name}, and {files[0].name} has one",
                    "the same numbers in every file",
                    f"Take {files[k].name} out of {path}",
                )
        values = np.asarray([held[name] for held in every], np.float64)
        if not np.array_equal(values, np.full(len(values), values[0]), equal_nan=True):
            found[name] = whole(name, values)
    return found
