"""Elementwise functions of Taylor polynomials in several variables, with closed backward passes.

For a function of one variable and any i with a_i > 0

    a_i f(u)_a = sum_{b <= a} b_i u_b f'(u)_{a-b} ;

reverse mode is arithmetic of the same kind: d f(u)_a / d u_b = f'(u)_{a-b}.

Reference: Griewank and Walther, "Evaluating Derivatives", 2nd edition (2008), chapter 13; the
backward rule is their proposition 13.3 read in several variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sciml.autodiff import elementwise, fused
from sciml.autodiff.multi_indices import Lattice


def _series(f: list[Tensor], u: Sequence[Tensor], lattice: Lattice, first: int) -> Callable:
    """Return `at(m, k)`, coefficient k of the m-th derivative of f at the jet u, for m >= first.

    Args:
        f: The function and its derivatives at the value of u.
        u: Channels.
        lattice: Their indices.
        first: Least m that will be asked for.
    """
    known: dict[tuple[int, int], Tensor] = {(m, 0): z for m, z in enumerate(f)}

    def at(m: int, k: int) -> Tensor:
        if (m, k) not in known:
            total = None
            for share, b, rest in lattice.chain[k - 1]:
                slope = at(m + 1, rest)
                if total is None:
                    total = u[b] * slope if share == 1 else share * u[b] * slope
                else:
                    total = torch.addcmul(total, u[b], slope, value=share)
            known[m, k] = total
        return known[m, k]

    return at


def compose_channels(packed: Tensor, lattice: Lattice, rule: Callable) -> Tensor:
    """Return the channels of f(u), by operations that can be differentiated at will."""
    u = packed.unbind()
    at = _series(rule(u[0], lattice.degree), u, lattice, 0)
    return torch.stack([at(0, k) for k in range(len(lattice))])


class Composition(torch.autograd.Function):
    """`compose_channels` with its backward pass in closed form."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, lattice: Lattice, rule: Callable) -> Tensor:
        """Return the channels of f(u); keep those of f'(u)."""
        fused.keep_freed_memory()
        u = packed.unbind()
        f = rule(u[0], lattice.degree + 1)
        at = _series(f, u, lattice, 0)
        out = torch.empty_like(packed)
        out[0] = f[0]
        for k, terms in enumerate(lattice.chain, 1):
            for n, (share, b, rest) in enumerate(terms):
                if n == 0 and share == 1:
                    torch.mul(u[b], at(1, rest), out=out[k])
                elif n == 0:
                    torch.mul(u[b], at(1, rest), out=out[k]).mul_(share)
                else:
                    out[k].addcmul_(u[b], at(1, rest), value=share)
        ctx.save_for_backward(packed, *(at(1, k) for k in range(len(lattice))))
        ctx.lattice, ctx.rule = lattice, rule
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        """Return the gradient of the channels of u, a transposed product with the kept slope."""
        packed, *slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: from the input alone
            out = compose_channels(packed, ctx.lattice, ctx.rule)
            (again,) = torch.autograd.grad(out, packed, g, create_graph=True)
            return again, None, None
        channels, pairs = g.unbind(), ctx.lattice.pairs
        if fused.is_batched(g):  # nothing may be written in place
            parts: list[Tensor | None] = [None] * len(slope)
            for a, b, rest in pairs:
                term = channels[a] * slope[rest]
                parts[b] = term if parts[b] is None else parts[b] + term
            return torch.stack(parts), None, None
        back, begun = torch.empty_like(packed), set()
        for a, b, rest in pairs:
            if b in begun:
                back[b].addcmul_(channels[a], slope[rest])
            else:
                torch.mul(channels[a], slope[rest], out=back[b])
                begun.add(b)
        return back, None, None


@cache
def _one(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones((), dtype=dtype, device=device)


class Tanh(torch.autograd.Function):
    """Hyperbolic tangent y of a jet u by its differential equation, y' = s u' with s = 1 - y^2.

    Each coefficient of y needs one product per term of a chain, each of s one per term of a square,
    and first derivatives are done together: half of the passes over memory that `Composition`
    makes.
    """

    @staticmethod
    def forward(ctx: Any, packed: Tensor, lattice: Lattice) -> Tensor:
        """Return the channels of y; keep those of its slope s."""
        fused.keep_freed_memory()
        out, slope = torch.empty_like(packed), torch.empty_like(packed)
        u, y, s = packed.unbind(), out.unbind(), slope.unbind()
        torch.tanh(u[0], out=y[0])
        torch.addcmul(_one(packed.dtype, packed.device), y[0], y[0], value=-1, out=s[0])
        twice = -2 * y[0]
        first = lattice.first
        torch.mul(packed[1:first], s[0], out=out[1:first])
        torch.mul(out[1:first], twice, out=slope[1:first])
        for a in range(first, len(lattice)):
            # b = a comes last, and its share is one
            torch.mul(u[a], s[0], out=y[a])
            for share, b, rest in lattice.chain[a - 1][:-1]:
                y[a].addcmul_(u[b], s[rest], value=share)
            torch.mul(y[a], twice, out=s[a])
            for i, j, weight in lattice.crossed[a - 1]:
                s[a].addcmul_(y[i], y[j], value=-weight)
        ctx.save_for_backward(packed, slope)
        ctx.lattice = lattice
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        """Return the gradient of the channels of u, a transposed product with the kept slope."""
        packed, slope = ctx.saved_tensors
        s = slope.unbind()
        if torch.is_grad_enabled():  # to be differentiated again: from the input alone
            out = compose_channels(packed, ctx.lattice, elementwise.tanh)
            (again,) = torch.autograd.grad(out, packed, g, create_graph=True)
            return again, None
        if fused.is_batched(g):  # nothing may be written in place
            parts = list((g * s[0]).unbind())
            for a, b, rest in ctx.lattice.pairs:
                if rest:
                    parts[b] = parts[b] + g[a] * s[rest]
            return torch.stack(parts), None
        back = g * s[0]
        channels, parts = g.unbind(), back.unbind()
        for a, b, rest in ctx.lattice.pairs:
            if rest:
                parts[b].addcmul_(channels[a], s[rest])
        return back, None
