"""Consensus-based optimisation: particles drift to their softmin mean and explore around it.

    c = sum_i theta_i exp(-alpha L_i) / sum_i exp(-alpha L_i),
    theta_i <- theta_i - lambda dt (theta_i - c) + sigma sqrt(dt) (theta_i - c) * xi_i ,

with independent normal numbers xi in every coordinate (anisotropic noise, whose effect does not
grow with the dimension). The noise vanishes as the particles agree: `2 lambda > sigma^2` makes them
do so; close to equality they contract slowly and find minima outside the initial cloud. The
network's parameters are the consensus c.

Reference: Pinnau, Totzeck, Tse, Martin 2017; anisotropic noise Carrillo, Jin, Li, Zhu 2021, "A
consensus-based global optimization method for high dimensional machine learning problems", arXiv
1909.09249. Departures: weights are normalised through log-sum-exp; alpha is
relative to the spread of the losses unless asked otherwise; dt is the learning rate, so that a
schedule cools the particles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sciml.optim.curvature.objective import Objective
from sciml.optim.gradient_free.zeroth_order import ZerothOrder, softmin
from sciml.optim.option_ranges import NOT_NEGATIVE, POSITIVE, at_least, number, switches


class CBO(ZerothOrder):
    """A cloud of parameter vectors that contracts onto the best of what it sees.

    Args:
        params: Module or parameters; complex ones count as pairs of real numbers.
        lr: Time step dt.
        particles: Their number N; memory 8 N n bytes.
        alpha: Weight of the loss in the consensus, relative to the standard deviation of the
            particles' losses if `relative`.
        relative: See `alpha`.
        drift: lambda.
        noise: sigma.
        spread: Standard deviation of the particles around the initial parameters.
        chunk: Losses evaluated at once, where the objective has a batched evaluation.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import CBO, LossTerm, Objective
        >>> w, wanted = torch.nn.Parameter(torch.zeros(2)), torch.tensor([0.5, -0.3])
        >>> optimizer = CBO([w], particles=50)
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
        particles: int = 100,
        alpha: float = 100.0,
        relative: bool = True,
        drift: float = 1.0,
        noise: float = 1.2,
        spread: float = 0.3,
        chunk: int = 64,
    ) -> None:
        number(at_least(2), particles=particles)
        number(POSITIVE, alpha=alpha, drift=drift, spread=spread)
        number(NOT_NEGATIVE, noise=noise)
        switches(relative=relative)
        super().__init__(params, {"lr": lr}, chunk=chunk)
        self.particles, self.alpha, self.relative = particles, alpha, relative
        self.drift, self.noise, self.spread = drift, noise, spread

    def moved(self, theta: Tensor, objective: Objective) -> Tensor:
        """Move the particles; return their consensus."""
        if "particles" not in self.memory:
            self.memory["particles"] = self._cloud(theta, objective)
        cloud = self.memory["particles"]
        losses = self.losses(cloud, objective)
        weights = softmin(losses, self.alpha, relative=self.relative)
        consensus = weights @ cloud
        dt = self.param_groups[0]["lr"]
        away = cloud - consensus
        xi = self._normal(cloud, "cbo noise", objective)
        cloud += away * (self.noise * math.sqrt(dt) * xi - self.drift * dt)
        self.numbers.update(
            {
                "best": losses.min(),
                "spread": away.square().mean().sqrt(),
                "effective": 1 / weights.square().sum(),
            }
        )
        return consensus

    def _cloud(self, theta: Tensor, objective: Objective) -> Tensor:
        cloud = theta.repeat(self.particles, 1)
        drawn = self._normal(cloud, "cbo cloud", objective)
        drawn[0] = 0.0  # the initial parameters are one of the particles
        return cloud + self.spread * drawn

    def _normal(self, like: Tensor, purpose: str, objective: Objective) -> Tensor:
        generator = objective.generator(purpose, common=True)
        return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
