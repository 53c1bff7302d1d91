"""A column of water that collapses when its dam breaks.

sciml simulate dam_break steps=400
"""

from __future__ import annotations

from dataclasses import dataclass

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_positive
from sciml.physics.fluids import Flow, FlowState, LiquidFlow, volume
from sciml.simulate.flow_simulation import FlowSimulation
from sciml.simulate.frames import Picture, plane
from sciml.simulate.simulation import setting
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class DamBreak(FlowSimulation):
    """Water in a closed box of 2 by 1 metres (1 deep in 3-D), its surface a level set.

    Raises:
        InvalidArgument: For a column that the box does not hold.

    Example:
        >>> from sciml.simulate import DamBreak
        >>> scene = DamBreak(grid=16, steps=10)
        >>> scene.flow().shape  # `scene.run(folder)` simulates, as `sciml simulate dam_break` does
        (32, 16)
    """

    grid: int = setting(64, "cells per metre")
    steps: int = setting(300, "time steps")
    width: float = setting(0.6, "of the column [m]")
    height: float = setting(0.32, "of the column [m]")
    gravity: float = setting(9.81, "[m/s^2]")
    keep_volume: bool = setting(True, "restore the volume of the start in every step")

    def __post_init__(self) -> None:
        """Check the column."""
        super().__post_init__()
        check_positive("gravity", self.gravity)
        if not (0 < self.width < 2 and 0 < self.height < 1):
            raise InvalidArgument(
                f"width={self.width}, height={self.height}", "a column in a box of 2 by 1"
            )

    @property
    def own_dt(self) -> float:
        """Return a step in which the front crosses less than two cells."""
        return 0.32 / self.grid

    def flow(self) -> Flow:
        """Return the flow."""
        return LiquidFlow(
            shape=(2 * self.grid, *(self.grid,) * (self.dim - 1)),
            spacing=1 / self.grid,
            column=(self.width, self.height, *(2.0,) * (self.dim - 2)),
            gravity=self.gravity,
            keep_volume=self.keep_volume,
        )

    def picture(self, flow: Flow, state: FlowState) -> Picture:
        """Return the water."""
        return Picture(plane(-state.fields["level_set"]).clamp(-1, 1), -1.0, 2.0, "Blues")

    def measured(self, state: FlowState) -> dict[str, float]:
        """Return how much the volume has changed."""
        now = volume(state.fields["level_set"])
        return {"volume_change": float((now / state.fields["volume"] - 1).abs().max())}
