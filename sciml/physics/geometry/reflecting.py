"""Domains whose boundary partly absorbs and partly reflects: the queries of walk on stars."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.geometry.domain import Domain
from sciml.shapes import as_array, check_call

# Positions are known up to this, in units of the domain's size: a walk that is so far behind a
# wall stands at it, and walks keep this far from the ends of an edge.
ROUNDING = {torch.float32: 4e-6, torch.float64: 1e-11}


class Reflecting(Domain):
    """B domains bounded by flat sides that absorb (Dirichlet) or reflect (Neumann).

    Sides are numbered; -1 stands for none. `level`, `nearest` and sampling are those of the whole
    boundary.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Box, MixedBox, Reflecting
        >>> domain = MixedBox(Box(), torch.tensor([True, False, False, False]))
        >>> isinstance(domain, Reflecting)
        True
        >>> x, i = torch.tensor([[0.5], [0.0]]), torch.tensor([0])
        >>> far, side = domain.hit(x, torch.tensor([[-1.0], [0.0]]), i, torch.tensor([9.0]))
        >>> far.tolist(), side.tolist()  # a ray to the left is stopped by side 0
        ([1.5], [0])
    """

    @abstractmethod
    def absorbed(self, x: Tensor, i: Tensor, point: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the distance `(N,)` to the closest absorbing side, and its closest point."""

    def silhouette(self, x: Tensor, i: Tensor, within: Tensor) -> Tensor:
        """Return the distance `(N,)` to the closest silhouette, at most `within (N,)`.

        Convex domains have none.
        """
        return within

    @abstractmethod
    def hit(self, x: Tensor, e: Tensor, i: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far rays go, and which reflecting side stops them.

        Only sides met from inside count. A point up to round-off behind one is stopped at once.

        Args:
            x: Starts `(d, N)`.
            e: Unit directions `(d, N)`.
            i: Domains `(N,)`.
            far: Largest lengths `(N,)`.

        Returns:
            Lengths `(N,)`, at most `far`, and sides `(N,)`, -1 for rays that nothing stops.
        """

    @abstractmethod
    def wall(self, x: Tensor, i: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x (d, N)` put on the sides `(N,)`, and their outward normals `(d, N)`.

        Side -1 leaves the point as it is, with the normal 0.
        """

    @abstractmethod
    def standing(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the reflecting sides `(N,)` that points stand on up to round-off, -1 for none."""

    @abstractmethod
    def sample_near(
        self, x: Tensor, i: Tensor, r: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return random points of the reflecting sides within `r (N,)` of `x`.

        Sides that are seen from behind are left out; others may be hidden behind them.

        Returns:
            Points `(d, N)`, sides `(N,)`, and one over the density `(N,)`: the mean of this times
            a function is the function's integral. 0 where there is no point.
        """

    def rounding(self, x: Tensor, i: Tensor) -> Tensor:
        """Return up to which distance `(N,)` positions are known."""
        low, high = self.bounds()
        extent = torch.maximum(low.abs(), high.abs()).amax(1)
        return self.pick(extent, x, i) * ROUNDING[x.dtype]

    def _chosen(
        self, neumann: Tensor | Callable[[Tensor, Tensor], Tensor], middle: Tensor
    ) -> Tensor:
        """Return which sides reflect `(B, sides)`.

        Args:
            neumann: Booleans `(B, sides)` or `(sides,)`, or a function of the midpoints.
            middle: Midpoints `(B, sides, d)`.

        Raises:
            InvalidArgument: If all sides of a domain reflect, or shapes do not fit.
            InvalidType: If these are no booleans.
        """
        shape = middle.shape[:2]
        if callable(neumann):
            x, i = self.columns(middle)
            check_call("neumann", neumann, "(x, i)", x, i)
            neumann = neumann(x, i)
            got = tuple(getattr(neumann, "shape", ()))
            if not isinstance(neumann, Tensor) or got != (len(i),):
                raise InvalidArgument(
                    f"neumann returned {type(neumann).__name__} {got}",
                    f"booleans ({len(i)},), one per midpoint of a side",
                    "Coordinates come first: write x[0] > 0",
                )
            neumann = neumann.view(shape)
        chosen = as_array("neumann", neumann, "booleans, or a function of midpoints (x, i)")
        if chosen.dtype != torch.bool:
            raise InvalidType(f"neumann of type {chosen.dtype}", "booleans")
        chosen = chosen.to(middle.device)
        if chosen.shape == shape[1:]:
            chosen = chosen.expand(shape)
        if chosen.shape != shape:
            raise InvalidArgument(f"neumann of shape {tuple(chosen.shape)}", f"{tuple(shape)}")
        if bool(chosen.all(1).any()):
            raise InvalidArgument(
                "a domain whose whole boundary reflects",
                "at least one absorbing side",
                "With Neumann data alone the solution is known up to a constant only, and walks "
                "never end: fix its value on a side",
            )
        return chosen.contiguous()
