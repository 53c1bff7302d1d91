"""A domain given by signed distances on a regular grid, in 2D, 3D and beyond."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from sciml.arguments import shown, whole
from sciml.errors import InvalidArgument
from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.domain_rows import Numbers, accepted, batch, length, rows_of, uniform
from sciml.physics.geometry.multilinear import corners_of, largest_slopes, reduce_corners

# Newton steps of the projection along the gradient.
STEPS = 8
# Points evaluated at once while a table is filled.
BLOCK = 2**20
# Pairs of a point and a point of the boundary compared at once, and how often a
# closest point is then found anew from half of the way to it.
PAIRS, ROUNDS = 2**22, 4
# Newton's method has ended where the interpolant is below this, in units of what a cell spans.
CLOSE = 1e-3


class SDFGrid(Domain):
    """Domains where the multilinear interpolant of values on a grid is negative.

    The zero set of the interpolant *is* the boundary, so that distances are exact statements about
    it: `level` divides by the largest gradient of the interpolant, which makes it a lower bound
    whatever the values are.

    Args:
        values: `(B, n_1, ..., n_d)` or `(n_1, ..., n_d)`, negative inside, positive in the
            outermost layer; d is read from `low`.
        low: Coordinates of the first node, `(B, d)` or `(d,)`.
        high: Coordinates of the last node, `(B, d)` or `(d,)`.

    Raises:
        InvalidArgument: For shapes that do not fit, values that are not finite, a domain that is
            empty or reaches the edge of the grid.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Ball, SDFGrid
        >>> grid = SDFGrid.of(Ball(), nodes=33)
        >>> round(grid.signed_distance(torch.tensor([[[0.5, 0.0]]])).item(), 1)
        -0.5
    """

    def __init__(self, values: Numbers, low: Numbers, high: Numbers) -> None:
        low = rows_of("low", low, (None,))
        dim = low.shape[1]
        high = rows_of("high", high, (dim,))
        values = rows_of("values", values, (None,) * dim)
        values, self.low, self.high = batch(values=values, low=low, high=high)
        super().__init__(len(values), dim)
        self.sizes = tuple(values.shape[1:])
        if min(self.sizes) < 3:
            raise InvalidArgument(f"a grid of {self.sizes} nodes", "at least 3 along every axis")
        flat = values.flatten(1)
        core = values[(slice(None), *[slice(1, -1)] * dim)].flatten(1)
        edge_free = (flat <= 0).sum(1) == (core <= 0).sum(1)
        if not bool(((core < 0).any(1) & edge_free).all()):
            raise InvalidArgument(
                "values that are nowhere negative, or not positive at the edge of the grid",
                "a domain inside the grid",
                "Enlarge low .. high, or turn the sign if positive means inside",
            )
        self.values = flat.float()
        self.lipschitz, self.near, self.knee = self._largest_gradients(values)

    @classmethod
    def of(cls, domain: Domain, nodes: int, margin: float = 0.05) -> SDFGrid:
        """Return the interpolant of `domain`'s signed distance on cubic grids.

        Args:
            domain: B domains; its `signed_distance` is evaluated at every node.
            nodes: Nodes along every axis.
            margin: Room around the bounding box, in units of the domain's `scale`.
        """
        if wanted := whole(nodes) or ("" if nodes >= 3 else "at least 3"):
            raise InvalidArgument(f"nodes={shown(nodes)}", wanted)
        low, high = domain.bounds()
        middle, half = (low + high) / 2, (1 + margin) * domain.scale()[:, None]
        low, high = middle - half, middle + half
        axis = torch.linspace(0, 1, nodes, dtype=torch.float64, device=low.device)
        unit = torch.stack(torch.meshgrid([axis] * domain.dim, indexing="ij"), -1)
        unit = unit.view(-1, domain.dim)
        values = [
            domain.signed_distance(low[:, None] + part * (high - low)[:, None])
            for part in unit.split(max(1, BLOCK // domain.count))
        ]
        shape = (domain.count, *[nodes] * domain.dim)
        return cls(torch.cat(values, 1).view(shape), low, high)

    def interpolate(self, x: Tensor, i: Tensor, gradient: bool = False) -> Tensor:
        """Return the interpolant `(N,)`, or its gradient `(d, N)`, at `x (d, N)`.

        Beyond the grid both are those of the closest point on it.
        """
        low, high = self.pick(self.low, x, i), self.pick(self.high, x, i)
        cells = x.new_tensor(self.sizes)[:, None] - 1
        per_unit = cells / (high - low)
        position = torch.minimum(((x - low) * per_unit).clamp_(min=0), cells)
        corner = torch.minimum(position.floor(), cells - 1)
        share = position - corner
        strides = self._strides()
        base = corner[-1].long()
        for axis in range(self.dim - 1):
            base = torch.add(base, corner[axis].long(), alpha=strides[axis])
        if self.count > 1:
            base = torch.add(base, i, alpha=self.values.shape[1])
        flat = self.values.view(-1)
        found = [
            flat.index_select(0, base + sum(map(int.__mul__, bits, strides))).to(x.dtype)
            for bits in itertools.product((0, 1), repeat=self.dim)
        ]
        if not gradient:
            return reduce_corners(found, share)
        out = []
        for axis in range(self.dim):
            out.append(reduce_corners(found, share, axis) * per_unit[axis])
        return torch.stack(out)

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the interpolant over its largest gradient; beyond the grid, the distance to it."""
        value = self.interpolate(x, i)
        bound = self._size(value, x, i) * value.sign()
        # a point beyond the grid is at least as far from the domain as from the grid
        return torch.maximum(bound, self._beyond(x, i))

    def gap(self, x: Tensor, i: Tensor) -> Tensor:
        """Return minus the bound of `level`, without the test for points beyond the grid."""
        value = self.interpolate(x, i)
        return -self._size(value, x, i) * value.sign()

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return points of the zero set along the gradient: closest up to the grid's error.

        Beyond the grid, and where Newton's method does not end or ends farther away than the value
        says by more than a cell (at kinks, and where values are no distances), from the closest
        point where the boundary crosses an edge of a cell.
        """
        on = self._along_gradient(x, i)
        with torch.no_grad():
            far = length(x - on) > self.interpolate(x, i).abs() + self._cell(x, i)
            lost = far | (self._beyond(x, i) > 0) | ~self._on_boundary(on, i)
        lost = lost.nonzero()[:, 0]
        return on.index_copy(1, lost, self._from_edges(x[:, lost], i[lost])) if len(lost) else on

    def land(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the points of the zero set along the gradient."""
        return self._along_gradient(x, i)

    def _from_edges(self, x: Tensor, i: Tensor) -> Tensor:
        """Return what `nearest` does, for points that the gradient does not lead to the boundary.

        The next point is found from between the last one and x.
        """
        on = self._closest_crossing(x.detach(), i)
        low, high = self.pick(self.low, x, i), self.pick(self.high, x, i)
        for _ in range(ROUNDS):
            step = x - on
            room = torch.where(step > 0, high - on, on - low) / step.abs().clamp_min(1e-12)
            new = self._along_gradient(on + step * room.amin(0).clamp(0, 0.5), i)
            better = (length(x - new) < length(x - on)) & self._on_boundary(new, i)
            on = torch.where(better, new, on)
        return on

    def _on_boundary(self, x: Tensor, i: Tensor) -> Tensor:
        """Return whether points are on the grid and on the zero set, `(N,)`."""
        near = CLOSE * self.pick(self.lipschitz, x, i) * self._cell(x, i)
        return (self.interpolate(x, i).abs() <= near) & (self._beyond(x, i) <= 0)

    def _cell(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the shortest side of a cell, for every column."""
        spacing = (self.high - self.low) / self.low.new_tensor([s - 1 for s in self.sizes])
        return self.pick(spacing.amin(1), x, i)

    def _along_gradient(self, x: Tensor, i: Tensor) -> Tensor:
        """Return what Newton steps from points on the grid find on the zero set."""
        for _ in range(STEPS):
            slope = self.interpolate(x, i, gradient=True)
            square = slope.square().sum(0).clamp_min(0.1)  # 1 for distances, small at their kinks
            x = x - slope * (self.interpolate(x, i) / square)
        return x

    def _beyond(self, x: Tensor, i: Tensor) -> Tensor:
        """Return how far points are beyond the grid along the worst axis; negative on it."""
        away = torch.maximum(self.pick(self.low, x, i) - x, x - self.pick(self.high, x, i))
        return away.amax(0)

    def _closest_crossing(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the points `(d, N)` of the boundary on edges of cells that are closest to x."""
        found, steps = x.clone(), x.new_tensor([s - 1 for s in self.sizes])
        for k in i.unique().tolist():
            grid, points = self.values[k].detach().view(self.sizes).to(x.dtype), []
            for axis, size in enumerate(self.sizes):
                first, second = grid.narrow(axis, 0, size - 1), grid.narrow(axis, 1, size - 1)
                at = ((first < 0) != (second < 0)).nonzero()
                first, second = first[tuple(at.T)], second[tuple(at.T)]
                at = at.to(x.dtype)
                at[:, axis] += first / (first - second)
                points.append(at)
            points = torch.cat(points) / steps
            points = self.low[k].to(x) + points * (self.high[k] - self.low[k]).to(x)
            own = (i == k).nonzero()[:, 0]
            for part in own.split(max(1, PAIRS // len(points))):
                found[:, part] = points[torch.cdist(x[:, part].T, points).argmin(1)].T
        return found

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners of the grid."""
        return self.low, self.high

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points uniform in area up to the square of the spacing over the curvature radius.

        Points uniform in the shell `|values| < spacing / 2` are accepted with a probability
        proportional to the gradient's length and projected: by the coarea formula the levels, and
        in the mean the zero set, are then covered uniformly. `weight` carries the sampling error of
        the area, from the share accepted.
        """
        spacing = (self.high - self.low) / self.low.new_tensor([s - 1 for s in self.sizes])
        half = spacing.amin(1) / 2
        active = self._cells_within(half).float()
        cell_sizes = [s - 1 for s in self.sizes]

        def draw(m: int) -> tuple[Tensor, Tensor]:
            cell = torch.multinomial(active, m, replacement=True, generator=generator)
            index = []
            for size in reversed(cell_sizes):
                index.insert(0, cell % size)
                cell = cell // size
            u = uniform((self.count, m, self.dim), generator, torch.float64)
            points = self.low[:, None] + (torch.stack(index, 2) + u) * spacing[:, None]
            x, i = self.columns(points)
            steep = length(self.interpolate(x, i, gradient=True))
            steep = (steep / self.pick(self.lipschitz, x, i)).view(self.count, m)
            keep = self.interpolate(x, i).view(self.count, m).abs() < half[:, None]
            return points, keep & (uniform(keep.shape, generator, torch.float64) < steep)

        points, share = accepted(n, draw)
        x, i = self.columns(points)
        on = self.nearest(x, i)
        out = self.interpolate(on, i, gradient=True)
        out = out / length(out).clamp_min(1e-12)
        volume = active.sum(1).double() * spacing.prod(1)
        area = share * volume * self.lipschitz / (2 * half)
        shape = (self.dim, self.count, n)
        return Boundary(
            on.view(shape).permute(1, 2, 0).to(dtype),
            out.view(shape).permute(1, 2, 0).to(dtype),
            (area / n).to(dtype)[:, None].expand(-1, n),
        )

    def cells_inside(self) -> Tensor:
        """Return whether each cell has a node inside, `(B, cells)`, the last axis fastest."""
        grid = self.values.view(-1, *self.sizes)
        return torch.stack([corner.flatten(1) for corner in corners_of(grid)]).amin(0) < 0

    def _strides(self) -> list[int]:
        strides = [1]
        for size in reversed(self.sizes[1:]):
            strides.insert(0, strides[0] * size)
        return strides

    def _size(self, value: Tensor, x: Tensor, i: Tensor) -> Tensor:
        """Return a lower bound of the distance to the zero set where the interpolant is `value`.

        A path from there crosses all values in between, each at most as fast as the largest
        gradient of any cell that holds it.
        """
        knee, size = self.pick(self.knee, x, i), value.abs()
        first = torch.minimum(size, knee)
        return first / self.pick(self.near, x, i) + (size - first) / self.pick(self.lipschitz, x, i)

    def _largest_gradients(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the largest gradient in any cell, in cells near the boundary, and where that is.

        Distances have kinks, over which the interpolant may be steeper than 1, mostly deep inside:
        near means values up to half the lowest one. All `(B,)`, gradients at least 1e-6.
        """
        spacing = (self.high - self.low) / self.low.new_tensor([s - 1 for s in self.sizes])
        largest = largest_slopes(values, spacing)
        knee = -values.flatten(1).amin(1) / 2
        near = torch.where(self._cells_within(knee), largest, 0.0)
        return (
            largest.amax(1).sqrt().clamp_min(1e-6),
            near.amax(1).sqrt().clamp_min(1e-6),
            knee,
        )

    def _cells_within(self, size: Tensor) -> Tensor:
        """Return whether each cell has values between -size and size, `(B, cells)`."""
        grid = self.values.view(-1, *self.sizes)
        corners = torch.stack([corner.flatten(1) for corner in corners_of(grid)])
        low, high = corners.amin(0), corners.amax(0)
        return (low < size[:, None]) & (high > -size[:, None])
