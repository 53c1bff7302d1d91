"""Pictures and files of a structure: contours (PNG), convergence and load curves, VTU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from sciml.physics.solids.structures import StructureMesh
from sciml.simulate.macro_results import Step

VTK_QUADRATIC_QUAD = 23
FINE = 5000  # elements above which a side is as good as straight: they are a few pixels large
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")


def nodal(mesh: StructureMesh, values: np.ndarray) -> np.ndarray:
    """Return values at nodes `(N, c)` of values at quadrature points `(P, c)`.

    The four points of an element are extrapolated bilinearly to its nodes, and elements that share
    a node are averaged.
    """
    element = mesh.element
    basis = np.stack([np.ones(4), *element.points.T, element.points.prod(1)], 1)
    at = np.stack([np.ones(8), *element.nodes.T, element.nodes.prod(1)], 1)
    local = (at @ np.linalg.inv(basis)) @ values.reshape(len(mesh.elements), 4, -1)
    flat, columns = mesh.elements.ravel(), local.reshape(-1, local.shape[2])
    count = np.bincount(flat, minlength=len(mesh.nodes))
    sums = np.stack([np.bincount(flat, c, len(mesh.nodes)) for c in columns.T], 1)
    return sums / count[:, None]


def contours(
    file: Path,
    mesh: StructureMesh,
    displacement: np.ndarray,
    fields: Mapping[str, np.ndarray],
    title: str = "",
) -> None:
    """Draw nodal fields `(N,)` on the deformed structure, side by side.

    Args:
        file: PNG file.
        mesh: The structure.
        displacement: `(N, 2)`, drawn so that its largest value is a tenth of the structure.
        fields: Name with unit to values.
        title: Of the whole picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.tri import Triangulation

    largest = float(np.abs(displacement).max())
    factor = 0.1 * mesh.size / largest if largest > 0 else 0.0
    x, y = (mesh.nodes + factor * displacement).T
    a, b, c, d, e, f, g, h = mesh.elements.T  # corners a to d, midsides e to h
    triangles = [(a, e, h), (e, b, f), (f, c, g), (g, d, h), (e, f, h), (f, g, h)]
    if len(a) > FINE:
        triangles = [(a, b, c), (a, c, d)]
    grid = Triangulation(x, y, np.concatenate([np.stack(t, 1) for t in triangles]))
    figure = Figure(figsize=(4.6 * len(fields), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, values) in zip(figure.subplots(1, len(fields), squeeze=False)[0],
                                    fields.items(), strict=True):  # fmt: skip
        flat = float(np.ptp(values)) <= 1e-12 * float(np.abs(values).max())
        drawn = axis.tricontourf(grid, values, levels=None if flat else 20, cmap="viridis")
        figure.colorbar(drawn, ax=axis, shrink=0.85)
        axis.set_title(name, fontsize=10)
        axis.set_aspect("equal")
        axis.set_xlabel("x [mm], deformed", fontsize=8)
        axis.tick_params(labelsize=8)
    figure.suptitle(f"{title} (displacements x {factor:.3g})", fontsize=10)
    figure.savefig(file, dpi=130)


def curves(file: Path, steps: Sequence[Step]) -> None:
    """Draw residuals over iterations, whose slope shows the order, and force over load."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for i, step in enumerate(steps):
        numbers = np.arange(1, step.iterations + 1)
        label = f"load {step.load:.3g}" if len(steps) <= len(COLOURS) else None
        floor = np.maximum(step.residuals, 1e-17)
        left.semilogy(numbers, floor, "o-", color=COLOURS[i % len(COLOURS)], label=label)
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set_xlabel("Newton iteration")
    left.set_ylabel("forces out of balance / reactions")
    if len(steps) <= len(COLOURS):
        left.legend(fontsize=8)
    loads = [0.0, *(step.load for step in steps)]
    for axis, name in enumerate("xy"):
        forces = [0.0, *(step.reaction[axis] for step in steps)]
        right.plot(loads, forces, "o-", color=COLOURS[axis], label=f"{name} component")
    right.set_xlabel("load")
    right.set_ylabel("force [N/mm]")
    right.legend(fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(file, dpi=130)


def write_vtu(
    file: Path, mesh: StructureMesh, displacement: np.ndarray, fields: Mapping[str, np.ndarray]
) -> None:
    """Write nodal fields `(N,)` or `(N, c)` for ParaView, as text."""
    count, nodes = len(mesh.elements), len(mesh.nodes)
    points = np.hstack([mesh.nodes, np.zeros((nodes, 1))])
    shift = np.hstack([displacement, np.zeros((nodes, 1))])
    cells = {
        "connectivity": mesh.elements.ravel(),
        "offsets": 8 * np.arange(1, count + 1),
        "types": np.full(count, VTK_QUADRATIC_QUAD),
    }
    lines = [
        '<?xml version="1.0"?>',
        '<VTKFile type="UnstructuredGrid" version="0.1">',
        f'<UnstructuredGrid><Piece NumberOfPoints="{nodes}" NumberOfCells="{count}">',
        f"<Points>{_array('points', points)}</Points>",
        f"<Cells>{''.join(_array(name, values) for name, values in cells.items())}</Cells>",
        "<PointData>",
        _array("displacement", shift),
        *(_array(name, values) for name, values in fields.items()),
        "</PointData></Piece></UnstructuredGrid></VTKFile>",
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _array(name: str, values: np.ndarray) -> str:
    whole = values.dtype.kind in "iu"
    columns = values.shape[1] if values.ndim == 2 else 1
    text = " ".join(map(str if whole else "{:.9g}".format, values.ravel().tolist()))
    kind = "Int64" if whole else "Float64"
    return (
        f'<DataArray type="{kind}" Name={quoteattr(name)} NumberOfComponents="{columns}" '
        f'format="ascii">{text}</DataArray>'
    )
