"""Boxes with reflecting faces, in any dimension."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.physics.geometry.domain import Boundary
from sciml.physics.geometry.domain_rows import uniform
from sciml.physics.geometry.primitives import Box, sphere_area, unit_vectors
from sciml.physics.geometry.reflecting import Reflecting
from sciml.shapes import check_kind


class MixedBox(Reflecting):
    """Boxes whose faces absorb or reflect: convex, so that every ball sees all of its part.

    Args:
        box: B boxes in d dimensions.
        neumann: Which of the 2 d faces reflect: `(B, 2 d)` or `(2 d,)` booleans in the order low
            and high along the first axis, low and high along the second, ..., or a function
            `(x (d, N), i (N,)) -> (N,)` of their midpoints.

    Attributes:
        reflects: `(B, 2 d)` booleans.

    Raises:
        InvalidArgument: If all faces of a box reflect, or shapes do not fit.
        InvalidType: If `neumann` is neither booleans nor a function that returns them.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Box, MixedBox
        >>> walls = torch.tensor([True, True, False, False])  # left and right reflect
        >>> channel = MixedBox(Box(), walls)
        >>> x, i = torch.tensor([[0.9], [0.0]]), torch.tensor([0])
        >>> channel.absorbed(x, i)[0].tolist()  # to the lower or the upper side
        [1.0]
    """

    def __init__(self, box: Box, neumann: Tensor | Callable[[Tensor, Tensor], Tensor]) -> None:
        check_kind("box", box, Box)
        super().__init__(box.count, box.dim)
        self.box = box
        ends = torch.stack([box.low, box.high], 2)  # (B, d, 2)
        middle = ((box.low + box.high) / 2)[:, None].repeat(1, 2 * self.dim, 1)
        for axis in range(self.dim):
            middle[:, 2 * axis : 2 * axis + 2, axis] = ends[:, axis]
        self.reflects = self._chosen(neumann, middle)

    def absorbed(self, x: Tensor, i: Tensor, point: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the distance `(N,)` to the closest absorbing face, and its closest point."""
        low, high = self.pick(self.box.low, x, i), self.pick(self.box.high, x, i)
        depth = self._depth(x, i).clamp_min(0)
        away, face = torch.where(self._faces(x, i), torch.inf, depth).min(0)
        if not point:
            return away, None
        place = torch.where(face % 2 == 0, low.expand_as(x).gather(0, face[None] // 2),
                            high.expand_as(x).gather(0, face[None] // 2))  # fmt: skip
        inner = torch.minimum(torch.maximum(x, low), high)
        return away, inner.scatter(0, face[None] // 2, place)

    def hit(self, x: Tensor, e: Tensor, i: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far rays go, and which reflecting face stops them."""
        speed = torch.stack([-e, e], 1).flatten(0, 1)  # towards low and high of every axis
        t = self._depth(x, i).clamp_min(0) / speed
        t, face = torch.where((speed > 1e-6) & self._faces(x, i), t, torch.inf).min(0)
        stopped = t <= far
        return torch.where(stopped, t, far), torch.where(stopped, face, -1)

    def wall(self, x: Tensor, i: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x (d, N)` put on the faces `(N,)`, and their outward normals `(d, N)`."""
        axis, upper, on = side.clamp_min(0) // 2, side % 2 == 1, side >= 0
        low, high = self.pick(self.box.low, x, i), self.pick(self.box.high, x, i)
        ends = (low.expand_as(x).gather(0, axis[None]), high.expand_as(x).gather(0, axis[None]))
        # the other coordinates stay inside up to round-off
        inner = torch.minimum(torch.maximum(x, low), high)
        put = inner.scatter(0, axis[None], torch.where(upper, ends[1], ends[0]))
        sign = torch.where(upper, 1.0, -1.0).to(x) * on
        normal = torch.zeros_like(x).scatter(0, axis[None], sign[None])
        return torch.where(on, put, x), normal

    def standing(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the reflecting faces `(N,)` that points stand on up to round-off, -1 for none."""
        near = (self._depth(x, i).abs() <= self.rounding(x, i)) & self._faces(x, i)
        found, face = near.max(0)
        return torch.where(found, face, -1)

    def sample_near(
        self, x: Tensor, i: Tensor, r: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return points of the reflecting faces within `r (N,)` of `x`.

        On one of the faces in reach the distance from the foot of x is uniform: near a wall the
        Green's function grows like a power of it that uniform points would not tame.
        """
        depth, n = self._depth(x, i).clamp_min(0), x.shape[1]
        near = (depth < r) & self._faces(x, i)
        count = near.sum(0)
        turn = torch.where(near, uniform(tuple(near.shape), generator, x.dtype), -1.0)
        face = turn.argmax(0)  # a uniform one of those in reach
        foot, _ = self.wall(x, i, face)
        reach = (r * r - depth.gather(0, face[None])[0].square()).clamp_min(0).sqrt()
        rho = reach * uniform((n,), generator, x.dtype)
        out = unit_vectors(1, n, self.dim - 1, generator, x.dtype)[0].T
        # directions of the face: all axes but its own
        axes = torch.arange(self.dim - 1, device=x.device)[:, None]
        axes = axes + (axes >= face // 2)
        z = foot.scatter_add(0, axes, rho * out)
        low, high = self.pick(self.box.low, x, i), self.pick(self.box.high, x, i)
        inside = ((z >= low) & (z <= high)).all(0) & (count > 0)
        weight = sphere_area(self.dim - 1) * rho ** (self.dim - 2) * reach * count * inside
        return z, torch.where(count > 0, face, -1), weight

    def _depth(self, x: Tensor, i: Tensor) -> Tensor:
        """Return how far inside the planes of all faces, `(2 d, N)`."""
        low, high = self.pick(self.box.low, x, i), self.pick(self.box.high, x, i)
        return torch.stack([x - low, high - x], 1).flatten(0, 1)

    def _faces(self, x: Tensor, i: Tensor) -> Tensor:
        """Return which faces reflect, `(2 d, N)` or `(2 d, 1)`."""
        return self.pick(self.reflects, x, i) > 0

    # --- the box's own ----------------------------------------------------------------------------
    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the signed distance to the whole boundary."""
        return self.box.level(x, i)

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the closest points of the whole boundary."""
        return self.box.nearest(x, i)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners."""
        return self.box.bounds()

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points of all faces, in proportion to their areas."""
        return self.box.sample_boundary(n, generator, dtype)
