"""Pictures of a run: losses, the solution along a ray, predicted against reference values.

The data come from `metrics.csv` and from `module.test_report`, a dictionary with

    reference   (N,)                    reference values at the test points
    prediction  (N,)                    the model's values there
    baselines   {name: relative L2 error}
    metrics     {name: number}
    ray         {"s" (M,), "prediction" (M,), "reference" (M,), "label": axis label of s,
                "training": the part (low, high) of s where training points lie (optional)}
    unit        unit of the solution, "" if dimensionless (optional)
    symbol      of the solution, in place of u (optional)
    scatter     {"symbol", "unit"} of what is scored, where it is another (optional)
    axis_units  {name of an axis of fields: its unit}; those not named are dimensionless (optional)
    fields      [{"title", "reference" (H, W), "prediction" (H, W)}], rows upwards; or (N,) at
                "points" (N, 2); optional: "symbol" in place of u, "inputs" {name: like
                reference}, "extent" (left, right, bottom, top), "xlabel", "ylabel", "outline"
                (H, W) negative in the domain, "boundary_points" (M, 2)
    maps        [{"symbol", "panels": [(title, (H, W))]}], with what fields may have: outputs of
                a solution that has no reference, drawn into fields.png
    confusion   (C, C) counts, true classes down, predicted ones across; `names` of the classes
    curves      {file: {"x" (M,), "y" {name: (M,)}, "xlabel", "ylabel", "log" "", "y" or "xy",
                "ticks": names of the M places, where x only counts them (optional)}}

Entries that are missing leave out their picture. A picture that cannot be made is a warning in the
log, never the end of a run.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from sciml.callbacks.figures import (
    plot_confusion,
    plot_curve,
    plot_fields,
    plot_maps,
    readable,
)
from sciml.callbacks.run_figures import plot_losses, plot_ray, plot_scatter, plot_unknowns
from sciml.typed_arguments import typed

log = logging.getLogger(__name__)


@typed
class Plots(pl.Callback):
    """Draws `plots/*.png` in the run folder at the end of fit and of test, on rank 0.

    Args:
        run_dir: The run folder; its `metrics.csv` is read, history of resumed runs included.
        dpi: Resolution.
        pdf: Whether every picture is written as a PDF file as well, for papers.

    Example:
        >>> from sciml.callbacks import Plots
        >>> Plots("runs/mine", dpi=200, pdf=True).dpi
        200
    """

    def __init__(self, run_dir: str | Path, dpi: int = 130, pdf: bool = False) -> None:
        self.run_dir, self.dpi, self.pdf = Path(run_dir), int(dpi), bool(pdf)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Draw what this stage made known."""
        # Not in on_test_end: the module fills its report in that very hook, after the callbacks.
        if trainer.is_global_zero and stage in ("fit", "test"):
            self._draw(trainer, getattr(pl_module, "test_report", None))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Draw the losses of a run that failed: they usually show why."""
        if trainer.is_global_zero:
            self._draw(trainer, None)

    def _draw(self, trainer: pl.Trainer, report: Mapping[str, Any] | None) -> None:
        try:
            for logger in trainer.loggers:
                logger.save()  # rows not yet on disk belong into the curves
        except OSError as error:
            log.warning("the newest losses are missing in the plots (%s)", error)
        draw(self.run_dir, report, self.dpi, self.pdf)


def draw(
    run_dir: Path, report: Mapping[str, Any] | None, dpi: int = 130, pdf: bool = False
) -> list[Path]:
    """Draw every picture there are data for and return the files written.

    Args:
        run_dir: The run folder.
        report: See the top of this file; None draws the losses only.
        dpi: Resolution.
        pdf: Whether to write PDF files beside the PNG files.
    """
    report = report or {}
    jobs = {
        "losses.png": lambda figure: plot_losses(figure, run_dir / "metrics.csv", report),
        "ray.png": lambda figure: plot_ray(figure, report),
        "scatter.png": lambda figure: plot_scatter(figure, report),
        "fields.png": lambda figure: plot_fields(figure, report) or plot_maps(figure, report),
        "confusion.png": lambda figure: plot_confusion(figure, report),
        "unknowns.png": lambda figure: plot_unknowns(figure, run_dir / "metrics.csv"),
    }
    for name, curve in report.get("curves", {}).items():
        jobs[f"{name}.png"] = functools.partial(plot_curve, name=name, curve=curve)
    written = []
    for name, job in jobs.items():
        try:
            # The figure object, not pyplot: no global state, no back end chosen for the caller.
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            figure = Figure(layout="constrained")
            FigureCanvasAgg(figure)
            if job(figure):
                path = run_dir / "plots" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                readable(figure)
                for target in [path, path.with_suffix(".pdf")] if pdf else [path]:
                    figure.savefig(target, dpi=dpi)
                    written.append(target)
        except Exception as error:  # any: a picture must not end an hour of training
            log.warning("plots/%s was not drawn (%s: %s)", name, type(error).__name__, error)
    return written
