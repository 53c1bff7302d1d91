"""A Fourier neural operator for elliptic problems on varying domains, linear in the data.

    div(alpha grad u) - sigma u = -f  in the domain,    u = g  on its boundary

u is linear in (f, g), not in the domain. The network has that structure, so superposition, scales
and constant data are exact and need not be learned:

    u = c + v + (1 - t) h + t (w + G_L . z_L)
    z_0 = G_0 D data,    z_{k+1} = z_k + G_k (W_k z_k + F^-1(R_k . F z_k))

    v       potential of f in free space, f cut off outside the domain
    h       boundary data of what is left, g - v, less its mean c, at the closest boundary point
    w       mean of h over the boundary with weights |x - y|^-d, which is the solution of
            Laplace's equation in a ball and a good guess elsewhere; with screening, v and w have
            its kernels and c = 0; with diffusion all this is done for sqrt(alpha) (u - mean of g),
            which has f / sqrt(alpha) as source and no first derivatives in its equation
    t       1 - exp(-distance / l): 0 on the boundary, where u = g holds whatever is learned
    data    v, f, h near the boundary, and means like w with other powers
    G_k     functions of the domain and the coefficients, point by point: a network that sees
            distances, normals, curvature and how much boundary is around

With G_k concentrated near the boundary the layers are the Neumann series of a boundary integral
equation. All integrals are convolutions on the grid (`sciml.networks.elliptic.free_space`).
Coordinates are not seen, so that a domain may lie anywhere in the box.

Departures from arXiv 2603.01193, which regresses u on point clouds with a nonlinear network (GINO):
see above. The spectral layer is that of Li et al., arXiv 2010.08895.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.elliptic.elliptic_schema import check_box, grid_schema
from sciml.networks.elliptic.free_space import FreeSpace, convolve
from sciml.networks.sizes import check_sizes
from sciml.networks.spectral.spectral_convolution import SpectralMix
from sciml.typed_arguments import typed

RAMP = 0.1  # l of t
FADE = 0.2  # distance over which features of the boundary are forgotten
COEFFICIENTS = ("screening", "diffusion")


@dataclass
class Lift:
    """What is known before anything is learned; fields `(N, n, ..., n)`.

    Attributes:
        known: `(N, channels, n, ..., n)` of domain and coefficients.
        data: `(N, channels, n, ..., n)` linear in f and g.
        smooth: c + v; like h and w over sqrt(alpha), plus the mean of g, with diffusion.
        trace: h.
        mean: w.
    """

    known: Tensor
    data: Tensor
    smooth: Tensor
    trace: Tensor
    mean: Tensor


@typed
class WosFNO(nn.Module):
    """Operator for elliptic problems on varying domains; see the top of this file.

    Args:
        dim: d, 2 or 3.
        half: Half the side of the box that the grid fills; in its unit of length.
        nodes: Points per axis of the grid it is trained on; others work too.
        coefficients: Names of coefficients beside f and g: "screening", "diffusion".
        width: Channels of z.
        modes: Modes kept per axis.
        layers: L.
        hidden: Hidden width of the network of the domain.

    Raises:
        InvalidArgument: For settings out of range.

    Example:
        >>> import torch
        >>> from sciml.networks import WosFNO
        >>> network = WosFNO(nodes=16, width=4, modes=4, layers=1, hidden=4)
        >>> x = torch.linspace(-1.5, 1.5, 16)
        >>> disk = (x[:, None] ** 2 + x**2).sqrt()[None] - 1.0  # signed distance
        >>> tuple(network(disk, torch.zeros(1, 16, 16), torch.ones(1, 16, 16)).shape)
        (1, 16, 16)
    """

    def __init__(
        self,
        dim: int = 2,
        half: float = 1.5,
        nodes: int = 44,
        coefficients: Sequence[str] = (),
        width: int = 20,
        modes: int = 10,
        layers: int = 4,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        check_sizes(width=width, modes=modes, layers=layers, hidden=hidden)
        check_box(half, nodes, dim)
        unknown = [name for name in coefficients if name not in COEFFICIENTS]
        if unknown:
            raise InvalidArgument(f"the coefficient '{unknown[0]}'", "screening or diffusion")
        self.dim, self.half, self.nodes = dim, float(half), nodes
        self.coefficients = tuple(coefficients)
        self.powers = (dim - 1, dim, dim + 2)
        self.space = FreeSpace(dim, self.half, self.powers)
        self.width, self.layers = width, layers
        seen = 5 + dim + len(self.powers) + len(self.coefficients)
        seen += "diffusion" in self.coefficients
        data = 4 + len(self.powers)
        self.domain = nn.Sequential(
            nn.Linear(seen, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, (layers + 2) * width),
        )
        self.enter = nn.Parameter(torch.randn(width, data) / math.sqrt(data))
        self.mix = nn.Parameter(torch.randn(layers, width, width) / math.sqrt(width))
        self.spectral = nn.ModuleList(SpectralMix(width, modes, dim) for _ in range(layers))

    # --- the solution -----------------------------------------------------------------------------
    def forward(
        self,
        sdf: Tensor,
        boundary: Tensor,
        source: Tensor,
        screening: Tensor | None = None,
        diffusion: Tensor | None = None,
    ) -> Tensor:
        """Return u `(N, n, ..., n)` at the nodes of the grid; outside the domain it means nothing.

        Args:
            sdf: `(N, n, ..., n)` signed distance, negative inside, right outside too.
            boundary: g at the closest boundary point of every node.
            source: f.
            screening: sigma.
            diffusion: alpha, positive.

        Raises:
            InvalidArgument: Without a coefficient that the network was made for.
        """
        lift = self.lift(sdf, boundary, source, screening, diffusion)
        return _blend(lift.smooth, lift.trace, lift.mean + self.correction(lift), sdf)

    def first_guess(self, **inputs: Tensor) -> Tensor:
        """Return what the network would answer without having learned anything."""
        lift = self.lift(**inputs)
        return _blend(lift.smooth, lift.trace, lift.mean, inputs["sdf"])

    def at(self, points: Tensor, distance: Tensor, **inputs: Tensor) -> Tensor:
        """Return u `(N, P)` at any points, by interpolation of fields that have no kinks.

        Args:
            points: `(N, P, d)` in the domains.
            distance: `(N, P)` their signed distances, negative inside: u = g holds exactly.
            inputs: As in `forward`.
        """
        lift = self.lift(**inputs)
        fields = torch.stack([lift.smooth, lift.trace, lift.mean + self.correction(lift)], 1)
        # grid_sample wants the last axis first
        where = (points / self.half).flip(-1).to(fields)
        where = where.reshape(*points.shape[:2], *[1] * (self.dim - 1), self.dim)
        kind = "bicubic" if self.dim == 2 else "bilinear"
        found = F.grid_sample(fields, where, kind, "border", align_corners=True).flatten(2)
        return _blend(*found.unbind(1), distance.to(found))

    def correction(self, lift: Lift) -> Tensor:
        """Return what is learned, `G_L . z_L`, `(N, n, ..., n)`."""
        gates = self.domain(lift.known.movedim(1, -1)).unflatten(-1, (self.layers + 2, self.width))
        gates = gates.movedim((-2, -1), (0, 2))
        shape = lift.data.shape[2:]
        z = gates[0] * (self.enter @ lift.data.flatten(2)).unflatten(2, shape)
        return gated(gates, z, self.mix, self.spectral).sum(1) / math.sqrt(self.width)

    # --- as a published operator ------------------------------------------------------------------
    def schema(self) -> dict:
        """Return names, shapes and units of inputs and outputs."""
        return grid_schema(self.dim, self.coefficients)

    def infer(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the solution at the nodes; the value at the closest point outside."""
        return {"value": torch.where(inputs["sdf"] < 0, self(**inputs), inputs["boundary"])}

    # --- what the layers see ----------------------------------------------------------------------
    def lift(
        self,
        sdf: Tensor,
        boundary: Tensor,
        source: Tensor,
        screening: Tensor | None = None,
        diffusion: Tensor | None = None,
    ) -> Lift:
        """Return everything that is not learned; arguments as in `forward`."""
        axes = tuple(range(1, self.dim + 1))
        coefficients = self._coefficients(screening=screening, diffusion=diffusion)
        spacing, width = self.space.spacing(sdf), self.space.layer(sdf)
        inner, inside = (-sdf).clamp_min(0), (0.5 - sdf / max(spacing)).clamp(0, 1)
        near = (1 + torch.cos(math.pi * (sdf / width).clamp(-1, 1))) / 2
        total = near.sum(axes, keepdim=True)

        def gradient(field: Tensor) -> Tensor:
            return torch.stack(torch.gradient(field, spacing=spacing, dim=axes), 1)

        def divergence(field: Tensor) -> Tensor:
            return sum(gradient(part)[:, a] for a, part in enumerate(field.unbind(1)))

        slope = gradient(sdf)
        normal = slope / slope.square().sum(1, keepdim=True).sqrt().clamp_min(0.1)
        offset, root = torch.zeros_like(total), torch.ones_like(sdf)
        if "diffusion" in self.coefficients:
            slope, root = gradient(diffusion.log()), diffusion.sqrt()
            coefficients.append((divergence(slope) / 2 + slope.square().sum(1) / 4) * inside)
            if "screening" in self.coefficients:
                screening = screening / diffusion
            else:
                offset = (near * boundary).sum(axes, keepdim=True) / total
            at_boundary = root * torch.exp(-sdf * (slope * normal).sum(1) / 2)
            boundary, source = at_boundary * (boundary - offset), source / root
        newton, means, flat = self.space.kernels(sdf, self._rate(sdf, screening))
        v = convolve(source * inside, newton, self.dim)
        on_boundary = v - sdf * (gradient(v) * normal).sum(1)  # at the closest point, first order
        h = boundary - on_boundary
        c = (near * h).sum(axes, keepdim=True) / total
        if flat is not None:  # constants are no solutions
            c = torch.zeros_like(c)
        level = (near * on_boundary).sum(axes, keepdim=True) / total
        h = h - c
        layers = torch.stack([near, near * h], 1)[:, :, None]
        around, weighted = convolve(layers, means, self.dim).unbind(1)
        guesses = (weighted / around).unbind(1)
        w = guesses[1]
        if flat is not None:
            w = convolve(near * h, flat, self.dim) / around[:, 1]
        t = _ramp(sdf)

        fade = torch.exp(-sdf.abs() / FADE)
        bend = divergence(normal)
        # over a flat boundary the sum of |x - y|^-p falls like a power of the distance
        room = [
            field.log() + (p - self.dim + 1) * torch.log(inner + width)
            for p, field in zip(self.powers, around.unbind(1), strict=True)
        ]
        known = [t, 1 - torch.exp(-inner / 0.4), inside, near, (bend * fade).clamp(-5, 5) / 3]
        known += [*(normal * fade[:, None]).unbind(1), *room]
        known += coefficients
        data = [(guesses[0] - w) * inside, (guesses[2] - w) * inside, w * inside, near * h]
        data += [(v - level) * inside, source * inside / 4, (1 - t) * h * inside]
        smooth = offset + (c + v) / root
        return Lift(torch.stack(known, 1), torch.stack(data, 1), smooth, h / root, w / root)

    def _coefficients(self, **given: Tensor | None) -> list[Tensor]:
        """Return the channels of the coefficients, of size 1."""
        found = []
        for name in self.coefficients:
            if given[name] is None:
                raise InvalidArgument(f"no {name}", f"the coefficient '{name}' of the equation")
            found.append(given[name].log() if name == "diffusion" else given[name].log1p() / 2)
        return found

    def _rate(self, sdf: Tensor, screening: Tensor | None) -> Tensor | None:
        """Return the root of the mean screening in every domain `(N,)`, None without any."""
        if "screening" not in self.coefficients or screening is None:
            return None
        inside = (sdf < 0).to(sdf).flatten(1)
        mean = (screening.flatten(1) * inside).sum(1) / inside.sum(1).clamp_min(1)
        return mean.clamp_min(1e-6).sqrt()


def _ramp(sdf: Tensor) -> Tensor:
    """Return t, 0 on the boundary and outside."""
    return 1 - torch.exp(sdf.clamp_max(0) / RAMP)


def _blend(smooth: Tensor, trace: Tensor, inner: Tensor, sdf: Tensor) -> Tensor:
    """Return u from its parts: `smooth + trace` on the boundary, `smooth + inner` inside."""
    return smooth + torch.lerp(trace, inner, _ramp(sdf))


def gated(gates: Tensor, z: Tensor, mix: Tensor, spectral: nn.ModuleList) -> Tensor:
    """Return `G_L . z_L` of all layers, channel by channel.

    Args:
        gates: `(L + 2, N, C, n_1, ..., n_d)`; the first is not used.
        z: z_0 `(N, C, n_1, ..., n_d)`.
        mix: `(L, C, C)`.
        spectral: L spectral layers.
    """
    for gate, matrix, layer in zip(gates[1:-1], mix, spectral, strict=True):
        z = z + gate * ((matrix @ z.flatten(2)).view_as(z) + layer(z))
    return gates[-1] * z
