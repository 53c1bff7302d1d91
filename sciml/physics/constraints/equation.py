"""The interface of equations that are imposed as hard constraints.

The layer looks for weights w such that u = offset + sum_n w_n column_n fulfils the equation, which
is a formula of a few linear features of u, point by point
(`sciml.solvers.nonlinear.pointwise_least_squares`). Features and conditions are *affine* in u where
boundary data enter, so each method that takes a field also takes `data`: with data=False all data
count as zero and the map is linear. Applied so to the columns it gives the matrices, applied with
data=True to the offset it gives the rest.

Fields are `(B, *grid)`, basis functions `(B, N, *grid)`; time is the first axis of the grid where
there is one and may have more or fewer levels than the problem has: only the step counts. Inputs
are those that the problem samples, `(B, C, *space)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor


class ConstrainedEquation(ABC):
    """An equation with its initial and boundary conditions, ready to be imposed.

    Attributes:
        axes: Names of the grid's axes, "t" first where the equation has a time.
        sizes: Points of the grid along them.
        periodic: Which axes are periodic.
        in_channels: Number of input fields, C.
        linear: Whether the formula is affine in its values: one factorisation then solves.
        picard: Whether `frozen` gives a start.

    Example:
        >>> from sciml.physics.constraints import ConstrainedEquation
        >>> class Exponential(ConstrainedEquation):  # u_t + u = 0 on 11 times up to 1
        ...     axes, sizes, periodic, linear = ("t",), (11,), (False,), True
        ...     def features(self, field, inputs, *, data):
        ...         return [field, field.diff(dim=-1, append=field[..., -1:]) * 10]
        ...     def formula(self, values, aux):
        ...         return values[1] + values[0]
        >>> Exponential().linear, Exponential().axes
        (True, ('t',))
    """

    axes: tuple[str, ...]
    sizes: tuple[int, ...]
    periodic: tuple[bool, ...]
    in_channels: int = 1
    linear: bool = False
    picard: bool = False

    # --- the unknown ----------------------------------------------------------------------------
    def columns(self, basis: Tensor, inputs: Tensor) -> Tensor:
        """Return the functions that the weights multiply, from those of the network."""
        return basis

    def offset(self, basis: Tensor, inputs: Tensor) -> Tensor:
        """Return the part of u `(B, *grid)` that no weight multiplies."""
        return basis.new_zeros(len(basis), *basis.shape[2:])

    def assembled(self, value: Tensor) -> Tensor:
        """Return the field of all experts together with what only the whole of it can fulfil."""
        return value

    # --- the equation ---------------------------------------------------------------------------
    @abstractmethod
    def features(self, field: Tensor, inputs: Tensor, *, data: bool) -> list[Tensor]:
        """Return what the formula needs of a field `(B, ..., *grid)`, each of the field's shape."""

    @abstractmethod
    def formula(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        """Return the residual, point by point.

        Args:
            values: The features at some points.
            aux: `aux` at the same points.
        """

    def aux(self, inputs: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Return what the formula needs beside, each `(B, *sizes)`."""
        return []

    def frozen(
        self, values: Sequence[Tensor], at: Sequence[Tensor], aux: Sequence[Tensor]
    ) -> Tensor:
        """Return the formula made affine in `values`, coefficients taken `at` earlier ones.

        Repeated, this is Picard's iteration, which starts the solver where `picard` says so.
        """
        return self.formula(values, aux)

    def weight(self, sizes: Sequence[int]) -> Tensor:
        """Return the weight of the equation at every point of the grid, zero for no row there."""
        return torch.ones(*sizes, dtype=torch.float64)

    def shared(self, sizes: Sequence[int]) -> Tensor:
        """Return at which points every expert imposes the equation, not only the block's own."""
        return torch.zeros(*sizes, dtype=torch.bool)

    # --- the conditions -------------------------------------------------------------------------
    def conditions(self, field: Tensor, inputs: Tensor, *, data: bool) -> Tensor:
        """Return initial and boundary conditions as residuals `(B, ..., k)`, affine in the field.

        Every expert imposes all of them. They are weighed by the equation; k may be zero.
        """
        return field.new_zeros(*field.shape[: field.dim() - len(self.axes)], 0)

    # --- the network ----------------------------------------------------------------------------
    def channels(self, inputs: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the inputs as fields over the grid `(B, C, *sizes)`, repeated in time."""
        return over_grid(inputs, sizes)

    def after(self, value: Tensor, inputs: Tensor) -> Tensor:
        """Return the inputs of the problem that begins where `value` `(B, *grid)` ends.

        The state is the first channel; what else an instance is given stays.
        """
        return torch.cat([value[:, -1:].to(inputs.dtype), inputs[:, 1:]], 1)


def over_grid(inputs: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return `(B, C, *space)` as `(B, C, *sizes)`, repeated along the axes in front of space."""
    missing = len(sizes) - (inputs.dim() - 2)
    count, channels, *space = inputs.shape
    return inputs.reshape(count, channels, *[1] * missing, *space).expand(count, channels, *sizes)


def per_field(value: Tensor, field: Tensor) -> Tensor:
    """Return `(B, *shape)` with axes of size 1 behind B, to go with a field `(B, ..., *shape)`."""
    return value.reshape(len(value), *[1] * (field.dim() - value.dim()), *value.shape[1:])
