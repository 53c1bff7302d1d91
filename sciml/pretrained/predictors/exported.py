"""Operators as `torch.export` programs: one file that runs without this library.

    program = sciml.load_pretrained("wos_poisson2d").export()
    torch.export.save(program, "operator.pt2")

    # elsewhere, with torch alone
    program = torch.export.load("operator.pt2").module()
    program(sdf=sdf, boundary=boundary, source=source)["value"]

The number of samples stays free, all other sizes are those of the example. A program checks shapes
only: what `predict` checks and warns of is not part of it.

An exported program is code: `torch.export.load` runs what a `.pt2` file says, and reading one can
run more than the program. Load such files only from people whose programs you would run; a
pretrained folder, which holds data alone, is the form to pass on.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sciml.errors import InvalidArgument, PretrainedError

SAMPLES = 3  # in the example; the program is then tried with others
TOLERANCE = 1e-5  # of the size of the outputs, in single precision


class Inference(nn.Module):
    """A network called by the names of its inputs, as `predict` calls it.

    Args:
        network: Has `infer(**inputs)`.
        names: The inputs that will be given; the exporter reads them off the signature.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network

        def forward(**inputs: Tensor) -> dict[str, Tensor]:
            return self.network.infer(**inputs)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in names]
        forward.__signature__ = inspect.Signature(parameters)
        self.forward = forward


class Traceable(TorchFunctionMode):
    """Replaces what `torch.export` would fix to the number of samples of the example."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`, or a form of it that can be traced."""
        kwargs = kwargs or {}
        if func is torch.gradient:
            return _gradient(*args, **kwargs)
        return func(*args, **kwargs)


def export(
    network: nn.Module, entries: Mapping[str, Mapping], example: Mapping[str, Tensor]
) -> torch.export.ExportedProgram:
    """Return an operator as a program; see the top of this file.

    Args:
        network: The operator's network.
        entries: Its inputs as `model.json` describes them.
        example: Inputs by name, checked; empty for ones on the grid it was trained on.

    Returns:
        The program, which takes its inputs by name and returns the outputs that the card lists.

    Raises:
        InvalidArgument: If the sizes of the inputs are not known, or the operator cannot be
            exported: where it solves equations by iterations whose number depends on the data.
    """
    example = dict(example) or _ones(network, entries)
    free = [name for name in example if entries[name]["shape"][0] == "N"]
    inference = Inference(copy.deepcopy(network), list(example))
    samples = torch.export.Dim("samples", min=1, max=2**20)
    shapes = {name: {0: samples} if name in free else None for name in example}
    given = _repeated(example, free, SAMPLES)
    with torch.no_grad():
        inference(**given)  # fills caches of constants with tensors, which tracing must not do
        try:
            with Traceable():
                program = torch.export.export(
                    inference, (), given, dynamic_shapes=shapes, strict=False
                )
        except Exception as error:  # the exporter has families of its own, and changes them
            raise InvalidArgument(
                f"{type(network).__name__} cannot be exported ({_first_line(error)})",
                "an operator whose steps do not depend on its data",
                "Such operators run in sciml only: use predict",
            ) from error
        _compare(program, inference, example, free)
    return program


def _ones(network: nn.Module, entries: Mapping[str, Mapping]) -> dict[str, Tensor]:
    """Return ones for all inputs, where the network knows the number of nodes of its grid."""
    nodes, found = getattr(network, "nodes", None), {}
    weight = next(network.parameters(), torch.empty(0))
    for name, entry in entries.items():
        letters = [axis for axis in entry["shape"] if isinstance(axis, str) and axis != "N"]
        if letters and (nodes is None or set(letters) - {"H", "W", "D"}):
            raise InvalidArgument(
                f"no example, and {name} has the shape ({', '.join(map(str, entry['shape']))})",
                "inputs of the sizes it is to run with, as for predict",
            )
        sizes = [2 if a == "N" else nodes if isinstance(a, str) else a for a in entry["shape"]]
        kind = torch.int64 if entry.get("dtype") == "int" else weight.dtype.to_real()
        found[name] = torch.ones(sizes, dtype=kind, device=weight.device)
    return found


def _repeated(inputs: Mapping[str, Tensor], free: Sequence[str], n: int) -> dict[str, Tensor]:
    """Return inputs with n samples: theirs, over and over."""

    def rows(value: Tensor) -> Tensor:
        return value[torch.arange(n, device=value.device) % len(value)]

    return {name: rows(v) if name in free else v for name, v in inputs.items()}


def _compare(
    program: torch.export.ExportedProgram,
    network: nn.Module,
    example: Mapping[str, Tensor],
    free: Sequence[str],
) -> None:
    """Refuse a program that does not do what the network does, with other numbers of samples."""
    run = program.module()
    for n in (1, SAMPLES + 2) if free else (1,):
        inputs = _repeated(example, free, n)
        # other values than the ones it was traced with
        inputs = {k: v * 1.25 if v.is_floating_point() else v for k, v in inputs.items()}
        wanted, found = network(**inputs), run(**inputs)
        for name, value in wanted.items():
            scale = float(value.abs().nan_to_num().max()) if value.numel() else 0.0
            tolerance = TOLERANCE * max(scale, 1e-30)
            if not torch.allclose(found[name], value, rtol=0, atol=tolerance, equal_nan=True):
                raise PretrainedError(
                    f"the exported program differs from the operator in '{name}'",
                    f"differences below {tolerance:.1e}",
                    "Its steps depend on its data: use predict",
                )


def _gradient(
    field: Tensor, *, spacing: Sequence[float], dim: Sequence[int], edge_order: int = 1
) -> list[Tensor]:
    """Return `torch.gradient` on a regular grid: central differences, one-sided at the ends."""
    if edge_order != 1:
        raise InvalidArgument(f"edge_order={edge_order}", "1")
    found = []
    for step, axis in zip(spacing, dim, strict=True):
        n = field.shape[axis]
        upper, lower = field.narrow(axis, 2, n - 2), field.narrow(axis, 0, n - 2)
        first = field.narrow(axis, 1, 1) - field.narrow(axis, 0, 1)
        last = field.narrow(axis, n - 1, 1) - field.narrow(axis, n - 2, 1)
        found.append(torch.cat([first / step, (upper - lower) / (2 * step), last / step], axis))
    return found


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
