"""Triangle meshes against balls, boxes and the library that reads their files."""

import math
import sys
import time

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument, MissingPackage
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball, Box, Mesh, Tabulated, load_mesh
from sciml.physics.walks.spheres import WalkOnSpheres


def stream(step=0):
    return Streams(0, step).generator("mesh")


def box_mesh(low=(-1.0, -0.5, 0.0), high=(1.0, 0.5, 0.7)):
    """Return vertices and faces of a box, twelve triangles."""
    ends = torch.tensor([low, high], dtype=torch.float64)
    corners = torch.cartesian_prod(*ends.T)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return corners, torch.tensor(faces)


def icosphere(rounds):
    """Return vertices and faces of an octahedron refined onto the unit sphere."""
    eye = torch.eye(3, dtype=torch.float64)
    vertices = torch.cat([eye, -eye])
    faces = torch.tensor(
        [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
    )
    for _ in range(rounds):
        pairs = torch.stack([faces, faces.roll(-1, 1)], 2).sort(2).values.view(-1, 2)
        edges, place = pairs.unique(dim=0, return_inverse=True)
        middle = vertices[edges].sum(1)
        ab, bc, ca = (place.view(-1, 3) + len(vertices)).unbind(1)
        a, b, c = faces.unbind(1)
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = torch.cat([torch.stack(part, 1) for part in parts])
        vertices = torch.cat([vertices, middle / middle.norm(dim=1, keepdim=True)])
    return vertices, faces


def around(domain, n=400, seed=1):
    low, high = domain.bounds()
    u = torch.rand(domain.count, n, 3, generator=stream(seed), dtype=torch.float64)
    return low[:, None] + (1.6 * u - 0.3) * (high - low)[:, None]


def test_a_box_is_the_box():
    mesh, box = Mesh(*box_mesh()), Box((-1.0, -0.5, 0.0), (1.0, 0.5, 0.7))
    points = around(mesh)
    exact = box.signed_distance(points)
    assert torch.allclose(mesh.signed_distance(points), exact, atol=1e-12, rtol=1e-12)
    assert torch.equal(mesh.inside(points), box.inside(points))
    # the closest point is unique off the medial axis: compare lengths, and places where outside
    on = mesh.project(points)
    assert torch.allclose((on - points).norm(dim=2), exact.abs(), atol=1e-12, rtol=1e-12)
    assert torch.allclose(on[exact > 0], box.project(points)[exact > 0], atol=1e-12, rtol=1e-12)
    for inner, outer in zip(mesh.bounds(), box.bounds(), strict=True):
        assert torch.equal(inner, outer)
    half = mesh.signed_distance(points.float()).double()
    assert torch.allclose(half, exact, atol=1e-6, rtol=1e-5)


def test_sides_are_right_beyond_sharp_edges_and_corners():
    """A thin needle: the triangle next to a point is often seen from behind."""
    tip = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0.03, 0.03, 5.0]]).double()
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    mesh = Mesh(tip, faces)
    points = around(mesh, 4000)
    # inside: on the inner side of all four planes
    inner = torch.ones(1, 4000, dtype=torch.bool)
    for a, b, c in tip[faces]:
        inner &= (points - a) @ torch.linalg.cross(b - a, c - a) < 0
    assert torch.equal(mesh.inside(points), inner) and 0 < int(inner.sum()) < 4000


def test_a_refined_sphere_is_nearly_the_ball():
    mesh, ball = Mesh(*icosphere(4)), Ball(1.0, (0.0, 0.0, 0.0))
    points = around(mesh, 1000)
    gap = mesh.signed_distance(points) - ball.signed_distance(points)
    # triangles lie inside the sphere by at most size^2 / 8
    assert gap.min() > -1e-12 and gap.max() < 4e-3
    on = mesh.sample_boundary(20_000, stream(), torch.float64)
    assert float(on.weight.sum()) == pytest.approx(4 * math.pi, rel=5e-3)
    assert ((on.points.norm(dim=2) - 1).abs() < 4e-3).all()
    assert ((on.points * on.normals).sum(2) > 0.99).all()
    # uniform in area: every coordinate of the sphere is uniform (Archimedes)
    assert (on.points.mean(1).abs() < 4 / math.sqrt(3 * 20_000)).all()
    assert ((on.points**2).mean(1) - 1 / 3).abs().max() < 0.01
    inner = mesh.sample_interior(20_000, stream(1), torch.float64)
    assert mesh.inside(inner).all()
    assert float(inner.norm(dim=2).mean()) == pytest.approx(0.75, abs=0.005)


