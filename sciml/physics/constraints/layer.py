"""Hard constraints by a mixture of experts: every block of the grid solves for its own weights.

Given basis functions b_n over the whole grid, expert k of K finds

    w_k = argmin |r_k(w)|^2 / 2,     rows of r_k: the equation at points of block k,
                                     all initial and boundary conditions, a ridge sqrt(rho) w,

and the solution is assembled by location, u(x) = offset + sum_k phi_k(x) b(x) . w_k, with the
windows phi_k of the split. Derivatives of the basis are taken on the whole grid before it is cut.
All B K problems are one batch of the solver; derivatives with respect to the basis are the implicit
ones of each problem (`sciml.solvers`), nothing is unrolled.

Columns are scaled to root mean square 1 over the grid, so the ridge and the solver do not see how
large the network made a function. Rows count as means: over an expert's own points, over the
points that all experts share, and over the conditions as the equation weighs them.

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
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import counts, flag, generator, made, maybe, number, takes, tensor, text, whole
from sciml.errors import ConvergenceError, InvalidArgument
from sciml.physics.constraints import asked
from sciml.physics.constraints.constrained_field import Constrained
from sciml.physics.constraints.equation import ConstrainedEquation
from sciml.physics.constraints.exchange import ExpertParallel
from sciml.physics.constraints.expert_split import Split, counts_of
from sciml.physics.constraints.points import PointSampler, PointSet
from sciml.solvers import Implicit, LevenbergMarquardt, LinearLeastSquares, Status, least_squares
from sciml.solvers.nonlinear.linear_least_squares import solved
from sciml.solvers.nonlinear.pointwise_least_squares import PointwiseRows
from sciml.solvers.solution import LinearReport, Policy, check_policy

# theta of `PointwiseRows`: features, offsets, aux, scale, matrix, target; P = B K in front
Rows = tuple[list[Tensor], list[Tensor], list[Tensor], Tensor, Tensor, Tensor]


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
            raise InvalidArgument(
                f"constraint.points={points}", "a positive number, or null for all points"
            )
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

    # --- the layer ------------------------------------------------------------------------------
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
        self._check(basis, inputs)
        sampler = self.sampler(sizes)
        split = sampler.split
        drawn = sampler.draw(None if generator is None else self.points, generator, bias)
        if not len(basis) and not self.exchange.spread:
            return self._nothing(basis, drawn, split)
        columns = basis if lifted else asked.asked(equation, "columns", basis.shape, basis, inputs)
        columns = unit_columns(columns)
        shape = (len(basis), *sizes)
        offset = asked.asked(equation, "offset", shape, basis, inputs)
        if not self._examined and columns.isfinite().all() and inputs.isfinite().all():
            asked.examine(equation, columns.detach(), offset.detach(), inputs)
            self._examined = True
        rows = self._rows(columns, offset, inputs, drawn)
        self._check_rows(drawn, rows[4].shape[-2], basis.shape[1])
        weights = basis.new_full((len(rows[3]), basis.shape[1]), self.start)
        weights = self._first(weights, rows)
        found = self._solve(weights, rows, len(basis))
        value = asked.asked(
            equation, "assembled", shape, offset + split.assemble(columns, found[0])
        )
        for _ in range(self.sweeps):
            coupled = self._coupled(rows, columns, value - offset, split)
            found = self._solve(found[0].detach().flatten(0, 1), coupled, len(basis))
            value = asked.asked(
                equation, "assembled", shape, offset + split.assemble(columns, found[0])
            )
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

    def _nothing(self, basis: Tensor, drawn: PointSet, split: Split) -> Constrained:
        """Return the answer to no samples, for which Fourier transforms have none."""
        per = basis.new_zeros(0, self.experts)
        none = per.long()
        weights, rank = (
            basis.new_zeros(0, self.experts, basis.shape[1]),
            none if self.rank else None,
        )
        value = basis.sum(1)
        return Constrained(
            value, basis, weights, none, none, per, rank, drawn, split, LinearReport()
        )

    def residual(self, value: Tensor, inputs: Tensor) -> Tensor:
        """Return the equation's residual `(B, *grid)` of a field, zero where it has no weight."""
        value, inputs = value.double(), inputs.double()
        if not len(value):
            return value * 0.0
        sizes = tuple(value.shape[1:])
        self._check_field(value, inputs)
        values = asked.features(self.equation, value, inputs, data=True)
        residual = self.equation.formula(values, self.equation.aux(inputs, sizes))
        return residual * self.equation.weight(sizes).to(value.device).sqrt()

    def conditions(self, value: Tensor, inputs: Tensor) -> Tensor:
        """Return the residuals `(B, k)` of initial and boundary conditions of a field."""
        self._check_field(value, inputs)
        return asked.conditions(self.equation, value.double(), inputs.double(), data=True)

    def sampler(self, sizes: Sequence[int]) -> PointSampler:
        """Return what draws points on a grid, kept for the next call."""
        sizes = tuple(sizes)
        if sizes not in self._samplers:
            equation = self.equation
            split = Split(sizes, self.counts, self.overlap, equation.periodic)
            weight, shared = (asked.over(equation, name, sizes) for name in ("weight", "shared"))
            self._samplers[sizes] = PointSampler(split, weight, shared)
        return self._samplers[sizes]

    # --- rows -----------------------------------------------------------------------------------
    def _rows(self, columns: Tensor, offset: Tensor, inputs: Tensor, points: PointSet) -> Rows:
        """Return the rows of all experts, see `PointwiseRows`; P = B K."""
        equation, dims = self.equation, len(self.equation.axes)
        experts = len(points.index)

        def matrices(t: Tensor) -> Tensor:
            # (B, N, K, m) -> (B K, m, N)
            return points.gather(t, dims).permute(0, 2, 3, 1).flatten(0, 1).contiguous()

        def vectors(t: Tensor) -> Tensor:
            return points.gather(t, dims).flatten(0, 1)

        features = [matrices(t) for t in asked.features(equation, columns, inputs, data=False)]
        offsets = [vectors(t) for t in asked.features(equation, offset, inputs, data=True)]
        aux = [vectors(t) for t in equation.aux(inputs, columns.shape[2:])]
        scale = points.scale.to(columns.device).repeat(len(columns), 1)
        matrix = asked.conditions(equation, columns, inputs, data=False).mT
        target = -asked.conditions(equation, offset, inputs, data=True)
        matrix = matrix.repeat_interleave(experts, 0)
        return features, offsets, aux, scale, matrix, target.repeat_interleave(experts, 0)

    def _coupled(self, rows: Rows, columns: Tensor, mixture: Tensor, split: Split) -> Rows:
        """Return the rows with those that ask for the mixture next to every block."""
        halo = split.halo()
        most = max(len(h) for h in halo)
        if most == 0:
            return rows
        index = torch.zeros(len(halo), most, dtype=torch.long)
        scale = torch.zeros(len(halo), most, dtype=torch.float64)
        for k, h in enumerate(halo):
            index[k, : len(h)], scale[k, : len(h)] = h, self.coupling / max(len(h), 1) ** 0.5
        beside = PointSet(index, scale, tuple(len(h) for h in halo))
        dims, size = columns.dim() - 2, scale.to(columns.device)
        more = (beside.gather(columns, dims) * size).permute(0, 2, 3, 1).flatten(0, 1)
        wanted = (beside.gather(mixture, dims) * size).flatten(0, 1)
        *first, matrix, target = rows
        return *first, torch.cat([matrix, more], -2), torch.cat([target, wanted], -1)

    # --- solves ---------------------------------------------------------------------------------
    def _first(self, weights: Tensor, rows: Rows) -> Tensor:
        """Return the weights after Picard's iteration."""
        if self.equation.linear or not self.equation.picard:
            return weights
        features, offsets, aux, *rest = detached(rows)
        with torch.no_grad():
            for _ in range(self.picard):
                at = [
                    (t @ weights[..., None])[..., 0] + o
                    for t, o in zip(features, offsets, strict=True)
                ]
                frozen = (features, offsets, [*at, *aux], *rest)
                jacobian = self._picard_rows.jacobian(weights, *frozen)
                step, *_ = solved(jacobian, -self._picard_rows.rows(weights, *frozen))
                weights = torch.where(step.isfinite(), weights + step, weights)
        return weights

    def _frozen(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        return self.equation.frozen(values, aux[: len(values)], aux[len(values) :])

    def _solve(self, weights: Tensor, rows: Rows, count: int) -> tuple[Any, ...]:
        """Return weights, status, iterations, residual, rank `(B, K, ...)`, and the adjoint."""
        solver = copy.copy(self)
        if self.exchange.spread and self.on_failure == "raise":
            # a rank that raised before all have met again would leave the others waiting
            solver.on_failure = "best"
        *tensors, adjoint = self.exchange(solver.solve_problems, weights, rows, count)
        shaped = [None if t is None else t.unflatten(0, (count, -1)) for t in tensors]
        return *shaped, adjoint

    def solve_problems(self, weights: Tensor, rows: Rows) -> tuple[Any, ...]:
        """Return weights `(P, N)`, status, iterations, residual, rank and adjoint of P problems."""
        solution = least_squares(
            self.rows.rows,
            weights,
            rows,
            on_failure=self.on_failure,
            solver=self.solver,
            adjoint=self.adjoint,
            jacobian=self.rows.jacobian,
            hessian=self.rows.hessian,
        )
        with torch.no_grad():
            fixed, value = detached(rows), solution.value.detach()
            m = rows[0][0].shape[-2]
            residual = self.rows.rows(value, *fixed)[..., :m].norm(dim=-1)
            rank = None
            if self.rank:
                jacobian = self.rows.jacobian(value, *fixed)
                jacobian = jacobian[..., : m + rows[4].shape[-2], :]  # the ridge hides the rank
                rank = solved(jacobian, jacobian.new_zeros(jacobian.shape[:-1]), 1e-10)[2]
        found = (solution.value, solution.status, solution.iterations, residual, rank)
        return *found, solution.adjoint

    # --- checks ---------------------------------------------------------------------------------
    def _check(self, basis: Tensor, inputs: Tensor) -> None:
        axes, sizes = self.equation.axes, self.equation.sizes
        wanted = ["T" if a == "t" else n for a, n in zip(axes, sizes, strict=True)]
        space = tuple(n for n in wanted if n != "T")
        fits = basis.dim() == 2 + len(axes)
        fits = fits and all(w in ("T", n) for w, n in zip(wanted, basis.shape[2:], strict=True))
        if not fits or tuple(inputs.shape[2:]) != space:
            raise InvalidArgument(
                f"basis functions of shape {tuple(basis.shape)} with inputs of shape "
                f"{tuple(inputs.shape)}",
                f"(B, N, {', '.join(map(str, wanted))}) and (B, {self.equation.in_channels}, "
                f"{', '.join(map(str, space))})",
                "An equation belongs to its grid in space: make it for the problem on yours",
            )
        if not basis.shape[1]:
            raise InvalidArgument("no basis functions", "at least one", "Type network.functions=16")
        if len(basis) != len(inputs) or inputs.shape[1] != self.equation.in_channels:
            raise InvalidArgument(
                f"inputs of shape {tuple(inputs.shape)} for {len(basis)} samples",
                f"({len(basis)}, {self.equation.in_channels}, ...)",
            )

    def _check_field(self, value: Tensor, inputs: Tensor) -> None:
        """Refuse fields `(B, *grid)` and inputs that are not on the equation's grid."""
        pairs = list(zip(self.equation.axes, self.equation.sizes, strict=True))
        space = tuple(n for axis, n in pairs if axis != "t")
        there = tuple(value.shape[1 + len(pairs) - len(space) :])
        fits = value.dim() == 1 + len(pairs) and there == space
        if not fits or len(inputs) != len(value) or tuple(inputs.shape[2:]) != space:
            wanted = ", ".join("T" if axis == "t" else str(n) for axis, n in pairs)
            raise InvalidArgument(
                f"a field of shape {tuple(value.shape)} with inputs of shape {tuple(inputs.shape)}",
                f"(B, {wanted}) and (B, {self.equation.in_channels}, {', '.join(map(str, space))})",
            )

    @staticmethod
    def _check_rows(points: PointSet, conditions: int, functions: int) -> None:
        """Refuse experts that have fewer rows than functions: their weights were arbitrary."""
        least = min(points.counts) + conditions
        if least < functions:
            raise InvalidArgument(
                f"an expert with {least} rows for {functions} basis functions",
                "at least as many rows (points and conditions) as functions",
                "Type more constraint.points, fewer experts, or fewer network.functions",
            )


def unit_columns(columns: Tensor) -> Tensor:
    """Return functions `(B, N, *grid)` over their root mean squares; those that vanish stay."""
    dims = tuple(range(2, columns.dim()))
    size = columns.square().mean(dims, keepdim=True)
    return columns / torch.where(size > 0, size, 1.0).sqrt()


def detached(rows: Rows) -> Rows:
    """Return the rows without graph."""
    features, offsets, aux, *rest = rows
    lists = ([t.detach() for t in part] for part in (features, offsets, aux))
    return *lists, *(t.detach() for t in rest)
