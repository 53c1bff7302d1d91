"""Weights of loss terms that follow from the terms themselves.

With L_i = w_i |r_i|^2 / n_i and J_i = dr_i/dtheta, every k steps

    gradnorm    b_i ~ sum_j |grad L_j| / |grad L_i|
    ntk         b_i ~ sum_j tr K_j / tr K_i,    K_i = (w_i / n_i) J_i J_i^T
    unit        b_i = g / |grad L_i|, g the root mean square of |grad L| over the equations: the
                sum of gradients of one length, two terms' bisector; in every step, without memory

and the loss becomes sum_i b_i L_i. Traces come from Hutchinson's estimate E |J_i^T v|^2, v = +-1.
In the first two logarithms of b are averaged over updates and kept at mean zero, so that a term
multiplied by a constant leaves the direction of the gradient as it was: averages of b itself would
not.

The rules change weights between steps only and serve any optimizer, those with line searches too.
They make a run independent of preset weights; they do not reach the best weights set by hand.

References: Wang, Teng and Perdikaris 2021, arXiv 2001.04536; Wang, Yu and Perdikaris 2022, arXiv
2007.14527. Departures: logarithms; the weights that a system sets multiply the rule's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from sciml.errors import InvalidArgument, did_you_mean
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.flat import flatten

RULES = ("none", "gradnorm", "ntk", "unit")
KEEP = 0.9  # share of the average that stays at an update
PROBES = 8


def check_balance(rule: str, every: int) -> None:
    """Refuse an unknown rule, and steps between updates that cannot be.

    Raises:
        InvalidArgument: Naming the setting.
    """
    if rule not in RULES:
        raise InvalidArgument(f"module.balance={rule}", "a rule", did_you_mean(rule, RULES))
    if every < 1:
        raise InvalidArgument(f"module.balance_every={every}", "a positive integer")


def balanced(
    rule: str,
    terms: Sequence[LossTerm],
    parameters: Sequence[Tensor],
    before: Tensor,
    generator: torch.Generator,
    equations: int = 1,
) -> Tensor:
    """Return the next logarithms of b `(T,)`, the same on all ranks.

    Args:
        rule: "gradnorm", "ntk" or "unit".
        terms: The terms with the weights that the user set, with graph, which stays.
        parameters: What is trained.
        before: The present logarithms; all zero at the first update, which they do not slow down.
        generator: Source of probes, of this rank's own.
        equations: How many terms, the first ones, are equations.
    """
    if rule == "ntk":
        size = kernel_traces(terms, parameters, generator)
    else:
        size = gradient_norms(terms, parameters)
    size = size.clamp_min(torch.finfo(size.dtype).tiny)
    if rule == "unit":
        return (size[:equations].square().mean().sqrt() / size).log().to(before)
    new = -size.log()
    new = (new - new.mean()).to(before)
    return torch.where(before.any(), KEEP * before + (1 - KEEP) * new, new)


def gradient_norms(terms: Sequence[LossTerm], parameters: Sequence[Tensor]) -> Tensor:
    """Return |grad L_i| `(T,)` over the global batch."""
    return _summed([_pulled(term.loss(), parameters) for term in terms]).norm(dim=1)


def kernel_traces(
    terms: Sequence[LossTerm],
    parameters: Sequence[Tensor],
    generator: torch.Generator,
    probes: int = PROBES,
) -> Tensor:
    """Return estimates of tr K_i `(T,)` over the global batch."""
    rows = []
    for term in terms:
        for _ in range(probes):
            v = term.draw(generator)  # of mean zero and covariance one
            scaled = (term.scale / 2) ** 0.5 * (v * term.outputs).sum()
            rows.append(_pulled(scaled, parameters))
    return _summed(rows).square().sum(1).view(len(terms), probes).mean(1)


def _pulled(value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return the gradient of a number as one vector."""
    grads: Sequence[Tensor | None] = [None] * len(parameters)
    if value.requires_grad:
        grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(grads, parameters, strict=True)
    return flatten([torch.zeros_like(p) if g is None else g for g, p in pairs])


def _summed(rows: Sequence[Tensor]) -> Tensor:
    """Return rows added up over ranks, one message for all."""
    total = torch.stack(list(rows))
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(total)
    return total
