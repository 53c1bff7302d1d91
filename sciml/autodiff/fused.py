"""The two steps of a network on second-order collapsed jets, each as one function.

Value, first derivatives and the collapsed channel of a jet lie in one tensor `(K + 2, N, h)`, so a
linear layer is one matrix product and nothing is copied between layers. An activation writes its
result into such a tensor and has a backward pass of a few operations in place. Both compute what
the rules of `jet` and `taylor` compute; differentiated twice, they fall back to plain operations.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# oneDNN's product, the one compiled code uses. Half the time of the default product on processors
# for which the default library has no wide-vector kernels, the same elsewhere.
_WIDE = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_WIDE = _WIDE if torch.backends.mkldnn.is_available() else None
# Below this many multiplications the choice does not matter.
_SMALL = 2**18
# Narrower layers are left to the default product: packing their operands costs more than it saves.
_NARROW = 64


def is_plain_reverse_mode(x: Tensor) -> bool:
    """Whether only ordinary reverse-mode differentiation of eager code can be at work.

    Otherwise plain operations are better: `torch.compile` fuses them itself, `torch.func`
    transforms batch and differentiate them in any order, and autocast casts each of them.
    """
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch.is_autocast_enabled(x.device.type)
    )


def is_batched(x: Tensor) -> bool:
    """Whether this belongs to a backward pass for many cotangents at once."""
    functorch = torch._C._functorch  # of func.vmap, and of autograd.grad(is_grads_batched=True)
    return functorch.is_batchedtensor(x) or functorch.is_legacy_batchedtensor(x)


@cache
def keep_freed_memory() -> None:
    """Let the C library keep up to 512 MB of freed memory for the next step.

    A step on the processor frees tens of MB that the next one asks for again. glibc hands them
    back to the system in between, which then has to map and clear every page anew: measured 9000
    page faults and a third of the step at d = K = N = 100, width 128. Settings of glibc in the
    environment win; other C libraries are left alone.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc; Windows takes no None
        return
    trim_threshold, mmap_threshold = -1, -3  # as numbered in malloc.h
    mallopt(trim_threshold, 2**29)
    mallopt(mmap_threshold, 2**25)  # the largest it takes


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """Return `x W^T` for x `(M, d)` and W `(h, d)`; not differentiable."""
    if x.shape[1] == 1:
        return x * weight.t()
    wide = _WIDE is not None and x.dtype == torch.float32 and x.device.type == "cpu"
    # The compiler wants constant weights there, and there is no rule for batched tensors.
    wide = wide and not (torch.compiler.is_compiling() or is_batched(x) or is_batched(weight))
    narrow = min(len(x), len(weight), x.shape[1]) < _NARROW
    if wide and not narrow and x.numel() * len(weight) > _SMALL:
        return _WIDE(x, weight, None, "none", [], "")
    return x @ weight.t()


def differentiable_multiply(x: Tensor, weight: Tensor) -> Tensor:
    """Return the same for use where the result is differentiated."""
    return x @ weight.t()


class Affine(torch.autograd.Function):
    """`(a, W, b) -> a W^T`, b added to the first channel: a `(C, N, m)` to `(C, N, h)`."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return all channels after the layer."""
        keep_freed_memory()
        ctx.save_for_backward(a, weight)
        y = multiply(a.reshape(-1, a.shape[-1]), weight).view(*a.shape[:-1], len(weight))
        if bias is not None:
            y[0].add_(bias)  # y[0] += bias would copy it onto itself, too
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        """Return the gradients."""
        a, weight = ctx.saved_tensors
        product = differentiable_multiply if torch.is_grad_enabled() else multiply
        rows, inputs = g.reshape(-1, g.shape[-1]), a.reshape(-1, a.shape[-1])
        need_a, need_weight, need_bias = ctx.needs_input_grad
        if min(weight.shape) < _NARROW:  # the same by fewer calls, which take longer than the sums
            for_a = (rows @ weight).view(a.shape) if need_a else None
            for_weight = rows.t() @ inputs if need_weight else None
            return for_a, for_weight, g[0].sum(0) if need_bias else None
        # contiguous: the wide product reorders a transposed weight more slowly than a copy takes
        for_a = product(rows, weight.t().contiguous()).view(a.shape) if need_a else None
        for_weight = product(rows.t(), inputs.t()) if need_weight else None
        return for_a, for_weight, g[0].sum(0) if need_bias else None


