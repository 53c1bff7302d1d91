"""Operators between fields of people's own files: pairs, or trajectories by roll-outs.

    relative   loss = mean over samples of |(u_theta(a) - u) / s|^2 / |u / s|^2
    h1         the same with the differences between neighbouring points beside the values
    mse        mean over samples and points of |(u_theta(a) - u) / s|^2

With `squared=False` the first two are means of the norms themselves, which the test reports and the
neuraloperator library trains: samples with large errors have no more weight than others. Rows of
such a loss are divided by the root of their norm, held constant (iteratively reweighted least
squares), so that its value is half of the mean and its gradient that of the whole.

s is the size of each output, so that a pressure in Pa does not hide a velocity in m/s. In a
roll-out of several calls the loss is over all of them; with `pushforward` over the last one alone,
and gradients do not flow through those before (Brandstetter et al. 2022, arXiv 2202.03376).

With `equation`, the loss has the equation's residual r as well (PINO, Li et al. 2021, arXiv
2111.03794), `physics` times the mean of r^2 over points, on the grid and the times of the data.

The test compares with what needs no training, see `sciml.modules.evaluation.operator_report`.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.data.field_files import FieldFiles
from sciml.errors import InvalidArgument
from sciml.modules.evaluation.operator_report import KNOWN, OperatorReport
from sciml.modules.evaluation.scores import Regression
from sciml.modules.supervised import Supervised
from sciml.networks.fields import FieldNetwork
from sciml.optim.curvature.terms import LossTerm
from sciml.physics.constraints.penalty import SoftConstraint
from sciml.typed_arguments import typed


@typed
class SupervisedOperator(Supervised):
    """Trains a field network on files.

    Args:
        network: Of `sciml.networks.fields`.
        data: The files.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.
        loss: See the top of this file.
        squared: Whether the relative error of a sample counts by its square.
        pushforward: Whether only the last call of a roll-out is trained.
        baselines: Whether the test compares with regressions.
        equation: Of `sciml.physics.constraints`, on the grid of the output, whose first axis is
            time where the equation has one; None for none.
        physics: Weight of its residual.

    Raises:
        InvalidArgument: For an unknown loss, or an equation on another grid than the output's.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from sciml.data import FieldFiles
        >>> from sciml.modules import SupervisedOperator
        >>> from sciml.networks.fields import GridFNO
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     x, y = np.random.rand(2, 20, 8, 8)
        ...     np.savez(f"{folder}/pairs.npz", x=x, y=y)
        ...     data = FieldFiles(path=f"{folder}/pairs.npz", batch_size=4)
        >>> network = GridFNO(data.sizes["fields"], width=4, modes=4, layers=1, hidden=4)
        >>> module = SupervisedOperator(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.loss_terms(data.batch(0).to("cpu", torch.float32))]
        ['data']
    """

    left_out = ("skill",)  # over the best constant; here it is over the best of all baselines

    def __init__(
        self,
        *,
        network: FieldNetwork,
        data: FieldFiles,
        optimizer: Any,
        schedule: Any = None,
        loss: Literal["relative", "h1", "mse"] = "relative",
        squared: bool = True,
        pushforward: bool = False,
        baselines: bool = True,
        equation: Any = None,
        physics: float = 0.0,
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if loss == "mse" and not squared:
            raise InvalidArgument("module.loss=mse with module.squared=false", "a relative loss")
        if not isinstance(network, FieldNetwork):
            raise InvalidArgument(
                f"network={type(network).__name__} for files of fields",
                "an operator between fields",
                "Type network=field_fno, or model=fno, model=unet, ...",
            )
        self.loss, self.squared = loss, squared
        self.pushforward, self.baselines = pushforward, baselines
        self.files, self.fields = data, network.fields
        scale = torch.tensor(data.sizes["fields"]["scale"], dtype=torch.float64)
        self.register_buffer("scale", scale.float().reshape(-1, *[1] * self.fields.dim))
        self.report = OperatorReport(network, data, self.weighed, baselines)
        self.physics, self.equation = float(physics), equation
        self._check_equation()
        if getattr(network, "pod", False):
            given, target = data.known("train", KNOWN)
            known = target[:, : self.fields.out_channels]
            network.learn_modes(network.remainder(self.fields.pack(given), known))

    def _check_equation(self) -> None:
        if self.equation is None:
            if self.physics:
                raise InvalidArgument(
                    f"module.physics={self.physics} without module.equation",
                    "an equation of sciml.physics.constraints",
                    "Type module.equation={_target_: ..., problem: {...}}",
                )
            return
        f = self.fields
        timed = "t" in self.equation.axes
        times = f.outputs[0].sizes.get("t", 1)
        sizes = (times, *f.size) if timed else tuple(f.size)
        alone = len(f.outputs) == 1 and f.out_channels == (times if timed else 1) and not f.bundle
        if not alone or tuple(self.equation.sizes) != sizes:
            raise InvalidArgument(
                f"module.equation on a grid of {tuple(self.equation.sizes)} points, axes "
                f"{', '.join(self.equation.axes)}",
                f"one output on that grid; here {', '.join(o.name for o in f.outputs)} has {sizes}",
                "Set points, times and horizon of module.equation.problem",
            )
        self.imposed = SoftConstraint(self.equation)

    def residual(self, value: Tensor, batch: Batch) -> Tensor:
        """Return the residual of the equation `(B, points)` of outputs `(B, C, *space)`."""
        field = value if "t" in self.equation.axes else value[:, 0]
        packed = self.fields.pack(batch.inputs)[:, : self.equation.in_channels]
        return self.imposed.residual(field, packed).flatten(1)

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the data's term, and the equation's where there is one."""
        prediction = self.predict_batch(batch)
        terms = [self.data_term(prediction, batch)]
        if self.physics:
            rows = self.residual(prediction, batch)
            rows = (rows / rows.shape[1] ** 0.5).to(prediction.dtype)
            terms.append(LossTerm("physics", rows, self.physics, batch.count, "residual"))
        return terms

    # --- the loss -----------------------------------------------------------------------------
    def predict_batch(self, batch: Batch) -> Tensor:
        """Return the outputs of all calls of the network `(B, calls * C, *space)`."""
        calls = batch.target.shape[1] // self.fields.out_channels
        packed = self.fields.pack(batch.inputs)
        if calls == 1:
            return self.network.step(packed, batch.extra.get("solved"))
        if not (self.pushforward and self.training):
            return self.network.unrolled(packed, calls).flatten(1, 2)
        with torch.no_grad():
            before = self.network.unrolled(packed, calls - 1)
            for found in before.unbind(1):
                packed = self.fields.advanced(packed, found)
        return torch.cat([before.flatten(1, 2), self.network.step(packed)], 1)

    def data_term(
        self, prediction: Tensor, batch: Batch, weight: float = 1.0, name: str = "data"
    ) -> LossTerm:
        """Return the term that compares a prediction with the target."""
        target = batch.target
        if prediction.shape != target.shape:
            raise InvalidArgument(
                f"a prediction of shape {tuple(prediction.shape)}",
                f"the target's shape {tuple(target.shape)}",
            )
        calls = target.shape[1] // self.fields.out_channels
        if self.pushforward and self.training and calls > 1:
            last = self.fields.out_channels
            prediction, target, calls = prediction[:, -last:], target[:, -last:], 1
        scale = self.scale.repeat(calls, *[1] * self.fields.dim)
        error, size = (prediction - target) / scale, target / scale
        rows = error.flatten(1)
        if self.loss == "h1":
            rows = torch.cat([rows, *_slopes(error)], 1)
        if self.loss == "mse":
            rows = rows / rows.shape[1] ** 0.5
        else:
            whole = size.flatten(1)
            if self.loss == "h1":
                whole = torch.cat([whole, *_slopes(size)], 1)
            norm = torch.linalg.vector_norm(whole, dim=1, keepdim=True)
            least = torch.finfo(rows.dtype).tiny ** 0.5
            rows = rows / norm.clamp_min(least)
            if not self.squared:
                found = torch.linalg.vector_norm(rows.detach(), dim=1, keepdim=True)
                rows = rows / (2 * found.clamp_min(least)).sqrt()
        return LossTerm(name, rows, weight, batch.count or len(rows), "gaussian")

    # --- evaluation ---------------------------------------------------------------------------
    def weighed(self, value: Tensor) -> Tensor:
        """Return outputs over their sizes where there are several, which makes them comparable."""
        if len(self.fields.outputs) == 1:
            return value
        calls = value.shape[1] // self.fields.out_channels
        return value / self.scale.to(value).repeat(calls, *[1] * self.fields.dim)

    def validation_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk."""
        if batch is None:
            return
        prediction = self.predict_batch(batch)
        self.scores["val"].add(self.weighed(prediction), self.weighed(batch.target))
        rows = self.data_term(prediction, batch).residual
        self._val[0] += float(rows.square().sum())
        self._val[1] += len(rows)

    def on_train_start(self) -> None:
        """Start the clock beside which reading is measured."""
        self._began, self._waited = time.perf_counter(), self.files.rows.waited

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Now and then log the share of the time that went into reading files."""
        rows = self.files.rows
        if not rows.held and self.global_step % self.trainer.log_every_n_steps == 0:
            spent = time.perf_counter() - self._began
            self.log("data/share_of_time_reading", (rows.waited - self._waited) / max(spent, 1e-9))

    def on_test_epoch_start(self) -> None:
        """Start empty scores, and learn the baselines on the first rank's own."""
        super().on_test_epoch_start()
        self.report.start()

    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk of one of the test sets, and what needs no training beside it."""
        if batch is None:
            return
        prediction, target = self.predict_batch(batch), batch.target
        score = self.scores.setdefault(batch.part, Regression())
        score.add(self.weighed(prediction), self.weighed(target))
        self.report.add(batch, prediction)
        if self.equation is not None and list(target.shape[2:]) == self.fields.size:
            for name, value in (("residual", prediction), ("residual_of_data", target)):
                size = self.residual(value, batch).square().mean(1).sqrt()
                self.report.figures.mean(f"{batch.part}/{name}", size.cpu())

    def on_test_epoch_end(self) -> None:
        """Log scores, bands and baselines, and keep the report."""
        super().on_test_epoch_end()
        report = self._report
        extra, baselines, pictures = self.report.finished(report["metrics"])
        self.log_dict(extra)
        report["metrics"] |= extra
        report["baselines"] = baselines
        report |= pictures
        if len(self.fields.outputs) > 1:  # as scored
            report["scatter"] = {"symbol": "outputs, each over its size", "unit": ""}


def _slopes(value: Tensor) -> list[Tensor]:
    """Return differences of neighbours in each direction over the spacing of a unit interval."""
    return [(value.diff(dim=k) * value.shape[k]).flatten(1) for k in range(2, value.dim())]
