"""Arrays that a model is given or returns: real, finite, of the type that its description says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType, PretrainedError


def tensor_of(value: object) -> Tensor:
    """Return what was given as a tensor; arrays of NumPy in any memory order and byte order.

    Raises:
        TypeError: If it is no array, or RuntimeError or ValueError.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        if not value.dtype.isnative:
            value = value.astype(value.dtype.newbyteorder("="))
        if any(step < 0 for step in value.strides):  # as of a[::-1], which torch cannot hold
            value = value.copy()
    return torch.as_tensor(value)


def real_tensor(name: str, value: object) -> Tensor:
    """Return what was given as a tensor of real floating-point numbers.

    Raises:
        InvalidType: If it is no array, or holds other numbers.
    """
    try:
        value = tensor_of(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidType(
            f"{name} is a {type(value).__name__} ({error})", "a real array"
        ) from error
    if value.is_complex() or value.dtype == torch.bool:
        raise InvalidType(f"{name} has dtype {value.dtype}", "real numbers")
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def check_finite(found: Mapping[str, Tensor]) -> None:
    """Refuse outputs that are not finite: they are no result.

    Raises:
        PretrainedError: Naming the output.
    """
    for name, value in found.items():
        bad = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
        if bad:
            raise PretrainedError(
                f"the model gives {bad} of {value.numel()} entries of {name} that are not finite",
                "numbers",
                "Its weights are not finite, or the inputs are far beyond what it was trained on",
            )


def finite_points(name: str, value: Tensor) -> Tensor:
    """Return points `(N, d)`, all of them finite.

    Raises:
        InvalidArgument: With how many are not.
    """
    bad = int((~torch.isfinite(value)).any(dim=1).sum())
    if bad:
        raise InvalidArgument(f"{name} is not finite in {bad} of {len(value)} points", "numbers")
    return value


def input_tensor(name: str, value: object, entry: Mapping) -> Tensor:
    """Return an input as a tensor of the right kind of numbers."""
    try:
        value = tensor_of(value)
    except (TypeError, ValueError, RuntimeError) as error:
        shape = hasattr(value, "signed_distance")
        hint = "For domains and equations use solve(domain, problem, points)" if shape else ""
        raise InvalidType(
            f"{name} is a {type(value).__name__} ({error})", "an array", hint
        ) from error
    if entry.get("dtype", "float") == "int":
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise InvalidType(f"{name} has dtype {value.dtype}", "integers")
        return value.long()
    if value.dtype == torch.bool and entry.get("cast"):  # a mask stands for the numbers 0 and 1
        value = value.to(torch.get_default_dtype())
    if value.is_complex() or value.dtype == torch.bool:
        raise InvalidType(f"{name} has dtype {value.dtype}", "real numbers")
    value = value if value.is_floating_point() else value.to(torch.get_default_dtype())
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise InvalidArgument(
            f"{name} is not finite in {bad} of {value.numel()} entries", "numbers"
        )
    return value
