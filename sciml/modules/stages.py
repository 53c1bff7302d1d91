"""Training in stages: what changes from one stage of a `Staged` network to the next.

The run is cut into equal parts, one per stage. Between two of them three numbers are measured on
the points of the next step, with r the residuals of all terms of the loss:

    frequency   of the residuals e along every input: their sign changes per unit of length, which
                are |de/dx_i| / (pi |e|) in root mean square for a Gaussian process (Rice 1944); the
                new first layer is multiplied by it
    size        c = |r| / |dr/dc|, with which the new network, untrained, changes the residuals by
                as much as there is left of them
    factor      the loss is divided by what it is at the start of a stage, so that tolerances of
                optimizers mean the same in every stage; `train/loss` is relative, too

The equations are those of the sum, so that nonlinear ones need nothing else.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sciml.autodiff.estimators import Exact
from sciml.errors import InvalidArgument
from sciml.modules import run_parts
from sciml.networks.pointwise.staged import Staged
from sciml.networks.solutions.ansatz import Ansatz

if TYPE_CHECKING:
    from sciml.modules.training_method import TrainingMethod
    from sciml.optim.curvature.terms import LossTerm

log = logging.getLogger("sciml")


def staged(module: TrainingMethod) -> Staged | None:
    """Return the network of a module that is trained in stages, None for any other."""
    network = getattr(module.trained(), "network", None)
    return network if isinstance(network, Staged) else None


def check(network: Any, problem: Any, estimator: Any, inputs: Sequence[str]) -> None:
    """Refuse stages for a scalar equation where its residuals have no frequencies to measure.

    Raises:
        InvalidArgument: For a sampled operator, or inputs other than all coordinates.
    """
    if not isinstance(network, Staged):
        return
    if not isinstance(estimator, Exact):
        raise InvalidArgument(
            f"network=staged with estimator {type(estimator).__name__}",
            "exact derivatives: what a stage leaves over is smaller than the noise of sampled ones",
            "Type estimator=exact",
        )
    known = ["x", "t"] if problem.time_dependent else ["x"]
    if list(inputs) != known:
        raise InvalidArgument(
            f"network=staged with module.inputs={list(inputs)}",
            "all coordinates and nothing else",
            f"Type module.inputs=[{','.join(known)}]",
        )


def scaled(module: TrainingMethod, terms: list[LossTerm]) -> list[LossTerm]:
    """Return the terms of a loss with weights relative to the start of the present stage."""
    network = staged(module)
    if network is not None and network.index:
        factor = network.loss_factor()
        for term in terms:
            term.weight = term.weight * factor
    return terms


def go_on(module: TrainingMethod) -> None:
    """Begin the next stage, with an optimizer as new, when it is time.

    Raises:
        InvalidArgument: Where the loss is zero, or no longer finite.
    """
    network = staged(module)
    if network is None:
        return
    trainer = module.trainer
    while network.index < run_parts.part_due(module):
        data = trainer.datamodule
        batch = data.batch(data.drawn // data.fixed_for, trainer.global_rank, trainer.world_size)
        begin_stage(module, network, module.choose_points(batch))
        run_parts.begin_anew(module)


@torch.no_grad()
def begin_stage(module: TrainingMethod, network: Staged, batch: Any) -> None:
    """Measure what is left and begin the next stage.

    Args:
        module: Whose network it is.
        network: The network.
        batch: Points on which everything is measured.

    Raises:
        InvalidArgument: Where the loss is zero, or no longer finite.
    """
    ended = network.index
    frequencies = residual_frequencies(module, batch)
    network.set_loss_factor(1.0)
    network.advance(size=0.0, frequencies=frequencies)
    before = _rows(module, batch)
    step = 1e-2 if before.dtype == torch.float32 else 1e-4
    network.set_size(step)
    growth = (_rows(module, batch) - before) / step
    sums = _summed(torch.stack([before.square().sum(), growth.square().sum()]))
    left, reach, *told = torch.cat([sums, frequencies[:6].to(sums)]).tolist()  # one wait
    if not (0 < left < float("inf") and 0 < reach < float("inf")):
        raise InvalidArgument(
            f"stage {ended + 2} of {network.stages}, where the loss is {left:.3g}",
            "a loss above zero that is finite",
            f"Type network.stages={max(2, ended + 1)}",
        )
    network.set_size((left / reach) ** 0.5)
    network.set_loss_factor(1 / left)
    shown = ", ".join(f"{value:.2g}" for value in told)
    log.info(
        "stage %d of %d: loss %.3g at its start, size %.3g, frequencies %s",
        *(ended + 2, network.stages, left, (left / reach) ** 0.5, shown),
    )


def _rows(module: TrainingMethod, batch: Any) -> Tensor:
    """Return this rank's residuals, weighed so that the sum of all squares is the loss."""
    parts = []
    for term in module.loss_terms(batch):
        parts.append((term.weight / term.count) ** 0.5 * term.residual.reshape(-1))
    return torch.cat(parts)


def residual_frequencies(module: TrainingMethod, batch: Any) -> Tensor:
    """Return the frequency of the residuals of the equations along every input of the network.

    Slopes are differences over a thousandth of what the points span along a variable, inwards. An
    input of several variables has the frequency of the one that changes it most.

    Args:
        module: Has `equation_residuals(x)` `(N, R)` of points `(N, D)`.
        batch: Has the points.

    Returns:
        `(m,)`, at least 1.
    """
    p, ansatz = batch.points, module.trained()
    x = p.x if getattr(p, "t", None) is None else torch.cat([p.x, p.t], 1)
    columns = ansatz.inputs if isinstance(ansatz, Ansatz) else nn.Identity()
    here, inputs = module.equation_residuals(x), columns(x)
    span = (x.amax(0) - x.amin(0)).clamp_min(torch.finfo(x.dtype).tiny)
    squares, slopes = [here.square().sum()], []
    for k in range(x.shape[1]):
        moved, h = x.clone(), 1e-3 * span[k]
        moved[:, k] += torch.where(x[:, k] > x[:, k].mean(), -h, h)  # inwards
        squares.append((module.equation_residuals(moved) - here).square().sum() / h**2)
        slopes.append((columns(moved) - inputs).square().sum(0) / h**2)
    total = _summed(torch.stack(squares))
    change = _summed(torch.stack(slopes)) / (len(x) * _ranks())  # (D, m), mean squares
    own = change.argmax(0)
    frequency = total[1:] / total[0]
    left = frequency[own] / change.gather(0, own[None])[0].clamp_min(1e-30)
    return (left.sqrt() / math.pi).clamp_min(1.0)


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _summed(values: Tensor) -> Tensor:
    """Return values added up over ranks."""
    if _ranks() > 1:
        dist.all_reduce(values)
    return values
