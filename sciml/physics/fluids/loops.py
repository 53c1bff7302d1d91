"""Coarse solvers to be corrected, with references that the same solver makes on a finer grid.

A loop advances a batch of coarse states `(N, C, *grid)` by one time step, given what acts from
outside in that step, `(N, E, *grid)` (a force, say). Its reference is the solution on a grid
`ratio` times as fine, brought to the coarse grid by `T`.

Source of the set-ups: Um, Brand, Fei, Holl & Thuerey, NeurIPS 2020, arXiv 2007.00016, appendix B.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, avg_pool2d, pad

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_positive
from sciml.physics.fluids.bodies import standing
from sciml.physics.fluids.flow import FlowState
from sciml.physics.fluids.flow_scenes import WakeFlow
from sciml.physics.fluids.staggered import Velocity, interpolate, points
from sciml.solvers.linear import FlexibleCG, Multigrid, Stencil
from sciml.typed_arguments import typed

DTYPE = torch.float64


class Loop(ABC):
    """A solver on a coarse grid.

    Attributes:
        channels: C.
        external: E.
        periodic: Whether the grid repeats itself.
    """

    channels: int
    external: int
    periodic: bool

    @abstractmethod
    def step(self, state: Tensor, external: Tensor) -> Tensor:
        """Return the states `(N, C, *grid)` a time step later, differentiable."""

    def placed(self, correction: Tensor) -> Tensor:
        """Return a correction where states may be corrected, zero elsewhere."""
        return correction

    @abstractmethod
    def reference(self, count: int, steps: int, seed: int) -> dict[str, Tensor]:
        """Return fine solutions on the coarse grid.

        Returns:
            `states` `(count, steps + 1, C, *grid)` and `external` `(count, steps, E, *grid)`.
        """


@typed
class ForcedBurgers(Loop):
    """Burgers' equation in a periodic square, driven by travelling waves.

        u_t + (u . grad) u = nu Laplacian u + sum of 20 a_j sin(k_j . x + w_j t + p_j)

    with a_j uniform in +-0.15 per component, |w_j| <= 0.4 and wave vectors of the square with
    0.8 <= |k_j| <= 1.6. Semi-Lagrangian transport (midpoint rule), explicit diffusion.

    Args:
        cells: Coarse cells per axis.
        ratio: Fine cells per coarse cell and axis.
        size: Side of the square.
        viscosity: nu.
        dt: Time step, of both grids.
        warm_up: Fine steps from rest before the first state.

    Raises:
        InvalidArgument: For settings that cannot be, or diffusion that is unstable on a grid.

    Example:
        >>> from sciml.physics.fluids import ForcedBurgers
        >>> loop = ForcedBurgers(cells=8, ratio=2, warm_up=2)
        >>> made = loop.reference(count=2, steps=3, seed=0)
        >>> tuple(made["states"].shape), tuple(made["external"].shape)
        ((2, 4, 2, 8, 8), (2, 3, 2, 8, 8))
        >>> tuple(loop.step(made["states"][:, 0], made["external"][:, 0]).shape)
        (2, 2, 8, 8)
    """

    channels = external = 2
    periodic = True
    waves = 20

    def __init__(
        self,
        *,
        cells: int = 32,
        ratio: int = 4,
        size: float = 32.0,
        viscosity: float = 0.1,
        dt: float = 0.1,
        warm_up: int = 30,
    ) -> None:
        for name, value in {"size": size, "viscosity": viscosity, "dt": dt}.items():
            check_positive(name, value)
        if cells < 8 or ratio < 1 or warm_up < 0:
            raise InvalidArgument(
                f"cells={cells}, ratio={ratio}, warm_up={warm_up}", "8 cells or more, ratio >= 1"
            )
        self.cells, self.ratio, self.size = cells, ratio, size
        self.viscosity, self.dt, self.warm_up = viscosity, dt, warm_up
        number = viscosity * dt * (cells * ratio / size) ** 2
        if number > 0.25:
            raise InvalidArgument(
                f"viscosity dt / h^2 = {number:.3g} on the fine grid", "at most 1/4", "Lower dt"
            )

    def step(self, state: Tensor, external: Tensor) -> Tensor:
        """Return u `(N, 2, n, n)` a step later, on any number n of cells."""
        n = state.shape[-1]
        h = self.size / n
        here = points((n, n), like=state)

        def at(where: list[Tensor]) -> list[Tensor]:
            return [interpolate(state[:, c], where, periodic=True) for c in range(2)]

        half = [x - 0.5 * self.dt / h * state[:, c] for c, x in enumerate(here)]
        full = [x - self.dt / h * u for x, u in zip(here, at(half), strict=True)]
        u = torch.stack(at(full), 1)
        around = sum(u.roll(s, a) for a in (-2, -1) for s in (-1, 1))
        return u + self.viscosity * self.dt / h**2 * (around - 4 * u) + self.dt * external

    def reference(self, count: int, steps: int, seed: int) -> dict[str, Tensor]:
        """Return fine solutions on the coarse grid; see `Loop.reference`."""
        force = self._force(count, torch.Generator().manual_seed(seed))
        n = self.cells * self.ratio
        u = torch.zeros(count, 2, n, n, dtype=DTYPE)
        states, external = [], []
        with torch.no_grad():
            for step in range(-self.warm_up, steps + 1):
                if step >= 0:
                    states.append(self.down(u))
                if step == steps:
                    break
                f = force((step + 1) * self.dt)
                if step >= 0:
                    external.append(self.down(f))
                u = self.step(u, f)
        return {"states": torch.stack(states, 1), "external": torch.stack(external, 1)}

    def down(self, fine: Tensor) -> Tensor:
        """Return T of a fine field: means over the fine cells of every coarse one."""
        return avg_pool2d(fine, self.ratio)

    def _force(self, count: int, generator: torch.Generator) -> Callable[[float], Tensor]:
        """Return time -> force `(count, 2, n, n)` on the fine grid."""
        unit = 2 * math.pi / self.size
        most = int(1.6 / unit)
        numbers = torch.cartesian_prod(*(torch.arange(-most, most + 1),) * 2).to(DTYPE) * unit
        length = numbers.norm(dim=1)
        allowed = numbers[(length >= 0.8) & (length <= 1.6)]
        draw = {"generator": generator, "dtype": DTYPE}
        shape = (count, self.waves)
        k = allowed[torch.randint(len(allowed), shape, generator=generator)]
        amplitude = 0.3 * (torch.rand(*shape, 2, **draw) - 0.5)
        rate = 0.8 * (torch.rand(shape, **draw) - 0.5)
        phase = 2 * math.pi * torch.rand(shape, **draw)
        n = self.cells * self.ratio
        x = (torch.arange(n, dtype=DTYPE) + 0.5) * self.size / n
        along = [torch.exp(1j * k[..., a, None] * x) for a in range(2)]

        def force(time: float) -> Tensor:
            turn = torch.exp(1j * (rate * time + phase))[..., None] * amplitude
            return torch.einsum("bjx,bjy,bjc->bcxy", *along, turn).imag

        return force


@typed
class DiskWake(Loop):
    """The wake of a disk of diameter 0.2 in a channel of 2 by 1 with a stream of speed 1.

    States are staggered velocities, packed: channel 0 holds the faces across axis 0, channel 1
    those across axis 1, zeros fill up to `(cells of axis + 1)`. What acts from outside is the
    viscosity, a constant field; Reynolds numbers are log-uniform.

    Args:
        cells: Coarse cells across the channel.
        ratio: Fine cells per coarse cell and axis.
        dt: Time step of the coarse grid.
        substeps: Fine steps per coarse one.
        warm_up: Coarse steps before the first state.
        reynolds: Least and largest.
        rtol: Of the pressure solves, in float64.

    Raises:
        InvalidArgument: For settings that cannot be.

    Example:
        >>> from sciml.physics.fluids import DiskWake
        >>> loop = DiskWake(cells=8, ratio=2, dt=0.05, warm_up=1)
        >>> made = loop.reference(count=1, steps=1, seed=0)
        >>> tuple(made["states"].shape), len(loop.unpacked(made["states"][:, 0]))
        ((1, 2, 2, 17, 9), 2)
    """

    channels, external = 2, 1
    periodic = False
    diameter = 0.2

    def __init__(
        self,
        *,
        cells: int = 16,
        ratio: int = 4,
        dt: float = 0.06,
        substeps: int = 2,
        warm_up: int = 60,
        reynolds: tuple[float, float] = (100.0, 600.0),
        rtol: float = 1e-8,
    ) -> None:
        check_positive("dt", dt)
        if cells < 8 or min(ratio, substeps) < 1 or warm_up < 0 or not 0 < rtol < 1:
            raise InvalidArgument(
                f"cells={cells}, ratio={ratio}, substeps={substeps}, warm_up={warm_up}, "
                f"rtol={rtol}",
                "8 cells or more, ratio and substeps >= 1, warm_up >= 0, rtol in (0, 1)",
            )
        if len(reynolds) != 2 or not 0 < reynolds[0] <= reynolds[1]:
            raise InvalidArgument(f"reynolds={reynolds}", "two positive numbers, the least first")
        self.cells, self.ratio, self.dt, self.substeps = cells, ratio, dt, substeps
        self.warm_up, self.rtol = warm_up, rtol
        self.least, self.largest = map(float, reynolds)

    def step(self, state: Tensor, external: Tensor) -> Tensor:
        """Return the packed velocities a step later."""
        flow = self._flow(self.cells, external[:, 0, 0, 0].double())
        velocity = self._advanced(flow, self.unpacked(state.double()), self.dt)
        return self.packed(velocity).to(state.dtype)

    def placed(self, correction: Tensor) -> Tensor:
        """Return a correction that is zero at the inflow, at the sides and in the padding."""
        inner = torch.zeros_like(correction)
        inner[:, 0, 1:, :-1] = 1
        inner[:, 1, :-1, 1:-1] = 1
        return inner * correction

    def reference(self, count: int, steps: int, seed: int) -> dict[str, Tensor]:
        """Return fine solutions on the coarse grid; see `Loop.reference`."""
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(count, generator=generator, dtype=DTYPE)
        number = self.least * (self.largest / self.least) ** share
        side = 2.0 * torch.randint(2, (count,), generator=generator).to(DTYPE) - 1
        nu = self.diameter / number
        flow = self._flow(self.cells * self.ratio, nu)
        velocity = flow.start(count).velocity
        velocity = (velocity[0], velocity[1] * side[:, None, None])
        states = []
        with torch.no_grad():
            for step in range(-self.warm_up, steps + 1):
                if step >= 0:
                    states.append(self.packed(self.down(velocity)))
                for _ in range(self.substeps if step < steps else 0):
                    velocity = self._advanced(flow, velocity, self.dt / self.substeps)
        shape = (count, steps, 1, 2 * self.cells + 1, self.cells + 1)
        external = nu[:, None, None, None, None].expand(shape).contiguous()
        return {"states": torch.stack(states, 1), "external": external}

    def down(self, velocity: Velocity) -> Velocity:
        """Return T of a fine velocity: every coarse face has the mean of the fine ones on it."""
        r = self.ratio
        u, v = velocity[0][:, ::r], velocity[1][:, :, ::r]
        return avg_pool1d(u, r), avg_pool1d(v.transpose(1, 2), r).transpose(1, 2)

    def packed(self, velocity: Velocity) -> Tensor:
        """Return a velocity as `(N, 2, nx + 1, ny + 1)`."""
        return torch.stack([pad(velocity[0], [0, 1]), pad(velocity[1], [0, 0, 0, 1])], 1)

    def unpacked(self, state: Tensor) -> Velocity:
        """Return the components of a packed velocity at their faces."""
        return state[:, 0, :, :-1], state[:, 1, :-1]

    def _flow(self, cells: int, viscosity: Tensor) -> WakeFlow:
        return WakeFlow(
            shape=(2 * cells, cells),
            spacing=1 / cells,
            viscosity=viscosity,
            body=standing((0.5, 0.5), self.diameter / 2),
        )

    def _advanced(self, flow: WakeFlow, velocity: Velocity, dt: float) -> Velocity:
        nothing = torch.zeros(len(velocity[0]), *flow.shape, dtype=DTYPE)
        return flow.step(FlowState(velocity, nothing, {}), dt, self._solver)[0].velocity

    def _solver(self, stencil: Stencil) -> FlexibleCG:
        return FlexibleCG(rtol=self.rtol, max_iter=300, preconditioner=Multigrid(stencil))
