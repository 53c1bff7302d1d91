"""Diagonals of curvature from random probes, for any network and any number of ranks.

    Hutchinson              d = z * (H z)              E[d] = diag H             z entries +1 or -1
    Gauss-Newton-Bartlett   d = (grad s)^2             E[d] = diag sum_j scale_j sum_n J^T Lambda J
                            s = sum_j sqrt(scale_j) sum_n <e_jn, f_jn>,   E[e e^T] = Lambda

H is the Hessian of the total loss, f are residuals or logits, J their Jacobians and Lambda the
Hessian of the loss in f. For logits e is `softmax - onehot(y)` with y drawn from the model; the
squared gradient of the loss itself, which some ports call by the same name, is neither.

References: Hutchinson 1989; Liu et al., Sophia (arXiv 2305.14342, section 2.3 and algorithms 1, 2);
Yao et al., AdaHessian (arXiv 2006.00719). Departure: residual terms of the second probe, which
follow from a Gaussian model of the observations.

Ranks. Scales refer to the global batch. Hutchinson takes the same z on all ranks and sums `H_r z`,
so the result does not depend on how samples are spread. Bartlett's e is drawn by every rank, and
the squares are summed: e of different ranks are independent, the cross terms vanish on average.

Complex parameters are pairs of real ones with independent signs; their diagonals have a last axis
of size two (`sciml.optim.flat.real`).

**Which curvature belongs to a sampled residual.** SDGD and HTE replace an operator by an unbiased
estimate; with one draw S the residual is r_S, its Jacobian J_S, and E r_S = r, E J_S = J. Then

    E[J_S^T J_S] = J^T J + Cov(J_S).

* Algorithm 3 (biased) minimises E[r_S^2] over points and draws. Its Gauss-Newton matrix *is*
  E[J_S^T J_S]: curvature from the sampled terms as they are is unbiased, covariance included. That
  covariance is no error, it belongs to the variance of r_S which this loss contains.
* Algorithms 1 and 2 follow the gradient E[J_S^T r_T] = J^T r of the loss r^2, whose Gauss-Newton
  matrix is J^T J. Two independent draws estimate it without bias, `(J_S^T J_T + J_T^T J_S) / 2`,
  but that matrix is indefinite. What optimizers use instead, J_S^T J_S of the differentiated draw,
  is positive semi-definite and larger by Cov(J_S): steps are shorter, never wrong in sign.
* K of d terms c_j without replacement, `r_S = d/K sum c_j`: `Cov = d^2/K (1 - K/d) C` with C the
  sample covariance (divisor d - 1) of the terms' Jacobians; with replacement the bracket is one and
  the divisor d. It vanishes at K = d, and is halved by doubling K.
* Ranks that split the dimensions of the same points: each rank's J_S counts for its own draw, so
  the covariance is that of one rank's sample, not of the joined one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm, total_loss
from sciml.optim.flat import real


def hutchinson(objective: Objective, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return `z * (H z)` of the global loss, one tensor per parameter, equal on all ranks.

    Args:
        objective: The loss; it names z by its seed and step.
        parameters: What H refers to; complex ones give a last axis of size two.
    """
    z = rademacher(parameters, objective.generator("hutchinson", common=True))
    hz = objective.sum(hessian_vector(objective.terms(), parameters, z))
    return [real(a) * real(b) for a, b in zip(z, hz, strict=True)]


def gauss_newton_bartlett(objective: Objective, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return an unbiased estimate of the Gauss-Newton diagonal, non-negative, equal on all ranks.

    Args:
        objective: The loss; it names the draws by its seed, step and rank.
        parameters: What the diagonal refers to; complex ones give a last axis of size two.
    """
    terms = objective.terms()
    generator = objective.generator("bartlett")
    draws = [term.draw(generator) for term in terms]
    return objective.sum(squared_probe(terms, draws, parameters))


# --- the parts ----------------------------------------------------------------------------------
def rademacher(parameters: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Return independent signs in the shape of every parameter; `+-1 +- i` for complex ones."""
    out = []
    for p in parameters:
        shape = real(p).shape
        signs = torch.randint(0, 2, shape, generator=generator, device=generator.device)
        signs = (2 * signs - 1).to(device=p.device, dtype=real(p).dtype)
        out.append(torch.view_as_complex(signs) if p.is_complex() else signs)
    return out


def hessian_vector(
    terms: Sequence[LossTerm], parameters: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """Return H v of this rank's share of the loss, by reverse mode over reverse mode.

    Neither `.grad` nor the terms' graph is touched. Complex numbers count as pairs.
    """
    loss = total_loss(terms)
    if not loss.requires_grad:
        return [torch.zeros_like(p) for p in parameters]
    grads = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    pairs = [(g, v) for g, v in zip(grads, vector, strict=True) if g is not None]
    pairs = [(g, v) for g, v in pairs if g.requires_grad]
    if not pairs:
        return [torch.zeros_like(p) for p in parameters]
    heads, cotangents = zip(*pairs, strict=True)
    found = torch.autograd.grad(heads, parameters, cotangents, retain_graph=True, allow_unused=True)
    return _filled(found, parameters)


def squared_probe(
    terms: Sequence[LossTerm], draws: Sequence[Tensor], parameters: Sequence[Tensor]
) -> list[Tensor]:
    """Return `(grad sum_j sqrt(scale_j) <draws_j, outputs_j>)^2`, without touching the graph.

    Args:
        terms: With graph.
        draws: `(n, m)` per term, as from `LossTerm.draw`.
        parameters: In what is differentiated.
    """
    pairs = [(t, e) for t, e in zip(terms, draws, strict=True) if t.outputs.requires_grad]
    if not pairs:
        return [torch.zeros_like(real(p)) for p in parameters]
    found = torch.autograd.grad(
        [t.outputs for t, _ in pairs],
        parameters,
        [math.sqrt(t.scale) * e for t, e in pairs],
        retain_graph=True,
        allow_unused=True,
    )
    return [real(g).square() for g in _filled(found, parameters)]


def _filled(found: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor]:
    pairs = zip(found, parameters, strict=True)
    return [torch.zeros_like(p) if g is None else g.detach().resolve_conj() for g, p in pairs]
