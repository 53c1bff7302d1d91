"""Changes the code, one small wrong thing at a time, and counts which ones its tests notice.

    python -m sciml.testing.mutants --each 16 --out found.json
    python -m sciml.testing.mutants --rooms optim,solvers --each 4
    python -m sciml.testing.mutants --again found.json --wide --out found.json

Changes are drawn from `sciml.testing.mutations` by a seed, as many for each room, kinds as evenly
as the room has them. Each is made in a temporary copy, never here, and tests of its own room run
there until one fails: first those that name the changed function or class, then the files that name
something of the module. Processes are forked from one that has the libraries loaded. `--again`
repeats those that nothing had noticed; `--wide` asks every test of the room.

What survives has to be read by a person: it changes nothing that anyone could see, or a test is
missing.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import py_compile
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sciml.testing.mutations import KINDS, Change, changes

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("autodiff", "optim", "solvers", "physics", "data", "callbacks", "cli", "pretrained")
ROOMS += ("modules", "networks", "simulate")
PATIENCE = 30  # seconds on the clock for one of a CPU: machines are shared
# What a copy holds.
PARTS = ("sciml", "tests", "configs", "datasets", "examples", "pyproject.toml", "train.py")
PARTS += ("README.md",)
COLLECTED = "collection of "  # before a file that cannot be imported
FILES = 3  # of tests asked about a change, beside the tests that name it
LIBRARIES = ("torch", "lightning.pytorch", "hydra", "torch_geometric", "neuralop", "pytest")
LIBRARIES += ("sklearn.datasets", "scipy.sparse.linalg", "matplotlib.pyplot", "pytorch_optimizer")


def chosen(change: Change, wide: bool = False) -> list[str]:
    """Return the tests asked about a change: addresses, those that name it first, then files.

    Args:
        change: The change.
        wide: Whether all files of the room follow.
    """
    source = change.path.read_text()
    tree = ast.parse(source)
    owner = {n for n, first, last in _defined(tree) if first <= change.line <= last}
    known = {n for n, *_ in _defined(tree)} | {change.path.stem}
    tops = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)} & known
    tops |= {change.path.stem}
    room = change.path.relative_to(ROOT / "sciml").parts[0]
    close, files = [], []
    for file in sorted((ROOT / "tests" / room).rglob("test_*.py")):
        text, place = file.read_text(), file.relative_to(ROOT).as_posix()
        words = set(re.findall(r"\w+", text))
        hits = [sum(text.count(name) for name in names) for names in (owner, tops)]
        if owner & words:
            close += [(-n, f"{place}::{name}") for name, n in _tests_that_name(text, owner)]
        if known & words:
            files.append((-hits[0], -hits[1], place))
    ordered = [place for *_, place in sorted(files)]
    if wide:
        rest = sorted((ROOT / "tests" / room).rglob("test_*.py"))
        ordered += [f.relative_to(ROOT).as_posix() for f in rest]
    # a test that names class and method before those that name the class alone
    named = [address for _, address in sorted(close, key=lambda pair: pair[0])]
    return list(dict.fromkeys([*named, *(ordered if wide else ordered[:FILES])]))


def _defined(tree: ast.Module) -> list[tuple[str, int, int]]:
    """Return names that a module defines at its top, and methods, with their lines."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    tops = [n for n in tree.body if isinstance(n, kinds)]
    inner = [m for n in tops if isinstance(n, ast.ClassDef) for m in n.body if isinstance(m, kinds)]
    rows = [(n.name, n.lineno, n.end_lineno or n.lineno) for n in [*tops, *inner]]
    return [row for row in rows if not row[0].startswith("_")]


def _tests_that_name(text: str, names: set[str]) -> list[tuple[str, int]]:
    """Return the test functions of a file in whose text names stand, and how many do."""
    lines = text.splitlines()
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            body = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            if number := len(names & set(re.findall(r"\w+", body))):
                found.append((node.name, number))
    return found


def drawn(room: str, count: int, seed: int) -> list[Change]:
    """Return so many changes of a room, one kind after the other."""
    draw = random.Random(f"{seed} {room}")
    by: dict[str, list[Change]] = defaultdict(list)
    for file in sorted((ROOT / "sciml" / room).rglob("*.py")):
        for change in changes(file) if file.name != "__init__.py" else ():
            if change.function:
                by[change.kind].append(change)
    for kind in KINDS:
        draw.shuffle(by[kind])
    found: list[Change] = []
    while len(found) < count and any(by.values()):
        for kind in KINDS:
            if by[kind] and len(found) < count:
                found.append(by[kind].pop())
    return found


