"""Ellipses in the plane, and points uniform in arc length on closed curves."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.domain_rows import Numbers, batch, length, positive, rows_of, uniform

# Nodes of the arc-length table; its error falls with their square.
NODES = 4096
# Newton steps of projections, in float64. The ellipse converges from one side, slowly only near
# the end points of its medial axis.
ELLIPSE_STEPS = 24


class Ellipse(Domain):
    """Ellipses in the plane.

    Args:
        axes: Half axes `(B, 2)` or `(2,)`, positive.
        center: Centres `(B, 2)` or `(2,)`.
        angle: Angles `(B,)` or one number, of the first axis against the x axis.

    Raises:
        InvalidArgument: For axes that are not positive or shapes that do not fit.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Ellipse
        >>> ellipse = Ellipse(axes=(2.0, 1.0))
        >>> points = torch.tensor([[[0.0, 0.0], [3.0, 0.0]]])
        >>> [round(v, 3) for v in ellipse.signed_distance(points)[0].tolist()]
        [-1.0, 1.0]
    """

    def __init__(
        self, axes: Numbers = (1.0, 0.5), center: Numbers = (0.0, 0.0), angle: Numbers = 0.0
    ) -> None:
        self.axes, self.center, self.angle = batch(
            axes=positive("axes", rows_of("axes", axes, (2,))),
            center=rows_of("center", center, (2,)),
            angle=rows_of("angle", angle, ()),
        )
        super().__init__(len(self.axes), 2)

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return a bound: exact in circles and on the short axis, b/a of the distance at worst.

        `h = |(x/a, y/b)|` changes by at most `|dx| / min(a, b)`, and h = 1 on the boundary.
        """
        axes = self.pick(self.axes, x, i)
        x = self._local(x, i) / axes
        return (length(x) - 1) * axes.amin(0)

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the closest boundary points, to round-off in float64.

        With a >= b, p, q >= 0 the local coordinates over a and b, and c = (a/b)^2, the point is
        `(a c p / (t + c - 1), b q / t)` at the root t > 0 of
        `(c p / (t + c - 1))^2 + (q / t)^2 = 1`: convex and falling, so that Newton's iteration
        from the left never leaves the interval.
        """
        local = self._local(x.double(), i)
        axes = self.pick(self.axes, local, i).expand_as(local)
        swap = axes[0] < axes[1]
        sign = torch.where(local < 0, -1.0, 1.0)
        z = (local / axes).abs()
        p, q = torch.where(swap, z[1], z[0]), torch.where(swap, z[0], z[1]).clamp_min(1e-12)
        c = (axes.amax(0) / axes.amin(0)) ** 2
        t = torch.maximum(q, c * p + 1 - c)
        for _ in range(ELLIPSE_STEPS):
            first, second = c * p / (t + c - 1), q / t
            value = first**2 + second**2 - 1
            t = t + value / (2 * (first**2 / (t + c - 1) + second**2 / t))
        first, second = c * p / (t + c - 1), q / t
        on = sign * axes * torch.where(swap, torch.stack([second, first]),
                                       torch.stack([first, second]))  # fmt: skip
        return self._world(on, i).to(x.dtype)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners of the boxes that touch each ellipse."""
        c, s = self.angle.cos(), self.angle.sin()
        a, b = self.axes.unbind(1)
        half = torch.stack([torch.hypot(a * c, b * s), torch.hypot(a * s, b * c)], 1)
        return self.center - half, self.center + half

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points uniform in arc length."""
        a, b = self.axes.unbind(1)

        def speed(t: Tensor) -> Tensor:
            return torch.hypot(a[:, None] * t.sin(), b[:, None] * t.cos())

        t, weight = arc_length(speed, self.count, n, generator)
        i = torch.arange(self.count, device=t.device).repeat_interleave(n)
        circle = torch.stack([t.cos(), t.sin()]).view(2, -1)
        axes = self.axes.T.index_select(1, i)
        points = self._world(circle * axes, i)
        normals = self._world(circle / axes, i) - self.center.T.index_select(1, i)
        normals = normals / length(normals)
        shape = (self.count, n, 2)
        return Boundary(
            points.T.reshape(shape).to(dtype), normals.T.reshape(shape).to(dtype), weight.to(dtype)
        )

    def _local(self, x: Tensor, i: Tensor) -> Tensor:
        """Return coordinates along the axes, from the centre."""
        u, v = x - self.pick(self.center, x, i)
        angle = self.pick(self.angle, x, i)
        c, s = angle.cos(), angle.sin()
        return torch.stack([c * u + s * v, c * v - s * u])

    def _world(self, x: Tensor, i: Tensor) -> Tensor:
        """Undo `_local`."""
        angle = self.pick(self.angle, x, i)
        c, s = angle.cos(), angle.sin()
        return torch.stack([c * x[0] - s * x[1], s * x[0] + c * x[1]]) + self.pick(
            self.center, x, i
        )


def arc_length(
    speed: Callable[[Tensor], Tensor], count: int, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return angles `(B, n)` uniform in arc length, and the length per point `(B, n)`.

    Args:
        speed: `t (1, M) -> |p'(t)| (B, M)` in float64.
        count: B.
        n: Points per curve.
        generator: Source of randomness.
    """
    t = torch.linspace(0, 2 * math.pi, NODES + 1, dtype=torch.float64, device=generator.device)
    s = speed(t[None])
    arc = torch.cumsum((s[:, 1:] + s[:, :-1]) * (math.pi / NODES), 1)
    arc = torch.cat([torch.zeros_like(arc[:, :1]), arc], 1)
    u = uniform((count, n), generator, torch.float64) * arc[:, -1:]
    right = torch.searchsorted(arc, u, right=True).clamp_(1, NODES)
    low, high = arc.gather(1, right - 1), arc.gather(1, right)
    theta = t[right - 1] + (u - low) / (high - low) * (2 * math.pi / NODES)
    return theta, (arc[:, -1:] / n).expand(-1, n)
