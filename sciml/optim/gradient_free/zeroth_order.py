"""Training from losses alone: what DeepZero, PolyStep and consensus-based optimisation share.

They evaluate the loss of the present batch at many parameter vectors and never ask for a gradient,
so thresholds, rounding, table look-ups and outside programs may sit in the model or in the loss.

Ranks: every rank evaluates every vector on its own samples, and the losses are summed in one
message. The vectors come from generators common to all ranks, so all ranks hold the same weights,
and any number of ranks gives the result of one process on the joined batch. (Dividing the vectors
among the ranks instead would need the whole batch on every rank.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm, total_loss
from sciml.optim.flat import assign, flatten
from sciml.optim.option_ranges import check, parameters_of


class ZerothOrder(CurvatureOptimizer):
    """Base of the methods that use losses alone.

    Args:
        params: Module or parameters; complex ones count as pairs of real numbers.
        defaults: As in `torch.optim.Optimizer`; needs `lr`.
        chunk: Vectors evaluated at once, where the objective has a batched evaluation.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.
    """

    own_gradient = True
    searches = True
    accumulates = False

    def __init__(
        self, params: nn.Module | Iterable[Tensor], defaults: dict[str, Any], *, chunk: int
    ) -> None:
        check(chunk=chunk)
        super().__init__(parameters_of(params, type(self).__name__), defaults)
        self.chunk = chunk
        self._objective: Objective | None = None

    def moved(self, theta: Tensor, objective: Objective) -> Tensor:
        """Return the new parameter vector `(n,)`."""
        raise NotImplementedError

    def observe(self, objective: Objective) -> None:
        """Keep the loss for the coming step; no gradient is taken."""
        self._objective = objective
        objective.forget()

    def direction_step(self) -> None:
        """Move the parameters.

        Raises:
            InvalidArgument: If `update_curvature` was not called for this step.
        """
        if self._objective is None:
            raise InvalidArgument(
                f"{type(self).__name__}.step() without update_curvature()",
                "the loss of the present step",
                "Call optimizer.update_curvature(objective) before every step",
            )
        objective, self._objective = self._objective, None
        assign(self.moved(flatten(self.treated), objective), self.treated)

    def statistics(self) -> dict[str, float]:
        """Return numbers of the last step."""
        return {name: float(value) for name, value in self.numbers.items()}

    def losses(self, points: Tensor, objective: Objective) -> Tensor:
        """Return the global losses `(K,)` at `(K, n)`."""
        return objective.losses(points, self.treated, self.chunk)


def softmin(losses: Tensor, strength: float, *, relative: bool = True) -> Tensor:
    """Return weights proportional to `exp(-strength L)`; losses that are not finite get none.

    Args:
        losses: `(K,)`.
        strength: Inverse temperature.
        relative: Whether losses are measured in their standard deviation. Equal losses, up to
            rounding, then have equal weights.
    """
    finite = losses.isfinite()
    if not finite.any():
        return torch.full_like(losses, 1 / len(losses))
    seen = losses[finite]
    above = losses - seen.min()
    if relative:
        rounding = 1e-12 * seen.abs().max()
        above = above / seen.std(correction=0).clamp_min(rounding.clamp_min(1e-300))
    return torch.where(finite, -strength * above, -torch.inf).softmax(0)


def forward_parallel(
    module: nn.Module, terms: Callable[[], Sequence[LossTerm]]
) -> Callable[[Sequence[Tensor]], Tensor]:
    """Return a batched evaluation for `Objective(..., batched=)`: all variants in one pass.

    Args:
        module: Its trained parameters, in order, are what the optimizer treats.
        terms: The loss terms; calls `module`, in operations that `torch.vmap` knows.
    """
    whole = _Whole(module, terms)
    names = [name for name, p in whole.named_parameters() if p.requires_grad]

    def loss(parameters: list[Tensor]) -> Tensor:
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(whole, values, ())

    # Random numbers inside the loss are the same for all variants, as they are one by one.
    return lambda parameters: torch.vmap(loss, randomness="same")(list(parameters))


class _Whole(nn.Module):
    """A module whose forward pass is the loss, so that `functional_call` reaches it."""

    def __init__(self, module: nn.Module, terms: Callable[[], Sequence[LossTerm]]) -> None:
        super().__init__()
        self.module, self.terms = module, terms

    def forward(self) -> Tensor:
        return total_loss(self.terms())
