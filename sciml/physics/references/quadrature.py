"""Deterministic references by one-dimensional integrals, mostly for logarithmic terminal costs.

For `u_t + Lap u - mu |grad u|^2 = 0`, `u(T, x) = log((1 + Y(x)) / c)` with a quadratic form
`Y = x.Q x`, Cole-Hopf gives `exp(-mu u) = c^mu E[(1 + Y(x + sqrt(2 tau) W))^-mu]`, and

    (1 + Y)^-mu = 1/Gamma(mu) int_0^inf s^(mu-1) exp(-s (1 + Y)) ds

turns the expectation into one integral over the Laplace transform of a generalised chi-square
variable. With `s = e^y` the integrand decays at both ends and is analytic in a strip, so the
trapezoid rule converges geometrically; log-sum-exp keeps it finite at any dimension.

Everything is float64, deterministic, vectorised over points, chunked, and differentiable by
autograd (twice, as the tests of the residual need).

Reference: Laplace transform of the non-central chi-square law; Cole-Hopf transformation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument

CHUNK = 1 << 21  # float64 entries of one (points, nodes) block: 16 MB, stays near the cache
TAIL = 38.0  # e-folds kept on either side of the peak, below float64 resolution
TAU_MIN = 1e-13  # the law at smaller times to go differs from the terminal data by round-off


def _step(mu: float) -> float:
    """Return the node spacing in `y = log s`: error about exp(-pi^2 / step) for mu near 1."""
    return 0.22 / math.sqrt(max(1.0, mu))


def _log_node_range(mu: float, scale: float) -> tuple[float, float]:
    """Return the ends of the `log s` grid for integrands peaked at `s >= ~ mu / scale`."""
    low = math.log(mu / scale) - TAIL / mu - 1.0
    high = math.log(TAIL + 10.0 * mu + 10.0)  # s^mu exp(-s) is negligible beyond
    return low, high


def _minus_log_integral(log_integrand: Tensor, mu: float, step: float) -> Tensor:
    """Return -1/mu log(1/Gamma(mu) int exp(log_integrand) dy) over the last axis."""
    total = torch.logsumexp(log_integrand, -1) + math.log(step) - math.lgamma(mu)
    return -total / mu


def lqg_value(squared_norm: Tensor, tau: Tensor, *, dim: int, mu: float) -> Tensor:
    """Return u for the terminal cost `log((1 + |x|^2) / 2)`.

    Args:
        squared_norm: |x|^2 `(N,)`, float64.
        tau: Time to go `(N,)`, float64, non-negative.
        dim: Number of dimensions d.
        mu: Weight of the control cost, positive.

    Returns:
        u `(N,)`, relative accuracy about 1e-13 for mu of order 1.
    """
    step = _step(mu)
    with torch.no_grad():
        scale = float((1.0 + squared_norm + 2.0 * dim * tau).max())
    low, high = _log_node_range(mu, scale)
    y = torch.arange(low, high, step, dtype=torch.float64, device=squared_norm.device)
    s = y.exp()
    out = []
    for rho, to_go in zip(*_chunks(len(y), squared_norm, tau), strict=True):
        spread = 4.0 * to_go[:, None] * s  # (n, Q)
        exponent = mu * y - s - 0.5 * dim * torch.log1p(spread) - s * rho[:, None] / (1.0 + spread)
        out.append(_minus_log_integral(exponent, mu, step))
    # exp(-mu u) carries the factor 2^mu of log(./2)
    return torch.cat(out) - math.log(2.0)


def _chunks(nodes: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Split tensors along the points so that (points, nodes) blocks have about CHUNK entries."""
    size = max(1, CHUNK // max(1, nodes))
    return [t.split(size) for t in tensors]


@dataclass
class SymmetricTridiagonal:
    """A symmetric positive semi-definite tridiagonal matrix.

    Attributes:
        diagonal: `(d,)` float64.
        off: `(d - 1,)` float64, entries (i, i + 1).
    """

    diagonal: Tensor
    off: Tensor

    @property
    def dim(self) -> int:
        """Number of rows."""
        return self.diagonal.shape[0]

    def matvec(self, x: Tensor) -> Tensor:
        """Return the product with every row of `x` `(N, d)`."""
        diagonal = self.diagonal.to(device=x.device, dtype=x.dtype)
        off = self.off.to(device=x.device, dtype=x.dtype)
        pad = torch.nn.functional.pad
        return diagonal * x + pad(off * x[:, 1:], (0, 1)) + pad(off * x[:, :-1], (1, 0))

    def squared_diagonal(self) -> Tensor:
        """Return the diagonal of A^2 `(d,)`."""
        squares = torch.nn.functional.pad(self.off.square(), (1, 1))
        return self.diagonal.square() + squares[1:] + squares[:-1]

    def bound(self) -> float:
        """Return an upper bound of the eigenvalues (Gershgorin)."""
        off = torch.nn.functional.pad(self.off.abs(), (1, 1))
        return float((self.diagonal + off[1:] + off[:-1]).max())

    def dense(self) -> Tensor:
        """Return the full matrix `(d, d)`."""
        return torch.diag(self.diagonal) + torch.diag(self.off, 1) + torch.diag(self.off, -1)

    def log_determinants(self, v: Tensor) -> Tensor:
        """Return log det(I + v A) for every entry of `v`, by the pivots of LDL^T.

        Args:
            v: Non-negative factors `(Q,)`.

        Returns:
            `(Q,)`, O(d Q) work and no eigenvalues.
        """
        v = v.detach().cpu().double().numpy()
        diagonal, off = self.diagonal.cpu().numpy(), self.off.cpu().numpy()
        pivot = 1.0 + v * diagonal[0]
        product, total = pivot.copy(), np.zeros_like(v)
        for i in range(1, len(diagonal)):
            pivot = 1.0 + v * diagonal[i] - (v * off[i - 1]) ** 2 / pivot
            product = product * pivot
            if i % 8 == 0:  # logarithms are the expensive part; pivots are moderate numbers
                total += np.log(product)
                product = np.ones_like(v)
        return torch.from_numpy(total + np.log(product))


class LogQuadraticReference:
    """u for the terminal cost `log(1 + x.A x)` with a tridiagonal A.

    With `v = 4 tau s` as the integration variable the d-dependent factors

        det(I + v A)^(-1/2)   and   x . A (I + v A)^(-1) x

    need the same nodes v at all points, so they become one table and one matrix product with
    per-point moments. The moments are squares of eigen-coordinates for few dimensions, and
    Chebyshev moments `x . T_k(A) x` for many (there v A is small where the integrand matters,
    and some twenty moments give round-off).

    Args:
        matrix: The quadratic form.
        mu: Weight of the control cost, positive.
    """

    MAX_MOMENTS = 64

    def __init__(self, matrix: SymmetricTridiagonal, mu: float) -> None:
        if not mu > 0:
            raise InvalidArgument(f"problem.mu={mu}", "a positive number")
        self.matrix, self.mu = matrix, float(mu)
        self._eigen: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, tau: Tensor, method: str = "auto") -> Tensor:
        """Return u `(N,)`.

        Args:
            x: Points `(N, d)`, float64.
            tau: Time to go `(N,)`, float64.
            method: "eigen", "moments", or "auto" for the cheaper one that is exact enough.
        """
        tau = tau.clamp_min(TAU_MIN)
        step = _step(self.mu)
        v, log_det = self._nodes(x, tau, step)
        terms = self.chebyshev_terms(v)
        if method == "auto":
            method = "moments" if terms <= min(self.MAX_MOMENTS, self.matrix.dim) else "eigen"
        if method == "moments":
            kernel = self._chebyshev_kernel(v, terms).to(x.device)
        else:
            values, _ = self.eigenpairs()
            kernel = (values[:, None] / (1.0 + v * values[:, None])).to(x.device)
        v, log_det = v.to(x.device), log_det.to(x.device)
        out = []
        for xs, to_go in zip(*_chunks(max(len(v), 4 * x.shape[1]), x, tau), strict=True):
            moments = self._moments(xs, terms) if method == "moments" else self._coordinates(xs)
            s = v / (4.0 * to_go[:, None])
            exponent = self.mu * s.log() - s * (1.0 + moments @ kernel) - 0.5 * log_det
            out.append(_minus_log_integral(exponent, self.mu, step))
        return torch.cat(out)

    def _nodes(self, x: Tensor, tau: Tensor, step: float) -> tuple[Tensor, Tensor]:
        """Return nodes v `(Q,)` that cover the integrand of all points, and log det(I + v A)."""
        with torch.no_grad():
            trace = float(self.matrix.diagonal.sum())
            size = 1.0 + (x * x).sum(-1) * self.matrix.bound() + 2.0 * tau * trace
            s_max = TAIL + 10.0 * self.mu + 10.0  # s^mu exp(-s) is negligible beyond
            low = float((4.0 * tau / size).log().min()) + math.log(self.mu) - TAIL / self.mu
            high = math.log(4.0 * s_max * float(tau.max()))
            v = torch.exp(torch.arange(low, high + step, step, dtype=torch.float64))
            # At many dimensions the determinant ends the integrand long before s_max does:
            # relative to the peak near s = mu / size it is below (s / s_peak)^mu det^(-1/2).
            log_det = self.log_det(v)
            gain = self.mu * math.log(s_max * float(size.max()) / self.mu)
            keep = 0.5 * log_det < TAIL + gain
        return v[keep], log_det[keep]

    def log_det(self, v: Tensor) -> Tensor:
        """Return log det(I + v A) `(Q,)`; eigenvalues where they are known, pivots elsewhere."""
        if self._eigen is not None:
            return torch.log1p(v[:, None] * self._eigen[0]).sum(-1)
        return self.matrix.log_determinants(v)

    # --- few dimensions ---------------------------------------------------------------------
    def eigenpairs(self) -> tuple[Tensor, Tensor]:
        """Return eigenvalues `(d,)` and eigenvectors `(d, d)` (columns), computed once."""
        if self._eigen is None:
            values, vectors = torch.linalg.eigh(self.matrix.dense())
            self._eigen = values.clamp_min(0.0), vectors
        return self._eigen

    def _coordinates(self, x: Tensor) -> Tensor:
        """Return squared eigen-coordinates `(N, d)`."""
        return (x @ self.eigenpairs()[1].to(x.device)).square()

    # --- many dimensions --------------------------------------------------------------------
    def chebyshev_terms(self, v: Tensor) -> int:
        """Return how many Chebyshev terms resolve `a / (1 + v a)` to round-off at every node.

        The pole at a = -1/v sits at -(1 + 2/(v a_max)) in the unit variable and sets the rate.
        """
        pole = 1.0 + 2.0 / (float(v.max()) * self.matrix.bound())
        rate = pole + math.sqrt(pole * pole - 1.0)
        return 2 * math.ceil((TAIL / math.log(rate) + 2) / 2)

    def _chebyshev_kernel(self, v: Tensor, terms: int) -> Tensor:
        """Return Chebyshev coefficients `(terms, Q)` of `a -> a / (1 + v a)` on [0, bound]."""
        angle = (torch.arange(terms, dtype=torch.float64) + 0.5) * math.pi / terms
        a = 0.5 * self.matrix.bound() * (1.0 + angle.cos())
        values = a[:, None] / (1.0 + v * a[:, None])
        order = torch.arange(terms, dtype=torch.float64)
        kernel = (2.0 / terms) * torch.cos(order[:, None] * angle) @ values
        kernel[0] *= 0.5
        return kernel

    def _moments(self, x: Tensor, terms: int) -> Tensor:
        """Return `x . T_k(A~) x` for k < terms `(N, terms)`, A~ = 2 A / bound - I.

        `T_2k = 2 T_k^2 - 1` and `T_2k+1 = 2 T_k T_k+1 - T_1` give two moments per product.
        """
        bound = self.matrix.bound()

        def scaled(z: Tensor) -> Tensor:
            return (2.0 / bound) * self.matrix.matvec(z) - z

        last, current = x, scaled(x)
        first, second = (x * x).sum(-1), (x * current).sum(-1)
        moments = [first, second]
        while len(moments) < terms:
            moments.append(2.0 * (current * current).sum(-1) - first)
            following = 2.0 * scaled(current) - last
            moments.append(2.0 * (current * following).sum(-1) - second)
            last, current = current, following
        return torch.stack(moments[:terms], -1)


def mean_arctan_max(x: Tensor, tau: Tensor, nodes: int = 400) -> Tensor:
    """Return E arctan(max_i (x_i + sqrt(2 tau) Z_i)) `(1,)` for one point x `(d,)`.

    Integration by parts: `arctan(top) - int arctan'(m) P(max <= m) dm` up to a bound `top` that
    the maximum does not exceed.
    """
    x, spread = x.double(), (2.0 * tau.double()).sqrt()
    top = x.max() + 9.0 * spread
    low = x.max() - 9.0 * spread
    # The integrand is smooth and vanishes at the lower end; Gauss-Legendre on one interval
    z, weight = np.polynomial.legendre.leggauss(nodes)
    z, weight = torch.from_numpy(z).to(x.device), torch.from_numpy(weight).to(x.device)
    m = 0.5 * (low + top) + 0.5 * (top - low) * z
    below = torch.special.log_ndtr((m[:, None] - x) / spread.clamp_min(1e-12)).sum(-1).exp()
    integral = (0.5 * (top - low) * weight * below / (1.0 + m * m)).sum()
    return (torch.atan(top) - integral)[None]
