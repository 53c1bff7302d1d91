"""Solids in space bounded by triangle meshes: exact distances to every triangle.

Signs come from the normal at the closest point: that of the triangle, the mean of two at an edge,
the mean weighted by angles at a corner. With these a watertight mesh has no point of doubtful side.

Baerentzen and Aanaes, "Signed distance computation using the angle weighted pseudonormal", IEEE
Transactions on Visualization and Computer Graphics 11 (2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.geometry.domain import Boundary, Domain, positive, rows_of, uniform

# Triangles visited together by the points that are near the ball around them.
GROUP = 32


class Mesh(Domain):
    """B solids bounded by triangles.

    A query compares a point with many triangles: put meshes of more than a few hundred into a
    `Tabulated` for walks. `load_mesh` reads files.

    Args:
        vertices: `(V, 3)`, or a list of B of them.
        faces: `(F, 3)` corners of each triangle as rows of `vertices`, or a list of B; turning the
            same way round all over the mesh. Vertices at one place must be one vertex.

    Attributes:
        corners: `(B, F, 3, 3)` corners of the triangles, counter-clockwise seen from outside; where
            numbers differ the last one is repeated as a point.

    Raises:
        InvalidArgument: If a mesh is not watertight, its triangles turn different ways round, a
            triangle has no area, or shapes do not fit.
    """

    def __init__(self, vertices, faces) -> None:
        if not isinstance(vertices, list | tuple) or not torch.is_tensor(vertices[0]):
            vertices, faces = [vertices], [faces]
        if len(vertices) != len(faces):
            raise InvalidArgument(f"{len(vertices)} and {len(faces)}", "as many of both")
        solids = [_solid(v, f) for v, f in zip(vertices, faces, strict=True)]
        most = max(len(corners) for corners, _ in solids)
        self.corners = torch.stack([_padded(corners, most) for corners, _ in solids])
        # normals (B, F, 7, 3): of the triangle, of its edges ab, bc, ca, of its corners a, b, c
        self.normals = torch.stack([_padded_normals(normals, most) for _, normals in solids])
        super().__init__(len(solids), 3)
        middle = (self.corners.amin(2) + self.corners.amax(2)) / 2
        order = _along_a_curve(middle)
        self.corners = self.corners.gather(1, order[..., None, None].expand(-1, -1, 3, 3))
        self.normals = self.normals.gather(1, order[..., None, None].expand(-1, -1, 7, 3))
        self.balls = self._balls()

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the signed distance."""
        return self._closest(x, i)[0]

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the closest points of the triangles."""
        return self._closest(x, i)[1]

    def signed_distance(self, points: Tensor) -> Tensor:
        """Return the signed distance `(B, P)`, negative inside."""
        return self.level(*self.columns(points)).view(self.count, -1)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners of the boxes that touch each mesh."""
        flat = self.corners.flatten(1, 2)
        return flat.amin(1), flat.amax(1)

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points uniform in area."""
        a, b, c = self.corners.unbind(2)
        areas = torch.linalg.vector_norm(torch.linalg.cross(b - a, c - a), dim=2) / 2
        k = torch.multinomial(areas, n, replacement=True, generator=generator)[..., None]
        a, b, c = (corner.gather(1, k.expand(-1, -1, 3)) for corner in (a, b, c))
        u, v = uniform((2, self.count, n, 1), generator, torch.float64)
        root = u.sqrt()
        points = a + root * ((b - a) + v * (c - b))
        normals = self.normals[:, :, 0].gather(1, k.expand(-1, -1, 3))
        weight = (areas.sum(1, keepdim=True) / n).expand(-1, n)
        return Boundary(points.to(dtype), normals.to(dtype), weight.to(dtype))

    def _balls(self) -> Tensor:
        """Return centres and radii `(B, G, 4)` of balls around groups of triangles."""
        rows = []
        for group in self.corners.split(GROUP, 1):
            points = group.flatten(1, 2)
            middle = (points.amin(1) + points.amax(1)) / 2
            radius = torch.linalg.vector_norm(points - middle[:, None], dim=2).amax(1)
            rows.append(torch.cat([middle, radius[:, None]], 1))
        return torch.stack(rows, 1)

    def _closest(self, x: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        """Return signed distances `(N,)` and closest points `(3, N)`."""
        balls = self.pick(self.balls.flatten(1), x, i).unflatten(0, (-1, 4)).unbind(1)
        apart = sum((x[a] - balls[a]) ** 2 for a in range(3)).sqrt()  # (groups, N)
        near, far = apart - balls[3], apart + balls[3]
        square = (far.amin(0) * (1 + 1e-5)) ** 2
        side, on = torch.ones_like(square), x.clone()
        for g, first in enumerate(range(0, self.corners.shape[1], GROUP)):
            rows = (near[g] ** 2 * near[g].sign() <= square).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            part = slice(first, first + GROUP)
            at, of = x.index_select(1, rows), i.index_select(0, rows)
            found = _to_triangles(at, *self._parts(part, at, of))
            closer = found[0] < square.index_select(0, rows)
            keep = rows[closer]
            square[keep], side[keep], on[:, keep] = (f[..., closer] for f in found)
        return torch.where(side < 0, -1.0, 1.0) * square.sqrt(), on

    def _parts(self, part: slice, x: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        """Return corners `(3, 3, F, N)` and normals `(7, 3, F, N)` of triangles; N may be 1."""
        out = []
        for own in (self.corners[:, part], self.normals[:, part]):
            flat = self.pick(own.permute(0, 2, 3, 1).flatten(1), x, i)
            out.append(flat.unflatten(0, (*own.shape[2:], own.shape[1])))
        return out[0], out[1]


def load_mesh(path: str | Path | Sequence[str | Path]) -> Mesh:
    """Return the solid, or the solids, of mesh files: STL, OBJ, PLY, OFF, GLB, ...

    Vertices at one place are merged. Units are those of the file.

    Raises:
        InvalidArgument: If trimesh is not installed, a file cannot be read, or see `Mesh`.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    try:
        import trimesh
    except ImportError as error:
        raise InvalidArgument(
            "a mesh file, but trimesh is not installed",
            "the library that reads mesh files",
            "pip install 'sciml[mesh]', in a clone pip install -e '.[mesh]'",
        ) from error
    vertices, faces = [], []
    for file in paths:
        if not Path(file).is_file():
            raise InvalidArgument(f"there is no file {file}", "a mesh file")
        try:
            mesh = trimesh.load_mesh(str(file), process=True)
        except Exception as error:  # every format has its own families
            raise InvalidArgument(f"{file} cannot be read ({error})", "a mesh file") from error
        if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
            raise InvalidArgument(f"{file} holds no triangles", "one triangle mesh")
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        mesh.update_faces(mesh.nondegenerate_faces())
        vertices.append(torch.tensor(mesh.vertices, dtype=torch.float64))
        faces.append(torch.tensor(mesh.faces, dtype=torch.int64))
    return Mesh(vertices, faces)


