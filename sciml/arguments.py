"""Arguments of public functions: each is of its kind, or refused by its name.

    @takes(x=tensor, radius=numbers)
    def project_simplex(x, radius=1.0): ...

What comes deep inside from text where a tensor was meant says nothing of the argument. One check
before the call does, for all functions alike.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType, did_you_mean

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

# Groups of the command line whose keys are the arguments of a room's classes.
PREFIXES = {
    "sciml.networks.": "network.",
    "sciml.data.": "data.",
    "sciml.modules.": "module.",
    "sciml.optim.schedules": "schedule.",
    "sciml.autodiff.estimators": "estimator.",
}

Kind = Callable[[Any], str]  # what was expected, empty for what is of the kind
Function = TypeVar("Function", bound=Callable[..., Any])


def takes(**kinds: Kind) -> Callable[[Function], Function]:
    """Return a decorator that checks arguments before a function is called.

    Args:
        kinds: Kinds by the names of the arguments.

    Raises:
        InvalidType: By the function, naming the argument and what came.
        InvalidArgument: By the function, for a word that is no option of a choice.
    """
    return lambda function: checked_function(function, kinds, "")


def checked_function(function: Function, kinds: Mapping[str, Kind], prefix: str) -> Function:
    """Return the function behind a check of its arguments, named with a prefix in messages."""
    parameters = inspect.signature(function).parameters.values()
    # what follows *values comes by name alone
    names = [p.name for p in itertools.takewhile(lambda p: p.kind < p.VAR_POSITIONAL, parameters)]

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if name in kinds and (wanted := kinds[name](value)):
                options = getattr(kinds[name], "options", ())
                if type(value) in map(type, options):
                    close = did_you_mean(str(value), map(str, options)).partition("Available")[0]
                    said = str(value) if prefix else repr(value)  # as it would be typed
                    raise InvalidArgument(f"{prefix}{name}={said:.60}", wanted, close.strip())
                if isinstance(value, float) and value != value and not kinds[name](0.5):
                    raise InvalidArgument(f"{prefix}{name}=nan", wanted)
                raise InvalidType(f"{prefix}{name} is {shown(value)}", wanted)
        return function(*args, **kwargs)

    return checked


def shown(value: Any) -> str:
    """Return a value in a few words: a tensor by its type, text as it is."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}, {tuple(value.shape)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    plain = isinstance(value, str | int | float)
    return f"{value!r:.60}" if plain else f"a {type(value).__name__}"


def tensor(value: Any) -> str:
    """Accept dense tensors of real floating-point numbers."""
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        return "a tensor of real floating-point numbers"
    if value.layout != torch.strided:
        return f"a dense tensor; this one is {value.layout}: type .to_dense()"
    return "" if value.device.type != "meta" else "a tensor with values; one on 'meta' has none"


def array(value: Any) -> str:
    """Accept NumPy arrays of real numbers."""
    fits = isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
    return "" if fits else "a NumPy array of real numbers"


def tensors(value: Any) -> str:
    """Accept sequences of dense tensors of real numbers, as the components of a velocity."""
    fits = isinstance(value, tuple | list) and not any(map(tensor, value))
    return "" if fits else "a tuple of tensors of real floating-point numbers"


def booleans(value: Any) -> str:
    """Accept tensors of true and false."""
    fits = isinstance(value, Tensor) and value.dtype == torch.bool
    return "" if fits and value.layout == torch.strided else "a dense tensor of booleans"


def integers(value: Any) -> str:
    """Accept tensors of integers."""
    fits = isinstance(value, Tensor) and value.dtype in WHOLE
    return "" if fits and value.layout == torch.strided else "a dense tensor of integers"


def number(value: Any) -> str:
    """Accept one real number."""
    one = not isinstance(value, Tensor) or value.numel() == 1
    return "" if one and not numbers(value) else "a number"


def real(value: Any) -> str:
    """Accept real numbers of Python and NumPy, not tensors, and not NaN."""
    fits = isinstance(value, Real) and not isinstance(value, bool) and value == value
    return "" if fits else "a number"


