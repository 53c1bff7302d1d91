"""The vortex street behind a disk (a ball in 3-D) in a channel.

sciml simulate wake reynolds=200 steps=600
"""

from __future__ import annotations

from dataclasses import dataclass

from sciml.physics.checks import check_positive
from sciml.physics.fluids import Flow, FlowState, WakeFlow, standing, vorticity
from sciml.simulate.flow_simulation import FlowSimulation
from sciml.simulate.frames import Picture, plane, solid_share
from sciml.simulate.simulation import setting
from sciml.typed_arguments import typed

DIAMETER = 0.15
LENGTH = 3  # of the channel, over its height


@typed
@dataclass(frozen=True)
class Wake(FlowSimulation):
    """A stream of speed 1 in a channel of height 1 around a disk of diameter 0.15.

    Raises:
        InvalidArgument: For settings that cannot be.

    Example:
        >>> from sciml.simulate import Wake
        >>> scene = Wake(grid=16, steps=10, reynolds=100.0)
        >>> scene.flow().shape  # `scene.run(folder)` simulates, as `sciml simulate wake` does
        (48, 16)
    """

    grid: int = setting(64, "cells per unit of length, the height of the channel")
    steps: int = setting(400, "time steps")
    reynolds: float = setting(200.0, "speed times diameter over viscosity")

    def __post_init__(self) -> None:
        """Check numbers."""
        super().__post_init__()
        check_positive("reynolds", self.reynolds)

    @property
    def own_dt(self) -> float:
        """Return a step in which the stream crosses about one cell."""
        return 1.28 / self.grid

    def flow(self) -> Flow:
        """Return the flow."""
        return WakeFlow(
            shape=(LENGTH * self.grid, *(self.grid,) * (self.dim - 1)),
            spacing=1 / self.grid,
            body=standing((0.5,) * self.dim, DIAMETER / 2),
            viscosity=DIAMETER / self.reynolds,
        )

    def picture(self, flow: Flow, state: FlowState) -> Picture:
        """Return vorticity and the disk."""
        spin, most = plane(vorticity(state.velocity, flow.spacing)), 20.0
        least, colours = (-most, "RdBu_r") if self.dim == 2 else (0.0, "magma")
        return Picture(spin, least, most, colours, solid_share(flow, state))
