"""Checks that recorded uses of layers give the whole Jacobian: no shared weights, no mixed samples.

Per-sample gradients come from one backward pass for all samples (`slots`). That is right where
every weight is used through its layer alone, and where residual n depends on sample n alone. A
residual with a mean over the batch, an integral, or a difference between points breaks the second
rule and no sum over samples shows it: the sum is right whatever row a part is booked on. So both
are compared with ordinary reverse passes, the second with random weights of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.optim.curvature.capture import Use
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.per_sample import Slots, slot_pieces, weighted_sum
from sciml.optim.curvature.terms import LossTerm


class UseCheck:
    """Looks at the terms at the first update, the second, the third, the fifth, the ninth, ...

    A residual may begin to mix samples after the first step (a square of a mean that starts at
    zero); at these intervals looking again costs nothing.

    Args:
        layers: Recorded layers by name.

    Attributes:
        mixing: Names of the terms found to mix samples so far; the same on all ranks.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.layers = layers
        self.mixing: frozenset[str] = frozenset()
        self._updates = 0

    def __call__(self, objective: Objective) -> frozenset[str]:
        """Look if it is time to, and return `mixing`; errors as of `mixing_terms`."""
        updates, self._updates = self._updates, self._updates + 1
        if not updates & (updates - 1):  # 0 or a power of two
            self.mixing |= mixing_terms(objective, self.layers)
        return self.mixing


def mixing_terms(
    objective: Objective, layers: Mapping[str, nn.Module], tolerance: float = 1e-3
) -> frozenset[str]:
    """Return the names of the terms whose residuals depend on more than their own sample.

    Args:
        objective: The loss.
        layers: Recorded layers by name.
        tolerance: Relative difference of two gradients that counts as one; more in half precision.

    Raises:
        InvalidArgument: Naming a layer whose weight or bias is used in a way the capture does not
            see. It is raised on all ranks alike.
    """
    terms, uses = objective.captured(layers)
    generator = objective.generator("row weights")
    if not layers or not terms:
        return frozenset()
    flags = [_compared(term, uses, layers, generator, tolerance) for term in terms]
    (found,) = objective.sum([torch.stack(flags).double()])
    mixing = []
    for term, (rows, *outside) in zip(terms, (found > 0).tolist(), strict=True):
        for name, elsewhere in zip(layers, outside, strict=True):
            if elsewhere:
                raise InvalidArgument(
                    f"layer '{name}', whose weight or bias the loss term '{term.name}' uses "
                    "outside the layer's own forward",
                    "weights used through their layers only",
                    "Type optimizer=adam, or exclude the layer",
                )
        if rows:
            mixing.append(term.name)
    return frozenset(mixing)


def _compared(
    term: LossTerm,
    uses: Sequence[Use],
    layers: Mapping[str, nn.Module],
    generator: torch.Generator,
    tolerance: float,
) -> Tensor:
    """Return booleans `(1 + layers,)`: whether samples mix; which layers are used elsewhere."""
    output = term.outputs
    flags = torch.zeros(1 + len(layers), dtype=torch.bool, device=output.device)
    if not output.requires_grad or not output.numel():
        return flags

    def between(*shape: int) -> Tensor:  # of one sign: little cancels in the sums
        drawn = torch.rand(shape, generator=generator, device=generator.device)
        return (0.5 + drawn).to(output)

    cotangent, rows = between(*output.shape), between(len(output))
    pieces = slot_pieces(term, uses, layers, cotangent)
    parameters = [p for layer in layers.values() for p in (layer.weight, layer.bias)]
    wanted = [p for p in parameters if p is not None and p.requires_grad]

    def true_gradients(seed: Tensor) -> dict[int, Tensor]:
        grads = torch.autograd.grad(output, wanted, seed, retain_graph=True, allow_unused=True)
        return {id(p): g for p, g in zip(wanted, grads, strict=True)}

    plain, weighted = true_gradients(cotangent), true_gradients(rows[:, None] * cotangent)
    tolerance = max(tolerance, 16 * torch.finfo(output.dtype).eps)
    for i, (name, layer) in enumerate(layers.items()):
        found = pieces.get(name, [])
        flags[1 + i] = _differ(layer, found, None, plain, tolerance)
        if any(gamma.shape[1] != len(output) for _, gamma in found):
            flags[0] = True  # the layer sees other rows than the residuals'
        else:
            flags[0] |= _differ(layer, found, rows, weighted, tolerance)
    flags[0] &= ~flags[1:].any()
    return flags


def _differ(
    layer: nn.Module,
    pieces: list[tuple[Tensor, Tensor]],
    weights: Tensor | None,
    expected: Mapping[int, Tensor | None],
    tolerance: float,
) -> Tensor:
    """Return whether the weighted sum of a layer's slots is another gradient than the true one."""
    total = layer.weight.new_zeros(len(layer.weight), layer.weight[0].numel())
    if layer.bias is not None:
        total = torch.cat([total, total.new_zeros(len(total), 1)], 1)
    for z, gamma in pieces:
        v = z.new_ones(z.shape[1]) if weights is None else weights
        total = total + weighted_sum(Slots(z, gamma, getattr(layer, "groups", 1)), v)
    parts = [(layer.weight, total if layer.bias is None else total[:, :-1])]
    if layer.bias is not None:
        parts.append((layer.bias, total[:, -1]))
    differ, size = torch.zeros((), dtype=torch.bool, device=total.device), 0.0
    for parameter, got in parts:
        if id(parameter) not in expected:  # frozen
            continue
        true = expected[id(parameter)]
        true = torch.zeros_like(got) if true is None else true.reshape(got.shape)
        # what a bias adds may be rounding beside what the weight does
        size = size + true.norm()
        differ |= (got - true).norm() > tolerance * size + torch.finfo(got.dtype).tiny
    return differ
