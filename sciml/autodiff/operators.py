"""Derivatives of plain functions and modules, without autograd graphs and without Hessians.

    laplacian(f, x)                sum_j d_j^2 f
    trace(f, x, weights=a)         sum_j a_j d_j^2 f         trace(f, x, sigma=s)   tr(s s^T H)
    directional(f, x, v, 3)        [D f[v], D^2 f[v, v], D^3 f[v, v, v]]
    bilaplacian(f, x)              sum_ij d_i^2 d_j^2 f
    second_mixed(f, x, i, j)       d_i d_j f
    mixed(f, x, i, j)              d_i^2 d_j f
    d_x_d_t(f, x, t, i)            d_i d_t f

Everything is exact. Results are differentiable in the parameters of f and, with one ordinary
backward, work under `no_grad`, `inference_mode` and `torch.compile`. For estimates from few
directions see `sciml.autodiff.estimators`.

Functions are called as `f(x)`, or `f(x, t)` where a time is given. They take x `(N, d)` and t
`(N, 1)`, return `(N, h)`, and treat the N rows alike: linear layers, activations, sums, products,
as in any `torch.nn.Module`.

Reference: mixed derivatives by polarisation of directional ones: Griewank, Utke, Walther,
"Evaluating higher derivative tensors by forward propagation of univariate Taylor series",
Math. Comp. 69 (2000).
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sciml.arguments import integers, shown, whole
from sciml.autodiff.directions import DenseDirections, SparseDirections
from sciml.autodiff.draws import DifferentialOperator, Draw
from sciml.autodiff.seed import push
from sciml.errors import InvalidArgument, InvalidType
from sciml.typed_arguments import typed

CoordinateIndex = int | Tensor


@typed
def laplacian(
    f: Callable, x: Tensor, t: Tensor | None = None, *, chunk: int | None = None
) -> Tensor:
    """Return the Laplacian in x.

    Args:
        f: Function or module.
        x: `(N, d)`.
        t: `(N, 1)`, or None for a function of x alone.
        chunk: Directions held in memory at a time, None for all d; a backward pass then
            evaluates f again for every chunk.

    Returns:
        `(N, h)`.

    Raises:
        InvalidArgument: If x or the output of f is not a matrix.

    Example:
        >>> import torch
        >>> from sciml.autodiff import laplacian
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> laplacian(lambda x: (x**4).sum(-1, keepdim=True), x).item()  # 12 (1 + 4 + 9)
        168.0
    """
    return trace(f, x, t, chunk=chunk)


@typed
def trace(
    f: Callable,
    x: Tensor,
    t: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    sigma: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Return a weighted trace of the Hessian in x.

    Args:
        f: Function or module.
        x: `(N, d)`.
        t: `(N, 1)`, or None for a function of x alone.
        weights: a in `sum_j a_j d_j^2 f`, `(d,)` or `(N, d)`, of any sign; None for ones.
        sigma: Instead, the factor in `tr(sigma sigma^T H)`, `(d, m)` or `(N, d, m)`.
        chunk: Directions held in memory at a time, None for all.

    Returns:
        `(N, h)`.

    Raises:
        InvalidArgument: If both weights and sigma are given, if their shape does not fit x, or if
            x or the output of f is not a matrix.

    Example:
        >>> import torch
        >>> from sciml.autodiff import trace
        >>> x, weights = torch.tensor([[1.0, 2.0]]), torch.tensor([1.0, 10.0])
        >>> trace(lambda x: (x**2).sum(-1, keepdim=True), x, weights=weights).item()  # 2 (1 + 10)
        22.0
    """
    if weights is not None and sigma is not None:
        raise InvalidArgument("both weights and sigma", "one of them")
    n, d = _shape(x)
    if weights is not None and tuple(weights.shape) not in ((d,), (n, d)):
        raise InvalidArgument(f"weights of shape {tuple(weights.shape)}", f"({d},) or ({n}, {d})")
    if sigma is not None and tuple(sigma.shape[:-1]) not in ((d,), (n, d)):
        raise InvalidArgument(f"sigma of shape {tuple(sigma.shape)}", f"({d}, m) or ({n}, {d}, m)")
    operator = DifferentialOperator(d, 2, weights=weights, sigma=sigma)
    return _sum(f, x, t, operator.exact(x), 2, chunk, float(operator.is_laplacian))


