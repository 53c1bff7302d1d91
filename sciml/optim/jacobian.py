"""Jacobians of residuals in the parameters, as sums over slots of outer products.

For residual n and a layer with weight and bias `W = [W, b]`

    dr_n/dW = sum_s gamma_{n,s} z_{n,s}^T,

where z are the layer's inputs and gamma the residual's cotangents at its outputs (`capture`). Both
are small; products with the Jacobian, its transpose and the kernel `J J^T` need nothing larger than
one layer's rows at a time. Parameters outside recorded layers contribute rows by batched reverse
mode.

Reference: Dangel et al. 2024, arXiv 2405.15603 (section 3); Guzman-Cordero et al. 2025,
arXiv 2505.12149 (the kernel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sciml.autodiff import fused
from sciml.errors import InvalidArgument
from sciml.optim.capture import Use
from sciml.optim.objective import Objective
from sciml.optim.terms import LossTerm


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
        cotangent: `(n, m)`, what is fed back into the term's outputs; samples do not interact, so
            one pass serves all.

    Raises:
        InvalidArgument: If a layer saw different numbers of samples within the term.
    """
    output = term.outputs
    if not uses or not output.requires_grad:
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
    return {name: _joined(name, layers[name], pieces) for name, pieces in found.items()}


def _joined(name: str, layer: nn.Module, pieces: list[tuple[Tensor, Tensor]]) -> Slots:
    sizes = {gamma.shape[1] for _, gamma in pieces}
    if len(sizes) > 1:
        raise InvalidArgument(
            f"layer '{name}' seeing {sorted(sizes)} rows for the samples of one loss term",
            "as many rows as samples in every use",
            "Split the term, or type optimizer=adam",
        )
    z, gamma = (
        torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True)
    )
    return Slots(z, gamma, getattr(layer, "groups", 1))


class Jacobian:
    """Jacobian of the residuals of all terms, scaled so that `loss = |r|^2 / 2 + const`.

    Build it with `jacobian_of`. Row order: terms in order; within a term, ranks in order, samples
    in order, and for vector residuals (or logits: columns of the square root of the loss Hessian)
    the components outermost. Vectors over parameters are lists of tensors, one per parameter.

    Attributes:
        residual: Scaled residuals `(R,)`, float64.
        blocks: Per term and layer, `Slots` whose cotangents carry the scale.
        parameters: The parameters, in the order of the vectors.
        other: Rows `(R, P)` of the parameters outside recorded layers, or None.
    """

    def __init__(
        self,
        residual: Tensor,
        blocks: list[tuple[int, int, dict[str, Slots]]],
        layers: Mapping[str, nn.Module],
        parameters: Sequence[Tensor],
        other: Tensor | None,
        outside: Sequence[Tensor],
    ) -> None:
        self.residual, self.blocks, self.layers = residual, blocks, layers
        self.parameters, self.other, self.outside = list(parameters), other, list(outside)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.residual)

    def kernel(self) -> Tensor:
        """Return `J J^T` `(R, R)`, float64; products in the precision of the network."""
        out = self.residual.new_zeros(len(self), len(self))
        for name in self.layers:
            mine = [(a, b, s[name]) for a, b, s in self.blocks if name in s]
            for i, (a, b, left) in enumerate(mine):
                for c, d, right in mine[i:]:
                    block = _pair_kernel(left, right)
                    out[a:b, c:d] += block
                    if a != c:
                        out[c:d, a:b] += block.t()
        if self.other is not None:
            out += self.other.double() @ self.other.double().t()
        return out

    def times(self, vector: Sequence[Tensor]) -> Tensor:
        """Return `J v` `(R,)`, float64, for one tensor per parameter."""
        given = {id(p): v for p, v in zip(self.parameters, vector, strict=True)}
        out = torch.zeros_like(self.residual)
        for a, b, slots in self.blocks:
            for name, s in slots.items():
                w = joined_weight(self.layers[name], given)
                out[a:b] += _row_products(s, w.to(s.inputs.dtype)).double()
        if self.other is not None:
            flat = torch.cat([given[id(p)].reshape(-1) for p in self.outside])
            out += (self.other @ flat.to(self.other.dtype)).double()
        return out

    def transposed_times(self, vector: Tensor) -> list[Tensor]:
        """Return `J^T v`, one tensor per parameter, for v `(R,)`."""
        sums = {id(p): torch.zeros_like(p) for p in self.parameters}
        for a, b, slots in self.blocks:
            for name, s in slots.items():
                v = vector[a:b].to(s.cotangents.dtype)
                add_to_layer(self.layers[name], sums, weighted_sum(s, v))
        if self.other is not None:
            flat = self.other.t() @ vector.to(self.other.dtype)
            pieces = flat.split([p.numel() for p in self.outside])
            for p, piece in zip(self.outside, pieces, strict=True):
                sums[id(p)] += piece.view_as(p)
        return [sums[id(p)] for p in self.parameters]

    def dense(self) -> Tensor:
        """Return J `(R, P)`, float64, columns in the order of the parameters; for small nets."""
        starts, total = {}, 0
        for p in self.parameters:
            starts[id(p)], total = total, total + p.numel()
        out = self.residual.new_zeros(len(self), total)

        def place(p: Tensor, rows: Tensor, a: int, b: int) -> None:
            start = starts[id(p)]
            out[a:b, start : start + p.numel()] += rows.reshape(b - a, -1).double()

        for a, b, slots in self.blocks:
            for name, s in slots.items():
                layer, rows = self.layers[name], layer_rows(s)
                if layer.bias is not None:
                    place(layer.bias, rows[..., -1], a, b)
                    rows = rows[..., :-1]
                place(layer.weight, rows, a, b)
        if self.other is not None:
            pieces = self.other.split([p.numel() for p in self.outside], 1)
            for p, piece in zip(self.outside, pieces, strict=True):
                place(p, piece, 0, len(self))
        return out


