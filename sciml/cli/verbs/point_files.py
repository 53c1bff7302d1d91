"""Files of points and arrays that a model is evaluated on, and files of what it says."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sciml.errors import InvalidArgument

# What readers of files raise on files that they cannot read.
UNREADABLE = (ValueError, EOFError, OSError, csv.Error, MemoryError)
LARGEST_FILE, EXPANSION = 2**31, 100  # bytes an archive may expand to, or times its own size


def read_points(path: Path, timed: bool, dim: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return x `(N, d)` and t `(N, 1)`, `(1,)` or None from a file.

    Args:
        path: .npz or .csv.
        timed: Whether the model wants a time.
        dim: Its number of space dimensions.

    Raises:
        InvalidArgument: If the file cannot be read or lacks an array.
    """
    if path.suffix not in (".npz", ".csv"):
        raise InvalidArgument(f"input {path}", "a file name ending in .npz or .csv")
    if not path.is_file():
        raise InvalidArgument(f"there is no file {path}", "points as .npz or .csv")
    try:
        arrays = read_arrays(path) if path.suffix == ".npz" else _read_csv(path, timed, dim)
    except UNREADABLE as error:
        raise InvalidArgument(f"{path} cannot be read ({error})", "numbers only") from error
    if "x" not in arrays:
        raise InvalidArgument(
            f"{path} holds {', '.join(arrays) or 'nothing'}",
            f"an array x of shape (N, {dim})"
            + (" and an array t of shape (N, 1)" if timed else ""),
            "Write it with numpy.savez(path, x=x" + (", t=t)" if timed else ")"),
        )
    unknown = sorted(set(arrays) - {"x", "t"})
    if unknown:
        raise InvalidArgument(f"{path} holds {', '.join(unknown)} as well", "x and t only")
    t = arrays.get("t")
    return torch.from_numpy(arrays["x"]), None if t is None else torch.from_numpy(np.atleast_1d(t))


def read_arrays(path: Path, whole: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return the arrays of a file, float64 except those named in `whole`."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > max(LARGEST_FILE, EXPANSION * path.stat().st_size):
            raise ValueError(f"it expands to {size / 2**30:.0f} GiB")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError("not an .npz archive") from error
    except Exception as error:  # zipfile raises its own families for damaged archives
        raise ValueError(str(error)[:200] or type(error).__name__) from error
    for name, value in arrays.items():
        if not isinstance(value, np.ndarray):  # a member that is no array comes as bytes
            raise ValueError(f"its part {name[:40]!r} is no array")
        if value.dtype.kind not in "fiu":
            raise ValueError(f"array {name} has dtype {value.dtype}")
    # float64 and native byte order: files come from anywhere
    kinds = {name: None if name in whole else np.float64 for name in arrays}
    return {name: np.ascontiguousarray(arrays[name], dtype=kinds[name]) for name in arrays}


def _read_csv(path: Path, timed: bool, dim: int) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise ValueError("it is empty")
    header = None if _is_number(rows[0][0]) else [name.strip() for name in rows.pop(0)]
    width = len(header or rows[0]) if header or rows else 0
    for line, row in enumerate(rows, start=1 + bool(header)):
        if len(row) != width:
            raise ValueError(f"line {line} has {len(row)} columns, the first has {width}")
    table = np.array([[float(v) for v in row] for row in rows], dtype=np.float64)
    table = table.reshape(len(rows), width)
    if header is None:
        column = dim if timed and width == dim + 1 else None
    else:
        column = header.index("t") if "t" in header else None
    if column is None:
        return {"x": table}
    return {"x": np.delete(table, column, axis=1), "t": table[:, column : column + 1]}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_fields(path: Path, fields: dict[str, np.ndarray]) -> None:
    """Write arrays as .npz, or as .csv with columns value, du_dx1, …, as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        if path.suffix == ".npz":
            np.savez(temporary, **fields)
        else:
            columns = np.column_stack(list(fields.values()))
            names = []
            for name, field in fields.items():
                slopes = [f"du_dx{j + 1}" for j in range(field.shape[-1])]
                names += slopes if name == "gradient" else [name]
            digits = 9 if fields["value"].dtype == np.float32 else 17
            np.savetxt(
                temporary,
                columns,
                fmt=f"%.{digits}g",
                delimiter=",",
                header=",".join(names),
                comments="",
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
