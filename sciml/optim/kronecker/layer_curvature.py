"""Kronecker-factored curvature of a network's layers: refreshed, inverted, shared, applied.

The part of K-FAC that is no optimizer: from loss terms to `F~^-1 v`. All state lives in the
optimizer's `memory`, passed to every call:

    factors     {pair: {layer: [A, G]}}, running means, the same on all ranks
    refreshes   number of updates of the factors
    bases       {layer: [left, right, left values, right values]} of the layers this rank holds
    joint       {layer: whether its basis is that of two pairs}
    inverted    step of the last decomposition
    moments     {layer: denominators}, EKFAC only, and `measured`, the number of their updates
    damping     lambda, a float64 number
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.jacobian import Jacobian
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.per_sample import joined_weight
from sciml.optim.kronecker import kronecker_sums
from sciml.optim.kronecker.factors import (
    CurvatureKind,
    FactorSums,
    TermSlots,
    average,
    factor_sizes,
    observe_terms,
)
from sciml.optim.placement import Placement

Memory = dict[str, Any]


class KroneckerPreconditioner:
    """Curvature of affine layers as Kronecker products.

    Args:
        layers: Recorded layers by name.
        kind, sharing: See `factors`.
        inverse: See `kronecker`.
        ekfac: Whether denominators are second moments of projected per-sample gradients.
        decay: Largest share of the old factors in the running means.
        start: Multiple of the identity at which the running means begin; 0 for the first batch.
        fraction: Share of the ranks that keep a layer's basis, see `placement`.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        *,
        kind: CurvatureKind,
        sharing: Literal["expand", "reduce", "trace"],
        inverse: kronecker_sums.Damping,
        ekfac: bool,
        decay: float,
        start: float,
        fraction: float,
    ) -> None:
        self.layers, self.kind, self.sharing, self.inverse = layers, kind, sharing, inverse
        self.ekfac, self.decay, self.start, self.fraction = ekfac, decay, start, fraction
        self.traffic = 0
        self._sums = FactorSums(layers, ones=kind == "forward_only", trace=sharing == "trace")
        self._seen: list[list[TermSlots]] = []
        self._placement: Placement | None = None

    # --- factors --------------------------------------------------------------------------------
    def observe(
        self,
        objective: Objective,
        jacobian: Jacobian | None = None,
        mixing: frozenset[str] = frozenset(),
    ) -> None:
        """Add what the terms show; several calls before a refresh are averaged."""
        seen = observe_terms(objective, self.layers, self.kind, self.sharing, jacobian, mixing)
        self._sums.add(seen)
        if self.ekfac:
            self._seen.append(seen)

    @property
    def pending(self) -> bool:
        """Whether something was seen since the last refresh."""
        return self._sums.calls > 0

    def refresh(self, memory: Memory, objective: Objective, step: int, invert: bool) -> None:
        """Bring the factors up to date, and the inverses if `invert` or if there are none."""
        calls, before = self._sums.calls, objective.traffic
        average(memory, self._sums.reduce(objective), self.decay, self.start)
        if invert or not memory["bases"]:
            self._invert(memory, step)
        if self.ekfac:
            self._measure(memory, objective, calls)
        self.traffic = objective.traffic - before

    def _pairs(self, memory: Memory, name: str) -> list[kronecker_sums.Pair]:
        pairs = kronecker_sums.active(layers[name] for layers in memory["factors"].values())
        return [kronecker_sums.merged(pairs)] if self.ekfac else pairs

    def _invert(self, memory: Memory, step: int) -> None:
        place, bases = self.place(), {}
        pairs = {name: self._pairs(memory, name) for name in self.layers}
        for name, mine in pairs.items():
            if place.rank == place.owner[name]:
                bases[name] = kronecker_sums.decompose(mine, memory["damping"], self.inverse)
            elif place.holds(name):
                bases[name] = self._empty(name)
        place.share_bases(bases)
        memory["bases"], memory["inverted"] = bases, step
        memory["joint"] = {name: len(mine) > 1 for name, mine in pairs.items()}
        memory["moments"], memory["measured"] = {}, 0

    def _empty(self, name: str) -> list[Tensor]:
        groups, o, k = factor_sizes(self.layers[name])
        like = self.layers[name].weight.detach()
        dtype = torch.promote_types(like.dtype, torch.float32)
        shapes = ((o, o), (k, k), (o,), (k,))
        return [like.new_empty(groups, *shape, dtype=dtype) for shape in shapes]

    def _measure(self, memory: Memory, objective: Objective, calls: int) -> None:
        """Update the second moments of projected gradients."""
        memory["measured"] = k = memory["measured"] + 1
        bases, moments = memory["bases"], memory["moments"]
        new = {
            n: torch.zeros_like(b[2][..., :, None] * b[3][..., None, :]) for n, b in bases.items()
        }
        for found in (p for seen in self._seen for s in seen for p in s.passes):
            for name, slots in found.items():
                new[name] += kronecker_sums.second_moments(bases[name], slots) / calls
        self._seen = []
        for name, fresh in zip(new, objective.sum(list(new.values())), strict=True):
            old = moments.get(name, fresh)
            moments[name] = old.lerp(fresh, 1 - min(1 - 1 / k, self.decay))

    # --- use ------------------------------------------------------------------------------------
    def divide(self, memory: Memory, given: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Return `F~^-1 v` as `[W, b]` `(d_out, d_in + 1)` by layer.

        Args:
            memory: The state.
            given: v by `id` of the parameter.

        Raises:
            InvalidArgument: If a basis that this rank should hold is missing from a loaded state.
        """
        place, found = self.place(), {}
        for name, layer in self.layers.items():
            groups, o, k = factor_sizes(layer)
            v = joined_weight(layer, given).view(groups, o, k)
            if not place.holds(name):
                found[name] = torch.empty_like(v)
                continue
            if name not in memory["bases"]:
                raise InvalidArgument(
                    f"a saved state without the inverse of layer '{name}'",
                    "one with the inverses of all ranks",
                    "Call consolidate_state_dict() on every rank before state_dict()",
                )
            basis = memory["bases"][name]
            by = self.denominator(memory, name).clamp_min(torch.finfo(basis[0].dtype).tiny)
            found[name] = kronecker_sums.divide(basis, v.to(basis[0].dtype), by).to(v.dtype)
        place.share_directions(found)
        return {name: d.flatten(0, 1) for name, d in found.items()}

    def denominator(self, memory: Memory, name: str) -> Tensor:
        """Return what the projected gradient of a layer is divided by."""
        basis, damping = memory["bases"][name], memory["damping"]
        if self.ekfac:
            return memory["moments"][name] + damping.to(basis[0].dtype)
        return kronecker_sums.denominator(basis, damping, self.inverse, memory["joint"][name])

    # --- ranks ----------------------------------------------------------------------------------
    def place(self) -> Placement:
        """Return the assignment of layers to ranks; the first call enters collectives."""
        if self._placement is None:
            joined = dist.is_available() and dist.is_initialized()
            where = (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)
            costs = {}
            for name, layer in self.layers.items():
                groups, o, k = factor_sizes(layer)
                costs[name] = float(groups * (o**3 + k**3))
            self._placement = Placement(costs, self.fraction, *where)
        return self._placement

    def complete(self, memory: Memory) -> dict[str, list[Tensor]]:
        """Return the bases of all layers, sent by their owners; all ranks must call it."""
        place, bases = self.place(), memory["bases"]
        if not memory.get("joint") or len(place.columns) == 1:
            return bases
        bases = {name: bases.get(name) or self._empty(name) for name in self.layers}
        place.collect(bases)
        return bases

    def prune(self, memory: Memory) -> None:
        """Drop bases that other ranks hold, after a complete state was loaded."""
        if self._placement is not None or (dist.is_available() and dist.is_initialized()):
            holds = self.place().holds
            memory["bases"] = {n: b for n, b in memory["bases"].items() if holds(n)}

    def statistics(self, memory: Memory) -> dict[str, float]:
        """Return mean trace and largest condition number of the factors, and messages sent."""
        factors = memory.get("factors")
        if not factors:
            return {}
        out: dict[str, float] = {"traffic": float(self.traffic)}
        for i, which in enumerate(("inputs", "outputs")):
            ms = [pair[i] for layers in factors.values() for pair in layers.values()]
            traces = [m.diagonal(dim1=-2, dim2=-1).sum(-1).mean() for m in ms]
            out[f"trace_{which}"] = float(torch.stack(traces).mean())
            tiny = torch.finfo(ms[0].dtype).eps
            worst = []
            for name, basis in memory["bases"].items():
                if not memory["joint"][name]:
                    v = basis[3 - i]
                    worst.append(
                        float((v.amax(-1) / v.amin(-1).clamp_min(tiny * v.amax(-1))).max())
                    )
            if worst:  # of layers with one pair; two are never decomposed by themselves
                out[f"condition_{which}"] = max(worst)
        return out


def split_joined(layer: nn.Module, joined: Tensor) -> list[Tensor]:
    """Return the parts of `[W, b]` in the order of the layer's parameters."""
    if layer.bias is None:
        return [joined.reshape(layer.weight.shape)]
    return [joined[:, :-1].reshape(layer.weight.shape), joined[:, -1]]


def treatable(
    module: nn.Module, max_factor: int
) -> tuple[dict[str, nn.Module], list[tuple[str, Tensor, str]]]:
    """Return the layers that are preconditioned, and the other parameters with the reason."""
    layers, reasons = {}, {}
    for name, layer in affine_layers(module).items():
        _, o, k = factor_sizes(layer)
        if max(o, k) > max_factor:
            reason = f"a factor of size {max(o, k)} above optimizer.max_factor={max_factor}"
        elif layer.bias is not None and not layer.bias.requires_grad:
            reason = "the bias of the layer is frozen"
        else:
            layers[name] = layer
            continue
        reasons |= {id(p): reason for p in layer.parameters(recurse=False)}
    inside = {id(p) for layer in layers.values() for p in layer.parameters(recurse=False)}
    rest = []
    for name, p in module.named_parameters():
        if p.requires_grad and id(p) not in inside:
            other = "complex" if p.is_complex() else "not of an affine layer"
            rest.append((name, p, reasons.get(id(p), other)))
    return layers, rest
