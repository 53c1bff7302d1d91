"""Scenes of incompressible flow: rising smoke, a wake behind a body, a liquid in a closed box."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciml.physics.fluids.advection import advect
from sciml.physics.fluids.bodies import MovingBall  # noqa: F401 - `typed` looks up the body here
from sciml.physics.fluids.flow import AIR, SOLID, Flow, FlowState
from sciml.physics.fluids.pressure_projection import Cell
from sciml.physics.fluids.staggered import Velocity, points
from sciml.physics.fluids.surface import redistance, same_volume, volume
from sciml.solvers.linear import high, low
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True, kw_only=True)
class SmokeFlow(Flow):
    """Smoke that rises from a source at the bottom; the top is open.

    Args:
        buoyancy: Upward acceleration of pure smoke.
        source: Centre of the source.
        source_radius: Its radius.

    Example:
        >>> from sciml.physics.fluids import SmokeFlow
        >>> from sciml.solvers.linear import FlexibleCG, Multigrid
        >>> flow = SmokeFlow(shape=(8, 16), spacing=0.125, source=(0.5, 0.3), source_radius=0.15)
        >>> state, _ = flow.step(
        ...     flow.start(), 0.05, lambda stencil: FlexibleCG(preconditioner=Multigrid(stencil))
        ... )
        >>> bool(state.velocity[1].max() > 0), state.time  # the plume begins to rise
        (True, 0.05)
    """

    buoyancy: float = 4.0
    source: tuple[float, ...] = (0.5, 0.1)
    source_radius: float = 0.09

    @property
    def walls(self) -> list[tuple[Cell, Cell]]:
        """Return a box that is open at the top."""
        return [(SOLID, AIR if a == 1 else SOLID) for a in range(len(self.shape))]

    def start(self, batch: int = 1, dtype: torch.dtype = torch.float64) -> FlowState:
        """Return air at rest with smoke in the source."""
        rest = self.at_rest(batch, dtype, {})
        smoke = self.fed(torch.zeros_like(rest.pressure))
        return replace(rest, fields={"density": smoke})

    def fed(self, density: Tensor) -> Tensor:
        """Return the density with that of the source, 1, in it."""
        square = sum(
            (x - c).square() for x, c in zip(self.centres(density), self.source, strict=True)
        )
        inside = (0.5 - (square.sqrt() - self.source_radius) / self.spacing).clamp(0, 1)
        return density.maximum(inside)

    def transported(self, state: FlowState, dt: float) -> dict[str, Tensor]:
        """Return the smoke a time step later; none inside the body."""
        density = self.fed(super().transported(state, dt)["density"])
        if self.body is not None:
            distance = self.body.distance(self.centres(density), state.time + dt)
            density = density * (0.5 + distance / self.spacing).clamp(0, 1)
        return {"density": density}

    def forced(self, velocity: Velocity, fields: dict[str, Tensor], dt: float) -> Velocity:
        """Return the velocity after buoyancy."""
        smoke, up = fields["density"], 1 - len(velocity)
        mean = (low(smoke, up) + high(smoke, up)) / 2
        lift = torch.cat([smoke.narrow(up, 0, 1), mean, smoke.narrow(up, -1, 1)], up)
        return (velocity[0], velocity[1] + dt * self.buoyancy * lift, *velocity[2:])


@typed
@dataclass(frozen=True, kw_only=True)
class WakeFlow(Flow):
    """A stream of speed `inflow` along axis 0 around a body; it leaves through an open end.

    Args:
        inflow: Speed.
        kick: Size of a disturbance behind the body at the start, which wakes the instability.

    Example:
        >>> from sciml.physics.fluids import MovingBall, WakeFlow
        >>> disk = MovingBall(lambda t: (0.5, 0.5), velocity=lambda t: (0.0, 0.0), radius=0.2)
        >>> flow = WakeFlow(shape=(32, 16), spacing=0.0625, viscosity=1e-3, body=disk)
        >>> state = flow.start()
        >>> tuple(state.velocity[0].shape), state.velocity[0][0, 0, 0].item()
        ((1, 33, 16), 1.0)
    """

    inflow: float = 1.0
    kick: float = 0.1

    @property
    def walls(self) -> list[tuple[Cell, Cell]]:
        """Return a channel."""
        return [(SOLID, AIR if a == 0 else SOLID) for a in range(len(self.shape))]

    def start(self, batch: int = 1, dtype: torch.dtype = torch.float64) -> FlowState:
        """Return the stream with a disturbance behind the body."""
        rest = self.at_rest(batch, dtype, {})
        across = rest.velocity[1]
        if self.body is not None:
            place = [x * self.spacing for x in points(self.shape, 1, like=across)]
            r = self.body.radius
            behind = [c + 2 * r * (a == 0) for a, c in enumerate(self.body.centre(0.0))]
            square = sum((x - c).square() for x, c in zip(place, behind, strict=True))
            across = across + self.kick * self.inflow * torch.exp(-square / (2 * r**2))
        stream = torch.full_like(rest.velocity[0], self.inflow)
        return replace(rest, velocity=(stream, across, *rest.velocity[2:]))

    def wall_velocity(self, time: float, like: FlowState) -> Velocity:
        """Return the inflow at the low end, and the body's velocity elsewhere."""
        wall = super().wall_velocity(time, like)
        first = wall[0].clone()
        first.narrow(-len(self.shape), 0, 1).fill_(self.inflow)
        return (first, *wall[1:])


@typed
@dataclass(frozen=True, kw_only=True)
class LiquidFlow(Flow):
    """A liquid in a closed box with air above it, which has no pressure.

    Args:
        gravity: Downward acceleration.
        column: Extent of the liquid at the start, from the low corner of the box.
        keep_volume: Whether every step restores the volume of the start.

    Example:
        >>> from sciml.physics.fluids import LiquidFlow
        >>> flow = LiquidFlow(shape=(16, 16), spacing=0.0625, column=(0.5, 0.5))
        >>> state = flow.start()
        >>> sorted(state.fields), round(state.fields["volume"].item())  # a quarter of 256 cells
        (['level_set', 'volume'], 64)
    """

    gravity: float = 9.81
    column: tuple[float, ...] = (0.6, 0.4)
    keep_volume: bool = True

    def start(self, batch: int = 1, dtype: torch.dtype = torch.float64) -> FlowState:
        """Return the column at rest."""
        rest = self.at_rest(batch, dtype, {})
        apart = [
            (x - c).expand_as(rest.pressure) / self.spacing
            for x, c in zip(self.centres(rest.pressure), self.column, strict=True)
        ]
        level_set = redistance(torch.stack(apart).amax(0), 2 * max(self.shape))
        return replace(rest, fields={"level_set": level_set, "volume": volume(level_set)})

    def liquid(self, fields: dict[str, Tensor]) -> Tensor:
        """Return the level set."""
        return fields["level_set"]

    def transported(self, state: FlowState, dt: float) -> dict[str, Tensor]:
        """Return the level set a time step later, a distance again, with its volume."""
        # no MacCormack here: its limiter makes steps in a distance, which redistancing keeps
        level_set = advect(
            [state.fields["level_set"]],
            state.velocity,
            dt / self.spacing,
            method="semi_lagrangian",
        )[0]
        level_set = redistance(level_set)
        if self.keep_volume:
            level_set = same_volume(level_set, state.fields["volume"])
        return {"level_set": level_set, "volume": state.fields["volume"]}

    def forced(self, velocity: Velocity, fields: dict[str, Tensor], dt: float) -> Velocity:
        """Return the velocity after gravity."""
        return (velocity[0], velocity[1] - dt * self.gravity, *velocity[2:])
