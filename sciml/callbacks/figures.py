"""Pictures of data-driven methods, and what all pictures share.

Each function draws into an empty matplotlib figure and returns whether there was something to draw.
What the report holds is listed in `sciml.callbacks.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SECOND, MUTED = "#0072B2", "#D55E00", "#7f7f7f"
# Okabe and Ito's colours, told apart with any kind of colour vision, and line styles beside them.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
STYLES = ("-", "--", "-.", ":", "-", "--", "-.", ":")
FEW = 2.5  # decades up to which a logarithmic axis names more than powers of ten
FEWER = 0.7  # decades up to which its ticks are as far apart as a linear axis would have them
MARKS = 30  # points of a curve up to which they are marked


def plot_fields(figure: Figure, report: Mapping[str, Any]) -> bool:
    """Draw inputs, reference, prediction and error, one row per sample; NaN stays empty."""
    from matplotlib.ticker import MaxNLocator

    rows = report.get("fields") or []
    if not rows:
        return False
    columns = 3 + max(len(row.get("inputs", {})) for row in rows)
    figure.set_size_inches(3.5 * columns, 3.2 * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    unit = f" [{report['unit']}]" if report.get("unit") else ""
    units = report.get("axis_units", {})
    names = {row[key] for row in rows for key in ("xlabel", "ylabel") if key in row}
    symbols = sorted({row.get("symbol", "u") for row in rows})
    without = symbols * (not unit) + sorted(names - set(units))
    if without:  # said, as an axis without a unit may have lost it
        figure.supxlabel(f"dimensionless: {', '.join(without)}", fontsize=8, color=MUTED)
    for line, row in zip(axes, rows, strict=True):
        reference, prediction = (np.asarray(row[k], float) for k in ("reference", "prediction"))
        low, high = float(np.nanmin(reference)), float(np.nanmax(reference))
        difference = prediction - reference
        most = float(np.nanmax(np.abs(difference))) or 1.0
        size = float(np.sqrt(np.nansum(reference**2)))
        error = f"{np.sqrt(np.nansum(difference**2)) / size:.2e}" if size else "undefined"
        scale = {"vmin": low, "vmax": high, "cmap": "viridis"}
        # what lies beyond the reference's range has the colour of its end: the bar says so
        beyond = (np.nanmin(prediction) < low, np.nanmax(prediction) > high)
        beyond = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[beyond]
        # bars of the same scale have the same ticks, also where one has arrows and is shorter
        ticks = [t for t in MaxNLocator(6).tick_values(low, high) if low <= t <= high] or None
        name = f"{row['title']}: " if row["title"] else ""
        shown = [(field, title, {"cmap": "cividis"}, "neither")
                 for title, field in row.get("inputs", {}).items()]  # fmt: skip
        shown += [
            (reference, f"reference {row.get('symbol', 'u')}{unit}", scale, "neither"),
            (prediction, f"prediction {row.get('symbol', 'u')}{unit}", scale, beyond),
            (
                difference,
                f"prediction - reference{unit}\nrelative L2 error {error}",
                {"vmin": -most, "vmax": most, "cmap": "RdBu_r"},
                "neither",
            ),
        ]
        shown[0] = (shown[0][0], name + shown[0][1], *shown[0][2:])
        for axis, (field, title, colours, extend) in zip(line, shown, strict=False):
            marks = ticks if colours is scale else None
            _field(figure, axis, row, np.asarray(field, float), title, colours, extend, marks)
            for side in (axis.xaxis, axis.yaxis):
                if (at := side.get_label_text()) in units:
                    side.set_label_text(f"{at} [{units[at]}]")
        for axis in line[len(shown) :]:
            axis.set_axis_off()
    return True


def plot_maps(figure: Figure, report: Mapping[str, Any]) -> bool:
    """Draw every output of a solution without reference, one row each with one scale of colours."""
    rows = report.get("maps") or []
    if not rows:
        return False
    columns = max(len(row["panels"]) for row in rows)
    figure.set_size_inches(4.4 * columns, 3.6 * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        fields = [np.asarray(field, float) for _, field in row["panels"]]
        low, high = min(map(np.nanmin, fields)), max(map(np.nanmax, fields))
        colours = {"vmin": low, "vmax": high, "cmap": "viridis"}
        for axis, field, (title, _) in zip(line, fields, row["panels"], strict=True):
            title = f"{row['symbol']}, {title}" if title else row["symbol"]
            _field(figure, axis, row, field, title, colours, "neither")
    return True


def _field(
    figure: Figure,
    axis: Axes,
    row: Mapping[str, Any],
    field: np.ndarray,
    title: str,
    colours: dict,
    extend: str,
    ticks: list[float] | None = None,
) -> None:
    """Draw one panel with named axes and the outline of the domain."""
    from matplotlib.ticker import MaxNLocator

    # lengths of space have one scale; time has a scale of its own
    timed = any(str(row.get(key, ""))[:2] in ("t", "t^") for key in ("xlabel", "ylabel"))
    if "points" in row:
        at = np.asarray(row["points"])
        image = axis.scatter(*at.T, c=field, s=6, **colours)
        axis.set_aspect("auto" if timed else "equal")
        if "boundary_points" in row:
            edge = np.asarray(row["boundary_points"])
            axis.scatter(*edge.T, color="black", s=1, linewidths=0)
    else:
        extent = row.get("extent")
        image = axis.imshow(field, origin="lower", extent=extent, aspect="auto", **colours)
        if extent is None or not timed:
            axis.set_aspect("equal")
        if "outline" in row:
            level = np.asarray(row["outline"], float)
            if level.min() < 0 < level.max():
                axis.contour(level, [0.0], colors="black", linewidths=0.8, extent=extent,
                             origin="lower" if extent is None else None)  # fmt: skip
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(row.get("xlabel", "column"))
    axis.set_ylabel(row.get("ylabel", "row"))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    figure.colorbar(image, ax=axis, fraction=0.046, extend=extend, ticks=ticks)


def plot_confusion(figure: Figure, report: Mapping[str, Any]) -> bool:
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


def plot_curve(figure: Figure, name: str, curve: Mapping[str, Any]) -> bool:
    """Draw curves over one axis."""
    figure.set_size_inches(7.0, 4.4)
    axis = figure.subplots()
    x = np.asarray(curve["x"], float)
    for k, (title, values) in enumerate(curve["y"].items()):
        style = {"color": COLOURS[k % 8], "linestyle": STYLES[k % 8]}
        mark = "o" if len(x) <= MARKS else None
        title = title.replace("_", " ")
        axis.plot(x, np.asarray(values, float), marker=mark, markersize=3, label=title, **style)
    label(axis, name.replace("_", " "), curve.get("xlabel", ""), curve.get("ylabel", ""), False)
    scale = curve.get("log", "")
    if "x" in scale:
        axis.set_xscale("log")
    if "y" in scale:
        axis.set_yscale("log")
    if "ticks" in curve:
        axis.set_xticks(x, curve["ticks"])
    axis.legend(frameon=False, fontsize=9)
    return True


def label(axis: Axes, title: str, x: str, y: str, log_scale: bool = True) -> None:
    """Give an axis its title, names and grid."""
    axis.set_title(title, fontsize=11)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if log_scale:
        axis.set_yscale("log")
    axis.grid(True, alpha=0.25)
    bare(axis)


def bare(axis: Axes) -> None:
    """Take away the frame's top and right side."""
    axis.spines[["top", "right"]].set_visible(False)


def readable(figure: Figure) -> None:
    """Give logarithmic axes of few decades plain numbers that do not touch."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    for axes in figure.axes:
        for axis, (low, high) in (
            (axes.xaxis, sorted(axes.get_xlim())),
            (axes.yaxis, sorted(axes.get_ylim())),
        ):
            if axis.get_scale() != "log" or not 0 < low < high < np.inf:
                continue
            decades = np.log10(high / low)
            if decades > FEW:
                continue
            if decades > FEWER:
                axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.5 else (1, 3)))
            else:
                axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
            axis.set_minor_locator(NullLocator())
