"""Nodal fields and VTU files of structures."""

import xml.etree.ElementTree as ET

import numpy as np

from sciml.physics.solids import plate
from sciml.simulate import pictures


def test_bilinear_fields_reach_the_nodes():
    """On parallelograms the reference coordinates are affine; a linear field comes back."""
    from sciml.physics.solids import l_profile

    mesh = l_profile().mesh
    values = mesh.points.reshape(-1, 2) @ np.array([[1.0, 2.0], [-3.0, 0.5]])
    wanted = mesh.nodes @ np.array([[1.0, 2.0], [-3.0, 0.5]])
    np.testing.assert_allclose(pictures.nodal(mesh, values), wanted, rtol=0, atol=1e-10)


def test_vtu_holds_the_mesh(tmp_path):
    mesh = plate().mesh
    u = np.random.default_rng(0).normal(size=mesh.nodes.shape)
    pictures.write_vtu(tmp_path / "s.vtu", mesh, u, {"a < b": np.arange(len(u), dtype=float)})
    root = ET.parse(tmp_path / "s.vtu").getroot()
    piece = root.find("UnstructuredGrid/Piece")
    assert (int(piece.get("NumberOfPoints")), int(piece.get("NumberOfCells"))) == (len(u), 72)
    arrays = {a.get("Name"): np.array(a.text.split(), float) for a in root.iter("DataArray")}
    np.testing.assert_array_equal(arrays["connectivity"], mesh.elements.ravel())
    assert set(arrays["types"]) == {23}  # quadratic quadrilaterals
    np.testing.assert_allclose(arrays["displacement"].reshape(-1, 3)[:, :2], u, rtol=1e-8, atol=0)
    assert "a < b" in arrays
