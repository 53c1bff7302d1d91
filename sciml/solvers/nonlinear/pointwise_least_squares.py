"""Least squares whose residuals are a formula of a few linear features, point by point.

    r_i(w) = s_i rho(v_1i, ..., v_Qi, a_i),    v_q = T_q w + o_q,     i = 1 ... m
    then further rows C w - d, linear in w, and the ridge sqrt(rho_0) w

Equations of hard constraints have this form: w weighs the basis functions, the T_q hold their
derivatives at the points, a_i what else the equation knows there. Everything the solver needs is
then a handful of products:

    J = s c_q T_q summed over q,         c_q = d rho / d v_q, one reverse pass over the formula
    H = J^T J + sum_qp T_q^T diag(s r e_qp) T_p,    e_qp = d^2 rho / d v_q d v_p

with the same pass once more. Nothing is differentiated per column of J, so the cost per iteration
is that of reading the features a few times; pairs (q, p) without curvature cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.arguments import shown
from sciml.errors import InvalidArgument
from sciml.solvers.nonlinear.pointwise_gradient import Formula, pointwise_gradient, times


@dataclass(frozen=True)
class PointwiseRows:
    """Rows, gradient, Jacobian and Hessian of such a problem, to hand to `least_squares`.

    All methods take `(w, features, offsets, aux, scale, matrix, target)`:

        w         `(*P, n)`
        features  sequence of T_q, `(*P, m, n)`
        offsets   sequence of o_q, `(*P, m)`
        aux       sequence of what the formula needs beside, each broadcasts to `(*P, m)`
        scale     s, broadcasts to `(*P, m)`: weights of the points, 0 leaves one out
        matrix    C, `(*P, k, n)`; k may be 0
        target    d, `(*P, k)`

    Args:
        formula: rho. It must treat every point by itself.
        ridge: rho_0, zero or more.

    Raises:
        InvalidArgument: If the ridge is negative, or the formula's shape is not that of the values.
    """

    formula: Formula
    ridge: float = 0.0

    def __post_init__(self) -> None:
        """Check the ridge."""
        if not 0 <= self.ridge < float("inf"):
            raise InvalidArgument(f"ridge={self.ridge}", "zero or a positive number")

    def rows(
        self,
        w: Tensor,
        features: Sequence[Tensor],
        offsets: Sequence[Tensor],
        aux: Sequence[Tensor],
        scale: Tensor,
        matrix: Tensor,
        target: Tensor,
    ) -> Tensor:
        """Return r `(*P, m + k)`, and n more entries with a ridge."""
        values = [times(t, w) + o for t, o in zip(features, offsets, strict=True)]
        parts = [scale * self._residual(values, aux), times(matrix, w) - target]
        if self.ridge:
            parts.append(self.ridge**0.5 * w)
        return torch.cat(parts, -1)

    def jacobian(
        self,
        w: Tensor,
        features: Sequence[Tensor],
        offsets: Sequence[Tensor],
        aux: Sequence[Tensor],
        scale: Tensor,
        matrix: Tensor,
        target: Tensor,
    ) -> Tensor:
        """Return dr/dw `(*P, m + k, n)`, with n more rows for a ridge."""
        values = [times(t, w) + o for t, o in zip(features, offsets, strict=True)]
        _, slopes, _ = self._differentiated(values, aux, second=False)
        m, k, n = features[0].shape[-2], matrix.shape[-2], w.shape[-1]
        out = w.new_zeros(*w.shape[:-1], m + k + (n if self.ridge else 0), n)
        for slope, t in zip(slopes, features, strict=True):
            if slope is not None:
                out[..., :m, :].addcmul_((scale * slope)[..., None], t)
        out[..., m : m + k, :] = matrix
        if self.ridge:
            out[..., m + k :, :].diagonal(dim1=-2, dim2=-1).fill_(self.ridge**0.5)
        return out

    def hessian(
        self,
        w: Tensor,
        features: Sequence[Tensor],
        offsets: Sequence[Tensor],
        aux: Sequence[Tensor],
        scale: Tensor,
        matrix: Tensor,
        target: Tensor,
    ) -> Tensor:
        """Return the second derivative of |r|^2 / 2, `(*P, n, n)`."""
        rows = self.jacobian(w, features, offsets, aux, scale, matrix, target)
        out = rows.mT @ rows
        values = [times(t, w) + o for t, o in zip(features, offsets, strict=True)]
        residual, _, bends = self._differentiated(values, aux, second=True)
        force = scale.square() * residual
        half = rows[..., : features[0].shape[-2], :]  # rows have served, their memory has not
        for q, left in enumerate(features):
            # e_qp = e_pq: half of the square is summed, and its transpose added
            pairs = [(p, e) for p, e in enumerate(bends[q]) if p >= q and e is not None]
            if not pairs:
                continue
            half.zero_()
            for p, e in pairs:
                half.addcmul_((force * e)[..., None], features[p], value=0.5 if p == q else 1.0)
            product = left.mT @ half
            out = out + product + product.mT
        return (out + out.mT) / 2  # products of matrices round otherwise beside the diagonal

    def gradient(
        self,
        w: Tensor,
        features: Sequence[Tensor],
        offsets: Sequence[Tensor],
        aux: Sequence[Tensor],
        scale: Tensor,
        matrix: Tensor,
        target: Tensor,
    ) -> Tensor:
        """Return `J^T r` `(*P, n)`, the gradient of |r|^2 / 2, differentiable in everything."""
        out = pointwise_gradient(self._residual, w, features, offsets, aux, scale)
        out = out + times(matrix.mT, times(matrix, w) - target)
        return out + self.ridge * w if self.ridge else out

    def _residual(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        out = self.formula(values, aux)
        if not isinstance(out, Tensor) or out.shape != values[0].shape:
            raise InvalidArgument(
                f"a formula that returns {shown(out)} for values of shape {tuple(values[0].shape)}",
                "one residual per point",
            )
        return out

    def _differentiated(
        self, values: Sequence[Tensor], aux: Sequence[Tensor], *, second: bool
    ) -> tuple[Tensor, list[Tensor | None], list[list[Tensor | None]]]:
        """Return rho, its slopes c_q and its curvatures e_qp; None stands for zero."""
        with torch.enable_grad():
            at = [v.detach().requires_grad_() for v in values]
            aux = [a.detach() for a in aux]
            rho = self._residual(at, aux)
            slopes = _grad(rho, at, graph=second)
            bends = [_grad(c, at, graph=False) for c in slopes] if second else []
        detach = [None if c is None else c.detach() for c in slopes]
        return rho.detach(), detach, bends


def _grad(y: Tensor | None, at: list[Tensor], *, graph: bool) -> list[Tensor | None]:
    """Return dy_i/dv_qi per point: the formula is pointwise, so one pass serves all points."""
    if y is None or not y.requires_grad:
        return [None] * len(at)
    found = torch.autograd.grad(
        y.sum(), at, retain_graph=True, create_graph=graph, allow_unused=True
    )
    return list(found)
