"""What a solve is given, checked and brought into one form before anything is computed.

The unknown gets a layout, `theta` becomes a flat list of tensors, and the user's function is
watched for shapes that do not fit and for problems that mix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sciml.arguments import made, maybe, tensor, text
from sciml.errors import InvalidArgument, InvalidType
from sciml.shapes import check_tensor
from sciml.solvers.derivatives.implicit import Implicit
from sciml.solvers.derivatives.reversible import Reversible
from sciml.solvers.derivatives.unrolled import Backprop, Phantom
from sciml.solvers.layout import Layout, Rows, without_mixing
from sciml.solvers.problem import ProblemKind, Task
from sciml.solvers.solution import Outcome

Solver = Callable[[Task, Tensor], Outcome | Tensor]
# Rules for a solution have `attach`; rules for the iteration that found it have `iterate`.
Adjoint = Implicit | Phantom | Backprop | Reversible


def _rule(value: Any) -> str:
    what = "a derivative rule, as Implicit()"
    return made("attach", what=what)(value) and made("iterate", what=what)(value)


def _arguments(value: Any) -> str:
    return "" if isinstance(value, tuple | list) else "a tuple of arguments: theta=(a,)"


# What every solve is given, for `sciml.arguments.takes`.
PARTS = {
    "theta": _arguments,
    "on_failure": text,  # which words, `check_policy` says
    "adjoint": maybe(_rule),
    "layout": maybe(made("pack", "norm", what="Rows(n) or Segments(index, count)")),
}


def layout_for(x: Tensor, layout: Layout | None) -> Layout:
    """Return the layout after checking that `x` fits.

    Raises:
        InvalidType: If `x` is not real.
        InvalidArgument: If `x` is a vector and nothing says what its entries are.
    """
    if not x.is_floating_point():
        raise InvalidType(f"an unknown of dtype {x.dtype}", "a real floating-point dtype")
    if wanted := tensor(x):
        raise InvalidType(f"an unknown on {x.device}, {x.layout}", wanted)
    if layout is None:
        if x.dim() == 1:
            raise InvalidArgument(
                f"an unknown of shape {tuple(x.shape)} without a layout",
                "(B, n)",
                "Type layout=Rows(0) for one problem with n unknowns, or layout=Rows(1) for n "
                "problems with one unknown",
            )
        layout = Rows(min(x.dim(), 1))
    layout.check(x)
    return layout


def flat_theta(
    function: Callable[..., Any], theta: Sequence[Any]
) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    """Return the function of x and the tensors in theta, and these tensors."""
    if all(isinstance(t, Tensor) for t in theta):
        return function, tuple(theta)
    leaves, tree = pytree.tree_flatten(tuple(theta))
    tensor = [isinstance(leaf, Tensor) for leaf in leaves]
    rest = [None if is_tensor else leaf for leaf, is_tensor in zip(leaves, tensor, strict=True)]

    def bound(x: Any, *given: Tensor) -> Any:
        given_iter = iter(given)
        full = [
            next(given_iter) if is_tensor else leaf
            for leaf, is_tensor in zip(rest, tensor, strict=True)
        ]
        return function(x, *pytree.tree_unflatten(full, tree))

    return bound, tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))


def lifted(t: Tensor) -> Tensor:
    """Return a tensor of half precision in float32, any other as it is."""
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def checked(
    kind: ProblemKind, function: Callable[..., Tensor], layout: Layout, title: str
) -> Callable[..., Tensor]:
    """Return the function with a check of what it returns, before anything broadcasts.

    The first call is watched for numbers of one problem combined with those of all others.
    """
    fresh = True

    def tested(x: Tensor, *theta: Tensor) -> Tensor:
        nonlocal fresh
        watch, fresh = fresh, False
        with (
            without_mixing(f"'{title}' of a {kind} problem", x, layout) if watch else nullcontext()
        ):
            y = function(x, *theta)
        check_tensor(f"'{title}' of a {kind} problem", y, "a tensor")
        got, given = tuple(y.shape), tuple(x.shape)
        problems = tuple(layout.problems(x))
        if kind in ("root", "fixed_point") and got != given:
            raise InvalidArgument(
                f"'{title}', a function that maps shape {given} to {got}",
                "as many equations as unknowns",
                "Type least_squares for more residuals than unknowns",
            )
        if kind == "minimise" and got != problems:
            raise InvalidArgument(
                f"'{title}', an objective of shape {got} for {layout!r} and unknowns {given}",
                f"one number per problem, {problems}",
                "Sum over the unknowns of a problem and over nothing else",
            )
        if kind == "least_squares" and isinstance(layout, Rows) and got[: layout.ndim] != problems:
            raise InvalidArgument(
                f"'{title}', residuals of shape {got} for {layout!r} and unknowns {given}",
                f"shape ({', '.join(map(str, problems))}, ...)",
            )
        return y

    return tested
