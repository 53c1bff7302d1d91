"""What a partial differential equation tells the rest of the library.

A `PDE` knows its equation, domain, data and an exact or reference solution. It knows nothing
about networks or training. Functions that a network sees or is multiplied with (`lift`,
`feature`) are written once with torch operations and work on tensors and on Taylor jets alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, did_you_mean
from sciml.physics.returned import CHECKS, checked

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


@dataclass
class Points:
    """Collocation or test points.

    Attributes:
        x: Space coordinates `(N, d)`.
        t: Time `(N, 1)`, or None for a static problem.
        source: Right-hand side at the points `(N,)`, or None.

    Example:
        >>> import torch
        >>> from sciml.physics import Points
        >>> p = Points(x=torch.rand(8, 3), t=torch.rand(8, 1)).to(torch.float64)
        >>> tuple(p.x.shape), tuple(p.t.shape), p.source, p.x.dtype
        ((8, 3), (8, 1), None, torch.float64)
    """

    x: Tensor
    t: Tensor | None = None
    source: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of points."""
        return self.x.shape[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> Points:
        """Return points with `function` applied to every tensor."""
        return Points(*(None if v is None else function(v) for v in (self.x, self.t, self.source)))

    def to(self, *target: torch.device | torch.dtype | str) -> Points:
        """Return points moved to a device and/or cast to a dtype."""
        return self.map(lambda v: v.to(*target))

    def __getitem__(self, index: slice | Tensor) -> Points:
        """Return the selected points."""
        return self.map(lambda v: v[index])


class Fields:
    """The unknown and its derivatives at N points, as a residual uses them.

    Attributes:
        value: u `(N,)`.
        dt: First time derivative `(N,)`, or None for a static problem.
        dtt: Second time derivative `(N,)` where the PDE has `time_order` 2, else None.
        trace: Sum over the second-order part `sum_j a_j d_j^2 u` (the Laplacian unless
            `PDE.diffusion` says otherwise), or the bilaplacian where `PDE.order` is 4; `(N,)`.
            May be a stochastic estimate.

    Example:
        >>> import torch
        >>> from sciml.physics import Fields, Points, Poisson
        >>> problem = Poisson(dim=3)
        >>> p = problem.sample(4, torch.Generator().manual_seed(0))
        >>> zero = Fields(torch.zeros(4), trace=torch.zeros(4))  # u and its Laplacian
        >>> bool(torch.equal(problem.residual(zero, p), -p.source))
        True
    """

    def __init__(
        self,
        value: Tensor,
        trace: Tensor | None = None,
        dt: Tensor | None = None,
        dtt: Tensor | None = None,
        gradient: Callable[[], Tensor] | None = None,
    ) -> None:
        self.value, self.trace, self.dt, self.dtt = value, trace, dt, dtt
        self._gradient = gradient
        self._cached: Tensor | None = None

    @property
    def grad(self) -> Tensor:
        """Exact space gradient `(N, d)`, differentiable; computed on first use."""
        if self._cached is None:
            self._cached = self._gradient()
        return self._cached

    @property
    def laplacian(self) -> Tensor:
        """`trace` under the name it has where `PDE.diffusion` is None."""
        return self.trace

    @property
    def bilaplacian(self) -> Tensor:
        """`trace` under the name it has where `PDE.order` is 4."""
        return self.trace


@dataclass
class LiftTerms:
    """Closed form of what the second-order operator needs of `u = A n + B`.

    With `L = sum_j a_j d_j^2`: `L u = A Ln + 2 (a grad A) . grad n + n LA + LB`.

    Attributes:
        value: A `(N,)`.
        trace: L A `(N,)`.
        direction: `a * grad A`: a tensor `(N, d)`; or a tensor `(N,)` c meaning `c x`, which
            costs no product with the first layer; or None where A does not depend on x.
        dt: Time derivative of A `(N,)` or None.
        offset: B `(N,)` or None for zero.
        offset_dt: Time derivative of B `(N,)` or None for zero.
        offset_trace: L B `(N,)` or None for zero.
    """

    value: Tensor
    trace: Tensor | None = None
    direction: Tensor | None = None
    dt: Tensor | None = None
    offset: Tensor | None = None
    offset_dt: Tensor | None = None
    offset_trace: Tensor | None = None


@dataclass
class Factor:
    """Second-order weights in the form `tr(sigma sigma^T H)`.

    Attributes:
        sigma: `(d, m)`, or `(N, d, m)` for weights that depend on the point.
    """

    sigma: Tensor


class PDE:
    """Base class of all problems; subclasses override what differs.

    What the methods of a subclass return is checked wherever they are called (`returned`). An
    `nn.Parameter` or `nn.Module` that is an attribute of the problem, an unknown coefficient say,
    is trained with the network.

    Attributes:
        dim: Number of space dimensions d.
        time_dependent: Whether points carry a time.
        time_order: 2 if the residual uses `Fields.dtt`.
        order: 2, or 4 if `Fields.trace` is the bilaplacian.
        final_time: End of the time interval.
        residual_scale: Factor applied to residuals before they enter a loss (often 1/d).
        feature_names: Names accepted by `feature`.
        conditions: Soft terms of the loss, name to weight.
        reference_accuracy: Relative accuracy of `exact`.
        squared_gradient_only: Whether the residual uses `Fields.grad` through |grad u|^2 alone, so
            that sampled components may stand in for it.
        mixes_points: Whether the residual of a point depends on other points of the batch, as an
            integral over the batch does.

    Example:
        >>> import torch
        >>> from sciml.physics import PDE, Fields, Points
        >>> class Membrane(PDE):  # Laplacian u = -1 in the unit square
        ...     def residual(self, u, p):
        ...         return u.laplacian + 1
        ...     def sample(self, n, generator):
        ...         return Points(torch.rand(n, self.dim, generator=generator))
        ...     def lift(self, x, t):  # u = A n vanishes on the boundary
        ...         return (x * (1 - x)).prod(1, keepdim=True), None
        >>> membrane = Membrane(dim=2)
        >>> tuple(membrane.sample(5, torch.Generator().manual_seed(0)).x.shape)
        (5, 2)
    """

    time_dependent: bool = False
    time_order: int = 1
    order: int = 2
    final_time: float = 1.0
    residual_scale: float = 1.0
    feature_names: tuple[str, ...] = ()
    conditions: Mapping[str, float] = MappingProxyType({})
    reference_accuracy: float = 1e-12
    squared_gradient_only: bool = False
    mixes_points: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Put the check of what it returns around every method that the class defines."""
        super().__init_subclass__(**kwargs)
        for name in CHECKS:
            method = getattr(cls, name)
            if method is not getattr(PDE, name) and not hasattr(method, "is_checked"):
                setattr(cls, name, checked(method, name))

    def __init__(self, *, dim: int) -> None:
        check_dim(dim)
        self.dim = dim

    # --- the equation -----------------------------------------------------------------------
    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return the residual `(N,)`, zero for the solution."""
        raise missing(self, "residual")

    def diffusion(self, p: Points) -> Tensor | Factor | None:
        """Return the weights of the second-order part: None, `(d,)`, `(N, d)` or a `Factor`."""
        return None

    # --- where ------------------------------------------------------------------------------
    def sample(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` training points on the generator's device, sources filled in."""
        raise missing(self, "sample")

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` evaluation points in float64; the training law unless overridden."""
        return self.sample(n, generator).to(torch.float64)

    # --- data -------------------------------------------------------------------------------
    def lift(
        self, x: Differentiable, t: Differentiable | None
    ) -> tuple[Differentiable | None, Differentiable | None]:
        """Return (A, B), each `(N, 1)`, of the hard constraint `u = A n + B`; None for none."""
        return None, None

    def lift_terms(self, p: Points) -> LiftTerms | None:
        """Return closed forms for `lift`, or None to have them computed by differentiation."""
        return None

    def feature(self, name: str, x: Differentiable, t: Differentiable | None) -> Differentiable:
        """Return known data `(N, 1)` that a network may take as an input."""
        raise InvalidArgument(
            f"feature '{name}' of {type(self).__name__}",
            "one of the problem's feature_names",
            did_you_mean(name, self.feature_names),
        )

    def sample_condition(self, name: str, n: int, generator: torch.Generator) -> Points:
        """Return about `n` points of the soft condition `name`, or the fixed set it has."""
        raise missing(self, "sample_condition")

    def condition_residual(self, name: str, u: Fields, p: Points) -> Tensor:
        """Return the residual `(N,)` or `(N, m)` of the soft condition `name`.

        Where points come in pairs, as for a periodic condition, it may have N/2 rows: the loss is
        the mean over the rows that are there.
        """
        raise missing(self, "condition_residual")

    def source(self, x: Tensor) -> Tensor | None:
        """Return the right-hand side `(N,)` at x `(N, d)` that `sample` fills in, or None."""
        return None

    def source_gradient(self, p: Points) -> Tensor | float:
        """Return the space gradient of the source `(N, d)`; gradient-enhanced losses need it."""
        return 0.0

    def moved(self, p: Points) -> Points:
        """Return points that were moved, with their sources brought up to date."""
        return p if p.source is None else with_source(p, self.source(p.x))

    # --- answers ----------------------------------------------------------------------------
    def exact(self, x: Tensor, t: Tensor | None) -> Tensor:
        """Return the exact or reference solution `(N,)`."""
        raise missing(self, "exact")

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return closed-form approximations of the solution by name, each `(N,)`."""
        return {}

    def constant_basis(self, p: Points) -> tuple[Tensor, Tensor]:
        """Return (basis, offset), each `(N,)`: the trivial baseline is the best a in
        `a * basis + offset`.
        """  # noqa: D205
        a, b = self.lift(p.x, p.t)
        one = torch.ones_like(p.x[:, 0])
        return (one if a is None else a[:, 0]), (0 * one if b is None else b[:, 0])


def missing(problem: PDE, method: str) -> InvalidArgument:
    """Return the error for a method that a problem of this kind has to define."""
    return InvalidArgument(
        f"{type(problem).__name__} does not define {method}()",
        "a problem that does",
        f"Add the method; PDE.{method} documents shapes",
    )


def check_dim(dim: int, least: int = 1) -> None:
    """Refuse a number of dimensions that is not an integer or too small."""
    if not isinstance(dim, int) or isinstance(dim, bool) or not least <= dim < 2**31:
        raise InvalidArgument(f"problem.dim={dim}", f"an integer of at least {least}, below 2^31")


def with_source(p: Points, source: Tensor) -> Points:
    """Return the points with their right-hand side `(N,)` filled in."""
    return replace(p, source=source)
