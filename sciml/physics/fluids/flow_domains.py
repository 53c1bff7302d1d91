"""Random flow domains by seed: obstacles, open faces, free surfaces, pockets, coefficients.

Every sample of a batch has its own walls, bodies and coefficients. Kinds of coefficients:

    constant     rho = 1
    log_normal   1 / rho = exp(s g), g a Gaussian field of unit variance, s = 1.5
    two_phase    rho = 1 or `contrast`, split by the sign of a Gaussian field
    anisotropic  1 / rho times a factor per axis, up to `anisotropy` apart

Lengths are shares of the grid's longest side, so a family means the same on every resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, did_you_mean
from sciml.physics.fluids.bodies import all_closed, open_share
from sciml.physics.fluids.pressure_assembly import pressure_system
from sciml.physics.fluids.pressure_projection import Cell, PressureSystem
from sciml.typed_arguments import typed

COEFFICIENTS = ("constant", "log_normal", "two_phase", "anisotropic")
SPREAD = 1.5  # s above


@typed
@dataclass(frozen=True)
class RandomDomains:
    """A family of random domains; each may be left out by setting its number to zero.

    Args:
        bodies: Largest number of solid ellipses and boxes.
        cut: Share of the samples whose bodies cut cells; the others are made of whole cells.
        surface: Share of the samples with a free surface.
        open_sides: Share of the ends of axes that are open (p = 0 beyond). One end of axis 1, the
            upward one, is open in every sample that is not `sealed`.
        sealed: Share of the samples with solid walls all around and no surface: singular systems.
        pockets: Share of the samples with a closed room inside a box of solid.
        coefficients: Kinds, drawn with equal probability.
        contrast: Of the densities of `two_phase`.
        anisotropy: Largest ratio of the factors of `anisotropic`.

    Raises:
        InvalidArgument: For shares outside [0, 1] or an unknown kind.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import RandomDomains
        >>> systems = RandomDomains(bodies=2).draw(3, (16, 16), torch.Generator().manual_seed(0))
        >>> tuple(systems.stencil.unknown.shape), len(systems.opening)
        ((3, 16, 16), 2)
    """

    bodies: int = 5
    cut: float = 0.5
    surface: float = 0.25
    open_sides: float = 0.25
    sealed: float = 0.0
    pockets: float = 0.0
    coefficients: tuple[str, ...] = ("constant",)
    contrast: float = 1000.0
    anisotropy: float = 50.0

    def __post_init__(self) -> None:
        """Check the settings."""
        object.__setattr__(self, "coefficients", tuple(self.coefficients))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("cut", "surface", "open_sides", "sealed", "pockets"):
                if not 0 <= value <= 1:
                    raise InvalidArgument(f"{field.name}={value}", "a share in [0, 1]")
        if self.bodies < 0 or self.contrast < 1 or self.anisotropy < 1:
            raise InvalidArgument(
                f"bodies={self.bodies}, contrast={self.contrast}, anisotropy={self.anisotropy}",
                "bodies >= 0, and ratios of at least 1",
            )
        for kind in self.coefficients:
            if kind not in COEFFICIENTS:
                raise InvalidArgument(
                    f"coefficients={self.coefficients}",
                    "kinds of coefficients",
                    did_you_mean(kind, COEFFICIENTS),
                )
        if not self.coefficients:
            raise InvalidArgument("coefficients=()", f"some of {', '.join(COEFFICIENTS)}")

    def draw(
        self,
        count: int,
        shape: Sequence[int],
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
    ) -> PressureSystem:
        """Return the pressure systems of `count` random domains.

        Args:
            count: B.
            shape: Cells per axis, two or three numbers of at least 4.
            generator: On the CPU; the same one gives the same domains.
            dtype: Of the matrices.

        Raises:
            InvalidArgument: For another number of axes.
        """
        shape = tuple(int(n) for n in shape)
        if len(shape) not in (2, 3) or min(shape) < 4 or count < 1:
            raise InvalidArgument(
                f"{count} domains of shape {shape}",
                "one or more, with two or three axes of 4 or more",
            )
        draw = _Draw(count, shape, generator)
        sealed = draw.coin(self.sealed)
        distance = self._solid(draw)
        whole = ~draw.coin(self.cut)
        centre = distance.centre()
        opening = []
        for a in range(len(shape)):
            at_face = distance.faces(a)
            share = open_share(at_face)
            opening.append(torch.where(draw.wide(whole), 1.0, share))
        solid = torch.where(draw.wide(whole), centre < 0, all_closed(opening))
        cells = torch.where(solid, int(Cell.SOLID), int(Cell.FLUID))
        level_set = self._surface(draw, sealed)
        cells = torch.where((level_set >= 0) & ~solid, int(Cell.AIR), cells)
        density, permeability = self._coefficients(draw)
        return pressure_system(
            cells,
            walls=self._walls(draw, sealed),
            opening=opening,
            density=density,
            permeability=permeability,
            level_set=level_set,
            dtype=dtype,
        )

    def _walls(self, draw: _Draw, sealed: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return what lies beyond the ends of every axis."""
        ends = [
            [draw.coin(self.open_sides) & ~sealed for _ in range(2)] for _ in range(len(draw.shape))
        ]
        ends[1][1] = ~sealed
        kinds = [
            tuple(torch.where(end, int(Cell.AIR), int(Cell.SOLID)) for end in pair) for pair in ends
        ]
        return [(one, two) for one, two in kinds]

    def _solid(self, draw: _Draw) -> _Bodies:
        """Return the signed distance to the bodies, and to the shells of closed rooms."""
        return _Bodies(draw, self.bodies, draw.coin(self.pockets))

    def _surface(self, draw: _Draw, sealed: Tensor) -> Tensor:
        """Return a level set that is negative in the liquid: below a wavy height."""
        up = draw.axis(1)
        height = draw.uniform(0.35, 0.8)
        for a in (i for i in range(len(draw.shape)) if i != 1):
            for k in (1, 2, 3):
                wave = torch.sin(2 * math.pi * (k * draw.axis(a) + draw.uniform(0, 1)))
                height = height + draw.uniform(-0.06, 0.06) * wave
        dry = draw.wide(draw.coin(self.surface) & ~sealed)
        return torch.where(dry, (up - height) * max(draw.shape), -1e3)

    def _coefficients(self, draw: _Draw) -> tuple[Tensor | None, list[Tensor] | None]:
        """Return densities, and factors per axis."""
        kinds = torch.randint(len(self.coefficients), (draw.count,), generator=draw.generator)
        field = draw.gaussian_field(draw.uniform(0.05, 0.25))
        rho = torch.ones_like(field)
        ratio = draw.uniform(0, math.log(self.anisotropy))
        stiff = torch.randint(len(draw.shape), (draw.count,), generator=draw.generator)
        factors = [torch.ones_like(ratio) for _ in draw.shape]
        for place, kind in enumerate(self.coefficients):
            mine = draw.wide(kinds == place)
            if kind == "log_normal":
                rho = torch.where(mine, (-SPREAD * field).exp(), rho)
            if kind == "two_phase":
                rho = torch.where(mine & (field > 0), self.contrast, rho)
            if kind == "anisotropic":
                for a in range(len(factors)):
                    weak = mine & draw.wide(stiff != a)
                    factors[a] = torch.where(weak, (-ratio).exp(), factors[a])
        plain = set(self.coefficients) <= {"constant"}
        return (None, None) if plain else (rho, factors)


