"""Tensors that meet in one formula: one type, one device, numbers that the type can hold."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType


def check_alike(**tensors: Tensor) -> None:
    """Refuse tensors of several types or on several devices, which torch names by no argument.

    Raises:
        InvalidType: With the type and device of each.
    """
    kinds = {(t.dtype, t.device) for t in tensors.values()}
    if len(kinds) > 1:
        said = ", ".join(
            f"{name} of {str(t.dtype).removeprefix('torch.')} on {t.device}"
            for name, t in tensors.items()
        )
        raise InvalidType(said, "one type on one device", f"Type .to({next(iter(tensors))})")


def in_range(name: str, value: float, like: Tensor) -> float:
    """Return a number that the type of a tensor can hold.

    Raises:
        InvalidArgument: For a finite number beyond its range.
    """
    most = torch.finfo(like.dtype).max
    if most < abs(value) < float("inf"):
        raise InvalidArgument(f"{name}={value:g} for {like.dtype}", f"at most {most:g} in size")
    return float(value)
