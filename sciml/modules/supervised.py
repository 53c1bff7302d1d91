"""What all methods share that learn from pairs of inputs and targets.

    loss = mean over the global batch of |prediction - target|^2 (mse),
           of |prediction - target|^2 / |target|^2 per sample (relative),
           or of the cross entropy of logits (classification)

A method is a subclass that says what is special to it: how a batch is predicted, further terms of
the loss, what its solver did (noted in `effort` while it predicts, logged at the end).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.data.batch import Batch
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument
from sciml.modules.evaluation.scores import Classification, Regression, everyone, score_of
from sciml.modules.evaluation.tally import Tally
from sciml.modules.training_method import TrainingMethod
from sciml.optim.curvature.terms import LossTerm, total_loss
from sciml.typed_arguments import typed


@typed
class Supervised(TrainingMethod):
    """Trains a network on the batches of a `StepData`.

    Args:
        network: Called with the inputs of a batch by name.
        data: Says what the target is.
        optimizer: Makes the optimizer from the parameters, or from the module where its first
            argument is called `module`.
        schedule: Makes the learning-rate schedule from the optimizer, stepped every step.
        loss: Loss of a regression, see the top of this file.

    Raises:
        InvalidArgument: For an unknown loss.

    Example:
        >>> import torch
        >>> from sciml.data import FieldData
        >>> from sciml.modules import Supervised
        >>> from sciml.networks import FNO
        >>> from sciml.physics.steady import Semilinear
        >>> data = FieldData(problem=Semilinear(n=20), train=4, val=2, test=2, hard=2, batch_size=2)
        >>> network = FNO(width=4, hidden=8, modes=4, blocks=1)
        >>> module = Supervised(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.loss_terms(data.batch(0).to("cpu", torch.float32))]
        ['data']
    """

    left_out: tuple[str, ...] = ()  # scores of test sets to which a subclass gives another meaning

    def __init__(
        self,
        *,
        network: nn.Module,
        data: StepData,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], object] | None = None,
        loss: Literal["mse", "relative"] = "mse",
    ) -> None:
        super().__init__(optimizer, schedule)
        self.network, self.kind, self.loss = network, data.kind, loss
        self.unit, self.names = data.unit, data.names
        self.plane, self.points = getattr(data, "plane", {}), getattr(data, "points_differ", False)
        self.scores: dict[str, Regression | Classification] = {}
        self.effort = Tally()
        self._report: dict[str, Any] = {}

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return what the network predicts."""
        return self.network(**inputs)

    # --- what a method may change -------------------------------------------------------------
    def predict_batch(self, batch: Batch) -> Tensor:
        """Return the prediction of a batch, shape of its target (or logits)."""
        return self.network(**batch.inputs)

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the terms of the loss."""
        return [self.data_term(self.predict_batch(batch), batch)]

    def test_figures(self) -> dict[str, Any]:
        """Return further entries of the test report, called on every rank."""
        return {}

    # --- the loss -----------------------------------------------------------------------------
    def data_term(
        self, prediction: Tensor, batch: Batch, weight: float = 1.0, name: str = "data"
    ) -> LossTerm:
        """Return the term that compares a prediction with the target.

        Raises:
            InvalidArgument: If the shapes differ, or for a relative loss where an instance has
                several rows.
        """
        if self.kind == "classification":
            logits, labels = prediction, batch.target
            if "weight" in batch.extra:  # rows without a label
                used = batch.extra["weight"] > 0
                logits, labels = logits[used], labels[used]
            count = batch.count or len(logits)  # 0: a chunk that is evaluated
            return LossTerm(name, logits, weight, count, "categorical", labels)
        if prediction.shape != batch.target.shape:
            raise InvalidArgument(
                f"a prediction of shape {tuple(prediction.shape)}",
                f"the target's shape {tuple(batch.target.shape)}",
            )
        rows = (prediction - batch.target).reshape(len(prediction), -1)
        if self.loss == "mse":
            rows = rows / math.sqrt(rows.shape[1])
        else:
            if batch.index is not None:
                raise InvalidArgument(
                    "module.loss=relative where an instance has several rows",
                    "one row per instance",
                    "Type module.loss=mse",
                )
            size = torch.linalg.vector_norm(batch.target.reshape(rows.shape), dim=1, keepdim=True)
            rows = rows / size.clamp_min(torch.finfo(rows.dtype).tiny)
        weighed = "weight" in batch.extra
        if weighed:  # some of the rows by 0
            rows = rows * batch.extra["weight"].sqrt()[:, None]
        count = batch.count or len(rows)  # 0: a chunk that is evaluated
        return LossTerm(name, rows, weight, count, "gaussian", idle=weighed)

    # --- evaluation ---------------------------------------------------------------------------
    def _scored(
        self, prediction: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Return prediction, target, instances and weights as scores take them.

        Where samples have points of their own `(B, P, C)`, a row is a point.
        """
        weight = batch.extra.get("weight")
        if not self.points:
            return prediction, batch.target, batch.index, weight
        samples, count = batch.target.shape[:2]
        index = torch.arange(samples).repeat_interleave(count)
        return prediction.flatten(0, 1), batch.target.flatten(0, 1), index, weight

    def on_validation_epoch_start(self) -> None:
        """Start empty scores."""
        self.scores, self._val = {"val": score_of(self.kind)}, [0.0, 0]
        self.effort = Tally()

    def validation_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk."""
        if batch is None:
            return
        prediction = self.predict_batch(batch)
        weight = batch.extra.get("weight")
        self.scores["val"].add(*self._scored(prediction, batch))
        rows = len(batch.target) if weight is None else int((weight > 0).sum())
        term = self.data_term(prediction, batch)
        term.count = 1
        self._val[0] += float(total_loss([term]))
        self._val[1] += rows

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the metrics of the validation set, and what the solver did."""
        found = self.scores["val"].gather().metrics("val")
        sums = [sum(values) for values in zip(*everyone(self._val), strict=True)]
        wanted = ("val/rel_l2", "val/r2", "val/accuracy")
        self.log("val/loss", sums[0] / max(sums[1], 1))
        self.log_dict({name: found[name] for name in wanted if name in found})
        self.log_dict(self.effort.gathered())

    def on_test_epoch_start(self) -> None:
        """Start empty scores."""
        self.scores, self._report, self.effort = {}, {}, Tally()

    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk of one of the test sets."""
        if batch is None:
            return
        score = self.scores.setdefault(batch.part, score_of(self.kind))
        beside = {"inputs": batch.inputs} if self.kind == "regression" else {}
        score.add(*self._scored(self.predict_batch(batch), batch), **beside)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of every test set and what the solver did, and keep the report."""
        parts = sorted({part for rank in everyone(list(self.scores)) for part in rank})
        whole = {p: self.scores.get(p, score_of(self.kind)).gather() for p in parts}
        metrics = {k: v for part, score in whole.items() for k, v in score.metrics(part).items()}
        metrics |= self.effort.gathered()
        metrics = {k: v for k, v in metrics.items() if k.rpartition("/")[2] not in self.left_out}
        self.log_dict(metrics)
        mark = "test/baseline/"
        self._report = {
            **(self._figures(whole["test"]) if "test" in whole else {}),
            "metrics": {k: v for k, v in metrics.items() if "/baseline/" not in k},
            "baselines": {
                k.removeprefix(mark): v for k, v in metrics.items() if k.startswith(mark)
            },
            "unit": self.unit if self.unit != "1" else "",
            "names": self.names,
            "symbol": self.names[0] if len(self.names) == 1 else "u",
            **self.test_figures(),
        }

    def _figures(self, score: Regression | Classification) -> dict[str, Any]:
        """Return what pictures show, fields with the axes that the data have."""
        found = score.figures()
        for row in found.get("fields", []) if self.plane else []:
            row |= {key: row[key].T for key in ("reference", "prediction")}  # x to the right
            row |= {"inputs": {name: value.T for name, value in row["inputs"].items()}}
            row |= self.plane
        return found

    @property
    def test_report(self) -> dict[str, Any]:
        """Return what plots and tables show, see `sciml.callbacks.plots`."""
        return self._report
