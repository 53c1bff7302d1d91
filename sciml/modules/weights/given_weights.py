"""Checks of the weights of loss terms that a user gives by name."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from sciml.errors import InvalidArgument, did_you_mean


def check_names(weights: Mapping[str, float], terms: Collection[str]) -> None:
    """Refuse weights of terms that a loss does not have.

    Raises:
        InvalidArgument: Naming the nearest term.
    """
    for name in weights:
        if name not in terms:
            raise InvalidArgument(
                f"module.weights={{{name}: ...}}",
                "the name of a loss term",
                did_you_mean(name, terms),
            )


def check_numbers(weights: Mapping[str, float]) -> None:
    """Refuse weights that are negative or not finite.

    Raises:
        InvalidArgument: Naming the weight.
    """
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidArgument(
                f"module.weights={{{name}: {weight}}}", "a finite weight of at least 0"
            )
