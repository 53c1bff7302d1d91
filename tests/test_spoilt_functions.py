"""Public functions refuse arguments of another kind than they are written for, each in turn.

The arguments that work are those of the function's first call in its own example.
"""

import functools
import inspect
import sys

import pytest
from public_examples import PROMPT, public_functions, run_example
from spoilt_kinds import taken

FUNCTIONS = {k: f for k, f in public_functions().items() if PROMPT in (f.__doc__ or "")}

# Functions that do not look at their arguments, and why.
GRID = "called several times in every step of a solver"
UNCHECKED = {
    "sciml.solvers.linear.grid_graph.around": f"{GRID}; the check would take a fifth of it",
    "sciml.solvers.linear.grid_graph.high": f"{GRID}; the check would take four times as long",
    "sciml.solvers.linear.grid_graph.low": f"{GRID}; the check would take four times as long",
}


def arguments_of(function, monkeypatch):
    """Return the arguments of the first call of a function in its own example."""
    calls = []

    @functools.wraps(function)
    def recorded(*args, **kwargs):
        if sys._getframe(1).f_globals["__name__"] == "__main__":  # the example, not a callee
            calls.append((args, kwargs))
        return function(*args, **kwargs)

    name = function.__name__
    with monkeypatch.context() as patch:
        for module in [m for k, m in sys.modules.items() if k.partition(".")[0] == "sciml"]:
            if vars(module).get(name) is function:
                patch.setattr(module, name, recorded)
        run_example(function)
    return inspect.signature(function).bind(*calls[0][0], **calls[0][1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_of_another_kind_are_refused(name, tmp_path, monkeypatch):
    if name in UNCHECKED:
        pytest.skip(UNCHECKED[name])
    monkeypatch.chdir(tmp_path)
    function = FUNCTIONS[name]
    wrong = taken(function, arguments_of(function, monkeypatch))
    assert not wrong, "\n".join(wrong)
