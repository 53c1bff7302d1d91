"""`sciml verify` for the law of a cell: a bound of its error by the Fenchel residual."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from sciml.pretrained.judging.trained_law import LawVerification, verify_law
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator


def run(model: PretrainedOperator, arguments: argparse.Namespace, output: Path) -> int:
    """Verify, print and draw; return the exit code.

    Args:
        model: An `EquiNO`.
        arguments: Of `sciml verify`: problems, seed, worst, tolerance and workers are read.
        output: The picture.
    """
    start = time.perf_counter()
    box = float(model.network.box)
    strain = np.random.default_rng(arguments.seed).uniform(-box, box, (arguments.problems, 3))
    found = verify_law(model, strain, workers=arguments.workers)
    seconds = time.perf_counter() - start
    print(report(found, model.spec, arguments.tolerance, arguments.worst))
    picture(found, output, arguments.tolerance, str(model.spec["name"]))
    print(f"{len(strain)} strains, {seconds:.1f} s; picture: {output}")
    within = arguments.tolerance is None or found.within(arguments.tolerance)
    return 0 if within else 1


def report(found: LawVerification, spec: dict, tolerance: float | None, worst: int) -> str:
    """Return what was found, in lines."""
    relative, kept = found.relative, found.relative[found.bounded]
    shown = kept if len(kept) else relative
    lines = [
        f"{spec['name']}: {len(relative)} random strains, cell {found.cell}",
        f"relative error of the homogenised stress  at most {found.pooled:.3e}",
        "                      over all strains, in the norm of the small-strain compliance; "
        "Fenchel residual, no reference",
        f"single strains        at most {np.median(shown):.3e} (median), "
        f"{shown.max():.3e} (largest)",
    ]
    open_ = int((~found.bounded).sum())
    if open_:
        lines.append(
            f"no bound              at {open_} strains, left out above: the stress is somewhere "
            "larger than the matrix bears"
        )
    recorded = {k: v for k, v in spec["metrics"].items() if k.endswith("/rel_l2")}
    lines += [f"recorded              {k} = {v:.3e}" for k, v in recorded.items() if v is not None]
    if worst:
        lines.append("largest bounds:")
    for row in np.argsort(-relative)[:worst]:
        at = ", ".join(f"{v:+.4f}" for v in found.strain[row])
        lines.append(f"  strain ({at})  {relative[row]:.3e}")
    if tolerance is not None:
        lines.append(
            f"verdict: within {tolerance:g}: the bound lies below it"
            if found.within(tolerance)
            else f"verdict: undecided: the bound lies above {tolerance:g}, the error may lie below"
        )
    return "\n".join(lines)


def picture(found: LawVerification, file: Path, tolerance: float | None, name: str) -> None:
    """Draw the bound at every strain over the size of the strain."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    size, kept = np.linalg.norm(found.strain, axis=1), found.bounded
    axis.semilogy(size[kept], found.relative[kept], "o", color="#0072B2", markersize=4)
    axis.axhline(found.pooled, color="#D55E00", label=f"all strains: {found.pooled:.1e}")
    if tolerance is not None:
        axis.axhline(tolerance, color="#000000", linestyle="--", label=f"tolerance {tolerance:g}")
    axis.set_xlabel("norm of the macro strain")
    axis.set_ylabel("bound of the relative error")
    axis.set_title(f"{name}: Fenchel residual of the homogenised stress", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