def brute_force(vertices, faces, points):
    """Return unsigned distances: Ericson's regions, point by point and triangle by triangle."""
    out = []
    for p in points.tolist():
        best = math.inf
        for a, b, c in vertices[faces].tolist():
            sub = lambda q, r: [s - t for s, t in zip(q, r, strict=True)]  # noqa: E731
            dot = lambda q, r: sum(s * t for s, t in zip(q, r, strict=True))  # noqa: E731
            ab, ac, bc = sub(b, a), sub(c, a), sub(c, b)
            ap, bp, cp = sub(p, a), sub(p, b), sub(p, c)
            d1, d2, d3, d4 = dot(ab, ap), dot(ac, ap), dot(ab, bp), dot(ac, bp)
            d5, d6 = dot(ab, cp), dot(ac, cp)
            va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
            if d1 <= 0 and d2 <= 0:
                q = a
            elif d3 >= 0 and d4 <= d3:
                q = b
            elif d6 >= 0 and d5 <= d6:
                q = c
            elif vc <= 0 <= d1 and d3 <= 0:
                q = [s + d1 / (d1 - d3) * t for s, t in zip(a, ab, strict=True)]
            elif vb <= 0 <= d2 and d6 <= 0:
                q = [s + d2 / (d2 - d6) * t for s, t in zip(a, ac, strict=True)]
            elif va <= 0 and d4 >= d3 and d5 >= d6:
                w = (d4 - d3) / ((d4 - d3) + (d5 - d6))
                q = [s + w * t for s, t in zip(b, bc, strict=True)]
            else:
                v, w = vb / (va + vb + vc), vc / (va + vb + vc)
                q = [r + v * s + w * t for r, s, t in zip(a, ab, ac, strict=True)]
            best = min(best, math.dist(p, q))
        out.append(best)
    return torch.tensor(out, dtype=torch.float64)


def crumpled():
    """Return a closed surface with long thin triangles and sharp folds."""
    vertices, faces = icosphere(2)
    radius = 1 + 0.5 * torch.rand(len(vertices), 1, generator=stream(5), dtype=torch.float64)
    stretched = vertices * radius * torch.tensor([3.0, 1.0, 0.05], dtype=torch.float64)
    return stretched + torch.tensor([10.0, -5.0, 2.0]), faces


@pytest.mark.parametrize("far", [1.0, 30.0])
def test_distances_are_those_to_every_triangle(far):
    vertices, faces = crumpled()
    mesh = Mesh(vertices, faces)
    points = around(mesh, 60)[0]
    points = points.mean(0) + far * (points - points.mean(0))
    # on the surface too: corners, edges, middles
    a, b, c = vertices[faces[:4]].unbind(1)
    points = torch.cat([points, a, (a + b) / 2, (a + b + c) / 3])
    exact = brute_force(vertices, faces, points)
    found = mesh.signed_distance(points[None])[0]
    assert torch.allclose(found.abs(), exact, rtol=1e-13, atol=1e-14)
    # one by one there is no block to share an answer with
    alone = torch.cat([mesh.signed_distance(p[None, None]) for p in points], 1)[0]
    assert torch.allclose(alone, found, rtol=1e-13, atol=1e-14)


def test_blocks_of_points_miss_no_triangle():
    """Many points of all densities against a dense comparison with every triangle."""
    vertices, faces = crumpled()
    mesh = Mesh(vertices, faces)
    points = torch.cat(
        [around(mesh, 3000), around(mesh, 2000, 3) * 0.05 + mesh.corners[0, 0, 0]], 1
    )
    a, b, c = vertices[faces].unbind(1)
    least = torch.full((5000,), math.inf, dtype=torch.float64)
    for start, end in ((a, b), (b, c), (c, a)):
        along, away = end - start, points[0, :, None] - start
        t = ((away * along).sum(2) / (along * along).sum(1)).clamp(0, 1)
        least = torch.minimum(least, (away - t[..., None] * along).norm(dim=2).amin(1))
    normal = torch.linalg.cross(b - a, c - a)
    away = points[0, :, None] - a
    inner = torch.ones(5000, len(faces), dtype=torch.bool)
    for start, end in ((a, b), (b, c), (c, a)):
        inner &= ((points[0, :, None] - start) * torch.linalg.cross(normal, end - start)).sum(
            2
        ) >= 0
    plane = ((away * normal).sum(2) / normal.norm(dim=1)).abs().where(inner, math.inf).amin(1)
    exact = torch.minimum(least, plane)
    assert torch.allclose(mesh.signed_distance(points)[0].abs(), exact, rtol=1e-12, atol=1e-13)


