"""Energy natural gradient descent: Gauss-Newton steps by the smaller of two systems.

With the scaled residuals r and their Jacobian J (`loss = |r|^2 / 2`) the Gauss-Newton step is

    delta = -(J^T J + lambda)^-1 J^T r = -J^T (J J^T + lambda)^-1 r .

The first has as many unknowns as parameters, the second as many as residuals; the smaller one is
solved, in float64, by Cholesky factorisation. On a nonlinear problem a small lambda asks for steps
far beyond where the linearised residuals are true, and a search along them finds lengths of 1e-6.
So lambda follows the gain ratio, the fall of the loss that a step found over the one promised,
`|r|^2 / 2 - |r + J delta|^2 / 2`, as in `step_size.levenberg_marquardt`: it rises where next to
nothing of the promise came true, and falls back to `damping` once steps are worth taking.

References: ENGD, Mueller and Zeinhofer 2023, arXiv 2302.13163; kernel form (ENGD-W), Guzman-Cordero
et al. 2025, arXiv 2505.12149; Marquardt 1963. Departures: a step that is too long is shortened by
the search, and only one that achieves next to nothing is taken anew with a larger lambda; the
damping is relative to the mean diagonal of the system unless asked otherwise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, NumericalWarning, PerformanceWarning
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.jacobian import Jacobian, jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import total_loss
from sciml.optim.curvature.uses import UseCheck
from sciml.optim.full.gauss_newton_system import GaussNewtonSystem
from sciml.optim.line_search import HALVINGS, halvings
from sciml.optim.option_ranges import check, named_parameters, switches
from sciml.optim.step_size import GROWTH, LOW, levenberg_marquardt

# A warning after so many steps in a row that lower the loss by less than this share each.
STALLED_STEPS, STALLED_SHARE = 20, 1e-5
ATTEMPTS = 4  # values of lambda tried in one step


class ENGD(CurvatureOptimizer):
    """Gauss-Newton steps for residual losses, with a line search or a fixed step.

    Args:
        module: Network. Parameters alone will do, without the shortcuts that layers give.
        lr: Step length, or the longest step the line search tries.
        damping: lambda at the start, and the least later.
        relative: Whether it is relative to the mean diagonal of the system.
        line_search: Whether to halve the step until the loss of the batch stops falling.
        adapt_every: Steps between adaptations of lambda (Levenberg-Marquardt); 0 for never.
        fallback_lr: Adam's learning rate for complex parameters.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import ENGD, LossTerm, Objective
        >>> w = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = ENGD([w])
        >>> optimizer.update_curvature(Objective(lambda: [LossTerm("fit", w - 1, 1.0, 2)]))
        >>> optimizer.step()
        >>> [round(v, 3) for v in w.tolist()]  # linear residuals: one step
        [1.0, 1.0]
    """

    own_gradient = True
    accumulates = False

    def __init__(
        self,
        module: nn.Module | Iterable[Tensor],
        *,
        lr: float = 1.0,
        damping: float = 1e-8,
        relative: bool = True,
        line_search: bool = True,
        adapt_every: int = 1,
        fallback_lr: float = 1e-3,
    ) -> None:
        check(damping=damping, adapt_every=adapt_every)
        switches(relative=relative, line_search=line_search)
        treated, rest = [], []
        for name, p in named_parameters(module, type(self).__name__):
            if p.is_complex():
                rest.append((name, p, "complex"))
            else:
                treated.append(p)
        super().__init__(treated, {"lr": lr}, rest=rest, fallback_lr=fallback_lr)
        self.layers = affine_layers(module) if isinstance(module, nn.Module) else {}
        self.relative, self.line_search, self.adapt_every = relative, line_search, adapt_every
        self.searches = line_search or adapt_every > 0
        self.memory |= {"damping": damping, "growth": GROWTH, "stalled": 0}
        self.least = damping
        self._objective: Objective | None = None
        self._check = UseCheck(self.layers)
        self._system: GaussNewtonSystem | None = None
        self._factor: Tensor | None = None  # of the last system, damped
        self._image: Tensor | None = None  # J times the direction

    def observe(self, objective: Objective) -> None:
        """Compute the direction, and the gradient of what the fallback treats."""
        if self.layers and (mixing := self._check(objective)):
            self._without_layers(objective, mixing)
        self._direct(jacobian_of(objective, self.layers, self.treated, checked=True))
        self._objective = objective
        self._rest_gradients(objective)

    def _direct(self, jacobian: Jacobian) -> None:
        if self._system is None or self._system.jacobian is not jacobian:
            self._system = GaussNewtonSystem(jacobian, self.treated)
        direction, image = self.direction(jacobian)
        for p, d in zip(self.treated, direction, strict=True):
            self.state[p]["direction"] = d
        # slope and curvature along it: what the model says of a step of any length
        self._image = image
        self._model = torch.stack([jacobian.residual @ image, image @ image])

    def direction(self, jacobian: Jacobian) -> tuple[list[Tensor], Tensor]:
        """Return the Gauss-Newton direction, one tensor per parameter, and J times it `(R,)`."""
        return self._solve(-jacobian.residual)

    def direction_step(self) -> None:
        """Move along the direction.

        Raises:
            InvalidArgument: If `update_curvature` was not called for this step.
        """
        if self._objective is None:
            raise InvalidArgument(
                f"{type(self).__name__}.step() without update_curvature()",
                "a direction from the present loss terms",
                "Call optimizer.update_curvature(objective) before every step",
            )
        objective, self._objective = self._objective, None
        directions = [self.state[p]["direction"] for p in self.treated]
        lr = self.param_groups[0]["lr"]
        if not self.searches:
            self._move(directions, lr * self._cap(directions))
            self.numbers["step"] = torch.as_tensor(lr)
            return
        (before,) = objective.sum([total_loss(objective.terms()).detach().double()])
        if self.line_search:
            after = self._search_and_adapt(objective, lr, before)
        else:
            length = lr * self._cap(directions)
            self._move(directions, length)
            self.numbers["step"] = torch.as_tensor(length)
            after = objective.loss()
            self._adapt(self._ratio(lr, before, after))
        self._system = None
        self._watch(before, after)

    def _search_and_adapt(self, objective: Objective, lr: float, before: Tensor) -> Tensor:
        """Take a step, of more damping where the model's promise comes to nothing; return its loss.

        A new lambda costs a factorisation of a matrix that is there already, next to nothing beside
        the matrix itself.
        """
        adapts = self.adapt_every > 0 and self.steps % self.adapt_every == 0
        for attempt in range(ATTEMPTS if adapts else 1):
            directions = [self.state[p]["direction"] for p in self.treated]
            # a length a gains 2 a of the promise at most: shorter ones cannot reach LOW
            least = LOW / 2 * min(lr, 1.0) if adapts and attempt < ATTEMPTS - 1 else 0.0
            length, after = self._search(objective, directions, lr, before, least)
            ratio = self._ratio(lr, before, after)
            if adapts:
                self._adapt(ratio)
            if not adapts or not ratio < LOW or attempt == ATTEMPTS - 1:
                break
            self._direct(self._system.jacobian)  # lambda has risen
        self._move(directions, length)
        self.numbers["step"] = torch.as_tensor(length)
        return after

    def _ratio(self, lr: float, before: Tensor, after: Tensor) -> float:
        """Return the gain ratio; nan where rounding hides it."""
        slope, curvature = self._model
        full = min(lr, 1.0)  # beyond 1 the model itself rises again
        promised = -full * (slope + 0.5 * full * curvature)
        before, gained, promised = torch.stack([before, before - after, promised]).tolist()
        rounding = 32 * max((torch.finfo(p.dtype).eps for p in self.treated), default=0.0)
        ratio = gained / promised if promised > rounding * abs(before) else math.nan
        self.numbers["rho"] = torch.as_tensor(ratio, dtype=torch.float64)
        return ratio

    def _adapt(self, ratio: float) -> None:
        memory = self.memory
        if math.isnan(ratio) or not self.adapt_every or self.steps % self.adapt_every:
            return
        memory["damping"], memory["growth"] = levenberg_marquardt(
            memory["damping"], memory["growth"], ratio, self.least
        )
        if ratio < LOW:
            memory["length"] = None  # another direction: its length is found anew

    def _watch(self, before: Tensor, after: Tensor) -> None:
        """Warn, once in a row, where steps no longer lower the loss."""
        memory = self.memory
        falls = bool(before - after > STALLED_SHARE * before)
        memory["stalled"] = 0 if falls else memory["stalled"] + 1
        if memory["stalled"] == STALLED_STEPS:
            warnings.warn(
                f"{type(self).__name__} has lowered the loss by less than {STALLED_SHARE:.0e} of "
                f"it in each of the last {STALLED_STEPS} steps, now with a damping of "
                f"{memory['damping']:.0e}. The loss is at a minimum of this batch, or at the "
                "accuracy of the numbers, or Gauss-Newton steps do not help here: draw points "
                "anew (data.fixed_for), use double precision, or try another seed or "
                "optimizer=ssbroyden.",
                NumericalWarning,
                stacklevel=4,
            )

    def statistics(self) -> dict[str, float]:
        """Return step length, damping, gain ratio and the size of the kernel's diagonal."""
        return {name: float(value) for name, value in self.numbers.items()}

    # --- parts ----------------------------------------------------------------------------------
    def _solve(self, target: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return `J^T (J J^T + lambda)^-1 target`, by the smaller system, and J times that."""
        system = self._system
        y = self._cholesky(system.matrix.clone(), system.restricted(target))
        if y is None:
            return [torch.zeros_like(p) for p in self.treated], torch.zeros_like(target)
        if system.dense is None:  # (J J^T + lambda) y = target
            return system.directions(y), target - self.numbers["damping"] * y
        return system.directions(y), system.dense @ y

    def _without_layers(self, objective: Objective, mixing: frozenset[str]) -> None:
        """Take the Jacobian row by row from here on."""
        warnings.warn(
            f"the loss terms {sorted(mixing)} mix the samples of a batch (a mean, an integral, a "
            f"difference between points): {type(self).__name__} takes one backward pass per "
            "residual, which is exact and slower. Residuals that depend on their own sample alone "
            "need one pass in all",
            PerformanceWarning,
            stacklevel=3,
        )
        self.layers = {}
        objective.forget()  # its graph tells layers apart

    def _cholesky(self, system: Tensor, target: Tensor) -> Tensor | None:
        """Return `(system + lambda)^-1 target`; None, with a warning, if that is no number."""
        diagonal = system.diagonal()
        mean = diagonal.mean()
        unit = mean if self.relative else torch.ones_like(mean)
        shift = self.memory["damping"] * unit
        self.numbers.update({"damping": shift, "diagonal": mean})
        diagonal += shift
        factor, failed = torch.linalg.cholesky_ex(system)
        while failed:  # damping below the rounding error of the system: raise it until it is not
            if not (system.isfinite().all() and shift > 0):
                warnings.warn(
                    f"{type(self).__name__}: residuals or derivatives that are not finite, or all "
                    "zero; this batch adds nothing to the step",
                    NumericalWarning,
                    stacklevel=2,
                )
                return None
            diagonal += 9 * shift
            shift = 10 * shift
            self.numbers["damping"] = shift
            if self.adapt_every:
                self.memory["damping"] *= 10  # what rounding asks for now it will ask for again
            factor, failed = torch.linalg.cholesky_ex(system)
        self._factor = factor
        return torch.cholesky_solve(target[:, None], factor)[:, 0]

    def _cap(self, directions: list[Tensor]) -> float | Tensor:
        return 1.0

    def _move(self, directions: list[Tensor], length: float | Tensor) -> None:
        for p, d in zip(self.treated, directions, strict=True):
            p.add_(d * length)

    def _search(
        self,
        objective: Objective,
        directions: list[Tensor],
        lr: float,
        before: Tensor,
        least: float,
    ) -> tuple[float, Tensor]:
        """Return the best of L, L/2, L/4, ... before the loss rises again, and the loss there.

        Lengths below `least` are not tried.

        L is lr, or twice the length of the last step where that is shorter: steps on small batches
        settle far below lr, and every length tried costs an evaluation.
        """
        start = [p.clone() for p in self.treated]

        def loss_at(length: float) -> Tensor:
            for p, s, d in zip(self.treated, start, directions, strict=True):
                torch.add(s, d, alpha=length, out=p)
            return objective.loss()

        first = min(lr, 2 * (self.memory.get("length") or lr))
        count = HALVINGS
        if least:
            first = max(first, 2 * least)
            count = int(math.log2(first / least))
        length, after, _ = halvings(loss_at, before, first=first, count=count)
        for p, s in zip(self.treated, start, strict=True):
            p.copy_(s)
        self.memory["length"] = length
        return length, after

    def _rest_gradients(self, objective: Objective) -> None:
        if self.fallback is None:
            return
        rest = [p for _, p, _ in self._unregistered]
        for p, g in zip(rest, objective.gradient(rest), strict=True):
            p.grad = g
