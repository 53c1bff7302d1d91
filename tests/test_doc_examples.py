"""Every public class and function shows how it is used, and every example runs as it stands.

Examples run in an empty namespace, so that what one copies from the docs runs too: they import
what they need. A test is the examples of one file, and its message names the object.
"""

import ast
import doctest
import inspect

import numpy as np
import pytest
import torch
from public_examples import PACKAGE, PROMPT, faces, module_of, public_functions

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# Files whose examples need a package that only an extra brings, see pyproject.toml.
EXTRAS = {
    "data/image/images.py": "sklearn",  # source="digits"
    "modules/deq.py": "sklearn",
    "modules/homoode.py": "sklearn",
    "physics/geometry/mesh.py": "trimesh",
    "physics/solids/mesh_files.py": "meshio",
    "solvers/linear/algebraic.py": "pyamg",
}

# Public classes without an example, and why.
EXCEPT: dict[str, str] = {}


def files_with_examples():
    """Return their paths within the package."""
    files = (file for file in PACKAGE.rglob("*.py") if PROMPT in file.read_text("utf-8"))
    return sorted(file.relative_to(PACKAGE).as_posix() for file in files)


def written_in(file):
    """Return how many prompts stand in the docstrings of a file."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = ast.walk(ast.parse((PACKAGE / file).read_text("utf-8")))
    return sum((ast.get_docstring(n) or "").count(PROMPT) for n in nodes if isinstance(n, kinds))


@pytest.fixture
def aside(tmp_path, monkeypatch):
    """Let examples draw from streams of their own and write, should they, elsewhere."""
    monkeypatch.chdir(tmp_path)
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        yield
    np.random.set_state(state)


@pytest.mark.parametrize("file", files_with_examples())
def test_examples_of_a_file_run(file, aside, tmp_path):
    if file in EXTRAS:
        pytest.importorskip(EXTRAS[file])
    found = doctest.DocTestFinder(exclude_empty=True).find(module_of(file))
    # those of decorated objects are easily overlooked, by this finder too
    assert sum(len(test.examples) for test in found) == written_in(file)
    said = []
    for test in found:
        test.globs = {"__name__": "__main__"}
        doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append)
    assert not said, "".join(said)
    assert not list(tmp_path.iterdir()), "an example leaves files behind"


@pytest.mark.parametrize("face", faces())
def test_every_public_class_has_an_example(face):
    room = module_of(face)
    public = {name: getattr(room, name) for name in room.__all__}
    own = {
        k: v for k, v in public.items() if inspect.isclass(v) and v.__module__.startswith("sciml")
    }
    without = [k for k, v in own.items() if PROMPT not in (v.__doc__ or "")]
    assert sorted(set(without) - set(EXCEPT)) == [], f"in {room.__name__}"


def test_public_functions_have_an_example():
    without = {k for k, f in public_functions().items() if PROMPT not in (f.__doc__ or "")}
    assert sorted(without) == []
