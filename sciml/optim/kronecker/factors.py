"""Kronecker factors of the Gauss-Newton matrix, layer by layer and loss term by loss term.

With the per-sample gradients `dr_n/dW = sum_s gamma_{n,s} z_{n,s}^T` of `jacobian`, the block of a
layer in the curvature of one term is approximated by `G x A` (rows of `[W, b]` first),

    expand   A = 1/(N S) sum_{n,s} z z^T            G = scale sum_{n,s} gamma gamma^T
    reduce   A = 1/N sum_n (mean_s z)(mean_s z)^T   G = scale sum_n (sum_s gamma)(sum_s gamma)^T
    trace    A = sum_n B_n^T B_n / sum_n |B_n|^2    G = scale sum_n B_n B_n^T,   B_n = dr_n/dW

over the global batch; `scale` is that of `LossTerm`, so G carries weights and means. What is fed
back as gamma: `type2` the columns of a root of the loss Hessian (one pass per output), `mc` one
random vector with that covariance, `empirical` the slope of the loss; `forward_only` feeds back
nothing and sets G = 1. Convolutions with groups have one pair per group.

Every term has its own pair. From three terms on there are two: one of the terms with fewest slots
(plain values: data, boundary, initial conditions), whose samples are stacked, and one of the rest.

References: Martens and Grosse 2015, arXiv 1503.05671 (running means, section 5); Grosse and Martens
2016, arXiv 1602.01407 (convolutions); Eschenhagen et al. 2023, arXiv 2311.00636 (expand, reduce);
Dangel et al. 2024, arXiv 2405.15603, section 3.3 (terms of a physics loss). Departures: A and G of
`mc` come from one draw per term; transposed slots (see `capture`) enter like all others; `trace`,
which has the partial traces of the exact block (cf. Ren and Goldfarb 2021, arXiv 2106.02925) and is
the exact block where residuals are linear in a layer and use one of its slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.autodiff import fused
from sciml.optim.curvature.capture import Use
from sciml.optim.curvature.jacobian import Jacobian
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.per_sample import Slots, split_groups, term_slots
from sciml.optim.curvature.terms import LossTerm

CurvatureKind = Literal["auto", "type2", "mc", "empirical", "forward_only"]
# Outputs per sample up to which `auto` takes the exact `type2`, one backward pass each.
FEW_OUTPUTS = 10


@dataclass
class TermSlots:
    """The slots of one loss term, by backward pass and layer.

    Attributes:
        name: Name of the term.
        passes: Slots by layer, one entry per backward pass; cotangents carry `sqrt(scale)`.
        same_inputs: Whether all passes have the same inputs.
    """

    name: str
    passes: list[dict[str, Slots]]
    same_inputs: bool

    @property
    def width(self) -> int:
        """Largest number of slots of a layer."""
        return max((len(s.inputs) for found in self.passes for s in found.values()), default=0)


def factor_sizes(layer: nn.Module) -> tuple[int, int, int]:
    """Return number of groups, outputs and inputs (with bias) of a group."""
    groups = getattr(layer, "groups", 1)
    inputs = layer.weight[0].numel() + (layer.bias is not None)
    return groups, len(layer.weight) // groups, inputs


def observe_terms(
    objective: Objective,
    layers: Mapping[str, nn.Module],
    kind: CurvatureKind,
    sharing: Literal["expand", "reduce", "trace"],
    jacobian: Jacobian | None = None,
    mixing: frozenset[str] = frozenset(),
) -> list[TermSlots]:
    """Return the slots of all terms on this rank.

    Args:
        objective: The loss.
        layers: Recorded layers by name.
        kind: What is fed back, see above; `auto` is `type2` up to ten outputs, else `mc`.
        sharing: What is made of several slots.
        jacobian: The Jacobian of this rank, if there is one: it holds the slots of `type2`.
        mixing: Terms whose residuals depend on several samples. One pass per output would add up
            what samples feed back into a row of a layer; random signs of the samples keep their
            squares apart on average, as `expand` does with the positions of one sample.
    """
    terms, uses = objective.captured(layers)
    if kind == "forward_only":
        found = [_inputs_alone(use, layers[use.layer]) for use in uses if not use.transposed]
        seen = [TermSlots("all", found, False)]
    else:
        transposed = any(use.transposed for use in uses)
        seen = []
        for i, term in enumerate(terms):
            exact = kind == "type2" or (kind == "auto" and term.outputs.shape[1] <= FEW_OUTPUTS)
            exact = exact and term.name not in mixing
            if exact and jacobian is not None:
                seen.append(TermSlots(term.name, [jacobian.blocks[i][2]], False))
                continue
            root = term.scale**0.5
            passes = [
                term_slots(term, uses, layers, root * c)
                for c in _cotangents(term, _fed_back(kind, exact), objective)
            ]
            seen.append(TermSlots(term.name, passes, not transposed))
    if sharing == "reduce":
        for s in seen:
            s.passes = [{n: _reduced(slots) for n, slots in p.items()} for p in s.passes]
    return seen


def _fed_back(kind: CurvatureKind, exact: bool) -> str:
    return "type2" if exact else "mc" if kind in ("auto", "type2") else kind


def _cotangents(term: LossTerm, kind: str, objective: Objective) -> Sequence[Tensor]:
    if kind == "type2":
        return term.roots()
    if kind == "empirical":
        return [term.slope()]
    return [term.draw(objective.generator(f"kfac {term.name}"))]


def _inputs_alone(use: Use, layer: nn.Module) -> dict[str, Slots]:
    z = use.known
    if layer.bias is not None:
        z = torch.cat([z, use.ones[:, None, None].expand(*z.shape[:2], 1)], -1)
    return {use.layer: Slots(z, z[..., :0], getattr(layer, "groups", 1))}


def _reduced(s: Slots) -> Slots:
    return Slots(s.inputs.mean(0, True), s.cotangents.sum(0, True), s.groups)


def groups_of(seen: Sequence[TermSlots]) -> dict[str, str]:
    """Return the pair that each term belongs to: its own, or from three terms on one of two."""
    names = list(dict.fromkeys(s.name for s in seen))
    if len(names) <= 2:
        return {name: name for name in names}
    fewest = min(s.width for s in seen)
    return {s.name: "values" if s.width == fewest else "derivatives" for s in seen}


class FactorSums:
    """Sums of outer products since the last refresh, over calls and then over ranks.

    Args:
        layers: Recorded layers by name.
        ones: Whether G is the unit matrix (`forward_only`).
        trace: Whether A and G are partial traces.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], ones: bool = False, trace: bool = False
    ) -> None:
        self.layers, self.ones, self.trace = layers, ones, trace
        self.calls = 0
        self._sums: dict[str, dict[str, list[Tensor]]] = {}

    def add(self, seen: Sequence[TermSlots]) -> None:
        """Add what this rank saw in one call."""
        self.calls += 1
        group_of = groups_of(seen)
        for s in seen:
            sums = self._sums.setdefault(group_of[s.name], self._zeros())
            for i, found in enumerate(s.passes):
                for name, slots in found.items():
                    inputs, rows, outputs = sums[name]
                    z, gamma = split_groups(slots)
                    if self.trace:
                        a, g = partial_traces(z.to(inputs.dtype), gamma.to(inputs.dtype))
                        inputs += a
                        outputs += g
                        rows += g.diagonal(dim1=-2, dim2=-1).sum(-1)
                        continue
                    if i == 0 or not s.same_inputs:
                        inputs += _squares(z, inputs)
                        rows += z.shape[0] * z.shape[1]
                    if not self.ones:
                        outputs += _squares(gamma, outputs)

    def _zeros(self) -> dict[str, list[Tensor]]:
        out = {}
        for name, layer in self.layers.items():
            groups, o, k = factor_sizes(layer)
            like = layer.weight.detach()
            like = like.new_zeros((), dtype=torch.promote_types(like.dtype, torch.float32))
            out[name] = [
                like.new_zeros(groups, k, k),
                like.new_zeros(groups),
                like.new_zeros(groups, o, o),
            ]
        return out

    def reduce(self, objective: Objective) -> dict[str, dict[str, list[Tensor]]]:
        """Return `[A, G]` of the global batch by pair and layer, and start anew.

        One message carries the upper triangles: `sum k (k + 1) / 2 + o (o + 1) / 2` numbers and
        one count per pair.
        """
        flat = [t for sums in self._sums.values() for three in sums.values() for t in three]
        if objective.world > 1:
            packed = objective.sum([_packed(t) for t in flat])
            for t, p in zip(flat, packed, strict=True):
                t.copy_(_unpacked(p, t))
        out: dict[str, dict[str, list[Tensor]]] = {}
        for group, sums in self._sums.items():
            out[group] = {}
            for name, (inputs, rows, outputs) in sums.items():
                if self.ones:
                    outputs = torch.eye(outputs.shape[-1]).to(outputs).expand_as(outputs).clone()
                else:
                    outputs = outputs / self.calls
                tiny = torch.finfo(rows.dtype).tiny
                out[group][name] = [inputs / rows.clamp_min(tiny)[:, None, None], outputs]
        self._sums, self.calls = {}, 0
        return out


