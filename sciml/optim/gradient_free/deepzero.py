"""DeepZero: gradient descent on coordinate-wise finite differences over a sparse random pattern.

    g_i = (L(theta + mu e_i) - L(theta)) / mu   for i in S,     0 elsewhere,
    m <- beta m + g,     theta <- theta - eta m .

S changes from step to step, but how many of its coordinates lie in each tensor is fixed once, by
pruning scores of the starting point that take losses alone: with random-direction estimates ghat,

    score = theta * (ghat(theta + mu ghat) - ghat(theta)) / mu ,

a finite-difference form of theta * H g; the smallest scores are kept, as removing those weights
would cost most of the gradient's norm. Cost of a step: 1 + |S| losses (2 |S| for central
differences).

Reference: Chen et al. 2024, "DeepZero", arXiv 2310.02025, sections 3 and 4; the score is that of
Wang, Zhang, Grosse 2020, arXiv 2002.07376. Departures: in the score, ghat is scaled to length one
before it is added; central differences are offered; features of unperturbed layers are not reused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sciml.optim.curvature.objective import Objective
from sciml.optim.flat import sizes
from sciml.optim.gradient_free.zeroth_order import ZerothOrder
from sciml.optim.option_ranges import POSITIVE, SHARE, at_least, number, switches


class DeepZero(ZerothOrder):
    """Momentum descent along finite-difference gradients.

    Args:
        params: Module or parameters; complex ones count as pairs of real numbers.
        lr: Step size eta.
        momentum: beta.
        smoothing: mu, the difference step.
        central: Whether to take central differences.
        sparsity: Share of the coordinates left out of a step; 0 takes all of them.
        probes: Random directions in each gradient estimate of the pruning score.
        refresh: Steps for which a pattern is kept.
        chunk: Losses evaluated at once, where the objective has a batched evaluation.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import DeepZero, LossTerm, Objective
        >>> w, wanted = torch.nn.Parameter(torch.zeros(2)), torch.tensor([0.5, -0.3])
        >>> optimizer = DeepZero([w], lr=0.1, momentum=0.5, sparsity=0.0)
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
        lr: float = 1e-2,
        momentum: float = 0.9,
        smoothing: float = 5e-3,
        central: bool = False,
        sparsity: float = 0.9,
        probes: int = 64,
        refresh: int = 1,
        chunk: int = 64,
    ) -> None:
        number(SHARE, momentum=momentum, sparsity=sparsity)
        number(POSITIVE, smoothing=smoothing)
        number(at_least(1), probes=probes, refresh=refresh)
        switches(central=central)
        super().__init__(params, {"lr": lr}, chunk=chunk)
        self.momentum, self.smoothing, self.central = momentum, smoothing, central
        self.sparsity, self.probes, self.refresh = sparsity, probes, refresh

    def moved(self, theta: Tensor, objective: Objective) -> Tensor:
        """Return the vector after one descent step."""
        memory = self.memory
        if "velocity" not in memory:
            memory["velocity"] = torch.zeros_like(theta)
            if self.sparsity:
                memory["kept"] = self._kept_per_tensor(theta, objective)
        if self.steps % self.refresh == 0 or "pattern" not in memory:
            memory["pattern"] = self._pattern(theta, objective)
        gradient = self.differences(theta, memory["pattern"], objective)
        memory["velocity"] = self.momentum * memory["velocity"] + gradient
        self.numbers["gradient"] = gradient.norm()
        return theta - self.param_groups[0]["lr"] * memory["velocity"]

    def differences(self, theta: Tensor, pattern: Tensor, objective: Objective) -> Tensor:
        """Return the gradient `(n,)` by differences in the coordinates `pattern`, 0 elsewhere."""
        mu, out = self.smoothing, torch.zeros_like(theta)
        base = None if self.central else self.losses(theta[None], objective)
        for part in pattern.split(max(self.chunk, 64)):  # few points in memory at a time
            rows = torch.arange(len(part), device=theta.device)
            points = theta.repeat(len(part), 1)
            points[rows, part] += mu
            high = self.losses(points, objective)
            if self.central:
                points[rows, part] -= 2 * mu
                out[part] = (high - self.losses(points, objective)) / (2 * mu)
            else:
                out[part] = (high - base) / mu
        return out

    # --- the pattern ------------------------------------------------------------------------------
    def _pattern(self, theta: Tensor, objective: Objective) -> Tensor:
        """Return the coordinates of this step, drawn uniformly within every tensor."""
        if not self.sparsity:
            return torch.arange(len(theta), device=theta.device)
        generator = objective.generator("deepzero pattern", common=True)
        parts, offset = [], 0
        for size, kept in zip(sizes(self.treated), self.memory["kept"], strict=True):
            drawn = torch.randperm(size, generator=generator)[:kept]
            parts.append(offset + drawn.sort().values)
            offset += size
        return torch.cat(parts).to(theta.device)

    def _kept_per_tensor(self, theta: Tensor, objective: Objective) -> list[int]:
        """Return how many coordinates of every tensor a step takes; at least one each."""
        gradient = self._estimate(theta, objective)
        length = gradient.norm()
        ahead = theta + self.smoothing * gradient / length.clamp_min(1e-300)
        score = theta * (self._estimate(ahead, objective) - gradient)
        keep = max(1, math.ceil((1 - self.sparsity) * len(theta)))
        chosen = torch.zeros(len(theta), dtype=torch.long, device=theta.device)
        chosen[score.topk(keep, largest=False).indices] = 1
        return [max(1, int(part.sum())) for part in chosen.split(sizes(self.treated))]

    def _estimate(self, theta: Tensor, objective: Objective) -> Tensor:
        """Return a gradient estimate `(n,)` from differences in random directions."""
        # The same directions at both points, so that their difference is mostly curvature.
        generator = objective.generator("deepzero probes", common=True)
        base, out = self.losses(theta[None], objective), torch.zeros_like(theta)
        for start in range(0, self.probes, 64):
            count = min(64, self.probes - start)
            u = torch.randn(count, len(theta), generator=generator, dtype=torch.float64)
            u = u.to(theta.device)
            rise = self.losses(theta + self.smoothing * u, objective) - base
            out += (rise / self.smoothing) @ u / self.probes
        return out