def _solid(vertices, faces) -> tuple[Tensor, Tensor]:
    """Return corners `(F, 3, 3)`, outward, and normals `(F, 7, 3)` of a checked mesh."""
    vertices = rows_of("vertices", vertices, (None, 3))[0]
    faces = torch.as_tensor(faces)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point():
        raise InvalidArgument(f"faces of shape {tuple(faces.shape)}", "whole numbers (F, 3)")
    faces = faces.long().to(vertices.device)
    if len(faces) < 4 or int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        raise InvalidArgument(
            f"{len(faces)} faces of {len(vertices)} vertices", "at least 4, of rows that exist"
        )
    _check_closed(faces, len(vertices))
    corners = vertices[faces]
    a, b, c = corners.unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    if volume < 0:  # turned inside out
        faces, corners = faces.flip(1), corners.flip(1)
        a, b, c = corners.unbind(1)
    cross = torch.linalg.cross(b - a, c - a)
    area = positive("area of a triangle", torch.linalg.vector_norm(cross, dim=1, keepdim=True))
    normal = cross / area
    return corners, torch.cat([normal[:, None], *_shared_normals(faces, corners, normal)], 1)


def _check_closed(faces: Tensor, count: int) -> None:
    """Refuse meshes with an edge that is not run through once in each direction."""
    start, end = faces, faces.roll(-1, 1)
    forward, backward = (start * count + end).flatten(), (end * count + start).flatten()
    lonely = int((~torch.isin(forward, backward)).sum())
    twice = len(forward) - len(forward.unique())
    if lonely or twice:
        raise InvalidArgument(
            f"a mesh that is not watertight: {lonely} edges without a neighbour on the other side, "
            f"{twice} run through twice in one direction",
            "a closed surface whose triangles all turn the same way round",
            "Merge its vertices and fill its holes first, with trimesh.repair or a mesh editor",
        )


