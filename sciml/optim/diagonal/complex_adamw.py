"""AdamW for networks with complex weights: one length per weight, whatever its phase.

    m <- b1 m + (1 - b1) g,      v <- b2 v + (1 - b2) |g|^2          |g|^2 = g conj(g), real
    theta <- theta - lr sqrt(1 - b2^k) / (1 - b1^k) m / (sqrt(v) + eps) - lr wd theta

torch's Adam takes a complex number for two real ones: the step then depends on where the origin of
phases lies, which for a Fourier coefficient is where the origin of coordinates lies, and is up to
sqrt(2) times as long. Here the step of e^{i a} g is e^{i a} times that of g.

eps stands beside sqrt(v) as it is accumulated, before the correction for its start at zero (the
efficient order of algorithm 1, section 2 of the reference). In the first steps it is thus larger by
1 / sqrt(1 - b2^k), 30 times at k = 1: weights with small gradients begin slowly.

This is the optimizer of the neuraloperator library (`neuralop.training.AdamW`), to rounding. Its
FNO ends half a point of nine percent lower on its Darcy files with it than with torch's AdamW, see
docs/own_data.md.

Reference: Kingma, Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980; Loshchilov,
Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from sciml.optim.exact import ExactOptimizer, dense_gradient
from sciml.optim.flat import real
from sciml.optim.option_ranges import POSITIVE, number, parameters_of, shares


class ComplexAdamW(ExactOptimizer):
    """AdamW with one second moment per complex weight; real weights have theirs.

    Args:
        params: Module, parameters or groups.
        lr: Learning rate.
        betas: Shares of both moments kept by a step.
        eps: Beside the root of the second moment, before the correction for its start.
        weight_decay: Decoupled decay, times lr.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import ComplexAdamW
        >>> weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))
        >>> optimizer = ComplexAdamW([weight], lr=0.1)
        >>> for _ in range(200):
        ...     optimizer.zero_grad()
        ...     (weight - (1 + 2j)).abs().square().sum().backward()
        ...     optimizer.step()
        >>> bool((weight - (1 + 2j)).abs().max() < 0.05)
        True
    """

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        number(POSITIVE, lr=lr, eps=eps)
        defaults = {"lr": lr, "betas": shares(betas, 2), "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters_of(params, type(self).__name__), defaults)

    def update(self) -> None:
        """Take a step with the present gradients."""
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            b1, b2 = group["betas"]
            by_step: dict[int, list[nn.Parameter]] = {}
            for p in moving:
                state = self.state[p]
                if not state:
                    state["m"] = torch.zeros_like(real(p))
                    state["v"] = torch.zeros_like(p.real if p.is_complex() else p)
                state["step"] = state.get("step", 0) + 1
                by_step.setdefault(state["step"], []).append(p)
            for k, now in by_step.items():  # all parameters, but for some without early gradients
                grads = [dense_gradient(p, type(self).__name__) for p in now]
                ms, vs = ([self.state[p][name] for p in now] for name in "mv")
                torch._foreach_lerp_(ms, [real(g) for g in grads], 1 - b1)
                squares = [real(g).square() for g in grads]
                squares = [s.sum(-1) if p.is_complex() else s
                           for s, p in zip(squares, now, strict=True)]  # fmt: skip
                torch._foreach_lerp_(vs, squares, 1 - b2)
                roots = torch._foreach_sqrt(vs)
                torch._foreach_add_(roots, group["eps"])
                roots = [r[..., None] if p.is_complex() else r
                         for r, p in zip(roots, now, strict=True)]  # fmt: skip
                values = [real(p) for p in now]
                length = group["lr"] * (1 - b2**k) ** 0.5 / (1 - b1**k)
                torch._foreach_addcdiv_(values, ms, roots, value=-length)
                if group["weight_decay"]:
                    torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
