"""Hard constraints by a mixture of experts: every block of the grid solves for its own weights.

Given basis functions b_n over the whole grid, expert k of K finds

    w_k = argmin |r_k(w)|^2 / 2,     rows of r_k: the equation at points of block k,
                                     all initial and boundary conditions, a ridge sqrt(rho) w,

and the solution is assembled by location, u(x) = offset + sum_k phi_k(x) b(x) . w_k, with the
windows phi_k of the split. Derivatives of the basis are taken on the whole grid before it is cut.
All B K problems are one batch of the solver; derivatives with respect to the basis are the implicit
ones of each problem (`sciml.solvers`), nothing is unrolled.

Neighbours are not coupled: u may jump where blocks meet (`Constrained.jump`), and features that
are not local (a velocity from a vorticity) assume that an expert's weights hold everywhere, so the
residual of the assembled field (`HardConstraint.residual`) differs from those that the experts
minimised. `sweeps` solves again with rows that ask for the assembled field of the sweep before on
the points next to the block (Schwarz's alternating method, all blocks at once).

Sources: Chalapathi, Du & Krishnapriyan 2024, arXiv 2402.13412; Negiar, Mahoney & Krishnapriyan
2023, arXiv 2207.08675 (one expert). Departures: rows are not squared before they go into least
squares; exact Hessian in the derivative; Picard's iteration as start; conditions consistent with
the discretisation; overlap; coupling.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import counts, flag, generator, made, maybe, number, takes, tensor, text, whole
from sciml.errors import ConvergenceError, InvalidArgument
from sciml.physics.constraints import equation_checks
from sciml.physics.constraints.constrained_field import Constrained
from sciml.physics.constraints.equation import ConstrainedEquation
from sciml.physics.constraints.equation_checks import check_basis, check_field, check_rows, checked
from sciml.physics.constraints.exchange import ExpertParallel
from sciml.physics.constraints.expert_rows import (
    ExpertRows,
    coupled_rows,
    expert_rows,
    unit_columns,
)
from sciml.physics.constraints.expert_solve import picard_start, solve_experts
from sciml.physics.constraints.expert_split import Split, counts_of
from sciml.physics.constraints.points import ExpertPoints, PointSampler
from sciml.solvers import Implicit, LevenbergMarquardt, LinearLeastSquares, Status
from sciml.solvers.nonlinear.pointwise_least_squares import PointwiseRows
from sciml.solvers.solution import LinearReport, Policy, check_policy


class HardConstraint:
    """The layer: from basis functions to the field that obeys the equation.

    Args:
        equation: What is imposed.
        experts: Number of blocks, K; 1 is the global constraint.
        split: Over which axes: `space`, `time`, `space_time`, or counts per axis.
        overlap: Points to either side of a border over which experts fade into each other.
        points: Points of the equation per expert; None takes all of its block.
        picard: Picard iterations before the solver, for equations that have them.
        start: First weights before Picard's iteration.
        sweeps: Further solves, coupled to the neighbours.
        coupling: Weight of the coupling's rows.
        ridge: rho, of the scaled weights.
        solver: Of least squares; None takes Levenberg-Marquardt, one factorisation if linear.
        adjoint: Derivative rule; None for the exact one.
        on_failure: What happens to experts that fail: `raise`, `warn`, `mask` (best weights, no
            gradient), `best` (best weights with gradient), see `sciml.solvers.least_squares`.
        rank: Whether ranks are found as well, for one factorisation more.
        expert_ranks: Processes among which the experts are dealt out in training, see
            `sciml.physics.constraints.exchange`; 1 solves where the samples are.

    Raises:
        InvalidArgument: For numbers that cannot be, and blocks that would be empty.

    Example:
        >>> import torch
        >>> from sciml.physics.constraints import BurgersConstraint, HardConstraint
        >>> from sciml.physics.evolution import Burgers
        >>> problem = Burgers(points=64, time_count=11)
        >>> inputs = problem.sample(2, torch.Generator().manual_seed(0))
        >>> layer = HardConstraint(BurgersConstraint(problem), experts=4)
        >>> found = layer(torch.randn(2, 8, 11, 64), inputs)
        >>> found.value.shape, found.status.shape
        (torch.Size([2, 11, 64]), torch.Size([2, 4]))
    """

    @takes(
        equation=made(
            "features", "formula", "axes", "sizes", what="an equation with axes and sizes"
        ),
        experts=whole,
        split=lambda value: counts(value) if text(value) else "",
        overlap=whole,
        points=maybe(whole),
        picard=whole,
        start=number,
        sweeps=whole,
        coupling=number,
        ridge=number,
        rank=flag,
        expert_ranks=whole,
    )
    def __init__(
        self,
        equation: ConstrainedEquation,
        *,
        experts: int = 1,
        split: str | Sequence[int] = "space",
        overlap: int = 0,
        points: int | None = None,
        picard: int = 3,
        start: float = 0.0,
        sweeps: int = 0,
        coupling: float = 1.0,
        ridge: float = 1e-12,
        solver: Any = None,
        adjoint: Any = None,
        on_failure: Policy = "best",
        rank: bool = False,
        expert_ranks: int = 1,
    ) -> None:
        check_policy(on_failure)
        for name, value in (("picard", picard), ("sweeps", sweeps)):
            if value < 0:
                raise InvalidArgument(f"constraint.{name}={value}", "zero or more")
        if not 0 < coupling < math.inf:
            raise InvalidArgument(f"constraint.coupling={coupling}", "a positive number")
        if not math.isfinite(start):
            raise InvalidArgument(f"constraint.start={start}", "a number that is finite")
        if points is not None and points < 1:
            raise InvalidArgument(f"constraint.points={points}", "positive, or null for all")
        self.equation, self.overlap, self.points = equation, overlap, points
        self.counts = counts_of(experts, split, equation.axes, equation.sizes)
        self.picard, self.start, self.sweeps, self.coupling = picard, start, sweeps, coupling
        self.rows = PointwiseRows(equation.formula, ridge)
        self._picard_rows = PointwiseRows(self._frozen, ridge)
        default = LinearLeastSquares() if equation.linear else LevenbergMarquardt(1e-7, max_iter=50)
        self.solver, self.adjoint = solver or default, adjoint or Implicit()
        self.on_failure, self.rank = on_failure, rank
        self.exchange = ExpertParallel(expert_ranks, self.experts)
        self._samplers: dict[tuple[int, ...], PointSampler] = {}
        self._examined = False
        self.sampler(equation.sizes)

    @property
    def experts(self) -> int:
        """Number of experts, K."""
        return math.prod(self.counts)

    def using(self, solver: Any = None, adjoint: Any = None) -> HardConstraint:
        """Return the same layer with another solver or derivative rule; None keeps its own.

        A linear equation keeps its one factorisation.
        """
        out = copy.copy(self)
        out.solver = self.solver if solver is None or self.equation.linear else solver
        out.adjoint = adjoint or self.adjoint
        return out

    def judging(self) -> HardConstraint:
        """Return the same layer for evaluation: it finds ranks, and solves where the samples are.

        Processes may have different numbers of samples then.
        """
        out = copy.copy(self)
        out.exchange, out.rank = ExpertParallel(1, self.experts), True
        return out

    @takes(
        basis=tensor,
        inputs=tensor,
        generator=maybe(generator),
        bias=maybe(tensor),
        lifted=flag,
    )
    def __call__(
        self,
        basis: Tensor,
        inputs: Tensor,
        *,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
        lifted: bool = False,
    ) -> Constrained:
        """Return the field.

        Args:
            basis: `(B, N, *grid)`; the solve is in float64 whatever its dtype.
            inputs: What the problem samples, `(B, C, *space)`.
            generator: Chooses the points, on the CPU; without one all points are taken.
            bias: Of `sciml.physics.constraints.points.Balance`.
            lifted: Whether the basis holds differences of solutions already, which vanish where
                the offset of a lift is the solution.

        Raises:
            InvalidArgument: For shapes that do not fit, and fewer rows than functions.
            ConvergenceError: Under `raise`, if an expert failed.
        """
        with torch.autocast(basis.device.type, enabled=False):
            return self._solved(basis.double(), inputs.double(), generator, bias, lifted)

    def _solved(
        self,
        basis: Tensor,
        inputs: Tensor,
        generator: torch.Generator | None,
        bias: Tensor | None,
        lifted: bool,
    ) -> Constrained:
        equation, sizes = self.equation, tuple(basis.shape[2:])
        check_basis(equation, basis, inputs)
        sampler = self.sampler(sizes)
        split = sampler.split
        drawn = sampler.draw(None if generator is None else self.points, generator, bias)
        if not len(basis) and not self.exchange.spread:
            return self._nothing(basis, drawn, split)
        columns = basis if lifted else checked(equation, "columns", basis.shape, basis, inputs)
        columns = unit_columns(columns)
        shape = (len(basis), *sizes)
        offset = checked(equation, "offset", shape, basis, inputs)
        if not self._examined and columns.isfinite().all() and inputs.isfinite().all():
            equation_checks.check_structure(equation, columns.detach(), offset.detach(), inputs)
            self._examined = True
        rows = expert_rows(equation, columns, offset, inputs, drawn)
        check_rows(drawn, rows[4].shape[-2], basis.shape[1])

        def assembled(weights: Tensor) -> Tensor:
            value = offset + split.assemble(columns, weights)
            return checked(equation, "assembled", shape, value)

        weights = self._first(basis.new_full((len(rows[3]), basis.shape[1]), self.start), rows)
        found = self._solve(weights, rows, len(basis))
        value = assembled(found[0])
        for _ in range(self.sweeps):
            coupled = coupled_rows(rows, columns, value - offset, split, self.coupling)
            found = self._solve(found[0].detach().flatten(0, 1), coupled, len(basis))
            value = assembled(found[0])
        weights, status, iterations, residual, rank, adjoint = found
        failed = status != Status.CONVERGED
        if self.on_failure == "raise" and bool(failed.any()):  # others than the solver has seen
            raise ConvergenceError(
                f"the constraint failed for {int(failed.sum())} of {failed.numel()} problems of "
                f"this rank's samples, spread over {self.exchange.ranks} ranks",
                "every expert to converge under constraint.on_failure=raise",
                "Type more solver.max_iter, or constraint.on_failure=best",
            )
        return Constrained(
            value, columns, weights, status, iterations, residual, rank, drawn, split, adjoint
        )

    def _nothing(self, basis: Tensor, drawn: ExpertPoints, split: Split) -> Constrained:
        """Return the answer to no samples, for which Fourier transforms have none."""
        per = basis.new_zeros(0, self.experts)
        none = per.long()
        weights = basis.new_zeros(0, self.experts, basis.shape[1])
        rank = none if self.rank else None
        found = (weights, none, none, per, rank, drawn, split, LinearReport())
        return Constrained(basis.sum(1), basis, *found)

    def residual(self, value: Tensor, inputs: Tensor) -> Tensor:
        """Return the equation's residual `(B, *grid)` of a field, zero where it has no weight."""
        value, inputs = value.double(), inputs.double()
        if not len(value):
            return value * 0.0
        sizes = tuple(value.shape[1:])
        check_field(self.equation, value, inputs)
        values = equation_checks.features(self.equation, value, inputs, data=True)
        residual = self.equation.formula(values, self.equation.aux(inputs, sizes))
        return residual * self.equation.weight(sizes).to(value.device).sqrt()

    def conditions(self, value: Tensor, inputs: Tensor) -> Tensor:
        """Return the residuals `(B, k)` of initial and boundary conditions of a field."""
        check_field(self.equation, value, inputs)
        return equation_checks.conditions(self.equation, value.double(), inputs.double(), data=True)

    def sampler(self, sizes: Sequence[int]) -> PointSampler:
        """Return what draws points on a grid, kept for the next call."""
        sizes = tuple(sizes)
        if sizes not in self._samplers:
            equation = self.equation
            split = Split(sizes, self.counts, self.overlap, equation.periodic)
            weight, shared = (
                equation_checks.checked_over_grid(equation, name, sizes)
                for name in ("weight", "shared")
            )
            self._samplers[sizes] = PointSampler(split, weight, shared)
        return self._samplers[sizes]

    # --- solves ---------------------------------------------------------------------------------
    def _first(self, weights: Tensor, rows: ExpertRows) -> Tensor:
        """Return the weights after Picard's iteration, for equations that have it."""
        if self.equation.linear or not self.equation.picard:
            return weights
        return picard_start(self._picard_rows, weights, rows, self.picard)

    def _frozen(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        return self.equation.frozen(values, aux[: len(values)], aux[len(values) :])

    def _solve(self, weights: Tensor, rows: ExpertRows, count: int) -> tuple[Any, ...]:
        """Return weights, status, iterations, residual, rank `(B, K, ...)`, and the adjoint."""
        # a rank that raised before all have met again would leave the others waiting
        waits = self.exchange.spread and self.on_failure == "raise"
        solve = partial(
            solve_experts,
            self.rows,
            solver=self.solver,
            adjoint=self.adjoint,
            on_failure="best" if waits else self.on_failure,
            rank=self.rank,
        )
        *tensors, adjoint = self.exchange(solve, weights, rows, count)
        shaped = [None if t is None else t.unflatten(0, (count, -1)) for t in tensors]
        return *shaped, adjoint
