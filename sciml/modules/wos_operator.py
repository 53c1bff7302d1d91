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

import time
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.data.batch import Batch
from sciml.errors import InvalidArgument
from sciml.modules.evaluation.scores import Regression, everyone
from sciml.modules.grid_energy import cloud_terms, energy_term, residual_term
from sciml.modules.supervised import Supervised
from sciml.optim.curvature.terms import LossTerm
from sciml.typed_arguments import typed

SHOWN = 3  # fields kept for pictures


@typed
class WalkOperator(Supervised):
    """Trains an operator on `sciml.data.walk_labels.walk_data`.

    Args:
        network: Called with the inputs of a batch by name.
        data: Problems, and labels by walks.
        optimizer: Makes the optimizer.
        schedule: Makes the learning-rate schedule.
        loss: Squared error over the square of the labels (`relative`), the root of that (`norm`),
            or plain squared error (`mse`), of every problem.
        objective: What is minimised, see the top of this file.

    Raises:
        InvalidArgument: For unknown names, or a network that takes other inputs than the data have.

    Example:
        >>> import torch
        >>> from sciml.data import WalkData
        >>> from sciml.modules import WalkOperator
        >>> from sciml.networks import WosFNO
        >>> from sciml.physics.elliptic import StarPoisson
        >>> data = WalkData(
        ...     StarPoisson(), batch_size=2, pool=2, nodes=12, control=0, table=16,
        ...     val_count=2, test_count=2,
        ... )
        >>> network = WosFNO(nodes=12, width=4, modes=3, layers=1, hidden=4)
        >>> module = WalkOperator(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.loss_terms(data.batch(0).to("cpu", torch.float32))]
        ['data']
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
        if objective == "walks" and getattr(data, "walks", 1) == 0:
            raise InvalidArgument("module.objective=walks with data.walks=0", "at least 1 walk")
        check_inputs(network, data)
        self.loss, self.objective = loss, objective
        # squared noise of labels in training over twice that of half the walks in validation; odd
        # numbers of walks are not paired, those are
        walks = getattr(data, "walks", 0)
        self._noise = 0.0 if walks == 0 or walks % 2 else data.val_walks / (4 * walks)
        self._since, self._walking, self._stepping = 0.0, 0.0, 0.0
        self._val_sums: list[tuple[float, float]] = []
        self._val_noise: list[float] = []
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

    # --- what the labels cost ---------------------------------------------------------------------
    def on_train_start(self) -> None:
        """Start the clock."""
        self._since, self._walking, self._stepping = 0.0, 0.0, 0.0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss, and log steps and truncated share of the walks.

        Not in `on_train_batch_end`: the checkpoint of the step is written before that hook.
        """
        walked = getattr(self.trainer.datamodule, "walked", {}) if self._trainer else {}
        self.log_dict({f"train/walk_{k}": v for k, v in walked.items() if k != "seconds"})
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, *_: Any) -> None:
        """Log the share of the time that walks took."""
        walked, now = getattr(self.trainer.datamodule, "walked", {}), time.perf_counter()
        if walked and self._since:  # the first step made the pool of domains as well
            self._walking += walked["seconds"]
            self._stepping += now - self._since
            self.log("train/walk_share", self._walking / self._stepping)
        self._since = now

    def on_validation_end(self) -> None:
        """Leave validation out of the time."""
        self._since = time.perf_counter()

    # --- validation: no solutions -----------------------------------------------------------------
    def on_validation_epoch_start(self) -> None:
        """Start empty sums."""
        self._val_sums, self._val_noise = [], []

    def validation_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk."""
        if batch is not None:
            self._val_sums += two_halves(self.predict_batch(batch), batch)
            self._val_noise += half_noise(batch)

    def on_validation_epoch_end(self) -> None:
        """Log unbiased estimates of the squared relative error, its root, and the labels' noise.

        `val/label_rel_l2` is the error of the labels in training: what the network averages out.
        """
        sums = [pair for rank in everyone(self._val_sums) for pair in rank]
        square = sum(error / size for error, size in sums) / max(len(sums), 1)
        self.log("val/loss", square)
        self.log("val/rel_l2", max(square, 0.0) ** 0.5)
        if self._noise:
            noise = [value for rank in everyone(self._val_noise) for value in rank]
            mean = self._noise * sum(noise) / max(len(noise), 1)
            self.log("val/label_rel_l2", mean**0.5)

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
            half = float(getattr(self.network, "half", 1.0))
            row, place = _shown(batch, u, k, inside[k], half)
            self._fields.append({"title": f"test problem {len(self._fields)}{place}", **row})

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


def _shown(batch: Batch, u: Tensor, k: int, own: Tensor, half: float) -> tuple[dict, str]:
    """Return one problem of a batch for the picture of fields, and which plane of a cube it is.

    Beside reference and prediction the source is shown, and coefficients where there are any.
    """
    names = [name for name in batch.inputs if name not in ("points", "boundary", "sdf", "distance")]
    values = [batch.target[k], u[k], *(batch.inputs[name][k] for name in names)]
    shown = torch.stack([v.double() for v in values]).where(own, torch.nan).cpu()
    place, row = "", {"xlabel": "x", "ylabel": "y"}
    if "points" in batch.inputs:
        points = batch.inputs["points"][k].cpu()
        shown = shown[:, own.cpu()]
        row["points"] = points[own.cpu()].numpy()
        edge = batch.inputs["distance"][k].cpu() >= 0
        row["boundary_points"] = points[edge].numpy()
    else:
        sdf = batch.inputs["sdf"][k].double().cpu()
        step = 2 * half / (sdf.shape[0] - 1)
        if sdf.dim() == 3:  # the plane of a cube closest to its middle
            middle = sdf.shape[2] // 2
            shown, sdf = shown[..., middle], sdf[..., middle]
            place = f", z = {middle * step - half:.2f}"
        shown, row["outline"] = shown.mT, sdf.T.numpy()  # x to the right
        row["extent"] = [-half - step / 2, half + step / 2] * 2
    row["reference"], row["prediction"] = shown[0].numpy(), shown[1].numpy()
    row["inputs"] = {name: v.numpy() for name, v in zip(names, shown[2:], strict=True)}
    return row, place


def check_inputs(network: nn.Module, data: Any) -> None:
    """Refuse a network that takes other inputs than the data have, or has a box of another size.

    Raises:
        InvalidArgument: Naming both.
    """
    half = getattr(data, "sizes", {}).get("half")
    if half is not None and getattr(network, "half", half) != half:
        raise InvalidArgument(
            f"network.half={network.half} with data.half={half}",
            "one box for both",
            f"Type data.half={network.half} only: the network's follows",
        )
    given = getattr(data, "input_names", None)
    if given is None or not hasattr(network, "schema"):
        return
    known = network.schema()["inputs"]
    needed = [name for name, entry in known.items() if not entry.get("optional")]
    if set(needed) - set(given) or set(given) - set(known):
        cloud = "points" in given
        raise InvalidArgument(
            f"a {type(network).__name__}, which takes {', '.join(known)}",
            f"a network that takes what the data have: {', '.join(given)}",
            "Type network=wos_gino, or data=star_poisson for a grid"
            if cloud
            else "Type network=wos_fno, or data=star_clouds for points",
        )


def two_halves(u: Tensor, batch: Batch) -> list[tuple[float, float]]:
    """Return unbiased estimates of |u - solution|^2 and |solution|^2 of every problem.

    Args:
        u: Predictions `(N, ...)`.
        batch: With `first` and `second`, independent estimates of the solution.
    """
    first, second = (batch.extra[name].double() for name in ("first", "second"))
    u = u.detach().double()
    error = _sums(u - first, u - second, batch)
    return list(zip(error, _sums(first, second, batch), strict=True))


def half_noise(batch: Batch) -> list[float]:
    """Return twice the squared noise of one half, relative to the solution, of every problem."""
    first, second = (batch.extra[name].double() for name in ("first", "second"))
    gap = first - second
    sizes = zip(_sums(gap, gap, batch), _sums(first, second, batch), strict=True)
    return [noise / abs(size) for noise, size in sizes]


def _sums(a: Tensor, b: Tensor, batch: Batch) -> list[float]:
    return (a * b * batch.extra["mask"].double()).flatten(1).sum(1).tolist()
