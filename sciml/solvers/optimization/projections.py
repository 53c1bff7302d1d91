"""Nearest points of convex sets, over the last axis; every leading axis is a batch.

All are differentiable almost everywhere, and their derivative is that of the piece on which the
point lies; where pieces meet (a point on the boundary, ties at a threshold, the apex of a cone)
there is no derivative and autograd returns that of one piece. Points already inside stay, those of
the simplex to round-off. A row with NaN returns NaN and leaves the other rows as they are.

Radii are positive, numbers or `(*batch)` tensors. One that is not positive is an error if it is a
number; in a tensor it gives NaN for its row.

Sources: Held, Wolfe & Crowder 1974 (simplex, by sorting); Duchi et al. 2008 (l1 ball); Parikh &
Boyd 2014, Proximal Algorithms, section 6.3 (cone, affine set).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.arguments import numbers, takes, tensor
from sciml.errors import InvalidArgument
from sciml.tensor_types import check_alike, in_range

Radius = float | Tensor


@takes(x=tensor, lower=numbers, upper=numbers)
def project_box(x: Tensor, lower: float | Tensor, upper: float | Tensor) -> Tensor:
    """Return the nearest point with `lower <= x <= upper`, entry by entry.

    Args:
        x: Any shape.
        lower: Number or tensor that broadcasts to `x`; may be -inf.
        upper: The same; may be inf. An entry with `lower > upper` gives NaN if one is a tensor.

    Raises:
        InvalidArgument: If numbers are in the wrong order, or a bound does not broadcast to `x`.

    Example:
        >>> import torch
        >>> from sciml.solvers import project_box
        >>> project_box(torch.tensor([-1.0, 0.5, 3.0]), 0.0, 1.0).tolist()
        [0.0, 0.5, 1.0]
    """
    if not isinstance(lower, Tensor) and not isinstance(upper, Tensor):
        if not lower <= upper:
            raise InvalidArgument(f"lower={lower}, upper={upper}", "lower <= upper")
        return x.clamp(in_range("lower", lower, x), in_range("upper", upper, x))
    lower, upper = (torch.as_tensor(t, dtype=x.dtype, device=x.device) for t in (lower, upper))
    for name, bound in (("lower", lower), ("upper", upper)):
        fits(bound.shape, x.shape, name)
    # maximum and minimum halve the derivative at ties; a choice keeps that of one piece
    out = torch.where(x < lower, lower, torch.where(x > upper, upper, x))
    return torch.where(lower <= upper, out, torch.nan)


@takes(x=tensor)
def project_nonnegative(x: Tensor) -> Tensor:
    """Return the positive part, entry by entry.

    Example:
        >>> import torch
        >>> from sciml.solvers import project_nonnegative
        >>> project_nonnegative(torch.tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """
    return torch.relu(x)


@takes(x=tensor, radius=numbers)
def project_simplex(x: Tensor, radius: Radius = 1.0) -> Tensor:
    """Return the nearest `(*batch, n)` with non-negative entries that sum to `radius`.

    Args:
        x: `(*batch, n)`, n at least 1.
        radius: Positive number, or `(*batch)`.

    Raises:
        InvalidArgument: If n is 0 or the radius is not positive.

    Example:
        >>> import torch
        >>> from sciml.solvers import project_simplex
        >>> [round(v, 2) for v in project_simplex(torch.tensor([1.0, 0.5, -1.0])).tolist()]
        [0.75, 0.25, 0.0]
    """
    need_entries(x, "the simplex")
    radius = _checked_radius(radius, x)
    n = x.shape[-1]
    shifted = x - x.amax(-1, keepdim=True).detach()  # sums of equal size: no cancellation
    order = shifted.sort(-1, descending=True).values
    count = torch.arange(1, n + 1, dtype=x.dtype, device=x.device)
    level = (order.cumsum(-1) - radius) / count
    last = (order > level).sum(-1, keepdim=True).clamp_min(1) - 1
    return torch.relu(shifted - level.gather(-1, last))


@takes(x=tensor, radius=numbers)
def project_l1_ball(x: Tensor, radius: Radius = 1.0) -> Tensor:
    """Return the nearest `(*batch, n)` whose absolute values sum to at most `radius`.

    Raises:
        InvalidArgument: If the radius is not positive.

    Example:
        >>> import torch
        >>> from sciml.solvers import project_l1_ball
        >>> [round(v, 2) for v in project_l1_ball(torch.tensor([1.5, -1.0])).tolist()]
        [0.75, -0.25]
    """
    radius = _checked_radius(radius, x)
    if not x.shape[-1]:
        return x.clone()
    inside = x.abs().sum(-1, keepdim=True) <= radius
    face = project_simplex(x.abs(), radius.expand(*x.shape[:-1], 1)[..., 0]) * x.sgn()
    return torch.where(inside, x, face)


@takes(x=tensor, radius=numbers)
def project_l2_ball(x: Tensor, radius: Radius = 1.0) -> Tensor:
    """Return the nearest `(*batch, n)` of Euclidean length at most `radius`.

    Raises:
        InvalidArgument: If the radius is not positive.

    Example:
        >>> import torch
        >>> from sciml.solvers import project_l2_ball
        >>> project_l2_ball(torch.tensor([[0.0, 5.0]]), 2.0).tolist()
        [[0.0, 2.0]]
    """
    radius = _checked_radius(radius, x)
    length = safe_length(x)
    inside = length <= radius
    out = torch.where(inside, x, x * (radius / torch.where(inside, 1.0, length)))
    return torch.where(radius > 0, out, torch.nan)


@takes(x=tensor)
def project_second_order_cone(x: Tensor) -> Tensor:
    """Return the nearest `(*batch, 1 + n)` with `|x[1:]| <= x[0]`.

    Raises:
        InvalidArgument: If there is no first entry.

    Example:
        >>> import torch
        >>> from sciml.solvers import project_second_order_cone
        >>> project_second_order_cone(torch.tensor([[0.0, 2.0]])).tolist()
        [[1.0, 1.0]]
    """
    need_entries(x, "the second-order cone")
    height, rest = x[..., :1], x[..., 1:]
    length = safe_length(rest)
    half = 0.5 * (height + length)
    side = torch.cat([half, half * (rest / torch.where(length > 0, length, 1.0))], -1)
    below = length <= -height
    out = torch.where(length <= height, x, torch.where(below, torch.zeros_like(x), side))
    return torch.where(x.isnan().any(-1, keepdim=True), torch.nan, out)


@takes(x=tensor, matrix=tensor, rhs=tensor)
def project_affine(x: Tensor, matrix: Tensor, rhs: Tensor) -> Tensor:
    """Return the nearest `(*batch, n)` with `matrix @ x = rhs`.

    Where rows of the matrix depend on others, up to round-off, it is the nearest of the points with
    the least `|matrix @ x - rhs|`, which is zero where the equations agree.

    Args:
        x: `(*batch, n)`.
        matrix: `(m, n)` or `(*batch, m, n)`, m at most n.
        rhs: `(m,)` or `(*batch, m)`.

    Raises:
        InvalidArgument: If shapes do not fit.
        InvalidType: If the three are of several dtypes or on several devices.

    Example:
        >>> import torch
        >>> from sciml.solvers import project_affine
        >>> x = torch.zeros(2, dtype=torch.float64)
        >>> a, b = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        >>> [round(v, 9) for v in project_affine(x, a, b).tolist()]  # on x + y = 1
        [0.5, 0.5]
    """
    m, n = matrix.shape[-2:] if matrix.dim() > 1 else (0, 0)
    if not x.dim() or not rhs.dim() or n != x.shape[-1] or rhs.shape[-1] != m or m > n:
        raise InvalidArgument(
            f"matrix {tuple(matrix.shape)}, rhs {tuple(rhs.shape)}, x {tuple(x.shape)}",
            "matrix (*batch, m, n), rhs (*batch, m), x (*batch, n) with m <= n",
        )
    check_alike(x=x, matrix=matrix, rhs=rhs)
    kept = x.dtype
    if kept in (torch.float16, torch.bfloat16):  # LAPACK has no such type
        x, matrix, rhs = x.float(), matrix.float(), rhs.float()
    bad = ~matrix.isfinite().flatten(-2).all(-1)
    matrix = matrix.masked_fill(bad[..., None, None], 0.0)  # LAPACK refuses NaN for all rows
    # the normal matrix M M^T would square the condition number
    inverse = torch.linalg.pinv(matrix)
    gap = matrix @ x[..., None] - rhs[..., None]
    out = (x - (inverse @ gap)[..., 0]).masked_fill(bad[..., None], torch.nan)
    if out.shape != x.shape:
        raise InvalidArgument(
            f"matrix {tuple(matrix.shape)} and rhs {tuple(rhs.shape)} for x {tuple(x.shape)}",
            "batches that broadcast to that of x",
        )
    return out.to(kept)


def safe_length(x: Tensor) -> Tensor:
    """Return Euclidean lengths `(*batch, 1)`; 0 with derivative 0 at 0, at no scale overflowing."""
    if not x.shape[-1]:
        return x.new_zeros(*x.shape[:-1], 1)
    size = x.detach().abs().amax(-1, keepdim=True)
    size = torch.where((size > 0) & size.isfinite(), size, torch.ones_like(size))
    square = (x / size).square().sum(-1, keepdim=True)
    return torch.where(square == 0, 0.0, torch.where(square == 0, 1.0, square).sqrt()) * size


def need_entries(x: Tensor, what: str) -> None:
    """Refuse vectors without an entry."""
    if x.dim() == 0 or not x.shape[-1]:
        raise InvalidArgument(f"x of shape {tuple(x.shape)} for {what}", "(*batch, n) with n >= 1")


def fits(shape: torch.Size, wide: torch.Size, name: str) -> None:
    """Refuse a shape that does not broadcast to a wide one.

    Raises:
        InvalidArgument: With the name of the argument.
    """
    trailing = wide[len(wide) - len(shape) :]
    if len(shape) > len(wide) or any(a not in (1, b) for a, b in zip(shape, trailing, strict=True)):
        raise InvalidArgument(
            f"{name} of shape {tuple(shape)} for x of shape {tuple(wide)}",
            "a number, or a shape that broadcasts to that of x",
        )


def _checked_radius(radius: Radius, x: Tensor) -> Tensor:
    """Return the radius `(*batch, 1)`, NaN where it is not positive."""
    if x.dim() == 0:
        raise InvalidArgument("x without an axis", "(*batch, n)", "Type x[None]")
    if not isinstance(radius, Tensor):
        if not 0 < radius < math.inf:
            raise InvalidArgument(f"radius={radius}", "a positive number")
        return x.new_full((1,) * x.dim(), in_range("radius", radius, x))
    if radius.shape not in (x.shape[:-1], torch.Size()):
        raise InvalidArgument(
            f"radius of shape {tuple(radius.shape)} for x of shape {tuple(x.shape)}",
            f"a number, or one per row, {tuple(x.shape[:-1])}",
        )
    radius = radius.to(x.dtype).expand(x.shape[:-1])[..., None]
    return torch.where((radius > 0) & (radius < math.inf), radius, torch.nan)
