"""`sciml verify`: how wrong a trained model is, without a reference.

Elliptic models by walks, with error bars; laws of cells by a bound, see
`sciml.cli.verification.verify_law`; operators with a constraint by their residual, and by their
problem's own solver, see `sciml.cli.verification.verify_constrained`; operators on files by the
equation that their training named, see `sciml.cli.verification.verify_fields`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from sciml.autodiff.streams import Streams
from sciml.cli.verbs.argument_types import LARGEST_SEED, real, whole
from sciml.cli.verbs.predict import device_of, show_warnings
from sciml.cli.verification import verify_constrained, verify_fields, verify_law
from sciml.errors import InvalidArgument, SciMLError
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.verification import verify
from sciml.physics.walks.verified_errors import DEFINITION, Verification
from sciml.pretrained import load_pretrained
from sciml.pretrained.judging.field_operator import is_field_operator
from sciml.pretrained.judging.trained_constraint import is_constrained
from sciml.pretrained.judging.trained_elliptic import judged
from sciml.pretrained.judging.trained_law import is_law

# Where a card records the error that is estimated here.
RECORD = "family/rel_l2_pooled"

EXAMPLES = """examples:
  sciml verify wos_poisson2d --tolerance 0.04
  sciml verify runs/pinn_poisson/2026-01-31_12-00-00 --problems 64 --points 64

