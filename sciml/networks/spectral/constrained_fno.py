"""Operators whose output obeys an equation: a network of basis functions, and a layer behind it.

    b = network(a),     u = layer(b, a)

a are the fields that a problem samples, b functions over space and time, u the field whose weights
the layer has found (`sciml.physics.constraints`). Only the network has parameters, and the same
code predicts: the constraint is solved for every question, with a report per expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciml.arguments import made, maybe, number, takes, tensor, whole
from sciml.errors import InvalidArgument
from sciml.networks.spectral.basis_fno import BasisFNO
from sciml.networks.spectral.fourier_equilibrium import stretched
from sciml.typed_arguments import typed


class ConstrainedOperator(nn.Module):
    """A network and the layer that combines its functions.

    Args:
        constraint: The layer, for instance `sciml.physics.constraints.HardConstraint`.
        basis: Maps fields `(B, C, *grid)` to functions `(B, N, *grid)`.
        solver: Of least squares, in place of the constraint's own.
        adjoint: Derivative rule, likewise.
        patience: Factor on the solver's iterations, and divisor of its tolerance, outside training.
    """

    @takes(
        constraint=made("using", "judging", what="a layer, as HardConstraint(equation)"),
        solver=maybe(made("__call__", what="a solver, as LevenbergMarquardt()")),
        adjoint=maybe(made("order", what="a rule, as Implicit()")),
        patience=number,
    )
    def __init__(
        self,
        constraint: Any,
        basis: nn.Module,
        solver: Any = None,
        adjoint: Any = None,
        patience: float = 10.0,
    ) -> None:
        super().__init__()
        if not 1 <= patience < float("inf"):
            raise InvalidArgument(f"network.patience={patience}", "at least 1")
        self.constraint = constraint.using(solver=solver, adjoint=adjoint)
        patient = stretched(self.constraint.solver, patience)
        self.patient = self.constraint.using(solver=patient).judging()
        self.basis = basis

    @property
    def equation(self) -> Any:
        """What is imposed."""
        return self.constraint.equation

    @takes(field=tensor, levels=maybe(whole))
    def functions(self, field: Tensor, levels: int | None = None) -> Tensor:
        """Return the basis functions `(B, N, *grid)`.

        Args:
            field: What the problem samples, `(B, C, *space)`.
            levels: Time levels; None takes those of the problem.
        """
        equation = self.equation
        space = field.shape[2:]
        pairs = zip(equation.axes, equation.sizes, strict=True)
        wanted = (equation.in_channels, *(n for axis, n in pairs if axis != "t"))
        if tuple(field.shape[1:]) != wanted or (levels is not None and levels < 2):
            raise InvalidArgument(
                f"a field of shape {tuple(field.shape)}"
                + ("" if levels is None else f" for {levels} levels"),
                f"(B, {', '.join(map(str, wanted))})"
                + ("" if levels is None else ", and 2 or more"),
            )
        if "t" in equation.axes:
            sizes = (equation.sizes[0] if levels is None else levels, *space)
        else:
            sizes = tuple(space)
        return self.basis(equation.channels(field, sizes))

    def solve(
        self,
        field: Tensor,
        levels: int | None = None,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
    ) -> Any:
        """Return the `Constrained` field, in float64.

        Args:
            field: As in `functions`, as `levels`.
            levels: Time levels.
            generator: Chooses the constraint's points; None takes all.
            bias: See `sciml.physics.constraints.Balance`.
        """
        layer = self.constraint if self.training else self.patient
        basis = self.functions(field, levels)
        return layer(basis, field, generator=generator, bias=bias)

    def forward(self, field: Tensor, levels: int | None = None) -> Tensor:
        """Return u `(B, *grid)`."""
        return self.solve(field, levels).value.to(field.dtype)

    @takes(rounds=whole)
    def rollout(self, field: Tensor, rounds: int, levels: int | None = None) -> list[Any]:
        """Return the fields of several horizons, each begun where the last one ended.

        For equations that do not depend on time. The last level of a round is the first of the
        next.

        Args:
            field: As in `functions`.
            rounds: Horizons.
            levels: Time levels of each.

        Raises:
            InvalidArgument: For an equation without time.
        """
        if "t" not in self.equation.axes:
            raise InvalidArgument("a rollout of an equation without time", "an evolution equation")
        if rounds < 0:
            raise InvalidArgument(f"rounds={rounds}", "zero or more")
        out = []
        for _ in range(rounds):
            out.append(self.solve(field, levels))
            field = self.equation.after(out[-1].value, field)
        return out

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out: beside the field, what every expert did."""
        equation = self.equation
        real = {"unit": "1", "dtype": "float"}
        # the equation belongs to its grid in space; time may go on
        pairs = list(zip(equation.axes, equation.sizes, strict=True))
        grid = ["T" if axis == "t" else n for axis, n in pairs]
        space = [n for axis, n in pairs if axis != "t"]
        inputs = {"field": {"shape": ["N", equation.in_channels, *space], **real}}
        if "t" in equation.axes:
            inputs["times"] = {"shape": ["T"], "unit": "1", "dtype": "float", "optional": True}
        per = {"shape": ["N", self.constraint.experts], "unit": "1"}
        return {
            "inputs": inputs,
            "outputs": {
                "value": {"shape": ["N", *grid], **real},
                "converged": {**per, "dtype": "bool"},
                "status": {**per, "dtype": "int"},
                "iterations": {**per, "dtype": "int"},
                "rank": {**per, "dtype": "int"},
                "expert_residual": {**per, "dtype": "float"},
                "residual": {"shape": ["N"], **real},
                "jump": {"shape": ["N"], **real},
            },
        }

    def infer(self, field: Tensor, times: Tensor | None = None) -> dict[str, Tensor]:
        """Return the field as `value`, and how well it obeys its equation.

        Per expert `converged`, `status` (`sciml.solvers.Status`), `iterations`, `rank` (of its
        rows; below the number of functions, some of them are combinations of others there) and
        `expert_residual`, the root mean square of its rows of the equation; then the same of the
        equation over the assembled field, and of the jumps between experts.

        Args:
            field: What the problem samples.
            times: Times of the levels, from the problem's first in its own step; further or fewer
                than the problem has. None takes the problem's.

        Raises:
            InvalidArgument: For times that are others.
        """
        levels = None if times is None else self._levels(times)
        out = self.solve(field, levels)
        residual = self.constraint.residual(out.value, field)
        return {
            "value": out.value.to(field.dtype),
            "converged": out.converged,
            "status": out.status,
            "iterations": out.iterations,
            "rank": out.rank,
            "expert_residual": out.residual.to(field.dtype),
            "residual": residual.flatten(1).square().mean(1).sqrt().to(field.dtype),
            "jump": out.jump.to(field.dtype),
        }

    def _levels(self, times: Tensor) -> int:
        wanted = self.equation.level_times(max(2, len(times)))
        slack = 1e-3 * float(wanted[1])
        if len(times) < 2 or float((times.double().cpu() - wanted).abs().max()) > slack:
            raise InvalidArgument(
                f"times from {float(times[0]):.4g} to {float(times[-1]):.4g}",
                f"{', '.join(f'{t:.4g}' for t in wanted[:3].tolist())}, ...: the times that the "
                "operator was trained with",
            )
        return len(times)


