"""Which of many triangles is closest to each of many points, exactly.

Points close to each other have close answers: they are taken in blocks along a space-filling curve.
The triangle closest to the middle of a block bounds the distances of all its points, so that two
tests, each one matrix product for a block, leave few triangles of many to look at:

    |x - c| - r <= bound      c, r the ball around a triangle
    |n . (x - a)| <= bound    its plane

Triangles that are left are measured in full. Both tests are necessary for being closest: what is
skipped never changes the answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Points of a block, blocks of a chunk.
BLOCK, CHUNK = 64, 64
# Triangles up to which blocks are not worth it.
FEW = 64
# Pairs of a point and a triangle measured at once: their numbers stay in the cache.
PAIRS = 2**13
# Columns of a table of triangles: see `table`.
FULL, BALL, PLANE = slice(0, 18), slice(18, 23), slice(23, 27)


def table(corners: Tensor) -> Tensor:
    """Return what the search needs to know about triangles `(B, F, 3, 3)`, as `(B, F, 27)`.

    Corner a, sides u and v from there, the vectors whose products with x - a are the coordinates
    of the foot of x along u and v, the unit normal; then the ball and the plane as rows of the
    matrices of the two tests. Points in place of triangles have NaN for coordinates: their edges
    are enough.
    """
    a, b, c = corners.unbind(2)
    u, v = b - a, c - a
    normal = torch.linalg.cross(u, v)
    square = normal.square().sum(2, keepdim=True)
    flat = square == 0
    safe = torch.where(flat, torch.nan, square)
    unit = normal / torch.where(flat, 1.0, square.sqrt())
    middles = [corners.mean(2), (a + b) / 2, (b + c) / 2, (c + a) / 2]  # an edge's if obtuse
    middles = torch.stack(middles)
    radius = torch.linalg.vector_norm(corners - middles[:, :, :, None], dim=4).amax(3)
    radius, best = radius.min(0)
    middle = middles.gather(0, best[None, ..., None].expand(1, -1, -1, 3))[0]
    radius = radius[..., None]
    ball = [-2 * middle, -2 * radius, middle.square().sum(2, keepdim=True) - radius**2]
    foot = [torch.linalg.cross(v, normal) / safe, torch.linalg.cross(normal, u) / safe]
    plane = [unit, -(unit * a).sum(2, keepdim=True)]
    return torch.cat([a, u, v, *foot, unit, *ball, *plane], 2)


@torch.no_grad()
def closest_triangle(x: Tensor, i: Tensor, rows: Tensor) -> Tensor:
    """Return which triangle `(N,)` of its mesh is closest to each point.

    Args:
        x: Points `(3, N)`.
        i: Mesh `(N,)` of each.
        rows: `(B, F, 27)`, see `table`.
    """
    found = torch.zeros_like(i)
    points = x.T.to(rows.dtype)
    for mesh in range(len(rows)):
        own = (
            (i == mesh).nonzero()[:, 0] if len(rows) > 1 else torch.arange(len(i), device=i.device)
        )
        if len(own) == 0:
            continue
        own = own[along_a_curve(points[None, own])[0]]
        parts = own.split(BLOCK * CHUNK)
        found[own] = torch.cat([_chunk(points[part], rows[mesh]) for part in parts])
    return found


def _chunk(points: Tensor, rows: Tensor) -> Tensor:
    """Return the closest triangles of a few thousand points `(n, 3)` that are close together."""
    every = torch.arange(len(rows), device=rows.device)
    if len(rows) <= FEW:
        start = torch.zeros(len(points), dtype=torch.long, device=rows.device)
        return _closest(points, start, rows, [every])[0]
    middle, radius = _around(points[None])
    start = _to_middles(middle, rows).argmin(1)
    first, bound = _closest(middle, start, rows, [every])
    near = _near_blocks(middle, radius, first, bound, rows)[0].nonzero()[:, 0]
    # blocks, the last one filled up with its last point
    blocks = -(-len(points) // BLOCK)
    last = points[-1:].expand(blocks * BLOCK - len(points), 3)
    filled = torch.cat([points, last]).view(blocks, BLOCK, 3)
    middles, radii = _around(filled)
    first, bound = _closest(middles, first.expand(blocks), rows, [near])
    masks = _near_blocks(middles, radii, first, bound, rows, near)
    lists = [near[mask] for mask in masks]
    return _closest(filled.flatten(0, 1), first.repeat_interleave(BLOCK), rows, lists)[0][
        : len(points)
    ]


def _around(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middles `(b, 3)` and radii `(b,)` of blocks of points `(b, n, 3)`."""
    middle = (points.amin(1) + points.amax(1)) / 2
    return middle, torch.linalg.vector_norm(points - middle[:, None], dim=2).amax(1)


