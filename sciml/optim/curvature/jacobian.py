"""Jacobians of residuals in the parameters, layer by layer, never stored as a matrix.

Products with the Jacobian, its transpose and the kernel `J J^T` come from the slots of every layer
(`slots`) and need nothing larger than one layer's rows at a time. Parameters outside recorded
layers contribute rows by batched reverse mode, and so do all parameters where no layer is given:
that is how residuals that mix the samples of a batch are treated (`uses`), at the price of one
backward pass per row.

Reference: Dangel et al. 2024, arXiv 2405.15603 (section 3); Guzman-Cordero et al. 2025,
arXiv 2505.12149 (the kernel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.optim.curvature.capture import Use
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.per_sample import (
    Slots,
    add_to_layer,
    joined_weight,
    layer_rows,
    pair_kernel,
    row_products,
    term_slots,
    weighted_sum,
)
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.curvature.uses import mixing_terms

LARGEST = 16 * 2**30  # bytes of a Jacobian's slots or rows
PASSES = 64  # rows found in one batched backward pass through a whole network


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
                    block = pair_kernel(left, right)
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
                out[a:b] += row_products(s, w.to(s.inputs.dtype)).double()
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
    checked: bool = False,
) -> Jacobian:
    """Return the Jacobian of the global batch at the present parameters.

    Args:
        objective: The loss.
        layers: Recorded layers by name; none where residuals mix samples.
        parameters: All trained parameters; those outside the layers get dense rows.
        everywhere: Whether every rank receives all rows (needed by a kernel); otherwise a rank
            keeps its own, and what is summed over rows must be summed over ranks.
        checked: Whether the caller knows that layers tell the Jacobian (`uses.UseCheck`);
            otherwise that is found out, and layers are left aside where samples mix.

    Raises:
        InvalidArgument: If a layer's weight is used elsewhere, or for what memory does not hold.
    """
    if not checked and mixing_terms(objective, layers):
        layers = {}
        objective.forget()  # its graph tells layers apart
    terms, uses = objective.captured(layers) if layers else (objective.terms(), [])
    _check_memory(terms, uses, layers)
    inside = {id(p) for layer in layers.values() for p in layer.parameters(recurse=False)}
    outside = [p for p in parameters if id(p) not in inside]
    if not layers:
        _check_rows(terms, outside)
    residuals, blocks, rows = [], [], []
    start = 0
    for term in terms:
        root = term.scale**0.5
        scaled = root * term.roots()
        value = _residual_of(objective, term, everywhere)
        pieces = [term_slots(term, uses, layers, c) for c in scaled]
        slots = {
            name: _stacked([p[name] for p in pieces]) for name in (pieces[0] if pieces else {})
        }
        extra = _outside_rows(term, scaled, outside, None if layers else PASSES)
        if everywhere and objective.world > 1:
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


def residual_of(objective: Objective, terms: Sequence[LossTerm]) -> Tensor:
    """Return the scaled residuals of terms `(R,)`, in the rows of `jacobian_of`, float64."""
    parts = [_residual_of(objective, term, True).reshape(-1).double() for term in terms]
    return torch.cat(parts)


def _residual_of(objective: Objective, term: LossTerm, everywhere: bool) -> Tensor:
    value = _scaled_residual(term)
    if everywhere and objective.world > 1:
        value = torch.cat(objective.gather(value.t().contiguous())).t()
    return value


def _check_memory(
    terms: Sequence[LossTerm], uses: Sequence[Use], layers: Mapping[str, nn.Module]
) -> None:
    """Refuse what would need more than `LARGEST` bytes: one backward pass per output is kept."""
    width = {name: len(layer.weight) for name, layer in layers.items()}
    one = sum(
        use.known.numel() // use.known.shape[-1] * (use.known.shape[-1] + width[use.layer])
        for use in uses
    )
    most = max(term.outputs.shape[1] for term in terms)
    size = most * one * terms[0].outputs.element_size()
    if most > 1 and size > LARGEST:
        raise InvalidArgument(
            f"{most} outputs per sample: their Jacobian takes about {size / 2**30:.0f} GiB",
            f"at most {LARGEST / 2**30:.0f} GiB",
            "Type optimizer=kfac or another that needs no Jacobian, or take fewer samples",
        )


def _check_rows(terms: Sequence[LossTerm], parameters: Sequence[Tensor]) -> None:
    """Refuse rows that would need more than `LARGEST` bytes: they are held as a matrix."""
    rows = sum(term.outputs.numel() for term in terms)
    columns = sum(p.numel() for p in parameters)
    size = 8 * rows * columns
    if size > LARGEST:
        raise InvalidArgument(
            f"{rows} residuals that mix samples and {columns} parameters: their Jacobian takes "
            f"about {size / 2**30:.0f} GiB",
            f"at most {LARGEST / 2**30:.0f} GiB",
            "Take fewer points, or type optimizer=kfac, sophia or adam",
        )


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


def _outside_rows(
    term: LossTerm, scaled: Tensor, outside: Sequence[Tensor], at_once: int | None
) -> Tensor | None:
    """Return rows `(c, n, P)` of parameters outside the layers, by batched reverse mode.

    Args:
        term: With graph.
        scaled: What is fed back `(c, n, m)`.
        outside: The parameters.
        at_once: Rows of one batched pass; None for all.
    """
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

    rows = torch.vmap(row, chunk_size=at_once)(seeds.reshape(c * n, n, m))
    return rows.view(c, n, size)


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
