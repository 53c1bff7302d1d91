"""J^T r of rows that are a formula of linear features, with a derivative of its own.

    F(w) = sum_q T_q^T y_q(v),    v_q = T_q w + o_q,    y_q = s^2 rho d rho / d v_q

With a cotangent g the derivative needs the features only in products. With u_q = T_q g and
z_q = d/dv_q of the sum over p of <u_p, y_p(v)>, which is pointwise:

    Tbar_q = y_q g^T + z_q w^T,    obar_q = z_q,    wbar = sum_q T_q^T z_q

Automatic differentiation finds the same in three to four times as many passes over arrays of the
size of the features, most of them new memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# formula(values, aux) -> residual, all `(*P, m)`: values[q] are the v_q
Formula = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def times(matrix: Tensor, w: Tensor) -> Tensor:
    """Return `T w` `(*P, m)` for T `(*P, m, n)` and w `(*P, n)`."""
    return (w[..., None, :] @ matrix.mT)[..., 0, :]  # half the time of T @ w[..., None]


def pulled(features: Sequence[Tensor], forces: Sequence[Tensor]) -> Tensor:
    """Return the sum of `T_q^T y_q` `(*P, n)` for y_q `(*P, m)`."""
    products = [y[..., None, :] @ t for t, y in zip(features, forces, strict=True)]
    return sum(products[1:], products[0])[..., 0, :]


def pointwise_gradient(
    formula: Formula,
    w: Tensor,
    features: Sequence[Tensor],
    offsets: Sequence[Tensor],
    aux: Sequence[Tensor],
    scale: Tensor,
) -> Tensor:
    """Return F `(*P, n)`; arguments as in `PointwiseRows`."""
    return _Gradient.apply(formula, len(features), w, scale, *features, *offsets, *aux)


def _forces(
    formula: Formula, values: Sequence[Tensor], aux: Sequence[Tensor], scale: Tensor
) -> tuple[Tensor, ...]:
    """Return the y_q."""
    rho, pull = torch.func.vjp(lambda *v: formula(v, aux), *values)
    return tuple(scale.square() * c for c in pull(rho))


class _Gradient(torch.autograd.Function):
    """F, differentiable any number of times: its derivative is made of such operations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(formula: Formula, count: int, w: Tensor, scale: Tensor, *rest: Tensor) -> Tensor:
        features, offsets, aux = _parts(count, rest)
        return pulled(features, _forces(formula, _values(w, features, offsets), aux, scale))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.formula, ctx.count, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        w, scale, *rest = ctx.saved_tensors
        features, offsets, aux = _parts(ctx.count, rest)
        w_needed, _, *needed = ctx.needs_input_grad[2:]
        features_needed, _, aux_needed = _parts(ctx.count, needed)
        forces, pull = _linearised(
            ctx.formula, _values(w, features, offsets), aux, aux_needed, scale
        )
        bends, aux_bar, scale_bar = pull(tuple(times(t, g) for t in features))
        sides = torch.stack([g, w], -2)
        features_bar = [
            torch.stack([y, z], -1) @ sides if asked else None
            for y, z, asked in zip(forces, bends, features_needed, strict=True)
        ]
        w_bar = pulled(features, bends) if w_needed else None
        given = iter(aux_bar)
        every_aux_bar = [next(given) if asked else None for asked in aux_needed]
        return None, None, w_bar, scale_bar, *features_bar, *bends, *every_aux_bar

    @staticmethod
    def jvp(ctx: Any, _formula: None, _count: None, *tangents: Tensor | None) -> Tensor:
        w, scale, *rest = ctx.saved_tensors
        features, offsets, aux = _parts(ctx.count, rest)
        given = zip(tangents, (w, scale, *rest), strict=True)
        dw, dscale, *drest = [torch.zeros_like(x) if t is None else t for t, x in given]
        dfeatures, doffsets, daux = _parts(ctx.count, drest)
        asked = [t is not None for t in tangents[2 + 2 * ctx.count :]]
        forces, pull = _linearised(ctx.formula, _values(w, features, offsets), aux, asked, scale)
        # pull is linear: the derivative of it is the product with the matrix it transposes
        _, along = torch.func.vjp(pull, tuple(torch.zeros_like(y) for y in forces))
        slopes = zip(_values(w, dfeatures, doffsets), _values(dw, features), strict=True)
        daux = [d for d, wanted in zip(daux, asked, strict=True) if wanted]
        (dforces,) = along(([a + b for a, b in slopes], daux, dscale))
        return pulled(dfeatures, forces) + pulled(features, dforces)


def _linearised(
    formula: Formula,
    values: list[Tensor],
    aux: list[Tensor],
    asked: Sequence[bool],
    scale: Tensor,
) -> tuple[tuple[Tensor, ...], Callable[..., Any]]:
    """Return the forces, and what pulls cotangents back to values, the aux asked for, and scale."""

    def forces(values: list[Tensor], moving: list[Tensor], scale: Tensor) -> tuple[Tensor, ...]:
        given = iter(moving)
        every = [next(given) if wanted else a for a, wanted in zip(aux, asked, strict=True)]
        return _forces(formula, values, every, scale)

    moving = [a for a, wanted in zip(aux, asked, strict=True) if wanted]
    return torch.func.vjp(forces, values, moving, scale)


def _parts(count: int, rest: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return features, offsets and aux."""
    return list(rest[:count]), list(rest[count : 2 * count]), list(rest[2 * count :])


def _values(
    w: Tensor, features: Sequence[Tensor], offsets: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Return the v_q, without offsets if none are given."""
    products = [times(t, w) for t in features]
    if offsets is None:
        return products
    return [v + o for v, o in zip(products, offsets, strict=True)]
