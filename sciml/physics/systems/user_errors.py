"""Python's errors in functions that a user wrote, in words: what happened and what to write."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType, SciMLError
from sciml.physics.systems.system_fields import Field

# What Python says where a function of numbers or of NumPy meets a tensor.
NUMBERS = (
    "boolean value of tensor",
    "only one element tensors",
    "a tensor with ",
    "must be real number, not",
    "float()",
)
ARRAYS = ("can't call numpy()", "numpy.object_", "loop of ufunc", "__array__", "to numpy")
METHOD = ("'builtin_function_or_method'", "'method'", "unary -: 'builtin")


def explained(
    title: str, function: Callable, error: Exception, given: Mapping[str, Any]
) -> SciMLError | None:
    """Return what to raise in place of an error of a user's function; None for the error itself.

    Args:
        title: The function as its author knows it.
        function: What he wrote.
        error: What it raised.
        given: What it was called with, by name.
    """
    if isinstance(error, SciMLError):
        return None
    text, place = str(error), _place(function, error)
    about = f"{title}{place}"
    if isinstance(error, AttributeError) and isinstance(error.obj, Tensor):
        return _no_derivative(about, error.name, given)
    if isinstance(error, TypeError) and any(word in text for word in METHOD):
        return _no_derivative(about, "t", given) or InvalidType(
            f"{about} calculates with a method that is not called", "values", "Write u.exp()"
        )
    lower = text.lower()
    if any(word in lower for word in ARRAYS):
        return InvalidType(
            f"{about} gives a tensor to NumPy ({text:.80})",
            "functions of torch, which can be differentiated",
            "Write torch.sin, torch.exp, ... in place of np.sin, np.exp",
        )
    if any(word in lower for word in NUMBERS):
        return InvalidType(
            f"{about} takes values at many points for one number ({text:.80})",
            "functions of torch, which take all points at once",
            "Write torch.sin, torch.exp, ... in place of math.sin, math.exp, and "
            "torch.where(u > 0, a, b) in place of if",
        )
    return None


def _no_derivative(about: str, name: str, given: Mapping[str, Any]) -> SciMLError | None:
    """Return what to say of a derivative of a tensor."""
    outputs = {k: v for k, v in given.items() if isinstance(v, Field)}
    names = next((v._names for v in outputs.values()), None)
    if names is None or not name or not set(name) <= {*"xyzt", *"".join(names.variables)}:
        return None if name not in ("lap", "n") else _tensor(about, name, "u")
    return _tensor(about, name, next(iter(outputs)))


def _tensor(about: str, name: str, u: str) -> SciMLError:
    return InvalidArgument(
        f"{about} asks for .{name} of values that are no output",
        f"derivatives of outputs and of their sums, products and functions, as in ({u} * {u}.x).x",
        f"Expand it by the product rule: (k * {u}.x).x is k * {u}.xx + k_x * {u}.x",
    )


def _place(function: Callable, error: Exception) -> str:
    """Return line and text in the file of the function where it happened."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    trace, line = error.__traceback__, None
    while code is not None and trace is not None:
        if trace.tb_frame.f_code.co_filename == code.co_filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    if line is None:
        return ""
    text = linecache.getline(code.co_filename, line).strip()
    return f", line {line} of {Path(code.co_filename).name}{f' ({text:.60})' if text else ''},"
