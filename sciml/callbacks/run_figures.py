"""Figures of a run: losses and errors by step, unknown constants, a ray, a scatter of values."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sciml.callbacks.figures import COLOURS, INK, MUTED, SECOND, STYLES, bare, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_A_LOSS = ("_per_s", "lr", "grad_norm", "gradient_noise", "rel_l2", "skill", "dimensions",
              "points", "seconds", "walk_")  # fmt: skip
ERRORS = ("loss", "rel_l2", "residual")  # of the validation; other numbers are no errors
MAX_CURVES = 8


def read_history(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (steps, values) of every column of a metrics CSV file, in order of steps.

    Rows of a run continued from a checkpoint may repeat steps; the last one written counts.
    """
    columns: dict[str, dict[int, float]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if name and value and name not in ("step", "epoch"):
                        columns.setdefault(name, {})[int(float(row["step"]))] = float(value)
    history = {}
    for name, points in columns.items():
        steps = np.array(sorted(points))
        history[name] = steps, np.array([points[s] for s in steps])
    return history


def plot_losses(figure: Figure, path: Path, report: Mapping[str, Any]) -> bool:
    """Draw losses per term and, where it was measured on the way, the error against baselines."""
    history = read_history(path)
    losses = {
        name.removeprefix("train/"): curve
        for name, curve in history.items()
        if name.startswith("train/") and not any(word in name for word in NOT_A_LOSS)
    }
    errors = {f"val/{name}": history[f"val/{name}"] for name in ERRORS if f"val/{name}" in history}
    if "val/accuracy" in history:
        steps, right = history["val/accuracy"]
        errors["val/error_rate"] = (steps, 1 - right)
    errors = {name: curve for name, curve in errors.items() if len(curve[0]) > 1}
    measured = "val/rel_l2" in errors
    if measured:  # losses and residuals are other quantities
        errors = {"val/rel_l2": errors["val/rel_l2"]}
    if not losses:
        return False
    figure.set_size_inches(7.0 + 4.5 * bool(errors), 4.2)
    axes = np.atleast_1d(figure.subplots(1, 1 + bool(errors)))
    ranked = sorted(losses.items(), key=lambda item: (item[0] != "loss", item[0]))[:MAX_CURVES]
    terms = 0
    for name, (steps, values) in ranked:
        # the sum lies on top of its largest term: draw it as a band behind
        if name == "loss" and len(ranked) > 1:
            style = {"linewidth": 4.5, "color": "#c9c9c9"}
        else:
            style = {"color": COLOURS[terms % 8], "linestyle": STYLES[terms % 8]}
            terms += 1
        _curve(axes[0], steps, values, name, **style)
    label(axes[0], "training loss", "optimizer step", "loss")
    axes[0].legend(frameon=False, fontsize=9)
    if errors:
        for k, (name, (steps, values)) in enumerate(errors.items()):
            _curve(axes[1], steps, values, name, color=COLOURS[k], linestyle=STYLES[k])
        if measured:
            _baseline_lines(axes[1], report)
        y = "relative L2 error" if measured else ", ".join(sorted(errors))
        label(axes[1], "error during training" if measured else "validation", "optimizer step", y)
        axes[1].legend(frameon=False, fontsize=9)
    for axis in axes:
        axis.ticklabel_format(axis="x", useOffset=False)
        axis.locator_params(axis="x", nbins=6, integer=True)
    return True


def plot_unknowns(figure: Figure, path: Path) -> bool:
    """Draw the unknown constants of an equation over the steps, as the data tell them."""
    history = read_history(path)
    found = {n.removeprefix("unknown/"): c for n, c in history.items() if n.startswith("unknown/")}
    if not found:
        return False
    figure.set_size_inches(7.0, 4.2)
    axis = figure.subplots()
    for k, (name, (steps, values)) in enumerate(sorted(found.items())):
        style = {"color": COLOURS[k % 8], "linestyle": STYLES[k % 8], "linewidth": 1.6}
        axis.plot(steps, values, label=f"{name} = {values[-1]:.4g}", **style)
    label(axis, "unknown constants", "optimizer step", "value", log_scale=False)
    axis.legend(frameon=False, fontsize=9)
    return True


def plot_ray(figure: Figure, report: Mapping[str, Any]) -> bool:
    """Draw solution and absolute error along the report's ray."""
    ray = report.get("ray")
    if not ray:
        return False
    s, prediction, reference = (flat_array(ray[key]) for key in ("s", "prediction", "reference"))
    unit = _in_unit(report)
    figure.set_size_inches(7.0, 6.0)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    if "training" in ray:
        for axis, name in ((top, "98 % of training points"), (bottom, None)):
            axis.axvspan(
                *ray["training"], facecolor="#e8eef4", edgecolor="#9fb3c8", zorder=0, label=name
            )
    top.plot(s, reference, color=MUTED, linewidth=3.5, alpha=0.6, label="reference")
    top.plot(s, prediction, color=INK, linewidth=1.4, label="prediction")
    label(top, "solution along a line", "", f"u{unit}", log_scale=False)
    top.legend(frameon=False, fontsize=9)
    error = np.abs(prediction - reference)
    bottom.plot(s, np.maximum(error, np.finfo(float).tiny), color=SECOND, linewidth=1.2)
    positive = error[error > 0]
    if len(positive):  # an exact hit (hard constraint) would stretch the axis to 1e-308
        bottom.set_ylim(max(positive.min() / 2, positive.max() * 1e-6), positive.max() * 2)
    label(bottom, "", str(ray.get("label", "s")), f"|prediction - reference|{unit}")
    return True


def plot_scatter(figure: Figure, report: Mapping[str, Any]) -> bool:
    """Draw predicted against reference values, and the error beside every baseline's."""
    if "prediction" not in report or "reference" not in report:
        return False
    prediction, reference = flat_array(report["prediction"]), flat_array(report["reference"])
    keep = slice(None, None, max(1, len(reference) // 5000))
    said = report.get("scatter") or report  # what is scored may be another than what is drawn
    unit, symbol = _in_unit(said), said.get("symbol", "u")
    error = float(np.linalg.norm(prediction - reference) / np.linalg.norm(reference))
    # the report may hold only some of the test points
    error = float(report.get("metrics", {}).get("test/rel_l2", error))
    bars = {"this model": error, **{k: float(v) for k, v in report.get("baselines", {}).items()}}
    figure.set_size_inches(10.5 if len(bars) > 1 else 5.2, 4.6)
    axes = np.atleast_1d(figure.subplots(1, 1 + (len(bars) > 1)))
    low = min(prediction.min(), reference.min())
    high = max(prediction.max(), reference.max())
    axes[0].plot([low, high], [low, high], color=MUTED, linewidth=1.0, label="exact")
    axes[0].scatter(reference[keep], prediction[keep], s=5, color=INK, alpha=0.35, linewidths=0)
    title = f"test points, relative L2 error {error:.3g}"
    label(axes[0], title, f"reference {symbol}{unit}", f"predicted {symbol}{unit}", log_scale=False)
    axes[0].set_aspect("equal", adjustable="datalim")
    if len(bars) > 1:
        names = sorted(bars, key=bars.get, reverse=True)
        colors = [INK if name == "this model" else MUTED for name in names]
        axes[1].barh(names, [bars[name] for name in names], color=colors, height=0.6)
        shown = [v for v in bars.values() if v > 0]
        if shown:
            axes[1].set_xscale("log")
            axes[1].set_xlim(min(shown) / 3, max(shown) * 6)
        for row, name in enumerate(names):
            axes[1].annotate(
                f"{bars[name]:.2e}",
                (bars[name], row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes[1].set_xlabel("relative L2 error")
        axes[1].set_title("this model and its baselines", fontsize=11)
        bare(axes[1])
    return True


def _curve(
    axis: Axes,
    steps: np.ndarray,
    values: np.ndarray,
    name: str,
    linewidth: float = 1.6,
    color: str | None = None,
    linestyle: str = "-",
) -> None:
    """Draw a positive series; long noisy ones faintly, with their running median on top."""
    keep = np.isfinite(values) & (values > 0)
    steps, values = steps[keep], values[keep]
    if len(steps) < 60:
        style = {"linewidth": linewidth, "color": color, "linestyle": linestyle, "label": name}
        axis.plot(steps, values, marker="o", markersize=2.5, **style)
        return
    window = max(5, len(values) // 40)
    blocks = [values[max(0, i - window) : i + window + 1] for i in range(len(values))]
    middle = [np.median(b) for b in blocks]
    axis.plot(steps, values, linewidth=0.5, alpha=0.3, color=color)
    title = f"{name} (median of {2 * window + 1} around; faint: each)"
    axis.plot(steps, middle, linewidth=linewidth, color=color, linestyle=linestyle, label=title)


def _baseline_lines(axis: Axes, report: Mapping[str, Any]) -> None:
    for name, value in report.get("baselines", {}).items():
        axis.axhline(float(value), color=MUTED, linewidth=1.0, linestyle="--")
        axis.annotate(
            name,
            (0.99, float(value)),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=MUTED,
        )


def _in_unit(report: Mapping[str, Any]) -> str:
    return f" [{report['unit']}]" if report.get("unit") else " [-]"


def flat_array(values: Tensor | Sequence[float] | np.ndarray) -> np.ndarray:
    """Return a tensor or sequence as a flat float64 array."""
    values = values.detach().cpu().double().numpy() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=float).reshape(-1)
