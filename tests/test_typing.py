"""The public faces have types: a user's program that uses them all is checked strictly.

By hand: `python -m mypy`, whose settings stand in pyproject.toml.
"""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "typed_user.py"
FACES = ("autodiff", "data", "networks", "optim", "physics", "pinn", "pretrained", "simulate")
FACES = {"sciml", *(f"sciml.{room}" for room in (*FACES, "callbacks", "modules", "solvers"))}


def checked(program: Path, folder: Path) -> subprocess.CompletedProcess:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: pip install -c constraints.txt -e '.[dev]'")
    words = [
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(folder),
    ]
    return subprocess.run(
        [sys.executable, *words, str(program)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_program_uses_every_face():
    tree = ast.walk(ast.parse(PROGRAM.read_text("utf-8")))
    named = set()
    for node in tree:
        if isinstance(node, ast.ImportFrom):
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
    assert named >= FACES


@pytest.mark.slow
def test_a_users_program_has_types(tmp_path):
    done = checked(PROGRAM, tmp_path / "cache")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_mistakes_of_a_user_are_found(tmp_path):
    program = tmp_path / "mistaken.py"
    program.write_text(
        "import sciml\n"
        "from sciml.solvers import root\n"
        "sciml.load_pretrained(3)\n"
        "root(lambda z: z, 0, on_failure='never').valeu\n"
    )
    done = checked(program, tmp_path / "cache")
    assert done.returncode == 1, done.stdout + done.stderr
    assert sorted(line.rpartition("[")[2] for line in done.stdout.splitlines()[:-1]) == [
        "arg-type]",
        "arg-type]",
        "attr-defined]",
    ], done.stdout
