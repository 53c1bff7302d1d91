"""AdaHessian: Adam with the Hessian diagonal in place of the squared gradient.

    D = z * (H z),   D_s = mean of |D| over a block (a convolution's kernel, or `block` neighbours)
    m <- b1 m + (1 - b1) g
    every k steps, first at step 0:   v <- b2 v + (1 - b2) D_s^2
    theta <- (1 - lr wd) theta - lr m^ / (v^^(p/2) + eps)

with m^ = m / (1 - b1^steps) and v^ = v / (1 - b2^refreshes).

Reference: Yao, Gholami, Shen, Mustafa, Keutzer, Mahoney, "ADAHESSIAN: An Adaptive Second Order
Optimizer for Machine Learning", arXiv 2006.00719, algorithm 1 with equations (7) to (10).
Departures: refreshes, not steps, correct v when k > 1 (counting steps makes the denominator too
small by up to sqrt(k) at the start, and small networks diverge); all ranks share z and sum H z,
where the authors' code reduces the probes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciml.optim.base import CurvatureOptimizer
from sciml.optim.curvature.objective import Objective
from sciml.optim.diagonal.probes import hutchinson
from sciml.optim.diagonal.sophia import add_estimate
from sciml.optim.flat import real
from sciml.optim.option_ranges import (
    POSITIVE,
    NumberRule,
    at_least,
    number,
    parameters_of,
    shares,
    switches,
)

POWER = NumberRule(lambda x: 0 < x <= 1, "a number in (0, 1]")


class AdaHessian(CurvatureOptimizer):
    """Adam on Hutchinson's diagonal of the Hessian.

    Args:
        params: Module or parameters; complex ones count as pairs.
        lr: Step length; where the curvature is right and p = 1, one is a Newton step.
        betas: Shares of momentum and of squared curvature kept by an update.
        eps: Added to the denominator.
        weight_decay: Decoupled decay, times lr.
        hessian_power: p in (0, 1]; smaller is closer to plain momentum.
        block: Neighbours along the last axis of matrices over which |D| is averaged; one for none.
            A last axis it does not divide stays as it is.
        spatial: Whether |D| is averaged over the kernel of convolution weights, real tensors with
            three to five axes.
        curvature_every: Steps between two probes.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import AdaHessian, LossTerm, Objective
        >>> w, stiffness = torch.nn.Parameter(torch.ones(2)), torch.tensor([1.0, 100.0])
        >>> optimizer = AdaHessian([w], lr=0.1)
        >>> for step in range(100):  # both directions fall alike, whatever their curvature
        ...     bowl = Objective(lambda: [LossTerm("bowl", stiffness * w, 1.0, 2)], step=step)
        ...     optimizer.update_curvature(bowl)
        ...     optimizer.step()
        >>> bool(w.abs().max() < 0.05)
        True
    """

    grouped = True

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        *,
        lr: float = 0.15,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        block: int = 1,
        spatial: bool = True,
        curvature_every: int = 1,
    ) -> None:
        number(at_least(1), block=block)
        switches(spatial=spatial)
        defaults = {"lr": lr, "betas": shares(betas, 2), "eps": eps}
        defaults |= {"weight_decay": weight_decay, "hessian_power": hessian_power}
        params = parameters_of(params, type(self).__name__)
        super().__init__(params, defaults, curvature_every=curvature_every)
        self.block, self.spatial = block, spatial
        self.memory |= {"calls": 0, "refreshes": 0}

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Refuse what a group cannot mean."""
        super().check_group(group)
        number(POSITIVE, eps=group["eps"])
        number(POWER, hessian_power=group["hessian_power"])

    def observe(self, objective: Objective) -> None:
        """Probe the Hessian of this batch; several before one step are averaged."""
        add_estimate(self, hutchinson(objective, self.treated))

    def direction_step(self) -> None:
        """Refresh v from what was probed since the last step, then step."""
        refreshed = self.memory["calls"] > 0
        self.memory["refreshes"] += refreshed
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if "v" not in state:
                    state["m"], state["v"] = torch.zeros_like(real(p)), torch.zeros_like(real(p))
                    state["steps"] = 0
                if refreshed:
                    d = self._averaged(p, state.pop("estimate").div_(self.memory["calls"]))
                    state["v"].lerp_(d.square_(), 1 - b2)
                if p.grad is None:
                    continue
                state["steps"] += 1
                state["m"].lerp_(real(p.grad), 1 - b1)
                m = state["m"] / (1 - b1 ** state["steps"])
                v = state["v"] / max(1 - b2 ** self.memory["refreshes"], 1e-300)
                denominator = v.pow_(group["hessian_power"] / 2).add_(group["eps"])
                real(p).mul_(1 - group["lr"] * group["weight_decay"])
                real(p).addcdiv_(m, denominator, value=-group["lr"])
        self.memory["calls"] = 0

    def _averaged(self, parameter: Tensor, d: Tensor) -> Tensor:
        """Return |d| averaged over blocks, in the shape of d; a new tensor."""
        d = d.abs()
        if parameter.is_complex():
            return d
        if self.spatial and 3 <= d.dim() <= 5:
            return d.mean(tuple(range(2, d.dim())), keepdim=True).expand_as(d).clone()
        if self.block > 1 and d.dim() == 2 and d.shape[1] % self.block == 0:
            blocks = d.view(d.shape[0], -1, self.block)
            return blocks.mean(2, keepdim=True).expand_as(blocks).reshape(d.shape)
        return d

    def statistics(self) -> dict[str, float]:
        """Return the size of v and how often it was refreshed."""
        known = [self.state[p]["v"] for p in self.treated if "v" in self.state[p]]
        if not known:
            return {}
        correction = max(1 - self.param_groups[0]["betas"][1] ** self.memory["refreshes"], 1e-300)
        total = sum(float(v.double().sum()) for v in known) / correction
        return {"curvature_norm": total**0.5, "refreshes": float(self.memory["refreshes"])}
