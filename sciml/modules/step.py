"""What every training step does with the terms of its loss."""

from __future__ import annotations

from collections.abc import Sequence

from lightning import LightningModule
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.optim.curvature.terms import LossTerm


def step_loss(
    module: LightningModule, terms: Sequence[LossTerm], world: int, *, log: bool = True
) -> Tensor:
    """Return this rank's share of the loss; log it, and its terms if there are several.

    Args:
        module: Keeps the detached terms in `last_terms`, for `sciml.callbacks.finite`.
        terms: Terms of the loss, with distinct names.
        world: Number of ranks.
        log: Whether to log; a small network steps in the time that logging takes.

    Raises:
        InvalidArgument: For two terms of one name.
    """
    parts = {term.name: term.loss(world) for term in terms}
    if len(parts) < len(terms):
        raise InvalidArgument(
            f"loss terms named {[term.name for term in terms]}",
            "distinct names: of several with one name, only the last would count",
        )
    loss = sum(parts.values())
    module.last_terms = {name: part.detach() for name, part in parts.items()}
    if not log:
        return loss
    module.log("train/loss", loss.detach())
    if len(parts) > 1:
        module.log_dict({f"train/{name}": part for name, part in module.last_terms.items()})
    return loss
