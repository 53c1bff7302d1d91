"""The interface of domains: distance, projection, inside test and sampling, B domains at once.

Two layouts of points, converted by `Domain.columns`:

    points (B, P, d)     P points in each of the B domains: what users and networks hold
    x (d, N), i (N,)     coordinates first, with the domain each column belongs to: what walks
                         hold, because a sum over the first axis runs over contiguous memory

A kind of domain implements `level`, `nearest`, `bounds` and `sample_boundary`; the rest follows.
Every tensor it stores leads with the B domains, which is what `to` and `select` rely on.
"""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import WHOLE, shown, tensor
from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.geometry.domain_rows import accepted, check_draw, length, uniform
from sciml.physics.geometry.own_domain import check_own
from sciml.shapes import as_array, check_kind, check_returned

# What subclasses write: columns in, a number per column or columns out.
CHECKED = {
    "level": "one number per point: a sum over coordinates is over dim 0",
    "gap": "one number per point: a sum over coordinates is over dim 0",
    "nearest": "a boundary point per column, coordinates first",
    "land": "a boundary point per column, coordinates first",
}


@dataclass(frozen=True)
class Boundary:
    """Random points of the boundaries of B domains.

    Attributes:
        points: `(B, n, d)`, uniform in arc length or area.
        normals: `(B, n, d)` unit outward normals.
        weight: `(B, n)` length or area per point: `(weight * f).sum(1)` estimates the integral
            of f over the boundary.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Ball
        >>> boundary = Ball().sample_boundary(100, torch.Generator().manual_seed(0))
        >>> tuple(boundary.points.shape), tuple(boundary.normals.shape)
        ((1, 100, 2), (1, 100, 2))
        >>> round(boundary.weight.sum().item(), 4)  # the length, 2 pi
        6.2832
    """

    points: Tensor
    normals: Tensor
    weight: Tensor


