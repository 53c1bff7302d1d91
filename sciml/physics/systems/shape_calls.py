"""Shapes called with their numbers in a row, `Rectangle(0, 0, 1, 1)`: the right call is said."""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Real
from typing import Any

from sciml.errors import InvalidArgument


def in_brackets(second: str) -> Callable[[Callable], Callable]:
    """Return a decorator of constructors that refuses numbers where points belong.

    Args:
        second: What follows the first point: "corner" or "radius".
    """

    def decorate(init: Callable) -> Callable:
        @functools.wraps(init)
        def checked(self: Any, *args: Any, **kwargs: Any) -> None:
            if args and isinstance(args[0], Real):
                numbers = [a for a in args if isinstance(a, Real)]
                raise InvalidArgument(
                    f"{type(self).__name__}({', '.join(map(repr, args))})",
                    f"a point and a {second}, points in brackets",
                    f"Write {_call(type(self).__name__, numbers, second)}",
                )
            init(self, *args, **kwargs)

        return checked

    return decorate


def corners_in_a_list(init: Callable) -> Callable:
    """Return a constructor that refuses corners one by one."""

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        points = [a for a in args if isinstance(a, tuple | list) and len(a) == 2]
        if len(args) > 1 and len(points) == len(args) and _numbers(args[1]):
            raise InvalidArgument(
                f"{type(self).__name__} of {len(args)} corners one by one",
                "one list of corners",
                f"Write {type(self).__name__}([{', '.join(str(tuple(p)) for p in points)}])",
            )
        init(self, *args, **kwargs)

    return checked


def _numbers(point: Any) -> bool:
    return all(isinstance(c, Real) for c in point)


def _call(name: str, numbers: list[Any], second: str) -> str:
    half = len(numbers) // 2
    if second == "radius" and len(numbers) > 2:
        return f"{name}({tuple(numbers[:-1])}, {numbers[-1]!r})"
    if second == "corner" and half > 1 and len(numbers) == 2 * half:
        return f"{name}({tuple(numbers[:half])}, {tuple(numbers[half:])})"
    return f"{name}((0, 0), {'1' if second == 'radius' else '(1, 1)'})"
