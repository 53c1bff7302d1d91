"""M-FAC: natural gradient with the empirical Fisher matrix of the last m gradients.

With g_1 .. g_m the last gradients over all parameters, the present one included,

    F = lambda I + (1/m) sum_k g_k g_k^T ,      v <- mu v + F^-1 g ,      theta <- theta - eta v ,

F^-1 g by an m x m solve (`sciml.optim.low_rank.woodbury`). Nothing but gradients is needed, at the
price of m times the memory of the parameters.

Reference: Frantar, Kurtic and Alistarh 2021, arXiv 2107.03356, the dynamic algorithm. Departures:
the m x m system is factorised anew in every step instead of updated (m^3/3 operations, small beside
the inner products, 2 m d, for d well above m^2); weight decay is decoupled; the buffer is part of
the state. Slots not yet filled count as zero gradients in 1/m.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.optim.exact import ExactOptimizer, dense_gradient, dtype_named
from sciml.optim.low_rank.woodbury import Ring
from sciml.optim.option_ranges import POSITIVE, at_least, check, number, parameters_of, switches

log = logging.getLogger("sciml")

GIB = 2**30


class MFAC(ExactOptimizer):
    """Preconditions by past gradients; for networks of up to about 1e5 parameters.

    Under DDP every rank keeps the same history of the averaged gradients.

    Args:
        params: Module, parameters or groups of them; one Fisher matrix couples them all.
        lr: Learning rate eta.
        momentum: mu, on the preconditioned direction.
        weight_decay: Decoupled decay, times lr.
        history: m.
        damping: lambda.
        relative: Whether lambda is in units of the mean squared length of the kept gradients
            over m.
        history_dtype: Precision of the kept gradients, e.g. bfloat16; None for the parameters'.
        memory_limit: GiB the kept gradients may take.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used, or a history over the limit.

    Example:
        >>> import torch
        >>> from sciml.optim import MFAC
        >>> w, wanted = torch.nn.Parameter(torch.zeros(2)), torch.tensor([0.5, -0.25])
        >>> optimizer = MFAC([w], lr=0.1, momentum=0.0, history=8, damping=1.0)
        >>> for _ in range(100):
        ...     optimizer.zero_grad()
        ...     (w - wanted).square().sum().backward()
        ...     optimizer.step()
        >>> [round(v, 2) for v in w.tolist()]
        [0.5, -0.25]
    """

    preconditions = True

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        lr: float = 1e-3,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        history: int = 512,
        damping: float = 1e-4,
        relative: bool = False,
        history_dtype: str | None = None,
        memory_limit: float = 4.0,
    ) -> None:
        number(at_least(1), history=history)
        check(damping=damping)
        number(POSITIVE, memory_limit=memory_limit)
        switches(relative=relative)
        dtype_named(history_dtype, torch.empty(0))
        params = parameters_of(params, type(self).__name__)
        self.history, self.damping, self.relative = history, damping, relative
        self.history_dtype = history_dtype
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._check(memory_limit)

    def bytes_needed(self) -> int:
        """Return the bytes of the whole state: history, inner products and momentum."""
        size = self._history_bytes() + 8 * self.history**2
        for group in self.param_groups:
            if group["momentum"]:
                size += sum(p.numel() * p.element_size() for p in group["params"])
        return size

    def update(self) -> None:
        """Take a step with the present gradients."""
        everything = [(group, p) for group in self.param_groups for p in group["params"]]
        if "gram" not in self.memory:
            device = everything[0][1].device
            size = (self.history, self.history)
            self.memory["gram"] = torch.zeros(size, dtype=torch.float64, device=device)
            self.memory["written"] = 0
        name = type(self).__name__
        pieces = [
            _real(torch.zeros_like(p) if p.grad is None else dense_gradient(p, name)).reshape(-1)
            for _, p in everything
        ]
        for (_, p), piece in zip(everything, pieces, strict=True):
            if "history" not in self.state[p]:
                dtype = dtype_named(self.history_dtype, p)
                self.state[p]["history"] = piece.new_zeros(self.history, len(piece), dtype=dtype)
        kept = [self.state[p]["history"] for _, p in everything]
        ring = Ring(kept, self.memory["gram"], self.memory["written"])
        ring.push(pieces)
        self.memory["written"] = ring.written
        weight = 1 / self.history
        # F without lambda has mean squared length over m: `relative` is in units of that.
        damping = self.damping * weight if self.relative else self.damping
        directions = ring.newest(damping, weight=weight, relative=self.relative)
        for (group, p), flat in zip(everything, directions, strict=True):
            if p.grad is not None:
                self._move(p, flat, group)

    def _move(self, p: Tensor, flat: Tensor, group: dict[str, Any]) -> None:
        direction = flat.to(_real(p).dtype).reshape(_real(p).shape)
        direction = torch.view_as_complex(direction) if p.is_complex() else direction
        if group["momentum"]:
            velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
            direction = velocity.mul_(group["momentum"]).add_(direction)
        p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])

    def _history_bytes(self) -> int:
        return self.history * self._row_bytes()

    def _row_bytes(self) -> int:
        total = 0
        for group in self.param_groups:
            for p in group["params"]:
                item = dtype_named(self.history_dtype, p).itemsize
                total += p.numel() * item * (2 if p.is_complex() else 1)
        return total

    def _check(self, limit: float) -> None:
        size = sum(p.numel() for group in self.param_groups for p in group["params"])
        needed = self._history_bytes() / GIB
        log.info("MFAC: %.3g GiB for %d gradients of %d numbers", needed, self.history, size)
        if needed <= limit:
            return
        fits = int(limit * GIB // self._row_bytes())
        hint = f"Type optimizer.history={fits}" if fits else "Type optimizer=natural_galore"
        raise InvalidArgument(
            f"MFAC with optimizer.history={self.history} on {size:,} parameters needs "
            f"{needed:.3g} GiB for past gradients",
            f"at most optimizer.memory_limit={limit:g} GiB",
            f"{hint}, optimizer.history_dtype=bfloat16, or a larger optimizer.memory_limit",
        )


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x