class Domain(ABC):
    """B bounded domains of one kind in d dimensions.

    Args:
        count: B.
        dim: d.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Domain, Ellipse
        >>> domain = Ellipse(axes=(2.0, 1.0))
        >>> isinstance(domain, Domain), domain.count, domain.dim
        (True, 1, 2)
        >>> points = domain.sample_interior(50, torch.Generator().manual_seed(0))
        >>> bool(domain.inside(points).all()), bool((domain.signed_distance(points) < 0).all())
        (True, True)
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Put the check of the shape around what the class defines."""
        super().__init_subclass__(**kwargs)
        for name in CHECKED:
            method = getattr(cls, name)
            if method is not getattr(Domain, name) and not hasattr(method, "is_checked"):
                setattr(cls, name, _checked(method, name))
        for name, kind in (("sample_interior", Tensor), ("sample_boundary", Boundary)):
            if name in vars(cls):
                setattr(cls, name, _drawn(vars(cls)[name], kind))

    def __init__(self, count: int, dim: int) -> None:
        self.count, self.dim = count, dim
        self._agrees = type(self).__module__.startswith("sciml.")  # domains of users are looked at

    @abstractmethod
    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return a signed lower bound of the distance `(N,)` at `x (d, N)` in the domains `i`.

        Negative inside and positive outside; its size never exceeds the distance to the boundary.
        """

    @abstractmethod
    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the closest boundary points `(d, N)` of `x (d, N)` in the domains `i`."""

    @abstractmethod
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the lower and upper corners, each `(B, d)`, of boxes around the domains."""

    @abstractmethod
    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return `n` random points of each boundary, uniform in arc length or area."""

    def gap(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the radius `(N,)` of a ball around each `x (d, N)` that stays in the domain.

        For points inside; elsewhere the value means nothing. It may be cheaper than `level`.
        """
        return -self.level(x, i)

    def land(self, x: Tensor, i: Tensor) -> Tensor:
        """Return `nearest` for points already close to the boundary; it may be cheaper."""
        return self.nearest(x, i)

    def columns(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x (d, B P)` and `i (B P,)` of `points (B, P, d)`.

        Raises:
            InvalidArgument: If the shape does not fit the domains.
            InvalidType: If they are no tensor.
        """
        check_kind("points", points, Tensor, "Write torch.tensor(points)")
        if wanted := tensor(points):
            raise InvalidType(f"points is {shown(points)}", wanted)
        if points.ndim != 3 or points.shape[0] != self.count or points.shape[2] != self.dim:
            raise InvalidArgument(
                f"points of shape {tuple(points.shape)}",
                f"(B, P, d) with B = {self.count} domains and d = {self.dim}",
            )
        x = points.permute(2, 0, 1).reshape(self.dim, -1)
        i = torch.arange(self.count, device=points.device).repeat_interleave(points.shape[1])
        if not self._agrees:
            self._agrees = check_own(self, x, i)
        return x, i

    def pick(self, value: Tensor, x: Tensor, i: Tensor) -> Tensor:
        """Return a parameter `(B,)` or `(B, k)` for every column, in the type of `x`.

        The shape is `(N,)` or `(k, N)`, or broadcasts to it where there is one domain only, which
        needs no gather.
        """
        value = value.to(x.dtype)
        if self.count == 1:
            return value[0] if value.ndim == 1 else value[0, :, None]
        return (value if value.ndim == 1 else value.T).index_select(-1, i)

    def signed_distance(self, points: Tensor) -> Tensor:
        """Return the signed distance `(B, P)` to the boundary, negative inside."""
        x, i = self.columns(points)
        distance = length(x - self.nearest(x, i))
        return torch.where(self.level(x, i) < 0, -distance, distance).view(self.count, -1)

    def inside(self, points: Tensor) -> Tensor:
        """Return whether each of `points (B, P, d)` lies in its open domain, `(B, P)`."""
        return (self.level(*self.columns(points)) < 0).view(self.count, -1)

    def project(self, points: Tensor) -> Tensor:
        """Return the closest boundary points `(B, P, d)` of `points (B, P, d)`."""
        return self.nearest(*self.columns(points)).view(self.dim, self.count, -1).permute(1, 2, 0)

    def scale(self) -> Tensor:
        """Return half the longest side `(B,)` of each bounding box: 1 for a unit ball."""
        low, high = self.bounds()
        return (high - low).amax(1) / 2

    def sample_interior(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return `n` points `(B, n, d)`, uniform in each domain, by rejection from its box."""
        check_draw(n, generator, dtype)
        low, high = (corner.to(dtype)[:, None] for corner in self.bounds())

        def draw(m: int) -> tuple[Tensor, Tensor]:
            u = uniform((self.count, m, self.dim), generator, dtype)
            points = low + u * (high - low)
            return points, self.inside(points)

        return accepted(n, draw)[0]

    def to(self, device: torch.device | str) -> Domain:
        """Return a copy on `device`."""
        return self._map(lambda part: part.to(device))

    def select(self, index: Tensor) -> Domain:
        """Return the domains `index (K,)`, in that order, as one batch of K domains."""
        index = as_array("index", index, "numbers of domains")
        if (
            index.ndim != 1
            or index.dtype not in WHOLE
            or bool(((index < 0) | (index >= self.count)).any())
        ):
            raise InvalidArgument(
                f"an index of shape {tuple(index.shape)} and type {index.dtype}",
                f"whole numbers (K,) from 0 to {self.count - 1}",
            )
        chosen = self._map(lambda p: p.select(index) if isinstance(p, Domain) else p[index])
        chosen.count = len(index)
        return chosen

    def _map(self, change: Callable) -> Domain:
        changed = copy.copy(self)
        for name, part in vars(self).items():
            if isinstance(part, Tensor | Domain):
                setattr(changed, name, change(part))
        return changed


def _checked(method: Callable, name: str) -> Callable:
    """Return a method of a domain that compares the shape of what it returns, at every call."""
    columns = name in ("nearest", "land")

    @functools.wraps(method)
    def wrapper(self: Domain, x: Tensor, i: Tensor) -> Tensor:
        out = method(self, x, i)
        shape = x.shape if columns else x.shape[1:]
        if not isinstance(out, Tensor) or out.shape != shape or not out.is_floating_point():
            check_returned(f"{type(self).__name__}.{name}()", out, shape, what=CHECKED[name])
        return out

    wrapper.is_checked = True
    return wrapper


def _drawn(method: Callable, kind: type) -> Callable:
    """Return a method that draws points, with a check of what it is asked for and returns."""

    @functools.wraps(method)
    def wrapper(self: Domain, n: int, generator: torch.Generator, *args: Any, **kwargs: Any) -> Any:
        check_draw(n, generator, *args, **kwargs)
        out = method(self, n, generator, *args, **kwargs)
        check_kind(f"{type(self).__name__}.{method.__name__}()", out, kind)
        return out

    return wrapper
