"""Adam for a number of steps, then limited-memory BFGS with a strong Wolfe search.

Adam finds the valley, L-BFGS its bottom: from step `adam_steps` on, every step is one search along
-H g, H applied by the two-loop recursion over the last `history` pairs s, y of steps and gradient
changes, started from H_0 = (s^T y / y^T y) I of the newest pair.

L-BFGS compares gradients of one loss: keep the batch for many steps (`data.fixed_for`). Loss and
gradient are those of the global batch, so all ranks take the same steps.

Reference: Kingma and Ba 2015, arXiv 1412.6980; Nocedal and Wright 2006, "Numerical Optimization",
algorithms 7.4 and 7.5. Departure: the step after a search that found nothing starts from an empty
history.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, NumericalWarning
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.curvature.objective import Evaluation, Objective
from sciml.optim.flat import assign, flatten
from sciml.optim.line_search import Point, strong_wolfe
from sciml.optim.option_ranges import (
    NOT_NEGATIVE,
    POSITIVE,
    at_least,
    number,
    parameters_of,
    shares,
)

TINY = 1e-15  # a pair whose s^T y is below this share of |s| |y| tells nothing


class AdamLBFGS(CurvatureOptimizer):
    """Two phases on one objective.

    Args:
        params: Module or parameters; complex ones count as pairs of real numbers.
        lr: Learning rate of Adam, which a schedule may change; also the sum of absolute changes
            of the first step of L-BFGS.
        adam_steps: Steps of Adam.
        betas: Decay of Adam's running means.
        eps: Added to the root of the running square.
        history: Pairs kept.
        c1: Share of the predicted decrease that a step must reach.
        c2: Share of the slope that may remain after a step.
        max_evaluations: Evaluations of loss and gradient in one search.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import AdamLBFGS, LossTerm, Objective
        >>> w = torch.nn.Parameter(torch.zeros(2).double())
        >>> def valley():  # Rosenbrock's
        ...     rows = torch.stack([1 - w[0], 10 * (w[1] - w[0] ** 2)])
        ...     return [LossTerm("valley", rows, 1.0, 2)]
        >>> optimizer = AdamLBFGS([w], lr=1e-2, adam_steps=10)
        >>> for step in range(31):
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
        lr: float = 1e-3,
        adam_steps: int = 1000,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        history: int = 50,
        c1: float = 1e-4,
        c2: float = 0.9,
        max_evaluations: int = 25,
    ) -> None:
        number(POSITIVE, c1=c1, c2=c2)
        if not c1 < c2 < 1:
            raise InvalidArgument(f"optimizer.c1={c1}, optimizer.c2={c2}", "0 < c1 < c2 < 1")
        number(at_least(0), adam_steps=adam_steps)
        number(at_least(1), history=history, max_evaluations=max_evaluations)
        number(NOT_NEGATIVE, eps=eps)
        defaults = {"lr": lr, "betas": shares(betas, 2), "eps": eps}
        super().__init__(parameters_of(params, type(self).__name__), defaults)
        self.adam_steps, self.history = adam_steps, history
        self.c1, self.c2, self.max_evaluations = c1, c2, max_evaluations
        self.memory |= {"failures": 0, "skipped": 0, "evaluations": 0, "pairs": []}
        self._objective: Objective | None = None
        self._now: Evaluation | None = None
        self._reached: tuple[Objective, Tensor, Evaluation] | None = None

    def observe(self, objective: Objective) -> None:
        """Take loss and gradient on the batch of the coming step, unless they are known."""
        known = None
        if self._reached is not None:
            last, point, known = self._reached
            known = known if torch.equal(point, flatten(self.treated)) else None
        if known is not None and last is objective:
            self._now = known
            objective.forget()
        else:
            self._now = objective.loss_and_gradient(self.treated, known)
        self._objective = objective

    def direction_step(self) -> None:
        """Take a step of the phase that it belongs to.

        Raises:
            InvalidArgument: If `update_curvature` was not called for this step.
        """
        if self._objective is None:
            raise InvalidArgument(
                "AdamLBFGS.step() without update_curvature()",
                "the loss of the present step",
                "Call optimizer.update_curvature(objective) before every step",
            )
        objective, self._objective = self._objective, None
        now, self._now, self._reached = self._now, None, None
        if self.steps < self.adam_steps:
            self._adam(now.gradient)
        else:
            self.memory.pop("means", None)
            self._search(objective, now)

    def statistics(self) -> dict[str, float]:
        """Return the last step's length and loss, and counts since the start."""
        counts = {k: float(self.memory[k]) for k in ("failures", "skipped", "evaluations")}
        return {**self.numbers, **counts}

    # --- parts ----------------------------------------------------------------------------------
    def _adam(self, gradient: Tensor) -> None:
        group, step = self.param_groups[0], self.steps + 1
        first, second = group["betas"]
        means = self.memory.setdefault("means", torch.zeros(2, *gradient.shape).to(gradient))
        means[0].lerp_(gradient, 1 - first)
        means[1].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (means[1] / (1 - second**step)).sqrt_().add_(group["eps"])
        change = means[0] / root / (1 - first**step)
        assign(flatten(self.treated) - group["lr"] * change, self.treated)

    def _direction(self, gradient: Tensor) -> Tensor:
        """Return -H g by the two-loop recursion."""
        pairs, left = self.memory["pairs"], []
        q = gradient.clone()
        for s, y in reversed(pairs):
            left.append((s @ q) / (s @ y))
            q.sub_(left[-1] * y)
        if pairs:
            s, y = pairs[-1]
            q.mul_((s @ y) / (y @ y))
        for (s, y), a in zip(pairs, reversed(left), strict=True):
            q.add_((a - (y @ q) / (s @ y)) * s)
        return q.neg_()

    def _search(self, objective: Objective, now: Evaluation) -> None:
        x, fresh = flatten(self.treated), not self.memory["pairs"]
        direction, trial = self._direction(now.gradient), torch.empty_like(x)

        def evaluate(length: float) -> tuple[float, float, Evaluation]:
            torch.add(x, direction, alpha=length, out=trial)
            assign(trial, self.treated)
            there = objective.loss_and_gradient(self.treated)
            return *torch.stack([there.loss, direction @ there.gradient]).tolist(), there

        loss, slope, size = torch.stack(
            [now.loss, direction @ now.gradient, now.gradient.abs().sum()]
        ).tolist()
        first = 1.0  # whatever a schedule says: the length of quasi-Newton steps is in H
        if fresh:
            first = min(1.0, (self.param_groups[0]["lr"] or 1.0) / max(size, 1e-300))
        search = strong_wolfe(
            evaluate,
            Point(0.0, loss, slope),
            first=first,
            c1=self.c1,
            c2=self.c2,
            limit=self.max_evaluations,
        )
        self.memory["evaluations"] += search.evaluations
        self.numbers.update({"step": search.point.length, "loss": search.point.loss})
        if not search.lower:
            assign(x, self.treated)
            self._failed(search.reason)
            return
        there = search.point.extra
        assign(torch.add(x, direction, alpha=search.point.length), self.treated)
        reached = flatten(self.treated)  # rounded to the precision of the parameters
        self._keep(reached - x, there.gradient - now.gradient)
        self._reached = (objective, reached, there)

    def _keep(self, s: Tensor, y: Tensor) -> None:
        sy, ss, yy = torch.stack([s @ y, s @ s, y @ y]).tolist()
        if not sy > TINY * (ss * yy) ** 0.5:
            self.memory["skipped"] += 1
            return
        self.memory["pairs"] = [*self.memory["pairs"], [s, y]][-self.history :]

    def _failed(self, reason: str) -> None:
        self.memory["pairs"] = []
        if not self.memory["failures"]:
            warnings.warn(
                f"AdamLBFGS found no lower loss along its direction: {reason}. The weights stay, "
                "the history is emptied; said once, counted as 'failures'. Near the accuracy of "
                "the numbers this is the end of what can be reached; else keep a batch for more "
                "steps (data.fixed_for), or use double precision.",
                NumericalWarning,
                stacklevel=2,
            )
        self.memory["failures"] += 1
