"""How contractive a map is: spectral radius and norm of its Jacobian, and a penalty on its size.

The radius rules the speed of the iteration, forward and backward. Its dominant eigenvalues are
often a complex pair, on which power iteration does not settle; Arnoldi's method finds it.

References: Arnoldi's method, Saad 2011, Numerical Methods for Large Eigenvalue Problems, algorithm
6.2; the penalty, Bai, Koltun & Kolter 2021, arXiv 2106.14342, eq. (7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import function as function_
from sciml.arguments import generator as generator_
from sciml.arguments import maybe, takes, tensor, whole
from sciml.shapes import check_call, check_returned, name_of
from sciml.solvers.algebra.linear_operators import Linearised, Product
from sciml.solvers.layout import Layout
from sciml.solvers.solve_arguments import PARTS, layout_for
from sciml.tensor_types import check_alike


@takes(function=function_, x=tensor, steps=whole, generator=maybe(generator_), **PARTS)
def spectral_radius(
    function: Callable[..., Tensor],
    x: Tensor,
    theta: Sequence[Any] = (),
    *,
    steps: int = 20,
    layout: Layout | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the largest |eigenvalue| of the Jacobian in x, per problem.

    Args:
        function: `function(x, *theta)`, shape of x.
        x: Where; a solution, usually.
        theta: Further arguments.
        steps: Products with the transposed Jacobian; exact once there are as many as unknowns.
        layout: As in `root`.
        generator: Of the first vector.

    Returns:
        `(*P)`; from below, as a rule; NaN where the Jacobian is not finite.

    Example:
        >>> import torch
        >>> from sciml.solvers import spectral_radius
        >>> matrix = torch.diag(torch.tensor([0.9, 0.1]))
        >>> generator = torch.Generator().manual_seed(0)
        >>> radius = spectral_radius(lambda x: x @ matrix, torch.zeros(1, 2), generator=generator)
        >>> round(radius.item(), 2)
        0.9
    """
    layout, x = layout_for(x, layout), _ready(function, x, theta)
    with torch.autocast(x.device.type, enabled=False):
        product = Linearised(lambda y: function(y, *theta), x).transposed_times
        hessenberg = _arnoldi(product, x, layout, steps, generator)
    return _eigenvalues(hessenberg).abs().amax(-1)


@takes(function=function_, x=tensor, steps=whole, generator=maybe(generator_), **PARTS)
def spectral_norm(
    function: Callable[..., Tensor],
    x: Tensor,
    theta: Sequence[Any] = (),
    *,
    steps: int = 20,
    layout: Layout | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the largest singular value of the Jacobian in x, per problem, from below.

    Below 1 the map contracts near x. Arguments as in `spectral_radius`.

    Example:
        >>> import torch
        >>> from sciml.solvers import spectral_norm
        >>> a = torch.tensor([0.5, 3.0], dtype=torch.float64)
        >>> x = torch.zeros(1, 2, dtype=torch.float64)
        >>> g = torch.Generator().manual_seed(0)
        >>> round(spectral_norm(lambda x: a * x, x, generator=g).item(), 5)
        3.0
    """
    layout, x = layout_for(x, layout), _ready(function, x, theta)
    with torch.autocast(x.device.type, enabled=False):
        jacobian = Linearised(lambda y: function(y, *theta), x)

        def product(v: Tensor) -> Tensor:
            return jacobian.transposed_times(jacobian.times(v))

        tridiagonal = _arnoldi(product, x, layout, steps, generator)
    return _eigenvalues(tridiagonal).real.amax(-1).clamp_min(0).sqrt()


def _ready(function: Callable[..., Tensor], x: Tensor, theta: Sequence[Any]) -> Tensor:
    """Return x in a type that LAPACK has, after a look at the function's arguments."""
    check_call(f"'{name_of(function)}'", function, "(x, *theta)", x, *theta)
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _eigenvalues(matrix: Tensor) -> Tensor:
    """Return eigenvalues `(*P, k)`, NaN for matrices that are not finite, which LAPACK refuses."""
    bad = ~matrix.isfinite().all(-1).all(-1)
    found = torch.linalg.eigvals(matrix.masked_fill(bad[..., None, None], 0.0))
    return found.masked_fill(bad[..., None], torch.nan)


def _arnoldi(
    product: Product, x: Tensor, layout: Layout, steps: int, generator: torch.Generator | None
) -> Tensor:
    """Return the projection of a product on its Krylov space `(*P, k, k)`."""
    k = max(1, min(steps, layout.pack(x).shape[-1]))
    h = x.new_zeros(k + 1, *layout.problems(x), k)
    basis = x.new_zeros(k + 1, *x.shape)
    v = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    small = 10 * torch.finfo(x.dtype).eps
    norm, size = layout.norm(v), torch.zeros_like(layout.norm(v))
    for j in range(k):
        # an invariant subspace is complete: zeros from here on change no other eigenvalue
        inverse = torch.where(norm > small * size, 1 / norm, 0.0)
        basis[j] = v * layout.spread(inverse, v)
        if j:
            h[j, ..., j - 1] = torch.where(inverse > 0, norm, 0.0)
        v = product(basis[j])
        size = size.maximum(layout.norm(v))
        for _ in range(2):  # twice is enough to be orthogonal to round-off
            c = layout.dots(basis[: j + 1], v)
            h[: j + 1, ..., j] += c
            v = v - layout.combine(c, basis[: j + 1])
        norm = layout.norm(v)
    return h[:k].movedim(0, -2)


@takes(function=function_, x=tensor, probe=tensor, **PARTS)
def jacobian_rows(
    function: Callable[..., Tensor], x: Tensor, theta: Sequence[Any], probe: Tensor
) -> Tensor:
    """Return `v^T J`, shape of x, with a graph to theta and captured parameters.

    With Gaussian v the mean of |v^T J|^2 is |J|_F^2 (Hutchinson's estimator); as a term of a loss
    it keeps iterations few. As in the paper, x itself is held fixed.

    Args:
        function: `function(x, *theta)`, shape of x.
        x: Where; a solution, usually.
        theta: Further arguments.
        probe: v, shape of x.

    Example:
        >>> import torch
        >>> from sciml.solvers import jacobian_rows
        >>> x, v = torch.tensor([[2.0, 3.0]]), torch.ones(1, 2)
        >>> jacobian_rows(lambda x: x * x, x, (), v).tolist()
        [[4.0, 6.0]]
    """
    check_call(f"'{name_of(function)}'", function, "(x, *theta)", x, *theta)
    check_alike(x=x, probe=probe)
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach().requires_grad_()
        value = function(x, *theta)
        check_returned(name_of(function), value, tuple(probe.shape), what="that of the probe")
        return torch.autograd.grad(value, x, probe, create_graph=True)[0]
