"""Frames of a flow as PNG, their animation, and the curves of its solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from sciml.physics.fluids import Flow, FlowState

PIXELS = 768  # of the longer side of a frame, at least
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
GREY = (0.55, 0.55, 0.58)


@dataclass(frozen=True)
class Picture:
    """What a frame shows of a plane.

    Attributes:
        values: `(nx, ny)`.
        low: Value of the first colour.
        high: Value of the last colour.
        colours: Name of a colour map of Matplotlib.
        solid: `(nx, ny)`, share of solid in every cell, or None.
    """

    values: Tensor
    low: float
    high: float
    colours: str
    solid: Tensor | None = None


def plane(field: Tensor) -> Tensor:
    """Return the first sample's plane `(nx, ny)`, through the middle in 3-D."""
    field = field[0]
    return field if field.dim() == 2 else field[:, :, field.shape[2] // 2]


def solid_share(flow: Flow, state: FlowState) -> Tensor | None:
    """Return the share of a flow's body in the cells of the plane, or None without one."""
    if flow.body is None:
        return None
    distance = flow.body.distance(flow.centres(state.pressure), state.time) / flow.spacing
    return plane((0.5 - distance).clamp(0, 1))


def save(file: Path, picture: Picture) -> None:
    """Write a frame, x to the right and y up, enlarged smoothly."""
    from matplotlib import colormaps
    from PIL import Image

    nx, ny = picture.values.shape
    times = max(1, round(PIXELS / max(nx, ny)))
    share = ((picture.values - picture.low) / (picture.high - picture.low)).clamp(0, 1)
    colour = colormaps[picture.colours](_enlarged(share, times))[..., :3]
    if picture.solid is not None:
        solid = _enlarged(picture.solid.clamp(0, 1), times)[..., None]
        colour = (1 - solid) * colour + solid * np.array(GREY)
    Image.fromarray((255 * colour + 0.5).astype(np.uint8)).save(file)


def _enlarged(values: Tensor, times: int) -> np.ndarray:
    """Return an image with its first row at the top, `times` as large, in [0, 1]."""
    from PIL import Image

    turned = np.ascontiguousarray(values.T.flip(0).numpy().astype(np.float32))
    size = turned.shape[1] * times, turned.shape[0] * times
    return np.clip(np.asarray(Image.fromarray(turned).resize(size, Image.BICUBIC)), 0, 1)


def animate(files: Sequence[Path], out: Path, milliseconds: int = 60) -> None:
    """Write the frames as a GIF that repeats."""
    from PIL import Image

    if not files:
        return
    images = [Image.open(file).convert("P", palette=Image.ADAPTIVE) for file in files]
    images[0].save(out, save_all=True, append_images=images[1:], duration=milliseconds, loop=0)


def curves(file: Path, rows: Sequence[dict]) -> None:
    """Draw iterations and CPU time over the steps, a colour per solver."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for k, name in enumerate(sorted({row["solver"] for row in rows})):
        mine = [row for row in rows if row["solver"] == name]
        steps = [row["step"] for row in mine]
        style = {"color": COLOURS[k % len(COLOURS)], "label": name}
        left.plot(steps, [row["iterations"] for row in mine], ".", **style)
        right.semilogy(steps, [row["setup_s"] + row["solve_s"] for row in mine], ".", **style)
    left.set_ylabel("iterations")
    right.set_ylabel("set-up and solve [CPU s]")
    for axis in (left, right):
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.savefig(file, dpi=120)