class Activation(torch.autograd.Function):
    """An elementwise function of packed second-order collapsed jets.

    With channels `(z, z_k, s)` and `c = sum_k w_k z_k^2` the result is
    `(f, f' z_k, f' s + f'' c)`.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, weights: Tensor, rule: Callable) -> Tensor:
        """Return the packed result, for y `(K + 2, N, h)` and collapse weights `(K,)`."""
        keep_freed_memory()
        first, top = y[1:-1], y[-1]
        f = rule(y[0], 3)
        out = torch.empty_like(y)
        out_first, out_top = out[1:-1], out[-1]
        out[0] = f[0]
        torch.mul(first, first, out=out_first)  # room for the squares, used before it is filled
        square = torch.mv(out_first.view(len(weights), top.numel()).t(), weights).view_as(top)
        torch.mul(first, f[1], out=out_first)
        torch.mul(top, f[1], out=out_top).addcmul_(f[2], square)
        ctx.save_for_backward(y, weights, *f[1:], square)
        ctx.rule = rule
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        """Return the gradient of y."""
        y, weights, f1, f2, f3, square = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: from the input alone
            (for_y,) = torch.autograd.grad(plain(y, weights, ctx.rule), y, g, create_graph=True)
            return for_y, None, None
        first, top, g_first, g_top = y[1:-1], y[-1], g[1:-1], g[-1]
        if is_batched(g):  # nothing may be written in place
            inner = (g_first * first).sum(0) + g_top * top
            value = inner * f2 + g[0] * f1 + g_top * square * f3
            slopes = g_first * f1 + weights[:, None, None] * first * (2 * g_top * f2)
            return torch.cat([value[None], slopes, (g_top * f1)[None]]), None, None
        for_y = torch.empty_like(y)
        out = for_y[1:-1]
        inner = torch.mul(g_first, first, out=out).sum(0).addcmul_(g_top, top)
        inner.mul_(f2).addcmul_(g[0], f1).addcmul_(g_top * square, f3)
        for_y[0] = inner
        torch.mul(g_top, f1, out=for_y[-1])
        torch.mul(first, weights[:, None, None], out=out).mul_(2 * g_top * f2)
        out.addcmul_(g_first, f1)
        return for_y, None, None


class FirstActivation(torch.autograd.Function):
    """`Activation` behind the first layer: second derivatives are zero, tangents mostly shared.

    First derivatives come in blocks `(k, 1 or N, h)`, as different kinds of directions make them,
    and are written out for every point in the result only.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, weights: Tensor, rule: Callable, *blocks: Tensor) -> Tensor:
        """Return the packed result `(K + 2, N, h)` for a value z `(N, h)`, K directions in all."""
        keep_freed_memory()
        f = rule(z, 3)
        sizes = [len(b) for b in blocks]
        out = z.new_empty(sum(sizes) + 2, *z.shape)
        square = torch.zeros_like(z)
        pairs = zip(blocks, weights.split(sizes), out[1:-1].split(sizes), strict=True)
        for block, w, room in pairs:
            square += torch.tensordot(w, block * block, dims=1)
            torch.mul(block, f[1], out=room)
        out[0] = f[0]
        torch.mul(f[2], square, out=out[-1])
        ctx.save_for_backward(z, weights, *f[1:], square, *blocks)
        ctx.rule, ctx.sizes = rule, sizes
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        """Return the gradients of z and of the blocks."""
        z, weights, f1, f2, f3, square, *blocks = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # to be differentiated again: from the inputs alone
            inputs = [z, *(b for b, need in zip(blocks, needed, strict=True) if need)]
            out = plain(pack(z, [*blocks, torch.zeros_like(z)]), weights, ctx.rule)
            for_z, *rest = torch.autograd.grad(out, inputs, g, create_graph=True)
            return for_z, None, None, *(rest.pop(0) if need else None for need in needed)
        # Nothing in place: g may be many cotangents at once.
        for_z, bend, out = g[0] * f1 + g[-1] * square * f3, 2 * g[-1] * f2, []
        pairs = zip(blocks, weights.split(ctx.sizes), g[1:-1].split(ctx.sizes), strict=True)
        for (block, w, g_block), need in zip(pairs, needed, strict=True):
            for_z = torch.addcmul(for_z, (g_block * block).sum(0), f2)
            if not need:
                out.append(None)
                continue
            slopes, curved = g_block * f1, bend
            if block.shape[1] == 1:  # one tangent for all points
                slopes, curved = slopes.sum(1, True), bend.sum(0)
            out.append(torch.addcmul(slopes, w[:, None, None] * block, curved))
        return for_z, None, None, *out


def plain(y: Tensor, weights: Tensor, rule: Callable) -> Tensor:
    """Return what `Activation` computes, by operations that can be differentiated at will."""
    f = rule(y[0], 2)
    first, top = y[1:-1], y[-1]
    square = torch.tensordot(weights, first * first, dims=1)
    return torch.cat([f[0][None], f[1] * first, (f[1] * top + f[2] * square)[None]])


def pack(value: Tensor, derivatives: list[Tensor]) -> Tensor:
    """Return value and derivatives as channels `(C, N, h)` of one tensor."""
    n = value.shape[0]
    rows = [z.expand(-1, n, -1) if z.dim() == 3 else z.expand(n, -1)[None] for z in derivatives]
    return torch.cat([value[None], *rows])
