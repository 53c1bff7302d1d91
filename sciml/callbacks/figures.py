"""Pictures of data-driven methods, and what all pictures share.

Each function draws into an empty matplotlib figure and returns whether there was something to draw.
What the report holds is listed in `sciml.callbacks.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

INK, SECOND, MUTED = "#1f4e79", "#c0504d", "#7f7f7f"
MARKS = 30  # points of a curve up to which they are marked


def plot_fields(figure, report: Mapping[str, Any]) -> bool:
    """Draw reference, prediction and their difference, one row per field; NaN stays empty."""
    rows = report.get("fields") or []
    if not rows:
        return False
    figure.set_size_inches(10.5, 3.2 * len(rows))
    axes = figure.subplots(len(rows), 3, squeeze=False)
    unit = f" [{report['unit']}]" if report.get("unit") else ""
    for line, row in zip(axes, rows, strict=True):
        reference, prediction = (np.asarray(row[k], float) for k in ("reference", "prediction"))
        low, high = float(np.nanmin(reference)), float(np.nanmax(reference))
        difference = prediction - reference
        most = float(np.nanmax(np.abs(difference))) or 1.0
        scale = {"vmin": low, "vmax": high, "cmap": "viridis"}
        shown = (
            (reference, f"{row['title']}: reference{unit}", scale),
            (prediction, f"prediction{unit}", scale),
            (difference, f"difference{unit}", {"vmin": -most, "vmax": most, "cmap": "RdBu_r"}),
        )
        for axis, (field, title, colours) in zip(line, shown, strict=True):
            if "points" in row:
                image = axis.scatter(*np.asarray(row["points"]).T, c=field, s=6, **colours)
                axis.set_aspect("equal")
            else:
                image = axis.imshow(field, origin="lower", **colours)
            axis.set_title(title, fontsize=10)
            axis.set_xticks([])
            axis.set_yticks([])
            figure.colorbar(image, ax=axis, fraction=0.046)
    return True


def plot_confusion(figure, report: Mapping[str, Any]) -> bool:
    """Draw how often each class was taken for which."""
    if "confusion" not in report:
        return False
    counts = np.asarray(report["confusion"], float)
    classes = len(counts)
    names = report.get("names") or [str(i) for i in range(classes)]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = min(4.0 + 0.35 * classes, 14.0)
    figure.set_size_inches(size + 0.8, size)
    axis = figure.subplots()
    image = axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axis, fraction=0.046, label="share of the true class")
    if classes <= 20:
        for i, j in np.argwhere(counts > 0):
            colour = "white" if share[i, j] > 0.5 else "black"
            axis.text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center", color=colour)
        axis.set_xticks(range(classes), names, rotation=90 if classes > 10 else 0)
        axis.set_yticks(range(classes), names)
    right = float(np.trace(counts) / max(counts.sum(), 1))
    axis.set_title(f"test samples, accuracy {right:.4f}", fontsize=11)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    return True


def plot_curve(figure, name: str, curve: Mapping[str, Any]) -> bool:
    """Draw curves over one axis."""
    figure.set_size_inches(7.0, 4.4)
    axis = figure.subplots()
    x = np.asarray(curve["x"], float)
    for title, values in curve["y"].items():
        mark = "o" if len(x) <= MARKS else None
        axis.plot(x, np.asarray(values, float), marker=mark, markersize=3, label=title)
    label(axis, name.replace("_", " "), curve.get("xlabel", ""), curve.get("ylabel", ""), False)
    scale = curve.get("log", "")
    if "x" in scale:
        axis.set_xscale("log")
    if "y" in scale:
        axis.set_yscale("log")
    axis.legend(frameon=False, fontsize=9)
    return True


def label(axis, title: str, x: str, y: str, log_scale: bool = True) -> None:
    """Give an axis its title, names and grid."""
    axis.set_title(title, fontsize=11)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if log_scale:
        axis.set_yscale("log")
    axis.grid(True, alpha=0.25)
    bare(axis)


def bare(axis) -> None:
    """Take away the frame's top and right side."""
    axis.spines[["top", "right"]].set_visible(False)
