"""Public classes refuse settings of another kind than they are written for, each in turn.

The arguments that work are those of the class's own example. Results and states, which solvers and
simulations make, are not looked at.
"""

import functools
import inspect

import pytest
from public_examples import PROMPT, faces, module_of, run_example
from spoilt_kinds import taken

# What the package makes and users read.
MADE = {
    "Boundary", "Constrained", "Coordinates", "Estimate", "ExpertPoints", "Fields", "FlowState",
    "Graph", "Jet", "MacroSolution", "MacroState", "Operator", "Outcome", "PODBasis", "PointSet",
    "Points", "PressureSystem", "Projection", "RVESolution", "Rows", "Snapshots", "Solution",
    "Trajectories", "DenseDirections", "SparseDirections", "Objective", "LossTerm",
}  # fmt: skip


def public_classes():
    """Return the classes of all faces that have an example, by their full names."""
    found = {}
    for file in faces():
        if file.startswith(("cli/", "testing/")):
            continue
        room = module_of(file)
        for name in room.__all__:
            made = getattr(room, name)
            ours = inspect.isclass(made) and made.__module__.startswith("sciml")
            if ours and PROMPT in (made.__doc__ or "") and made.__name__ not in MADE:
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

    with monkeypatch.context() as patch:
        patch.setattr(cls, "__init__", recorded)
        run_example(cls)
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
    # networks of methods: the tests of each method have these
    wrong = taken(cls, bound, {"network"} if name.startswith("sciml.modules.") else ())
    assert not wrong, "\n".join(wrong)