def _shared_normals(faces: Tensor, corners: Tensor, normal: Tensor) -> list[Tensor]:
    """Return normals `(F, 3, 3)` at the edges ab, bc, ca and at the corners a, b, c."""
    count = int(faces.max()) + 1
    start, end = faces, faces.roll(-1, 1)
    forward, backward = (start * count + end).flatten(), (end * count + start).flatten()
    order = forward.argsort()
    other = order[torch.searchsorted(forward[order], backward)] // 3
    own = torch.arange(len(faces), device=faces.device).repeat_interleave(3)
    at_edges = (normal[own] + normal[other]).view(-1, 3, 3)
    sides = corners.roll(-1, 1) - corners
    sides = sides / torch.linalg.vector_norm(sides, dim=2, keepdim=True)
    angles = torch.acos((-(sides * sides.roll(1, 1)).sum(2)).clamp(-1, 1))
    total = normal.new_zeros(count, 3)
    total.index_add_(0, faces.flatten(), (angles[..., None] * normal[:, None]).flatten(0, 1))
    return [at_edges, total[faces]]


def _padded(corners: Tensor, most: int) -> Tensor:
    """Return `(most, 3, 3)`: points in place of missing triangles."""
    point = corners[-1:, :1].expand(most - len(corners), 3, 3)
    return torch.cat([corners, point])


def _padded_normals(normals: Tensor, most: int) -> Tensor:
    """Return `(most, 7, 3)`: the normal of the corner that stands for missing triangles."""
    return torch.cat([normals, normals[-1:, 4:5].expand(most - len(normals), 7, 3)])


def _along_a_curve(points: Tensor) -> Tensor:
    """Return an order `(B, F)` of `points (B, F, 3)` in which neighbours are close (Morton)."""
    low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
    cell = ((points - low) / (high - low).clamp_min(1e-30) * 1023).long()
    code = torch.zeros_like(cell[..., 0])
    for bit in range(10):
        for axis in range(3):
            code |= ((cell[..., axis] >> bit) & 1) << (3 * bit + axis)
    return code.argsort(1)


def _to_triangles(x: Tensor, corners: Tensor, normals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return squared distance `(N,)`, side `(N,)` and closest point `(3, N)` of the closest one.

    Args:
        x: Points `(3, N)`.
        corners: `(3, 3, F, N)`: which corner, which coordinate; N may be 1.
        normals: `(7, 3, F, N)`.
    """
    a, b, c = corners
    at = x[:, None]
    squares, places, kinds = [], [], []
    for e, (start, end) in enumerate(((a, b), (b, c), (c, a))):
        along, away = end - start, at - start
        size = (along * along).sum(0).clamp_min(torch.finfo(x.dtype).tiny)
        t = ((away * along).sum(0) / size).clamp(0, 1)
        places.append(start + t * along)
        # rows of `normals`: 1 + e inside the edge, 4 + corner at its ends
        kinds.append(torch.where(t <= 0, 4 + e, torch.where(t >= 1, 4 + (e + 1) % 3, 1 + e)))
    u, v, away = b - a, c - a, at - a
    uu, uv, vv = (u * u).sum(0), (u * v).sum(0), (v * v).sum(0)
    du, dv = (away * u).sum(0), (away * v).sum(0)
    det = uu * vv - uv * uv
    s, t = vv * du - uv * dv, uu * dv - uv * du
    over = (s > 0) & (t > 0) & (s + t < det)
    det = torch.where(over, det, 1.0)
    places.append(a + (s / det) * u + (t / det) * v)
    kinds.append(torch.zeros_like(kinds[0]))
    squares = [(at - place).square().sum(0) for place in places]
    squares[3] = torch.where(over, squares[3], torch.inf)
    # the closest of three edges and the inside, of all triangles
    square, flat = torch.cat(squares).min(0)
    count, n = len(squares[0]), torch.arange(x.shape[1], device=x.device)
    part, triangle = flat // count, flat % count
    on = torch.stack(places)[part, :, triangle, n].T
    kind = torch.stack(kinds)[part, triangle, n]
    normal = normals[kind, :, triangle, n if normals.shape[3] > 1 else 0].T
    return square, ((x - on) * normal).sum(0), on
