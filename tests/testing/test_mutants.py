"""Small wrong changes: each is made, applies once, and leaves alone what only speaks."""

import ast
import subprocess
import sys

import pytest

from sciml.testing import mutants
from sciml.testing.mutations import changes

SOURCE = '''"""Sums - and means."""
LIMIT = 1e-8


def loss(x, mask, state):
    """Return a + b."""
    if x.size < 0:
        raise ValueError(f"{x - 1} < 0")
    total = 0.5 * (x - 1.0).square().mean(dim=-1)
    total += 1e-6
    state["last"] = total.detach()
    return where(mask & ~(total > 2), -total, total)
'''
WANTED = {
    ("operator", "*", "/"),
    ("operator", "-", "+"),
    ("factor", "0.5", "1.0"),
    ("reduction", "mean", "sum"),
    ("axis", "-1", "0"),
    ("tolerance", "1e-6", "0.001"),
    ("stale", ".detach()", ""),
    ("stale", "total += 1e-6", "pass"),
    ("mask", "&", "|"),
    ("mask", "~(", "("),
    ("sign", "-", "+"),
    ("bound", "<", "<="),
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "loss.py"
    path.write_text(SOURCE)
    return path


def test_changes_are_of_every_kind_and_leave_texts_alone(file):
    found = changes(file)
    assert {(c.kind, c.old, c.new) for c in found} >= WANTED
    assert not {c.line for c in found} & {1, 2, 6, 8}  # documentation, module, messages
    for change in found:
        new = change.apply(SOURCE.encode()).decode()
        ast.parse(new)
        old, lines = SOURCE.splitlines(), new.splitlines()
        differ = [i for i, pair in enumerate(zip(old, lines, strict=True), 1) if len({*pair}) > 1]
        assert differ == [change.line]
    with pytest.raises(ValueError, match="does not hold"):
        found[0].apply(b" " + SOURCE.encode())


def test_what_nobody_could_assert_is_left_alone(tmp_path):
    """Letters of pictures, stack levels and floors stay; what is drawn and compared does not."""
    path = tmp_path / "drawn.py"
    path.write_text(
        "def draw(axis, x, y):\n"
        "    axis.plot(2 * x, y, linewidth=2.0, fontsize=3)\n"
        "    warn(text, stacklevel=3)\n"
        "    return y / x.clamp_min(1e-300) > 1e-9\n"
    )
    found = {(c.line, c.old) for c in changes(path)}
    assert found == {(2, "2"), (2, "*"), (4, "/"), (4, "1e-9"), (4, ">")}


def test_draws_are_repeatable_and_mix_kinds():
    first, again = (mutants.drawn("solvers", 18, seed) for seed in (0, 0))
    assert first == again != mutants.drawn("solvers", 18, 1)
    assert len({change.kind for change in first}) == 9


def test_tests_that_name_what_is_changed_come_first():
    path = mutants.ROOT / "sciml" / "solvers" / "bookkeeping.py"
    change = next(c for c in changes(path) if c.line > 100)
    found = mutants.chosen(change)
    assert found and all(place.startswith("tests/solvers/") for place in found)


def test_they_run_in_that_order(tmp_path):
    """pytest merges a test with its file, and would run the file from its top."""
    file = tmp_path / "test_some.py"
    file.write_text("".join(f"def test_{k}():\n    assert False\n\n\n" for k in "abc"))
    other = tmp_path / "test_other.py"
    other.write_text("def test_d():\n    pass\n")
    report = tmp_path / "report.txt"
    order = ["test_other.py", "test_some.py::test_b", "test_some.py"]
    script = (
        "from sciml.testing.mutants import _First, _pytest; from pathlib import Path; "
        f"order = {order!r}; _pytest(['-x', *order], _First(Path('report.txt'), 60.0, order))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert report.read_text() == "test_some.py::test_b", done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_tables_count_by_room():
    rows = [{"room": "optim", "caught": "t"}, {"room": "optim", "caught": None}]
    assert "| optim | 2 | 1 | 1 |" in mutants.table(rows)
