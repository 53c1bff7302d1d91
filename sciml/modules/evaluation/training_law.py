"""Where a problem's training points lie, for pictures that stay there: rays and planes.

The law is known by its samples: the range of every coordinate, and that of the distances from the
middle, which tells shells, balls and annuli from boxes. A problem that knows its domain
(`dirichlet`) gives the exact box and boundary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.physics.pde import PDE, Points
from sciml.typed_arguments import typed

SAMPLES, ELEMENTS = 4096, 2**20
SHELL = 0.05  # least distance over greatest, from where on the middle is a hole
NEARBY = 8  # share of the points, 1 / NEARBY, that stand for the law at one time
RAY, SIDE = 101, 121  # points of a ray, of a side of a plane
MARGIN = 0.04  # room around the domain in a plane


@typed
class TrainingLaw:
    """The law of training points, at one time where points have one.

    Args:
        problem: The PDE.
        t: A time; None for all of them.

    Attributes:
        centre: `(d,)` the middle of the box; zero for laws that are symmetric.
        low: `(d,)` least coordinates.
        high: `(d,)` greatest coordinates.
        inner: Least distance from the centre, 0 where there is no hole.
        outer: Greatest distance.
        usual: Distances between which 98 % of the points lie.

    Example:
        >>> from sciml.modules import TrainingLaw
        >>> from sciml.physics import PoissonBox
        >>> law = TrainingLaw(PoissonBox(dim=2))
        >>> [round(v, 1) for v in law.centre.tolist()]
        [0.5, 0.5]
    """

    def __init__(self, problem: PDE, t: float | None = None) -> None:
        n = max(256, min(SAMPLES, ELEMENTS // problem.dim))
        p = problem.sample(n, torch.Generator().manual_seed(0))
        x = p.x.double()
        if t is not None and p.t is not None:
            x = x[(p.t[:, 0].double() - t).abs().argsort()[: max(64, n // NEARBY)]]
        # few samples of many coordinates, which are alike: one range for all
        axes = (0,) if problem.dim <= 3 else (0, 1)
        self.low, self.high = (v.expand(problem.dim) for v in (x.amin(axes), x.amax(axes)))
        self.domain = problem.dirichlet()[0] if hasattr(problem, "dirichlet") else None
        if self.domain is not None:
            self.low, self.high = (corner[0].double() for corner in self.domain.bounds())
        shift = x.mean(0).abs() / (x.std(0) / len(x) ** 0.5).clamp_min(1e-300)
        off = bool((shift > 6).any())  # standard errors
        self.centre = (self.low + self.high) / 2 if off else torch.zeros_like(self.low)
        distance = torch.linalg.vector_norm(x - self.centre, dim=1)
        self.inner, self.outer = float(distance.min()), float(distance.max())
        self.inner = self.inner if self.inner > SHELL * self.outer else 0.0
        self.usual = tuple(distance.quantile(torch.tensor([0.01, 0.99]).double()).tolist())

    def ray(self, through: Tensor) -> tuple[Tensor, tuple[float, float]]:
        """Return the line from the centre through a point, as far as the law reaches.

        Args:
            through: `(d,)`.

        Returns:
            Distances s `(RAY,)` with x = centre + s direction, both sides of the centre unless
            there is a hole; and where 98 % of the training points are.
        """
        direction = self.direction(through)
        room = torch.where(direction > 0, self.high - self.centre, self.centre - self.low)
        box = float((room / direction.abs().clamp_min(1e-300)).min())
        far = min(box, self.outer) if box > self.inner else self.outer
        near = self.inner if self.inner else -far
        low, high = self.usual
        shaded = (low if self.inner else -high, high)
        s = torch.linspace(near, far, RAY, dtype=torch.float64)
        return s, (max(near, shaded[0]), min(far, shaded[1]))

    def direction(self, through: Tensor) -> Tensor:
        """Return the unit vector `(d,)` from the centre to a point."""
        away = through.detach().double().cpu() - self.centre
        size = torch.linalg.vector_norm(away)
        return away / size if size > 0 else torch.eye(len(away), dtype=torch.float64)[0]

    def plane(self, problem: PDE) -> tuple[Points, Tensor, dict] | None:
        """Return points all over a problem of two variables, None for any other.

        Returns:
            Points `(SIDE^2,)`, a function `(SIDE, SIDE)` that is negative in the domain, and what
            the picture says about its axes: "extent", "xlabel", "ylabel".
        """
        timed = problem.time_dependent
        if problem.dim + timed != 2:
            return None
        low, high = self.low.clone(), self.high.clone()
        if timed:
            low, high = (torch.cat([v, v.new_tensor([end])])
                         for v, end in ((low, 0.0), (high, problem.final_time)))  # fmt: skip
        room = MARGIN * (high - low) * (0 if timed else 1)
        first, last = low - room, high + room
        axes = [torch.linspace(a, b, SIDE, dtype=torch.float64)
                for a, b in zip(first.tolist(), last.tolist(), strict=True)]  # fmt: skip
        x, y = torch.meshgrid(*axes, indexing="xy")  # rows are y
        at = torch.stack([x.flatten(), y.flatten()], 1)
        points = Points(at[:, :1], at[:, 1:]) if timed else Points(at)
        if timed:
            level = torch.full((len(at),), -1.0)
        elif self.domain is not None:
            level = self.domain.signed_distance(at[None])[0]
        else:
            distance = torch.linalg.vector_norm(at - self.centre, dim=1)
            level = torch.maximum(low - at, at - high).amax(1)
            level = torch.maximum(level, distance - self.outer)
            if self.inner:
                level = torch.maximum(level, self.inner - distance)
        extent = [float(v) for pair in zip(first, last, strict=True) for v in pair]
        labels = {"xlabel": "x", "ylabel": "t"} if timed else {"xlabel": "x1", "ylabel": "x2"}
        return points, level.view(SIDE, SIDE), {"extent": extent, **labels}
