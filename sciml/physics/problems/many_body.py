"""Sums over neighbouring coordinates, with their derivatives at a cost of O(d).

    two-body:    s(x) = sum_i c_i sin(x_i + cos x_{i+1} + x_{i+1} cos x_i)      i = 1 .. d-1
    three-body:  s(x) = sum_i c_i exp(x_i x_{i+1} x_{i+2})                      i = 1 .. d-2

The `centred` variants subtract what every summand has in common (sin 1 and 1), to which both
sums collapse in high dimension. Manufactured sources need s, x . grad s and Laplacian s at fresh
points in every training step, where they can cost more than the network; so columns are processed
in blocks that stay in cache, and the formulas are arranged to need two tangents (or one
exponential) per coordinate and to lose no digits in float32.

Reference: Hu, Shukla, Karniadakis, Kawaguchi (2024), "Tackling the curse of dimensionality with
physics-informed neural networks", section 5; the sums are those of their static problems.
Departure: `centred` is ours; the chain rule factors of the three-body sum are all there (the
public code of two follow-up papers leaves them out, so that its source belongs to no solution).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp

from sciml.errors import InvalidType
from sciml.physics.checks import check_choice, check_seed
from sciml.physics.pde import check_dim
from sciml.physics.tiling import Scratch, tiles

SIN1, COS1 = math.sin(1.0), math.cos(1.0)


class ManyBody(ABC):
    """A weighted sum over groups of neighbouring coordinates.

    Args:
        dim: Number of coordinates d.
        centred: Subtract the value of each summand at x = 0.
        coefficient_seed: NumPy seed of the standard normal coefficients c, drawn first.

    Attributes:
        coefficients: c `(d + 1 - bodies,)` float64.
        bodies: Coordinates per summand.
        at_zero: Value of each summand (without c) at x = 0.
    """

    bodies: int
    at_zero: float

    def __init__(self, *, dim: int, centred: bool, coefficient_seed: int) -> None:
        check_dim(dim, least=self.bodies)
        if not isinstance(centred, bool):
            raise InvalidType(f"problem.centred={centred}", "true or false")
        check_seed("problem.coefficient_seed", coefficient_seed)
        self.dim, self.centred = dim, centred
        draw = np.random.RandomState(coefficient_seed).randn(dim + 1 - self.bodies)
        self.coefficients = torch.from_numpy(draw)
        self._cast: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def value(self, x: Tensor) -> Tensor:
        """Return s `(N,)` for x `(N, d)`, as defined, differentiable; in the dtype of x."""
        summand = self.summand(x)
        if self.centred:
            summand = summand - self.at_zero
        return summand @ self.weights(x)

    @abstractmethod
    def summand(self, x: Tensor) -> Tensor:
        """Return the summands without coefficients `(N, d + 1 - bodies)`."""

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return s, x . grad s and Laplacian s, each `(N,)` float64, for x `(N, d)`.

        Elementwise work is done in the dtype of x, sums over blocks in float64. Not
        differentiable.
        """
        s, euler, laplacian = self.accumulate(x, self.block, 3)
        if not self.centred:
            s = s + self.at_zero * float(self.coefficients.sum())
        return s, euler, laplacian

    def smooth_derivatives(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `derivatives` returns, in the dtype of x, slower but differentiable.

        Coordinates further apart than a summand reaches do not interact, so the Laplacian is a
        sum of v^T H v over 2 bodies - 1 directions v, each the indicator of every
        (2 bodies - 1)-th coordinate.
        """
        _, euler = jvp(self.value, (x,), (x,))
        colours = 2 * self.bodies - 1
        position = torch.arange(self.dim, device=x.device) % colours
        laplacian = torch.zeros_like(x[:, 0])
        for colour in range(colours):
            v = (position == colour).to(x.dtype).expand_as(x)

            def along(z: Tensor, v: Tensor = v) -> Tensor:
                return jvp(self.value, (z,), (v,))[1]

            laplacian = laplacian + jvp(along, (x,), (v,))[1]
        return self.value(x), euler, laplacian

    @abstractmethod
    def block(self, x: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor, Tensor]:
        """Return per-summand contributions to the centred s, x . grad s, Laplacian s."""

    @torch.no_grad()
    def accumulate(self, x: Tensor, block: Callable, outputs: int) -> Tensor:
        """Sum `block` over all summands, block by block.

        Args:
            x: Points `(N, d)`.
            block: Maps columns `(n, m + bodies - 1)` and scratch space to `outputs` tensors
                `(n, m)`, which may lie in the scratch space.
            outputs: How many.

        Returns:
            `(outputs, N)` float64.
        """
        c = self.weights(x)
        total = torch.zeros(outputs, x.shape[0], dtype=torch.float64, device=x.device)
        scratch = Scratch(x)
        for rows, first, last in tiles(x.shape[0], len(c), x.device):
            columns = x[rows, first : last + self.bodies - 1]
            for row, part in zip(total[:, rows], block(columns, scratch), strict=True):
                row += part @ c[first:last]
        return total

    def weights(self, x: Tensor) -> Tensor:
        """Return c in the dtype and on the device of x."""
        key = (x.device, x.dtype)
        if key not in self._cast:
            self._cast[key] = self.coefficients.to(x.device, x.dtype)
        return self._cast[key]


class TwoBody(ManyBody):
    """Sum of `c_i sin(phi_i)` with `phi_i = x_i + cos x_{i+1} + x_{i+1} cos x_i`."""

    bodies = 2
    at_zero = SIN1

    def summand(self, x: Tensor) -> Tensor:
        """Return sin(phi) `(N, d - 1)`."""
        x, y = x[:, :-1], x[:, 1:]
        return torch.sin(x + torch.cos(y) + y * torch.cos(x))

    def block(self, x: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor, Tensor]:
        """Return contributions of a block.

        With t = tan(x/2): sin x = 2t / (1 + t^2) and 1 - cos x = t sin x, neither of which
        cancels; the same substitution for delta = phi - 1, which is O(x) and is summed without
        ever adding the 1. Both arguments stay well below the poles of tan inside the ball.
        The second derivatives of phi add up to -(1 + delta - x_i).
        """
        wide = scratch(x.shape)
        versine, sine = wide[0], wide[1]
        torch.mul(x, 0.5, out=versine).tan_()
        torch.mul(versine, versine, out=sine).add_(1).reciprocal_().mul_(versine).mul_(2)
        versine.mul_(sine)  # 1 - cos x
        x, y = x[:, :-1], x[:, 1:]

        one = x.new_ones(())
        narrow = scratch(x.shape)
        delta, by_x, by_y, value = narrow[2:6]
        torch.add(x, y, out=delta).addcmul_(y, versine[:, :-1], value=-1).sub_(versine[:, 1:])
        torch.addcmul(one, y, sine[:, :-1], value=-1, out=by_x)  # d phi / d x_i
        torch.add(versine[:, :-1], sine[:, 1:], out=by_y)
        torch.sub(one, by_y, out=by_y)  # d phi / d x_{i+1}

        cosine, q = narrow[:2]  # sine and versine are done with
        torch.mul(delta, 0.5, out=cosine).tan_()
        torch.mul(cosine, cosine, out=q).add_(1).reciprocal_().mul_(cosine)  # sin(delta) / 2
        torch.mul(cosine, -2 * SIN1, out=value).add_(2 * COS1).mul_(q)  # sin phi - sin 1
        cosine.mul_(-2 * COS1).sub_(2 * SIN1).mul_(q).add_(COS1)  # cos phi

        euler = torch.mul(x, by_x, out=q).addcmul_(y, by_y).mul_(cosine)
        square = by_x.mul_(by_x).addcmul_(by_y, by_y)
        second = torch.sub(x, delta, out=delta).sub_(1).mul_(cosine)
        sin_phi = torch.add(value, SIN1, out=by_y)
        return value, euler, second.addcmul_(sin_phi, square, value=-1)

    def linearised(self, x: Tensor, mean_square: float) -> Tensor:
        """Return the affine part of s `(N,)` to leading order in 1/d.

        Inside the unit ball x_i ~ 1/sqrt(d), and
        `sin phi_i = sin 1 + cos 1 (x_i + x_{i+1}) - (sin 1 + cos 1 / 2) |x|^2 / d + ...`,
        where the last term is the mean over directions of all second-order terms.

        Args:
            x: Points `(N, d)`.
            mean_square: Mean of `|x|^2` over the points, as they are weighted.
        """
        c = self.weights(x)
        slope = torch.nn.functional.pad(c, (0, 1)) + torch.nn.functional.pad(c, (1, 0))
        level = (0.0 if self.centred else SIN1) - (SIN1 + COS1 / 2) * mean_square / self.dim
        return level * c.sum() + COS1 * (x @ slope)


class ThreeBody(ManyBody):
    """Sum of `c_i exp(p_i)` with `p_i = x_i x_{i+1} x_{i+2}`."""

    bodies = 3
    at_zero = 1.0

    def summand(self, x: Tensor) -> Tensor:
        """Return exp(p) `(N, d - 2)`."""
        return torch.exp(x[:, :-2] * x[:, 1:-1] * x[:, 2:])

    def block(self, x: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor, Tensor]:
        """Return contributions of a block.

        With E = exp(p): x . grad E = 3 p E and Laplacian E = q E, where
        q = (x_{i+1} x_{i+2})^2 + (x_i x_{i+2})^2 + (x_i x_{i+1})^2.
        """
        p, q, value, e = self._products(x, scratch)
        return value, p.mul_(3).mul_(e), q.mul_(e)

    def fourth_order(self, x: Tensor, smooth: bool = False) -> tuple[Tensor, ...]:
        """Return what the bilaplacian of `A(|x|^2) s` needs, each `(N,)`.

        Args:
            x: Points `(N, d)`.
            smooth: Differentiable and in the dtype of x, instead of fast and in float64.

        Returns:
            s, x . grad s, x^T (Hessian s) x, F = Laplacian s, x . grad F, Laplacian F.
        """
        if smooth:
            s, *rest = (part @ self.weights(x) for part in self._fourth_order_block(x))
        else:
            s, *rest = self.accumulate(x, self._fourth_order_block, 6)
        if not self.centred:
            s = s + float(self.coefficients.sum())
        return s, *rest

    @staticmethod
    def _fourth_order_block(x: Tensor, scratch: Scratch | None = None) -> tuple[Tensor, ...]:
        """With rho = x_i^2 + x_{i+1}^2 + x_{i+2}^2: x^T (HE) x = (9 p^2 + 6 p) E,
        x . grad(qE) = (4 q + 3 p q) E, Laplacian(qE) = (4 rho + 8 p rho + q^2) E.
        """  # noqa: D205
        x, y, z = x[:, :-2], x[:, 1:-1], x[:, 2:]
        xx, yy, zz = x * x, y * y, z * z
        p, rho, q = x * y * z, xx + yy + zz, xx * yy + xx * zz + yy * zz
        value = torch.expm1(p)
        e, p3 = 1 + value, 3 * p
        qe = q * e
        bilaplacian = (rho * (4 + 8 * p) + q * q) * e
        return value, p3 * e, (p3 + 2) * p3 * e, qe, (4 + p3) * qe, bilaplacian

    @staticmethod
    def _products(x: Tensor, scratch: Scratch) -> tuple[Tensor, ...]:
        """Return p, q, exp(p) - 1 and exp(p)."""
        pair = torch.mul(x[:, :-1], x[:, 1:], out=scratch((x.shape[0], x.shape[1] - 1))[0])
        p, q, value, e = scratch((x.shape[0], x.shape[1] - 2))[1:5]
        torch.mul(x[:, :-2], pair[:, 1:], out=p)
        outer = torch.mul(x[:, :-2], x[:, 2:], out=e)
        pair.mul_(pair)
        torch.add(pair[:, :-1], pair[:, 1:], out=q).addcmul_(outer, outer)
        torch.expm1(p, out=value)
        return p, q, value, torch.add(value, 1, out=e)


SUMS = {"two_body": TwoBody, "three_body": ThreeBody}


def many_body(solution: str, *, dim: int, centred: bool, coefficient_seed: int) -> ManyBody:
    """Return the sum called `solution`, `two_body` or `three_body`.

    Raises:
        InvalidArgument: For an unknown name, a dimension too small for it or a bad seed.
    """
    check_choice("problem.solution", solution, tuple(SUMS))
    return SUMS[solution](dim=dim, centred=centred, coefficient_seed=coefficient_seed)
