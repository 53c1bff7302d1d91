"""Objects made from their descriptions in a model.json: class by name, arguments plain."""

from __future__ import annotations

import inspect

from sciml.errors import PretrainedError, did_you_mean
from sciml.pretrained.classes.class_table import resolve

# What constructors raise on arguments that they cannot use.
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError)
REFUSALS += (RuntimeError, TypeError, ValueError)
LARGEST, LARGEST_SIZE = 1e300, 10**9  # numbers, and what is counted
PLAIN = {"bool": bool, "int": int, "float": float, "str": str, "None": type(None)}
WORDS = {bool: "true or false", int: "an integer of nine digits at most", float: "a number"}
WORDS |= {str: "a word", type(None): "null"}


def _check_types(cls: type, arguments: dict) -> None:
    """Refuse plain arguments of another type than the constructor says: it may only store them.

    Raises:
        PretrainedError: Naming the argument.
    """
    # as written: nothing is evaluated where a file is read; a class without arguments has none
    hints = getattr(cls.__init__, "__annotations__", {})
    for name, value in arguments.items():
        options = [PLAIN.get(option) for option in str(hints.get(name)).split(" | ")]
        if name not in hints or None in options:
            continue
        kind = type(value)
        fits = kind in options or (kind is int and float in options)
        size = LARGEST if "seed" in name else LARGEST_SIZE
        if kind is int and int in options:
            fits &= abs(value) <= size
        elif kind in (int, float):
            fits &= abs(value) <= LARGEST
        if not fits:
            raise PretrainedError(
                f"model.json passes {name}={str(value)[:40]} to {cls.__name__}",
                " or ".join(WORDS[option] for option in options),
            )


def build(kind: str, spec: object) -> object:
    """Return the object described by `{"class": name, "arguments": {...}}`.

    Args:
        kind: A kind of the table.
        spec: The description; arguments are plain numbers, strings and lists, and descriptions of
            the kind "part".

    Raises:
        PretrainedError: If the description is malformed, names a class outside the table, or the
            class refuses the arguments.
    """
    if not isinstance(spec, dict) or set(spec) != {"class", "arguments"}:
        raise PretrainedError(
            f"model.json describes the {kind} as {str(spec)[:80]}",
            'an object with the keys "class" and "arguments"',
        )
    cls, arguments = resolve(kind, spec["class"]), spec["arguments"]
    if not isinstance(arguments, dict):
        raise PretrainedError(
            f"the arguments of {kind} class '{spec['class']}' are {str(arguments)[:80]}",
            "an object of argument names and plain values",
        )
    accepted = inspect.signature(cls).parameters
    for argument in arguments:
        if argument not in accepted:
            raise PretrainedError(
                f"model.json passes '{argument}' to {spec['class']}",
                "an argument of that class",
                did_you_mean(argument, accepted),
            )
    arguments = {
        key: build("part", value) if isinstance(value, dict) and "class" in value else value
        for key, value in arguments.items()
    }
    _check_types(cls, arguments)
    try:
        return cls(**arguments)
    except REFUSALS as error:
        raise PretrainedError(
            f"{spec['class']} refuses its arguments in model.json: {str(error)[:300]}",
            "the arguments it was saved with",
            "Restore model.json from where the folder came from",
        ) from error