@typed
def bilaplacian(
    f: Callable, x: Tensor, t: Tensor | None = None, *, chunk: int | None = None
) -> Tensor:
    """Return the Laplacian of the Laplacian in x, from 2 d (d + 1) directional derivatives.

    Args:
        f: Function or module.
        x: `(N, d)`.
        t: `(N, 1)`, or None for a function of x alone.
        chunk: Directions held in memory at a time, None for all.

    Returns:
        `(N, h)`.

    Raises:
        InvalidArgument: If x or the output of f is not a matrix.

    Example:
        >>> import torch
        >>> from sciml.autodiff import bilaplacian
        >>> x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
        >>> round(bilaplacian(lambda x: (x**2).sum(-1, keepdim=True) ** 2, x).item(), 6)  # of |x|^4
        64.0
    """
    _, d = _shape(x)
    return _sum(f, x, t, DifferentialOperator(d, 4).exact(x), 4, chunk, 0.0)


@typed
def directional(
    f: Callable, x: Tensor, vectors: Tensor, order: int = 2, t: Tensor | None = None
) -> list[Tensor]:
    """Return the derivatives of orders 1 to `order` along vectors.

    Args:
        f: Function or module.
        x: `(N, d)`.
        vectors: `(K, d)` for all points, or `(K, N, d)`.
        order: Highest derivative, 1 to 4.
        t: `(N, 1)`, held fixed, or None for a function of x alone.

    Returns:
        `order` tensors `(K, N, h)`.

    Raises:
        InvalidArgument: For another order, or if shapes do not fit.

    Example:
        >>> import torch
        >>> from sciml.autodiff import directional
        >>> x, v = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]])
        >>> found = directional(lambda x: (x**3).sum(-1, keepdim=True), x, v, order=3)
        >>> [derivative.item() for derivative in found]  # 3 x^2, 6 x and 6, summed over x
        [15.0, 18.0, 12.0]
    """
    n, d = _shape(x)
    if vectors.dim() not in (2, 3) or tuple(vectors.shape[1:]) not in ((d,), (n, d)):
        raise InvalidArgument(
            f"vectors of shape {tuple(vectors.shape)}", f"(K, {d}) or (K, {n}, {d})"
        )
    jet = push(f, x, t, [DenseDirections(vectors.to(x))], order=order)
    return jet.derivatives


@typed
def second_mixed(
    f: Callable, x: Tensor, i: CoordinateIndex, j: CoordinateIndex, t: Tensor | None = None
) -> Tensor:
    """Return `d_i d_j f = (D2[a+b] - D2[a-b]) / 4` for a, b the unit vectors i, j.

    Args:
        f: Function or module.
        x: `(N, d)`.
        i: Coordinate, or coordinates `(K,)`.
        j: Coordinate, or coordinates `(K,)`, paired with `i`.
        t: `(N, 1)`, held fixed, or None for a function of x alone.

    Returns:
        `(N, h)`, or `(K, N, h)` where i or j is a tensor.

    Raises:
        InvalidArgument: For a coordinate that does not exist.

    Example:
        >>> import torch
        >>> from sciml.autodiff import second_mixed
        >>> x = torch.tensor([[2.0, 3.0]])
        >>> second_mixed(lambda x: x[:, :1] * x[:, 1:], x, 0, 1).item()
        1.0
    """
    i, j, single = _pair(x, i, j)
    part = SparseDirections(torch.stack([i, j], 1).repeat(2, 1), _signs(x, len(i), (1, 1), (1, -1)))
    plus, minus = push(f, x, t, [part], order=2).top.chunk(2)
    return _squeezed((plus - minus) / 4, single)