class _Draw:
    """Random numbers of a batch and the coordinates of its cells, both in shares of the side."""

    def __init__(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> None:
        self.count, self.shape, self.generator = count, shape, generator

    def wide(self, x: Tensor) -> Tensor:
        """Return `(B,)` in a shape that multiplies `(B, *grid)`."""
        return x.reshape(-1, *(1,) * len(self.shape))

    def uniform(self, least: float, most: float) -> Tensor:
        """Return numbers `(B, 1, ...)`."""
        u = torch.rand(self.count, generator=self.generator, dtype=torch.float64)
        return self.wide(least + (most - least) * u)

    def coin(self, share: float) -> Tensor:
        """Return booleans `(B,)`, true with a probability."""
        return torch.rand(self.count, generator=self.generator, dtype=torch.float64) < share

    def axis(self, a: int, at_faces: int | None = None) -> Tensor:
        """Return a coordinate of the cells' centres, or of the faces of an axis."""
        n, faces = self.shape[a], a == at_faces
        x = torch.arange(n + faces, dtype=torch.float64) + (0.0 if faces else 0.5)
        shape = [1] * (len(self.shape) + 1)
        shape[a + 1] = n + faces
        return (x / max(self.shape)).reshape(shape)

    def gaussian_field(self, length: Tensor) -> Tensor:
        """Return a smooth Gaussian field `(B, *grid)` of unit variance, periodic.

        Args:
            length: `(B, 1, ...)`, correlation length as a share of the side.
        """
        white = torch.randn(
            (self.count, *self.shape), generator=self.generator, dtype=torch.float64
        )
        dims = tuple(range(1, len(self.shape) + 1))
        square = 0.0
        for a, n in enumerate(self.shape):
            k = torch.fft.fftfreq(n, dtype=torch.float64) * max(self.shape)
            shape = [1] * (len(self.shape) + 1)
            shape[a + 1] = n
            square = square + k.reshape(shape).square()
        damp = torch.exp(-0.5 * square * (2 * math.pi * length).square() / 4)
        damp[(slice(None), *(0,) * len(self.shape))] = 0
        field = torch.fft.ifftn(torch.fft.fftn(white, dim=dims) * damp, dim=dims).real
        return field / field.square().mean(dims, keepdim=True).sqrt().clamp_min(1e-12)


class _Bodies:
    """Signed distances to random bodies in cell widths, positive outside, approximate."""

    def __init__(self, draw: _Draw, most: int, room: Tensor) -> None:
        self.draw, d = draw, len(draw.shape)
        side = max(draw.shape)
        extent = [n / side for n in draw.shape]
        numbers = torch.randint(most + 1, (draw.count,), generator=draw.generator)
        self.bodies = [
            {
                "there": draw.wide(numbers > k),
                "centre": [draw.uniform(0.05 * e, 0.95 * e) for e in extent],
                "radius": [draw.uniform(0.04, 0.16) for _ in range(d)],
                "turn": draw.uniform(0, math.pi),
                "box": draw.wide(draw.coin(0.4)),
            }
            for k in range(most)
        ]
        self.room = {
            "there": draw.wide(room),
            "centre": [draw.uniform(0.3 * e, 0.7 * e) for e in extent],
            "half": draw.uniform(0.12, 0.2),
        }

    def centre(self) -> Tensor:
        """Return the distance at the cells' centres, `(B, *grid)`."""
        return self._at([self.draw.axis(a) for a in range(len(self.draw.shape))])

    def faces(self, axis: int) -> Tensor:
        """Return the distance at the faces of an axis."""
        return self._at([self.draw.axis(a, axis) for a in range(len(self.draw.shape))])

    def _at(self, x: list[Tensor]) -> Tensor:
        side = max(self.draw.shape)
        shape = torch.broadcast_shapes(*(c.shape for c in x))
        found = torch.full((self.draw.count, *shape[1:]), 1e3, dtype=torch.float64)
        for body in self.bodies:
            local = [c - centre for c, centre in zip(x, body["centre"], strict=True)]
            cos, sin = body["turn"].cos(), body["turn"].sin()
            local[0], local[1] = cos * local[0] + sin * local[1], cos * local[1] - sin * local[0]
            share = [c / r for c, r in zip(local, body["radius"], strict=True)]
            least = torch.stack(body["radius"]).amin(0)
            ellipse = (sum(s.square() for s in share).sqrt() - 1) * least
            box = torch.stack(
                torch.broadcast_tensors(
                    *(c.abs() - r for c, r in zip(local, body["radius"], strict=True))
                )
            ).amax(0)
            distance = torch.where(body["box"], box, ellipse) * side
            found = torch.where(body["there"], found.minimum(distance), found)
        # a closed room: the wall of a cube, three cells thick so that nothing leaks
        offset = torch.stack(
            torch.broadcast_tensors(
                *((c - m).abs() for c, m in zip(x, self.room["centre"], strict=True))
            )
        ).amax(0)
        wall = (offset - self.room["half"]).abs() * side - 1.5
        return torch.where(self.room["there"], found.minimum(wall), found)
