"""Time steps of incompressible flow in two and three dimensions, the same for every scene.

    1. scalars and velocity are carried along (MacCormack)
    2. forces act: buoyancy, gravity, viscosity (explicit, in substeps that are stable)
    3. walls: closed faces get the velocity of the body
    4. pressure takes the divergence away (`PressureSystem.project`)
    5. beyond the surface of a liquid, the velocity is carried on

A `Flow` says what is special about a scene (`flow_scenes`). Axis 1 points up. Values inside bodies
are those of the body, so a fluid beside it feels its motion (no slip). The sides of the grid slip.

Source: Bridson, Fluid Simulation for Computer Graphics, 2nd ed. 2015, chapters 2 to 6 and 8.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.arguments import counts, number, some
from sciml.errors import ConvergenceError, InvalidArgument, InvalidType, NumericalWarning
from sciml.physics.fluids.advection import advect, advect_velocity
from sciml.physics.fluids.bodies import MovingBall, all_closed
from sciml.physics.fluids.pressure_assembly import pressure_system
from sciml.physics.fluids.pressure_projection import Cell, PressureSystem, Projection
from sciml.physics.fluids.staggered import Velocity, extrapolated, points
from sciml.shapes import as_array
from sciml.solvers.linear import Stencil, high, low
from sciml.solvers.solution import Policy

SOLID, AIR = Cell.SOLID, Cell.AIR
STABLE = 0.8  # share of the largest stable substep of diffusion, h^2 / (2 d nu)
FASTEST = 1e9  # cells in one step; faster is no flow
SUBSTEPS = 10_000  # more in one step are a mistake in a unit
LAYERS = 4  # of faces beyond a surface that get a velocity, besides those that a step crosses


@dataclass(frozen=True, eq=False)
class FlowState:
    """A flow at one time.

    Attributes:
        velocity: Per axis `(B, *faces)`.
        pressure: `(B, *grid)`, of the last projection; where the next solve starts.
        fields: Cell scalars by name, `(B, *grid)`: `density` of smoke, `level_set` of a liquid;
            and `volume` `(B,)`, what a liquid began with, in cells.
        time: Seconds since the start.

    Example:
        >>> from sciml.physics.fluids import SmokeFlow
        >>> state = SmokeFlow(shape=(8, 12), spacing=0.1).start(batch=2)
        >>> [tuple(u.shape) for u in state.velocity], tuple(state.pressure.shape)
        ([(2, 9, 12), (2, 8, 13)], (2, 8, 12))
        >>> sorted(state.fields), state.time
        (['density'], 0.0)
    """

    velocity: Velocity
    pressure: Tensor
    fields: dict[str, Tensor]
    time: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Flow(ABC):
    """A scene on a grid of square cells.

    Args:
        shape: Cells per axis, two or three of them.
        spacing: Cell width.
        viscosity: Kinematic, >= 0; a number, or one per sample `(B,)`.
        body: A ball in the flow, or None.

    Raises:
        InvalidArgument: For a grid, a width or a viscosity that cannot be.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import Flow
        >>> class Vortex(Flow):  # in a closed box, without viscosity
        ...     def start(self, batch=1, dtype=torch.float64):
        ...         state = self.at_rest(batch, dtype, {})
        ...         state.velocity[0][:, 1:-1, :4] = 1.0
        ...         return state
        >>> flow = Vortex(shape=(8, 8), spacing=0.125)
        >>> tuple(flow.start().velocity[0].shape)
        (1, 9, 8)
        >>> flow.system(flow.start()).stencil.singular.tolist()  # pressure up to a constant
        [True]
    """

    shape: tuple[int, ...]
    spacing: float
    viscosity: float | Tensor = 0.0
    body: MovingBall | None = None

    def __post_init__(self) -> None:
        """Check the grid."""
        if counts(self.shape) or number(self.spacing):
            raise InvalidType(
                f"shape={self.shape!r}, spacing={self.spacing!r}", "whole numbers, and a number"
            )
        if len(self.shape) not in (2, 3) or min(self.shape) < 4 or not 0 < self.spacing < math.inf:
            raise InvalidArgument(
                f"shape={self.shape}, spacing={self.spacing}",
                "two or three axes of 4 cells or more, and a positive width",
            )
        for own in fields(self):  # numbers of a scene: one, or one per axis
            value = getattr(self, own.name)
            if isinstance(own.default, tuple):
                if (
                    some(value)
                    or len(value) != len(self.shape)
                    or not all(map(math.isfinite, value))
                ):
                    raise InvalidArgument(f"{own.name}={value!r}", "a finite number per axis")
            elif isinstance(own.default, float) and own.name != "viscosity":
                if number(value) or not math.isfinite(value):
                    raise InvalidArgument(f"{own.name}={value!r}", "a finite number")
        nu = as_array("viscosity", self.viscosity)
        if nu.dim() > 1 or not bool((nu.isfinite() & (nu >= 0)).all()):
            raise InvalidArgument(f"viscosity={self.viscosity}", "zero or positive numbers")

    # --- what a scene says ------------------------------------------------------------------
    @abstractmethod
    def start(self, batch: int = 1, dtype: torch.dtype = torch.float64) -> FlowState:
        """Return the state at time 0."""

    @property
    def walls(self) -> list[tuple[Cell, Cell]]:
        """Return what lies beyond the ends of every axis."""
        return [(SOLID, SOLID) for _ in self.shape]

    def transported(self, state: FlowState, dt: float) -> dict[str, Tensor]:
        """Return the scalars a time step later."""
        names, steps = list(state.fields), dt / self.spacing
        moved = advect([state.fields[n] for n in names], state.velocity, steps)
        return dict(zip(names, moved, strict=True))

    def forced(self, velocity: Velocity, fields: dict[str, Tensor], dt: float) -> Velocity:
        """Return the velocity after body forces."""
        return velocity

    def wall_velocity(self, time: float, like: FlowState) -> Velocity:
        """Return the velocity of the solid at every face, by default that of the body."""
        speed = (0.0,) * len(self.shape) if self.body is None else self.body.velocity(time)
        return tuple(torch.full_like(u, s) for u, s in zip(like.velocity, speed, strict=True))

    def liquid(self, fields: dict[str, Tensor]) -> Tensor | None:
        """Return the level set of the liquid; None where the fluid fills everything."""
        return None

    # --- what all share ---------------------------------------------------------------------
    def at_rest(self, batch: int, dtype: torch.dtype, fields: dict[str, Tensor]) -> FlowState:
        """Return a state without motion."""
        velocity = tuple(
            torch.zeros(batch, *(n + (i == a) for i, n in enumerate(self.shape)), dtype=dtype)
            for a in range(len(self.shape))
        )
        return FlowState(velocity, torch.zeros(batch, *self.shape, dtype=dtype), fields)

    def centres(self, like: Tensor | None = None) -> list[Tensor]:
        """Return the coordinates of cell centres in units of the flow."""
        return [x * self.spacing for x in points(self.shape, like=like)]

    def system(self, state: FlowState) -> PressureSystem:
        """Return the pressure system of the geometry at the state's time."""
        like, opening = state.pressure, None
        cells = torch.zeros(like.shape, dtype=torch.long, device=like.device)
        if self.body is not None:
            opening = [
                share.expand_as(u)
                for share, u in zip(
                    self.body.opening(self.shape, self.spacing, state.time, like),
                    state.velocity,
                    strict=True,
                )
            ]
            cells = torch.where(all_closed(opening), int(SOLID), cells)
        level_set = self.liquid(state.fields)
        if level_set is not None:
            dry = (level_set.detach() >= 0) & (cells != SOLID)
            cells = torch.where(dry, int(AIR), cells)
        return pressure_system(
            cells,
            walls=self.walls,
            opening=opening,
            level_set=level_set,
            spacing=self.spacing,
            dtype=like.dtype,
        )

    def step(
        self,
        state: FlowState,
        dt: float,
        solver: Callable[[Stencil], Any],
        on_failure: Policy = "raise",
    ) -> tuple[FlowState, Projection]:
        """Return the state a time step later, and how its pressure was found.

        Args:
            state: Now.
            dt: Time step, positive.
            solver: Makes the linear solver from the matrices of the step, its set-up included.
            on_failure: Policy of the solve: `raise`, `warn`, `mask` or `best`.

        Raises:
            InvalidArgument: For a time step that is not positive.
            ConvergenceError: Under `raise`, if the pressure was not found; and where the velocity
                is not finite.
        """
        if number(dt) or not 0 < dt < math.inf:
            raise InvalidArgument(f"dt={dt}", "a positive time step")
        fields = self.transported(state, dt)
        velocity = advect_velocity(state.velocity, dt / self.spacing)
        later = replace(state, velocity=velocity, fields=fields, time=state.time + dt)
        wall = self.wall_velocity(later.time, later)
        velocity = self.diffused(velocity, dt)
        velocity = self.forced(velocity, fields, dt)
        system = self.system(later)
        provisional = velocity
        velocity, found = system.project(
            provisional,
            dt,
            linear=solver(system.stencil),
            on_failure=on_failure,
            solid=wall,
            start=state.pressure.detach(),
        )
        projection = Projection(system, found, provisional, velocity, wall)
        if self.liquid(fields) is not None:
            velocity = self.carried_on(velocity, system, dt)
        later = replace(later, velocity=velocity, pressure=found.value)
        self.check_step(later, dt)
        return later, projection

    def check_step(self, state: FlowState, dt: float) -> None:
        """Warn of steps that are stable but too long to mean anything.

        Raises:
            ConvergenceError: If the velocity is not finite.
        """
        if not state.pressure.numel():
            return
        fast = max(float(u.detach().abs().max()) for u in state.velocity) * dt / self.spacing
        if not fast < FASTEST:
            raise ConvergenceError(
                f"at {state.time:g} s the fluid crosses {fast:.3g} cells in a step of {dt:g} s",
                "a flow that is finite",
                "Type a smaller dt, or look at the forces",
            )
        if fast > max(self.shape) / 4:
            warnings.warn(
                f"In a step of dt={dt:g} the fluid crosses more than a quarter of the grid: the "
                "method stays stable, but the result is not accurate. Type a smaller dt.",
                NumericalWarning,
                stacklevel=3,
            )

    def diffused(self, velocity: Velocity, dt: float) -> Velocity:
        """Return the velocity after explicit diffusion; the sides of the grid slip."""
        d, like = len(velocity), velocity[0]
        reach = torch.as_tensor(self.viscosity, dtype=like.dtype, device=like.device)
        reach = (reach * dt / self.spacing**2).reshape(-1, *(1,) * d)
        substeps = math.ceil(float(reach.detach().max()) * 2 * d / STABLE) if len(reach) else 0
        if substeps > SUBSTEPS:
            raise InvalidArgument(
                f"viscosity={self.viscosity} with cells of {self.spacing:g} and dt={dt:g}, which "
                f"takes {substeps} explicit substeps",
                f"at most {SUBSTEPS}",
                f"Type dt={dt * SUBSTEPS / substeps:.2g}, or larger cells",
            )
        out = []  # as it came without viscosity
        for a, u in enumerate(velocity):
            for _ in range(substeps):
                change = torch.zeros_like(u)
                for b in range(d):
                    axis = b - d
                    flow = high(u, axis) - low(u, axis)
                    width = [0, 0] * (d - 1 - b)
                    part = pad(flow, [*width, 0, 1])
                    part = part - pad(flow, [*width, 1, 0])
                    if a == b:  # faces on the ends are the walls' business
                        inner = part.narrow(axis, 1, part.shape[axis] - 2)
                        part = pad(inner, [*width, 1, 1])
                    change = change + part
                u = u + reach / substeps * change
            out.append(u)
        return tuple(out)

    def carried_on(self, velocity: Velocity, system: PressureSystem, dt: float) -> Velocity:
        """Return the velocity of a liquid with that of its surface around it."""
        d, wet = len(velocity), system.stencil.unknown
        fast = max(float(c.detach().abs().max()) for c in velocity) * dt / self.spacing
        if not math.isfinite(fast):
            raise ConvergenceError(f"the liquid's velocity is not finite after a step of {dt:g} s")
        out = []
        for a, u in enumerate(velocity):
            width = [0, 0] * (d - 1 - a)
            beside = pad(wet, [*width, 1, 0])
            beside = beside | pad(wet, [*width, 0, 1])
            new = extrapolated(u, beside, layers=LAYERS + math.ceil(fast))
            # nothing flows through walls in the air either
            out.append(torch.where(~beside & (system.opening[a] > 0), new, u))
        return tuple(out)