def jacobian_of(
    objective: Objective,
    layers: Mapping[str, nn.Module],
    parameters: Sequence[Tensor],
    *,
    everywhere: bool = True,
) -> Jacobian:
    """Return the Jacobian of the global batch at the present parameters.

    Args:
        objective: The loss.
        layers: Recorded layers by name.
        parameters: All trained parameters; those outside the layers get dense rows.
        everywhere: Whether every rank receives all rows (needed by a kernel); otherwise a rank
            keeps its own, and what is summed over rows must be summed over ranks.
    """
    terms, uses = objective.captured(layers)
    inside = {id(p) for layer in layers.values() for p in layer.parameters(recurse=False)}
    outside = [p for p in parameters if id(p) not in inside]
    residuals, blocks, rows = [], [], []
    start = 0
    for term in terms:
        root = term.scale**0.5
        scaled = root * term.roots()
        value = _scaled_residual(term)
        pieces = [term_slots(term, uses, layers, c) for c in scaled]
        slots = {
            name: _stacked([p[name] for p in pieces]) for name in (pieces[0] if pieces else {})
        }
        extra = _outside_rows(term, scaled, outside)
        if everywhere and objective.world > 1:
            value = torch.cat(objective.gather(value.t().contiguous())).t()
            slots = {name: _gathered(objective, s, len(scaled)) for name, s in slots.items()}
            if extra is not None:
                parts = objective.gather(extra.transpose(0, 1).contiguous())
                extra = torch.cat(parts).transpose(0, 1)
        residuals.append(value.reshape(-1).double())
        stop = start + residuals[-1].numel()
        blocks.append((start, stop, slots))
        if extra is not None:
            rows.append(extra.reshape(stop - start, -1))
        start = stop
    other = torch.cat(rows) if rows else None
    return Jacobian(torch.cat(residuals), blocks, layers, parameters, other, outside)


