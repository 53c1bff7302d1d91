"""What learned preconditioners share: how they see a matrix, and how a solver uses them.

A matrix of `sciml.solvers.linear.Stencil` is handed over as two arrays of the shape of the grid,

    weights   `(N, d, *grid)`: weight of the face between a cell and its lower neighbour, per axis
    shift     `(N, *grid)`: what is on the diagonal beside the faces

and a cell without either is no unknown.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sciml.errors import InvalidArgument
from sciml.solvers.linear import Stencil, StencilPreconditioner, around, build_stencil
from sciml.typed_arguments import typed


def arrays_of(stencil: Stencil) -> tuple[Tensor, Tensor]:
    """Return `weights` and `shift` of a batch of matrices."""
    d = stencil.ndim
    lower = [pad(w, [*[0, 0] * (d - 1 - a), 1, 0]) for a, w in enumerate(stencil.faces)]
    return torch.stack(lower, -d - 1), stencil.shift


def stencil_of(weights: Tensor, shift: Tensor) -> Stencil:
    """Return the matrices that `weights` and `shift` describe.

    Raises:
        InvalidArgument: If the shapes do not fit each other.
    """
    d = shift.dim() - 1
    if weights.shape != (len(shift), d, *shift.shape[1:]):
        raise InvalidArgument(
            f"weights of shape {tuple(weights.shape)} with shift of shape {tuple(shift.shape)}",
            f"weights of shape {(len(shift), d, *shift.shape[1:])}",
            "Type weights, shift = arrays_of(stencil)",
        )
    faces = [weights[:, a].narrow(a + 1, 1, shift.shape[a + 1] - 1) for a in range(d)]
    unknown = around(faces) + shift > 0
    return build_stencil(faces, shift, unknown)


class PreconditionerNetwork(nn.Module):
    """A network q = f(r; A) that stands for the inverse of A, up to a factor.

    Args:
        dim: Axes of the grid, 2 or 3.

    Raises:
        InvalidArgument: For another dimension.

    Example:
        >>> import torch
        >>> from sciml.networks.preconditioners import PreconditionerNetwork
        >>> class Diagonal(PreconditionerNetwork):  # a trained factor of Jacobi's preconditioner
        ...     def __init__(self, dim=2):
        ...         super().__init__(dim)
        ...         self.factor = torch.nn.Parameter(torch.ones(()))
        ...     def prepare(self, stencil):
        ...         return stencil.diagonal
        ...     def directions(self, prepared, residual):
        ...         return self.factor * residual / prepared
        >>> sorted(Diagonal().schema())
        ['inputs', 'outputs']
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim not in (2, 3):
            raise InvalidArgument(f"network.dim={dim}", "2 or 3")
        self.dim = dim

    @abstractmethod
    def prepare(self, stencil: Stencil) -> Any:
        """Return whatever depends on the matrices alone, made once per matrix."""

    def part(self, prepared: Any, places: slice, count: int) -> Any:
        """Return what was prepared for a slice of `count` matrices; here all are alike.

        Args:
            prepared: From `prepare`.
            places: Slice of the first axis of P.
            count: Length of that axis.
        """
        return prepared

    @abstractmethod
    def directions(self, prepared: Any, residual: Tensor) -> Tensor:
        """Return q `(..., N, *grid)` for residuals of that shape."""

    def forward(self, residual: Tensor, weights: Tensor, shift: Tensor) -> Tensor:
        """Return q `(N, *grid)`.

        Args:
            residual: `(N, *grid)`.
            weights: `(N, d, *grid)`, see the module's text.
            shift: `(N, *grid)`.

        Raises:
            InvalidArgument: If the residual does not fit the matrices.
        """
        stencil = stencil_of(weights, shift)
        if residual.shape != shift.shape or stencil.ndim != self.dim:
            raise InvalidArgument(
                f"residuals of shape {tuple(residual.shape)} on {tuple(shift.shape)}",
                f"both of shape (N, {', '.join('xyz'[: self.dim])}), as the network has "
                f"dim={self.dim}",
            )
        return self.directions(self.prepare(stencil), residual)

    def infer(self, residual: Tensor, weights: Tensor, shift: Tensor) -> dict[str, Tensor]:
        """Return the directions as `value`."""
        return {"value": self(residual, weights, shift)}

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return names, shapes and units of what goes in and out.

        Inputs are homogeneous: multiplied by a number they give a multiple of the same direction,
        `weights` and `shift` together.
        """
        axes = ["nx", "ny", "nz"][: self.dim]
        kind = {"unit": "1", "dtype": "float", "homogeneous": True}
        field = {"shape": ["N", *axes], **kind}
        weights = {"shape": ["N", self.dim, *axes], **kind}
        return {
            "inputs": {"residual": field, "weights": weights, "shift": dict(field)},
            "outputs": {"value": {"shape": ["N", *axes], "unit": "1"}},
        }


@typed
class LearnedPreconditioner(StencilPreconditioner):
    """A trained network as the preconditioner of a batch of matrices.

    The network sees the matrix once, when this is made. It computes in the precision of its
    weights, float32 as a rule, whatever the solve computes in.

    Args:
        network: Trained.
        stencil: The matrices.

    Raises:
        InvalidArgument: If the network is one for another dimension.

    Example:
        >>> import torch
        >>> from sciml.networks import LearnedMultigrid
        >>> from sciml.networks.preconditioners import LearnedPreconditioner
        >>> from sciml.solvers.linear import Multigrid, Stencil, guarded
        >>> faces = torch.ones(1, 15, 16), torch.ones(1, 16, 15)
        >>> stencil = Stencil(faces, torch.ones(1, 16, 16), torch.ones(1, 16, 16) > 0)
        >>> learned = LearnedPreconditioner(LearnedMultigrid(), stencil)  # or sciml.load_pretrained
        >>> solver = guarded(learned, Multigrid(stencil))
        >>> stencil.solve(torch.rand(1, 16, 16), linear=solver, on_failure="raise").status.tolist()
        [0]
    """

    def __init__(self, network: PreconditionerNetwork, stencil: Stencil) -> None:
        kind = next(network.parameters()).dtype
        super().__init__(stencil, kind)
        if stencil.ndim != network.dim:
            raise InvalidArgument(
                f"a network for {network.dim}-D and matrices on a grid {tuple(stencil.grid)}",
                f"a grid of {network.dim} axes",
            )
        self.network = network
        with torch.no_grad():
            self.prepared = network.prepare(self.stencil.to(kind))

    def _keep(self, places: slice) -> None:
        self.prepared = self.network.part(self.prepared, places, self.stencil.problems[0])

    def product(self, r: Tensor) -> Tensor:
        """Return q, zero at cells that are no unknowns."""
        return torch.where(self.stencil.unknown, self.network.directions(self.prepared, r), 0.0)
