"""Neural operators trained on walks on spheres: weak supervision without solutions or derivatives.

    loss = mean over problems of  mean_x |u_theta(x) - U(x)|^2 / mean_x U(x)^2

over the nodes x inside the domain, U(x) the mean of a few walks from x. Walks do not depend on
theta, so the gradient is that of the error against the true solution in the mean, with any number
of walks; the value of the loss is not, it has the variance of the walks as its floor. Hence the
validation: with two independent halves U_1, U_2 of the walks

    E[(u_theta - U_1)(u_theta - U_2)] = (u_theta - u)^2.

Baselines on the same network and problems, `objective`:

    pino    the squared residual of the equation, by central differences at nodes whose neighbours
            are inside; on clouds of points by automatic differentiation
    ritz    Dirichlet's energy, whose minimiser is the solution

On grids the boundary values are part of the network, on clouds they are a second term. Both know
neither walks nor solutions: `data.walks=0` makes no labels.

Yang et al., "Operator Learning Using Weak Supervision from Walk-on-Spheres", arXiv 2603.01193; its
code has the norm of the error as loss (`norm`).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.data.batch import Batch
from sciml.errors import InvalidArgument
from sciml.modules.grid_energy import cloud_terms, energy_term, residual_term
from sciml.modules.scores import Regression, everyone
from sciml.modules.supervised import Supervised
from sciml.optim.terms import LossTerm

SHOWN = 3  # fields kept for pictures


class WalkOperator(Supervised):
    """Trains an operator on `sciml.data.walks`.

    Args:
        network: Called with the inputs of a batch by name.
        data: Problems, and labels by walks.
        optimizer: Makes the optimizer.
        schedule: Makes the learning-rate schedule.
        loss: Squared error over the square of the labels (`relative`), the root of that (`norm`),
            or plain squared error (`mse`), of every problem.
        objective: What is minimised, see the top of this file.

    Raises:
        InvalidArgument: For unknown names.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        data: Any,
        optimizer: Any,
        schedule: Any = None,
        loss: Literal["relative", "norm", "mse"] = "relative",
        objective: Literal["walks", "pino", "ritz"] = "walks",
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if loss not in ("relative", "norm", "mse"):
            raise InvalidArgument(f"module.loss={loss}", "relative, norm or mse")
        if objective not in ("walks", "pino", "ritz"):
            raise InvalidArgument(f"module.objective={objective}", "walks, pino or ritz")
        if objective == "walks" and getattr(data, "walks", 1) == 0:
            raise InvalidArgument("module.objective=walks with data.walks=0", "at least 1 walk")
        self.loss, self.objective = loss, objective
        self._val_sums: list[tuple[float, float]] = []
        self._baselines: dict[str, Regression] = {}
        self._fields: list[dict[str, Any]] = []

    # --- the loss -------------------------------------------------------------------------------
    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the one term of the objective."""
        if self.objective != "walks" and "points" in batch.inputs:
            return cloud_terms(self.network, batch, self.objective)
        u = self.predict_batch(batch)
        if self.objective == "walks":
            return [self.data_term(u, batch)]
        make = residual_term if self.objective == "pino" else energy_term
        return [make(u, batch, self.network.half)]

    def data_term(
        self, prediction: Tensor, batch: Batch, weight: float = 1.0, name: str = "data"
    ) -> LossTerm:
        """Return the term that compares predictions with labels, where there are any.

        The norm's value is right; its gradient is doubled, as for all residuals with weights that
        depend on themselves.
        """
        mask = batch.extra["mask"].flatten(1)
        count = mask.sum(1, keepdim=True).clamp_min(1)
        rows = (prediction - batch.target).flatten(1) * mask / count.sqrt()
        if self.loss != "mse":
            square = (batch.target.flatten(1) * mask).square().sum(1, keepdim=True) / count
            tiny = torch.finfo(rows.dtype).tiny
            rows = rows / square.clamp_min(tiny).sqrt()
            if self.loss == "norm":
                size = torch.linalg.vector_norm(rows.detach(), dim=1, keepdim=True)
                rows = rows / size.clamp_min(tiny).sqrt()
        return LossTerm(name, rows, weight, batch.count, "gaussian")

    # --- validation: no solutions -----------------------------------------------------------------
    def on_validation_epoch_start(self) -> None:
        """Start empty sums."""
        self._val_sums = []

    def validation_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk."""
        if batch is not None:
            self._val_sums += two_halves(self.predict_batch(batch), batch)

    def on_validation_epoch_end(self) -> None:
        """Log unbiased estimates of the squared relative error, and its root."""
        sums = [pair for rank in everyone(self._val_sums) for pair in rank]
        square = sum(error / size for error, size in sums) / max(len(sums), 1)
        self.log("val/loss", square, prog_bar=True)
        self.log("val/rel_l2", max(square, 0.0) ** 0.5)

    # --- test: exact solutions --------------------------------------------------------------------
    def on_test_epoch_start(self) -> None:
        """Start empty scores."""
        super().on_test_epoch_start()
        self._baselines = {"closest_point": Regression(), "first_guess": Regression()}
        self._fields = []

    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk of one of the test sets, and what needs no training beside it."""
        if batch is None:
            return
        inside = batch.extra["mask"] > 0
        index = torch.arange(len(inside), device=inside.device)
        index = index.view(-1, *[1] * (inside.dim() - 1)).expand_as(inside)[inside]

        def add(score: Regression, value: Tensor) -> None:
            score.add(value[inside], batch.target[inside], index)

        u = self.predict_batch(batch)
        add(self.scores.setdefault(batch.part, Regression()), u)
        if batch.part != "test":
            return
        add(self._baselines["closest_point"], batch.inputs["boundary"])
        if hasattr(self.network, "first_guess"):
            add(self._baselines["first_guess"], self.network.first_guess(**batch.inputs))
        for k in range(min(SHOWN - len(self._fields), len(u))):
            shown = torch.stack([batch.target[k], u[k] * inside[k]]).double().cpu()
            if shown.dim() < 3:  # a cloud of points
                break
            while shown.dim() > 3:  # the middle plane of a cube
                shown = shown[..., shown.shape[-1] // 2]
            title = f"test problem {len(self._fields)}"
            self._fields.append(
                {"title": title, "reference": shown[0].numpy(), "prediction": shown[1].numpy()}
            )

    def on_test_epoch_end(self) -> None:
        """Log the metrics of every test set; errors of what needs no training as baselines."""
        super().on_test_epoch_end()
        for name, score in self._baselines.items():
            found = score.gather().metrics("test")
            if found:
                self.log(f"test/baseline/{name}", found["test/rel_l2"])
                self._report["baselines"][name] = found["test/rel_l2"]

    def test_figures(self) -> dict[str, Any]:
        """Return fields beside their references."""
        return {"fields": self._fields} if self._fields else {}


def two_halves(u: Tensor, batch: Batch) -> list[tuple[float, float]]:
    """Return unbiased estimates of |u - solution|^2 and |solution|^2 of every problem.

    Args:
        u: Predictions `(N, ...)`.
        batch: With `first` and `second`, independent estimates of the solution.
    """
    mask = batch.extra["mask"].double()
    first, second = (batch.extra[name].double() for name in ("first", "second"))
    u = u.detach().double()

    def sums(a: Tensor, b: Tensor) -> list[float]:
        return (a * b * mask).flatten(1).sum(1).tolist()

    return list(zip(sums(u - first, u - second), sums(first, second), strict=True))
