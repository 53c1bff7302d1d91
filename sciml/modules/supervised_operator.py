"""Operators between fields of people's own files: pairs, or trajectories by roll-outs.

    relative   loss = mean over samples of |(u_theta(a) - u) / s|^2 / |u / s|^2
    h1         the same with the differences between neighbouring points beside the values
    mse        mean over samples and points of |(u_theta(a) - u) / s|^2

s is the size of each output, so that a pressure in Pa does not hide a velocity in m/s. In a
roll-out of several calls the loss is over all of them; with `pushforward` over the last one alone,
and gradients do not flow through those before (Brandstetter et al. 2022, arXiv 2202.03376).

With `equation`, the loss has the equation's residual r as well (PINO, Li et al. 2021, arXiv
2111.03794), `physics` times the mean of r^2 over points, on the grid and the times of the data.

The test compares with what needs no training (`sciml.data.files.regression`): `test/skill` is the
error over that of the best of them. `test/band/low`, `mid` and `high` are the errors in thirds of
the wave numbers over the size of the whole solution: their squares add up to that of
`test/rel_l2_all`.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.data.field_files import FieldFiles
from sciml.data.files import regression
from sciml.errors import InvalidArgument
from sciml.modules.scores import Regression, everyone
from sciml.modules.supervised import Supervised
from sciml.modules.tally import Tally
from sciml.networks.fields import FieldNetwork
from sciml.optim.terms import LossTerm
from sciml.physics.constraints.penalty import SoftConstraint

BANDS = ("low", "mid", "high")
KNOWN = 2000  # training samples that baselines learn from at most
SHOWN = 3


class SupervisedOperator(Supervised):
    """Trains a field network on files.

    Args:
        network: Of `sciml.networks.fields`.
        data: The files.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.
        loss: See the top of this file.
        pushforward: Whether only the last call of a roll-out is trained.
        baselines: Whether the test compares with regressions.
        equation: Of `sciml.physics.constraints`, on the grid of the output, whose first axis is
            time where the equation has one; None for none.
        physics: Weight of its residual.

    Raises:
        InvalidArgument: For an unknown loss, or an equation on another grid than the output's.
    """

    def __init__(
        self,
        *,
        network: FieldNetwork,
        data: FieldFiles,
        optimizer: Any,
        schedule: Any = None,
        loss: Literal["relative", "h1", "mse"] = "relative",
        pushforward: bool = False,
        baselines: bool = True,
        equation: Any = None,
        physics: float = 0.0,
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if loss not in ("relative", "h1", "mse"):
            raise InvalidArgument(f"module.loss={loss}", "relative, h1 or mse")
        if not isinstance(network, FieldNetwork):
            raise InvalidArgument(
                f"network={type(network).__name__} for files of fields",
                "an operator between fields",
                "Type network=field_fno, or model=fno, model=unet, ...",
            )
        self.loss, self.pushforward, self.baselines = loss, pushforward, baselines
        self.files, self.fields = data, network.fields
        scale = torch.tensor(data.sizes["fields"]["scale"], dtype=torch.float64)
        self.register_buffer("scale", scale.float().reshape(-1, *[1] * self.fields.dim))
        self.bands, self.shown = Tally(), []
        self.physics, self.equation = float(physics), equation
        self._check_equation()
        if getattr(network, "pod", False):
            network.learn_modes(self._normalised(*data.known("train", KNOWN)))

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

    def _normalised(self, given: dict[str, Tensor], target: Tensor) -> Tensor:
        """Return outputs as the network's body gives them."""
        net = self.network
        packed, c = self.fields.pack(given).double(), self.fields.out_channels
        target = target[:, :c].double() - net.based.double() * packed[:, net.base]
        return (target - net.out_mean.double()) / net.out_std.double()

    # --- the loss -----------------------------------------------------------------------------
    def predict_batch(self, batch: Batch) -> Tensor:
        """Return the outputs of all calls of the network `(B, calls * C, *space)`."""
        calls = batch.target.shape[1] // self.fields.out_channels
        if calls == 1:
            return self.network(**batch.inputs)
        packed = self.fields.pack(batch.inputs)
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
            rows = rows / norm.clamp_min(torch.finfo(rows.dtype).tiny ** 0.5)
        return LossTerm(name, rows, weight, batch.count or len(rows), "gaussian")

    # --- evaluation ---------------------------------------------------------------------------
    def _weighed(self, value: Tensor) -> Tensor:
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
        self.scores["val"].add(self._weighed(prediction), self._weighed(batch.target))
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
        self.bands, self.shown, self.rivals = Tally(), [], {}
        self.rival_scores: dict[str, Regression] = {}
        if self.baselines:
            self.rivals = self._rivals()

    def _rivals(self) -> dict[str, Any]:
        """Return regressions by name, each from packed inputs to targets in float64."""
        given, target = self.files.known("train", KNOWN)
        x, y = self.fields.pack(given).double(), target.double()
        x = (x - self.network.mean.double().cpu()) / self.network.std.double().cpu()
        if x.numel() + y.numel() > 2e8 or len(x) < 2:
            return {"mean": lambda new: y.mean(0).expand(len(new), *y.shape[1:])}
        return {
            "mean": lambda new: y.mean(0).expand(len(new), *y.shape[1:]),
            "nearest": regression.nearest(x, y),
            "linear_modes": regression.modal(x, y),
            "kernel_ridge": regression.kernel_ridge(x, y),
        }

    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk of one of the test sets, and what needs no training beside it."""
        if batch is None:
            return
        prediction, target = self.predict_batch(batch), batch.target
        score = self.scores.setdefault(batch.part, Regression())
        score.add(self._weighed(prediction), self._weighed(target))
        self._bands(batch.part, prediction, target)
        self._each(batch.part, prediction, target)
        if self.equation is not None and list(target.shape[2:]) == self.fields.size:
            for name, value in (("residual", prediction), ("residual_of_data", target)):
                size = self.residual(value, batch).square().mean(1).sqrt()
                self.bands.mean(f"{batch.part}/{name}", size.cpu())
        if batch.part == "test":
            self._compare(batch)
            self._show(batch, prediction)

    def _bands(self, part: str, prediction: Tensor, target: Tensor) -> None:
        axes = tuple(range(2, target.dim()))
        if not axes:
            return
        e, u = (torch.fft.fftn(v.double(), dim=axes).abs().square().flatten(0, 1).sum(0)
                for v in (self._weighed(prediction - target), self._weighed(target)))  # fmt: skip
        k = torch.stack(
            torch.meshgrid(*(torch.fft.fftfreq(n).abs() for n in target.shape[2:]), indexing="ij")
        ).amax(0)
        for i, name in enumerate(BANDS):
            here = (k >= i / 6) & ((k < (i + 1) / 6) if i < 2 else k <= 0.5)
            here = here.to(e.device)
            self.bands.mean(f"{part}/band/{name}/e", e[here].sum())
            self.bands.mean(f"{part}/band/{name}/u", u.sum())

    def _each(self, part: str, prediction: Tensor, target: Tensor) -> None:
        """Note the error of every output, and of every call of a roll-out."""
        c = self.fields.out_channels
        split = [f.channels for f in self.fields.outputs]
        calls = target.shape[1] // c
        e, u = ((v.unflatten(1, (calls, c))) for v in (prediction - target, target))
        if len(split) > 1:
            for f, a, b in zip(
                self.fields.outputs, e.split(split, 2), u.split(split, 2), strict=True
            ):
                ratio = a.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1).clamp_min(1e-30)
                self.bands.mean(f"{part}/{f.name}/rel_l2", ratio.cpu())
        if self.fields.bundle and part == "test":
            scale = self.scale
            for k in range(calls):
                a, b = (e[:, k] / scale).flatten(1), (u[:, k] / scale).flatten(1)
                ratio = a.norm(dim=1) / b.norm(dim=1).clamp_min(1e-30)
                self.bands.mean(f"call/{k}", ratio.cpu())

    def _compare(self, batch: Batch) -> None:
        packed, target = self.fields.pack(batch.inputs).double().cpu(), batch.target.double().cpu()
        net = self.network
        if list(packed.shape[2:]) == self.fields.size:
            x = (packed - net.mean.double().cpu()) / net.std.double().cpu()
            for name, model in self.rivals.items():
                found = model(x)
                self._rival(name, found, target)
        base = torch.tensor(self.fields.base or [-1])
        if self.baselines and bool((base >= 0).all()):  # nothing changes
            calls = target.shape[1] // self.fields.out_channels
            still = packed[:, base].repeat(1, calls, *[1] * self.fields.dim)
            self._rival("persistence", still, target)
            if self.fields.bundle:
                pairs = zip(still.chunk(calls, 1), target.chunk(calls, 1), strict=True)
                for k, (a, b) in enumerate(pairs):
                    scale = self.scale.double().cpu()
                    a, b = ((a - b) / scale).flatten(1), (b / scale).flatten(1)
                    ratio = a.norm(dim=1) / b.norm(dim=1).clamp_min(1e-30)
                    self.bands.mean(f"still/{k}", ratio)

    def _rival(self, name: str, found: Tensor, target: Tensor) -> None:
        score = self.rival_scores.setdefault(name, Regression())
        score.add(self._weighed(found), self._weighed(target))

    def on_test_epoch_end(self) -> None:
        """Log scores, bands and baselines, and keep the report."""
        super().on_test_epoch_end()
        report, found = self._report, self.bands.gathered()
        metrics = report["metrics"]
        named = ("/rel_l2", "/residual", "/residual_of_data")
        extra = {k: v for k, v in found.items() if k.endswith(named)}
        for key in [k for k in found if k.endswith("/e")]:
            size = found[f"{key[:-1]}u"]
            extra[key[:-2]] = (found[key] / size) ** 0.5 if size > 0 else 0.0
        names = sorted({n for rank in everyone(list(self.rival_scores)) for n in rank})
        rivals = {}
        for name in names:
            score = self.rival_scores.get(name, Regression()).gather()
            rivals[name] = score.metrics("test")["test/rel_l2"]
        report["baselines"] = rivals
        if rivals and "test/rel_l2" in metrics:
            extra["test/skill"] = metrics["test/rel_l2"] / max(min(rivals.values()), 1e-30)
        self.log_dict({k: v for k, v in extra.items() if k != "test/skill"})
        metrics |= extra
        report |= self._pictures(found)

    def _space_time(self, target: np.ndarray) -> dict[str, Any]:
        """Return the axes of a picture `(times or channels, x)`."""
        f, times = self.fields, self.files.times
        c, x = f.outputs[0].sizes.get("c", 1), self.files.axis(0)
        if len(f.outputs) > 1 or c > 1 or times is None or len(x) != target.shape[-1]:
            return {"xlabel": "x", "ylabel": "channel"}
        first = f.history if f.bundle else len(times) - len(target)
        shown = times[first : first + len(target)]
        return {"extent": [*_ends(x), *_ends(shown)], "xlabel": "x", "ylabel": "t"}

    # --- pictures -----------------------------------------------------------------------------
    def _show(self, batch: Batch, prediction: Tensor) -> None:
        keep = SHOWN - len(self.shown)
        for i in range(min(keep, len(prediction))):
            packed = self.fields.pack(batch.inputs)[i]
            row = (packed, batch.target[i], prediction[i])
            self.shown.append(tuple(v.detach().double().cpu().numpy() for v in row))

    def _pictures(self, found: dict[str, float]) -> dict[str, Any]:
        curves: dict[str, Any] = {}
        calls = [k for k in found if k.startswith("call/")]
        if calls:
            order = range(len(calls))
            y = {"model": [found[f"call/{k}"] for k in order]}
            if "still/0" in found:
                y["persistence"] = [found[f"still/{k}"] for k in order]
            at = [self.fields.history + (k + 1) * self.fields.bundle - 1 for k in order]
            times = [float(self.files.times[i]) for i in at]
            curves["rollout"] = {"x": times, "y": y, "xlabel": "time of the data",
                                 "ylabel": "relative L2 error", "log": "y"}  # fmt: skip
        out = self.fields.outputs[-1 if calls else 0]
        rows = []
        for i, (packed, target, prediction) in enumerate(self.shown):
            k = -1 if calls else 0  # the last state of a roll-out
            dim, names = self.fields.dim, ("x", "y")
            if dim == 1:
                row = {"reference": target, "prediction": prediction}
                if len(target) < 3:
                    x = self.files.axis(0)
                    x = x if len(x) == target.shape[-1] else np.arange(target.shape[-1])
                    y = {"reference": target[k], "prediction": prediction[k]}
                    curves[f"sample_{i}"] = {"x": x, "y": y, "xlabel": "x", "ylabel": out.name}
                    continue
                axes = self._space_time(target)
            else:
                middle = (slice(None), slice(None), *([0] if dim == 3 else []))
                row = {"reference": target[k], "prediction": prediction[k]}
                row = {n: v[middle[:dim]].T for n, v in row.items()}
                ends = [*_ends(self.files.axis(0)), *_ends(self.files.axis(1))]
                axes = {"extent": ends, "xlabel": names[0], "ylabel": names[1]}
                if packed.shape[1:] == target.shape[1:]:
                    first = self.fields.inputs[0]
                    row["inputs"] = {f"input {first.name}": packed[0][middle[:dim]].T}
            rows.append({"title": f"test sample {i}", "symbol": out.name, **row, **axes})
        return {"fields": rows, "curves": curves}


def _ends(points: np.ndarray) -> list[float]:
    """Return the ends of an axis on which first and last point are in the middle of pixels."""
    half = (points[1] - points[0]) / 2 if len(points) > 1 else 0.5
    return [float(points[0] - half), float(points[-1] + half)]


def _slopes(value: Tensor) -> list[Tensor]:
    """Return differences of neighbours in each direction over the spacing of a unit interval."""
    return [(value.diff(dim=k) * value.shape[k]).flatten(1) for k in range(2, value.dim())]