def _squares(x: Tensor, like: Tensor) -> Tensor:
    """Return `sum x x^T` `(g, k, k)` for x `(S, N, g, k)`."""
    x = x.flatten(0, 1).to(like.dtype)
    if x.shape[1] == 1:
        columns = x[:, 0].t().contiguous()
        return fused.multiply(columns, columns)[None]
    x = x.transpose(0, 1)
    return x.transpose(1, 2) @ x


def partial_traces(z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over samples of `B^T B` and `B B^T`, B the per-sample gradients.

    Args:
        z: Inputs `(S, N, g, k)`.
        gamma: Cotangents `(S, N, g, o)`.
    """
    z, gamma = z.permute(2, 1, 0, 3), gamma.permute(2, 1, 0, 3)  # (g, N, S, .)
    a = (gamma @ gamma.mT) @ z
    g = (z @ z.mT) @ gamma
    return z.flatten(1, 2).mT @ a.flatten(1, 2), gamma.flatten(1, 2).mT @ g.flatten(1, 2)


def _packed(x: Tensor) -> Tensor:
    if x.dim() < 3:
        return x
    i, j = torch.triu_indices(*x.shape[-2:], device=x.device)
    return x[:, i, j]


def _unpacked(packed: Tensor, like: Tensor) -> Tensor:
    if like.dim() < 3:
        return packed
    i, j = torch.triu_indices(*like.shape[-2:], device=like.device)
    out = torch.empty_like(like)
    out[:, i, j] = packed
    out[:, j, i] = packed
    return out


def average(
    memory: dict[str, Any],
    new: Mapping[str, Mapping[str, list[Tensor]]],
    decay: float,
    start: float = 0.0,
) -> None:
    """Update the running means in `memory["factors"]`.

    The k-th update keeps the share `min(1 - 1/k, decay)` of the old mean, so that the first one
    replaces it and early ones are plain means. With `start` above 0 the means begin at that
    multiple of the identity and every update keeps the share `decay`: a damping that fades.
    """
    memory["refreshes"] = k = memory.get("refreshes", 0) + 1
    keep = decay if start else min(1 - 1 / k, decay)
    factors = memory.setdefault("factors", {})
    for group, layers in new.items():
        mine = factors.setdefault(group, {})
        for name, pair in layers.items():
            if name not in mine:
                mine[name] = [start * torch.eye(m.shape[-1]).to(m).expand_as(m) for m in pair]
            mine[name] = [
                old.lerp(fresh, 1 - keep) for old, fresh in zip(mine[name], pair, strict=True)
            ]
