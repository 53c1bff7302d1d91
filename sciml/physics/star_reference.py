"""Reference solutions in smooth star-shaped domains, without a mesh and without walks.

    Laplacian u = -f  in the domain,    u = g  on its boundary,
    f = sum_k amplitude_k exp(-|x - center_k|^2)

The source has a particular solution in closed form: with rho = |x - center|^2

    Laplacian v = exp(-rho)    for    v = (E1(rho) + log rho) / 4.

The rest is harmonic: a double-layer potential, its density by Nystrom's method with the periodic
trapezoid rule, evaluated as the real part of a Cauchy integral in barycentric form. The error
falls exponentially with the number of nodes, up to the boundary: 256 give about 1e-12 in the family
of `star_family` for smooth g.

Kress, "Linear Integral Equations", 3rd ed., sections 6.3 and 12.2; Helsing and Ojala, "On the
evaluation of layer potentials close to their sources", Journal of Computational Physics 227
(2008), for the barycentric form.
"""

from __future__ import annotations

import math

import torch
from scipy.special import exp1
from torch import Tensor

from sciml.physics.geometry import Star
from sciml.physics.geometry.domain import rows_of
from sciml.physics.walk_on_spheres import Field

EULER = 0.5772156649015329


class Gaussians:
    """The field `f(x, i) = sum_k amplitude_k exp(-|x - center_k|^2)`, of B instances.

    Args:
        amplitude: `(B, K)` or `(K,)`.
        center: `(B, K, d)` or `(K, d)`.

    Raises:
        InvalidArgument: If shapes do not fit.
    """

    def __init__(self, amplitude, center) -> None:
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
    star: Star, boundary: Field, points: Tensor, source: Gaussians | None = None, nodes: int = 256
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
    x, i = star.columns(points.double())
    theta = torch.arange(nodes, dtype=torch.float64, device=x.device) * (2 * math.pi / nodes)
    own = torch.arange(star.count, device=x.device).repeat_interleave(nodes)
    r, r1, r2 = (value.view(star.count, nodes) for value in _radii(star, theta, own))
    center = torch.complex(*star.center.to(x.device).T)[:, None]
    unit = torch.exp(1j * theta)
    z, dz = center + r * unit, (r1 + 1j * r) * unit
    ddz = (r2 - r + 2j * r1) * unit
    h = 2 * math.pi / nodes

    on = torch.stack([z.real.reshape(-1), z.imag.reshape(-1)])
    data = boundary(on, own).double().reshape(star.count, nodes)
    if source is not None:
        data = data + source.potential(on, own).view_as(data)
    data = data.expand(star.count, nodes)

    # kernel d arg(zeta - z_i) / (2 pi): Im(zeta' / (zeta - z_i)), on the diagonal
    # Im(zeta'' / zeta') / 2, half the curvature times the speed
    gap = z[:, None, :] - z[:, :, None]
    diagonal = torch.eye(nodes, dtype=torch.bool, device=x.device)
    gap = torch.where(diagonal, 1.0, gap)
    kernel = (dz[:, None, :] / gap).imag
    kernel = torch.where(diagonal, ((ddz / dz).imag / 2)[:, None, :], kernel) * (h / (2 * math.pi))
    identity = torch.eye(nodes, dtype=torch.float64, device=x.device)
    density = torch.linalg.solve(identity / 2 + kernel, data)

    # boundary values of the Cauchy integral F, Re F = u, with the singularity subtracted
    wave = torch.fft.fftfreq(nodes, 1 / nodes, dtype=torch.float64, device=x.device)
    wave[nodes // 2] = 0
    slope = torch.fft.ifft(1j * wave * torch.fft.fft(density)).real
    quotient = (density[:, None, :] - density[:, :, None]) * dz[:, None, :] / gap
    quotient = torch.where(diagonal, slope[:, None, :].to(quotient), quotient)
    values = density + quotient.sum(2) / (1j * nodes)

    target = torch.complex(x[0], x[1]).view(star.count, -1)
    away = z[:, None, :] - target[:, :, None]
    away = torch.where(away.abs() < 1e-14, torch.full_like(away, 1e-14), away)
    weight = dz[:, None, :] / away
    u = ((weight * values[:, None, :]).sum(2) / weight.sum(2)).real
    if source is not None:
        u = u - source.potential(x, i).view_as(u)
    return u


def _radii(star: Star, theta: Tensor, own: Tensor) -> list[Tensor]:
    """Return r, r', r'' at every node of every domain, each `(B nodes,)`."""
    return star.radius(theta.repeat(star.count), own, 2)


def _choose(value: Tensor, i: Tensor) -> Tensor:
    """Return `value (B,)` for every column, or the only one."""
    return value[0] if len(value) == 1 else value.index_select(0, i)
