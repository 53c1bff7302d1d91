"""Ground state of the quantum harmonic oscillator, as a PDE and as a Rayleigh quotient.

    -Lap psi + |x|^2 psi = lambda psi  on R^d,   psi = exp(-|x|^2 / 2),   lambda = d

`form="log"` (default) solves for w = -log psi, which stays of moderate size at any dimension:

    Lap w - |grad w|^2 + |x|^2 - lambda = 0,      w = |x|^2 / 2.

Points come from psi^2, x ~ N(0, I / 2). In that weight the linearised operator
`Lap - 2 x . grad` has the kernel {constants} and a spectral gap of 2, so a small residual means a
small error once the soft condition w(0) = 0 fixes the constant. `form="wave"` solves for psi
itself; psi has the size exp(-d/4) where it is sampled, so it is for few dimensions.

The sheet's own method is variational: a tensor network and the Rayleigh quotient

    R(psi) = <grad psi, grad psi> + <|x| psi, |x| psi> over <psi, psi>  >=  d,

every integral of which factors into one-dimensional ones (`rayleigh_quotient`).

Reference: Wang, Jin, Xie 2022, arXiv 2207.02754, section 5.1; Hu et al. 2023, arXiv 2307.12306.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sciml.autodiff import squared_norm
from sciml.errors import InvalidArgument
from sciml.physics.checks import check_choice, check_number
from sciml.physics.pde import PDE, Fields, Points
from sciml.physics.samplers import gaussian
from sciml.shapes import check_returned

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


class HarmonicOscillator(PDE):
    """Ground state of -Lap + |x|^2.

    Every term of the residual is of order d (times psi): `residual_scale` is 1/d.

    Args:
        dim: Number of space dimensions d.
        form: "log" for w = -log psi, "wave" for psi.
        origin_weight: Weight of the soft condition at the origin that fixes the constant.

    Example:
        >>> import torch
        >>> from sciml.physics import HarmonicOscillator
        >>> problem = HarmonicOscillator(dim=2, form="wave")
        >>> round(problem.exact(torch.ones(1, 2)).item(), 4)  # exp(-|x|^2 / 2)
        0.3679
    """

    feature_names = ("radius",)

    def __init__(self, *, dim: int, form: str = "log", origin_weight: float = 1.0) -> None:
        super().__init__(dim=dim)
        self.form = check_choice("problem.form", form, ("log", "wave"))
        weight = check_number("problem.origin_weight", origin_weight, least=0)
        self.conditions = {"origin": weight}
        self.eigenvalue = float(dim)
        self.residual_scale = 1.0 / dim

    def potential(self, x: Tensor) -> Tensor:
        """Return |x|^2 `(N,)`."""
        return x.square().sum(-1)

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return the residual of the chosen form `(N,)`."""
        excess = self.potential(p.x) - self.eigenvalue
        if self.form == "log":
            return u.trace - u.grad.square().sum(-1) + excess
        return -u.trace + excess * u.value

    def sample(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` points of psi^2, float32."""
        return Points(gaussian(n, self.dim, generator, 0.5))

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` points of psi^2, float64."""
        return Points(gaussian(n, self.dim, generator, 0.5, torch.float64))

    def sample_condition(self, name: str, n: int, generator: torch.Generator) -> Points:
        """Return the origin `n` times."""
        return Points(torch.zeros(n, self.dim, device=generator.device))

    def condition_residual(self, name: str, u: Fields, p: Points) -> Tensor:
        """Return w(0), or psi(0) - 1, `(N,)`."""
        return u.value if self.form == "log" else u.value - 1.0

    def feature(self, name: str, x: Differentiable, t: Differentiable | None) -> Differentiable:
        """Return "radius" |x|^2 / d `(N, 1)`."""
        return squared_norm(x) / self.dim if name == "radius" else super().feature(name, x, t)

    def feature_terms(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient `(N, d)` and Laplacian `(N,)` of "radius"."""
        return 2.0 * x / self.dim, torch.full_like(x[:, 0], 2.0)

    def exact(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Return |x|^2 / 2, or exp(-|x|^2 / 2), `(N,)`, float64."""
        w = 0.5 * x.double().square().sum(-1)
        return w if self.form == "log" else torch.exp(-w)


def gauss_nodes(
    low: float = -5.0, high: float = 5.0, cells: int = 10, per_cell: int = 16
) -> tuple[Tensor, Tensor]:
    """Return nodes and weights `(cells * per_cell,)` of composite Gauss-Legendre quadrature."""
    if not low < high or cells < 1 or per_cell < 1:
        raise InvalidArgument(
            f"quadrature on [{low}, {high}] with {cells} cells of {per_cell} nodes",
            "low < high and at least one of each",
        )
    z, weight = np.polynomial.legendre.leggauss(per_cell)
    edges = np.linspace(low, high, cells + 1)
    half = 0.5 * np.diff(edges)[:, None]
    nodes = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * z
    return torch.from_numpy(nodes.ravel()), torch.from_numpy((half * weight).ravel())


def rayleigh_quotient(
    values: Tensor,
    slopes: Tensor,
    nodes: Tensor,
    weights: Tensor,
    potential: Callable[[Tensor], Tensor] = torch.square,
) -> Tensor:
    """Return the Rayleigh quotient of `psi = sum_k prod_i phi_{i,k}` for a separable potential.

    Args:
        values: phi_{i,k} at the nodes `(M, d, r)`.
        slopes: Their derivatives `(M, d, r)`.
        nodes: `(M,)`.
        weights: Quadrature weights `(M,)`.
        potential: V of `sum_i V(x_i)`, elementwise.

    Returns:
        Scalar, differentiable; an upper bound of the lowest eigenvalue for functions that vanish
        at the ends of the interval.
    """
    height = check_returned("potential", potential(nodes), (len(nodes),), what="V of every node")
    overlap = torch.einsum("m,mik,mil->ikl", weights, values, values)
    energy = torch.einsum("m,mik,mil->ikl", weights, slopes, slopes)
    energy = energy + torch.einsum("m,mik,mil->ikl", weights * height, values, values)
    # Factors of norm one keep the products over d away from under- and overflow; the norms come
    # back as one number per product, relative to the largest.
    norm = overlap.diagonal(dim1=1, dim2=2).sqrt()  # (d, r)
    pair = norm[:, :, None] * norm[:, None, :]
    overlap, energy = overlap / pair, energy / pair
    log_size = norm.log().sum(0)
    size = torch.exp(log_size - log_size.max().detach())
    ones = torch.ones_like(overlap[:1])
    before = torch.cat([ones, overlap[:-1]]).cumprod(0)
    after = torch.cat([ones, overlap.flip(0)[:-1]]).cumprod(0).flip(0)
    numerator = (before * energy * after).sum(0)
    return size @ numerator @ size / (size @ overlap.prod(0) @ size)