def _near_blocks(
    middle: Tensor,
    radius: Tensor,
    first: Tensor,
    distance: Tensor,
    rows: Tensor,
    listed: Tensor | slice = slice(None),
) -> Tensor:
    """Return whether triangles may be closest to a point of each block, `(b, F)`.

    A point x of a block is closer to q, the point of the triangle `first` closest to the middle m,
    than to any point of the ball around c unless |x - c| <= |x - q| + r. The difference of squares
    is linear in x, so that with D = |m - q| and the block's radius R

        |m - c|^2 - D^2 <= 2 R |c - q| + 2 r (D + R) + r^2.
    """
    corners = rows.index_select(0, first)[:, :9].view(-1, 3, 3)
    corners = torch.cat([corners[:, :1], corners[:, :1] + corners[:, 1:]], 1)
    q = on_triangle(middle.T, corners.permute(1, 2, 0))[0].T
    rows = rows[listed]
    ball, plane = rows[:, BALL], rows[:, PLANE]
    centre, r = ball[:, :3] / -2, ball[:, 3] / -2
    away = torch.cdist(q, centre, compute_mode="donot_use_mm_for_euclid_dist")
    reach, own = (distance + radius)[:, None], middle.square().sum(1, keepdim=True)
    gap = _to_middles(middle, rows) + own - distance[:, None] ** 2
    allowed = 2 * radius[:, None] * away + 2 * r * reach + r**2
    doubt = 64 * torch.finfo(middle.dtype).eps
    size = middle.abs().amax() + centre.abs().amax()
    far = (middle @ plane[:, :3].T + plane[:, 3]).abs() - radius[:, None]
    ball_test = gap <= allowed + doubt * (size**2 + reach**2 + own)
    return ball_test & (far <= reach + doubt * (size + reach))


def _to_middles(x: Tensor, rows: Tensor) -> Tensor:
    """Return |x - c|^2 - |x|^2 for x `(n, 3)` and the middles of triangles, `(n, F)`."""
    ball = rows[:, BALL]
    return torch.addmm(ball[:, 4] + (ball[:, 3] / 2) ** 2, x, ball[:, :3].T)


def _possible(x: Tensor, bound: Tensor, rows: Tensor) -> Tensor:
    """Return whether triangles may have a point closer than `bound (n,)` to x `(n, 3)`, `(n, F)`.

    The test of the balls is |x - c|^2 <= (bound + r)^2, multiplied out.
    """
    square = x.square().sum(1)
    one = torch.ones_like(bound)
    size = x.abs().amax() + rows[:, PLANE.stop - 1].abs().amax() if len(rows) else one[0]
    doubt = 64 * torch.finfo(x.dtype).eps
    left = torch.cat([x, bound[:, None], one[:, None]], 1)
    allowed = (bound.square() - square + doubt * (square + bound.square() + size**2))[:, None]
    ball = left @ rows[:, BALL].T <= allowed
    plane = (x @ rows[:, PLANE][:, :3].T).add_(rows[:, PLANE.stop - 1]).abs_()
    return ball.logical_and_(plane <= (bound + doubt * (bound + size))[:, None])


