"""Cells from mesh files: the same cell as built here, and what is refused."""

import numpy as np
import pytest

from sciml.errors import InvalidArgument
from sciml.physics.solids import EQUINO_FIBRE, EQUINO_MATRIX, RVESolver, disk_cell, load_cell, rve3

meshio = pytest.importorskip("meshio")
STRAIN = np.array([[0.03, -0.02, 0.03]])


def written(file, points, cells, phase, name="gmsh:physical"):
    """Write a mesh as Gmsh does: tags 1 and 2 for the phases."""
    data = {name: [np.asarray(part) for part in phase]}
    if name.startswith("gmsh"):
        data["gmsh:geometrical"] = data[name]
    extra = {"file_format": "gmsh22", "binary": False} if file.suffix == ".msh" else {}
    meshio.Mesh(points, cells, cell_data=data).write(file, **extra)
    return file


def solved(mesh):
    return RVESolver(mesh, (EQUINO_MATRIX, EQUINO_FIBRE)).solve(STRAIN)


def test_a_cell_from_a_file_is_the_cell_that_was_written(tmp_path):
    """Millimetres instead of periods, moved away, half of the elements clockwise, two blocks."""
    mesh = disk_cell(2)
    elements = mesh.elements.copy()
    turned = elements[::2][:, [0, 3, 2, 1, 7, 6, 5, 4]]
    points = 3.0 * mesh.nodes + [7.0, -2.0]
    file = written(
        tmp_path / "cell.msh",
        np.column_stack([points, np.zeros(len(points))]),
        [("quad8", turned), ("line3", elements[:1, [0, 1, 4]]), ("quad8", elements[1::2])],
        [1 + mesh.phase[::2], [9], 1 + mesh.phase[1::2]],
    )
    read = load_cell(file)
    np.testing.assert_allclose(read.phase_fractions(), mesh.phase_fractions(), rtol=1e-12)
    found, wanted = solved(read), solved(mesh)
    np.testing.assert_allclose(found.stress, wanted.stress, rtol=1e-9)
    np.testing.assert_allclose(found.tangent, wanted.tangent, rtol=1e-7, atol=1e-6)


def test_triangles_that_reach_over_the_square_need_their_period(tmp_path):
    mesh = rve3(0.08)
    file = written(
        tmp_path / "cell.vtu", np.column_stack([mesh.nodes, 0 * mesh.nodes[:, 0]]),
        [("triangle6", mesh.elements)], [mesh.phase], "phase",
    )  # fmt: skip
    read = load_cell(file, period=1.0)
    np.testing.assert_allclose(solved(read).stress, solved(mesh).stress, rtol=1e-9)
    with pytest.raises(InvalidArgument, match=r"cell.vtu, a cell of|area|not periodic"):
        load_cell(file)


def grid(n=4):
    """Corners, quadrilaterals and their centres of a square of n x n elements."""
    x, y = np.meshgrid(np.arange(n + 1) / n, np.arange(n + 1) / n, indexing="ij")
    number = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    quads = np.stack([number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]], -1)
    points = np.stack([x, y, 0 * x], -1).reshape(-1, 3)
    quads = quads.reshape(-1, 4)
    return points, quads, points[quads].mean(1)


def test_elements_of_first_order_get_midside_nodes(tmp_path):
    points, quads, centre = grid()
    layer = (centre[:, 0] > 0.5).astype(int)
    file = written(tmp_path / "cell.vtk", points, [("quad", quads)], [layer], "material")
    from sciml.physics.solids import laminate_cell

    mesh = load_cell(file)
    assert mesh.elements.shape == (16, 8)
    np.testing.assert_allclose(solved(mesh).stress, solved(laminate_cell(0.5)).stress, rtol=1e-9)


def test_what_is_not_periodic_or_touches_is_refused(tmp_path):
    points, quads, centre = grid()
    near = (np.abs(centre[:, :2] - 0.5) < 0.25).all(1)
    moved = points.copy()
    moved[2, 1] += 0.03  # a node of the left edge, without its partner on the right
    file = written(tmp_path / "a.msh", moved, [("quad", quads)], [1 + near])
    with pytest.raises(InvalidArgument, match=r"a\.msh.* not periodic: \d+ edges .* at \("):
        load_cell(file)
    # two squares that meet at the middle of the cell
    low, high = (centre[:, :2] < 0.5).all(1), (centre[:, :2] > 0.5).all(1)
    inner = (np.abs(centre[:, :2] - 0.5) < 0.3).all(1)
    file = written(tmp_path / "b.msh", points, [("quad", quads)], [1 + ((low | high) & inner)])
    with pytest.raises(InvalidArgument, match=r"touch in 1 points, .* at \(0\.0000, 0\.0000\)"):
        load_cell(file)
    # grown together along a side they are one inclusion
    file = written(tmp_path / "c.msh", points, [("quad", quads)], [1 + near])
    assert load_cell(file).phase.sum() == 4


@pytest.mark.parametrize(
    "cells, data, said",
    [
        ([("tetra", [[0, 1, 2, 3]])], {"phase": [[0]]}, "holds tetra"),
        ([("quad", None)], {}, "cell data are none"),
        ([("quad", None)], {"colour": None}, "colour.*phase=NAME"),
        ([("quad", None), ("triangle", [[0, 1, 5]])], {"phase": None}, "quad, triangle"),
    ],
)
def test_other_meshes_are_refused(tmp_path, cells, data, said):
    points, quads, _ = grid()
    cells = [(kind, quads if nodes is None else nodes) for kind, nodes in cells]
    sizes = [len(nodes) for _, nodes in cells]
    data = {k: [np.zeros(n, dtype=int) for n in sizes] for k in data}
    file = tmp_path / "cell.vtu"
    meshio.Mesh(points, cells, cell_data=data).write(file)
    with pytest.raises(InvalidArgument, match=said):
        load_cell(file)


def test_files_that_are_none(tmp_path):
    with pytest.raises(InvalidArgument, match="there is no file"):
        load_cell(tmp_path / "nothing.msh")
    (tmp_path / "broken.msh").write_text("no mesh")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        load_cell(tmp_path / "broken.msh")
    (tmp_path / "cell.xyz").write_text("no mesh")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        load_cell(tmp_path / "cell.xyz")
