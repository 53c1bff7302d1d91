"""Argument checks shared by the problems; messages name the configuration key."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sciml.errors import InvalidArgument, did_you_mean


def check_number(name: str, value: float, least: float = -math.inf) -> float:
    """Return `value` as a float, or refuse what is not a finite number of at least `least`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        bound = "" if least == -math.inf else f" of at least {least:g}"
        raise InvalidArgument(f"{name}={value}", f"a finite number{bound}")
    return float(value)


def check_positive(name: str, value: float) -> float:
    """Return `value` as a float, or refuse what is not a positive finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (value > 0 and math.isfinite(value)):
        raise InvalidArgument(f"{name}={value}", "a positive number")
    return float(value)


def check_seed(name: str, value: int) -> int:
    """Return `value`, or refuse what NumPy's legacy generator does not take as a seed."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise InvalidArgument(f"{name}={value}", "an integer from 0 to 2^32 - 1")
    return value


def check_choice(name: str, value: str, options: Sequence[str]) -> str:
    """Return `value`, or refuse what is not one of `options`."""
    if not isinstance(value, str) or value not in options:
        raise InvalidArgument(
            f"{name}={value}", " or ".join(options), did_you_mean(str(value), options)
        )
    return value
