"""Natural GaLore: the projected gradient times the inverse of a low-rank Fisher matrix.

The projected gradient R of `galore` is first multiplied by the inverse of the Fisher matrix of the
last s projected gradients, F = lambda I + sum_k vec(R_k) vec(R_k)^T, the present one included
(`sciml.optim.low_rank.woodbury`).

Reference: Das 2024, arXiv 2410.16029, algorithm 1. Departure: when the basis changes, the history
is rotated into the new one; the paper's code leaves it in the old basis (`on_refresh="keep"`). The
history costs memory that the paper's table leaves out: `account()` includes it, and one log line
states it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.optim.exact import dtype_named
from sciml.optim.low_rank.galore import GaLore, as_real, basis_of
from sciml.optim.low_rank.projection import Account, account_of, fit_budget, rotate
from sciml.optim.low_rank.woodbury import Ring
from sciml.optim.option_ranges import one_of, switches


class NaturalGaLore(GaLore):
    """GaLore whose projected gradient is multiplied by the inverse of a low-rank Fisher matrix.

    Adam's division cancels any constant factor of the natural gradient; what stays is its change of
    direction. The history takes `history` times the projected gradient: mind `account()`.

    Args:
        params: Module, parameters or groups of them.
        lr: Learning rate eta.
        betas: Decay of Adam's moments.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled decay, times lr.
        rank: r.
        update_every: T, steps between two bases.
        scale: alpha; acts on projected tensors only.
        side: Projected side, as in `GaLore`.
        basis: Singular vectors of the gradient, or random ones.
        history: s, gradients kept, the present one included; 0 gives `GaLore`.
        damping: lambda.
        relative: Whether lambda is in units of the mean squared length of the kept gradients.
        on_refresh: What becomes of the history when the basis changes: rotated into the new one,
            cleared, or kept as numbers.
        history_dtype: Precision of the history, e.g. bfloat16; None for the parameters'.
        budget: Bytes the state may take; lowers `rank` and `history` in proportion where needed.
        seed: Seed of random bases.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used, or a budget that cannot be
            met.

    Example:
        >>> import torch
        >>> from sciml.optim import NaturalGaLore
        >>> matrix, wanted = torch.nn.Parameter(torch.zeros(8, 4)), torch.ones(8, 4)
        >>> optimizer = NaturalGaLore([matrix], lr=0.05, rank=2, update_every=10, scale=1.0)
        >>> for _ in range(100):
        ...     optimizer.zero_grad()
        ...     (matrix - wanted).square().sum().backward()
        ...     optimizer.step()
        >>> bool((matrix - wanted).abs().max() < 0.1)
        True
    """

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
        history: int = 20,
        damping: float = 1e-3,
        relative: bool = False,
        on_refresh: Literal["rotate", "clear", "keep"] = "rotate",
        history_dtype: str | None = None,
        budget: float | None = None,
        seed: int = 0,
    ) -> None:
        self._more = {
            "history": history,
            "damping": damping,
            "relative": relative,
            "on_refresh": on_refresh,
            "history_dtype": history_dtype,
        }
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            rank=rank,
            update_every=update_every,
            scale=scale,
            side=side,
            basis=basis,
            budget=budget,
            seed=seed,
        )

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Refuse what a group cannot mean."""
        super().check_group(group)
        one_of(("rotate", "clear", "keep"), on_refresh=group["on_refresh"])
        switches(relative=group["relative"])
        dtype_named(group["history_dtype"], torch.empty(0))

    def _account(self, parameter: Tensor, group: dict[str, Any]) -> Account:
        dtype = dtype_named(group["history_dtype"], parameter)
        return account_of(parameter, group["rank"], group["side"], group["history"], dtype)

    def _fit(self, budget: int) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        name = self.defaults["history_dtype"]
        dtype = None if name is None else dtype_named(name, parameters[0])
        limits = (self.defaults["rank"], self.defaults["side"], self.defaults["history"])
        rank, history = fit_budget(parameters, budget, *limits, dtype)
        for group in self.param_groups:
            group |= {"rank": rank, "history": history}

    def _precondition(self, low: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if group["history"] == 0:
            return low
        flat = as_real(low).reshape(-1)
        if "history" not in state:
            dtype, s = dtype_named(group["history_dtype"], low), group["history"]
            state["history"] = torch.zeros(s, len(flat), dtype=dtype, device=low.device)
            state["gram"] = torch.zeros(s, s, dtype=torch.float64, device=low.device)
            state["written"] = 0
        ring = Ring([state["history"]], state["gram"], state["written"])
        ring.push([flat])
        state["written"] = ring.written
        natural = ring.newest(group["damping"], relative=group["relative"])[0]
        natural = natural.to(flat.dtype).reshape(as_real(low).shape)
        return torch.view_as_complex(natural) if low.is_complex() else natural

    def _basis_changed(self, old: dict[str, Tensor], state: dict, group: dict) -> None:
        if "history" not in state or group["on_refresh"] == "keep":
            return
        if group["on_refresh"] == "clear":
            state["history"].zero_()
            state["gram"].zero_()
            state["written"] = 0
            return
        new, stored = basis_of(state), state["history"]
        mean = state["exp_avg"]
        for row in stored:
            low = row.to(as_real(mean).dtype).reshape(as_real(mean).shape)
            low = torch.view_as_complex(low) if mean.is_complex() else low
            row.copy_(as_real(rotate(low, old, new).contiguous()).reshape(-1))
        Ring([stored], state["gram"], state["written"]).rebuild()
