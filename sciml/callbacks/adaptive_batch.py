"""More points as soon as the gradient drowns in their noise: the norm test of adaptive batches.

With g the gradient of the global batch of b points and V the variance of g (trace of its covariance
under fresh points), the batch is large enough while `V <= eta^2 |g|^2`; otherwise it grows to

    b <- ceil(b V / (eta^2 |g|^2)),     which is ceil(Var(grad f_i) / (eta^2 |g|^2)).

V is estimated from the gradients of single samples, `V = N / (N - 1) sum_n |g_n - g / N|^2` with
`g = sum_n g_n`, summed over loss terms, or from the gradients of R ranks, `V = var(g_r) / R`. Both
see only what differs between samples (or ranks): directions that all points of a step share add
noise that more points do not remove, and rightly count in the second form alone, where ranks draw
their own.

Reference: Lau, Li, Xu, Liu, Kolar, "AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient
Methods", arXiv 2402.11215 (after Byrd et al. 2012). Departures: several loss terms, whose point
numbers grow by one factor; any optimizer; tested every few steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.per_sample import layer_rows, term_slots
from sciml.optim.curvature.terms import LossTerm, total_loss
from sciml.optim.curvature.uses import mixing_terms
from sciml.optim.flat import flatten
from sciml.typed_arguments import typed


@typed
class AdaptiveBatch(pl.Callback):
    """Grows `data.points` and `data.condition_points` when the norm test fails.

    Point numbers follow from the run's own numbers, equal on all ranks, and travel in the
    checkpoint: a resumed run draws what the interrupted one would have drawn.

    Args:
        tolerance: eta, the relative noise of the gradient that is accepted.
        every: Steps between two tests; a test costs about one more gradient.
        limit: Most interior points per step and rank.
        variance: `samples` or `ranks`; None for samples on one rank, else ranks.

    Raises:
        InvalidArgument: For numbers out of range.

    Example:
        >>> from sciml.callbacks import AdaptiveBatch
        >>> callback = AdaptiveBatch(tolerance=0.5, every=100)  # or callbacks=adaptive_batch
        >>> callback.tolerance, callback.every
        (0.5, 100)
    """

    def __init__(
        self,
        *,
        tolerance: float = 0.3,
        every: int = 50,
        limit: int = 10_000,
        variance: Literal["samples", "ranks"] | None = None,
    ) -> None:
        if not 0 < tolerance:
            raise InvalidArgument(f"callbacks.adaptive_batch.tolerance={tolerance}", "above 0")
        if every < 1 or limit < 1:
            raise InvalidArgument(
                f"callbacks.adaptive_batch.every={every}, limit={limit}", "positive integers"
            )
        if variance not in ("samples", "ranks", None):
            raise InvalidArgument(
                f"callbacks.adaptive_batch.variance={variance}", "samples, ranks or null"
            )
        self.tolerance, self.every, self.limit, self.variance = tolerance, every, limit, variance
        self.sizes: dict[str, int] = {}
        self._batch: object = None
        self._waiting = False

    # --- what is seen ---------------------------------------------------------------------------
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the point numbers of a resumed run.

        Raises:
            InvalidArgument: Where the test would measure something else.
        """
        data = trainer.datamodule
        if not hasattr(data, "points") or not hasattr(pl_module, "watchers"):
            raise InvalidArgument(
                f"callbacks=adaptive_batch for {type(pl_module).__name__}",
                "collocation points and a TrainingMethod with loss_terms(batch)",
                "Type callbacks=default",
            )
        if data.share_points:
            raise InvalidArgument(
                "callbacks=adaptive_batch with data.share_points=true",
                "points of its own on every rank",
                "Type data.share_points=false, or callbacks=default",
            )
        if trainer.accumulate_grad_batches != 1:
            raise InvalidArgument(
                f"callbacks=adaptive_batch with trainer.accumulate_grad_batches="
                f"{trainer.accumulate_grad_batches}",
                "one batch per step",
                "Type data.points=N instead of accumulating",
            )
        if self.variance == "ranks" and trainer.world_size == 1:
            raise InvalidArgument(
                "callbacks.adaptive_batch.variance=ranks on one rank", "two ranks or more",
                "Type callbacks.adaptive_batch.variance=samples",
            )  # fmt: skip
        pl_module.watchers.append(self._see)
        for name, value in self.sizes.items():
            setattr(data, name, value)
        self.sizes = {"points": data.points, "condition_points": data.condition_points}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Wait for the batch that the training step works on, where a test is due."""
        self._waiting, self._batch = trainer.global_step % self.every == 0, None

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        if self._see in getattr(pl_module, "watchers", []):
            pl_module.watchers.remove(self._see)

    def _see(self, batch: Any, terms: Sequence[LossTerm]) -> None:
        """Keep the batch that the training step works on, where a test is due."""
        if self._waiting and self._batch is None:
            self._batch = batch

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Test with the gradient of the step, before the parameters change."""
        if not self._waiting or self._batch is None:
            return
        self._waiting, batch, self._batch = False, self._batch, None
        objective = Objective(lambda: pl_module.loss_terms(batch), step=trainer.global_step)
        variance = self.variance or ("samples" if objective.world == 1 else "ranks")
        measure = sample_noise if variance == "samples" else rank_noise
        noise, square = measure(objective, pl_module)
        objective.forget()
        factor = float(noise) / max(self.tolerance**2 * float(square), 1e-300)
        pl_module.log("train/gradient_noise", math.sqrt(factor) * self.tolerance)
        self._grow(trainer.datamodule, factor)
        pl_module.log("train/points", float(self.sizes["points"]))

    def _grow(self, data: pl.LightningDataModule, factor: float) -> None:
        factor = min(factor, self.limit / self.sizes["points"])
        if factor > 1:
            # A last bit that differs between machines must not decide about a point.
            grown = {k: math.ceil(n * factor * (1 - 1e-9)) for k, n in self.sizes.items()}
            self.sizes = {k: max(n, self.sizes[k]) for k, n in grown.items()}
            for name, value in self.sizes.items():
                setattr(data, name, value)

    # --- resume ---------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, int]:
        """Return the point numbers."""
        return dict(self.sizes)

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Take over point numbers; set when training starts."""
        self.sizes = dict(state_dict)


def sample_noise(objective: Objective, module: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Return V and |g|^2 over the global batch, from the gradients of single samples.

    Of the weights of affine layers: their samples' gradients come from one backward pass.
    """
    layers = affine_layers(module)
    mixing = mixing_terms(objective, layers)
    if mixing:
        raise InvalidArgument(
            f"callbacks.adaptive_batch.variance=samples with the loss terms {sorted(mixing)}, "
            "which mix the samples of a batch",
            "residuals that depend on their own sample alone",
            "Type callbacks=default, or callbacks.adaptive_batch.variance=ranks on several ranks",
        )
    terms, uses = objective.captured(layers)
    squares, sums = [], []
    for term in terms:
        slots = term_slots(term, uses, layers, term.scale * term.slope())
        square, total = torch.zeros(1, dtype=torch.float64), []
        for name, layer in layers.items():
            if name in slots:
                rows = layer_rows(slots[name]).double()
                square = square.to(rows.device) + rows.square().sum()
                total.append(rows.sum(0).flatten())
            else:
                width = layer.weight.numel() + (0 if layer.bias is None else layer.bias.numel())
                total.append(layer.weight.new_zeros(width, dtype=torch.float64))
        squares.append(square)
        sums.append(torch.cat(total))
    found = objective.sum([*squares, *sums])
    squares, sums = found[: len(terms)], found[len(terms) :]
    noise = 0
    for term, square, total in zip(terms, squares, sums, strict=True):
        n = term.count
        if n > 1:
            noise = noise + n / (n - 1) * (square[0] - total.square().sum() / n).clamp_min(0)
    return noise, sum(sums).square().sum()


def rank_noise(objective: Objective, module: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Return V and |g|^2 from the gradients of the ranks, all parameters."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    with torch.enable_grad():
        loss = total_loss(objective.terms(), objective.world)
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = zip(grads, parameters, strict=True)
    mine = flatten([torch.zeros_like(p) if g is None else g for g, p in pairs])
    total, squares = objective.sum([mine, mine.square().sum().reshape(1)])
    world = objective.world
    square = (total / world).square().sum()
    return (squares[0] - world * square).clamp_min(0) / (world - 1) / world, square
