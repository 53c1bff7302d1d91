"""Cells: they tile, follow their interfaces, and refuse what is broken."""

import math

import numpy as np
import pytest

from sciml.errors import InvalidArgument
from sciml.physics.solids import (
    EllipticInclusion,
    RVEMesh,
    disk_cell,
    gap,
    inclusion_cell,
    laminate_cell,
    random_cell,
    random_inclusions,
    rve1,
    rve2,
    rve3,
    square_cell,
)

CELLS = {
    "disk": (lambda: disk_cell(4), math.pi * 0.09),
    "rve1": (lambda: rve1(0.06), 0.55),
    "rve2": (lambda: rve2(0.06), 0.1929),
    "rve3": (lambda: rve3(0.06), 0.1335),
    "laminate": (lambda: laminate_cell(0.3), 0.3),
    "random": (lambda: random_cell(0.25, 5, size=0.06, seed=3), 0.25),
}


@pytest.mark.parametrize("name", CELLS)
def test_fractions_and_affine_strains(name):
    build, fraction = CELLS[name]
    mesh = build()
    assert mesh.phase_fractions()[1] == pytest.approx(fraction, abs=2e-4)
    assert mesh.weights.sum() == pytest.approx(1, abs=1e-12)
    x, y = mesh.nodes.T
    u = np.stack([0.3 * x + 0.1 * y, 0.2 * x - 0.4 * y], -1)
    assert np.allclose(mesh.strain(u), [0.3, -0.4, 0.3], rtol=0, atol=1e-12)
    # Euler on the torus: as many corners as sides less elements
    assert mesh.dofs + 2 == 2 * (mesh.periodic_nodes)


@pytest.mark.parametrize(("n", "elements", "dofs"), [(4, 112, 670), (8, 448, 2686)])
def test_disk_has_the_published_size(n, elements, dofs):
    mesh = disk_cell(n)
    assert (len(mesh.elements), mesh.dofs) == (elements, dofs)


def test_interfaces_are_followed():
    mesh = rve2(0.06)
    inside = mesh.elements[mesh.phase == 1].ravel()
    shared = np.intersect1d(mesh.glued[inside], mesh.glued[mesh.elements[mesh.phase == 0]])
    nodes = mesh.nodes[inside][np.isin(mesh.glued[inside], shared)]
    turn = math.radians(30)
    a = (nodes @ [math.cos(turn), math.sin(turn)]) / 0.35
    b = (nodes @ [-math.sin(turn), math.cos(turn)]) / 0.1754
    assert np.allclose(a**2 + b**2, 1, rtol=0, atol=1e-12)
    assert len(shared) >= 2 * 2 * math.pi * 0.1754 / 0.06


def test_the_same_seed_gives_the_same_cell():
    assert random_inclusions(0.3, seed=5) == random_inclusions(0.3, seed=5)
    assert random_inclusions(0.3, seed=5) != random_inclusions(0.3, seed=6)


def test_random_inclusions_keep_apart_over_the_edges():
    circles = random_inclusions(0.35, 10, apart=0.03, seed=1)
    pairs = [gap(a, b) for a in circles for b in circles]
    assert min(pairs) >= 0.03 - 1e-12
    assert sum(c.area for c in circles) == pytest.approx(0.35, rel=1e-12)


def test_gaps_of_ellipses_count_periodic_copies():
    flat = EllipticInclusion(0.0, 0.0, 0.4, 0.1)
    assert gap(flat, flat) == pytest.approx(0.2, abs=1e-6)
    assert gap(flat, EllipticInclusion(0.0, 0.5, 0.4, 0.1)) == pytest.approx(0.3, abs=1e-4)
    assert gap(flat, EllipticInclusion(0.5, 0.5, 0.2)) == pytest.approx(
        min(np.hypot(*(flat.curve(t) - 0.5)) for t in np.linspace(0, 1.6, 9000)) - 0.2, abs=1e-4
    )
    assert gap(flat, EllipticInclusion(0.1, 0.02, 0.05, 0.04)) == 0.0  # one within the other
    assert gap(EllipticInclusion(0.1, 0.02, 0.05, 0.04), flat) == 0.0


@pytest.mark.parametrize(
    ("inclusions", "message"),
    [
        (
            [EllipticInclusion(0.0, 0.0, 0.3), EllipticInclusion(0.5, 0.0, 0.25)],
            "inclusions 0 and 1 touch",
        ),
        (
            [EllipticInclusion(-0.4, 0.0, 0.1), EllipticInclusion(0.4, 0.0, 0.1)],
            "inclusions 0 and 1 touch",
        ),
        ([EllipticInclusion(0.0, 0.0, 0.49)], "inclusion 0 and its periodic copy are 0.02 apart"),
        ([], "no inclusions"),
    ],
)
def test_touching_inclusions_are_refused(inclusions, message):
    with pytest.raises(InvalidArgument, match=message):
        inclusion_cell(inclusions, size=0.05)


def test_full_cells_say_how_many_fit():
    with pytest.raises(InvalidArgument, match="of them fit"):
        random_inclusions(0.7, 12)


def broken(change):
    mesh = square_cell(3)
    nodes, elements, phase = mesh.nodes.copy(), mesh.elements.copy(), mesh.phase.copy()
    return RVEMesh(*change(nodes, elements, phase))


def moved(nodes, elements, phase):
    edge = np.flatnonzero((nodes[:, 0] == 0.5) & (np.abs(nodes[:, 1]) < 0.2))
    nodes[edge[0], 1] += 1e-3
    return nodes, elements, phase


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (moved, "not periodic"),
        (lambda n, e, p: (n, e[:, [3, 2, 1, 0, 6, 5, 4, 7]], p), "inside out"),
        (lambda n, e, p: (1.1 * n, e, p), "area 1.21"),
        (lambda n, e, p: (n, e[:-1], p[:-1]), "area 0.888"),
        (lambda n, e, p: (n, e, p, (0.5, 0.5)), "phase fractions"),
        (lambda n, e, p: (n, e[:, :4], p), "first order"),
        (lambda n, e, p: (n, e + 5, p), "integers from 0"),
        (lambda n, e, p: (n, e, p[:-1]), "phase of shape"),
        (lambda n, e, p: (n * np.nan, e, p), "finite"),
    ],
)
def test_broken_meshes_are_refused(change, message):
    with pytest.raises(InvalidArgument, match=message):
        broken(change)


@pytest.mark.parametrize(
    "build",
    [
        lambda: disk_cell(3),
        lambda: disk_cell(4, radius=0.5),
        lambda: laminate_cell(1.0),
        lambda: laminate_cell(0.3, rows=1),
        lambda: square_cell(1),
        lambda: rve1(size=0.5),
        lambda: EllipticInclusion(0.0, 0.0, 0.6),
    ],
)
def test_wrong_sizes_are_refused(build):
    with pytest.raises(InvalidArgument):
        build()