def test_the_side_is_that_of_the_winding_number():
    vertices, faces = crumpled()
    mesh = Mesh(vertices, faces)
    points = around(mesh, 3000)
    corners = vertices[faces] - points[0, :, None, None]
    length = corners.norm(dim=3)
    a, b, c = corners.unbind(2)
    below = length.prod(2)
    for k, (p, q) in enumerate(((b, c), (c, a), (a, b))):
        below = below + (p * q).sum(2) * length[:, :, k]
    angle = 2 * torch.atan2((a * torch.linalg.cross(b, c)).sum(2), below)
    inside = (angle.sum(1) / (4 * math.pi)).round() == 1
    assert torch.equal(mesh.inside(points)[0], inside) and 100 < int(inside.sum()) < 2900


def test_gradients_reach_the_points_through_the_search():
    mesh = Mesh(*icosphere(2))
    points = around(mesh, 50).requires_grad_()
    (slope,) = torch.autograd.grad(mesh.signed_distance(points).sum(), points)
    h = 1e-6 * torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        quotient = (mesh.signed_distance(points + h) - mesh.signed_distance(points - h)) / 2e-6
    assert torch.allclose(slope[..., 0], quotient, rtol=1e-6, atol=1e-6)
    assert torch.allclose(slope.norm(dim=2), torch.ones(1, 50).double(), rtol=1e-9, atol=1e-9)


def shells(*parts):
    """Return one mesh of several."""
    offsets = [0, *torch.tensor([len(v) for v, _ in parts]).cumsum(0).tolist()]
    faces = [f + k for (_, f), k in zip(parts, offsets[:-1], strict=True)]
    return torch.cat([v for v, _ in parts]), torch.cat(faces)


