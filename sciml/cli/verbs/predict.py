"""`sciml predict`: a trained model on a file of points, no training code imported."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import torch

from sciml.cli.verbs.argument_types import LARGEST_SEED, whole
from sciml.cli.verbs.point_files import UNREADABLE, read_arrays, read_points, write_fields
from sciml.cli.verbs.predict_clouds import predict_clouds
from sciml.cli.verbs.predict_fields import FieldRequest, predict_fields
from sciml.errors import InvalidArgument, SciMLError, SciMLWarning
from sciml.pretrained import PretrainedOperator, load_pretrained

# What torch and numpy raise on inputs that a network cannot take.
UNFIT = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)

EXAMPLES = """examples:
  sciml predict runs/pinn_hjb/2026-01-31_12-00-00 points.npz -o out.npz
  sciml predict my_model/ points.csv -o out.csv --no-gradient
  sciml predict wos_poisson2d input.npz -o out.npz --correct 256
  sciml predict runs/fno/2026-01-31_12-00-00 fields.h5 -o out.npz  # own data
  sciml predict runs/fno/2026-01-31_12-00-00 first.npz -o out.npz --rollout 50

input:  .npz with the arrays that the model's card lists. For the solution of an equation these are
        x (N, d) and, in time, t (N, 1), (N,) or one number; there a .csv will do as well, one point
        per line, the time in a column headed t (without a header: the last)
output: the outputs that the card lists, in its units

--correct W, for linear elliptic equations: value is then what W walks on spheres from every point
find, without bias whatever the model does, standard_error its error bar, and model what the model
says. Few walks may be noisier than the model is wrong: compare the two.
"""


def main(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: Arguments after `sciml predict`.

    Returns:
        Exit code: 0, or 2 after one line on stderr that says what to change.
    """
    parser = argparse.ArgumentParser(
        prog="sciml predict",
        description="Evaluate a trained model and its gradient on a file of points.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="PATH", help="pretrained folder, run folder or name")
    parser.add_argument("input", type=Path, help="points, .npz or .csv")
    parser.add_argument("-o", "--output", type=Path, help="default: INPUT_prediction.npz")
    parser.add_argument("--no-gradient", action="store_true", help="value only")
    parser.add_argument(
        "--rollout", type=whole(1, 10**6), metavar="N", help="N states of a trajectory"
    )
    parser.add_argument("--samples", type=whole(1), help="first samples of a file of fields only")
    parser.add_argument("--chunk", type=whole(1), help="points evaluated at once")
    parser.add_argument(
        "--correct", type=whole(0, 10**7), default=0, metavar="W", help="walks per point (0)"
    )
    parser.add_argument("--seed", type=whole(0, LARGEST_SEED), default=0, help="of these walks (0)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed help or what is wrong
        return int(stop.code or 0)
    with show_warnings("sciml predict"):
        try:
            print(_predict(arguments))
        except BrokenPipeError:  # `| head`: said by sciml.cli.main
            raise
        except (SciMLError, OSError) as error:
            print(f"sciml predict: {error}", file=sys.stderr)
            return 2
    return 0


def _predict(arguments: argparse.Namespace) -> str:
    if not arguments.input.name:
        raise InvalidArgument(f"input {arguments.input}", "a file name ending in .npz or .csv")
    output = arguments.output or arguments.input.with_name(f"{arguments.input.stem}_prediction.npz")
    if output.suffix not in (".npz", ".csv"):
        raise InvalidArgument(f"output {output}", "a file name ending in .npz or .csv")
    if arguments.input.exists() and output.exists() and output.samefile(arguments.input):
        raise InvalidArgument(f"output {output}, which is the input", "another file name")
    if arguments.correct and arguments.correct < 2:
        raise InvalidArgument(f"--correct {arguments.correct}", "at least 2 walks, or 0 for none")
    model = load_pretrained(arguments.model, device=device_of(arguments.device))
    if isinstance(model, PretrainedOperator):
        return _predict_operator(model, arguments, output)
    x, t = read_points(arguments.input, model.time_dependent, model.dim)
    with evaluating(arguments.input):
        found = model.predict(
            x,
            t,
            gradient=not arguments.no_gradient,
            chunk=arguments.chunk,
            correct=arguments.correct,
            seed=arguments.seed,
        )
    write_fields(output, {name: value.numpy() for name, value in found.items()})
    return f"{len(x)} points, {', '.join(found)} -> {output}"


def _predict_operator(
    model: PretrainedOperator, arguments: argparse.Namespace, output: Path
) -> str:
    path = arguments.input
    if output.suffix != ".npz":
        raise InvalidArgument(f"{output} for an operator", "a file name ending in .npz")
    if hasattr(model.network, "fields"):  # trained on people's own files, of any format
        counts = (arguments.samples, arguments.rollout, arguments.chunk)
        return "\n".join(predict_fields(model, FieldRequest(path, output, *counts), evaluating))
    if arguments.rollout:
        raise InvalidArgument(
            f"--rollout {arguments.rollout} for {type(model.network).__name__}",
            "an operator trained on trajectories",
        )
    if hasattr(model.network, "clouds"):  # likewise, on point clouds
        with evaluating(path):
            return "\n".join(predict_clouds(model, path, output, arguments.samples))
    if path.suffix != ".npz":
        raise InvalidArgument(f"{path} for an operator", "a file name ending in .npz")
    if not path.is_file():
        raise InvalidArgument(f"there is no file {path}", f"{list(model.spec['inputs'])} as .npz")
    integers = [k for k, e in model.spec["inputs"].items() if e.get("dtype") == "int"]
    try:
        arrays = read_arrays(path, integers)
    except UNREADABLE as error:
        raise InvalidArgument(f"{path} cannot be read ({error})", "numbers only") from error
    for name in arrays:
        if name not in model.spec["inputs"]:  # a name such as `chunk` is an argument of predict
            raise InvalidArgument(
                f"{path} holds an array {name[:40]!r}",
                f"arrays named {', '.join(model.spec['inputs'])}",
            )
    walks = {"correct": arguments.correct, "seed": arguments.seed} if arguments.correct else {}
    with evaluating(path):
        found = model.predict(**arrays, chunk=arguments.chunk, **walks)
    write_fields(output, {name: value.numpy() for name, value in found.items()})
    return f"{', '.join(f'{k} {tuple(v.shape)}' for k, v in found.items())} -> {output}"


@contextlib.contextmanager
def evaluating(path: Path) -> Iterator[None]:
    """Turn what a network says about inputs that it cannot take into a message.

    Raises:
        InvalidArgument: If torch refuses, for instance grids of a size that a network cannot halve.
    """
    try:
        yield
    except SciMLError:
        raise
    except UNFIT as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InvalidArgument(
            f"the model cannot evaluate {path} ({lines[0][:200]})",
            "inputs of the sizes that its card lists",
        ) from error


def device_of(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        InvalidArgument: If it is not here.
    """
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgument(
            f"--device {name} ({reason})", "cpu, or an accelerator here"
        ) from error
    return device


@contextlib.contextmanager
def show_warnings(verb: str) -> Iterator[None]:
    """Show warnings as lines of a verb while it runs."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print(f"{verb}: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", SciMLWarning)
        warnings.showwarning = show
        yield
