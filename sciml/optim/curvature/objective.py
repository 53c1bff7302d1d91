"""The loss of the present step as a curvature optimizer sees it, on one process or many.

    objective = Objective(lambda: loss_terms(network, batch))
    optimizer.update_curvature(objective)
    optimizer.step()

In a Lightning run the curvature callback makes it. All sums over samples are sums over the global
batch: whatever an optimizer computes from its own rank's terms it passes through `sum`, and the
result does not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from sciml.arguments import function, maybe, takes, whole
from sciml.autodiff.streams import Streams
from sciml.optim.curvature.capture import Capture
from sciml.optim.curvature.terms import LossTerm, total_loss
from sciml.optim.flat import assign, flatten, unflatten


class Evaluation(NamedTuple):
    """Global loss and gradient at one point, in float64.

    Attributes:
        loss: The loss.
        gradient: `(n,)`, laid out as by `sciml.optim.flat.flatten`.
        marks: Every term's loss and sum of outputs: equal on the same batch at the same
            parameters, different on another batch.
    """

    loss: Tensor
    gradient: Tensor
    marks: Tensor


class Objective:
    """The terms of the loss on the batch of one step.

    Args:
        evaluate: Returns the terms at the present parameters; called again, it must use the same
            batch and the same random directions.
        seed: Seed of probes.
        step: Number of the step, which together with the seed names the probes.
        given: Terms already evaluated at the present parameters, with graph.
        uses: Layer uses recorded while `given` was evaluated.
        group: Process group; None for the default group.
        batched: Maps parameters with a leading axis of K variants to this rank's K losses, see
            `sciml.optim.gradient_free.zeroth_order.forward_parallel`; None where variants go one by
            one.

    Attributes:
        rank, world: This process and their number; 0 and 1 without `torch.distributed`.
        traffic: Numbers sent through `sum` and `gather` so far.
        evaluations: How often `evaluate` has been called.
    """

    @takes(evaluate=function, seed=whole, step=whole, batched=maybe(function))
    def __init__(
        self,
        evaluate: Callable[[], Sequence[LossTerm]],
        *,
        seed: int = 0,
        step: int = 0,
        given: Sequence[LossTerm] | None = None,
        uses: list | None = None,
        group: dist.ProcessGroup | None = None,
        batched: Callable[[Sequence[Tensor]], Tensor] | None = None,
    ) -> None:
        self.batched = batched
        self._evaluate, self._given, self._uses = evaluate, given, uses
        self.seed, self.step, self.group = seed, step, group
        joined = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank(group) if joined else 0
        self.world = dist.get_world_size(group) if joined else 1
        self.traffic = 0
        self.evaluations = 0

    def terms(self) -> list[LossTerm]:
        """Return the terms at the present parameters, with graph."""
        if self._given is None:
            self.evaluations += 1
            with torch.enable_grad():
                self._given = list(self._evaluate())
        return list(self._given)

    def captured(self, layers) -> tuple[list[LossTerm], list]:
        """Return terms and the recorded uses of `layers` in them (`capture`)."""
        if self._uses is None:
            self.evaluations += 1
            with Capture(layers) as capture, torch.enable_grad():
                self._given = list(self._evaluate())
            self._uses = capture.uses
        return list(self._given), self._uses

    def evaluated(self) -> list[LossTerm]:
        """Return the terms at the present parameters anew, without graph."""
        self.evaluations += 1
        with torch.no_grad():
            return list(self._evaluate())

    def loss(self) -> Tensor:
        """Return the global loss at the present parameters, float64, without graph."""
        value = total_loss(self.evaluated()).double().reshape(1)
        return self.sum([value])[0][0]

    def gradient(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradient of the global loss, one tensor per parameter; terms stay alive."""
        terms = self.terms()
        grads: Sequence[Tensor | None] = [None] * len(parameters)
        with torch.enable_grad():
            loss = total_loss(terms)
        if loss.requires_grad:
            grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(grads, parameters, strict=True)
        return self.sum([torch.zeros_like(p) if g is None else g for g, p in pairs])

    def loss_and_gradient(
        self, parameters: Sequence[Tensor], known: Evaluation | None = None
    ) -> Evaluation:
        """Return global loss and gradient at the present parameters, the same on all ranks.

        Terms that are there already are taken, and their graph is freed.

        Args:
            parameters: In the order of the gradient; complex ones count as pairs.
            known: An earlier evaluation, returned if its marks are those of the present terms.
        """
        terms = self.terms()
        self.forget()
        with torch.enable_grad():
            parts = [term.loss() for term in terms]
            loss = sum(parts)
        marks = torch.stack([*parts, *(term.residual.sum() for term in terms)]).detach().double()
        (marks,) = self.sum([marks])
        if known is not None and torch.equal(marks, known.marks):
            return known
        grads: Sequence[Tensor | None] = [None] * len(parameters)
        if loss.requires_grad:
            grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = zip(grads, parameters, strict=True)
        gradient = flatten([torch.zeros_like(p) if g is None else g for g, p in pairs])
        (gradient,) = self.sum([gradient])
        return Evaluation(marks[: len(terms)].sum(), gradient, marks)

    def losses(self, points: Tensor, parameters: Sequence[Tensor], chunk: int = 1) -> Tensor:
        """Return the global losses `(K,)`, float64, at K points in one message over the ranks.

        Without gradients anywhere. The parameters are as before afterwards.

        Args:
            points: `(K, n)`, laid out as `sciml.optim.flat.flatten(parameters)`.
            parameters: What the points replace.
            chunk: Points evaluated at once, where the objective has a `batched` evaluation.
        """
        self.evaluations += len(points)
        with torch.no_grad():
            if self.batched is not None:
                parts = [self.batched(unflatten(p, parameters)) for p in points.split(chunk)]
                found = torch.cat(parts).double()
            else:
                before = [p.detach().clone() for p in parameters]
                found = torch.empty(len(points), dtype=torch.float64, device=points.device)
                try:
                    for k, point in enumerate(points):
                        assign(point, parameters)
                        found[k] = total_loss(self._evaluate())
                finally:
                    for p, value in zip(parameters, before, strict=True):
                        p.copy_(value)
        return self.sum([found])[0]

    def forget(self) -> None:
        """Drop terms and graph, after the parameters have changed or the step is over."""
        self._given = self._uses = None

    # --- ranks ------------------------------------------------------------------------------
    def generator(self, purpose: str, *, common: bool = False, device="cpu") -> torch.Generator:
        """Return a generator for probes; ranks draw different numbers unless `common`."""
        streams = Streams(self.seed, self.step, self.rank, self.world, device)
        return streams.generator(purpose, common=common)

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors summed over ranks, in one message per dtype."""
        tensors = list(tensors)
        if self.world == 1:
            return tensors
        out: list[Tensor] = list(tensors)
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            chosen = [i for i, t in enumerate(tensors) if t.dtype == dtype]
            flat = torch.cat([tensors[i].detach().reshape(-1) for i in chosen])
            dist.all_reduce(flat, group=self.group)
            self.traffic += flat.numel()
            pieces = flat.split([tensors[i].numel() for i in chosen])
            for i, piece in zip(chosen, pieces, strict=True):
                out[i] = piece.reshape(tensors[i].shape)
        return out

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return every rank's tensor, in rank order; their first sizes may differ."""
        if self.world == 1:
            return [tensor]
        size = torch.tensor([len(tensor)], device=tensor.device)
        sizes = [torch.empty_like(size) for _ in range(self.world)]
        dist.all_gather(sizes, size, group=self.group)
        lengths = [int(s) for s in sizes]
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])
        padded[: len(tensor)] = tensor.detach()
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded, group=self.group)
        self.traffic += padded.numel() * self.world
        return [part[:n] for part, n in zip(parts, lengths, strict=True)]
