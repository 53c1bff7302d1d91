"""Reduced bases of solved samples, and interpolation of their coefficients in the inputs.

Proper orthogonal decomposition (POD): the leading right singular vectors of the solutions, one per
row. A family with few parameters has few of them: four of diffusion-sorption's with constant
initial states represent any other one to 1e-5. What no method that is trained for hours should
lose against.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed

LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of the kernel, in median distances


@typed
def pod_modes(solutions: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return orthonormal modes `(rank, ...)` of solutions `(S, ...)`, and all singular values.

    Args:
        solutions: One per row, finite.
        rank: Modes, at most S.

    Raises:
        InvalidArgument: For more modes than solutions, or solutions that are not finite.

    Example:
        >>> import torch
        >>> from sciml.physics.evolution import pod_modes
        >>> solutions = torch.rand(10, 2).double() @ torch.rand(2, 50).double()  # rank 2
        >>> modes, values = pod_modes(solutions, rank=2)
        >>> tuple(modes.shape), bool((values[2:] < 1e-10 * values[0]).all())
        ((2, 50), True)
    """
    if solutions.dim() < 2 or solutions.dtype not in (torch.float32, torch.float64):
        raise InvalidArgument(
            f"solutions of {solutions.dtype}, {tuple(solutions.shape)}",
            "(S, ...) in float32 or float64",
        )
    if not 1 <= rank <= len(solutions):
        raise InvalidArgument(
            f"rank={rank} from {len(solutions)} solutions", f"1 to {len(solutions)} modes"
        )
    if not bool(solutions.isfinite().all()):
        raise InvalidArgument("solutions with NaN or infinity", "solutions that converged")
    _, values, right = torch.linalg.svd(solutions.flatten(1), full_matrices=False)
    return right[:rank].unflatten(1, solutions.shape[1:]), values


@typed
class PODRegression:
    """Interpolates the coefficients of POD modes by kernel ridge regression on the inputs.

    The kernel is Matern's with smoothness 5/2; with the tiny ridge it interpolates. Its length, a
    half to 32 times the median distance between the known inputs, is the one with which they
    predict each other best (leaving one out). Channels count in units of their spread.

    Args:
        inputs: `(S, C, ...)`, those of the solutions.
        solutions: `(S, ...)`.
        rank: Modes.
        spread: Standard deviation of every channel `(C,)`; None takes that of the inputs.
        ridge: On the kernel matrix, whose diagonal is 1.

    Attributes:
        modes: `(rank, ...)`, orthonormal.
        length: Of the kernel.

    Raises:
        InvalidArgument: For more modes than solutions, or other numbers of inputs.

    Source: Rasmussen and Williams 2006, sections 4.2 (kernel) and 5.4.2 (leaving one out).

    Example:
        >>> import torch
        >>> from sciml.physics.evolution import PODRegression
        >>> amplitude = torch.linspace(0.5, 2.0, 10, dtype=torch.float64)[:, None, None]
        >>> x = torch.linspace(0, 1, 20, dtype=torch.float64)
        >>> pod = PODRegression(amplitude, amplitude[:, 0] * torch.sin(torch.pi * x), rank=1)
        >>> found = pod.predict(torch.tensor([[[1.23]]], dtype=torch.float64))
        >>> tuple(found.shape), round((found / torch.sin(torch.pi * x))[0, 10].item(), 2)
        ((1, 20), 1.23)
    """

    def __init__(
        self,
        inputs: Tensor,
        solutions: Tensor,
        rank: int,
        *,
        spread: Tensor | None = None,
        ridge: float = 1e-10,
    ) -> None:
        if inputs.dim() < 2 or solutions.dim() < 2 or not 0 <= ridge < 1:
            raise InvalidArgument(
                f"inputs {tuple(inputs.shape)}, solutions {tuple(solutions.shape)}, ridge={ridge}",
                "(S, C, ...), (S, ...), and a ridge in [0, 1)",
            )
        if len(inputs) != len(solutions):
            raise InvalidArgument(
                f"{len(inputs)} inputs and {len(solutions)} solutions", "an input per solution"
            )
        self.modes, _ = pod_modes(solutions, rank)
        if spread is None:
            spread = inputs.transpose(0, 1).flatten(1).std(1, correction=0)
        self.spread = torch.where(spread > 0, spread, 1.0).to(solutions)
        self.first = inputs[:1]  # whose shape all others have
        self.known, self.solutions = self._points(inputs), solutions
        gap = torch.cdist(self.known, self.known)
        apart = gap[gap > 0]
        median = apart.median() if apart.numel() else gap.new_ones(())
        found = self.project(solutions)
        self.mean = found.mean(0)
        lengths = median * torch.tensor(LENGTHS).to(gap)
        kernels = matern(gap, lengths[:, None, None]) + ridge * torch.eye(len(gap)).to(gap)
        inverses = torch.linalg.inv(kernels)
        weights = inverses @ (found - self.mean)
        # what every solution is missed by if it is left out, without solving again
        missed = weights / inverses.diagonal(dim1=-2, dim2=-1)[..., None]
        best = missed.square().sum((1, 2)).argmin()
        self.length, self.weights = lengths[best], weights[best]

    @typed
    def project(self, solutions: Tensor) -> Tensor:
        """Return the coefficients `(S, rank)` of the best fit to solutions."""
        _like("solutions", solutions, self.modes)
        return solutions.to(self.modes).flatten(1) @ self.modes.flatten(1).T

    @typed
    def predict(self, inputs: Tensor) -> Tensor:
        """Return solutions `(B, ...)` for inputs `(B, C, ...)`."""
        coefficients = self.mean + self._kernel(self._points(inputs)) @ self.weights
        return torch.tensordot(coefficients, self.modes, 1)

    @typed
    def nearest(self, inputs: Tensor) -> Tensor:
        """Return the known solutions `(B, ...)` whose inputs are closest."""
        return self.solutions[torch.cdist(self._points(inputs), self.known).argmin(1)]

    def _points(self, inputs: Tensor) -> Tensor:
        _like("inputs", inputs, self.first)
        spread = self.spread.view(1, -1, *[1] * (inputs.dim() - 2))
        return (inputs.to(self.spread) / spread).flatten(1)

    def _kernel(self, points: Tensor) -> Tensor:
        return matern(torch.cdist(points, self.known), self.length)


def _like(name: str, given: Tensor, known: Tensor) -> None:
    """Refuse rows of another shape than the known ones."""
    if given.dim() < 1 or given.shape[1:] != known.shape[1:]:
        raise InvalidArgument(
            f"{name} of shape {tuple(given.shape)}", f"(B, {', '.join(map(str, known.shape[1:]))})"
        )


def matern(distance: Tensor, length: Tensor) -> Tensor:
    """Return Matern's kernel of smoothness 5/2."""
    r = math.sqrt(5) * distance / length
    return (1 + r + r.square() / 3) * torch.exp(-r)
