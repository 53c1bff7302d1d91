"""Self-scaled quasi-Newton methods: SSBroyden, SSBFGS and plain BFGS, with a full inverse.

With `s` the step, `y` the change of the gradient on one batch and H the inverse approximation,

    H+ = (1/tau) [H - H y y^T H / y^T H y + phi v v^T] + s s^T / y^T s,
    v  = sqrt(y^T H y) (s / y^T s - H y / y^T H y).

BFGS has tau = phi = 1; SSBFGS scales by `tau = min(1, y^T s / s^T B s)`, where
`s^T B s = -a s^T g` needs no B; SSBroyden chooses tau and phi from the two ratios
`b = s^T B s / y^T s` and `h = y^T H y / y^T s`, see `coefficients`. Each keeps `H+ y = s`, and H
positive definite where `y^T s > 0`, which the strong Wolfe search gives.

One step of the optimizer is one iteration: a search along -H g on the batch of the step. On another
batch the next step takes loss and gradient anew and keeps H.

Reference: Al-Baali, Spedicato, Maggioni 2014, "Broyden's quasi-Newton methods for a nonlinear
system of equations and unconstrained optimization"; for physics-informed networks Urban, Stefanou,
Pons 2024, arXiv 2405.04230, and Kiyani et al. 2025, arXiv 2501.16371. Departures: the first step is
tried with the sum of absolute changes given by the learning rate; a pair with y^T s <= 0 is
skipped; where the search finds no lower loss, the weights stay and H starts again.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, NumericalWarning
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.curvature.objective import Evaluation, Objective
from sciml.optim.flat import assign, flatten, sizes
from sciml.optim.line_search import Point, strong_wolfe
from sciml.optim.option_ranges import POSITIVE, at_least, number, one_of, parameters_of, switches

VARIANTS = ("ssbroyden", "ssbfgs", "bfgs")
# Each update is symmetric up to rounding; what rounding leaves is removed now and then.
SYMMETRISE_EVERY = 100


class SSBroyden(CurvatureOptimizer):
    """Quasi-Newton iterations with a strong Wolfe search, for networks of a few thousand weights.

    Args:
        params: Module or parameters; complex ones count as pairs of real numbers.
        lr: Sum of absolute changes of the step tried first where H is the identity; later
            searches start from the full quasi-Newton step.
        variant: `ssbroyden`, `ssbfgs` or `bfgs`.
        c1: Share of the predicted decrease that a step must reach.
        c2: Share of the slope that may remain after a step.
        max_evaluations: Evaluations of loss and gradient in one search.
        scale_first: Whether H is scaled by `y^T s / y^T y` of the first pair.
        max_parameters: Largest number n of parameters; H takes 8 n^2 bytes.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used, or too many parameters.

    Example:
        >>> import torch
        >>> from sciml.optim import LossTerm, Objective, SSBroyden
        >>> w = torch.nn.Parameter(torch.zeros(2).double())
        >>> def valley():  # Rosenbrock's
        ...     rows = torch.stack([1 - w[0], 10 * (w[1] - w[0] ** 2)])
        ...     return [LossTerm("valley", rows, 1.0, 2)]
        >>> optimizer = SSBroyden([w])
        >>> for step in range(21):
        ...     optimizer.update_curvature(Objective(valley, step=step))
        ...     optimizer.step()
        >>> [round(v, 2) for v in w.tolist()]
        [1.0, 1.0]
    """

    own_gradient = True
    searches = True
    accumulates = False

    def __init__(
        self,
        params: nn.Module | Iterable[Tensor],
        *,
        lr: float = 1.0,
        variant: Literal["ssbroyden", "ssbfgs", "bfgs"] = "ssbroyden",
        c1: float = 1e-4,
        c2: float = 0.9,
        max_evaluations: int = 25,
        scale_first: bool = False,
        max_parameters: int = 10_000,
    ) -> None:
        one_of(VARIANTS, variant=variant)
        number(POSITIVE, c1=c1, c2=c2)
        if not c1 < c2 < 1:
            raise InvalidArgument(f"optimizer.c1={c1}, optimizer.c2={c2}", "0 < c1 < c2 < 1")
        number(at_least(1), max_evaluations=max_evaluations, max_parameters=max_parameters)
        switches(scale_first=scale_first)
        super().__init__(parameters_of(params, type(self).__name__), {"lr": lr})
        n = sum(sizes(self.treated))
        if n > max_parameters:
            raise InvalidArgument(
                f"{n} parameters for optimizer SSBroyden, whose inverse approximation "
                f"takes {8 * n * n} bytes ({8 * n * n / 2**30:.1f} GiB)",
                f"at most optimizer.max_parameters={max_parameters}",
                f"Type network.width=N for a smaller network, optimizer.max_parameters={n} if the "
                "memory is there, or optimizer=lbfgs",
            )
        self.variant, self.c1, self.c2 = variant, c1, c2
        self.max_evaluations, self.scale_first = max_evaluations, scale_first
        self.memory |= {"fresh": True, "failures": 0, "skipped": 0, "evaluations": 0}
        self._objective: Objective | None = None
        self._now: Evaluation | None = None  # at the present parameters
        self._reached: tuple[Objective, Tensor, Evaluation] | None = None  # where the last step led

    def observe(self, objective: Objective) -> None:
        """Take loss and gradient on the batch of the coming step, unless they are known."""
        known = None
        if self._reached is not None:
            last, point, known = self._reached
            if not torch.equal(point, flatten(self.treated)):
                known = None
        if known is not None and last is objective:
            self._now = known  # an objective keeps its batch
            objective.forget()
        else:
            self._now = objective.loss_and_gradient(self.treated, known)
        self._objective = objective

    def direction_step(self) -> None:
        """Search along -H g and update H with what the search saw.

        Raises:
            InvalidArgument: If `update_curvature` was not called for this step.
        """
        if self._objective is None:
            raise InvalidArgument(
                "SSBroyden.step() without update_curvature()",
                "the loss of the present step",
                "Call optimizer.update_curvature(objective) before every step",
            )
        objective, self._objective = self._objective, None
        now, self._now, self._reached = self._now, None, None
        x, inverse = flatten(self.treated), self._inverse(now.gradient)
        direction = -torch.mv(inverse, now.gradient)
        start = self._start(now, direction)
        if not start.slope < 0 and start.slope != 0:  # rounding has made H indefinite
            inverse = self._restart(now.gradient)
            direction = -inverse[0, 0] * now.gradient
            start = self._start(now, direction)

        trial = torch.empty_like(x)

        def evaluate(length: float) -> tuple[float, float, Evaluation]:
            torch.add(x, direction, alpha=length, out=trial)
            assign(trial, self.treated)
            there = objective.loss_and_gradient(self.treated)
            return *torch.stack([there.loss, direction @ there.gradient]).tolist(), there

        first = 1.0  # whatever a schedule says: the length of quasi-Newton steps is in H
        if self.memory["fresh"]:
            size = float(now.gradient.abs().sum().clamp_min(1e-300))
            first = min(1.0, (self.param_groups[0]["lr"] or 1.0) / size)
        search = strong_wolfe(
            evaluate, start, first=first, c1=self.c1, c2=self.c2, limit=self.max_evaluations
        )
        self.memory["evaluations"] += search.evaluations
        self.numbers.update({"step": search.point.length, "loss": search.point.loss})
        if not search.lower:
            assign(x, self.treated)
            self._failed(search.reason, now.gradient)
            return
        there = search.point.extra
        torch.add(x, direction, alpha=search.point.length, out=trial)
        assign(trial, self.treated)
        reached = flatten(self.treated)  # rounded to the precision of the parameters
        self._update(reached - x, there.gradient - now.gradient, now.gradient, search.point.length)
        self._reached = (objective, reached, there)

    def statistics(self) -> dict[str, float]:
        """Return the last step's length, scaling and counts since the start."""
        counts = {k: float(self.memory[k]) for k in ("failures", "skipped", "evaluations")}
        return {**self.numbers, **counts}

    # --- parts ----------------------------------------------------------------------------------
    def _inverse(self, gradient: Tensor) -> Tensor:
        if "inverse" not in self.memory:
            n = len(gradient)
            eye = torch.eye(n, dtype=torch.float64, device=gradient.device)
            self.memory["inverse"] = eye
        return self.memory["inverse"]

    def _start(self, now: Evaluation, direction: Tensor) -> Point:
        loss, slope = torch.stack([now.loss, direction @ now.gradient]).tolist()
        return Point(0.0, loss, slope)

    def _restart(self, gradient: Tensor) -> Tensor:
        inverse = self._inverse(gradient)
        inverse.zero_().diagonal().fill_(1.0)
        self.memory["fresh"] = True
        return inverse

    def _failed(self, reason: str, gradient: Tensor) -> None:
        self._restart(gradient)
        if not self.memory["failures"]:
            warnings.warn(
                f"SSBroyden found no lower loss along its direction: {reason}. The weights stay, "
                "the inverse starts again from the identity; said once, counted as 'failures'. "
                "Near the accuracy of the numbers this is the end of what can be reached; else "
                "keep a batch for more steps (data.fixed_for), or use double precision.",
                NumericalWarning,
                stacklevel=2,
            )
        self.memory["failures"] += 1

    def _update(self, s: Tensor, y: Tensor, g: Tensor, length: float) -> None:
        """Apply the update to H in place, in three passes over it."""
        inverse = self.memory["inverse"]
        ys, yy, ss = torch.stack([y @ s, y @ y, s @ s]).tolist()
        if not ys > 1e-15 * math.sqrt(yy * ss):
            self.memory["skipped"] += 1
            return
        if self.memory["fresh"] and self.scale_first:
            # H was the identity: s^T B s = s^T s, and with H scaled s^T s yy / ys.
            inverse.mul_(ys / yy)
            sbs = ss * yy / ys
        else:
            sbs = -length * float(s @ g)
        self.memory["fresh"] = False
        hy = torch.mv(inverse, y)
        yhy = float(y @ hy)
        tau, phi = coefficients(self.variant, sbs / ys, yhy / ys, len(s))
        self.numbers.update({"tau": tau, "phi": phi})
        v = s / ys - hy / yhy
        inverse.addr_(*(hy / math.sqrt(yhy * tau),) * 2, beta=1 / tau, alpha=-1)
        inverse.addr_(*(v * math.sqrt(abs(phi) * yhy / tau),) * 2, alpha=math.copysign(1, phi))
        inverse.addr_(*(s / math.sqrt(ys),) * 2)
        if self.steps % SYMMETRISE_EVERY == SYMMETRISE_EVERY - 1:
            inverse.add_(inverse.t().clone()).mul_(0.5)


def coefficients(variant: str, b: float, h: float, n: int) -> tuple[float, float]:
    """Return tau and phi for `b = s^T B s / y^T s`, `h = y^T H y / y^T s` and n unknowns."""
    if variant == "bfgs":
        return 1.0, 1.0
    if variant == "ssbfgs":
        return min(1.0, 1 / b), 1.0
    a = max(b * h - 1, 1e-14)  # at least 0 by Cauchy-Schwarz
    c = math.sqrt(a / (1 + a))
    rho = min(1.0, h * (1 - c))
    theta = max((rho - 1) / a, min(1 / rho, (1 - b) / b))
    sigma = 1 + a * theta
    root = sigma ** (-1 / max(n - 1, 1))
    bound = min(1.0, 1 / b)
    tau = bound * min(root, 1 / theta) if theta > 0 else min(bound * root, sigma)
    return tau, (1 - theta) / (1 + a * theta)
