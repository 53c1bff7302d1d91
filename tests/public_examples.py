"""Public functions and classes of the package, and how their own examples call them."""

import contextlib
import doctest
import importlib
import inspect
import io
from pathlib import Path

import pytest

import sciml
from sciml.errors import MissingPackage

PACKAGE = Path(sciml.__file__).parent
PROMPT = ">>> "


def module_of(file):
    """Return the module in a file of the package."""
    parts = [p for p in Path(file).with_suffix("").parts if p != "__init__"]
    return importlib.import_module(".".join(["sciml", *parts]))


def faces():
    """Return the files of the rooms that list public names."""
    files = (file for file in PACKAGE.rglob("__init__.py") if "__all__" in file.read_text("utf-8"))
    return sorted(file.relative_to(PACKAGE).as_posix() for file in files)


def public_functions():
    """Return those of the faces, and of two files that are addressed by themselves, by name."""
    found = {}
    for file in [*faces(), "pinn.py", "physics/samplers.py"]:
        room = module_of(file)
        for name in getattr(room, "__all__", None) or vars(room):
            made = getattr(room, name)
            owner = "sciml" if hasattr(room, "__all__") else room.__name__
            ours = inspect.isfunction(made) and made.__module__.startswith(owner)
            if ours and not name.startswith("_"):
                found[f"{made.__module__}.{name}"] = made
    return found


def run_example(made):
    """Run the example of a docstring, and skip the test where its package is not installed."""
    source = "".join(e.source for e in doctest.DocTestParser().get_examples(made.__doc__))
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(compile(source, "<example>", "exec"), {"__name__": "__main__"})
        except MissingPackage as error:
            pytest.skip(str(error))
