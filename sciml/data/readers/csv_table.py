"""`.csv`: one sample per line; columns `x0, x1, ...` together are the array x."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from sciml.data.readers.generic import assemble
from sciml.data.readers.source import Source, whole
from sciml.errors import InvalidArgument

NUMBERED = re.compile(r"^(.*?)[_.\[ ]?(\d+)\]?$")


def read(path: Path) -> Source:
    """Return the columns of a table; those with numbered names as one array.

    Raises:
        InvalidArgument: If a line has another number of entries, or an entry is no number.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise InvalidArgument(f"{path} is empty", "a header line and one line per sample")
    header = [name.strip() for name in rows[0]]
    if any(_number(name) is not None for name in header):
        raise InvalidArgument(
            f"{path} begins with numbers",
            "a header line of names, as x0,x1,x2,y0,y1,y2",
        )
    table = np.empty((len(rows) - 1, len(header)))
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise InvalidArgument(
                f"{path}, line {line}, has {len(row)} entries", f"{len(header)}, as the header"
            )
        for k, text in enumerate(row):
            value = _number(text)
            if value is None:
                raise InvalidArgument(
                    f"{path}, line {line}, column {header[k]}: {text[:40]!r}", "a number"
                )
            table[line - 2, k] = value
    groups: dict[str, list[tuple[int, int]]] = {}
    for k, name in enumerate(header):
        found = NUMBERED.match(name)
        key, place = (found[1] or name, int(found[2])) if found and found[1] else (name, 0)
        groups.setdefault(key, []).append((place, k))
    arrays = {}
    for name, columns in groups.items():
        values = table[:, [k for _, k in sorted(columns)]]
        arrays[name] = whole(name, values[:, 0] if len(columns) == 1 else values)
    return assemble(path, "table", arrays)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