@typed
def mixed(
    f: Callable, x: Tensor, i: CoordinateIndex, j: CoordinateIndex, t: Tensor | None = None
) -> Tensor:
    """Return `d_i^2 d_j f = (D3[a+b] - D3[a-b] - 2 D3[b]) / 6` for a, b the unit vectors i, j.

    Args:
        f: Function or module.
        x: `(N, d)`.
        i: Coordinate differentiated twice, or coordinates `(K,)`.
        j: Coordinate differentiated once, or coordinates `(K,)`, paired with `i`.
        t: `(N, 1)`, held fixed, or None for a function of x alone.

    Returns:
        `(N, h)`, or `(K, N, h)` where i or j is a tensor.

    Raises:
        InvalidArgument: For a coordinate that does not exist.

    Example:
        >>> import torch
        >>> from sciml.autodiff import mixed
        >>> x = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
        >>> mixed(lambda x: x[..., :1] ** 2 * x[..., 1:], x, 0, 1).round()  # d_x^2 d_y (x^2 y)
        tensor([[2.]], dtype=torch.float64)
    """
    i, j, single = _pair(x, i, j)
    index = torch.stack([i, j], 1).repeat(3, 1)
    part = SparseDirections(index, _signs(x, len(i), (1, 1), (1, -1), (0, 1)))
    plus, minus, alone = push(f, x, t, [part], order=3).top.chunk(3)
    return _squeezed((plus - minus - 2 * alone) / 6, single)


@typed
def d_x_d_t(f: Callable, x: Tensor, t: Tensor, i: CoordinateIndex) -> Tensor:
    """Return `d_i d_t f` by polarisation; arguments, returns and errors as in `second_mixed`.

    Example:
        >>> import torch
        >>> from sciml.autodiff import d_x_d_t
        >>> x, t = torch.tensor([[3.0]]), torch.tensor([[1.0]])
        >>> d_x_d_t(lambda x, t: x**2 * t, x, t, 0).item()  # 2 x
        6.0
    """
    i, _, single = _pair(x, i, i)
    parts = [SparseDirections(i, time=1.0), SparseDirections(i, time=-1.0)]
    plus, minus = push(f, x, t, parts, order=2).top.chunk(2)
    return _squeezed((plus - minus) / 4, single)


def _sum(
    f: Callable,
    x: Tensor,
    t: Tensor | None,
    draw: Draw,
    order: int,
    chunk: int | None,
    share: float,
) -> Tensor:
    """Return the weighted sum over all directions of a draw, `(N, h)`."""
    pieces = draw.chunk(chunk)

    def run(piece: Draw) -> Tensor:
        part, weights = [piece.part], piece.weights
        return push(f, x, t, part, weights, order, share / len(pieces)).top

    if len(pieces) == 1:
        return run(pieces[0])
    return sum(checkpoint(run, piece, use_reentrant=False) for piece in pieces)


def _shape(x: Tensor) -> tuple[int, int]:
    if x.dim() != 2:
        raise InvalidArgument(f"x of shape {tuple(x.shape)}", "points in rows, (N, d)")
    return x.shape[0], x.shape[1]


def _pair(x: Tensor, i: CoordinateIndex, j: CoordinateIndex) -> tuple[Tensor, Tensor, bool]:
    """Return both coordinates as tensors `(K,)`, and whether both were plain integers."""
    for k in (i, j):
        if whole(k) and integers(k):
            raise InvalidType(f"a coordinate that is {shown(k)}", "an integer, or a tensor of them")
    single = isinstance(i, Integral) and isinstance(j, Integral)
    _, d = _shape(x)
    i, j = (int(k) if isinstance(k, Integral) and -d <= k < d else k for k in (i, j))
    if any(isinstance(k, Integral) and not 0 <= k < d for k in (i, j)):
        raise InvalidArgument(f"coordinates {i} and {j}", f"integers from 0 to {d - 1}")
    rows = [torch.as_tensor(k, device=x.device).reshape(-1) for k in (i, j)]
    both = torch.broadcast_tensors(*rows)
    for k in both:
        if k.numel() == 0 or int(k.min()) < 0 or int(k.max()) >= d:
            raise InvalidArgument(f"coordinates {k.tolist()}", f"integers from 0 to {d - 1}")
    return both[0], both[1], single


def _signs(x: Tensor, count: int, *pairs: tuple[int, int]) -> Tensor:
    """Return the coefficients of `count` directions for each pair of signs."""
    return torch.tensor(pairs, dtype=x.dtype, device=x.device).repeat_interleave(count, 0)


def _squeezed(z: Tensor, single: bool) -> Tensor:
    return z[0] if single else z