class Copy:
    """A copy of the house in which changes are made, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=skip)
            elif source.exists():
                shutil.copy(source, folder / part)
        command = [sys.executable, "-m", "compileall", "-q", "sciml"]
        subprocess.run(command, cwd=folder, check=True)

    def fails(self, change: Change | None, tests: Sequence[str], seconds: float) -> str | None:
        """Return what notices a change: a test, or "hangs"; None if nothing does."""
        if change is None:
            return self._run(tests, seconds)
        file = self.folder / change.path.relative_to(ROOT)
        before = file.read_bytes()
        try:
            file.write_bytes(change.apply(before))
            py_compile.compile(str(file), doraise=True)
            return self._run(tests, seconds)
        finally:
            file.write_bytes(before)
            py_compile.compile(str(file), doraise=True)

    def _run(self, tests: Sequence[str], seconds: float) -> str | None:
        report = self.folder / "report.txt"
        report.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            self._child(tests, seconds, report)
        end = time.monotonic() + PATIENCE * seconds
        done = 0
        while not done and time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):  # tests that ended early leave ranks behind
            os.killpg(child, signal.SIGKILL)
        if not done:
            _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) in (0, 5):  # 5: all of them are slow
            return None
        said = report.read_text().strip() if report.exists() else ""
        if said:
            return said
        return "hangs" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"

    def _child(self, tests: Sequence[str], seconds: float, report: Path) -> None:
        """Run tests here and end: 0 if all pass."""
        code = 3
        try:
            os.setpgid(0, 0)
            most = int(4 * seconds)
            resource.setrlimit(resource.RLIMIT_CPU, (most, most))
            nothing = os.open(self.folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(nothing, stream)
            os.chdir(self.folder)
            sys.path.insert(0, str(self.folder))
            os.environ["PYTHONPATH"] = str(self.folder)
            sys.dont_write_bytecode = True
            for name in [n for n in sys.modules if n.partition(".")[0] == "sciml"]:
                del sys.modules[name]  # ours, of the checkout
            watcher = _First(report, seconds, tests)
            code = int(_pytest(["-x", "-q", "-p", "no:cacheprovider", *tests], watcher))
        finally:
            os._exit(code)


class _First:
    """A pytest plugin that writes down the first test that fails, and ends when time is over.

    Tests run in the order of the addresses: pytest itself would merge a test with its file.
    """

    def __init__(self, report: Path, seconds: float, order: Sequence[str]) -> None:
        self.report, self.end = report, time.process_time() + seconds
        self.order = {address: place for place, address in enumerate(order)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        last = len(self.order)

        def place(item: Any) -> int:
            name = item.nodeid.partition("[")[0]
            names = (item.nodeid, name, name.partition("::")[0])
            return min(self.order.get(n, last) for n in names)

        items.sort(key=place)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.report.exists():
            self.report.write_text(report.nodeid)
        elif report.when == "teardown" and time.process_time() > self.end:
            os._exit(0)  # nothing noticed so far

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.report.exists():
            self.report.write_text(COLLECTED + report.nodeid)


def _pytest(words: Sequence[str], plugin: Any) -> int:
    import pytest

    return int(pytest.main([*words, "-n", "0"], plugins=[plugin]))


def tried(asked: Sequence[Change], seconds: float, wide: bool = False) -> Iterator[dict]:
    """Make changes one after the other and yield what noticed each of them."""
    for library in LIBRARIES:
        __import__(library)
    sound: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        for change in asked:
            own = chosen(change, wide)
            by = copy.fails(change, own, seconds) if own else None
            while by is not None and (test := by.removeprefix(COLLECTED)).startswith("tests/"):
                if test not in sound:
                    sound[test] = copy.fails(None, [test], seconds) is None
                without = f"--deselect={test}"
                if sound[test] or without in own:
                    break
                # what fails without a change notices nothing
                if by == test:
                    own.append(without)
                else:
                    own = [place for place in own if place.partition("::")[0] != test]
                by = copy.fails(change, own, seconds) if own else None
            place = change.path.relative_to(ROOT / "sciml").as_posix()
            row = {"room": place.partition("/")[0], "place": f"{place}:{change.line}"}
            row |= {"kind": change.kind, "old": change.old, "new": change.new}
            row |= {"start": change.start, "function": change.function}
            yield row | {"asked": len(own), "caught": by}


def table(rows: Sequence[dict]) -> str:
    """Return the counts by room as a table."""
    lines = ["| Room | Changes | Caught | Survived |", "|---|---|---|---|"]
    for room in [*dict.fromkeys(row["room"] for row in rows), None]:
        own = [row for row in rows if room in (None, row["room"])]
        caught = sum(row["caught"] is not None for row in own)
        lines.append(f"| {room or 'all'} | {len(own)} | {caught} | {len(own) - caught} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Make changes and print what noticed them."""
    parser = argparse.ArgumentParser(prog="python -m sciml.testing.mutants")
    parser.add_argument("--out", type=Path, help="where results go, JSON")
    parser.add_argument("--each", type=int, default=16, help="changes per room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", default=",".join(ROOMS), help="rooms, joined by commas")
    parser.add_argument("--seconds", type=float, default=60.0, help="of tests per change, on a CPU")
    parser.add_argument("--again", type=Path, help="results whose survivors are tried again")
    parser.add_argument("--wide", action="store_true", help="ask every test of the room")
    given = parser.parse_args(words)
    names = given.rooms.split(",")
    before = json.loads(given.again.read_text()) if given.again else []
    if before:
        left = [r for r in before if r["caught"] is None and r["room"] in names]
        asked = [_change(row) for row in left]
    else:
        asked = [c for room in names for c in drawn(room, given.each, given.seed)]
    rows = {(r["place"], r["start"], r["new"]): r for r in before}
    for row in tried(asked, given.seconds, given.wide):
        rows[row["place"], row["start"], row["new"]] = row
        print(row["place"], row["kind"], repr(row["old"]), "->", repr(row["new"]), row["caught"])
        sys.stdout.flush()
        if given.out:
            given.out.write_text(json.dumps(list(rows.values()), indent=1))
    print(table(list(rows.values())))
    return 0


def _change(row: dict) -> Change:
    """Return the change that a row of results tells of."""
    place, _, line = row["place"].rpartition(":")
    words = (row["kind"], row["old"], row["new"], row["start"])
    return Change(ROOT / "sciml" / place, int(line), row["function"], *words)


if __name__ == "__main__":
    sys.exit(main())