def test_shells_side_by_side_and_cavities_are_one_solid():
    outer, cavity = box_mesh((-1.0,) * 3, (1.0,) * 3), box_mesh((-0.5,) * 3, (0.5,) * 3)
    beside = box_mesh((2.0,) * 3, (3.0,) * 3)
    mesh = Mesh(*shells(outer, (cavity[0], cavity[1].flip(1)), beside))
    where = [[0.0, 0, 0], [0.7, 0, 0], [1.5, 0, 0], [2.5, 2.5, 2.5]]
    where = torch.tensor([where], dtype=torch.float64)
    found = mesh.signed_distance(where)
    assert torch.allclose(
        found, torch.tensor([[0.5, -0.2, 0.5, -0.5]], dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("place", [(2.0, 3.0), (-0.5, 0.5)])
def test_a_shell_inside_out_beside_a_right_one_is_refused(place):
    """The volume of the whole is positive: nothing else shows it."""
    outer, other = box_mesh((-1.0,) * 3, (1.0,) * 3), box_mesh((place[0],) * 3, (place[1],) * 3)
    turned = (other[0], other[1].flip(1)) if place[0] > 0 else other
    with pytest.raises(InvalidArgument, match="2 shells, of which number 1"):
        Mesh(*shells(outer, turned))


def test_a_table_of_thousands_of_triangles_takes_seconds():
    """Brute force took minutes for 320 triangles."""
    mesh = Mesh(*icosphere(4))
    started = time.process_time()
    table = Tabulated(mesh, 33)
    assert time.process_time() - started < 20
    points = mesh.sample_interior(200, stream(), torch.float64)
    gap = table.gap(*table.columns(points))
    exact = -mesh.signed_distance(points)[0]
    assert ((gap <= exact + 1e-6) & (gap > exact - 0.05)).all()


def test_batches_of_different_meshes_stay_apart():
    parts = [box_mesh(), icosphere(2), box_mesh((0.0,) * 3, (2.0,) * 3)]
    many = Mesh(*(list(p) for p in zip(*parts, strict=True)))
    points = around(many)
    whole = many.signed_distance(points)
    landed = many.project(points)
    for b, part in enumerate(parts):
        alone = Mesh(*part)
        assert torch.allclose(
            alone.signed_distance(points[b : b + 1])[0], whole[b], atol=1e-12, rtol=1e-12
        )
        picked = many.select(torch.tensor([b]))
        assert torch.allclose(
            picked.signed_distance(points[b : b + 1])[0], whole[b], atol=1e-12, rtol=1e-12
        )
        assert torch.allclose(
            (landed[b] - points[b]).norm(dim=1), whole[b].abs(), atol=1e-12, rtol=1e-12
        )
    areas = many.sample_boundary(4, stream(), torch.float64).weight.sum(1)
    assert torch.allclose(
        areas[[0, 2]], torch.tensor([2 * (2 + 1.4 + 0.7), 24.0]).double(), rtol=1e-7, atol=1e-8
    )


def test_turned_inside_out_is_the_same_solid():
    vertices, faces = box_mesh()
    points = around(Mesh(vertices, faces))
    turned = Mesh(vertices, faces.flip(1))
    assert torch.equal(
        turned.signed_distance(points), Mesh(vertices, faces).signed_distance(points)
    )


@pytest.mark.parametrize("tabulated", [False, True])
def test_walks_in_a_mesh_solve_poisson(tabulated):
    def bowl(x, i):
        return x.square().sum(0) + x[0]

    domain = Mesh(*box_mesh())
    points = domain.sample_interior(12, stream(), torch.float64)
    domain = Tabulated(domain, 33) if tabulated else domain
    problem = Dirichlet(bowl, lambda x, i: torch.full_like(x[0], -6.0))
    estimate = WalkOnSpheres(2000)(domain, problem, points, stream(2))
    exact = bowl(*domain.columns(points)).view(1, -1)
    # walks in the table end its slack early
    bias = 3e-3 + (3 * float(domain.slack.max()) if tabulated else 0.0)
    assert ((estimate.mean - exact).abs() < 4 * estimate.standard_error + bias).all()


def hole(vertices, faces):
    return vertices, faces[1:]


def flipped(vertices, faces):
    return vertices, torch.cat([faces[:1].flip(1), faces[1:]])


def unmerged(vertices, faces):
    return vertices[faces].flatten(0, 1), torch.arange(faces.numel()).view(-1, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (hole, "not watertight: 3 edges"),
        (flipped, "fix_winding"),
        (unmerged, "Merge its vertices"),
        (lambda v, f: (v, torch.cat([f, f[:1]])), "twice in one direction"),
        (lambda v, f: (v, f.double()), "whole numbers"),
        (lambda v, f: (v, f + 1), "rows that exist"),
        (lambda v, f: (v * torch.tensor([1.0, 1.0, 0.0]), f), "area of a triangle"),
        (lambda v, f: (v / 0, f), "finite"),
        (lambda v, f: ([v, v], [f]), "as many of both"),
    ],
)
def test_what_bounds_no_solid_is_refused(change, words):
    with pytest.raises(InvalidArgument, match=words):
        Mesh(*change(*box_mesh()))


@pytest.mark.parametrize("kind", ["stl", "obj", "ply", "off"])
def test_files(tmp_path, kind):
    trimesh = pytest.importorskip("trimesh")
    path = tmp_path / f"box.{kind}"
    trimesh.Trimesh(*(part.numpy() for part in box_mesh())).export(path)
    mesh = load_mesh(path)
    points = around(mesh)
    exact = Mesh(*box_mesh()).signed_distance(points)
    assert torch.allclose(mesh.signed_distance(points), exact, atol=1e-6, rtol=1e-6)
    both = load_mesh([path, path])
    assert both.count == 2


def test_a_library_mesh_and_its_volume(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    ring = trimesh.creation.torus(1.0, 0.3)
    mesh = Mesh(torch.tensor(ring.vertices), torch.tensor(ring.faces))
    points = around(mesh, 5000)
    low, high = mesh.bounds()
    share = float(mesh.inside(points).double().mean())
    volume = share * float((1.6 * (high - low)).prod())
    assert volume == pytest.approx(float(ring.volume), rel=0.1)
    x, y, z = points[0].T
    exact = torch.hypot(torch.hypot(x, y) - 1, z) - 0.3
    assert (mesh.signed_distance(points)[0] - exact).abs().max() < 0.02


def test_files_that_are_none_are_explained(tmp_path, monkeypatch):
    pytest.importorskip("trimesh")
    with pytest.raises(InvalidArgument, match="no file"):
        load_mesh(tmp_path / "none.stl")
    (tmp_path / "bad.ply").write_text("ply\nnonsense")
    with pytest.raises(InvalidArgument, match="bad.ply"):
        load_mesh(tmp_path / "bad.ply")
    (tmp_path / "open.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\n")
    with pytest.raises(InvalidArgument, match="at least 4|not watertight"):
        load_mesh(tmp_path / "open.obj")


def test_without_the_library_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(MissingPackage, match=r"pip install 'sciml-torch\[mesh\]'"):
        load_mesh(tmp_path / "box.stl")