@typed
class ConstrainedFNO(ConstrainedOperator):
    """A Fourier neural operator of basis functions whose combination obeys an equation.

    Args:
        constraint: The layer; it knows the grid.
        functions: Basis functions, N.
        width: Channels of the state.
        hidden: Hidden width of lift and decoder.
        modes: Modes kept per axis.
        blocks: Fourier layers.
        padding: Zeros behind axes that are not periodic, relative to their length.
        mean: Mean of every input channel.
        std: Its standard deviation.
        solver: As in `ConstrainedOperator`.
        adjoint: Likewise.
        patience: Likewise.

    Example:
        >>> import torch
        >>> from sciml.networks import ConstrainedFNO
        >>> from sciml.physics.constraints import HardConstraint, HeatConstraint
        >>> from sciml.physics.evolution import Heat
        >>> problem = Heat(points=32, time_count=6)
        >>> layer = HardConstraint(HeatConstraint(problem))
        >>> network = ConstrainedFNO(layer, functions=4, width=4, hidden=4, modes=2, blocks=1)
        >>> tuple(network(problem.sample(2, torch.Generator().manual_seed(0)).float()).shape)
        (2, 6, 32)
    """

    def __init__(
        self,
        constraint: Any,
        functions: int = 16,
        width: int = 16,
        hidden: int = 32,
        modes: int = 8,
        blocks: int = 4,
        padding: float = 0.25,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        solver: Any = None,
        adjoint: Any = None,
        patience: float = 10.0,
    ) -> None:
        equation = constraint.equation
        basis = BasisFNO(
            equation.sizes,
            in_channels=equation.in_channels,
            functions=functions,
            width=width,
            hidden=hidden,
            modes=modes,
            blocks=blocks,
            periodic=equation.periodic,
            time="t" in equation.axes,
            padding=padding,
            mean=mean,
            std=std,
        )
        super().__init__(constraint, basis, solver, adjoint, patience)
