"""Per-sample gradients of one layer as sums over slots of outer products, and their algebra.

For residual n and a layer with weight and bias `W = [W, b]`

    dr_n/dW = sum_s gamma_{n,s} z_{n,s}^T,

where z are the layer's inputs and gamma the residual's cotangents at its outputs (`capture`). Both
are small; nothing here is larger than one layer's rows.

Reference: Dangel et al. 2024, arXiv 2405.15603 (section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sciml.autodiff import fused
from sciml.errors import InvalidArgument
from sciml.optim.curvature.capture import Use
from sciml.optim.curvature.terms import LossTerm


@dataclass
class Slots:
    """Both factors of a layer's per-sample gradients.

    Attributes:
        inputs: z with a last entry for the bias, `(S, N, d_in + 1)`, or `(S, N, d_in)` without.
        cotangents: gamma `(S, N, d_out)`.
        groups: Number of groups of a convolution; inputs and outputs come in that many blocks.
    """

    inputs: Tensor
    cotangents: Tensor
    groups: int = 1

    def to(self, dtype: torch.dtype) -> Slots:
        """Return the same in another dtype."""
        return Slots(self.inputs.to(dtype), self.cotangents.to(dtype), self.groups)


def term_slots(
    term: LossTerm, uses: Sequence[Use], layers: Mapping[str, nn.Module], cotangent: Tensor
) -> dict[str, Slots]:
    """Return the slots of one term by layer.

    Args:
        term: Its graph must be alive; it stays so.
        uses: What was recorded while the term was evaluated.
        layers: Layers by name.
        cotangent: `(n, m)`, what is fed back into the term's outputs. One pass serves all samples
            where a residual depends on its own sample alone; `uses.UseCheck` finds out whether it
            does.

    Raises:
        InvalidArgument: If a layer saw different numbers of samples within the term.
    """
    found = slot_pieces(term, uses, layers, cotangent)
    return {name: _joined(name, layers[name], pieces) for name, pieces in found.items()}


def slot_pieces(
    term: LossTerm, uses: Sequence[Use], layers: Mapping[str, nn.Module], cotangent: Tensor
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Return inputs and cotangents of every use of every layer; arguments as in `term_slots`."""
    output = term.outputs
    if not uses or not layers or not output.requires_grad:
        return {}
    handles = [use.handle for use in uses]
    grads = torch.autograd.grad(
        output, handles, cotangent.to(output), retain_graph=True, allow_unused=True
    )
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for use, grad in zip(uses, grads, strict=True):
        if grad is None:
            continue
        grad, known = use.slots(grad), use.known
        known = known.expand(-1, grad.shape[1], -1)
        z, gamma = (grad, known) if use.transposed else (known, grad)
        if layers[use.layer].bias is not None:
            ones = use.ones[:, None, None].expand(*z.shape[:2], 1)
            z = torch.cat([z, ones], -1)
        found.setdefault(use.layer, []).append((z, gamma))
    return found


def _joined(name: str, layer: nn.Module, pieces: list[tuple[Tensor, Tensor]]) -> Slots:
    sizes = {gamma.shape[1] for _, gamma in pieces}
    if len(sizes) > 1:
        raise InvalidArgument(
            f"layer '{name}' seeing {sorted(sizes)} rows for the samples of one loss term",
            "as many rows as samples in every use",
            "Split the term, or type optimizer=engd, spring or adam",
        )
    z, gamma = (
        torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True)
    )
    return Slots(z, gamma, getattr(layer, "groups", 1))


# --- algebra of one layer -----------------------------------------------------------------------
def split_groups(s: Slots) -> tuple[Tensor, Tensor]:
    """Return z `(S, N, g, k)` and gamma `(S, N, g, o)` by group; the bias entry goes to each."""
    if s.groups == 1:
        return s.inputs[:, :, None], s.cotangents[:, :, None]
    g, (size, n, width) = s.groups, s.inputs.shape
    bias = width % g
    z = s.inputs[..., : width - bias].reshape(size, n, g, -1)
    if bias:
        z = torch.cat([z, s.inputs[:, :, None, -1:].expand(size, n, g, 1)], -1)
    return z, s.cotangents.reshape(size, n, g, -1)


def layer_rows(s: Slots) -> Tensor:
    """Return per-sample gradients `(N, d_out, d_in + 1)`."""
    z, gamma = split_groups(s)
    rows = torch.einsum("sngo,sngk->ngok", gamma, z)
    return rows.flatten(1, 2)


def weighted_sum(s: Slots, v: Tensor) -> Tensor:
    """Return `sum_n v_n dr_n/dW` `(d_out, d_in + 1)` for v `(N,)`."""
    z, gamma = split_groups(s)
    gamma = gamma * v[:, None, None]
    total = gamma.flatten(0, 1).permute(1, 2, 0) @ z.flatten(0, 1).transpose(0, 1)
    return total.flatten(0, 1)


def row_products(s: Slots, w: Tensor) -> Tensor:
    """Return `sum <dr_n/dW, w>` `(N,)` for w `(d_out, d_in + 1)`."""
    z, gamma = split_groups(s)
    w = w.view(s.groups, -1, w.shape[-1])
    image = torch.einsum("sngk,gok->sngo", z, w) if s.groups > 1 else z @ w[0].t()
    return (image * gamma).sum((0, 2, 3))


def pair_kernel(left: Slots, right: Slots) -> Tensor:
    """Return `sum <rows of left, rows of right>` `(N, N')`, by the cheaper of two routes."""
    s, n, k = left.inputs.shape
    t, o = right.inputs.shape[0], left.cotangents.shape[2]
    rows_cost = (s * n + n * n) * k * o
    if left.groups > 1 or rows_cost < s * t * n * n * (k + o):
        a = layer_rows(left).flatten(1)
        b = a if right is left else layer_rows(right).flatten(1)
        return fused.multiply(a, b).double()
    za, ga = left.inputs.flatten(0, 1), left.cotangents.flatten(0, 1)
    zb, gb = right.inputs.flatten(0, 1), right.cotangents.flatten(0, 1)
    gram = fused.multiply(za, zb).mul_(fused.multiply(ga, gb))
    return gram.view(s, n, t, -1).sum(0).sum(1).double()


def joined_weight(layer: nn.Module, given: Mapping[int, Tensor]) -> Tensor:
    """Return `[W, b]` `(d_out, d_in + 1)` of what is given for a layer's parameters."""
    w = given[id(layer.weight)].flatten(1)
    return w if layer.bias is None else torch.cat([w, given[id(layer.bias)][:, None]], 1)


def add_to_layer(layer: nn.Module, sums: Mapping[int, Tensor], joined: Tensor) -> None:
    """Add `[W, b]` `(d_out, d_in + 1)` to the tensors of a layer's parameters."""
    if layer.bias is not None:
        if id(layer.bias) in sums:
            sums[id(layer.bias)] += joined[:, -1]
        joined = joined[:, :-1]
    sums[id(layer.weight)] += joined.reshape(layer.weight.shape)
