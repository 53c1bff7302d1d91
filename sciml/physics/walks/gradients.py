"""Gradients of solutions of Poisson's equation, pointwise, by walks on spheres.

In the largest known ball around x, radius R, n uniform on the unit sphere of R^d,

    grad u(x) = (d / R) E[n u(x + R n)] + (R d / (d + 1)) E[n f(x + s R n)]

for `Laplacian u = -f`, s of density `(d + 1) / d (1 - s^d)`: the derivative of the ball's Green
function at its centre, `(y - x) (|y - x|^-d - R^-d) / omega_d`. Directions come in opposite pairs,
which takes the value of u out; without them the variance would grow like 1 / R^2 towards the
boundary. u(x + R n) is one walk's value.

Sawhney and Crane, "Monte Carlo Geometry Processing", ACM Transactions on Graphics 39 (2020).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Domain
from sciml.physics.walks.green import directions
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.typed_arguments import typed


def gradient_radius(
    n: int, dim: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return `n` samples of s, as `U_1 U_2^(1 / (d + 1))` of independent uniform numbers."""
    u = torch.rand(2, n, generator=generator, device=generator.device, dtype=dtype)
    return u[0] * u[1] ** (1 / (dim + 1))


@typed
@torch.no_grad()
def estimate_gradients(
    engine: WalkOnSpheres,
    domain: Domain,
    problem: Dirichlet,
    points: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return gradients of u at points, and their standard errors, each `(B, P, d)` in float64.

    Args:
        engine: Its walks are shared out among opposite pairs of first directions, so they must be
            an even number, at least 4.
        domain: B domains.
        problem: Their equation, without screening and diffusion.
        points: `(B, P, d)` inside, farther from the boundary than the walks' `eps`.
        generator: Source of randomness.

    Raises:
        InvalidArgument: For other equations, an odd number of walks, or points on the boundary.

    Example:
        >>> import torch
        >>> from sciml.physics import Dirichlet, WalkOnSpheres
        >>> from sciml.physics.geometry import Ball
        >>> from sciml.physics.walks import estimate_gradients
        >>> problem, point = Dirichlet(boundary=lambda x, i: x[0]), torch.zeros(1, 1, 2)
        >>> engine, generator = WalkOnSpheres(walks=2000), torch.Generator().manual_seed(0)
        >>> mean, error = estimate_gradients(engine, Ball(), problem, point, generator)
        >>> wanted = torch.tensor([1.0, 0.0])  # u = x
        >>> bool(((mean[0, 0] - wanted).abs() < 5 * error[0, 0] + 1e-6).all())
        True
    """
    if problem.screening is not None or problem.diffusion is not None:
        raise InvalidArgument("a screening or a diffusion", "Laplacian u = -f")
    if engine.walks < 4 or engine.walks % 2:
        raise InvalidArgument(f"walks={engine.walks}", "an even number of at least 4")
    x, i = domain.columns(points.detach().to(engine.dtype))
    r = domain.gap(x, i)
    if not bool((r > (engine.eps * domain.scale()).to(r)[i]).all()):
        raise InvalidArgument(
            f"points within {float(r.min()):.1e} of the boundary", "farther than the walks' eps"
        )
    pairs, dim, n = engine.walks // 2, domain.dim, x.shape[1]
    out = directions(n * pairs, dim, generator, x.dtype).view(dim, n, pairs)
    ends = torch.cat([x[..., None] + r[:, None] * out, x[..., None] - r[:, None] * out], 2)
    shape = (domain.count, points.shape[1] * 2 * pairs, dim)
    ends = ends.movedim(0, 2).reshape(shape)
    single = replace(engine, walks=1, antithetic=False)
    u = single(domain, problem, ends, generator).mean.view(n, 2, pairs)
    change = (u[:, 0] - u[:, 1]) * (dim / 2) / r.double()[:, None]
    if problem.source is not None:
        s = gradient_radius(n * pairs, dim, generator, x.dtype).view(n, pairs) * r[:, None]
        where = i.repeat_interleave(pairs)
        one, other = (
            problem.source((x[..., None] + sign * s * out).flatten(1), where).view(n, pairs)
            for sign in (1, -1)
        )
        change = change + (one - other).double() * (r.double()[:, None] * dim / (2 * dim + 2))
    samples = change * out.double()
    mean, error = samples.mean(2), samples.std(2) / pairs**0.5
    result = (domain.count, points.shape[1], dim)
    return mean.T.reshape(result), error.T.reshape(result)
