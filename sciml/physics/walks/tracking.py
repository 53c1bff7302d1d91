"""Rates at which walks die: constants, and bounds of variable screening (delta tracking).

See `sciml.physics.walks.spheres` for the equation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import ScalarField
from sciml.physics.geometry import Domain
from sciml.shapes import as_array

# Interior points drawn of each domain to find the bound of delta tracking.
BOUND_POINTS = 2048


def reduced_screening(
    diffusion: ScalarField | None, screening: float | ScalarField | None = None
) -> ScalarField:
    """Return sigma' of the module's docstring, `diffusion` differentiated automatically.

    Args:
        diffusion: alpha, twice differentiable and positive, or None for 1.
        screening: sigma, or None for 0.
    """

    def reduced(x: Tensor, i: Tensor) -> Tensor:
        value = torch.zeros_like(x[0])
        if screening is not None:
            value = value + (screening(x, i) if callable(screening) else screening)
        if diffusion is None:
            return value
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            alpha = diffusion(x, i)
            # the zero keeps derivatives defined where alpha is affine or constant
            log = torch.log(alpha) + 0 * x.square().sum(0)
            (slope,) = torch.autograd.grad(log.sum(), x, create_graph=True)
            second = [
                torch.autograd.grad(slope[k].sum(), x, retain_graph=True)[0][k]
                for k in range(len(x))
            ]
        return (value / alpha + sum(second) / 2 + slope.square().sum(0) / 4).detach()

    return reduced


def tracking_bound(
    domain: Domain, reduced: ScalarField, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Return a rate `(B,)` for delta tracking: max sigma', and at least max - min.

    From random points: a bound that is missed costs variance, seen in `max_weight`, not bias.
    """
    points = domain.sample_interior(BOUND_POINTS, generator, dtype)
    value = reduced(*domain.columns(points)).view(domain.count, -1)
    low, high = value.amin(1), value.amax(1)
    # a rate of zero would divide by zero where sigma' vanishes; then nothing is born again anyway
    floor = 1e-3 / domain.scale().to(value) ** 2
    return torch.maximum(torch.maximum(high, high - low), floor)


def constants(name: str, value: object, domain: Domain, like: Tensor) -> Tensor:
    """Return one number, or one per domain, as `(B,)`.

    Raises:
        InvalidType: For what is no number.
        InvalidArgument: For another number of numbers, or ones that are not finite.
    """
    given = as_array(name, value, "a number, one per domain, or a function").to(like)
    if tuple(given.shape) not in ((), (1,), (domain.count,)) or not bool(given.isfinite().all()):
        raise InvalidArgument(
            f"{name} of shape {tuple(given.shape)}", f"a finite number, or {domain.count} of them"
        )
    return given.expand(domain.count)
