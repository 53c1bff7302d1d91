"""Pressure systems of incompressible flow on a MAC grid, in 2-D and 3-D, a batch at once.

Pressure stands at cell centres, normal velocities at faces. With a provisional velocity u* find p
so that u = u* - (dt / rho) grad p has no divergence: for every fluid cell c

    sum over its faces f of w_f (p_c - p_nb(f)) = -(h / dt) sum_f s_f (A_f u*_f + (1 - A_f) u_solid)

with w_f = A_f / rho_f, A_f the open share of the face, s_f = +1 at the outer side. Everything is
scaled by h, so constant coefficients give the stencil 4, -1, -1, -1, -1 in 2-D and 6, -1 (six
times) in 3-D. For cells of widths h_a the weight of axis a is (h / h_a)^2 A_f / rho_f with h the
least width, and the flux of its faces counts h / h_a times.

    fluid neighbour   -w_f beside the diagonal, w_f on it
    solid neighbour   closed: A_f = 0
    air neighbour     p is known (0, or a surface value p_D): w_f / theta on the diagonal and
                      w_f p_D / theta on the right; theta is the share of the way to the surface
                      (ghost fluid), at least `least_fraction`

The density of a face is the mean of its two cells. Fluid that air never touches is a component of
its own with a constant free: the right-hand side loses its mean there, and p has mean zero.

Sources: Bridson, Fluid Simulation for Computer Graphics, 2nd ed. 2015, chapter 5; Batty, Bertails &
Bridson 2007, ACM TOG 26(3) (open shares of faces); Gibou et al. 2002, JCP 176 (ghost fluid).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.errors import InvalidArgument
from sciml.physics.fluids.staggered import Velocity
from sciml.solvers import Solution
from sciml.solvers.linear import Stencil, high, low
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed


class Cell(IntEnum):
    """What a cell holds.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import Cell, pressure_system
        >>> cells = torch.full((1, 4, 4), Cell.FLUID)
        >>> cells[0, 0, 0] = Cell.SOLID
        >>> int(pressure_system(cells).stencil.unknown.sum())
        15
    """

    FLUID = 0
    SOLID = 1
    AIR = 2


@dataclass(frozen=True, eq=False)
class PressureSystem:
    """Pressure matrices with what forms right-hand sides and corrects velocities.

    Make one with `pressure_system`. P is the shape of the batch; the faces of axis a, outermost
    ones included, have the shape of the grid with one entry more along that axis.

    Attributes:
        stencil: The matrices.
        opening: Per axis `(*P, *faces)`, A_f in [0, 1].
        mobility: Per axis `(*P, *faces)`, 1 / (rho_f theta_f); zero where no pressure acts.
        surface: `(*P, *grid)`, p in the air; None where it is zero.
        known: `(*P, *grid)`, what the pressure of the air adds to right-hand sides; None likewise.
        spacing: Cell widths h_a per axis.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import pressure_system
        >>> from sciml.solvers import CG
        >>> system = pressure_system(torch.zeros(1, 8, 8).long())  # fluid in a closed box
        >>> generator = torch.Generator().manual_seed(0)
        >>> shapes = (1, 9, 8), (1, 8, 9)
        >>> flow = [torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes]
        >>> flow, _ = system.project(flow, 0.1, linear=CG(), on_failure="raise")
        >>> bool(system.divergence(flow).abs().max() < 1e-8)
        True
    """

    stencil: Stencil
    opening: tuple[Tensor, ...]
    mobility: tuple[Tensor, ...]
    surface: Tensor | None
    known: Tensor | None
    spacing: tuple[float, ...]

    @property
    def scale(self) -> float:
        """Return h, the least cell width."""
        return min(self.spacing)

    def divergence(
        self, velocity: Sequence[Tensor], solid: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Return the net outward flux of every unknown cell, scaled, `(..., *P, *grid)`.

        Args:
            velocity: Per axis `(..., *P, *faces)`.
            solid: Per axis the velocity of the walls, likewise; None for walls at rest.

        Returns:
            Differences of the fluxes of axis a times h / h_a, summed; zero at other cells.

        Raises:
            InvalidArgument: If a velocity does not stand at the faces.
        """
        self._check_faces("velocity", velocity)
        if solid is not None:
            self._check_faces("solid", solid)
        d = self.stencil.ndim
        total = torch.zeros_like(self.stencil.shift)
        for a, (u, share) in enumerate(zip(velocity, self.opening, strict=True)):
            flux = share * u if solid is None else share * u + (1 - share) * solid[a]
            total = total + self.scale / self.spacing[a] * (high(flux, a - d) - low(flux, a - d))
        return torch.where(self.stencil.unknown, total, 0.0)

    @typed
    def right_hand_side(
        self, velocity: Sequence[Tensor], dt: float, solid: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Return b of A p = b, `(..., *P, *grid)`.

        Args:
            velocity: u*, per axis `(..., *P, *faces)`.
            dt: Time step, positive.
            solid: Velocity of the walls, per axis; None for walls at rest.

        Raises:
            InvalidArgument: For a time step that is not positive, or velocities that do not fit.
        """
        if not dt > 0:
            raise InvalidArgument(f"dt={dt}", "a positive time step", "Type dt=0.1")
        b = -(self.scale / dt) * self.divergence(velocity, solid)
        return b if self.known is None else b + self.known

    def corrected(
        self,
        velocity: Sequence[Tensor],
        pressure: Tensor,
        dt: float,
        solid: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """Return u = u* - (dt / rho) grad p per axis; closed faces get the velocity of the walls.

        The divergence of what comes back is -dt / h times the residual b - A p, to round-off.

        Args:
            velocity: u*, per axis `(..., *P, *faces)`.
            pressure: `(..., *P, *grid)`.
            dt: Time step.
            solid: Velocity of the walls, per axis; None for walls at rest.
        """
        d, out = self.stencil.ndim, []
        air = torch.zeros_like(pressure) if self.surface is None else self.surface
        p = torch.where(self.stencil.unknown, pressure, air)
        for a, u in enumerate(velocity):
            width = [0, 0] * (d - 1 - a)
            jump = pad(p, [*width, 0, 1]) - pad(p, [*width, 1, 0])
            new = u - dt / self.spacing[a] * self.mobility[a] * jump
            wall = torch.zeros_like(u) if solid is None else solid[a]
            out.append(torch.where(self.opening[a] > 0, new, wall))
        return tuple(out)

    def project(
        self,
        velocity: Sequence[Tensor],
        dt: float,
        *,
        linear: Any,
        on_failure: Policy,
        solid: Sequence[Tensor] | None = None,
        start: Tensor | None = None,
    ) -> tuple[tuple[Tensor, ...], Solution]:
        """Return the velocity without divergence, and the solve that made it so.

        Args:
            velocity: u*, per axis `(..., *P, *faces)`.
            dt: Time step.
            linear: Solver, see `Stencil.solve`.
            on_failure: Policy of the solve: `raise`, `warn`, `mask` or `best`.
            solid: Velocity of the walls, per axis; None for walls at rest.
            start: Pressure to start from, `(..., *P, *grid)`.

        Raises:
            ConvergenceError: Under `raise`, if a problem was not solved.
        """
        b = self.right_hand_side(velocity, dt, solid)
        found = self.stencil.solve(b, linear=linear, on_failure=on_failure, x0=start)
        return self.corrected(velocity, found.value, dt, solid), found

    def _check_faces(self, name: str, values: Sequence[Tensor]) -> None:
        wanted = [tuple(w.shape) for w in self.opening]
        got = [tuple(v.shape) for v in values]
        fits = len(got) == len(wanted) and all(
            g[len(g) - len(w) :] == w for g, w in zip(got, wanted, strict=True)
        )
        if not fits:
            raise InvalidArgument(
                f"{name} with components of shapes {got}",
                f"one component per axis, at its faces: (..., n) with n = {wanted}",
            )


@dataclass(frozen=True, eq=False)
class Projection:
    """How the pressure of a step was found.

    Attributes:
        system: Matrices.
        solution: Of the solve.
        provisional: Velocity before it.
        velocity: After it, before it is carried on beyond a surface.
        wall: Velocity of the solid.

    Example:
        >>> from sciml.physics.fluids import WakeFlow
        >>> from sciml.solvers.linear import FlexibleCG, Multigrid
        >>> flow = WakeFlow(shape=(16, 8), spacing=0.125)
        >>> state, projection = flow.step(
        ...     flow.start(), 0.05, lambda stencil: FlexibleCG(preconditioner=Multigrid(stencil))
        ... )
        >>> bool(projection.divergence().abs().max() < 1e-6), projection.solution.status.tolist()
        (True, [0])
    """

    system: PressureSystem
    solution: Solution
    provisional: Velocity
    velocity: Velocity
    wall: Velocity

    def divergence(self) -> Tensor:
        """Return the net outward flux of every fluid cell over h, `(B, *grid)`, per second."""
        return self.system.divergence(self.velocity, self.wall) / self.system.scale

    def left(self) -> Tensor:
        """Return the 2-norm of the divergence after the projection over that before, `(B,)`."""
        norms = [
            self.system.divergence(u, self.wall).flatten(1).norm(dim=1)
            for u in (self.velocity, self.provisional)
        ]
        return norms[0] / norms[1].masked_fill(norms[1] == 0, 1.0)
