"""PolyStep: losses at the vertices of a polytope, a softmax over them, a step to the barycentre.

In every step k orthonormal directions P `(k, n)` are drawn. The vertices are `theta +- r p_i`
(cross-polytope) or the k + 1 corners of a regular simplex in their span. With losses L_j there,

    w = softmax(-(L - min L) / (eps spread(L))),   theta <- theta + eta sum_j w_j (v_j - theta) / r,

the one-sided limit of entropic optimal transport from theta to its vertices. For small eps the step
goes to the best vertex, for large eps along the finite-difference gradient in the subspace. Cost: 2
k (or k + 1) losses a step.

Reference: Le 2026, "Training Non-Differentiable Networks via Optimal Transport", arXiv 2605.01928,
section 3. Departures: one particle, the whole parameter vector; a fresh subspace in every step;
losses are measured in units of their standard deviation over the vertices, so eps does not depend
on the loss; both radii shrink with the learning-rate schedule, and with `tensor_scale` directions
are longer in tensors with larger entries; vertices of equal loss leave theta alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.optim.curvature.objective import Objective
from sciml.optim.flat import sizes
from sciml.optim.gradient_free.zeroth_order import ZerothOrder, softmin
from sciml.optim.option_ranges import POSITIVE, at_least, number, one_of, switches

POLYTOPES = ("orthoplex", "simplex")


class PolyStep(ZerothOrder):
    """Softmax-weighted steps towards good vertices in random subspaces.

    Args:
        params: Module or parameters; complex ones count as pairs of real numbers.
        lr: Longest step eta, reached where one vertex has all the weight.
        probe: Distance r of the vertices, as a multiple of the present learning rate.
        temperature: eps, in standard deviations of the vertices' losses.
        subspace: Directions k per step.
        polytope: `orthoplex` (2 k vertices) or `simplex` (k + 1).
        tensor_scale: Whether to scale directions by every tensor's root mean square at the start.
        chunk: Losses evaluated at once, where the objective has a batched evaluation.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import LossTerm, Objective, PolyStep
        >>> w, wanted = torch.nn.Parameter(torch.zeros(2)), torch.tensor([0.5, -0.3])
        >>> optimizer = PolyStep([w], lr=0.1, subspace=2)
        >>> for step in range(40):  # losses alone, no gradient
        ...     fit = Objective(lambda: [LossTerm("fit", w - wanted, 1.0, 2)], step=step)
        ...     optimizer.update_curvature(fit)
        ...     optimizer.step()
        >>> bool((w - wanted).abs().max() < 0.05)
        True
    """

    def __init__(
        self,
        params: nn.Module | Iterable[Tensor],
        *,
        lr: float = 0.1,
        probe: float = 2.0,
        temperature: float = 0.5,
        subspace: int = 32,
        polytope: Literal["orthoplex", "simplex"] = "orthoplex",
        tensor_scale: bool = False,
        chunk: int = 64,
    ) -> None:
        number(POSITIVE, probe=probe, temperature=temperature)
        number(at_least(1), subspace=subspace)
        one_of(POLYTOPES, polytope=polytope)
        switches(tensor_scale=tensor_scale)
        super().__init__(params, {"lr": lr}, chunk=chunk)
        self.probe, self.temperature, self.subspace = probe, temperature, subspace
        self.polytope, self.tensor_scale = polytope, tensor_scale

    def moved(self, theta: Tensor, objective: Objective) -> Tensor:
        """Return the barycentre of the vertices."""
        lr = self.param_groups[0]["lr"]
        if not lr:
            return theta
        corners = self.corners(theta, objective)
        losses = self.losses(theta + self.probe * lr * corners, objective)
        weights = softmin(losses, 1 / self.temperature)
        self.numbers.update({"best": losses.min(), "effective": 1 / weights.square().sum()})
        return theta + lr * (weights @ corners)

    def corners(self, theta: Tensor, objective: Objective) -> Tensor:
        """Return the vertices around the origin, `(K, n)`, of length one before scaling."""
        k = min(self.subspace, len(theta))
        generator = objective.generator("polystep", common=True)
        drawn = torch.randn(len(theta), k, generator=generator, dtype=torch.float64)
        directions = torch.linalg.qr(drawn.to(theta.device)).Q.t()
        if self.polytope == "orthoplex":
            corners = torch.cat([directions, -directions])
        else:
            corners = simplex(k).to(theta.device) @ directions
        return corners * self._scales(theta) if self.tensor_scale else corners

    def _scales(self, theta: Tensor) -> Tensor:
        if "scales" not in self.memory:
            parts = theta.split(sizes(self.treated))
            sizes_of = [p.square().mean().sqrt() for p in parts]
            mean = theta.square().mean().sqrt()
            scales = [s if s > 0 else mean.new_ones(()) for s in sizes_of]
            self.memory["scales"] = torch.cat(
                [s.expand(len(p)) for s, p in zip(scales, parts, strict=True)]
            )
        return self.memory["scales"]


def simplex(k: int) -> Tensor:
    """Return the k + 1 corners `(k + 1, k)` of a regular simplex on the unit sphere."""
    centred = torch.eye(k + 1, dtype=torch.float64) - 1 / (k + 1)
    # Coordinates in the hyperplane of sum zero (Helmert's basis), scaled to length one.
    basis = torch.zeros(k, k + 1, dtype=torch.float64)
    for i in range(1, k + 1):
        basis[i - 1, :i] = 1.0
        basis[i - 1, i] = -i
        basis[i - 1] /= (i * (i + 1)) ** 0.5
    corners = centred @ basis.t()
    return corners / corners.norm(dim=1, keepdim=True)
