"""Polygons with absorbing and reflecting edges, with the queries of walk on stars.

Walks end at the absorbing edges (Dirichlet) and bounce off the reflecting ones (Neumann). A step
needs the largest radius around x at which the visible part of the domain is star-shaped and free
of absorbing edges: the smaller of the distances to

    the closest absorbing edge, and
    the closest silhouette: a re-entrant corner between reflecting edges of which x sees one.

Within that radius a ray from x meets the reflecting boundary once or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.geometry.domain import Boundary
from sciml.physics.geometry.domain_rows import uniform
from sciml.physics.geometry.polygon import Polygon
from sciml.physics.geometry.reflecting import Reflecting
from sciml.shapes import check_kind

# A ray may pass this far beyond the end of an edge, in units of its length, and still meets it:
# nothing escapes between two edges.
OVERLAP = 1e-4
# Edges visited together by the walks that are near the circle around them.
GROUP = 16
# Edges, and the row of the table of circles for the one around them.
Group = tuple[list[int], list[int]]


class MixedPolygon(Reflecting):
    """Polygons whose edges absorb or reflect.

    For smooth curves see `inscribed`.

    Args:
        polygon: B polygons, with holes or without.
        neumann: Which edges reflect: `(B, E)` or `(E,)` booleans in the order of
            `polygon.starts`, or a function `(x (2, N), i (N,)) -> (N,)` of their midpoints.

    Attributes:
        reflects: `(B, E)` booleans.

    Raises:
        InvalidArgument: If all edges of a polygon reflect, an edge has length zero, or shapes do
            not fit.
        InvalidType: If `neumann` is neither booleans nor a function that returns them.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import MixedPolygon, Polygon
        >>> triangle = Polygon([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> mixed = MixedPolygon(triangle, lambda x, i: x[1] == 0)  # the lower edge reflects
        >>> mixed.reflects.tolist()
        [[True, False, False]]
    """

    def __init__(
        self, polygon: Polygon, neumann: Tensor | Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        check_kind("polygon", polygon, Polygon)
        super().__init__(polygon.count, 2)
        self.polygon = polygon
        along = polygon.ends - polygon.starts
        size = torch.linalg.vector_norm(along, dim=2)
        if not bool((size > 0).all()):
            raise InvalidArgument("an edge of length zero", "corners that differ")
        self.reflects = self._chosen(neumann, (polygon.starts + polygon.ends) / 2)
        unit = along / size[..., None]
        # start, direction, length, whether it reflects
        parts = [*polygon.starts.unbind(2), *unit.unbind(2), size, self.reflects.to(size)]
        self.edges = torch.stack(parts, 2)
        self.corners = self._corners(unit)
        # edges and corners that are of no use in any of the polygons are never visited
        self.circles = unit.new_zeros(self.count, 0, 4)
        self.absorbing = self._grouped(~self.reflects)
        self.reflecting = self._grouped(self.reflects)
        self.folds = self._grouped(self.corners[..., -1] > 0)

    def _corners(self, unit: Tensor) -> Tensor:
        """Return the corners where edges begin, with the normals of the two edges that meet."""
        before = [part.roll(1, 1) for part in unit.split(self.polygon.sizes, 1)]
        before = torch.cat(before, 1)
        both = [part.roll(1, 1) for part in self.reflects.split(self.polygon.sizes, 1)]
        both = torch.cat(both, 1) & self.reflects
        turn = before[..., 0] * unit[..., 1] - before[..., 1] * unit[..., 0]
        counts = both & (turn < -1e-12)  # the domain is to the left: a right turn re-enters
        normals = [before[..., 1], -before[..., 0], unit[..., 1], -unit[..., 0]]
        return torch.stack([*self.polygon.starts.unbind(2), *normals, counts.to(unit)], 2)

    # --- what walks on stars ask ------------------------------------------------------------------
    # within a group of edges tensors are (edges, walks)
    def absorbed(self, x: Tensor, i: Tensor, point: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the distance `(N,)` to the closest absorbing edge, and its closest point."""
        best, on = self._bound(self.absorbing, x, i), x.clone() if point else None
        for group, rows in self._near(self.absorbing, x, i, best):
            at, of, least = _cut(rows, x, i, best)
            ax, ay, tx, ty, size, reflects = self._table(self.edges, group, at, of)
            u, v = at[0] - ax, at[1] - ay
            t = torch.minimum((u * tx + v * ty).clamp_min_(0), size)
            du, dv = torch.addcmul(u, t, tx, value=-1), torch.addcmul(v, t, ty, value=-1)
            square = torch.addcmul(du * du, dv, dv)
            square, k = torch.where(reflects > 0, torch.inf, square).min(0)
            found = square.sqrt_()
            if point:
                foot = at - torch.stack([_at(du, k), _at(dv, k)])
                on = _paste(on, rows, torch.where(found <= least, foot, _cut(rows, on)[0]))
            best = _paste(best, rows, torch.minimum(least, found))
        return best, on

    def silhouette(self, x: Tensor, i: Tensor, within: Tensor) -> Tensor:
        """Return the distance `(N,)` to the closest silhouette, at most `within (N,)`."""
        best = within.clone()
        for group, rows in self._near(self.folds, x, i, best):
            at, of, least = _cut(rows, x, i, best)
            slack = self.rounding(at, of)
            cx, cy, n1x, n1y, n2x, n2y, counts = self._table(self.corners, group, at, of)
            u, v = cx - at[0], cy - at[1]
            first, second = u * n1x + v * n1y, u * n2x + v * n2y
            # both edges seen from the front, or both from behind: no silhouette
            plain = torch.minimum(first, second) > slack
            plain |= torch.maximum(first, second) < -slack
            square = torch.addcmul(u * u, v, v)
            square = torch.where(plain | (counts == 0), torch.inf, square)
            best = _paste(best, rows, torch.minimum(least, square.amin(0).sqrt_()))
        return best

    def hit(self, x: Tensor, e: Tensor, i: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far rays go, and which reflecting edge stops them."""
        best = far.clone()
        which = torch.full_like(far, -1, dtype=torch.int64)
        for group, rows in self._near(self.reflecting, x, i, best):
            at, go, of, least, wall = _cut(rows, x, e, i, best, which)
            ax, ay, tx, ty, size, reflects = self._table(self.edges, group, at, of)
            u, v = at[0] - ax, at[1] - ay
            depth = v * tx - u * ty  # how far inside the line of the edge
            speed = go[0] * ty - go[1] * tx  # towards it
            t = depth.clamp_min(0) / speed
            s = (u + t * go[0]) * tx + (v + t * go[1]) * ty
            meets = (speed > 1e-6) & (depth > -self.rounding(at, of)) & (reflects > 0)
            meets &= (s >= -OVERLAP * size) & (s <= (1 + OVERLAP) * size)
            t, k = torch.where(meets, t, torch.inf).min(0)
            closer = t <= least
            number = torch.tensor(group[0], device=x.device)[k]
            best = _paste(best, rows, torch.where(closer, t, least))
            which = _paste(which, rows, torch.where(closer, number, wall))
        return best, which

    def wall(self, x: Tensor, i: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x (2, N)` put on the edges `(N,)`, and their outward normals `(2, N)`.

        Edges -1 leave the point as it is, with the normal 0.
        """
        hit = edge >= 0
        row = i * self.edges.shape[1] + edge.clamp_min(0)
        ax, ay, tx, ty, size, _ = self.edges.flatten(0, 1).to(x).index_select(0, row).T
        rim = self.rounding(x, i)
        s = ((x[0] - ax) * tx + (x[1] - ay) * ty).clamp_min(rim)
        s = torch.minimum(s, size - rim)
        on = torch.stack([ax + s * tx, ay + s * ty])
        normal = torch.stack([ty, -tx]) * hit
        return torch.where(hit, on, x), normal

    def standing(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the reflecting edges `(N,)` that points stand on up to round-off, -1 for none."""
        which = torch.full_like(x[0], -1, dtype=torch.int64)
        for group, rows in self._near(self.reflecting, x, i, self.rounding(x, i)):
            at, of, wall = _cut(rows, x, i, which)
            ax, ay, tx, ty, size, reflects = self._table(self.edges, group, at, of)
            u, v, slack = at[0] - ax, at[1] - ay, self.rounding(at, of)
            s = u * tx + v * ty
            near = ((v * tx - u * ty).abs() <= slack) & (reflects > 0)
            near, k = (near & (s >= -slack) & (s <= size + slack)).max(0)
            number = torch.tensor(group[0], device=x.device)[k]
            which = _paste(which, rows, torch.where(near, number, wall))
        return which

    def sample_near(
        self, x: Tensor, i: Tensor, r: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return points of the reflecting edges within `r (N,)` of `x`, uniform in length."""
        which = torch.full_like(r, -1, dtype=torch.int64)
        u = uniform(tuple(r.shape), generator, r.dtype)
        # the length so far, and the place on the edge chosen so far
        state = torch.zeros(2, *r.shape).to(r)
        for group, rows in self._near(self.reflecting, x, i, r):
            at, of, most, own, (total, place), wall = _cut(rows, x, i, r, u, state, which)
            ax, ay, tx, ty, size, reflects = self._table(self.edges, group, at, of)
            dx, dy = at[0] - ax, at[1] - ay
            depth, foot = dy * tx - dx * ty, dx * tx + dy * ty
            half = (most * most - depth * depth).clamp_min_(0).sqrt_()
            low = (foot - half).clamp_min_(0)
            chord = (torch.minimum(foot + half, size) - low).clamp_min_(0)
            chord = chord * ((depth > -self.rounding(at, of)) & (reflects > 0))
            upto = chord.cumsum(0)
            total = total + upto[-1]
            # this group or those before, in proportion
            take = uniform(tuple(total.shape), generator, r.dtype) * total < upto[-1]
            target = own * upto[-1]
            k = (upto <= target).sum(0).clamp_max_(len(upto) - 1)
            inner = _at(low, k) + target - _at(upto, k) + _at(chord, k)
            number = torch.tensor(group[0], device=x.device)[k]
            part = torch.stack([total, torch.where(take, inner, place)])
            state = _paste(state, rows, part)
            which = _paste(which, rows, torch.where(take, number, wall))
        row = i * self.edges.shape[1] + which.clamp_min(0)
        ax, ay, tx, ty, *_ = self.edges.flatten(0, 1).to(x).index_select(0, row).T
        total, place = state
        return torch.stack([ax + place * tx, ay + place * ty]), which, total

    # --- which edges to visit ---------------------------------------------------------------------
    def _grouped(self, used: Tensor) -> list[Group]:
        """Return the edges used in some polygon `(B, E)` in groups, with circles around them."""
        members = used.any(0).nonzero()[:, 0].tolist()
        groups = [members[k : k + GROUP] for k in range(0, len(members), GROUP)]
        first = self.circles.shape[1]
        for group in groups:
            ends = [side[:, group] for side in (self.polygon.starts, self.polygon.ends)]
            points = torch.cat(ends, 1)
            middle = (points.amin(1) + points.amax(1)) / 2
            radius = torch.linalg.vector_norm(points - middle[:, None], dim=2).amax(1)
            missing = torch.where(used[:, group].any(1), 0.0, torch.inf)
            circle = torch.stack([*middle.unbind(1), radius, missing], 1)
            self.circles = torch.cat([self.circles, circle[:, None]], 1)
        return [(group, [first + k]) for k, group in enumerate(groups)]

    def _near(
        self, groups: list[Group], x: Tensor, i: Tensor, reach: Tensor
    ) -> Iterator[tuple[Group, Tensor | None]]:
        """Yield groups with the columns of `x` that may have one within `reach`; None for all."""
        for group in groups:
            if len(groups) == 1:
                yield group, None
                continue
            cx, cy, radius, _ = self._table(self.circles, group[::-1], x, i)
            gap = torch.hypot(x[0] - cx, x[1] - cy) - radius
            rows = (gap[0] <= reach).nonzero()[:, 0]
            if len(rows):
                yield group, rows

    def _bound(self, groups: list[Group], x: Tensor, i: Tensor) -> Tensor:
        """Return an upper bound `(N,)` of the distance to the closest edge of all groups."""
        best = torch.full_like(x[0], torch.inf)
        for group in groups if len(groups) > 1 else []:
            cx, cy, radius, missing = self._table(self.circles, group[::-1], x, i)
            far = torch.hypot(x[0] - cx, x[1] - cy) + radius + missing
            best = torch.minimum(best, far[0] * (1 + 1e-5))
        return best

    def _table(self, table: Tensor, group: Group, x: Tensor, i: Tensor) -> tuple[Tensor, ...]:
        """Return the entries of a table for a group, each `(edges, N)` or `(edges, 1)`."""
        own = table[:, group[0]]
        flat = self.pick(own.flatten(1), x, i)
        return flat.unflatten(0, own.shape[1:]).unbind(1)

    # --- the polygon's own ------------------------------------------------------------------------
    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the signed distance to the whole boundary."""
        return self.polygon.level(x, i)

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the closest points of the whole boundary."""
        return self.polygon.nearest(x, i)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners of the boxes that touch each polygon."""
        return self.polygon.bounds()

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points of the whole boundary, uniform in arc length."""
        return self.polygon.sample_boundary(n, generator, dtype)


def _at(values: Tensor, k: Tensor) -> Tensor:
    """Return `values[k[n], n]`; values may be `(edges, 1)`."""
    return values.expand(-1, len(k)).gather(0, k[None])[0]


def _cut(rows: Tensor | None, *parts: Tensor) -> tuple[Tensor, ...]:
    """Return the columns `rows` of all parts; None for all."""
    return parts if rows is None else tuple(part.index_select(-1, rows) for part in parts)


def _paste(whole: Tensor, rows: Tensor | None, part: Tensor) -> Tensor:
    """Write columns `rows` into `whole` in place, or return `part` if it is all of them."""
    return part if rows is None else whole.index_copy_(-1, rows, part)
