"""Data and coefficients of a problem as functions of an operator's coordinates."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sciml.physics.elliptic.elliptic_problem import ScalarField
from sciml.physics.geometry import Similar


@dataclass(frozen=True)
class MovedField:
    """A field in other coordinates, times a constant of each domain.

    Attributes:
        field: Of the original coordinates.
        frame: The domains in both.
        factor: `(B,)`.
        far: Whether the original coordinates need float64.
    """

    field: ScalarField
    frame: Similar
    factor: Tensor
    far: bool

    def __call__(self, y: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `y (d, N)`, in the type of y."""
        return (self.field(self._at(y, i), i) * self.frame.pick(self.factor, y.double(), i)).to(y)

    def _at(self, y: Tensor, i: Tensor) -> Tensor:
        x = self.frame.original(y, i)
        return x if self.far else x.to(y)


class MovedDiffusion(MovedField):
    """A diffusion with the gradient of its logarithm."""

    def log_gradient(self, y: Tensor, i: Tensor) -> Tensor:
        """Return the gradient of the logarithm `(d, N)` along y."""
        slope = self.field.log_gradient(self._at(y, i), i)
        return (slope * self.frame.pick(self.frame.size, y.double(), i)).to(y)
