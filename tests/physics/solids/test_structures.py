"""Structures: areas, edges, what is held and loaded, against arithmetic; cells as plain data."""

import math

import numpy as np
import pytest

from sciml.errors import InvalidArgument
from sciml.physics.solids import PaperCell, cook, l_profile, plate
from sciml.physics.solids.cells import DiskCell, LaminateCell, PlasticDiskCell, RandomCell
from sciml.physics.solids.material_laws import EQUINO_FIBRE, EQUINO_MATRIX


def area_and_centre(mesh):
    weights = np.asarray(mesh.weights).reshape(-1)
    points = np.asarray(mesh.points).reshape(-1, 2)
    return weights.sum(), (weights[:, None] * points).sum(0) / weights.sum()


def conditions(structure):
    """Return the prescribed displacement by node and axis."""
    return {
        (int(k) // 2, int(k) % 2): float(v)
        for k, v in zip(structure.held, structure.values, strict=True)
    }


@pytest.mark.parametrize("refine", [1, 2])
def test_the_plate_has_its_hole_and_is_pulled_by_its_edge(refine):
    structure = plate(refine, 0.7)
    mesh = structure.mesh
    area, centre = area_and_centre(mesh)
    # quadratic sides follow the circle to the fourth order of their angle
    assert area == pytest.approx(1e4 - math.pi * 625, rel=2e-5 / refine**3)
    assert centre == pytest.approx([50, 50], abs=1e-9) and mesh.size == pytest.approx(100)
    assert len(mesh.elements) == 72 * refine**2
    away = np.hypot(*(mesh.nodes - 50).T)
    assert away.min() == pytest.approx(25, rel=1e-12)
    assert int((np.abs(away - 25) < 1e-9).sum()) == 48 * refine  # corners and middles of sides
    x, y = mesh.nodes.T
    left, right = np.flatnonzero(x < 1e-6), np.flatnonzero(x > 100 - 1e-6)
    assert len(left) == len(right) == 12 * refine + 1
    wanted = {(int(k), 0): 0.0 for k in left} | {(int(k), 0): 0.7 for k in right}
    low = int(left[np.argmin(y[left])])
    assert conditions(structure) == {**wanted, (low, 1): 0.0}
    assert not structure.forces.any() and y[low] == pytest.approx(0)


@pytest.mark.parametrize("refine", [1, 2])
def test_the_l_profile_hangs_at_the_top_and_is_bent_down(refine):
    structure = l_profile(refine, 2.5)
    mesh = structure.mesh
    area, centre = area_and_centre(mesh)
    assert area == pytest.approx(7500) and len(mesh.elements) == 48 * refine**2
    assert centre == pytest.approx([2500 * (25 + 25 + 75) / 7500] * 2)
    x, y = mesh.nodes.T
    assert not ((x > 50 + 1e-6) & (y > 50 + 1e-6)).any()
    top, side = np.flatnonzero(y > 100 - 1e-6), np.flatnonzero(x > 100 - 1e-6)
    assert len(top) == len(side) == 8 * refine + 1
    wanted = {(int(k), a): 0.0 for k in top for a in (0, 1)} | {(int(k), 1): -2.5 for k in side}
    assert conditions(structure) == wanted


@pytest.mark.parametrize("refine", [1, 2])
def test_cooks_membrane_is_sheared_by_its_force(refine):
    structure = cook(refine, 40.0)
    mesh = structure.mesh
    area, _ = area_and_centre(mesh)
    assert area == pytest.approx((44 + 16) / 2 * 48) and len(mesh.elements) == 64 * refine**2
    x, y = mesh.nodes.T
    for corner in ((0, 0), (48, 44), (48, 60), (0, 44)):
        assert np.hypot(x - corner[0], y - corner[1]).min() < 1e-9
    left, right = np.flatnonzero(x < 1e-6), np.flatnonzero(x > 48 - 1e-6)
    assert conditions(structure) == {(int(k), a): 0.0 for k in left for a in (0, 1)}
    up = structure.forces[1::2]
    assert not structure.forces[::2].any()
    assert up.sum() == pytest.approx(40) and set(np.flatnonzero(up)) == set(right)
    # uniform along the edge: its moment is that of the middle; consistent with quadratic sides
    assert (up * y).sum() == pytest.approx(40 * 52)
    assert (up * y**2).sum() == pytest.approx(40 * (52**2 + 16**2 / 12))
    ends = up[right[np.argsort(y[right])]]
    assert ends[0] == pytest.approx(ends[-1]) and ends[1] == pytest.approx(4 * ends[0])


def test_nothing_held_is_refused():
    from sciml.physics.solids.structures import Structure

    mesh = cook().mesh
    with pytest.raises(InvalidArgument, match="u_y=1 at no node of s"):
        Structure.of("s", mesh, [(np.array([0]), 0, 0.0), (np.array([], int), 1, 1.0)])
    # a node that is named twice keeps what came first
    twice = Structure.of("s", mesh, [(np.array([3]), 0, 0.5), (np.array([3, 1]), 0, 0.25)])
    assert conditions(twice) == {(3, 0): 0.5, (1, 0): 0.25}
    for make in (plate, l_profile, cook):
        with pytest.raises(InvalidArgument, match="refine"):
            make(0)


def test_cells_name_their_phases():
    assert DiskCell(4).materials == (EQUINO_MATRIX, EQUINO_FIBRE)
    matrix, fibre = PlasticDiskCell(4, yield_stress=30.0, hardening=50.0).materials
    assert fibre == EQUINO_FIBRE and matrix.bulk == EQUINO_MATRIX.bulk
    # as stiff at first as the elastic matrix: the tangents at zero strain
    virgin = np.zeros((1, 3))
    np.testing.assert_allclose(
        matrix.response(virgin, np.zeros((1, matrix.internal))).tangent,
        EQUINO_MATRIX.response(virgin).tangent,
        rtol=1e-9,
        atol=1e-9 * EQUINO_MATRIX.bulk,
    )
    mesh = LaminateCell(0.25).mesh()
    share = np.asarray(mesh.fractions)
    assert share == pytest.approx([0.75, 0.25]) and len(mesh.elements) == 8
    disk = DiskCell(4, 0.3).mesh()
    assert len(disk.elements) == 7 * 16
    assert np.asarray(disk.fractions)[1] == pytest.approx(math.pi * 0.09, rel=1e-3)


def test_random_cells_have_their_share_and_paper_cells_their_names():
    cell = RandomCell(0.25, 4, 0.1, 3)
    assert np.asarray(cell.mesh().fractions)[1] == pytest.approx(0.25, rel=0.02)
    with pytest.raises(InvalidArgument, match="Did you mean 'rve1'"):
        PaperCell("rve11")
