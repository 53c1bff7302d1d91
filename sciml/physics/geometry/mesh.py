"""Solids in space bounded by triangle meshes: exact distances to every triangle.

Signs come from the normal at the closest point: that of the triangle, the mean of two at an edge,
the mean weighted by angles at a corner. With these a watertight mesh has no point of doubtful side.

Baerentzen and Aanaes, "Signed distance computation using the angle weighted pseudonormal", IEEE
Transactions on Visualization and Computer Graphics 11 (2005).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from sciml.errors import InvalidArgument, optional
from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.domain_rows import Numbers, length, positive, rows_of, uniform
from sciml.physics.geometry.triangles import along_a_curve, closest_triangle, on_triangle, table
from sciml.shapes import WHOLE, as_array, check_kind


class Mesh(Domain):
    """B solids bounded by triangles.

    Queries are answered in blocks of close points that share a list of triangles
    (`sciml.physics.geometry.triangles`): of many points at once each takes some 15 microseconds on
    one core with 300 triangles, 50 with 20 000, and most where many triangles are equally close, as
    in the middle of a sphere. For many walks put meshes into a `Tabulated`: at its default size it
    takes some 5 and 20 seconds to fill. `load_mesh` reads files.

    Args:
        vertices: `(V, 3)`, or a list of B of them.
        faces: `(F, 3)` corners of each triangle as rows of `vertices`, or a list of B; turning the
            same way round all over the mesh. Vertices at one place must be one vertex.

    Attributes:
        corners: `(B, F, 3, 3)` corners of the triangles, counter-clockwise seen from outside; where
            numbers differ the last one is repeated as a point.

    Raises:
        InvalidArgument: If a mesh is not watertight, its triangles turn different ways round, one
            of several shells is inside out, a triangle has no area, or shapes do not fit. Whether
            a shell crosses itself is not checked.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Mesh
        >>> vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> solid = Mesh(vertices, torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
        >>> round(solid.signed_distance(torch.tensor([[[0.1, 0.2, 0.3]]])).item(), 3)
        -0.1
    """

    def __init__(self, vertices: Numbers, faces: Numbers) -> None:
        if not isinstance(vertices, list | tuple) or not all(map(torch.is_tensor, vertices)):
            vertices, faces = [vertices], [faces]
        if not vertices or len(vertices) != len(faces):
            raise InvalidArgument(f"{len(vertices)} and {len(faces)}", "as many of both")
        solids = [_solid(v, f) for v, f in zip(vertices, faces, strict=True)]
        most = max(len(corners) for corners, _ in solids)
        self.corners = torch.stack([_padded(corners, most) for corners, _ in solids])
        # normals (B, F, 7, 3): of the triangle, of its edges ab, bc, ca, of its corners a, b, c
        self.normals = torch.stack([_padded_normals(normals, most) for _, normals in solids])
        super().__init__(len(solids), 3)
        middle = (self.corners.amin(2) + self.corners.amax(2)) / 2
        order = along_a_curve(middle)
        self.corners = self.corners.gather(1, order[..., None, None].expand(-1, -1, 3, 3))
        self.normals = self.normals.gather(1, order[..., None, None].expand(-1, -1, 7, 3))
        self.rows = table(self.corners)

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

    def _closest(self, x: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        """Return signed distances `(N,)` and closest points `(3, N)`."""
        best = closest_triangle(x, i, self.rows) + self.corners.shape[1] * i
        corners = self.corners.flatten(0, 1)[best].to(x.dtype).permute(1, 2, 0)
        on, kind = on_triangle(x, corners)
        normal = self.normals.flatten(0, 1)[best, kind].to(x.dtype).T
        away = x - on
        distance = length(away)
        return torch.where((away * normal).sum(0) < 0, -distance, distance), on


def load_mesh(path: str | Path | Sequence[str | Path]) -> Mesh:
    r"""Return the solid, or the solids, of mesh files: STL, OBJ, PLY, OFF, GLB, ...

    Vertices at one place are merged. Units are those of the file.

    Raises:
        MissingPackage: If trimesh is not installed.
        InvalidArgument: If a file cannot be read, or see `Mesh`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sciml.physics.geometry import load_mesh
        >>> rows = "0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "corner.off")
        ...     _ = file.write_text(f"OFF\n4 4 0\n{rows}\n")  # four corners, four triangles
        ...     solid = load_mesh(file)
        >>> solid.corners.shape
        torch.Size([1, 4, 3, 3])
    """
    paths = [path] if isinstance(path, str | Path) else path
    check_kind("path", paths, Sequence, "Write load_mesh('part.stl')")
    for each in paths:
        check_kind("path", each, (str, Path))
    trimesh = optional("trimesh", "mesh", "a mesh file")
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


def _solid(vertices: Numbers, faces: Numbers) -> tuple[Tensor, Tensor]:
    """Return corners `(F, 3, 3)`, outward, and normals `(F, 7, 3)` of a checked mesh."""
    vertices = rows_of("vertices", vertices, (None, 3))[0]
    faces = as_array("faces", faces, "whole numbers (F, 3)")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype not in WHOLE:
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
    _check_shells(faces, corners)
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
        whole = torch.minimum(forward, backward)
        flipped = bool((whole.unique(return_counts=True)[1] == 2).all())
        raise InvalidArgument(
            f"a mesh that is not watertight: {lonely} edges without a neighbour on the other side, "
            f"{twice} run through twice in one direction",
            "a closed surface whose triangles all turn the same way round",
            "Only the order of corners is wrong in some triangles: trimesh.repair.fix_winding"
            if flipped
            else "Merge its vertices and fill its holes first, with trimesh.repair or an editor",
        )


def _check_shells(faces: Tensor, corners: Tensor) -> None:
    """Refuse shells turned inside out beside right ones: the volume of the whole hides them.

    A shell that turns outwards lies in none of the others, one that turns inwards is the wall of a
    cavity: the others wind once around it.
    """
    graph = coo_array(
        (np.ones(faces.numel()), (faces.cpu().numpy().ravel(), faces.roll(-1, 1).cpu().ravel())),
        shape=(int(faces.max()) + 1,) * 2,
    )
    label = torch.from_numpy(connected_components(graph, directed=False)[1]).to(faces.device)
    shell = label[faces[:, 0]].long().unique(return_inverse=True)[1]
    count = int(shell.max()) + 1
    if count == 1:
        return
    a, b, c = corners.unbind(1)
    volumes = corners.new_zeros(count)
    middle = corners.mean((0, 1))
    parts = ((a - middle) * torch.linalg.cross(b - middle, c - middle)).sum(1)
    volumes.index_add_(0, shell, parts)
    for k in range(count):
        own = shell == k
        others = corners[~own] - corners[own][0].mean(0)
        around = round(float(_solid_angles(others).sum()) / (4 * math.pi))
        if around != (0 if volumes[k] > 0 else 1):
            raise InvalidArgument(
                f"a mesh of {count} shells, of which number {k} with {int(own.sum())} triangles "
                f"turns {'outwards' if volumes[k] > 0 else 'inwards'} and lies in {around} others",
                "shells side by side that turn outwards, and cavities inside that turn inwards",
                "Turn the corners of its triangles round, or unite shells that overlap",
            )


def _solid_angles(corners: Tensor) -> Tensor:
    """Return the signed solid angles `(F,)` of triangles `(F, 3, 3)` seen from the origin.

    Van Oosterom and Strackee, IEEE Transactions on Biomedical Engineering 30 (1983).
    """
    a, b, c = corners.unbind(1)
    la, lb, lc = torch.linalg.vector_norm(corners, dim=2).unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum(1)
    ab, bc, ca = (a * b).sum(1), (b * c).sum(1), (c * a).sum(1)
    return 2 * torch.atan2(volume, la * lb * lc + ab * lc + bc * la + ca * lb)


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