def numbers(value: Any) -> str:
    """Accept a number or a tensor of real ones."""
    plain = isinstance(value, Real) and not isinstance(value, bool)
    return "" if plain or not tensor(value) else "a number, or a tensor of real ones"


def whole(value: Any) -> str:
    """Accept integers that arrays can count with."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        return "a whole number"
    return "" if abs(int(value)) < 2**63 else "a whole number that fits into 64 bits"


def count(value: Any) -> str:
    """Accept numbers of things: integers from zero."""
    return whole(value) or ("" if value >= 0 else "zero or more")


def counts(value: Any) -> str:
    """Accept sequences of integers."""
    fits = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return "" if fits and not any(map(whole, value)) else "a list of whole numbers"


def some(value: Any) -> str:
    """Accept sequences of numbers."""
    fits = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return "" if fits and not any(map(number, value)) else "a list of numbers"


def flags(value: Any) -> str:
    """Accept sequences of true and false."""
    fits = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return "" if fits and not any(map(flag, value)) else "a list of True and False"


def flag(value: Any) -> str:
    """Accept true and false."""
    return "" if isinstance(value, bool) else "True or False"


def text(value: Any) -> str:
    """Accept names."""
    return "" if isinstance(value, str) else "a name, as text"


def names(value: Any) -> str:
    """Accept sequences of names."""
    fits = isinstance(value, Sequence) and not isinstance(value, str)
    return "" if fits and not any(map(text, value)) else "a list of names"


def function(value: Any) -> str:
    """Accept what can be called."""
    return "" if callable(value) and not isinstance(value, type) else "a function"


def maker(value: Any) -> str:
    """Accept what makes something: functions, and classes."""
    return "" if callable(value) else "a function or a class"


def generator(value: Any) -> str:
    """Accept sources of random numbers."""
    return "" if isinstance(value, torch.Generator) else "a torch.Generator"


def precision(value: Any) -> str:
    """Accept types of real floating-point numbers."""
    fits = isinstance(value, torch.dtype) and value.is_floating_point
    return "" if fits else "a type of real floating-point numbers, as torch.float64"


def path(value: Any) -> str:
    """Accept names of files and folders."""
    return "" if isinstance(value, str | os.PathLike) else "a path"


def mapping(value: Any) -> str:
    """Accept tables of names."""
    return "" if hasattr(value, "keys") else "a dictionary"


def device(value: Any) -> str:
    """Accept names of devices."""
    try:
        return "" if torch.device(value) and not isinstance(value, bool) else "a device"
    except (RuntimeError, TypeError):
        return "a device, as 'cpu' or 'cuda:0'"


def made(*methods: str, what: str) -> Kind:
    """Return the kind of objects that have these methods.

    Args:
        methods: Names.
        what: What such an object is called.
    """

    def kind(value: Any) -> str:
        if isinstance(value, type) and all(hasattr(value, name) for name in methods):
            return f"{what}, made by calling it: {value.__name__}(...)"
        return "" if all(hasattr(value, name) for name in methods) else what

    return kind


def maybe(kind: Kind) -> Kind:
    """Return a kind that accepts None, too."""

    def either_way(value: Any) -> str:
        return "" if value is None or not kind(value) else f"{kind(value)}, or None"

    either_way.options = getattr(kind, "options", ())
    return either_way


def either(*kinds: Kind) -> Kind:
    """Return the kind of values that are of one of some kinds."""

    def kind(value: Any) -> str:
        wanted = [one(value) for one in kinds]
        return "" if "" in wanted else ", or ".join(dict.fromkeys(wanted))

    return kind


def several(one: Kind, length: int, what: str) -> Kind:
    """Return the kind of sequences of so many things of a kind."""

    def kind(value: Any) -> str:
        fits = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        fits = fits and len(value) == length
        return "" if fits and not any(map(one, value)) else f"{length} {what}"

    return kind


def one_of(*options: Any) -> Kind:
    """Return the kind of a choice."""
    said = ", ".join(map(repr, options))

    def kind(value: Any) -> str:
        return "" if isinstance(value, str | int) and value in options else said

    kind.options = options
    return kind
