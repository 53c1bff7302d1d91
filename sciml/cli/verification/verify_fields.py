"""`sciml verify` for operators on people's own files: against the equation that training named."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from sciml.errors import PretrainedError
from sciml.pretrained.judging.field_operator import FieldVerification, fresh_inputs, verify_fields
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator


def run(model: PretrainedOperator, arguments: argparse.Namespace, output: Path) -> int:
    """Verify, print and draw; return the exit code.

    Args:
        model: An operator between fields.
        arguments: Of `sciml verify`: problems, seed and tolerance are read.
        output: The picture.
    """
    given, target, where = _samples(model, arguments.problems, arguments.seed)
    found = verify_fields(model, given, target)
    print(report(found, model.spec, where, arguments.tolerance))
    picture(found, output, arguments.tolerance, str(model.spec["name"]))
    print(f"picture: {output}")
    within = arguments.tolerance is None or found.error() <= arguments.tolerance
    return 0 if within else 1


def _samples(
    model: PretrainedOperator, count: int, seed: int
) -> tuple[dict[str, Tensor], Tensor | None, str]:
    """Return inputs and solutions of the test part of the file, else inputs that are drawn."""
    recipe = dict(model.spec["data"].get("recipe") or {})
    path = recipe.get("path")
    if isinstance(path, str) and Path(path).exists():
        from sciml.data.field_files import FieldFiles

        for key in ("_target_", "coarse", "symmetries"):  # a folder names no code to run
            recipe.pop(key, None)
        try:
            files = FieldFiles(**recipe)
        except TypeError as error:
            raise PretrainedError(
                f"data.recipe of model.json: {error}", "settings of data"
            ) from error
        given, target = files.known("test", count)
        return given, target, f"test samples of {path}"
    draw = torch.Generator().manual_seed(seed)
    return fresh_inputs(model, count, draw), None, "samples drawn anew, without their file"


def report(found: FieldVerification, spec: dict, where: str, tolerance: float | None) -> str:
    """Return what was found, in lines."""
    lines = [
        f"{spec['name']}: {len(found.to_solver)} {where}",
        "relative L2 error     |a - b|_2 / |b|_2 of every sample: mean, largest",
        _line("model to solver", found.to_solver, f"by {found.problem}"),
    ]
    if found.to_data is not None:
        lines.append(_line("model to data", found.to_data))
        lines.append(_line("solver to data", found.solver_to_data))
    if found.residual is not None:
        lines.append(
            f"residual              mean {found.residual.mean():.3e}; the solver's own "
            f"{found.residual_of_solver.mean():.3e}"
        )
    value = spec["metrics"].get("test/rel_l2")
    if value is not None:
        lines.append(f"recorded              test/rel_l2 = {value:.3e}, against the data")
    if tolerance is not None:
        word = "within" if found.error() <= tolerance else "beyond"
        against = "data" if found.coarse and found.to_data is not None else "solver"
        lines.append(f"verdict: {word} {tolerance:g}: the mean error against the {against}")
    return "\n".join(lines)


def _line(name: str, errors: Tensor, more: str = "") -> str:
    return f"{name:<20}  {errors.mean():.3e}, {errors.max():.3e}  {more}".rstrip()


def picture(found: FieldVerification, file: Path, tolerance: float | None, name: str) -> None:
    """Draw the errors of all samples in order of their size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    curves = [("model to solver", found.to_solver, "#0072B2", "-"),
              ("model to data", found.to_data, "#D55E00", "--"),
              ("solver to data", found.solver_to_data, "#009E73", ":")]  # fmt: skip
    for label, errors, colour, style in curves:
        if errors is not None:
            axis.semilogy(errors.sort().values.numpy(), style, color=colour, label=label)
    if tolerance is not None:
        axis.axhline(tolerance, color="#000000", linewidth=1, label=f"tolerance {tolerance:g}")
    axis.set_xlabel("samples, in order of their error")
    axis.set_ylabel("relative L2 error")
    axis.set_title(f"{name}: against {found.problem}", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
