"""Proximal maps, `prox(x) = argmin_u g(u) + |u - x|^2 / 2`, with their weight inside g.

They hold for any batch; weights are numbers or tensors that broadcast, and are not negative. The
prox of the indicator of a set is its projection, see `projections`. There is no derivative at the
thresholds themselves; autograd returns that of the zero piece there.

Source: Parikh & Boyd 2014, Proximal Algorithms, section 6.5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.arguments import numbers, takes, tensor
from sciml.errors import InvalidArgument
from sciml.solvers.optimization.projections import fits, need_entries, safe_length
from sciml.tensor_types import in_range

Weight = float | Tensor


@takes(x=tensor, weight=numbers)
def soft_threshold(x: Tensor, weight: Weight) -> Tensor:
    """Return the prox of `weight |u|_1`, entry by entry: `sign(x) max(|x| - weight, 0)`.

    Args:
        x: Any shape.
        weight: Number or tensor that broadcasts to `x`; negative entries give NaN.

    Raises:
        InvalidArgument: If a number is negative or NaN, or the weight widens `x`.

    Example:
        >>> import torch
        >>> from sciml.solvers import soft_threshold
        >>> soft_threshold(torch.tensor([3.0, -0.5]), 1.0).tolist()
        [2.0, 0.0]
    """
    weight = _checked(weight, x)
    return torch.where(x.abs() > weight, x - x.sgn() * weight, 0.0 * x + 0.0 * weight)


@takes(x=tensor, weight=numbers)
def group_soft_threshold(x: Tensor, weight: Weight) -> Tensor:
    """Return the prox of `weight |u|_2` over the last axis (group lasso).

    Groups that are not an axis: reshape, or apply it to each slice.

    Args:
        x: `(*batch, n)`; the last axis is one group.
        weight: Number or `(*batch, 1)`; negative entries give NaN.

    Raises:
        InvalidArgument: As in `soft_threshold`.

    Example:
        >>> import torch
        >>> from sciml.solvers import group_soft_threshold
        >>> found = group_soft_threshold(torch.tensor([[0.0, 5.0]]), 1.0)  # shorter by the weight
        >>> [round(v, 6) for v in found[0].tolist()]
        [0.0, 4.0]
    """
    if not x.dim():
        need_entries(x, "a group")
    weight = _checked(weight, x)
    length = safe_length(x)
    kept = length > weight
    scale = torch.where(kept, 1 - weight / torch.where(kept, length, 1.0), 0.0 * weight)
    return scale * x


@takes(x=tensor, l1=numbers, l2=numbers)
def prox_elastic_net(x: Tensor, l1: Weight, l2: Weight) -> Tensor:
    """Return the prox of `l1 |u|_1 + l2 |u|^2 / 2`.

    Raises:
        InvalidArgument: As in `soft_threshold`.

    Example:
        >>> import torch
        >>> from sciml.solvers import prox_elastic_net
        >>> prox_elastic_net(torch.tensor([5.0, 0.5]), 1.0, 1.0).tolist()  # (5 - 1) / (1 + 1)
        [2.0, 0.0]
    """
    return soft_threshold(x, l1) / (1 + _checked(l2, x))


def _checked(weight: Weight, x: Tensor) -> Tensor:
    if not isinstance(weight, Tensor):
        if not weight >= 0:
            raise InvalidArgument(f"weight={weight}", "zero or a positive number")
        return x.new_full((), in_range("weight", weight, x))
    fits(weight.shape, x.shape, "weight")
    return torch.where(weight >= 0, weight.to(x.dtype), torch.nan)
