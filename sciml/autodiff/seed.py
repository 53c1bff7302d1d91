"""Start of a differentiation: seed x and t, call the function, read off derivatives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.autodiff.coordinates import Coordinates
from sciml.autodiff.directions import Directions
from sciml.autodiff.elementwise import MAX_ORDER
from sciml.autodiff.jet import Jet, zeros
from sciml.autodiff.taylor import Frame
from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed


@typed
def seed(
    x: Tensor,
    t: Tensor | None,
    parts: list[Directions],
    weights: Tensor | None = None,
    order: int = 2,
    laplacian: float = 0.0,
) -> tuple[Coordinates, Jet | None]:
    """Return x and t seeded with directions.

    Args:
        x: `(N, d)`.
        t: `(N, 1)` or None.
        parts: Directions, K rows in all.
        weights: Collapse weights of the leading directions, `(k,)` or `(k, N)` with k <= K; the
            remaining rows get weight zero, they are there for their first derivative. None keeps
            the top order of every direction.
        order: Highest derivative, 1 to 4. With order 1 nothing is collapsed.
        laplacian: Share of the Laplacian that the weights make the collapsed channel estimate.

    Raises:
        InvalidArgument: If the order is outside 1 to 4 or there are more weights than directions.

    Example:
        >>> import torch
        >>> from sciml.autodiff import one_hot, seed
        >>> x, _ = seed(torch.tensor([[3.0, 4.0]]), None, [one_hot(torch.arange(2))])
        >>> (x**2).sum(-1, keepdim=True).first[:, 0, 0].tolist()  # the gradient of |x|^2
        [6.0, 8.0]
    """
    if not 1 <= order <= MAX_ORDER:
        raise InvalidArgument(f"order={order}", f"a derivative order from 1 to {MAX_ORDER}")
    if t is not None and (t.dim() != 2 or t.shape[1] != 1 or t.shape[0] not in (1, x.shape[0])):
        raise InvalidArgument(
            f"t of shape {tuple(t.shape)} for x of shape {tuple(x.shape)}",
            f"a time per point, ({x.shape[0]}, 1)",
            "Write t[:, None]" if t.dim() == 1 else "",
        )
    num = sum(p.num for p in parts)
    if weights is not None:
        if weights.shape[0] > num:
            raise InvalidArgument(f"{weights.shape[0]} weights for {num} directions")
        if weights.shape[0] < num:
            rest = weights.new_zeros(num - weights.shape[0], *weights.shape[1:])
            weights = torch.cat([weights, rest])
        weights = weights[..., None] if weights.dim() == 2 else weights
    frame = Frame(order, num, weights if order > 1 else None, laplacian)
    coordinates = Coordinates(x, parts, frame, [x, 1.0, *([0.0] * (order - 1))])
    return coordinates, None if t is None else _seed_time(t, parts, frame)


def _seed_time(t: Tensor, parts: list[Directions], frame: Frame) -> Jet:
    rows = [t.new_full((p.num, 1, 1), p.time) for p in parts]
    higher = [t.new_zeros(frame.num, 1, 1) for _ in range(2, frame.order + 1)]
    if higher and frame.weights is not None:
        higher[-1] = torch.zeros_like(t)
    return Jet(t, [torch.cat(rows), *higher], frame)


@typed
def push(
    function: Callable,
    x: Tensor,
    t: Tensor | None,
    parts: list[Directions],
    weights: Tensor | None = None,
    order: int = 2,
    laplacian: float = 0.0,
) -> Jet:
    """Return the jet of `function(x)` or `function(x, t)` with values `(N, h)`; see `seed`.

    Raises:
        InvalidArgument: If the function returns anything but one row per point.

    Example:
        >>> import torch
        >>> from sciml.autodiff import one_hot, push
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> jet = push(lambda x: (x**2).sum(-1, keepdim=True), x, None, [one_hot(torch.arange(2))])
        >>> jet.first[:, 0, 0].tolist(), jet.top[:, 0, 0].tolist()  # d_i and d_i^2 of |x|^2
        ([2.0, 4.0], [2.0, 2.0])
    """
    coordinates, time = seed(x, t, parts, weights, order, laplacian)
    out = function(coordinates) if t is None else function(coordinates, time)
    if isinstance(out, Coordinates):
        return out.expand_tangents()
    if not isinstance(out, Jet):  # the function does not depend on its inputs
        out = Jet(out, zeros(out, coordinates.frame, 1), coordinates.frame)
    if out.value.dim() != 2:
        raise InvalidArgument(
            f"a function with values of shape {tuple(out.value.shape)}",
            "one row per point, (N, h)",
            "Keep the feature axis: z.sum(-1, keepdim=True), z[..., :1]",
        )
    n = max(x.shape[0], out.value.shape[0])
    derivatives = [z.expand(*z.shape[:-2], n, -1) for z in out.derivatives]
    return Jet(out.value, derivatives, out.frame)
