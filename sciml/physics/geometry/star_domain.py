"""Star-shaped domains in the plane, whose radius is a trigonometric polynomial of the angle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.arguments import counts, shown
from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.checks import check_number
from sciml.physics.geometry.curves import NODES, arc_length
from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.domain_rows import (
    Numbers,
    batch,
    check_draw,
    positive,
    rows_of,
    uniform,
)

# Newton steps of projections, in float64.
STAR_STEPS = 6
# Angles scanned to start the projection to a star-shaped curve, and columns scanned at once.
SCAN = 128
SCAN_BLOCK = 2**14


class Star(Domain):
    """Star-shaped domains `|x - center| < r(theta)` with a trigonometric radius.

        r(theta) = mean + sum_k (cosine_k cos(orders_k theta) + sine_k sin(orders_k theta))

    theta is the angle of `x - center` against the x axis, counter-clockwise. The family of
    "Operator Learning Using Weak Supervision from Walk-on-Spheres" (arXiv 2603.01193) is `mean` 1,
    `orders` (4, 8), no sines, cosines uniform on [-0.2, 0.2]; `star_family` draws from it.

    Args:
        cosine: `(B, K)` or `(K,)`.
        orders: K positive integers.
        sine: `(B, K)` or `(K,)`; zero if None.
        mean: `(B,)` or one number.
        center: `(B, 2)` or `(2,)`.

    Raises:
        InvalidArgument: If a radius is not positive everywhere, or shapes do not fit.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Star
        >>> star = Star(cosine=(0.2, 0.0))  # r = 1 + 0.2 cos(4 theta)
        >>> star.inside(torch.tensor([[[1.1, 0.0], [0.8, 0.8]]])).tolist()
        [[True, False]]
    """

    def __init__(
        self,
        cosine: Numbers,
        orders: Sequence[int] = (4, 8),
        sine: Numbers | None = None,
        mean: Numbers = 1.0,
        center: Numbers = (0.0, 0.0),
    ) -> None:
        if wanted := counts(orders):
            raise InvalidType(f"orders is {shown(orders)}", wanted)
        self.orders = tuple(orders)
        cosine = rows_of("cosine", cosine, (len(self.orders),))
        sine = torch.zeros_like(cosine) if sine is None else rows_of("sine", sine, cosine.shape[1:])
        self.has_sine = bool((sine != 0).any())
        self.cosine, self.sine, self.mean, self.center = batch(
            cosine=cosine,
            sine=sine,
            mean=rows_of("mean", mean, ()),
            center=rows_of("center", center, (2,)),
        )
        super().__init__(len(self.cosine), 2)
        r, slope = self._table()
        positive("radius r(theta)", r)
        # the largest change of log r per radian, and the smallest distance of a tangent from the
        # centre: the two constants of the bound in `level`
        self.steepness = (1 + (slope / r).abs().amax(1) ** 2).sqrt()
        self.pedal = (r**2 / torch.hypot(r, slope)).amin(1)

    def radius(self, theta: Tensor, i: Tensor, derivatives: int = 0) -> list[Tensor]:
        """Return r and its first `derivatives` derivatives at `theta (N,)`, each `(N,)`."""
        out = [self.pick(self.mean, theta, i) + torch.zeros_like(theta)]
        out += [torch.zeros_like(theta) for _ in range(derivatives)]
        cosine = self.pick(self.cosine, theta, i)
        sine = self.pick(self.sine, theta, i) if self.has_sine else None
        for j, k in enumerate(self.orders):
            angle = theta * k
            c, s = angle.cos(), angle.sin() if derivatives or self.has_sine else None
            for m in range(derivatives + 1):
                # derivatives turn (cos, sin) into (-sin, cos) and bring out k
                out[m] = torch.addcmul(out[m], cosine[j], c, value=k**m)
                if sine is not None:
                    out[m] = torch.addcmul(out[m], sine[j], s, value=k**m)
                if m < derivatives:
                    c, s = -s, c
        return out

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return a bound, some 60 to 80 % of the distance for the paper's family.

        `h = |x| / r(theta)` is 1 on the boundary. Two bounds hold, and the better one is taken:
        h changes by at most `|dx| / pedal`, and log h by at most `steepness |dx| / |x|`.
        """
        u, v = x - self.pick(self.center, x, i)
        size = torch.hypot(u, v)
        (r,) = self.radius(torch.atan2(v, u), i)
        h = size / r
        far = (1 - h).abs() * self.pick(self.pedal, x, i)
        log = torch.log(h.clamp_min(1e-9)).abs() / self.pick(self.steepness, x, i)
        bound = torch.maximum(far, -size * torch.expm1(-log))
        return torch.where(h < 1, -bound, bound)

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the closest boundary points: a scan over angles, then Newton's method."""
        nodes = torch.arange(SCAN, device=x.device, dtype=torch.float64) * (2 * math.pi / SCAN)
        every = torch.arange(self.count, device=x.device).repeat_interleave(SCAN)
        on = self._point(nodes.repeat(self.count), every).view(2, self.count, SCAN).float()
        half = on.square().sum(0) / 2
        starts = []
        for block, own in zip(x.float().split(SCAN_BLOCK, 1), i.split(SCAN_BLOCK), strict=True):
            # |on - x|^2 / 2 less what does not depend on the node
            square = half.index_select(0, own)
            for axis in range(2):
                square.addcmul_(on[axis].index_select(0, own), block[axis, :, None], value=-1)
            starts.append(nodes[square.argmin(1)])
        return self._newton(x, i, torch.cat(starts))

    def land(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the closest boundary points of points near the boundary, without the scan."""
        u, v = x.double() - self.pick(self.center, x.double(), i)
        return self._newton(x, i, torch.atan2(v, u))

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners of boxes around the largest radius."""
        half = (self.mean + self.cosine.abs().sum(1) + self.sine.abs().sum(1))[:, None]
        return self.center - half, self.center + half

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points uniform in arc length."""

        def every(t: Tensor) -> Tensor:
            return torch.arange(self.count, device=t.device).repeat_interleave(t.shape[-1])

        def speed(t: Tensor) -> Tensor:
            t = t.expand(self.count, -1)
            return torch.hypot(*self.radius(t.reshape(-1), every(t), 1)).view_as(t)

        theta, weight = arc_length(speed, self.count, n, generator)
        t, i = theta.reshape(-1), every(theta)
        r, slope = self.radius(t, i, 1)
        c, s = t.cos(), t.sin()
        # the tangent (r' c - r s, r' s + r c), turned by -90 degrees
        normals = torch.stack([slope * s + r * c, r * s - slope * c]) / torch.hypot(r, slope)
        shape = (self.count, n, 2)
        return Boundary(
            self._point(t, i).T.reshape(shape).to(dtype),
            normals.T.reshape(shape).to(dtype),
            weight.to(dtype),
        )

    def _point(self, theta: Tensor, i: Tensor) -> Tensor:
        """Return the boundary points `(2, N)` at `theta (N,)`."""
        (r,) = self.radius(theta, i)
        return torch.stack([r * theta.cos(), r * theta.sin()]) + self.pick(self.center, theta, i)

    def _newton(self, x: Tensor, i: Tensor, theta: Tensor) -> Tensor:
        """Return the boundary points where |point - x|^2 / 2 is stationary, started at `theta`."""
        u, v = x.double() - self.pick(self.center, x.double(), i)
        for _ in range(STAR_STEPS):
            r, r1, r2 = self.radius(theta, i, 2)
            c, s = theta.cos(), theta.sin()
            along, across = u * c + v * s, v * c - u * s
            slope = r1 * (r - along) - r * across
            bend = r1 * (r1 - 2 * across) + r2 * (r - along) + r * along
            # where the squared distance is not convex, walk downhill with the metric instead
            step = slope / torch.where(bend > 0, bend, r**2 + r1**2)
            theta = theta - step.clamp(-0.2, 0.2)
        return self._point(theta, i).to(x.dtype)

    def _table(self) -> tuple[Tensor, Tensor]:
        """Return r and r' `(B, NODES)` at equal angles."""
        device = self.cosine.device
        t = torch.arange(NODES, dtype=torch.float64, device=device) * (2 * math.pi / NODES)
        i = torch.arange(self.count, device=device).repeat_interleave(NODES)
        r, slope = self.radius(t.repeat(self.count), i, 1)
        return r.view(self.count, -1), slope.view(self.count, -1)


def star_family(count: int, generator: torch.Generator, spread: float = 0.2) -> Star:
    """Return members of the paper's family: r = 1 + c1 cos 4 theta + c2 cos 8 theta.

    Args:
        count: Number of domains.
        generator: Source of randomness.
        spread: c1 and c2 are uniform on [-spread, spread]; below 0.5 for a positive radius.

    Raises:
        InvalidArgument: For a spread of 0.5 or more.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import star_family
        >>> star_family(10, torch.Generator().manual_seed(0)).count
        10
    """
    check_draw(count, generator)
    check_number("spread", spread)
    if not 0 <= spread < 0.5:
        raise InvalidArgument(f"spread={spread}", "at least 0 and below 0.5")
    c = uniform((count, 2), generator, torch.float64)
    return Star((2 * c - 1).mul_(spread).cpu()).to(generator.device)
