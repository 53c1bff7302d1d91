"""Plain values against the annotations of arguments, and annotations in words a user types by."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

from sciml.errors import did_you_mean

# Types of plain values in words.
KINDS = {int: "an integer", float: "a number with a fraction", bool: "true or false", str: "a word"}
KINDS |= {list: "a list", tuple: "a list", dict: "a table"}


def wrong_value(key: str, value: Any, annotation: Any) -> str:
    """Return the message for a value that an argument does not take."""
    if typing.get_origin(annotation) is Literal and isinstance(value, str):
        names = [str(option) for option in typing.get_args(annotation)]
        return f"{key}={value} is unknown. {did_you_mean(value, names)}."
    wanted = describe(annotation)
    if value is None:
        return f"{key} is null. Expected {wanted}."
    text = repr(value)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    if isinstance(value, list | tuple) and "list" in wanted:
        return f"{key}={text} is another list. Expected {wanted}."
    literals = [type(v) for v in _literals(annotation)]
    kind = "unknown" if type(value) in literals else KINDS.get(type(value), type(value).__name__)
    return f"{key}={text} is {kind}. Expected {wanted}."


def _literals(annotation: Any) -> list[Any]:
    """Return the values that an annotation lists, in unions too."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return [value for option in inner for value in _literals(option)]
    return list(inner) if origin is Literal else []


def matches(value: Any, annotation: Any) -> bool:
    """Return whether a plain value can be passed where `annotation` stands.

    Only what is surely wrong is refused: annotations that are classes of objects, callables or
    type variables accept everything.
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or isinstance(value, Mapping) and "_target_" in value:
        return True
    if annotation is None or annotation is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        # YAML cannot hold an instance of a class such as Tensor: the plain options decide
        plain = [option for option in inner if not _is_object(option)]
        return not plain or any(matches(value, option) for option in plain)
    if origin is Literal:
        return value in inner and any(value == i and type(value) is type(i) for i in inner)
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is str:
        return isinstance(value, str)
    sequences = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
    if annotation in sequences or origin in sequences:
        if not isinstance(value, list | tuple):
            return False
        kinds = [k for k in inner if k is not Ellipsis]
        if origin is tuple and Ellipsis not in inner and kinds:
            return len(value) == len(kinds) and all(map(matches, value, kinds))
        return not kinds or all(matches(v, kinds[0]) for v in value)
    mappings = (dict, collections.abc.Mapping)
    if annotation in mappings or origin in mappings:
        return isinstance(value, Mapping)
    return True


def _is_object(annotation: Any) -> bool:
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    if not inspect.isclass(annotation) or typing.get_origin(annotation) is not None:
        return False
    return annotation not in plain and annotation.__module__ != "collections.abc"


def describe(annotation: Any) -> str:
    """Return an annotation in words a user types by."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        listed = list(dict.fromkeys(str(value) for value in _literals(annotation)))
        others = [o for o in inner if not _is_object(o) and typing.get_origin(o) is not Literal]
        return " or ".join(dict.fromkeys(listed + [describe(option) for option in others]))
    if origin is Literal:
        return " or ".join(dict.fromkeys(str(option) for option in inner))
    if annotation is type(None) or annotation is None:
        return "null"
    if annotation in KINDS:
        return "a number" if annotation is float else KINDS[annotation]
    if origin is tuple and Ellipsis not in inner and inner:
        each = list(dict.fromkeys(map(describe, inner)))
        return f"a list of {len(inner)} entries, {', '.join(each)}" + " each" * (len(each) == 1)
    if origin is not None and inner:
        return f"a list of {describe(inner[0])}" if origin is not dict else "a dictionary"
    return getattr(annotation, "__name__", str(annotation))
