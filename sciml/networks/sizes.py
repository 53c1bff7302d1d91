"""Sizes of layers, checked alike in all networks."""

from __future__ import annotations

from sciml.errors import InvalidArgument


def check_sizes(**sizes: int) -> None:
    """Refuse layer sizes that are not positive integers, and a depth below two."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidArgument(f"network.{name}={value}", "a positive integer")
    if sizes.get("depth", 2) < 2:
        raise InvalidArgument("network.depth=1", "at least 2: the first and the last linear layer")
