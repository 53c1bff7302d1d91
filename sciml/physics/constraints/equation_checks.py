"""Checks of what an equation returns: shapes, rows, weights, and that formulas do not mix points.

Equations are written by users as well (`ConstrainedEquation`). A feature of another shape would be
indexed where it has no entries, a field of another shape assembled without a word, and a formula
that mixes points, or features that are not linear, give a Jacobian that belongs to other rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.arguments import shown
from sciml.errors import InvalidArgument
from sciml.physics.constraints.equation import ConstrainedEquation
from sciml.physics.constraints.points import ExpertPoints

ALIKE = 1e-6  # relative difference of what must be equal, far above round-off


def checked(
    equation: ConstrainedEquation, method: str, shape: Sequence[int], *given: object
) -> Tensor:
    """Return `equation.method(*given)`, a tensor of this shape.

    Raises:
        InvalidArgument: If it is none.
    """
    out = getattr(equation, method)(*given)
    if not isinstance(out, Tensor) or tuple(out.shape) != tuple(shape):
        raise _other(equation, method, shown(out), f"a tensor of shape {tuple(shape)}")
    return out


def features(
    equation: ConstrainedEquation, field: Tensor, inputs: Tensor, data: bool
) -> list[Tensor]:
    """Return the features of a field, tensors of its shape.

    Raises:
        InvalidArgument: If they are none.
    """
    out = equation.features(field, inputs, data=data)
    if not isinstance(out, list | tuple) or not out:
        raise _other(equation, "features", shown(out), "a list of tensors, one per feature")
    for entry in out:
        if not isinstance(entry, Tensor) or entry.shape != field.shape:
            what = f"tensors of the field's shape {tuple(field.shape)}"
            raise _other(equation, "features", f"a list with {shown(entry)}", what)
    return list(out)


def conditions(equation: ConstrainedEquation, field: Tensor, inputs: Tensor, data: bool) -> Tensor:
    """Return the conditions of a field `(B, ..., *grid)` as rows `(B, ..., k)`.

    Raises:
        InvalidArgument: If they are none.
    """
    out = equation.conditions(field, inputs, data=data)
    lead = tuple(field.shape[: field.dim() - len(equation.axes)])
    if not isinstance(out, Tensor) or tuple(out.shape[:-1]) != lead or not out.dim():
        wanted = f"rows of shape ({', '.join(map(str, lead))}, k), k for each field"
        raise _other(equation, "conditions", shown(out), wanted)
    return out


def checked_over_grid(equation: ConstrainedEquation, method: str, sizes: Sequence[int]) -> Tensor:
    """Return `weight` or `shared` over a grid.

    Raises:
        InvalidArgument: If it is none, and for weights that are negative or not finite.
    """
    out = checked(equation, method, sizes, tuple(sizes))
    if method == "shared" and out.dtype != torch.bool:
        raise _other(equation, method, shown(out), "booleans")
    if method == "weight" and not bool((out.isfinite() & (out >= 0)).all()):
        raise _other(equation, method, "negative numbers or NaN", "zero or positive weights")
    return out


@torch.no_grad()
def check_structure(
    equation: ConstrainedEquation, columns: Tensor, offset: Tensor, inputs: Tensor
) -> None:
    """Refuse features that are not affine, and a formula that mixes the points.

    Args:
        equation: What is imposed.
        columns: `(B, N, *grid)`, finite.
        offset: `(B, *grid)`.
        inputs: As the problem samples them.

    Raises:
        InvalidArgument: Naming the method.
    """
    one, two = columns[:1, 0], columns[:1, -1]
    inputs = inputs[:1]
    base = features(equation, offset[:1], inputs, data=True)
    parts = [features(equation, f, inputs, data=False) for f in (one, two)]
    both = features(equation, offset[:1] + one - 2 * two, inputs, data=True)
    if len({len(base), len(parts[0])}) != 1:
        found = f"{len(base)} tensors with data=True, {len(parts[0])} with data=False"
        raise _other(equation, "features", found, "as many")
    for whole, rest, first, second in zip(both, base, *parts, strict=True):
        gap = (whole - rest - first + 2 * second).abs().max()
        size = max(float(t.abs().max()) for t in (whole, rest, first, second))
        if float(gap) > ALIKE * size:
            raise _other(
                equation, "features", "what is not affine in the field",
                "f(u + v, data=True) = f(u, data=True) + f(v, data=False): products of features "
                "belong into `formula`",
            )  # fmt: skip
    sizes = tuple(columns.shape[2:])
    aux = [a[:1] for a in equation.aux(inputs, sizes)]
    for a in aux:
        if tuple(a.shape) != (1, *sizes):
            raise _other(equation, "aux", shown(a), f"tensors of shape {(len(offset), *sizes)}")
    values = [v.flatten(1) for v in both]
    aux = [a.flatten(1) for a in aux]
    whole = equation.formula(values, aux)
    if isinstance(whole, Tensor) and whole.shape == values[0].shape:  # else the rows will say so
        half = slice(0, max(values[0].shape[1] // 2, 1))
        part = equation.formula([v[:, half] for v in values], [a[:, half] for a in aux])
        same = isinstance(part, Tensor) and part.shape == values[0][:, half].shape
        if not same or float((part - whole[:, half]).abs().max()) > ALIKE * float(
            whole.abs().max()
        ):
            raise _other(
                equation, "formula", "residuals that change when other points are left out",
                "one residual per point, of the values at that point alone",
            )  # fmt: skip


def check_basis(equation: ConstrainedEquation, basis: Tensor, inputs: Tensor) -> None:
    """Refuse basis functions `(B, N, *grid)` and inputs that are not on the equation's grid.

    Raises:
        InvalidArgument: With the shapes that fit.
    """
    axes, sizes = equation.axes, equation.sizes
    wanted = ["T" if a == "t" else n for a, n in zip(axes, sizes, strict=True)]
    space = tuple(n for n in wanted if n != "T")
    fits = basis.dim() == 2 + len(axes)
    fits = fits and all(w in ("T", n) for w, n in zip(wanted, basis.shape[2:], strict=True))
    if not fits or tuple(inputs.shape[2:]) != space:
        raise InvalidArgument(
            f"basis functions of shape {tuple(basis.shape)} with inputs of shape "
            f"{tuple(inputs.shape)}",
            f"(B, N, {', '.join(map(str, wanted))}) and (B, {equation.in_channels}, "
            f"{', '.join(map(str, space))})",
            "An equation belongs to its grid in space: make it for the problem on yours",
        )
    if not basis.shape[1]:
        raise InvalidArgument("no basis functions", "at least one", "Type network.functions=16")
    if len(basis) != len(inputs) or inputs.shape[1] != equation.in_channels:
        raise InvalidArgument(
            f"inputs of shape {tuple(inputs.shape)} for {len(basis)} samples",
            f"({len(basis)}, {equation.in_channels}, ...)",
        )


def check_field(equation: ConstrainedEquation, value: Tensor, inputs: Tensor) -> None:
    """Refuse fields `(B, *grid)` and inputs that are not on the equation's grid.

    Raises:
        InvalidArgument: With the shapes that fit.
    """
    pairs = list(zip(equation.axes, equation.sizes, strict=True))
    space = tuple(n for axis, n in pairs if axis != "t")
    there = tuple(value.shape[1 + len(pairs) - len(space) :])
    fits = value.dim() == 1 + len(pairs) and there == space
    if not fits or len(inputs) != len(value) or tuple(inputs.shape[2:]) != space:
        wanted = ", ".join("T" if axis == "t" else str(n) for axis, n in pairs)
        raise InvalidArgument(
            f"a field of shape {tuple(value.shape)} with inputs of shape {tuple(inputs.shape)}",
            f"(B, {wanted}) and (B, {equation.in_channels}, {', '.join(map(str, space))})",
        )


def check_rows(points: ExpertPoints, conditions: int, functions: int) -> None:
    """Refuse experts that have fewer rows than functions: their weights were arbitrary.

    Raises:
        InvalidArgument: With what to type.
    """
    least = min(points.counts) + conditions
    if least < functions:
        raise InvalidArgument(
            f"an expert with {least} rows for {functions} basis functions",
            "at least as many rows (points and conditions) as functions",
            "Type more constraint.points, fewer experts, or fewer network.functions",
        )


def _other(equation: object, method: str, came: str, wanted: str) -> InvalidArgument:
    return InvalidArgument(f"{type(equation).__name__}.{method}() returned {came}", wanted)
