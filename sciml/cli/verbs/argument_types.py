"""Types of command-line arguments: numbers within bounds, refused with what was expected."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

LARGEST_SEED = 2**63 - 1


def whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """Return a type of whole numbers between two bounds."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"{text[:40]} is not usable. Expected a whole number from {least} to {most}."
            )
        return value

    return read


def real(least: float, most: float, *, open_below: bool = False) -> Callable[[str], float]:
    """Return a type of finite numbers between two bounds, the lower one not among them if open."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        # not a number lies between no bounds, infinity above all
        if not least <= value <= most or (open_below and value == least):
            above = "above" if open_below else "from"
            raise argparse.ArgumentTypeError(
                f"{text[:40]} is not usable. Expected a number {above} {least:g} to {most:g}."
            )
        return value

    return read
