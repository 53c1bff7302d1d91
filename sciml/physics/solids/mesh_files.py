"""Periodic cells from mesh files of other programs (Gmsh, Abaqus, VTK, ...), read by meshio.

What a file must hold: triangles or quadrilaterals of first or second order in a plane, one kind of
them, and a number per element that tells the phase (physical groups of Gmsh, or any cell data).
Elements of first order get straight midside nodes; the ninth node of a quadrilateral is left out.
The cell is moved to the origin and scaled to period 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sciml.errors import InvalidArgument, InvalidType, optional
from sciml.physics.checks import check_positive
from sciml.physics.solids.block_cells import add_midsides
from sciml.physics.solids.rve_mesh import RVEMesh

# meshio's name -> nodes that are kept; corners first, midside i between corner i and the next
KINDS = {"triangle6": 6, "quad8": 8, "quad9": 8, "triangle": 3, "quad": 4}
PHASES = ("gmsh:physical", "medit:ref", "phase", "material")  # names that cell data go by
SQUARE = 1e-6  # relative difference of the sides of the box around a cell


def load_cell(
    path: str | Path, *, phase: str | None = None, period: float | None = None
) -> RVEMesh:
    """Return the periodic mesh of a cell in a file.

    Args:
        path: The file; meshio tells its format by its ending.
        phase: Name of the cell data that hold the phase; None takes the first of gmsh:physical,
            medit:ref, phase, material. The lowest number is the matrix, phase 0, the next one
            phase 1, and so on.
        period: Side of the square that repeats; None takes the box around all nodes, which is
            right unless elements reach over the edges of the square.

    Raises:
        InvalidArgument: If the file cannot be read or does not hold such a mesh, the mesh is not
            periodic, or two inclusions touch in a point.
        MissingPackage: If meshio is not installed.

    Example:
        >>> import tempfile
        >>> import meshio
        >>> import numpy as np
        >>> from sciml.physics.solids import disk_cell, load_cell
        >>> mesh = disk_cell(2)
        >>> points, cells = np.pad(mesh.nodes, ((0, 0), (0, 1))), [("quad8", mesh.elements)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f"{folder}/cell.vtu"
        ...     meshio.write_points_cells(file, points, cells, cell_data={"phase": [mesh.phase]})
        ...     read = load_cell(file)
        >>> read.dofs == mesh.dofs, read.element.name
        (True, 'Q8')
    """
    found = _read(path)
    kind, elements = _elements(path, found)
    tags = _tags(path, found, kind, phase)
    points = np.asarray(found.points, dtype=np.float64)
    if points.shape[1] > 2 and np.ptp(points[:, 2]) > 0:
        z = points[:, 2]
        raise InvalidArgument(
            f"{path}, whose z goes from {z.min():g} to {z.max():g}", "a mesh of constant z"
        )
    used, elements = np.unique(elements, return_inverse=True)
    nodes, elements = points[used, :2], elements.reshape(len(tags), -1)
    nodes = _unit(path, nodes, period)
    elements = _counter_clockwise(nodes, elements, 3 if kind.startswith("triangle") else 4)
    if kind in ("triangle", "quad"):
        nodes, elements, _ = add_midsides(nodes, elements)
    numbers = np.unique(tags, return_inverse=True)[1].ravel()
    try:
        mesh = RVEMesh(nodes, elements, numbers)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.received}", error.expected, error.hint) from error
    _check_touching(path, mesh)
    return mesh


def _read(path: str | Path) -> Any:
    if not isinstance(path, str | Path):
        raise InvalidType(f"path of type {type(path).__name__}", "the name of a mesh file")
    if not Path(path).is_file():
        raise InvalidArgument(f"there is no file {path}", "a mesh file")
    meshio = optional("meshio", "mesh", f"the mesh file {path}")
    try:
        return meshio.read(path)
    except (Exception, SystemExit) as error:  # its readers have many families, one of them exits
        raise InvalidArgument(f"{path} cannot be read ({error})", "a mesh file") from error


def _elements(path: str | Path, found: Any) -> tuple[str, np.ndarray]:
    """Return the kind of the plane elements and their nodes `(E, k)`."""
    kinds = [kind for kind in KINDS if any(block.type == kind for block in found.cells)]
    if len(kinds) != 1:
        held = ", ".join(sorted({block.type for block in found.cells})) or "nothing"
        raise InvalidArgument(
            f"{path}, which holds {held}", "plane elements of one kind: " + ", ".join(KINDS)
        )
    rows = [block.data for block in found.cells if block.type == kinds[0]]
    return kinds[0], np.vstack(rows)[:, : KINDS[kinds[0]]].astype(np.int64)


def _tags(path: str | Path, found: Any, kind: str, phase: str | None) -> np.ndarray:
    """Return the number `(E,)` that tells the phase of every element."""
    names = list(found.cell_data)
    chosen = phase or next((name for name in PHASES if name in names), None)
    if chosen not in names:
        asked = "cell data that tell the phase" if phase is None else f"cell data {phase!r}"
        raise InvalidArgument(
            f"{path}, whose cell data are {', '.join(names) or 'none'}",
            asked,
            "Type phase=NAME with one of these names"
            if names
            else "Give the matrix and the inclusions physical groups of their own",
        )
    pairs = zip(found.cells, found.cell_data[chosen], strict=True)
    values = np.concatenate([np.ravel(data) for block, data in pairs if block.type == kind])
    whole = np.asarray(values)
    if whole.dtype.kind not in "iuf" or (whole != np.round(whole)).any():
        raise InvalidArgument(f"cell data {chosen!r} of {path}", "whole numbers, one per element")
    return whole.astype(np.int64)


def _unit(path: str | Path, nodes: np.ndarray, period: float | None) -> np.ndarray:
    """Return nodes moved to the origin and scaled to period 1."""
    low, high = nodes.min(0), nodes.max(0)
    if period is None:
        sides = high - low
        if not abs(sides[0] - sides[1]) <= SQUARE * sides.max():
            raise InvalidArgument(
                f"{path}, a cell of {sides[0]:.6g} x {sides[1]:.6g}",
                "a square",
                "Type period=... where elements reach over the edges of the square",
            )
        period = float(sides.max())
    return (nodes - (low + high) / 2) / check_positive("period", period)


def _counter_clockwise(nodes: np.ndarray, elements: np.ndarray, corners: int) -> np.ndarray:
    """Return elements with the nodes of those that turn clockwise the other way round."""
    x, y = np.moveaxis(nodes[elements[:, :corners]], 2, 0)
    area = (x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1)
    order = [0, *range(corners - 1, 0, -1)]  # the midside node i follows corner i
    if elements.shape[1] > corners:
        order += range(2 * corners - 1, corners - 1, -1)
    return np.where((area < 0)[:, None], elements[:, order], elements)


def _check_touching(path: str | Path, mesh: RVEMesh) -> None:
    """Refuse inclusions that meet in a point: the matrix has no width there.

    Elements that share a side belong to one inclusion; inclusions that share a node touch.
    """
    own = np.flatnonzero(mesh.phase > 0)
    count, corners = len(own), mesh.element.corners
    if not count:
        return
    nodes = mesh.glued[mesh.elements[own]]
    element = np.repeat(np.arange(count), corners)
    sides = coo_array((np.ones(nodes[:, corners:].size), (element, nodes[:, corners:].ravel())))
    inclusion = connected_components(sides.tocsr() @ sides.tocsr().T, directed=False)[1]
    size = mesh.periodic_nodes
    pairs = np.unique(nodes[:, :corners].ravel() * count + inclusion[element])
    meeting, often = np.unique(pairs // count, return_counts=True)
    if (often > 1).any():
        at = np.flatnonzero(mesh.glued == meeting[often > 1][0] % size)[0]
        x, y = mesh.nodes[at]
        raise InvalidArgument(
            f"{path}: inclusions that touch in {int((often > 1).sum())} points, the first one at "
            f"({x:.4f}, {y:.4f}) of the unit cell",
            "inclusions apart from each other, or grown together along a side",
            "Move one of them, and mesh again",
        )
