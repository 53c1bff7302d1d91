"""Arrays with one row per domain, and random rows: what the kinds of domains share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sciml.arguments import shown
from sciml.errors import InvalidArgument, InvalidType
from sciml.shapes import as_array, check_kind

# what becomes a tensor: a number, lists of numbers, arrays
Numbers: TypeAlias = float | Sequence[Any] | np.ndarray | Tensor

# Rounds of rejection, each twice as large as the one before.
ROUNDS = 12
MOST_POINTS = 10**9  # more are beyond every machine


def floats(name: str, given: Any) -> Any:
    """Return a number, or a list of numbers or of such lists, as floats.

    Raises:
        InvalidType: For what is none of these, and for empty lists.
    """
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if not found.size:
        raise InvalidType(f"{name} is {shown(given)}", "numbers")
    return found.tolist()


def length(x: Tensor) -> Tensor:
    """Return the Euclidean norm `(N,)` of `x (d, N)`.

    Coordinate by coordinate: `torch.linalg.vector_norm` over the first axis takes many times as
    long.
    """
    square = x[0] * x[0]
    for coordinate in x[1:]:
        square = torch.addcmul(square, coordinate, coordinate)
    return square.sqrt_()


def check_draw(n: object, generator: object, dtype: object = torch.float32) -> None:
    """Refuse what is no number of points, no source of random numbers, or no type of them.

    Raises:
        InvalidArgument: For the number.
        InvalidType: For the generator and the type.
    """
    if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= MOST_POINTS:
        raise InvalidArgument(f"{n!r:.60} points", f"a whole number from 0 to {MOST_POINTS}")
    check_kind("generator", generator, torch.Generator, "Write torch.Generator().manual_seed(0)")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InvalidType(f"dtype is {shown(dtype)}", "torch.float32 or torch.float64")


def uniform(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Return uniform numbers on `[0, 1)` on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)


def accepted(n: int, draw: Callable[[int], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the first `n` accepted rows of every domain, and the share accepted.

    Args:
        n: Rows wanted of each domain.
        draw: `m -> (rows (B, m, k), accepted (B, m))`.

    Returns:
        Rows `(B, n, k)` and the share of accepted rows `(B,)`.

    Raises:
        InvalidArgument: If a domain fills too little of its bounding box.
    """
    rows, ok = draw(2 * n + 16)
    for _ in range(ROUNDS):
        if int(ok.sum(1).min()) >= n:
            first = ok.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :n]
            first = first[..., None].expand(-1, -1, rows.shape[2])
            return rows.gather(1, first), ok.double().mean(1)
        more, more_ok = draw(rows.shape[1])
        rows, ok = torch.cat([rows, more], 1), torch.cat([ok, more_ok], 1)
    share = float(ok.float().mean(1).min())
    raise InvalidArgument(
        f"a domain where {share:.1e} of the candidates are accepted",
        "domains that are not empty and not thinner than that",
    )


def rows_of(name: str, value: Numbers, shape: tuple[int | None, ...]) -> Tensor:
    """Return `value` as a float64 tensor `(B, *shape)`; one domain may leave B out.

    Raises:
        InvalidArgument: If the shape does not fit (None fits any length) or a number is not
            finite.
        InvalidType: If it is no array of numbers.
    """
    value = as_array(name, value, dtype=torch.float64)
    if value.ndim == len(shape):
        value = value[None]
    fits = value.ndim == len(shape) + 1 and all(
        want in (None, have) for want, have in zip(shape, value.shape[1:], strict=True)
    )
    if not fits or not bool(value.isfinite().all()):
        wanted = ", ".join("n" if s is None else str(s) for s in shape)
        raise InvalidArgument(
            f"{name} of shape {tuple(value.shape)}", f"finite numbers of shape (B, {wanted})"
        )
    return value


def batch(**parts: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors with their first axes expanded to one number of domains.

    Raises:
        InvalidArgument: If they differ and are not 1.
    """
    sizes = {name: len(part) for name, part in parts.items()}
    count = max(sizes.values())
    if any(size not in (1, count) for size in sizes.values()):
        raise InvalidArgument(f"numbers of domains {sizes}", "one number B, or 1")
    return tuple(part.expand(count, *part.shape[1:]).contiguous() for part in parts.values())


def positive(name: str, value: Tensor) -> Tensor:
    """Return `value`, or refuse numbers that are not positive."""
    if not bool((value > 0).all()):
        raise InvalidArgument(f"{name} with minimum {float(value.min()):g}", "positive numbers")
    return value