def _closest(x: Tensor, start: Tensor, rows: Tensor, lists: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the closest triangles `(n,)` of x `(n, 3)`, and their distances.

    Args:
        x: As many blocks of equally many points as there are lists.
        start: A triangle `(n,)` that is near each.
        rows: `(F, 27)`.
        lists: Triangles that may be closest, for every block.
    """
    each, parts = len(x) // len(lists), [rows.index_select(0, own) for own in lists]
    blocks = [slice(k * each, (k + 1) * each) for k in range(len(lists))]
    least, best = _squares(x, rows.index_select(0, start)), start
    if each > 1:  # the closest middle of those listed is nearer than what is near a whole block
        guess = [
            own[_to_middles(x[b], part).argmin(1)]
            for b, own, part in zip(blocks, lists, parts, strict=True)
        ]
        guess = torch.cat(guess)
        found = _squares(x, rows.index_select(0, guess))
        least, best = torch.minimum(least, found), torch.where(found < least, guess, best)
    bound = least.sqrt()
    points, triangles = [], []
    for k, (block, own) in enumerate(zip(blocks, lists, strict=True)):
        mask = _possible(x[block], bound[block], parts[k])
        point, at = mask.nonzero().unbind(1)
        points.append(point + k * each)
        triangles.append(own.index_select(0, at))
    best = best.clone()
    pairs = (torch.cat(points).split(PAIRS), torch.cat(triangles).split(PAIRS))
    for point, triangle in zip(*pairs, strict=True):
        found = _squares(x.index_select(0, point), rows.index_select(0, triangle))
        new = least.scatter_reduce(0, point, found, "amin")
        won = (found == new.index_select(0, point)) & (found < least.index_select(0, point))
        best[point[won]] = triangle[won]
        least = new
    return best, least.sqrt()


def _squares(x: Tensor, rows: Tensor) -> Tensor:
    """Return squared distances `(M,)` of points `(M, 3)` from triangles `(M, 27)`."""
    a, u, v, to_u, to_v, normal = rows[:, FULL].T.contiguous().split(3)
    w = x.T - a
    s, t = _dot(to_u, w), _dot(to_v, w)
    over = (s >= 0) & (t >= 0) & (s + t <= 1)
    square = torch.where(over, _dot(normal, w).square_(), torch.inf)
    for start, along in ((w, u), (w, v), (w - u, v - u)):
        square = torch.minimum(square, _to_segment(start, along))
    return square


def _to_segment(w: Tensor, along: Tensor) -> Tensor:
    """Return squared distances of points w from segments from 0 to `along`, all `(3, M)`."""
    size = _dot(along, along).clamp_min_(torch.finfo(w.dtype).tiny)
    share = (_dot(w, along) / size).clamp_(0, 1)
    away = w - share * along
    return _dot(away, away)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def on_triangle(x: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Return the closest point of one triangle for each point, and where on it that is.

    Args:
        x: Points `(3, N)`.
        corners: `(3, 3, N)`: which corner, which coordinate.

    Returns:
        Points `(3, N)`, and `(N,)`: 0 inside the triangle, 1, 2, 3 on the edges ab, bc, ca, 4, 5, 6
        at the corners a, b, c.
    """
    a, b, c = corners
    places, kinds = [], []
    for e, (start, end) in enumerate(((a, b), (b, c), (c, a))):
        along = end - start
        size = _dot(along, along).clamp_min(torch.finfo(x.dtype).tiny)
        t = (_dot(x - start, along) / size).clamp(0, 1)
        # the end itself where it is the closest, not a sum that rounds to its neighbour
        places.append(torch.where(t < 1, start + t * along, end))
        kinds.append(torch.where(t <= 0, 4 + e, torch.where(t >= 1, 4 + (e + 1) % 3, 1 + e)))
    u, v, w = b - a, c - a, x - a
    normal = torch.linalg.cross(u, v, dim=0)
    square = _dot(normal, normal)
    flat = square == 0
    square = torch.where(flat, 1.0, square)
    s = _dot(torch.linalg.cross(v, normal, dim=0), w) / square
    t = _dot(torch.linalg.cross(normal, u, dim=0), w) / square
    over = ~flat & (s >= 0) & (t >= 0) & (s + t <= 1)
    places.append(x - normal * (_dot(normal, w) / square))
    kinds.append(torch.zeros_like(kinds[0]))
    squares = torch.stack([(x - place).square().sum(0) for place in places])
    squares[3] = torch.where(over, squares[3], torch.inf)
    best = squares.argmin(0)
    place = torch.stack(places).gather(0, best.expand(1, 3, -1))[0]
    return place, torch.stack(kinds).gather(0, best[None])[0]


def along_a_curve(points: Tensor) -> Tensor:
    """Return an order `(B, N)` of `points (B, N, 3)` in which neighbours are close (Morton)."""
    low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
    cell = ((points - low) / (high - low).clamp_min(1e-30) * 1023).long()
    code = torch.zeros_like(cell[..., 0])
    for bit in range(10):
        for axis in range(3):
            code |= ((cell[..., axis] >> bit) & 1) << (3 * bit + axis)
    return code.argsort(1)
