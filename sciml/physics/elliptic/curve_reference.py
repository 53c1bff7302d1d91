"""Reference solutions inside plane curves, smooth or with corners, without a mesh or walks.

    Laplacian u = -f  in the domain,    u = g  on its boundary

u less a particular solution is harmonic: a double-layer potential, its density by Nystrom's method
with the trapezoid rule in a periodic parameter t, evaluated as the real part of a Cauchy integral
in barycentric form, accurate up to the boundary.

    smooth curves    the error falls exponentially with the number of nodes
    polygons         nodes crowd algebraically at the corners (Kress's graded mesh), where densities
                     are not smooth; the error falls with a power of the number of nodes

Kress, "Linear Integral Equations", 3rd ed., sections 6.3 and 12.2; Kress, "A Nystrom method for
boundary integral equations in domains with corners", Numerische Mathematik 58 (1990); Helsing and
Ojala, "On the evaluation of layer potentials close to their sources", Journal of Computational
Physics 227 (2008), for the barycentric form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import ScalarField
from sciml.physics.geometry import Domain, Ellipse, Polygon, Star, Tabulated

GRADING = 6  # nodes of an edge lie like s^6 at its ends


@dataclass(frozen=True)
class Nodes:
    """Nodes at equal steps of a parameter of period 2 pi, on B closed curves.

    Attributes:
        z: `(B, n)` complex positions, counter-clockwise.
        dz: `(B, n)` derivatives.
        bend: `(B, n)` imaginary part of z'' / z', 0 on straight edges.
    """

    z: Tensor
    dz: Tensor
    bend: Tensor


def curve_reference(
    domain: Domain,
    boundary: ScalarField,
    points: Tensor,
    source: ScalarField | None = None,
    nodes: int | None = None,
) -> Tensor:
    """Return the solutions `(B, P)` at `points (B, P, 2)` in float64.

    Args:
        domain: B stars, ellipses or polygons.
        boundary: g, smooth along the boundary except at corners.
        points: `(B, P, 2)` inside the domains or on their boundaries.
        source: f with a method `potential(x, i)` that returns a v with `Laplacian v = f`, such as
            `sciml.physics.elliptic.star_reference.Gaussians`; None for 0.
        nodes: Nodes per curve, an even number; per edge of a polygon. None for 256 and 64.

    Raises:
        InvalidArgument: If the points do not fit or the domain is of another kind.
    """
    domain = domain.domain if isinstance(domain, Tabulated) else domain
    on = nodes_of(domain, nodes or (64 if isinstance(domain, Polygon) else 256))
    x, i = domain.columns(points.double())
    count, n = on.z.shape
    own = torch.arange(count, device=x.device).repeat_interleave(n)
    place = torch.stack([on.z.real.reshape(-1), on.z.imag.reshape(-1)])
    data = boundary(place, own).double().reshape(count, n)
    if source is not None:
        data = data + source.potential(place, own).view_as(data)
    u = harmonic(on, data.expand(count, n), torch.complex(x[0], x[1]).view(count, -1))
    return u if source is None else u - source.potential(x, i).view_as(u)


def nodes_of(domain: Domain, nodes: int) -> Nodes:
    """Return the nodes of a domain's boundary, `nodes` per curve or edge.

    Raises:
        InvalidArgument: For another kind of domain or an odd number.
    """
    if nodes < 4 or nodes % 2:
        raise InvalidArgument(f"nodes={nodes}", "an even number of at least 4")
    if isinstance(domain, Polygon):
        if len(domain.sizes) > 1:
            raise InvalidArgument("a polygon with holes", "one closed boundary")
        return _polygon(domain, nodes)
    if not isinstance(domain, Star | Ellipse):
        raise InvalidArgument(f"a {type(domain).__name__}", "stars, ellipses or polygons")
    device = domain.center.device
    t = torch.arange(nodes, dtype=torch.float64, device=device) * (2 * math.pi / nodes)
    unit = torch.exp(1j * t)
    center = torch.complex(*domain.center.T)[:, None]
    if isinstance(domain, Ellipse):
        a, b = domain.axes.T[..., None]
        turn = torch.exp(1j * domain.angle)[:, None]
        c, s = t.cos(), t.sin()
        z, dz = torch.complex(a * c, b * s) * turn, torch.complex(-a * s, b * c) * turn
        return Nodes(z + center, dz, (-z / dz).imag)
    own = torch.arange(domain.count, device=device).repeat_interleave(nodes)
    every = domain.radius(t.repeat(domain.count), own, 2)
    r, r1, r2 = (value.view(domain.count, nodes) for value in every)
    dz = (r1 + 1j * r) * unit
    return Nodes(center + r * unit, dz, ((r2 - r + 2j * r1) * unit / dz).imag)


def _polygon(domain: Polygon, nodes: int) -> Nodes:
    """Return `nodes` graded nodes on every edge, none of them at a corner."""
    corners = torch.complex(*domain.vertices.unbind(2))
    edges = corners.roll(-1, 1) - corners
    kind = {"dtype": torch.float64, "device": edges.device}
    s = (torch.arange(nodes, **kind) + 0.5) / nodes
    low, high = s**GRADING, (1 - s) ** GRADING
    share = low / (low + high)
    speed = GRADING * (s * (1 - s)) ** (GRADING - 1) / (low + high) ** 2
    z = corners[..., None] + edges[..., None] * share
    dz = edges[..., None] * (speed * (edges.shape[1] / (2 * math.pi)))
    return Nodes(z.flatten(1), dz.flatten(1), torch.zeros_like(z.real).flatten(1))


def harmonic(on: Nodes, data: Tensor, target: Tensor) -> Tensor:
    """Return the harmonic functions with values `data (B, n)` at the nodes.

    Args:
        on: The nodes.
        data: `(B, n)`.
        target: `(B, P)` complex points.
    """
    z, dz = on.z, on.dz
    n = z.shape[1]
    eye = torch.eye(n, dtype=torch.bool, device=z.device)
    gap = torch.where(eye, 1.0, z[:, None, :] - z[:, :, None])
    # kernel d arg(zeta - z_i) / (2 pi); its rows sum to 1/2, which sets the diagonal: exact to
    # round-off on smooth curves, and what keeps constants exact at corners
    kernel = torch.where(eye, 0.0, (dz[:, None, :] / gap).imag) / n
    system = kernel + torch.diag_embed(1 - kernel.sum(2))
    density = torch.linalg.solve(system, data)

    # boundary values of the Cauchy integral F, Re F = u, with the singularity subtracted
    slope = _derivative(density)
    quotient = (density[:, None, :] - density[:, :, None]) * dz[:, None, :] / gap
    quotient = torch.where(eye, slope[:, None, :].to(quotient), quotient)
    values = density + quotient.sum(2) / (1j * n)

    away = z[:, None, :] - target[:, :, None]
    away = torch.where(away.abs() < 1e-14, torch.full_like(away, 1e-14), away)
    weight = dz[:, None, :] / away
    return ((weight * values[:, None, :]).sum(2) / weight.sum(2)).real


def _derivative(values: Tensor) -> Tensor:
    """Return d/dt of values `(B, n)` at equal steps of a parameter of period 2 pi."""
    n = values.shape[1]
    wave = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device=values.device)
    wave[n // 2] = 0
    return torch.fft.ifft(1j * wave * torch.fft.fft(values)).real
