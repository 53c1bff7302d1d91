"""Public classes refuse settings of another kind than they are written for, each in turn.

The arguments that work are those of the class's own example. Results and states, which solvers and
simulations make, are not looked at.
"""

import contextlib
import doctest
import functools
import importlib
import inspect
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sciml
from sciml.errors import MissingPackage, SciMLError
from sciml.typed_arguments import written_kind

PACKAGE = Path(sciml.__file__).parent
WRONG = {
    "text": "ab",
    "None": None,
    "nan": float("nan"),
    "half": 0.5,
    "beyond 64 bits": 10**30,
    "nested list": [["a"]],
    "table": {},
    "array": np.ones((2, 3)),
    "object": object(),
}

# What the package makes and users read.
MADE = {
    "Boundary", "Constrained", "Coordinates", "Estimate", "ExpertPoints", "Fields", "FlowState",
    "Graph", "Jet", "MacroSolution", "MacroState", "Operator", "Outcome", "PODBasis", "PointSet",
    "Points", "PressureSystem", "Projection", "RVESolution", "Rows", "Snapshots", "Solution",
    "Trajectories", "DenseDirections", "SparseDirections", "Objective", "LossTerm", "PointSampler",
    "LearnedPreconditioner", "Shape",
}  # fmt: skip


def public_classes():
    """Return the classes of all faces that have an example, by their full names."""
    found = {}
    for file in sorted(PACKAGE.rglob("__init__.py")):
        room = ".".join(["sciml", *file.parent.relative_to(PACKAGE).parts])
        if "__all__" not in file.read_text("utf-8") or room.startswith(("sciml.cli", "sciml.test")):
            continue
        module = importlib.import_module(room)
        for name in module.__all__:
            made = getattr(module, name)
            ours = inspect.isclass(made) and made.__module__.startswith("sciml")
            if ours and ">>>" in (made.__doc__ or "") and made.__name__ not in MADE:
                found[f"{made.__module__}.{made.__name__}"] = made
    return found


CLASSES = public_classes()


def arguments_of(cls, monkeypatch):
    """Return the arguments of the first call of a class in its own example, None for no call."""
    calls, init = [], cls.__init__

    @functools.wraps(init)
    def recorded(self, *args, **kwargs):
        if type(self) is cls:
            calls.append((args, kwargs))
        return init(self, *args, **kwargs)

    source = "".join(e.source for e in doctest.DocTestParser().get_examples(cls.__doc__))
    with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(cls, "__init__", recorded)
        try:
            exec(compile(source, "<example>", "exec"), {"__name__": "__main__"})
        except MissingPackage as error:
            pytest.skip(str(error))
    if not calls:
        return None
    return inspect.signature(init).bind(None, *calls[0][0], **calls[0][1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CLASSES)
def test_settings_of_another_kind_are_refused(name, tmp_path, monkeypatch):
    cls = CLASSES[name]
    if cls.__init__ is object.__init__ or issubclass(cls, tuple):
        pytest.skip("it takes no settings")
    monkeypatch.chdir(tmp_path)
    bound = arguments_of(cls, monkeypatch)
    if bound is None:
        pytest.skip("its example does not make one")
    known, wrong = vars(sys.modules[cls.__module__]), []
    for p in list(bound.signature.parameters.values())[1:]:
        kind = written_kind(str(p.annotation), known)
        if kind is None or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            continue
        if p.name == "network" and name.startswith("sciml.modules."):
            continue  # the tests of each method have these
        for label, value in WRONG.items():
            if not kind(value):
                continue
            given = inspect.BoundArguments(bound.signature, {**bound.arguments, p.name: value})
            try:
                with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
                    cls(*given.args[1:], **given.kwargs)
                wrong.append(f"{p.name} = {label} is taken for {p.annotation}")
            except SciMLError:
                continue
            except Exception as error:
                wrong.append(f"{p.name} = {label}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)
