"""Elliptic boundary value problems whose data are functions of points and domains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.arguments import either, maybe, real, shown, tensor
from sciml.errors import InvalidArgument, InvalidType
from sciml.shapes import check_call, check_returned, no_outer_products

# f(x, i): x (d, N) coordinates first, i (N,) the domain of each column; returns (N,).
ScalarField = Callable[[Tensor, Tensor], Tensor]

CONSTANT = maybe(either(real, tensor))  # what stands where a field may be a constant


class CheckedField:
    """A field of a user, whose values are compared with the number of points at every call.

    A plain number, or a tensor without axes, stands for a constant.

    Args:
        name: Title of the field in messages.
        function: `(x (d, N), i (N,), ...) -> (N,)`.

    Raises:
        InvalidArgument: When called, if the function returns another shape than `(N,)`.
        InvalidType: When called, if it returns no real tensor.
    """

    def __init__(self, name: str, function: ScalarField) -> None:
        self.name, self.function = name, function
        called = ("x", "i", "n") if name.endswith(".flux") else ("x", "i")
        check_call(name, function, f"({', '.join(called)})", *called)
        self._watched = False

    def __getattr__(self, name: str):
        """Return what the function carries beside its values, such as closed forms."""
        if name.startswith("__") or name == "function":  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.function, name)

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return the field at the points `(N,)`."""
        n = x.shape[1]
        if self._watched or n < 2 or torch.compiler.is_compiling():
            value = self.function(x, *others)
        else:
            self._watched = True
            with no_outer_products(self.name, n):
                value = self.function(x, *others)
        if isinstance(value, int | float):
            return torch.full_like(x[0], value)
        if isinstance(value, Tensor) and value.dim() == 0:
            value = value.expand(n)
        what = "one number per point: coordinates come first, x[0] is the first one of all points"
        return check_returned(self.name, value, (n,), like=x, what=what)


def check_fields(problem: object, *names: str, constant: Sequence[str] = ()) -> None:
    """Put the check around the fields of a problem, a frozen dataclass.

    Args:
        problem: Gets the checked fields.
        names: Fields that are functions, or None.
        constant: Fields that may be numbers or tensors as well.

    Raises:
        InvalidType: For what is neither.
    """
    for name in (*names, *constant):
        field = getattr(problem, name)
        title = f"{type(problem).__name__}.{name}"
        if callable(field):
            if not isinstance(field, CheckedField):
                object.__setattr__(problem, name, CheckedField(title, field))
        elif name in constant and (wanted := CONSTANT(field)):
            raise InvalidType(f"{title} is {shown(field)}", f"a function of points, {wanted}")
        elif name in names and (field is not None or name == "boundary"):
            raise InvalidType(
                f"{title} of type {type(field).__name__}",
                "a function of points (d, N) and domains (N,)",
                f"Write {name}=lambda x, i: torch.zeros_like(x[0])",
            )


@dataclass(frozen=True)
class Dirichlet:
    """`div(alpha grad u) - sigma u = -f` with `u = g` on the boundary, for B domains.

    Fields are functions `(x (d, N), i (N,)) -> (N,)` of points, coordinates first, and of the
    domain each belongs to.

    Attributes:
        boundary: g.
        source: f, or None for 0.
        screening: sigma: None for 0, a number or `(B,)` of constants, not negative, or a field.
        diffusion: alpha, a positive field, or None for 1.
        reduced: sigma' in closed form; by automatic differentiation of `diffusion` if None.
        bound: s of delta tracking, a number or `(B,)`; found from random points if None.
    """

    boundary: ScalarField
    source: ScalarField | None = None
    screening: float | Tensor | ScalarField | None = None
    diffusion: ScalarField | None = None
    reduced: ScalarField | None = None
    bound: float | Tensor | None = None

    def __post_init__(self) -> None:
        """Have the fields checked whenever they are called.

        Raises:
            InvalidType: For a boundary, source, diffusion or reduced that is no function.
            InvalidArgument: For a `reduced` that nothing would read.
        """
        if self.reduced is not None and self.diffusion is None and not callable(self.screening):
            raise InvalidArgument(
                "Dirichlet.reduced with constant coefficients, where nothing reads it",
                "a diffusion, or a screening that is a function",
                "Leave reduced=None",
            )
        fields = ("boundary", "source", "diffusion", "reduced")
        check_fields(self, *fields, constant=("screening",))
        if wanted := CONSTANT(self.bound):
            raise InvalidType(f"Dirichlet.bound is {shown(self.bound)}", wanted)
