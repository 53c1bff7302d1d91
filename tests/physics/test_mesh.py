"""Triangle meshes against balls, boxes and the library that reads their files."""

import math
import sys

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.physics.geometry import Ball, Box, Mesh, Tabulated, load_mesh
from sciml.physics.walks.spheres import Dirichlet, WalkOnSpheres


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
    assert torch.allclose(mesh.signed_distance(points), exact, atol=1e-12)
    assert torch.equal(mesh.inside(points), box.inside(points))
    # the closest point is unique off the medial axis: compare lengths, and places where outside
    on = mesh.project(points)
    assert torch.allclose((on - points).norm(dim=2), exact.abs(), atol=1e-12)
    assert torch.allclose(on[exact > 0], box.project(points)[exact > 0], atol=1e-12)
    for inner, outer in zip(mesh.bounds(), box.bounds(), strict=True):
        assert torch.equal(inner, outer)
    half = mesh.signed_distance(points.float()).double()
    assert torch.allclose(half, exact, atol=1e-6)


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


def test_batches_of_different_meshes_stay_apart():
    parts = [box_mesh(), icosphere(2), box_mesh((0.0,) * 3, (2.0,) * 3)]
    many = Mesh(*(list(p) for p in zip(*parts, strict=True)))
    points = around(many)
    whole = many.signed_distance(points)
    landed = many.project(points)
    for b, part in enumerate(parts):
        alone = Mesh(*part)
        assert torch.allclose(alone.signed_distance(points[b : b + 1])[0], whole[b], atol=1e-12)
        picked = many.select(torch.tensor([b]))
        assert torch.allclose(picked.signed_distance(points[b : b + 1])[0], whole[b], atol=1e-12)
        assert torch.allclose((landed[b] - points[b]).norm(dim=1), whole[b].abs(), atol=1e-12)
    areas = many.sample_boundary(4, stream(), torch.float64).weight.sum(1)
    assert torch.allclose(areas[[0, 2]], torch.tensor([2 * (2 + 1.4 + 0.7), 24.0]).double())


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
        (flipped, "not watertight"),
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
    assert torch.allclose(mesh.signed_distance(points), exact, atol=1e-6)
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
    with pytest.raises(InvalidArgument, match=r"pip install 'sciml\[mesh\]'"):
        load_mesh(tmp_path / "box.stl")
