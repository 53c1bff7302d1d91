"""What the test of an operator on files finds beside its errors.

Baselines need no training (`sciml.data.regression`): `test/skill` is the error over that of
the best of them. With a coarse solve, `test/coarse/rel_l2` is that solve's own error.

`test/band/low`, `mid` and `high` are the errors in thirds of the wave numbers over the size of the
whole solution: their squares add up to that of `test/rel_l2_all`. The wave number of a wave is the
largest of those in each direction, in waves per grid.

A roll-out has the error of every call, `test/rollout/first` and `test/rollout/last` in the table.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.data import regression
from sciml.data.batch import Batch
from sciml.data.field_files import FieldFiles
from sciml.errors import SciMLWarning
from sciml.modules.evaluation.operator_pictures import SHOWN, pictures
from sciml.modules.evaluation.scores import Regression, everyone
from sciml.modules.evaluation.tally import Tally
from sciml.networks.fields import FieldNetwork

BANDS = ("low", "mid", "high")
KNOWN = 2000  # training samples that baselines learn from at most
LARGEST = 2e8  # numbers in these, above which there is the mean alone
NAMED = ("/rel_l2", "/residual", "/residual_of_data")


class OperatorReport:
    """Sums over chunks and ranks.

    Args:
        network: What is tested.
        files: The data module.
        weighed: Makes outputs of several kinds comparable.
        baselines: Whether to compare with regressions.

    Attributes:
        figures: Means by name; what ends in one of `NAMED` gets into the table.
    """

    def __init__(
        self,
        network: FieldNetwork,
        files: FieldFiles,
        weighed: Callable[[Tensor], Tensor],
        baselines: bool,
    ) -> None:
        self.network, self.files, self.weighed = network, files, weighed
        self.fields, self.baselines = network.fields, baselines
        plain = files.sizes["fields"]["scale"]
        self.scale = torch.tensor(plain, dtype=torch.float64).reshape(-1, *[1] * self.fields.dim)
        self.start(learn=False)

    def start(self, learn: bool = True) -> None:
        """Start empty, and learn the baselines."""
        self.figures, self.spectrum = Tally(), torch.zeros(2, 0, dtype=torch.float64)
        self.shown: list[tuple[np.ndarray, ...]] = []
        self.scores: dict[str, Regression] = {}
        self.rivals = self._rivals() if learn and self.baselines else {}

    def _rivals(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Return regressions by name, each from packed inputs to targets in float64."""
        given, target = self.files.known("train", KNOWN)
        x, y = self._normal(self.fields.pack(given)), target.double()
        found = {"mean": lambda new: y.mean(0).expand(len(new), *y.shape[1:])}
        if x.numel() + y.numel() > LARGEST or len(x) < 2:
            return found
        found["nearest"] = regression.nearest(x, y)
        for name, learn in (("linear_modes", regression.modal),
                            ("kernel_ridge", regression.kernel_ridge)):  # fmt: skip
            try:
                found[name] = learn(x, y)
            except torch.linalg.LinAlgError as error:  # never the end of a run that has trained
                said = str(error).splitlines()[0]
                warnings.warn(f"the baseline {name} is left out: {said}", SciMLWarning, 2)
        return found

    def _normal(self, packed: Tensor) -> Tensor:
        """Return inputs with mean 0 and deviation 1, in float64 on the CPU."""
        c = self.fields.in_channels
        mean, std = (v[:c].double().cpu() for v in (self.network.mean, self.network.std))
        return (packed.double().cpu() - mean) / std

    # --- chunks -------------------------------------------------------------------------------
    def add(self, batch: Batch, prediction: Tensor) -> None:
        """Add a chunk of one of the test sets."""
        part = batch.part
        prediction, target = (v.detach().double().cpu() for v in (prediction, batch.target))
        packed = self.fields.pack(batch.inputs)
        self._bands(part, prediction, target)
        self._each(part, prediction, target)
        if self.network.coarse is not None and not self.fields.bundle:
            solved = self.network.solve(packed).double().cpu()
            if part == "test":
                self._rival("coarse", solved, target)
            ratio = _ratio(self.weighed(solved) - self.weighed(target), self.weighed(target))
            self.figures.mean(f"{part}/coarse/rel_l2", ratio)
        if part == "test":
            self._compare(packed.double().cpu(), target)
            self._show(packed, target, prediction)

    def _bands(self, part: str, prediction: Tensor, target: Tensor) -> None:
        axes, sides = tuple(range(2, target.dim())), target.shape[2:]
        if not axes:
            return
        e, u = (
            torch.fft.fftn(v, dim=axes).abs().square().flatten(0, 1).sum(0)
            for v in (self.weighed(prediction - target), self.weighed(target))
        )
        grid = torch.meshgrid(
            *(torch.fft.fftfreq(n, dtype=torch.float64).abs() for n in sides), indexing="ij"
        )
        k = torch.stack(grid).amax(0)
        for i, name in enumerate(BANDS):
            here = (k >= i / 6) & ((k < (i + 1) / 6) if i < 2 else k <= 0.5)
            self.figures.mean(f"{part}/band/{name}/e", e[here].sum())
            self.figures.mean(f"{part}/band/{name}/u", u.sum())
        if part == "test":
            # an even side beside a longer odd one has half waves beyond the last whole number
            shell = (k * max(sides) + 0.5).long().clamp_max(max(sides) // 2).flatten()
            rows = torch.zeros(2, max(sides) // 2 + 1, dtype=torch.float64)
            rows[0].index_add_(0, shell, e.flatten())
            rows[1].index_add_(0, shell, u.flatten())
            self.spectrum = rows if not self.spectrum.numel() else self.spectrum + rows

    def _each(self, part: str, prediction: Tensor, target: Tensor) -> None:
        """Note the error of every output, and of every call of a roll-out."""
        c = self.fields.out_channels
        split = [f.channels for f in self.fields.outputs]
        calls = target.shape[1] // c
        e, u = (v.unflatten(1, (calls, c)) for v in (prediction - target, target))
        if len(split) > 1:
            pairs = zip(e.split(split, 2), u.split(split, 2), strict=True)
            for f, (a, b) in zip(self.fields.outputs, pairs, strict=True):
                self.figures.mean(f"{part}/{f.name}/rel_l2", _ratio(a, b))
        if self.fields.bundle and part == "test":
            self._calls("model", prediction, target)

    def _calls(self, name: str, found: Tensor, target: Tensor) -> None:
        """Note the error of every call of a roll-out."""
        calls = target.shape[1] // self.fields.out_channels
        pairs = zip(found.chunk(calls, 1), target.chunk(calls, 1), strict=True)
        for k, (a, b) in enumerate(pairs):
            self.figures.mean(f"call/{name}/{k}", _ratio((a - b) / self.scale, b / self.scale))

    def _compare(self, packed: Tensor, target: Tensor) -> None:
        if list(packed.shape[2:]) == self.fields.size:
            x = self._normal(packed)
            for name, model in self.rivals.items():
                self._rival(name, model(x), target)
        base = torch.tensor(self.fields.base or [-1])
        if self.baselines and bool((base >= 0).all()):  # nothing changes
            calls = target.shape[1] // self.fields.out_channels
            still = packed[:, base].repeat(1, calls, *[1] * self.fields.dim)
            self._rival("persistence", still, target)

    def _rival(self, name: str, found: Tensor, target: Tensor) -> None:
        score = self.scores.setdefault(name, Regression())
        score.add(self.weighed(found), self.weighed(target))
        if self.fields.bundle:
            self._calls(name, found, target)

    def _show(self, packed: Tensor, target: Tensor, prediction: Tensor) -> None:
        for i in range(min(SHOWN - len(self.shown), len(prediction))):
            row = (packed[i], target[i], prediction[i])
            self.shown.append(tuple(v.detach().double().cpu().numpy() for v in row))

    # --- the end ------------------------------------------------------------------------------
    def finished(
        self, metrics: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
        """Return further metrics, the errors of the baselines, and what pictures show.

        Args:
            metrics: Of the test, all ranks together.
        """
        found = self.figures.gathered()
        extra = {k: v for k, v in found.items() if k.endswith(NAMED)}
        for key in [k for k in found if k.endswith("/e")]:
            size = found[f"{key[:-1]}u"]
            extra[key[:-2]] = (found[key] / size) ** 0.5 if size > 0 else 0.0
        names = sorted({n for rank in everyone(list(self.scores)) for n in rank})
        rivals = {}
        for name in names:
            score = self.scores.get(name, Regression()).gather()
            rivals[name] = score.metrics("test")["test/rel_l2"]
        for name in [n for n, error in rivals.items() if not math.isfinite(error)]:
            said = f"the baseline {name} is left out: its error is {rivals.pop(name)}"
            warnings.warn(said, SciMLWarning, 2)
        if rivals and "test/rel_l2" in metrics:
            extra["test/skill"] = metrics["test/rel_l2"] / max(min(rivals.values()), 1e-30)
        curves = self._rollout(found)
        if curves:
            model = curves["model"]
            extra |= {"test/rollout/first": model[0], "test/rollout/last": model[-1]}
        ranks = [s for s in everyone(self.spectrum) if s.numel()]
        spectrum = sum(ranks) if ranks else None
        return extra, rivals, pictures(self.fields, self.files, self.shown, curves, spectrum)

    @staticmethod
    def _rollout(found: Mapping[str, float]) -> dict[str, list[float]]:
        """Return the errors of all calls by name, the model's first."""
        names = sorted({k.split("/")[1] for k in found if k.startswith("call/")})
        names.sort(key=lambda n: n != "model")
        count = sum(k.startswith("call/model/") for k in found)
        return {n: [found[f"call/{n}/{k}"] for k in range(count)] for n in names}


def _ratio(error: Tensor, size: Tensor) -> Tensor:
    """Return relative L2 norms of errors, one per sample."""
    return error.flatten(1).norm(dim=1) / size.flatten(1).norm(dim=1).clamp_min(1e-30)
