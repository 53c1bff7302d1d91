"""The method of Levenberg and Marquardt: full Gauss-Newton steps, damped until the loss falls.

    delta = -(J^T J + lambda)^-1 J^T r,   theta <- theta + delta  if the loss falls

With `acceleration` the step follows the geodesic of the model to second order,

    delta + a / 2,    a = -(J^T J + lambda)^-1 J^T r'',    r'' = d^2 r(theta + s delta) / ds^2 ,

if a is short beside delta, 2 |a| <= acceleration |delta|: one more evaluation of the residuals
and the factor that is there already. It halves the number of steps where the valley bends.

After a good step lambda is multiplied by `fall`, after a bad one, which is taken back, by `rise`,
and the same matrix is solved anew. `ENGD` shortens steps of a small lambda by a search instead;
where residuals of different stiffness make a narrow curved valley, those become very short, and
damped steps, which turn towards the gradient, get further.

References: Marquardt 1963, "An algorithm for least-squares estimation of nonlinear parameters";
Moré 1978, "The Levenberg-Marquardt algorithm: implementation and theory"; Transtrum and Sethna
2012, "Improvements to the Levenberg-Marquardt algorithm", arXiv 1201.5885 (the acceleration, whose
second derivative is a difference with their h = 0.1).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.optim.curvature.jacobian import residual_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import total_loss
from sciml.optim.full.engd import ENGD
from sciml.optim.option_ranges import POSITIVE, check, number
from sciml.optim.step_size import MOST

REACH = 0.1  # share of the direction over which the second derivative is taken
ATTEMPTS = 8  # values of lambda tried in one step; if none helps, the weights stay


class LevenbergMarquardt(ENGD):
    """Damped Gauss-Newton steps for residual losses of networks with a few thousand weights.

    Args:
        module: Network, or parameters, as in `ENGD`.
        lr: Length of every step as a share of the full one.
        damping: lambda at the start, relative to the mean diagonal of the system.
        least: Smallest lambda.
        rise: Factor of lambda after a step that does not lower the loss.
        fall: Factor of lambda after one that does.
        acceleration: Greatest length of twice the second-order part of a step beside the first;
            0 for none.
        fallback_lr: Adam's learning rate for complex parameters.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import LevenbergMarquardt, LossTerm, Objective
        >>> line, x = torch.nn.Linear(1, 1), torch.linspace(0, 1, 8)[:, None]
        >>> optimizer = LevenbergMarquardt(line)
        >>> for step in range(8):
        ...     fit = Objective(lambda: [LossTerm("fit", line(x) - (3 * x + 1), 1.0, 8)], step=step)
        ...     optimizer.update_curvature(fit)
        ...     optimizer.step()
        >>> round(line.weight.item(), 2), round(line.bias.item(), 2)
        (3.0, 1.0)
    """

    def __init__(
        self,
        module: nn.Module | Iterable[Tensor],
        *,
        lr: float = 1.0,
        damping: float = 1e-2,
        least: float = 1e-12,
        rise: float = 3.0,
        fall: float = 0.3,
        acceleration: float = 0.75,
        fallback_lr: float = 1e-3,
    ) -> None:
        number(POSITIVE, least=least, rise=rise, fall=fall)
        if not fall < 1 < rise:
            raise InvalidArgument(
                f"optimizer.fall={fall}, optimizer.rise={rise}", "fall < 1 < rise"
            )
        super().__init__(module, lr=lr, damping=damping, line_search=False, fallback_lr=fallback_lr)
        check(acceleration=acceleration)
        self.least, self.rise, self.fall, self.acceleration = least, rise, fall, acceleration

    def direction_step(self) -> None:
        """Step with rising lambda until the loss falls.

        Raises:
            InvalidArgument: If `update_curvature` was not called for this step.
        """
        if self._objective is None:
            super().direction_step()  # which says so
        objective, self._objective = self._objective, None
        memory, lr = self.memory, self.param_groups[0]["lr"]
        (before,) = objective.sum([total_loss(objective.terms()).detach().double()])
        start, first = [p.clone() for p in self.treated], memory["damping"]
        after = before
        for _ in range(ATTEMPTS):
            self._move(self._bent(objective, start), lr)
            after = objective.loss()
            if bool(after < before):
                memory["damping"] = max(memory["damping"] * self.fall, self.least)
                break
            for p, s in zip(self.treated, start, strict=True):
                p.copy_(s)
            after = before
            memory["damping"] = min(memory["damping"] * self.rise, MOST)
            self._direct(self._system.jacobian)
        else:  # no lambda helps: the minimum of this batch, which says nothing of the next one's
            memory["damping"] = min(first * self.rise, MOST)
        self.numbers["step"] = torch.as_tensor(lr)
        self._system = None
        self._watch(before, after)

    def _bent(self, objective: Objective, start: list[Tensor]) -> list[Tensor]:
        """Return the direction and, where it is short enough, its second-order part.

        Args:
            objective: The loss.
            start: The parameters, where they are now.
        """
        directions = [self.state[p]["direction"] for p in self.treated]
        system = self._system
        if not self.acceleration or self._factor is None:
            return directions
        self._move(directions, REACH)
        there = residual_of(objective, objective.evaluated())
        for p, s in zip(self.treated, start, strict=True):
            p.copy_(s)
        curved = 2 / REACH * ((there - system.jacobian.residual) / REACH - self._image)
        y = torch.cholesky_solve(system.restricted(-curved[:, None]), self._factor)[:, 0]
        second = system.directions(y)
        sizes = [torch.stack([v.norm() for v in part]).norm() for part in (second, directions)]
        if not bool(2 * sizes[0] <= self.acceleration * sizes[1]):
            return directions
        return [d + 0.5 * a for d, a in zip(directions, second, strict=True)]