def _scaled_residual(term: LossTerm) -> Tensor:
    """Return rho `(c, n)` with `J^T rho = g`: `sqrt(scale) f` for residuals.

    For logits the columns l_c satisfy `sum_c l_c rho_c = slope` with `rho = -onehot / sqrt(p)`
    up to the null space of Lambda: `(diag(sqrt p) - p sqrt(p)^T) rho = p - onehot`.
    """
    if term.kind != "categorical":
        return term.scale**0.5 * term.slope().t()
    p = term.outputs.detach().softmax(1)
    onehot = torch.nn.functional.one_hot(term.target, p.shape[1]).to(p)
    return -(term.scale**0.5) * (onehot / p.clamp_min(torch.finfo(p.dtype).tiny).sqrt()).t()


def _outside_rows(term: LossTerm, scaled: Tensor, outside: Sequence[Tensor]) -> Tensor | None:
    """Return rows `(c, n, P)` of parameters outside the layers, by batched reverse mode."""
    if not outside:
        return None
    output = term.outputs
    c, n, m = scaled.shape
    size = sum(p.numel() for p in outside)
    if not output.requires_grad:
        return output.new_zeros(c, n, size)
    seeds = output.new_zeros(c, n, n, m)
    diagonal = torch.arange(n, device=output.device)
    seeds[:, diagonal, diagonal] = scaled

    def row(seed: Tensor) -> Tensor:
        grads = torch.autograd.grad(output, outside, seed, retain_graph=True, allow_unused=True)
        pairs = zip(grads, outside, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])

    return torch.vmap(row)(seeds.reshape(c * n, n, m)).view(c, n, size)


def _stacked(pieces: list[Slots]) -> Slots:
    """Join the passes of vector residuals: components outermost."""
    if len(pieces) == 1:
        return pieces[0]
    z = torch.cat([p.inputs for p in pieces], 1)
    return Slots(z, torch.cat([p.cotangents for p in pieces], 1), pieces[0].groups)


def _gathered(objective: Objective, slots: Slots, passes: int) -> Slots:
    def all_ranks(x: Tensor) -> Tensor:
        s, rows, k = x.shape
        x = x.reshape(s, passes, rows // passes, k).permute(2, 0, 1, 3).contiguous()
        x = torch.cat(objective.gather(x))
        return x.permute(1, 2, 0, 3).reshape(s, -1, k)

    return Slots(all_ranks(slots.inputs), all_ranks(slots.cotangents), slots.groups)


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


def _row_products(s: Slots, w: Tensor) -> Tensor:
    z, gamma = split_groups(s)
    w = w.view(s.groups, -1, w.shape[-1])
    image = torch.einsum("sngk,gok->sngo", z, w) if s.groups > 1 else z @ w[0].t()
    return (image * gamma).sum((0, 2, 3))


def _pair_kernel(left: Slots, right: Slots) -> Tensor:
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


def check_uses(
    terms: Sequence[LossTerm],
    uses: Sequence[Use],
    layers: Mapping[str, nn.Module],
    tolerance: float = 1e-3,
) -> None:
    """Compare the layers' gradients from recorded uses with those of an ordinary reverse pass.

    Raises:
        InvalidArgument: Naming a layer whose weight is used in a way the capture does not see.
    """
    weights = [layer.weight for layer in layers.values()]
    for term in terms:
        if not term.outputs.requires_grad or not weights:
            continue
        slope = term.slope()
        true = torch.autograd.grad(
            term.outputs, weights, slope, retain_graph=True, allow_unused=True
        )
        slots = term_slots(term, uses, layers, slope)
        for (name, layer), expected in zip(layers.items(), true, strict=True):
            if name in slots:
                s = slots[name]
                got = weighted_sum(s, s.inputs.new_ones(s.inputs.shape[1]))
                got = got[:, :-1] if layer.bias is not None else got
                got = got.reshape(layer.weight.shape)
            else:
                got = torch.zeros_like(layer.weight)
            expected = torch.zeros_like(got) if expected is None else expected
            size = expected.norm()
            if (got - expected).norm() > tolerance * size + torch.finfo(got.dtype).tiny:
                raise InvalidArgument(
                    f"layer '{name}', whose weight the loss term '{term.name}' uses outside the "
                    "layer's own forward",
                    "weights used through their layers only",
                    "Type optimizer=adam, or exclude the layer",
                )