Random points of random problems of the model's family are walked from (walk on spheres); the
product of two independent halves of the walks is an unbiased estimate of the squared error, no
reference solution needed. The law of a cell (model=equino_disk) is judged by its Fenchel residual
at --problems random strains: a bound of its error, once the snapshots of its recipe are solved anew
by --workers processes. An operator with a constraint (model=moe_diffusion_sorption) answers
--problems fresh instances, which its problem's own solver solves as well. An operator on files is
compared with the solver of module.equation, or of data.coarse. Exit code: 0 within the
tolerance (or none given), 1 beyond it or not decided, 2 wrong input.
"""


def main(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: Arguments after `sciml verify`.

    Returns:
        Exit code, see the examples.
    """
    parser = argparse.ArgumentParser(
        prog="sciml verify",
        description="Estimate the error of a trained elliptic model, with a confidence interval.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="PATH", help="pretrained folder, run folder or name")
    parser.add_argument(
        "--tolerance",
        type=real(0.0, 1e6, open_below=True),
        help="relative L2 error that is good enough",
    )
    parser.add_argument(
        "--problems", type=whole(1, 10**6), default=128, help="problems drawn (128)"
    )
    parser.add_argument("--points", type=whole(1, 10**6), default=16, help="points in each (16)")
    parser.add_argument(
        "--walks", type=whole(2, 10**7), default=256, help="walks from each point (256)"
    )
    parser.add_argument(
        "--eps",
        type=real(0.0, 0.1, open_below=True),
        default=2e-4,
        help="end of walks, in domain sizes (2e-4)",
    )
    parser.add_argument(
        "--margin",
        type=real(0.0, 1.0),
        default=0.0,
        help="points keep this far from the boundary, in domain sizes (0)",
    )
    parser.add_argument(
        "--confidence",
        type=real(0.0, 0.999999, open_below=True),
        default=0.95,
        help="of the interval (0.95)",
    )
    parser.add_argument("--worst", type=whole(0, 10**6), default=5, help="worst points listed (5)")
    parser.add_argument(
        "--seed", type=whole(0, LARGEST_SEED), default=0, help="of problems, points and walks (0)"
    )
    parser.add_argument(
        "--workers", type=whole(1, 1024), default=1, help="processes that solve cells (1)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    parser.add_argument("-o", "--output", type=Path, help="picture, default: verification.png")
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed help or what is wrong
        return int(stop.code or 0)
    with show_warnings("sciml verify"):
        try:
            return _verify(arguments)
        except BrokenPipeError:  # `| head`: said by sciml.cli.main
            raise
        except (SciMLError, OSError) as error:
            print(f"sciml verify: {error}", file=sys.stderr)
            return 2


def _verify(arguments: argparse.Namespace) -> int:
    tolerance, output = arguments.tolerance, arguments.output or Path("verification.png")
    if tolerance is not None and not tolerance > 0:
        raise InvalidArgument(f"--tolerance {tolerance}", "a positive number")
    if output.suffix not in (".png", ".pdf", ".svg"):
        raise InvalidArgument(f"--output {output}", "a file name ending in .png, .pdf or .svg")
    if not os.access(_existing(output.parent), os.W_OK):
        raise InvalidArgument(f"--output {output}", "a folder that can be written to")
    device = device_of(arguments.device)
    model = load_pretrained(arguments.model, device=device)
    if is_law(model):
        return verify_law.run(model, arguments, output)
    if is_constrained(model):
        return verify_constrained.run(model, arguments, output)
    if is_field_operator(model):
        return verify_fields.run(model, arguments, output)
    draw, predict = judged(model)
    engine = WalkOnSpheres(arguments.walks, arguments.eps, max_steps=100_000)
    streams = Streams(arguments.seed, 0, device=device)
    start = time.perf_counter()
    with torch.no_grad():
        found = verify(
            predict,
            draw(arguments.problems, streams.generator("problems")),
            streams.generator("walks"),
            points=arguments.points,
            engine=engine,
            confidence=arguments.confidence,
            worst=arguments.worst,
            margin=arguments.margin,
        )
    seconds = time.perf_counter() - start
    picture(found, output, tolerance, str(model.spec["name"]))
    print(report(found, model.spec, tolerance))
    walks = found.predicted.numel() * arguments.walks
    print(f"{walks:,} walks, {seconds:.1f} s; picture: {output}")
    if tolerance is None:
        return 0
    return 0 if found.verdict(tolerance) == "within" else 1


def _existing(folder: Path) -> Path:
    """Return the first of a folder and those above it that exists."""
    return folder if folder.exists() or folder == folder.parent else _existing(folder.parent)


def report(found: Verification, spec: dict, tolerance: float | None) -> str:
    """Return what was found, in lines."""
    share = f"{100 * found.confidence:g} %"
    lines = [
        f"{spec['name']}: {len(found.predicted)} problems, {found.predicted.shape[1]} points each",
        f"relative L2 error     {found.rel_l2}   {share} confidence",
        f"                      {DEFINITION}",
        f"root mean square      {found.rms}",
        *recorded(spec),
    ]
    if found.worst:
        lines.append("worst points, walked to again:")
        for w in found.worst:
            place = ", ".join(f"{v:.3f}" for v in w.point[:3]) + (", …" if len(w.point) > 3 else "")
            lines.append(
                f"  problem {w.problem:>4} ({place})  model {w.predicted:+.4f}  "
                f"walks {w.estimate:+.4f} ± {w.standard_error:.4f}"
            )
    if tolerance is not None:
        said = {
            "within": f"within {tolerance:g}: the whole interval lies below it",
            "beyond": f"beyond {tolerance:g}: the whole interval lies above it",
            "undecided": f"undecided: the interval contains {tolerance:g}; "
            "raise --problems or --walks",
        }
        lines.append(f"verdict: {said[found.verdict(tolerance)]}")
    return "\n".join(lines)


def recorded(spec: dict) -> list[str]:
    """Return the errors that a model's card records, with what each of them is."""
    same, other = (spec["metrics"].get(key) for key in (RECORD, "test/rel_l2"))
    lines = []
    if same is not None:
        lines.append(f"recorded              {same:.3g}   the same, against exact solutions")
    if other is not None:
        lines.append(
            f"another definition    {other:.3g}   test/rel_l2: mean over test problems, "
            "possibly of another law, of the relative error of each"
        )
    return lines


def picture(found: Verification, path: Path, tolerance: float | None, name: str) -> None:
    """Draw the model's deviations from the walks, and the interval beside the tolerance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    u = found.estimate.mean.cpu().numpy().ravel()
    off = found.predicted.cpu().numpy().ravel() - u
    bar = 2 * found.estimate.standard_error.cpu().numpy().ravel()
    every = slice(None, None, max(1, len(u) // 1500))
    style = {"fmt": "o", "markersize": 2.5, "linewidth": 0.6, "alpha": 0.5, "color": "#1f4e79"}
    left.errorbar(u[every], off[every], yerr=bar[every], **style)
    left.axhline(0, color="#7f7f7f", linewidth=1)
    left.set_xlabel("solution, by walks")
    left.set_ylabel("model less walks, two standard errors")
    left.set_title(name, fontsize=11)
    rel = found.rel_l2
    right.errorbar([0], [rel.value], [[rel.value - rel.low], [rel.high - rel.value]], fmt="o",
                   capsize=8, color="#1f4e79")  # fmt: skip
    if tolerance is not None:
        right.axhline(tolerance, color="#c0504d", linestyle="--", label=f"tolerance {tolerance:g}")
        right.legend(frameon=False)
    right.set_xlim(-1, 1)
    right.set_ylim(0, 1.3 * max(rel.high, tolerance or 0.0))
    right.set_xticks([])
    right.set_ylabel("relative L2 error")
    right.set_title(f"{100 * found.confidence:g} % confidence", fontsize=11)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
