"""HomoODE: an image classifier whose features flow from one shared start to near an equilibrium.

    dz/dt = F(z; x),  z(0) = z_0 the same for all images,  x = encoder(image),  logits = head(z(1))

in place of a deep equilibrium model's z = f(z; x); layers as in
`sciml.networks.image.flow_classifier`. Three fields:

    learned     F itself is the network, as published; it ends with a normalisation, so z(1) is no
                rest point but the end of a flow map conditioned on x
    residual    F = f(z; x) - z with f = bound tanh(field): its rest points are equilibria
    homotopy    the exact homotopy from z_0 to the equilibrium of that f

Departures from the published code: group normalisation of encoder and head on request; the adjoint
there leaves the state's part of the adjoint constant, ours does not.

Source: arXiv 2310.09583.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.image.flow_classifier import FlowClassifier
from sciml.networks.image.flow_start import AlternatingStart, LearnedStart
from sciml.solvers import HomotopyPath, Implicit, NewtonKrylov, ResidualFlow, fixed_point
from sciml.solvers.ode.ode_method import ODE
from sciml.solvers.solution import Solution
from sciml.typed_arguments import typed

GAIN = 0.3  # of the first normalisation, the only way z enters f: keeps f contracting at the start


@typed
class HomoODE(FlowClassifier):
    """Flow from a shared start, conditioned on the encoded image at every evaluation.

    Args:
        kind: Field: `learned`, `residual` or `homotopy`, see the top of this file.
        start: Shared z_0: `learned`, `alternating` (+1, -1 over channels) or `zeros`.
        bound: Bound of f in the `residual` and `homotopy` fields.
        tolerance: Relative residual at which an `ift` solve is done.
        gradient: As in `FlowClassifier`, or `ift`, the implicit derivative at the equilibrium, for
            the `residual` and `homotopy` fields; None for `backprop` (`learned`) and `ift`.
        solver: `ODE(...)`; with `ift` any solver of `sciml.solvers.fixed_point`.
        adjoint: Derivative rule of `ift`.
        options: Arguments of `FlowClassifier`.

    Raises:
        InvalidArgument: For combinations that are not defined.

    Example:
        >>> import torch
        >>> from sciml.networks import HomoODE
        >>> from sciml.solvers import ODE
        >>> network = HomoODE(
        ...     image_size=8, classes=3, width=8, head=8, groups=2, solver=ODE("rk4", steps=2)
        ... )
        >>> tuple(network(torch.rand(2, 1, 8, 8)).shape)
        (2, 3)
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        classes: int = 10,
        image_size: int = 8,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        width: int = 32,
        head: int = 64,
        groups: int = 8,
        norm: Literal["batch", "group"] = "batch",
        activation: str = "relu",
        stride: int = 1,
        dropout: float = 0.0,
        kind: Literal["learned", "residual", "homotopy"] = "learned",
        start: Literal["learned", "alternating", "zeros"] = "learned",
        bound: float = 0.9,
        tolerance: float = 1e-4,
        gradient: str | None = None,
        on_failure: str = "raise",
        solver: Any = None,
        adjoint: Implicit | None = None,
    ) -> None:
        if kind not in ("learned", "residual", "homotopy"):
            raise InvalidArgument(f"network.kind={kind}", "learned, residual or homotopy")
        gradient = gradient or ("backprop" if kind == "learned" else "ift")
        solver = solver or ODE()
        if kind == "learned" and gradient == "ift":
            raise InvalidArgument(
                "network.gradient=ift with network.kind=learned",
                "a field with a rest point: z(1) of a learned flow is none",
                "Type network.kind=residual, or network.gradient=backprop",
            )
        if kind == "homotopy" and gradient != "ift":
            raise InvalidArgument(
                f"network.gradient={gradient} with network.kind=homotopy",
                "ift: the path ends in the equilibrium wherever it went",
            )
        super().__init__(
            in_channels=in_channels,
            classes=classes,
            image_size=image_size,
            mean=mean,
            std=std,
            width=width,
            head=head,
            groups=groups,
            norm=norm,
            activation=activation,
            stride=stride,
            dropout=dropout,
            gradient=gradient,
            on_failure=on_failure,
            solver=solver,
        )
        if start == "learned":
            self.start = LearnedStart(width)
        elif start in ("alternating", "zeros"):
            self.start = AlternatingStart(width, 1.0 if start == "alternating" else 0.0)
        else:
            raise InvalidArgument(f"network.start={start}", "learned, alternating or zeros")
        self.kind, self.bound, self.tolerance, self.adjoint = kind, bound, tolerance, adjoint
        if kind != "learned":
            nn.init.constant_(self.field.norm1.weight, GAIN)

    def mapped(self, z: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return f(z; x), whose fixed points are equilibria."""
        return self.bound * torch.tanh(self.field(z, x, mask))

    def velocity(self, t: Tensor, z: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return dz/dt, shape of z; for the homotopy the residual f(z; x) - z."""
        return self.field(z, x, mask) if self.kind == "learned" else self.mapped(z, x, mask) - z

    def rest_scale(self, z: Tensor, velocity: Tensor) -> Tensor:
        """Return z for a learned field, else f."""
        return z if self.kind == "learned" else velocity + z

    def initial(self, x: Tensor) -> Tensor:
        """Return the shared start in the shape of x; the loss does not reach it."""
        return self.start().to(x.dtype)[:, None, None].expand_as(x)

    def solve(self, x: Tensor, mask: Tensor | None, **options: Any) -> Solution:
        """Return z(1), or the equilibrium."""
        if self.gradient != "ift":
            return super().solve(x, mask, **options)
        settings = {"on_failure": self.on_failure, "adjoint": self.adjoint}
        start = self.initial(x).contiguous()
        return fixed_point(self.mapped, start, (x, mask), solver=self._finder(), **settings)

    def _finder(self) -> Any:
        """Return the solver of the equilibrium."""
        if not isinstance(self.solver, ODE):
            return self.solver
        if self.kind == "homotopy":
            return HomotopyPath(self.solver, corrector=NewtonKrylov(rtol=self.tolerance))
        finest = 0.1 * self.tolerance  # an adaptive method never rests below its own tolerances
        rtol, atol = min(self.solver.rtol, finest), min(self.solver.atol, finest)
        return ResidualFlow(replace(self.solver, rtol=rtol, atol=atol), rtol=self.tolerance)

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out."""
        schema = super().schema()
        schema["outputs"]["converged"] = {"shape": ["N"], "unit": "1", "dtype": "float"}
        return schema

    def infer(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits as `value`, the equilibrium residual, and whether the solve succeeded."""
        flow = self.flow(image)
        found = {"value": flow.logits, "residual": self.equilibrium_residual(flow)}
        return found | {"converged": flow.solution.converged.to(flow.logits.dtype)}
