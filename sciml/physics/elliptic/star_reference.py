"""Sources that are sums of Gaussians, and reference solutions in smooth star-shaped domains.

    Laplacian u = -f  in the domain,    u = g  on its boundary,
    f = sum_k amplitude_k exp(-|x - center_k|^2)

The source has a particular solution in closed form: with rho = |x - center|^2

    Laplacian v = exp(-rho)    for    v = (E1(rho) + log rho) / 4.

The rest is harmonic: see `sciml.physics.elliptic.curve_reference`. 256 nodes give an error of about
1e-12 in the family of `star_family` for smooth g.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy.special import exp1
from torch import Tensor

from sciml.physics.elliptic.curve_reference import curve_reference
from sciml.physics.elliptic.elliptic_problem import ScalarField
from sciml.physics.geometry import Star
from sciml.physics.geometry.domain_rows import Numbers, rows_of

EULER = 0.5772156649015329


class Gaussians:
    """The field `f(x, i) = sum_k amplitude_k exp(-|x - center_k|^2)`, of B instances.

    Args:
        amplitude: `(B, K)` or `(K,)`.
        center: `(B, K, d)` or `(K, d)`.

    Raises:
        InvalidArgument: If shapes do not fit.
    """

    def __init__(self, amplitude: Numbers, center: Numbers) -> None:
        self.amplitude = rows_of("amplitude", amplitude, (None,))
        self.center = rows_of("center", center, (self.amplitude.shape[1], None))

    def to(self, device: torch.device | str) -> Gaussians:
        """Return a copy on `device`."""
        return Gaussians(self.amplitude.to(device), self.center.to(device))

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return f `(N,)` at `x (d, N)` in the instances `i (N,)`."""
        amplitude, center = self.amplitude.to(x), self.center.to(x)
        value = torch.zeros_like(x[0])
        for k in range(amplitude.shape[1]):
            square = torch.zeros_like(x[0])
            for axis, coordinate in enumerate(x):
                gap = coordinate - _choose(center[:, k, axis], i)
                square.addcmul_(gap, gap)
            value.addcmul_(square.neg_().exp_(), _choose(amplitude[:, k], i))
        return value

    def gradient(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the gradient of f `(d, N)`."""
        total = torch.zeros_like(x)
        for gap, term in self._terms(x, i):
            total -= 2 * gap * term
        return total

    def laplacian(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the Laplacian of f `(N,)`."""
        total = torch.zeros_like(x[0])
        for gap, term in self._terms(x, i):
            total += (4 * gap.square().sum(0) - 2 * len(x)) * term
        return total

    def _terms(self, x: Tensor, i: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `x - center` `(d, N)` and the value `(N,)` of every Gaussian."""
        amplitude, center = self.amplitude.to(x), self.center.to(x)
        for k in range(amplitude.shape[1]):
            place = center[:, k].T
            gap = x - (place if len(center) == 1 else place.index_select(1, i))
            yield gap, _choose(amplitude[:, k], i) * (-gap.square().sum(0)).exp()

    def potential(self, x: Tensor, i: Tensor) -> Tensor:
        """Return v `(N,)` with `Laplacian v = f`, for d = 2, in float64."""
        center = self.center.to(x).double()[i]
        rho = (x.double().T[:, None] - center).square().sum(2)
        small = rho < 1e-8
        safe = torch.where(small, 1.0, rho)
        e1 = torch.from_numpy(exp1(safe.cpu().numpy())).to(safe)
        # E1(rho) + log rho = -gamma + rho - rho^2 / 4 + ...
        v = torch.where(small, rho - EULER, e1 + safe.log()) / 4
        return (v * self.amplitude.to(v)[i]).sum(1)


def star_reference(
    star: Star,
    boundary: ScalarField,
    points: Tensor,
    source: Gaussians | None = None,
    nodes: int = 256,
) -> Tensor:
    """Return the solutions `(B, P)` at `points (B, P, 2)` in float64.

    Args:
        star: B domains.
        boundary: g, smooth along the boundary.
        points: `(B, P, 2)` inside the domains or on their boundaries.
        source: f, or None for 0.
        nodes: Nodes of the boundary, an even number.

    Raises:
        InvalidArgument: If the points do not fit the domains.
    """
    return curve_reference(star, boundary, points, source, nodes)


def _choose(value: Tensor, i: Tensor) -> Tensor:
    """Return `value (B,)` for every column, or the only one."""
    return value[0] if len(value) == 1 else value.index_select(0, i)
