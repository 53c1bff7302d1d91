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

from sciml.data.readers.generic import assemble
from sciml.data.readers.single_files import READERS, open_file
from sciml.data.readers.source import Array, Source, joined, whole
from sciml.errors import InvalidArgument

PARTS = {"train": "train", "training": "train", "valid": "val", "validation": "val"}
POINTS = ("vertices", "points", "pos", "coords", "coordinates", "x", "input_geom")
LOOK = 50  # files looked at for samples of different sizes
PARTS |= {"val": "val", "test": "test", "testing": "test"}


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
            word = re.split(r"[_\-.]", file.stem.lower())[0]
            if word in PARTS:
                parts.setdefault(PARTS[word], []).append(file)
    parts = {name: parts[name] for name in ("train", "val", "test") if parts.get(name)}
    if parts:
        sources = {name: [open_file(f) for f in files] for name, files in parts.items()}
        every = [s for found in sources.values() for s in found]
        counts = [_count(s) for s in every]
        ends = np.cumsum(counts)
        source = replace(every[0], path=path, arrays=joined(path, every), parts={})
        source.certain = len({*counts}) > 1  # files of one shape but for the first axis
        for name, found in sources.items():
            first = every.index(found[0])
            last = first + len(found) - 1
            source.parts[name] = np.arange(ends[first] - counts[first], ends[last])
        source.format = f"folder of {len(every)} files, {every[0].format}"
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
        counts = [_count(s) for s in every]
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


def _count(source: Source) -> int:
    return next((a.shape[0] for a in source.arrays.values() if a.sampled), 0)


def _one_each(path: Path, files: list[Path]) -> Source:
    """Return files that hold one sample each as one source."""
    first = open_file(files[0])
    if first.clouds is None and _are_clouds(first, files):
        clouds = [_numbers_and_arrays(open_file(f)) for f in files]
        arrays = {name: whole(name, value, sampled=False) for name, value in clouds[0].items()}
        notes = [f"every one of {len(files)} files is one sample of points"]
        kind = f"folder of samples of points, {first.format}"
        return Source(path, kind, arrays, notes=notes, clouds=clouds)
    single = files[0].suffix.lower() == ".npy"  # its one array is called like its file
    arrays = {}
    for name, array in first.arrays.items():

        def read(index: Any, name: str = name, array: Array = array) -> np.ndarray:
            found = []
            for k in np.arange(len(files))[index]:
                held = open_file(files[k]).arrays
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

        title = "values" if single else name
        arrays[title] = Array(title, (len(files), *array.shape), array.dtype, read, unit=array.unit)
    notes = [f"every one of {len(files)} files is one sample"]
    found = replace(first, path=path, arrays=arrays, notes=notes, certain=True)
    return replace(found, one_each=True, format=f"folder, {first.format}")
