"""`sciml verify` for operators with a constraint: fresh instances, against the problem's solver."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sciml.pretrained.judging.trained_constraint import (
    ConstrainedVerification,
    Horizon,
    verify_constrained,
)
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator


def run(model: PretrainedOperator, arguments: argparse.Namespace, output: Path) -> int:
    """Verify, print and draw; return the exit code.

    Args:
        model: A `ConstrainedOperator`.
        arguments: Of `sciml verify`: problems, seed and tolerance are read.
        output: The picture.
    """
    draw = torch.Generator().manual_seed(arguments.seed)
    found = verify_constrained(model, arguments.problems, draw)
    print(report(found, model.spec, arguments.tolerance))
    picture(found, output, arguments.tolerance, str(model.spec["name"]))
    print(f"picture: {output}")
    within = arguments.tolerance is None or found.within(arguments.tolerance)
    return 0 if within else 1


def report(found: ConstrainedVerification, spec: dict, tolerance: float | None) -> str:
    """Return what was found, in lines."""
    first = found.horizons[0]
    lines = [
        f"{spec['name']}: {len(first.error)} random instances of {found.problem}, "
        f"{first.converged.shape[1]} experts",
        "relative L2 error     |u - solver|_2 / |solver|_2 of every instance, by the solver of the "
        "problem",
    ]
    for horizon, name in zip(found.horizons, ("", "beyond training"), strict=False):
        lines += _lines(horizon, name)
    for key in ("test/rel_l2", "test_beyond/rel_l2"):
        value = spec["metrics"].get(key)
        if value is not None:
            lines.append(f"recorded              {key} = {value:.3e}")
    lines.append(
        f"wall time             {1e3 * found.seconds[0]:.0f} ms an instance, the solver "
        f"{1e3 * found.seconds[1]:.0f} ms, in batches"
    )
    if tolerance is not None:
        word = "within" if found.within(tolerance) else "beyond"
        lines.append(f"verdict: {word} {tolerance:g}: the mean error in the time of training")
    return "\n".join(lines)


def _lines(horizon: Horizon, name: str) -> list[str]:
    where = "" if horizon.times is None else f"  {horizon.times[0]:g} <= t <= {horizon.times[1]:g}"
    failed = int((~horizon.converged).any(0).sum())
    return [
        f"{name or 'as trained':<20}  mean {horizon.error.mean():.3e}, largest "
        f"{horizon.error.max():.3e}{where}",
        f"  residual            mean {horizon.residual.mean():.3e} of the equation over the field; "
        f"the solver's own {horizon.own.mean():.3e}",
        f"  experts             {horizon.converged.double().mean():.1%} converged, in "
        f"{horizon.iterations.double().mean():.1f} iterations (mean), {horizon.iterations.max()} "
        f"(most); jump between them {horizon.jump.mean():.1e}"
        + (f"; {failed} experts failed somewhere" if failed else ""),
    ]


def picture(found: ConstrainedVerification, file: Path, tolerance: float | None, name: str) -> None:
    """Draw the error of every instance over its residual."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    styles = (("as trained", "o", "#0072B2"), ("beyond training", "s", "#D55E00"))
    for horizon, (label, marker, colour) in zip(found.horizons, styles, strict=False):
        axis.loglog(horizon.residual, horizon.error, marker, color=colour, ms=4, label=label)
    if tolerance is not None:
        axis.axhline(tolerance, color="#000000", linestyle="--", label=f"tolerance {tolerance:g}")
    axis.set_xlabel("root mean square residual of the equation")
    axis.set_ylabel("relative L2 error")
    axis.set_title(f"{name}: against the solver of {found.problem}", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
