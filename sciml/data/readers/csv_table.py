"""`.csv`: one sample per line; columns `x0, x1, ...` together are the array x."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np

from sciml.data.sources.generic import assemble
from sciml.data.sources.source import Source, whole
from sciml.errors import InvalidArgument

TAB = "\t"
MARKS = (",", ";", TAB)
NUMBERED = re.compile(r"^(.*?)[_.\[ ]?(\d+)\]?$")


def read(path: Path) -> Source:
    """Return the columns of a table; those with numbered names as one array.

    Raises:
        InvalidArgument: If a line has another number of entries, or an entry is no number.
    """
    text, notes = _text(path)
    mark = max(MARKS, key=text.partition("\n")[0].count)
    notes += [f"entries are parted by {'tabs' if mark == TAB else mark}"] if mark != "," else []
    rows = [row for row in csv.reader(text.splitlines(), delimiter=mark) if row]
    if not rows:
        raise InvalidArgument(f"{path} is empty", "a header line and one line per sample")
    header = [name.strip() for name in rows[0]]
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise InvalidArgument(
            f"{path} with {twice[0] or 'no name'} twice in its header", "one name per column"
        )
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
        for k, entry in enumerate(row):
            value = _number(entry.replace(",", ".") if mark == ";" else entry)
            if value is None:
                raise InvalidArgument(
                    f"{path}, line {line}, column {header[k][:40]}: {entry[:40]!r}", "a number"
                )
            table[line - 2, k] = value
    arrays = {}
    for name, columns in _groups(path, header, notes).items():
        values = table[:, columns]
        arrays[name] = whole(name, values[:, 0] if len(columns) == 1 else values)
    source = assemble(path, "table", arrays)
    source.notes += notes
    return source


def _text(path: Path) -> tuple[str, list[str]]:
    """Return a file as text, and a note where it is no UTF-8.

    Raises:
        InvalidArgument: If it is none at all.
    """
    held = path.read_bytes()
    if b"\0" in held[:4096]:
        raise InvalidArgument(
            f"{path}, which holds no text", "a table as text in UTF-8", "Save it as CSV UTF-8"
        )
    try:
        return held.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return held.decode("latin-1"), ["the text is no UTF-8 and is read as Latin-1"]


def _groups(path: Path, header: list[str], notes: list[str]) -> dict[str, list[int]]:
    """Return the columns of every array, in the order of their numbers.

    Raises:
        InvalidArgument: If two columns have one number, as x_0 and x0 have.
    """
    found: dict[str, dict[int, int]] = {}
    for k, name in enumerate(header):
        if not name:
            notes.append(f"column {k + 1} has no name and is left out")
            continue
        match = NUMBERED.match(name)
        key, place = (match[1], int(match[2])) if match and match[1] else (name, -1)
        held = found.setdefault(key, {})
        if place in held:
            raise InvalidArgument(
                f"{path} with the columns {header[held[place]]} and {name}",
                "one name for the columns of an array, as x0, x1, x2",
            )
        held[place] = k
    for key, held in found.items():
        numbers = sorted(held)
        if len(held) > 1 and (numbers[0] > 1 or numbers[-1] - numbers[0] + 1 != len(numbers)):
            notes.append(
                f"{key} has {len(held)} columns, numbers {numbers[0]} to {numbers[-1]}: some are "
                "missing, and the others are put side by side"
            )
    return {key: [held[n] for n in sorted(held)] for key, held in found.items()}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
