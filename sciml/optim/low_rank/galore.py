"""GaLore: Adam on gradients projected to a low-rank basis.

For a weight matrix with gradient M (n x m), every T steps the leading r singular vectors of its
shorter side become the basis, and Adam runs on what is seen through it:

    n <= m:  P = U[:, :r],   R = P^T M ,   theta <- theta - eta alpha P N(R)
    n >  m:  Q = V[:, :r],   R = M Q ,     theta <- theta - eta alpha N(R) Q^T

with N Adam's direction, so moments take 2 r max(n, m) numbers instead of 2 n m.

Reference: Zhao et al. 2024, arXiv 2403.03507, algorithm 2. Departures: decoupled weight decay acts
before the step and the bias correction of Adam does not touch eps, both as in torch, so that a
tensor which is not projected is treated exactly as by torch.optim.AdamW. Adam's moments stay as
they are when the basis changes, as in the paper.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sciml.optim.exact import ExactOptimizer, dense_gradient
from sciml.optim.low_rank.projection import (
    BASES,
    SIDES,
    Account,
    account_of,
    fit_budget,
    is_projected,
    lift,
    matrix_shape,
    project,
    random_basis,
    sides_of,
    singular_basis,
)
from sciml.optim.option_ranges import POSITIVE, at_least, number, one_of, parameters_of, shares

log = logging.getLogger("sciml")


class GaLore(ExactOptimizer):
    """AdamW in low-rank coordinates that follow the gradient.

    Tensors whose shorter side is at most `rank`, and vectors, get plain AdamW. Under
    `torch.distributed` all ranks must see the same gradient (as DDP gives it); each basis is then
    computed by one rank and sent to the others.

    Args:
        params: Module, parameters or groups of them, which may have their own values of all
            options.
        lr: Learning rate eta.
        betas: Decay of Adam's moments.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled decay, times lr.
        rank: r.
        update_every: T, steps between two bases.
        scale: alpha; acts on projected tensors only.
        side: Projected side: the shorter, the longer, a fixed one, or both (`full`).
        basis: Singular vectors of the gradient, or random ones.
        budget: Bytes the state may take; lowers `rank` where needed.
        seed: Seed of random bases.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used, or a budget that cannot be
            met.

    Example:
        >>> import torch
        >>> from sciml.optim import GaLore
        >>> matrix, wanted = torch.nn.Parameter(torch.zeros(8, 4)), torch.ones(8, 4)
        >>> optimizer = GaLore([matrix], lr=0.1, rank=2, update_every=10, scale=1.0)
        >>> for _ in range(100):
        ...     optimizer.zero_grad()
        ...     (matrix - wanted).square().sum().backward()
        ...     optimizer.step()
        >>> bool((matrix - wanted).abs().max() < 0.1)
        True
    """

    _more: Mapping[str, Any] = {}  # what a subclass adds to the groups' options

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        rank: int = 128,
        update_every: int = 200,
        scale: float = 0.25,
        side: Literal["short", "long", "left", "right", "full"] = "short",
        basis: Literal["svd", "random"] = "svd",
        budget: float | None = None,
        seed: int = 0,
    ) -> None:
        number(at_least(0), seed=seed)
        if budget is not None:
            number(POSITIVE, budget=budget)
        self.seed = seed
        defaults = {
            "lr": lr,
            "betas": shares(betas, 2),
            "eps": eps,
            "weight_decay": weight_decay,
            "rank": rank,
            "update_every": update_every,
            "scale": scale,
            "side": side,
            "basis": basis,
        }
        params = parameters_of(params, type(self).__name__)
        super().__init__(params, {**defaults, **self._more})
        if budget is not None:
            self._fit(int(budget))
        log.info("%s: %s", type(self).__name__, self.account())

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Refuse what a group cannot mean."""
        super().check_group(group)
        number(POSITIVE, scale=group["scale"])
        one_of(SIDES, side=group["side"])
        one_of(BASES, basis=group["basis"])

    def account(self) -> Account:
        """Return the bytes the state takes once every parameter has had a gradient."""
        total = Account()
        for group in self.param_groups:
            for p in group["params"]:
                total += self._account(p, group)
        return total

    def update(self) -> None:
        """Take a step with the present gradients."""
        work, index = [], -1
        for group in self.param_groups:
            for p in group["params"]:
                index += 1
                if p.grad is None:
                    continue
                grad = dense_gradient(p, type(self).__name__)
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                work.append((index, p, grad, state, group))
        projected = [w for w in work if is_projected(w[1].shape, w[-1]["rank"])]
        self._refresh([w for w in projected if (w[3]["step"] - 1) % w[-1]["update_every"] == 0])
        for _, p, grad, state, group in work:
            if is_projected(p.shape, group["rank"]):
                self._low_rank_step(p, grad.reshape(matrix_shape(p.shape)), state, group)
            else:
                _adamw_step(p, grad, state, group)

    # --- what Natural GaLore adds ---------------------------------------------------------------
    def _account(self, parameter: Tensor, group: dict[str, Any]) -> Account:
        return account_of(parameter, group["rank"], group["side"])

    def _fit(self, budget: int) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        rank, _ = fit_budget(parameters, budget, self.defaults["rank"], self.defaults["side"])
        for group in self.param_groups:
            group["rank"] = rank

    def _precondition(self, low: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        return low

    def _basis_changed(self, old: dict[str, Tensor], state: dict, group: dict) -> None:
        pass

    # --- parts ----------------------------------------------------------------------------------
    def _low_rank_step(self, p: Tensor, matrix: Tensor, state: dict, group: dict) -> None:
        basis = basis_of(state)
        low = self._precondition(project(matrix, basis), state, group)
        beta1, beta2 = group["betas"]
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(low)
            state["exp_avg_sq"] = torch.zeros_like(low.real if low.is_complex() else low)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(low, 1 - beta1)
        squared = low.real.square() + low.imag.square() if low.is_complex() else low.square()
        square.lerp_(squared, 1 - beta2)
        root = (square / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
        direction = lift(mean / root, basis).reshape(p.shape)
        length = group["lr"] * group["scale"] / (1 - beta1 ** state["step"])
        p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=length)

    def _refresh(self, due: list[tuple]) -> None:
        """Give the listed parameters new bases, the same on every rank."""
        world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        rank = dist.get_rank() if world > 1 else 0
        fresh: list[dict[str, Tensor]] = []
        for turn, (index, p, grad, state, group) in enumerate(due):
            matrix, r = grad.reshape(matrix_shape(p.shape)), group["rank"]
            sides = sides_of(p.shape, group["side"])
            if group["basis"] == "random":
                fresh.append(random_basis(matrix, r, sides, (self.seed, index, state["step"])))
            elif turn % world == rank:
                fresh.append(singular_basis(matrix, r, sides))
            else:
                sizes = dict(zip(("left", "right"), matrix.shape, strict=True))
                fresh.append({s: matrix.new_empty(sizes[s], r) for s in sides})
        for turn, (basis, (_, _, _, state, group)) in enumerate(zip(fresh, due, strict=True)):
            for side in basis:
                if world > 1:
                    columns = basis[side]
                    real = torch.view_as_real(columns) if columns.is_complex() else columns
                    dist.broadcast(real, src=turn % world)
            old = basis_of(state)
            state |= {f"basis_{side}": columns for side, columns in basis.items()}
            if old:
                self._basis_changed(old, state, group)


def basis_of(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the bases a parameter's state holds, by side."""
    keys = {"left": "basis_left", "right": "basis_right"}
    return {side: state[key] for side, key in keys.items() if key in state}


def as_real(x: Tensor) -> Tensor:
    """Return a tensor, complex numbers as pairs."""
    return torch.view_as_real(x) if x.is_complex() else x


def _adamw_step(p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """AdamW in the order of operations of torch, so that results agree bit for bit."""
    beta1, beta2 = group["betas"]
    if "exp_avg" not in state:
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
    mean, square = as_real(state["exp_avg"]), as_real(state["exp_avg_sq"])
    grad, values, step = as_real(grad), as_real(p), state["step"]
    p.mul_(1 - group["lr"] * group["weight_decay"])
    mean.lerp_(grad, 1 - beta1)
    square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    root = (square.sqrt() / (1 - beta2**step) ** 0.5).add_(group["eps"])
    values.addcdiv_(mean, root, value=-group["lr"] / (1 - beta1**step))
