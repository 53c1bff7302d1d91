"""How far K-FAC goes along its direction: four rules.

    lr             the learning rate, with momentum
    kl_clip        less where the step would change the network's outputs too much
    quadratic      to the minimiser of the exact quadratic model in the direction and the last
                   update; with two Jacobian products per step this is KFAC*, which has no learning
                   rate and no momentum to tune
    line_search    to the best length of a grid by the loss of the batch itself

Formulas and references are in `sciml.optim.step_size`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.errors import NumericalWarning
from sciml.optim import step_size
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import total_loss

if TYPE_CHECKING:
    from sciml.optim.kronecker.kfac import KFAC

Vector = Sequence[Tensor]  # one tensor per treated parameter


def remembered(optimizer: KFAC, direction: Vector) -> Vector:
    """Return momentum times the last direction plus this one, and keep it."""
    if not optimizer.momentum:
        return direction
    for p, d in zip(optimizer.treated, direction, strict=True):
        old = optimizer.state[p].get("direction")
        optimizer.state[p]["direction"] = d if old is None else d + optimizer.momentum * old
    return [optimizer.state[p]["direction"] for p in optimizer.treated]


def fixed_step(
    optimizer: KFAC, direction: Vector, gradient: Vector, objective: Objective, jacobian: Any
) -> None:
    """Move by the learning rate, with momentum."""
    _move(optimizer, remembered(optimizer, direction), _lr(optimizer))


def clipped_step(
    optimizer: KFAC, direction: Vector, gradient: Vector, objective: Objective, jacobian: Any
) -> None:
    """Move by the learning rate and the factor of the KL clip, with momentum."""
    nu = step_size.kl_factor(direction, gradient, _lr(optimizer), optimizer.kl_clip)
    optimizer.numbers["nu"] = nu
    _move(optimizer, remembered(optimizer, [d * nu.to(d.dtype) for d in direction]), _lr(optimizer))


def quadratic_step(
    optimizer: KFAC, direction: Vector, gradient: Vector, objective: Objective, jacobian: Any
) -> None:
    """Move to the minimiser of the quadratic model in direction and last update (KFAC*)."""
    last = [optimizer.state[p].get("update", torch.zeros_like(p)) for p in optimizer.treated]
    basis, damping = (direction, last), optimizer.memory["damping"]
    images = torch.stack([jacobian.times(d) for d in basis])
    (curvature,) = objective.sum([images @ images.t()])
    sizes = [step_size.inner(a, b) for a in basis for b in basis]
    curvature = curvature + damping * torch.stack(sizes).view(2, 2)
    linear = torch.stack([step_size.inner(gradient, d) for d in basis])
    alpha, mu = step_size.quadratic_model(curvature, linear)
    optimizer.numbers.update({"alpha": alpha, "mu": mu})
    for p, d, old in zip(optimizer.treated, direction, last, strict=True):
        update = _lr(optimizer) * (alpha.to(d.dtype) * d + mu.to(d.dtype) * old)
        optimizer.state[p]["update"] = update
        p.add_(update)


def searched_step(
    optimizer: KFAC, direction: Vector, gradient: Vector, objective: Objective, jacobian: Any
) -> None:
    """Move to the best length of a grid by the loss of the batch; stay where none lowers it."""
    present = float(objective.sum([total_loss(objective.terms()).detach().double()])[0])
    start = [p.clone() for p in optimizer.treated]
    kept = remembered(optimizer, direction)
    found, loss = 0, present
    for tried in [kept, direction] if optimizer.momentum else [kept]:

        def place(length: float, along: Vector = tried) -> None:
            for p, s, d in zip(optimizer.treated, start, along, strict=True):
                torch.add(s, d, alpha=length, out=p)

        def loss_at(exponent: int, place: Callable[[float], None] = place) -> float:
            place(_lr(optimizer) * 2.0**exponent)
            return float(objective.loss())

        found, loss = step_size.walk(loss_at, present, optimizer.memory.get("exponent", 0))
        if loss < present:
            place(_lr(optimizer) * 2.0**found)
            optimizer.memory["exponent"] = found
            optimizer.numbers["alpha"] = 2.0**found
            return
        for p, d in zip(optimizer.treated, direction, strict=True):
            optimizer.state[p]["direction"] = d
    place(0.0)
    optimizer.numbers["alpha"] = 0.0
    warnings.warn(
        "K-FAC found no step of its grid that lowers the loss; parameters stay. The damping "
        "may be too small for the batch",
        NumericalWarning,
        stacklevel=2,
    )


def _move(optimizer: KFAC, direction: Vector, length: float) -> None:
    for p, d in zip(optimizer.treated, direction, strict=True):
        p.add_(d * length)


def _lr(optimizer: KFAC) -> float:
    return optimizer.param_groups[0]["lr"]


STEP_RULES: dict[str, Callable] = {
    "lr": fixed_step,
    "kl_clip": clipped_step,
    "quadratic": quadratic_step,
    "line_search": searched_step,
}
