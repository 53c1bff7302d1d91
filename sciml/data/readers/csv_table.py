"""`.csv`: one sample per line; columns `x0, x1, ...` together are the array x.

Columns are parted by commas, semicolons, tabs or blanks, whichever the header has.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sciml.data.sources.generic import assemble
from sciml.data.sources.source import Source, whole
from sciml.errors import InvalidArgument

NUMBERED = re.compile(r"^(.*?)([_.\[ ]?)(\d+)(\]?)$")
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def read(path: Path) -> Source:
    """Return the columns of a table; those with numbered names as one array.

    Raises:
        InvalidArgument: If it is no text, a line has another number of entries, an entry is no
            number, or columns have the same name.
    """
    text, notes = _text(path)
    header, lines = _cells(path, text)
    columns = _columns(path, header)
    table = _table(path, header, lines)
    arrays = {}
    for name, places in columns.items():
        if not name:
            notes.append("the column without a name is left out")
            continue
        values = table[:, list(places.values())]
        arrays[name] = whole(name, values[:, 0] if len(places) == 1 else values)
        said = _gaps(name, list(places), [header[k] for k in places.values()])
        notes += [said] if said else []
    source = assemble(path, "table", arrays)
    source.notes += notes
    return source


def _text(path: Path) -> tuple[str, list[str]]:
    """Return the text of a file, and a note where it is not UTF-8.

    Raises:
        InvalidArgument: If it is no text.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode(MARKS.get(raw[:2], MARKS.get(raw[:3], "utf-8")))
        notes = []
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
        notes = [f"{path.name} is no UTF-8: its names are read as Latin-1"]
    if "\0" in text:
        raise InvalidArgument(
            f"{path}, which holds bytes that are no text", "a table: a header line and numbers",
            "Give the file the ending of its format",
        )  # fmt: skip
    return text, notes


def _cells(path: Path, text: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the header and the entries of all further lines.

    Raises:
        InvalidArgument: If there is no header.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InvalidArgument(f"{path} is empty", "a header line and one line per sample")
    mark = max(",;\t", key=lines[0].count)
    if mark in lines[0]:
        try:
            rows = list(csv.reader(lines, delimiter=mark))
        except csv.Error as error:
            raise InvalidArgument(
                f"{path} cannot be read ({error})", "a header line and one line per sample"
            ) from error
    else:
        rows = [line.split() for line in lines]
    header = [name.strip() for name in rows[0]]
    if any(_number(name) is not None for name in header):
        raise InvalidArgument(
            f"{path} begins with numbers",
            "a header line of names, as x0,x1,x2,y0,y1,y2",
        )
    if mark == ";":  # beside which numbers have commas, in half of Europe
        rows = [[entry.replace(",", ".") for entry in row] for row in rows]
    return header, rows[1:]


def _table(path: Path, header: Sequence[str], lines: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the numbers `(lines, columns)`.

    Raises:
        InvalidArgument: With the line that has others.
    """
    table = np.empty((len(lines), len(header)))
    for line, row in enumerate(lines, 2):
        if len(row) != len(header):
            raise InvalidArgument(
                f"{path}, line {line}, has {len(row)} entries", f"{len(header)}, as the header"
            )
        for k, text in enumerate(row):
            value = _number(text)
            if value is None:
                comma = "Write a point in place of the comma" if "," in text else ""
                raise InvalidArgument(
                    f"{path}, line {line}, column {header[k][:40]}: {text[:40]!r}",
                    "a number",
                    comma,
                )
            table[line - 2, k] = value
    return table


def _columns(path: Path, header: Sequence[str]) -> dict[str, dict[int, int]]:
    """Return the columns of every array: by its name, by number, in the order of numbers.

    Raises:
        InvalidArgument: If columns have one name, or two ways of numbering meet in one array.
    """
    groups: dict[str, dict[int, int]] = {}
    forms: dict[str, tuple[tuple[str, ...], str]] = {}
    for k, name in enumerate(header):
        found = NUMBERED.match(name)
        numbered = found is not None and bool(found[1])
        key, place = (found[1], int(found[3])) if found and numbered else (name, 0)
        form = (found[2], found[4]) if found and numbered else ("no number",)
        before = forms.setdefault(key, (form, name))
        held = groups.setdefault(key, {})
        if before[0] != form or place in held:
            other = before[1] if before[0] != form else header[held[place]]
            raise InvalidArgument(
                f"{path} with the columns {other!r} and {name!r}, both of the array {key}",
                "every column once, those of one array numbered in one way",
                "Rename or remove one of them in the header line",
            )
        held[place] = k
    return {key: dict(sorted(held.items())) for key, held in groups.items()}


def _gaps(name: str, places: Sequence[int], titles: Sequence[str]) -> str:
    """Return a sentence where numbers of columns do not run on from 0 or 1, empty elsewhere."""
    if len(places) < 2:
        return ""
    lacking = [k for k in range(places[0], places[-1]) if k not in places]
    if not lacking and places[0] < 2:
        return ""
    has = f"its columns are {titles[0]} to {titles[-1]}"
    without = f", without number {lacking[0]}" if lacking else ""
    return f"{name}: {has}{without}; they are read as {len(places)} neighbours"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
