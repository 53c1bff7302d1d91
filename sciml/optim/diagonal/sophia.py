"""Sophia: momentum divided by a curvature diagonal, every coordinate clipped.

    m <- b1 m + (1 - b1) g
    every k steps, first at step 0:   h <- b2 h + (1 - b2) d
    theta <- (1 - lr wd) theta - lr clip(m / max(gamma h, eps), -1, 1)

with d a probe of the Gauss-Newton diagonal (`SophiaG`) or of the Hessian diagonal (`SophiaH`), see
`sciml.optim.diagonal.probes`. Where h <= 0 the step is lr times the sign of m.

Reference: Liu, Li, Hall, Liang, Ma, "Sophia: A Scalable Stochastic Second-order Optimizer for
Language Model Pre-training", arXiv 2305.14342, algorithm 3, in its published form: gamma divides h
and the clip is at one. (The preprint's first version clips at rho; the authors' code writes
`lr sign(m) min(1, |m| / (rho B h))` with h not yet times the number B of terms.) As there, m and
h are not corrected for their start at zero.

Departures: `SophiaG` also treats residuals of a differential equation; `bias_correction` divides h
by `1 - b2^refreshes`, which short runs need: with b2 = 0.99 and k = 10 the uncorrected h is below
two thirds of its size for the first thousand steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciml.optim.base import CurvatureOptimizer
from sciml.optim.curvature.objective import Objective
from sciml.optim.diagonal.probes import gauss_newton_bartlett, hutchinson
from sciml.optim.flat import real
from sciml.optim.option_ranges import POSITIVE, number, parameters_of, shares, switches


class Sophia(CurvatureOptimizer):
    """What `SophiaG` and `SophiaH` share: all but the probe.

    Args:
        params: Module or parameters; complex ones count as pairs.
        lr: Largest change of a coordinate in one step; about Adam's.
        betas: Shares of momentum and of curvature kept by an update.
        gamma: Factor of h; larger, fewer coordinates are clipped. Aim at a `win_rate` of 0.1 to
            0.5.
        eps: Least denominator.
        weight_decay: Decoupled decay, times lr.
        curvature_every: Steps between two probes.
        bias_correction: Whether h is corrected for its start at zero.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.
    """

    grouped = True

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        *,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.96, 0.99),
        gamma: float = 0.05,
        eps: float = 1e-12,
        weight_decay: float = 0.0,
        curvature_every: int = 10,
        bias_correction: bool = False,
    ) -> None:
        switches(bias_correction=bias_correction)
        defaults = {"lr": lr, "betas": shares(betas, 2), "gamma": gamma, "eps": eps}
        defaults |= {"weight_decay": weight_decay}
        params = parameters_of(params, type(self).__name__)
        super().__init__(params, defaults, curvature_every=curvature_every)
        self.bias_correction = bias_correction
        self.memory |= {"calls": 0, "refreshes": 0}

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Refuse what a group cannot mean."""
        super().check_group(group)
        number(POSITIVE, gamma=group["gamma"], eps=group["eps"])

    def probe(self, objective: Objective) -> list[Tensor]:
        """Return an estimate of the curvature diagonal of the treated parameters."""
        raise NotImplementedError

    def observe(self, objective: Objective) -> None:
        """Probe the curvature of this batch; several before one step are averaged."""
        add_estimate(self, self.probe(objective))

    def direction_step(self) -> None:
        """Refresh h from what was probed since the last step, then step."""
        refreshed = self.memory["calls"] > 0
        self.memory["refreshes"] += refreshed
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if "h" not in state:
                    state["m"], state["h"] = torch.zeros_like(real(p)), torch.zeros_like(real(p))
                if refreshed:
                    d = state.pop("estimate").div_(self.memory["calls"])
                    state["h"].lerp_(d, 1 - b2)
            moving = [p for p in group["params"] if p.grad is not None]
            if not moving:
                continue
            ms = [self.state[p]["m"] for p in moving]
            torch._foreach_lerp_(ms, [real(p.grad) for p in moving], 1 - b1)
            change = self._scaled(group, moving)
            torch._foreach_reciprocal_(change)
            torch._foreach_mul_(change, ms)
            torch._foreach_clamp_min_(change, -1.0)
            torch._foreach_clamp_max_(change, 1.0)
            weights = [real(p) for p in moving]
            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, change, alpha=-group["lr"])
        self.memory["calls"] = 0

    def _scaled(self, group: dict[str, Any], parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return `max(gamma h, eps)`, new tensors."""
        factor = group["gamma"]
        if self.bias_correction and self.memory["refreshes"]:
            factor /= 1 - group["betas"][1] ** self.memory["refreshes"]
        scaled = torch._foreach_mul([self.state[p]["h"] for p in parameters], factor)
        torch._foreach_clamp_min_(scaled, group["eps"])
        return list(scaled)

    def statistics(self) -> dict[str, float]:
        """Return win rate (share of coordinates not clipped) and size and signs of h."""
        won = total = negative = 0.0
        squares, least = 0.0, float("inf")
        for group in self.param_groups:
            known = [p for p in group["params"] if "h" in self.state[p]]
            if not known:
                continue
            for p, scaled in zip(known, self._scaled(group, known), strict=True):
                h, m = self.state[p]["h"], self.state[p]["m"]
                won += float((m.abs() < scaled).sum())
                negative += float((h < 0).sum())
                squares += float(h.double().square().sum())
                least = min(least, float(h.min()))
                total += h.numel()
        if not total:
            return {}
        return {
            "win_rate": won / total,
            "h_norm": squares**0.5,
            "h_min": least,
            "h_negative": negative / total,
            "refreshes": float(self.memory["refreshes"]),
        }


class SophiaG(Sophia):
    """Sophia with the Gauss-Newton-Bartlett probe: one more backward pass every k steps.

    For cross entropy and for squared residuals alike; h is never negative, and no derivative is
    taken beyond those a residual itself contains.

    Example:
        >>> import torch
        >>> from sciml.optim import LossTerm, Objective, SophiaG
        >>> w, stiffness = torch.nn.Parameter(torch.ones(2)), torch.tensor([1.0, 100.0])
        >>> optimizer = SophiaG([w], lr=0.02)
        >>> for step in range(100):  # both directions fall alike, whatever their curvature
        ...     bowl = Objective(lambda: [LossTerm("bowl", stiffness * w, 1.0, 2)], step=step)
        ...     optimizer.update_curvature(bowl)
        ...     optimizer.step()
        >>> bool((w[0] - w[1]).abs() < 1e-3), bool(w[0].abs() < 0.25)
        (True, True)
    """

    def probe(self, objective: Objective) -> list[Tensor]:
        """Return squared derivatives of randomly signed residuals."""
        return gauss_newton_bartlett(objective, self.treated)


class SophiaH(Sophia):
    """Sophia with Hutchinson's probe of the Hessian; on a PDE residual, third derivatives.

    Example:
        >>> import torch
        >>> from sciml.optim import LossTerm, Objective, SophiaH
        >>> w, stiffness = torch.nn.Parameter(torch.ones(2)), torch.tensor([1.0, 100.0])
        >>> optimizer = SophiaH([w], lr=0.02)
        >>> for step in range(100):  # both directions fall alike, whatever their curvature
        ...     bowl = Objective(lambda: [LossTerm("bowl", stiffness * w, 1.0, 2)], step=step)
        ...     optimizer.update_curvature(bowl)
        ...     optimizer.step()
        >>> bool((w[0] - w[1]).abs() < 1e-3), bool(w[0].abs() < 0.25)
        (True, True)
    """

    def probe(self, objective: Objective) -> list[Tensor]:
        """Return z * (H z)."""
        return hutchinson(objective, self.treated)


# --- shared with AdaHessian ---------------------------------------------------------------------
def add_estimate(optimizer: CurvatureOptimizer, estimates: Sequence[Tensor]) -> None:
    """Add a micro-batch's diagonal to what waits for the next step, and count it."""
    first = optimizer.memory["calls"] == 0
    for p, d in zip(optimizer.treated, estimates, strict=True):
        state = optimizer.state[p]
        state["estimate"] = d.detach().clone() if first else state["estimate"].add_(d)
    optimizer.memory["calls"] += 1
