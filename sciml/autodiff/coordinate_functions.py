"""Functions of all coordinates at once that know how to be differentiated: norms, forms, sums.

Each takes a tensor `(N, d)` or `Coordinates` and returns `(N, 1)` or `(N, h)`, a tensor or a jet.
Their derivatives along directions are contractions, so that nothing of the size K N d is formed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor

from sciml.autodiff.coordinates import Coordinates
from sciml.autodiff.directions import RadialDirection, squared_length
from sciml.autodiff.jet import Jet
from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Carrying, Differentiable


@overload
def linear_map(
    x: Tensor, forward: Callable[[Tensor], Tensor], columns: Callable[[Tensor], Tensor]
) -> Tensor: ...
@overload
def linear_map(
    x: Carrying, forward: Callable[[Tensor], Tensor], columns: Callable[[Tensor], Tensor]
) -> Jet: ...
@typed
def linear_map(
    x: Differentiable, forward: Callable[[Tensor], Tensor], columns: Callable[[Tensor], Tensor]
) -> Differentiable:
    """Apply a linear map of x that is not a plain matrix product.

    Args:
        x: Tensor `(N, d)` or `Coordinates`.
        forward: Map of rows, `(M, d) -> (M, h)`, linear, without bias.
        columns: Gather of columns, index tensor `(*,)` to `(*, h)`: the image of each unit vector.

    Returns:
        Tensor or jet `(N, h)`.

    Example:
        >>> import torch
        >>> from sciml.autodiff import linear_map
        >>> a = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
        >>> linear_map(torch.tensor([[3.0, 1.0]]), lambda x: x @ a, lambda i: a[i])
        tensor([[3., 7.]])
    """
    return x.map_linear(forward, columns) if isinstance(x, Coordinates) else forward(x)


@overload
def squared_norm(x: Tensor) -> Tensor: ...
@overload
def squared_norm(x: Carrying) -> Jet: ...
def squared_norm(x: Differentiable) -> Differentiable:
    """Return |x|^2 `(N, 1)` of a tensor or of coordinates.

    Example:
        >>> import torch
        >>> from sciml.autodiff import squared_norm
        >>> squared_norm(torch.tensor([[3.0, 4.0]]))
        tensor([[25.]])
    """
    if not isinstance(x, Coordinates) or not x.is_identity:
        return (x * x).sum(-1, keepdim=True)
    # Along v: 2 x.v, then 2 |v|^2. Nothing of the size of x is formed.
    frame, n = x.frame, x.shape[0]
    value = squared_length(x.x)[:, None]
    radial = [isinstance(p, RadialDirection) for p in x.parts]
    rows = zip(x.parts, radial, strict=True)
    first = [value.t() if r else p.power_sum(x.x, x.x, 1) for p, r in rows]
    orders = [2 * torch.cat([row.expand(-1, n) for row in first])[..., None]]
    if frame.order > 1:
        rows = zip(x.parts, radial, strict=True)
        second = [value.t() if r else p.squared_length(x.x) for p, r in rows]
        orders.append(2 * torch.cat([row.expand(-1, n) for row in second])[..., None])
        orders += [torch.zeros_like(orders[0]) for _ in range(2, frame.order)]
        if frame.weights is not None:
            orders[-1] = frame.collapse(orders[-1])
    return Jet(value, orders, frame)


@overload
def sum_coordinates(x: Tensor) -> Tensor: ...
@overload
def sum_coordinates(x: Carrying) -> Jet: ...
def sum_coordinates(x: Differentiable) -> Differentiable:
    """Return the sum of all coordinates `(N, 1)` of a tensor or of coordinates.

    Example:
        >>> import torch
        >>> from sciml.autodiff import sum_coordinates
        >>> sum_coordinates(torch.tensor([[1.0, 2.0, 4.0]]))
        tensor([[7.]])
    """
    return x.sum(-1, keepdim=True)


@overload
def quadratic_form(x: Tensor, matvec: Callable[[Tensor], Tensor], diagonal: Tensor) -> Tensor: ...
@overload
def quadratic_form(x: Carrying, matvec: Callable[[Tensor], Tensor], diagonal: Tensor) -> Jet: ...
@typed
def quadratic_form(
    x: Differentiable, matvec: Callable[[Tensor], Tensor], diagonal: Tensor
) -> Differentiable:
    """Return x . A x `(N, 1)` for a symmetric matrix that is never formed.

    Args:
        x: Tensor `(N, d)` or `Coordinates`.
        matvec: Product with A, `(M, d) -> (M, d)`.
        diagonal: Diagonal of A `(d,)`, enough for one-hot directions.

    Example:
        >>> import torch
        >>> from sciml.autodiff import quadratic_form
        >>> a = torch.tensor([1.0, 10.0])
        >>> quadratic_form(torch.tensor([[2.0, 1.0]]), lambda x: a * x, a)
        tensor([[14.]])
    """
    if not isinstance(x, Coordinates):
        return (x * matvec(x)).sum(-1, keepdim=True)
    _check_identity(x, "quadratic_form")
    frame, y = x.frame, matvec(x.x)
    n = x.shape[0]
    first = torch.cat([p.power_sum(x.x, 2 * y, 1) for p in x.parts])[..., None]
    second = []
    for p in x.parts:
        index = getattr(p, "index", None)
        if index is not None and index.shape[2] == 1 and p.coefficient is None:
            curvature = 2 * diagonal.to(y)[index[:, :, 0]].t()
        else:
            v = p.dense(x.x)
            curvature = 2 * (v * matvec(v.reshape(-1, v.shape[-1])).reshape(v.shape)).sum(-1)
        second.append(curvature.expand(-1, n))
    orders = [first, torch.cat(second)[..., None]][: frame.order]
    orders += [torch.zeros_like(first)] * (frame.order - len(orders))
    if frame.weights is not None:
        orders[-1] = frame.collapse(orders[-1])
    return Jet((x.x * y).sum(-1, keepdim=True), orders, frame)


@overload
def max_coordinate(x: Tensor) -> Tensor: ...
@overload
def max_coordinate(x: Carrying) -> Jet: ...
def max_coordinate(x: Differentiable) -> Differentiable:
    """Return the largest coordinate `(N, 1)`; differentiable where the maximum is unique.

    Example:
        >>> import torch
        >>> from sciml.autodiff import max_coordinate
        >>> max_coordinate(torch.tensor([[1.0, 4.0, 2.0]]))
        tensor([[4.]])
    """
    if not isinstance(x, Coordinates):
        return x.amax(-1, keepdim=True)
    _check_identity(x, "max_coordinate")
    winner = x.x.argmax(-1, keepdim=True)
    mask = torch.zeros_like(x.x).scatter(1, winner, 1.0)
    first = torch.cat([p.power_sum(x.x, mask, 1) for p in x.parts])[..., None]
    orders = [first] + [torch.zeros_like(first)] * (x.frame.order - 1)
    if x.frame.weights is not None:
        orders[-1] = x.frame.collapse(orders[-1])
    return Jet(x.x.gather(1, winner), orders, x.frame)


def _check_identity(x: Coordinates, name: str) -> None:
    """Refuse functions of x where only x itself is differentiated correctly."""
    if not x.is_identity:
        raise InvalidArgument(
            f"{name} of a function of the coordinates",
            "the coordinates themselves",
            "Apply the function to x, or write the sum out with torch functions",
        )
