"""Forward solvers that reach an equilibrium by integrating an ODE.

Both are solvers of `fixed_point` and `root`: they find a solution without a graph, and the implicit
derivative is attached to it, so no trajectory is kept or retraced.

    residual flow    dz/dt = T(z) - z                                   (a root: -F), until it rests
    homotopy         (I - l J(z)) dz/dl = T(z) - z_0,  l from 0 to 1    J = dT/dz, z(0) = z_0
    Newton homotopy  (I -   J(z)) dz/dl = T(z_0) - z_0

The homotopies follow the zeros of H(z, l) = z - l T(z) - (1 - l) z_0 and of r(z) - (1 - l) r(z_0)
with r = z - T; the path exists while the matrix stays invertible.

Source: arXiv 2310.09583 (equilibrium models by homotopy).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.bookkeeping import SolverProgress, check_numbers, check_tolerances
from sciml.solvers.derivatives.implicit import Implicit
from sciml.solvers.nonlinear.newton import NewtonKrylov
from sciml.solvers.ode.initial_value import integrate
from sciml.solvers.ode.ode_method import ODE
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class ResidualFlow:
    """Integrate `dz/dt = T(z) - z` until the residual meets its tolerance.

    Converges where the eigenvalues of dT/dz have real parts below 1, a weaker condition than plain
    iteration's. The horizon is walked in windows; each problem stops after its own.

    Args:
        ode: Method, by default two steps of rk4 per unit of time. Near rest an adaptive method
            jitters at its own tolerances, which must lie below `rtol`; fixed steps come to rest.
        horizon: Time after which a problem has failed.
        window: Time between two looks at the residual.
        rtol: Tolerance on |z - T(z)| / |T(z)| (for a root: over |F(z0)|); None takes 1e-10 in
            float64, 1e-5 below.
        atol: Absolute tolerance.

    Raises:
        InvalidArgument: If a time is not positive and finite, or tolerances cannot work.

    Example:
        >>> import torch
        >>> from sciml.solvers import ResidualFlow, fixed_point
        >>> found = fixed_point(  # plain iteration would diverge: the slope is -2
        ...     lambda x: 3.0 - 2 * x, torch.zeros(1, 1), solver=ResidualFlow(), on_failure="raise"
        ... )
        >>> round(found.value.item(), 3)
        1.0
    """

    ode: ODE = field(default_factory=lambda: ODE("rk4", steps=2))
    horizon: float = 50.0
    window: float = 1.0
    rtol: float | Tensor | None = None
    atol: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_tolerances(self.rtol, self.atol)
        check_numbers(window=self.window, horizon=self.horizon)
        if not 0 < self.window <= self.horizon < math.inf:
            raise InvalidArgument(
                f"window={self.window}, horizon={self.horizon}", "0 < window <= horizon"
            )

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Integrate from `x`."""
        windows = math.ceil(self.horizon / self.window)
        progress = SolverProgress(
            task.layout, x, self.rtol, self.atol, windows, 1, blind=task.kind != "fixed_point"
        )
        r = task.residual(x)
        progress.update(x, task.layout.norm(r), task.scale(x, r))
        settings = {"ode": self.ode, "times": (0.0, self.window), "layout": task.layout}
        while progress.go_on():
            # a finished problem must not make the steps of the others small
            going = task.layout.spread(progress.active, x)

            def velocity(t: Tensor, z: Tensor, going: Tensor = going) -> Tensor:
                return torch.where(going, -task.residual(z), torch.zeros_like(z))

            moved = integrate(velocity, x, on_failure="best", **settings).value
            x = progress.keep(moved)
            r = task.residual(x)
            progress.update(x, task.layout.norm(r), task.scale(x, r))
        return progress.outcome(task.evaluations)


@typed
@dataclass(frozen=True)
class HomotopyPath:
    """Follow a homotopy from `z_0` to the solution, then correct what integration left.

    Every velocity costs a linear solve. Works without contraction, where iterations need a good
    start; the corrector starts at the end of the path.

    Args:
        ode: Method and tolerances along the path.
        kind: `fixed_point` or `newton`, see the module's text.
        linear: Linear solver; None chooses as `sciml.solvers.derivatives.adjoint_choice` does.
        corrector: Solver applied at the end, which judges the result; None for `NewtonKrylov()`.

    Raises:
        InvalidArgument: For an unknown kind.

    Example:
        >>> import torch
        >>> from sciml.solvers import HomotopyPath, root
        >>> solver, start = HomotopyPath(), torch.zeros(1, 1)
        >>> found = root(lambda x: x**3 + x - 10, start, solver=solver, on_failure="raise")
        >>> round(found.value.item(), 3)
        2.0
    """

    ode: ODE = field(default_factory=ODE)
    kind: Literal["fixed_point", "newton"] = "fixed_point"
    linear: Any = None
    corrector: Any = None

    def __post_init__(self) -> None:
        """Check the kind."""
        if str(self.kind) not in ("fixed_point", "newton"):
            raise InvalidArgument(f"kind={self.kind!r}", "fixed_point or newton")

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Follow the path from `x`."""
        end = self.path(task, x, (0.0, 1.0))[-1]
        fine = task.layout.norm(end).isfinite()
        end = torch.where(task.layout.spread(fine, x), end, x)
        return (self.corrector or NewtonKrylov())(task, end)

    def path(self, task: Task, x: Tensor, levels: tuple[float, ...]) -> Tensor:
        """Return z at increasing values of l, the first of which belongs to `x`, `(L, *shape)`."""
        first = task.residual(x)

        def velocity(level: Tensor, z: Tensor) -> Tensor:
            a = task.linearise(z)  # I - J
            if self.kind == "newton":
                return self._solve(a, -first)
            blend = _blended(a, level)
            return self._solve(blend, (z - x) - task.residual(z))

        settings = {"ode": self.ode, "times": levels, "layout": task.layout}
        return integrate(velocity, x, on_failure="best", **settings).stats["path"]

    def _solve(self, a: Operator, b: Tensor) -> Tensor:
        linear = self.linear or Implicit().solver_for(a, near_identity=self.kind == "fixed_point")
        return linear(a, b, None).value


def _blended(a: Operator, level: Tensor) -> Operator:
    """Return `(1 - l) I + l A`, which is `I - l J` for `A = I - J`."""

    def mixed(product: Any) -> Any:
        return lambda v: (1 - level) * v + level * product(v)

    back = None if a.symmetric else mixed(a.rmatvec)
    return Operator(mixed(a.matvec), back, a.like, a.layout, symmetric=a.symmetric)
