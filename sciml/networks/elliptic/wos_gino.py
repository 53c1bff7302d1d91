"""A geometry-informed neural operator for clouds of points in the plane, linear in the data.

    Laplacian u = -f  in the domain,    u = g  on its boundary

    u(x) = c + v(x) + w(x) + t(x) sum over grid nodes y near x of B(x - y) k_out(x - y) . z_L(y)
    z_0(y) = G_0 (D data + sum over boundary points b near y of B(y - b) k_in(y - b) h_b ds_b)
    z_{k+1} = z_k + G_k (W_k z_k + F^-1(R_k . F z_k)),    z_L taken times G_L

    v       potential of f, which is averaged over the points near every node of the latent grid
    h       boundary data of what is left, g - v, less its mean c
    w       mean of h over the boundary with weights |x - b|^-2, see
    `sciml.networks.elliptic.wos_fno` t       1 - exp(-d / l), d = pi / (sum of ds_b |x - b|^-2) the
    distance from a flat boundary data    v, f, w at the nodes, and means like w with other powers
    G_k     functions of the domain, node by node: distance, normal, how much boundary is around

Boundary points may be spread unevenly: the length ds_b that a point stands for is the inverse of
the density of points around it. Neighbours of a point on a regular grid are a fixed pattern of 4 x
4 offsets, B the cubic spline over them, so there is no search, and sums over neighbours are one
`index_add`; u has two derivatives in x. `lift=False` leaves out all that is not learned, v, w
and t; u = g on the boundary is then learned, too.

Li et al., arXiv 2309.00583 (GINO), in the form of arXiv 2603.01193. Departures: everything above
but graph layer in, Fourier layers, graph layer out; closest boundary points are not needed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.elliptic.elliptic_schema import check_box, cloud_schema
from sciml.networks.elliptic.free_space import convolve, potential, squares, transform
from sciml.networks.elliptic.wos_fno import FADE, RAMP, gated
from sciml.networks.sizes import check_sizes
from sciml.networks.spectral.spectral_convolution import SpectralMix
from sciml.typed_arguments import typed

SPREAD = 0.1  # over this distance the density of boundary points is looked at
CORE = 3e-4  # added to distances from boundary points
POWERS = (1, 2, 4)


@typed
class WosGINO(nn.Module):
    """The operator; see the top of this file.

    Args:
        half: Half the side of the box of the latent grid.
        nodes: Nodes of the latent grid per axis.
        width: Channels of z.
        modes: Fourier modes kept per axis.
        layers: L.
        hidden: Hidden width of the kernels and of the network of the domain.
        lift: Start from what is known without learning.

    Raises:
        InvalidArgument: For a grid too small for the splines.

    Example:
        >>> import torch
        >>> from sciml.networks import WosGINO
        >>> network = WosGINO(nodes=12, width=4, modes=3, layers=1, hidden=4)
        >>> angle = torch.linspace(0, 6.0, 20)
        >>> rim = torch.stack([angle.cos(), angle.sin()], -1)
        >>> points = torch.cat([0.5 * rim, rim])[None]
        >>> distance = torch.cat([torch.full((20,), -0.5), torch.zeros(20)])[None]
        >>> tuple(network(points, points[..., 0], distance, torch.ones(1, 40)).shape)
        (1, 40)
    """

    def __init__(
        self,
        half: float = 1.5,
        nodes: int = 32,
        width: int = 20,
        modes: int = 8,
        layers: int = 4,
        hidden: int = 32,
        lift: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(width=width, modes=modes, layers=layers, hidden=hidden)
        check_box(half, nodes)
        self.half, self.nodes, self.width = float(half), nodes, width
        self.layers, self.lift = layers, lift
        self.spacing = 2 * self.half / (nodes - 1)
        steps = torch.arange(-1, 3)
        pattern = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        self.register_buffer("pattern", pattern, persistent=False)
        self.domain = nn.Sequential(
            nn.Linear(9, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, (layers + 2) * width),
        )
        data = 5 if lift else 1
        self.enter = nn.Parameter(torch.randn(width, data) / math.sqrt(data))
        self.read = nn.Sequential(nn.Linear(2, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.write = nn.Sequential(nn.Linear(2, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.mix = nn.Parameter(torch.randn(layers, width, width) / math.sqrt(width))
        self.spectral = nn.ModuleList(SpectralMix(width, modes) for _ in range(layers))

    # --- the solution -----------------------------------------------------------------------------
    def forward(
        self,
        points: Tensor,
        boundary: Tensor,
        distance: Tensor,
        source: Tensor,
        query: Tensor | None = None,
    ) -> Tensor:
        """Return u `(N, Q)` at the query points, or `(N, P)` at the points themselves.

        Args:
            points: `(N, P, 2)` in the domain and on its boundary.
            boundary: `(N, P)` g at the boundary points; elsewhere it is not looked at.
            distance: `(N, P)` 0 at boundary points, negative inside; nothing else matters.
            source: `(N, P)` f.
            query: `(N, Q, 2)` in the domain.

        Raises:
            InvalidArgument: If a problem has no boundary points.
        """
        return self._solve(points, boundary, distance, source, query, True)

    def first_guess(
        self,
        points: Tensor,
        boundary: Tensor,
        distance: Tensor,
        source: Tensor,
        query: Tensor | None = None,
    ) -> Tensor:
        """Return what the network would answer without having learned anything."""
        return self._solve(points, boundary, distance, source, query, False)

    def _solve(
        self,
        points: Tensor,
        boundary: Tensor,
        distance: Tensor,
        source: Tensor,
        query: Tensor | None,
        learned: bool,
    ) -> Tensor:
        query = points if query is None else query
        place, value, length = self._boundary(points, boundary, distance)
        f, amount = self._averaged(points, source, distance < -1e-6)
        v = torch.zeros_like(f)
        if self.lift:
            v = convolve(f, self._newton(f), 2)
            # a spline through node values has these coefficients, to fourth order in the spacing
            padded = F.pad(v[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
            across = padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1]
            along = padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2]
            smooth = v - (across + along - 4 * v) / 6
            value = value - self._spline(smooth, place)
        c = (value * length).sum(1, keepdim=True) / length.sum(1, keepdim=True)
        h = value - c
        u = c.expand(query.shape[:2])
        ramp = None
        if self.lift:
            ((around, weighted),) = self._sums(query, place, length, h[..., None], (2,))
            u = u + self._spline(smooth, query) + weighted[..., 0] / around
            ramp = 1 - torch.exp(-(math.pi / RAMP) / around)
        if not learned:
            return u
        more = self._learned(query, place, h, length, f, amount, v)
        return u + (more if ramp is None else ramp * more)

    def _learned(
        self,
        query: Tensor,
        place: Tensor,
        h: Tensor,
        length: Tensor,
        f: Tensor,
        amount: Tensor,
        v: Tensor,
    ) -> Tensor:
        """Return the sum over nodes near the query points `(N, Q)`, before t."""
        n, count = self.nodes, place.shape[0]
        axis = torch.linspace(-self.half, self.half, n, dtype=h.dtype, device=h.device)
        nodes = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(1, -1, 2)
        columns = torch.cat([h[..., None], place], 2)
        sums = self._sums(nodes.expand(count, -1, -1), place, length, columns, POWERS)
        d = math.pi / sums[1][0]
        # of length 1 over a flat boundary
        normal = nodes * sums[2][0][..., None] - sums[2][1][..., 1:]
        normal = (normal * (2 / math.pi * d**2)[..., None]).clamp(-2, 2)
        bend = torch.linalg.vector_norm(normal, dim=2) - 1
        fade, inside = torch.exp(-d / FADE), amount.flatten(1) / (amount.flatten(1) + 1)
        # over a flat boundary the sum of |x - b|^-p falls like a power of the distance
        room = [
            around.log() + (p - 1) * torch.log(d + self.spacing)
            for p, (around, _) in zip(POWERS, sums, strict=True)
        ]
        known = [torch.exp(-d / RAMP), torch.exp(-d / 0.4), inside, bend * fade, *room]
        known += (normal * fade[..., None]).unbind(2)
        data = [f.flatten(1) / 4]
        if self.lift:
            means = [weighted[..., 0] / around for around, weighted in sums]
            level = v.flatten(1).mean(1, keepdim=True)
            data += [means[0] - means[1], means[2] - means[1], means[1], v.flatten(1) - level]
        gates = self.domain(torch.stack(known, 2)).unflatten(-1, (self.layers + 2, self.width))
        gates = gates.movedim((-2, -1), (0, 2)).unflatten(-1, (n, n))
        z = self.enter @ (torch.stack(data, 1) * inside[:, None])
        z = gates[0] * (z.view(count, self.width, n, n) + self._read(place, h * length))
        z = (
            gated(gates, z, self.mix, self.spectral)
            .flatten(2)
            .mT.reshape(count * n * n, self.width)
        )
        offset, weight, index = self._edges(query)
        found = (z[index] * self.write(offset)).sum(3) * weight
        return found.sum(2) / math.sqrt(self.width)

    # --- between clouds and the grid --------------------------------------------------------------
    def _boundary(
        self, points: Tensor, boundary: Tensor, distance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boundary points `(N, B, 2)`, g there, and the length each stands for (or 0)."""
        own, place = distance > -1e-6, points.detach()
        if not torch.compiler.is_compiling():  # a program cannot pick points: others get length 0
            counts = own.sum(1)
            if len(counts) and int(counts.min()) == 0:
                raise InvalidArgument("a cloud without boundary points", "points at distance 0")
            found, index = own.to(torch.uint8).topk(int(counts.max()) if len(counts) else 0, dim=1)
            own, boundary = found > 0, boundary.gather(1, index)
            place = place.gather(1, index[..., None].expand(-1, -1, 2))
        square = (place[:, :, None] - place[:, None]).square().sum(3) / SPREAD**2
        around = (torch.exp(-square) * own[:, None]).sum(2).clamp_min(1)
        length = own.to(around) * (SPREAD * math.sqrt(math.pi)) / around
        return place, boundary, length

    def _averaged(self, points: Tensor, values: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Return means over the points near every node, and the sums of weights `(N, n, n)`."""
        _, weight, index = self._edges(points)
        weight = weight * own[..., None]
        total = weight.new_zeros(2, points.shape[0] * self.nodes**2)
        rows = torch.stack([weight, weight * values[..., None]]).flatten(1)
        amount, found = total.index_add(1, index.flatten(), rows).view(
            2, points.shape[0], self.nodes, self.nodes
        )
        return found / amount.clamp_min(1e-4), amount

    def _read(self, place: Tensor, values: Tensor) -> Tensor:
        """Return the learned layer of the boundary `(N, C, n, n)`."""
        offset, weight, index = self._edges(place)
        rows = self.read(offset) * (weight * values[..., None] / self.spacing)[..., None]
        total = rows.new_zeros(place.shape[0] * self.nodes**2, self.width)
        total = total.index_add(0, index.flatten(), rows.flatten(0, 2))
        return total.view(place.shape[0], self.nodes, self.nodes, self.width).movedim(-1, 1)

    def _sums(
        self,
        x: Tensor,
        place: Tensor,
        length: Tensor,
        columns: Tensor,
        powers: tuple[int, ...],
    ) -> list[tuple[Tensor, Tensor]]:
        """Return sums of ds |x - b|^-p, alone `(N, Q)` and times columns `(N, Q, K)`."""
        square = sum((x[:, :, None, k] - place[:, None, :, k]).square() for k in range(x.shape[2]))
        square = square + CORE**2
        rows = length[..., None] * torch.cat([torch.ones_like(length)[..., None], columns], 2)
        found = [square ** (-p / 2) @ rows for p in powers]
        return [(part[..., 0], part[..., 1:]) for part in found]

    def _spline(self, coefficients: Tensor, points: Tensor) -> Tensor:
        """Return splines `(N, P)` with coefficients `(N, n, n)`."""
        _, weight, index = self._edges(points)
        return (coefficients.reshape(-1)[index] * weight).sum(2)

    def _edges(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return offsets `(N, P, 16, 2)`, weights B and node numbers `(N, P, 16)`."""
        cell = (points + self.half) / self.spacing
        first = cell.detach().floor()
        offset = (cell - first)[:, :, None] - self.pattern
        near = offset.abs()
        inner, outer = 2 / 3 - near**2 + near**3 / 2, (2 - near).clamp_min(0) ** 3 / 6
        weight = torch.where(near < 1, inner, outer).prod(3)
        nodes = (first.long()[:, :, None] + self.pattern).clamp(0, self.nodes - 1)
        start = torch.arange(points.shape[0], device=points.device)[:, None, None] * self.nodes**2
        return offset, weight, start + nodes[..., 0] * self.nodes + nodes[..., 1]

    def _newton(self, like: Tensor) -> Tensor:
        """Return the transform of the potential of a cell, over twice the grid."""
        key = (like.dtype, like.device)
        if getattr(self, "_key", None) != key:
            with torch.inference_mode(False):  # kept for training steps too
                square = squares([self.nodes] * 2, [self.spacing] * 2, like.device)
                kernel = transform(potential(square, self.spacing**2, 2), 2)
                self._kernel, self._key = kernel.to(like.dtype.to_complex()), key
        return self._kernel

    # --- as a published operator ------------------------------------------------------------------
    def schema(self) -> dict:
        """Return names, shapes and units of inputs and outputs."""
        return cloud_schema()

    def infer(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the solution at the points."""
        return {"value": self(**inputs)}
