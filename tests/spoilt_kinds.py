"""Values of every wrong kind, put in the place of each argument in turn."""

import contextlib
import inspect
import io
import sys

import numpy as np
import torch

from sciml.errors import SciMLError
from sciml.typed_arguments import written_kind

WRONG = {
    "text": "ab",
    "None": None,
    "nan": float("nan"),
    "half": 0.5,
    "beyond 64 bits": 10**30,
    "nested list": [["a"]],
    "table": {},
    "array": np.ones((2, 3)),
    "tensor of no numbers": torch.zeros(0),
    "object": object(),
}


def taken(target, bound, skip=()):
    """Return what is not refused by its name, of the wrong values for each argument of a call.

    Args:
        target: A class or a function.
        bound: Arguments that work; those of a class have a place for `self`.
        skip: Names of arguments that are not spoilt.
    """
    known, found = vars(sys.modules[target.__module__]), []
    own = isinstance(target, type)
    for p in list(bound.signature.parameters.values())[own:]:
        kind = written_kind(str(p.annotation), known)
        if kind is None or p.name in skip or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            continue
        for label, value in WRONG.items():
            if not kind(value):
                continue
            given = inspect.BoundArguments(bound.signature, {**bound.arguments, p.name: value})
            try:
                with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
                    target(*given.args[own:], **given.kwargs)
                found.append(f"{p.name} = {label} is taken for {p.annotation}")
            except SciMLError:
                continue
            except Exception as error:
                found.append(f"{p.name} = {label}: {type(error).__name__}: {error}")
    return found
