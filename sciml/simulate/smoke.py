"""Smoke that rises around a ball that swings from side to side, in a box open at the top.

sciml simulate smoke solver=learned
sciml simulate smoke dim=3 grid=32 solver=mic steps=60
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sciml.physics.checks import check_number
from sciml.physics.fluids import Flow, FlowState, MovingBall, SmokeFlow
from sciml.simulate.flow_simulation import FlowSimulation
from sciml.simulate.frames import Picture, plane, solid_share
from sciml.simulate.simulation import setting
from sciml.typed_arguments import typed

PERIOD = 3.0  # seconds
SWING = 0.22


@typed
@dataclass(frozen=True)
class Smoke(FlowSimulation):
    """A plume; lengths in units of the box, whose sides are 1.

    Raises:
        InvalidArgument: For settings that cannot be.

    Example:
        >>> from sciml.simulate import Smoke
        >>> scene = Smoke(grid=16, steps=10)
        >>> scene.flow().shape  # `scene.run(folder)` simulates, as `sciml simulate smoke` does
        (16, 16)
    """

    steps: int = setting(300, "time steps")
    buoyancy: float = setting(3.0, "upward acceleration of pure smoke")
    radius: float = setting(0.09, "of the ball; 0 for none")

    def __post_init__(self) -> None:
        """Check numbers."""
        super().__post_init__()
        check_number("buoyancy", self.buoyancy)
        check_number("radius", self.radius, 0.0)

    @property
    def own_dt(self) -> float:
        """Return a step in which the smoke crosses a few cells."""
        return 1.6 / self.grid

    def flow(self) -> Flow:
        """Return the flow."""
        rate, deep = 2 * math.pi / PERIOD, (0.5,) * (self.dim - 2)
        ball = MovingBall(
            lambda t: (0.5 + SWING * math.sin(rate * t), 0.55, *deep),
            lambda t: (SWING * rate * math.cos(rate * t), 0.0, *(0.0 for _ in deep)),
            self.radius or 1.0,
        )
        return SmokeFlow(
            shape=(self.grid,) * self.dim,
            spacing=1 / self.grid,
            body=ball if self.radius > 0 else None,
            buoyancy=self.buoyancy,
            source=(0.5, 0.1, *deep),
        )

    def picture(self, flow: Flow, state: FlowState) -> Picture:
        """Return the smoke and the ball."""
        return Picture(
            plane(state.fields["density"]), 0.0, 1.0, "inferno", solid_share(flow, state)
        )
