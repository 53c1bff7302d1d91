"""How good predictions are on a test set, beside the best constant: sums over chunks and ranks.

A score holds sums only, so chunks may come in any order and on any rank; `gather` adds up what the
ranks have. All in float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

SCATTER = 4000  # pairs of values kept for the picture of predicted against reference values
SHOWN = 3  # fields kept for the picture


class Regression:
    """Errors of predicted values.

    The baseline is the best constant: the mean of the targets, component by component, so the
    mean field where targets are fields.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.pairs: list[Tensor] = []
        self.fields: list[dict] = []

    @torch.no_grad()
    def add(
        self,
        prediction: Tensor,
        target: Tensor,
        index: Tensor | None = None,
        weight: Tensor | None = None,
        inputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Add the rows of a chunk.

        Args:
            prediction: `(n, ...)`.
            target: Shape of `prediction`.
            index: Instance of every row `(n,)`; None where every row is one. An instance must not
                be split over chunks.
            weight: Weight of every row `(n,)`, 1 without.
            inputs: What the prediction was made from; fields beside fields are kept for pictures.
        """
        n = len(target)
        if n == 0:
            return
        keep = SHOWN - len(self.fields)
        if target.dim() >= 3 and keep > 0:
            shown = torch.stack([target, prediction], 1)[:keep].cpu().double()
            shown = shown.reshape(len(shown), 2, -1, *target.shape[-2:])[:, :, 0].numpy()
            beside = {
                name: value[:keep].cpu().double().reshape(len(shown), *target.shape[-2:])
                for name, value in (inputs or {}).items()
                if value.numel() == len(target) * shown[0, 0].size
                and value.shape[-2:] == target.shape[-2:]
            }
            for k, (reference, found) in enumerate(shown):
                row = {"reference": reference, "prediction": found}
                row["inputs"] = {name: value[k].numpy() for name, value in beside.items()}
                self.fields.append(row)
        u = target.cpu().double().reshape(n, -1)
        e = prediction.cpu().double().reshape(n, -1) - u
        w = torch.ones(n, dtype=u.dtype) if weight is None else weight.cpu().double()
        used = w > 0
        if sum(len(p) for p in self.pairs) < SCATTER:
            every = max(1, int(used.sum()) * u.shape[1] // SCATTER)
            flat = torch.stack([u[used].flatten(), (u + e)[used].flatten()], 1)
            self.pairs.append(flat[::every][:SCATTER])
        e2, u2 = w * e.square().sum(1), w * u.square().sum(1)
        i = torch.arange(n) if index is None else index.cpu()
        instances = int(i.max()) + 1
        per = torch.zeros(3, instances, dtype=u.dtype).index_add_(1, i, torch.stack([e2, u2, w]))
        counted = (per[2] > 0) & (per[1] > 0)  # no relative error where the target vanishes
        self._sum(
            {
                "e2": e2.sum(),
                "e1": (w[:, None] * e.abs()).sum(),
                "u2": u2.sum(),
                "u1": (w[:, None] * u.abs()).sum(),
                "w": w.sum(),
                "mean": (w[:, None] * u).sum(0),
                "square": (w[:, None] * u.square()).sum(0),
                "relative": (per[0] / per[1]).sqrt()[counted].sum(),
                "instances": counted.sum().double(),
                "largest": e[used].abs().max() if used.any() else torch.zeros((), dtype=u.dtype),
            }
        )

    def _sum(self, new: dict[str, Tensor]) -> None:
        old = self.sums or {key: torch.zeros_like(value) for key, value in new.items()}
        self.sums = {key: old[key] + value for key, value in new.items()}
        self.sums["largest"] = torch.maximum(old["largest"], new["largest"])

    def gather(self) -> Regression:
        """Return the score of all ranks together; scatter and fields are those of the first."""
        ranks = [s for s in everyone(self) if s.sums]
        if not ranks:
            return self
        total = ranks[0]
        for other in ranks[1:]:
            total._sum(other.sums)
        return total

    def metrics(self, part: str) -> dict[str, float]:
        """Return `<part>/rel_l2`, `/r2`, `/mae`, `/max_abs`, `/skill` and others.

        `rel_l2` is the mean over instances that do not vanish, `rel_l2_all` that of the whole set;
        `skill` is the root mean square error over that of the best constant, so r2 = 1 - skill^2;
        `baseline/constant` is the best constant's relative L2 error over the whole set.
        """
        s = self.sums
        if not s:
            return {}
        spread = (s["square"] - s["mean"].square() / s["w"]).sum().clamp_min(0)
        size = s["w"] * len(s["mean"])
        found = {
            "rel_l2": s["relative"] / s["instances"],
            "rel_l2_all": (s["e2"] / s["u2"]).sqrt(),
            "rel_l1": s["e1"] / s["u1"],
            "mae": s["e1"] / size,
            "max_abs": s["largest"],
            "r2": 1 - s["e2"] / spread,
            "skill": (s["e2"] / spread).sqrt(),
            "baseline/constant": (spread / s["u2"]).sqrt(),
        }
        return {f"{part}/{name}": float(value) for name, value in found.items()}

    def figures(self) -> dict:
        """Return what pictures show: see `sciml.callbacks.plots`."""
        if not self.pairs:
            return {}
        pairs = torch.cat(self.pairs)[:SCATTER].numpy()
        found = {"reference": pairs[:, 0], "prediction": pairs[:, 1]}
        if self.fields:
            found["fields"] = [
                {"title": f"test sample {i}", **row} for i, row in enumerate(self.fields)
            ]
        return found


class Classification:
    """Errors of predicted classes.

    The baseline is the class met most often.
    """

    def __init__(self) -> None:
        self.confusion: Tensor | None = None
        self.cross_entropy = 0.0

    @torch.no_grad()
    def add(
        self,
        prediction: Tensor,
        target: Tensor,
        index: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Add the rows of a chunk.

        Args:
            prediction: Logits `(n, classes)`.
            target: Class numbers `(n,)`.
            index: Not used.
            weight: Rows with weight 0 are left out.
        """
        logits, labels = prediction.cpu().double(), target.cpu()
        if weight is not None:
            used = weight.cpu() > 0
            logits, labels = logits[used], labels[used]
        classes = logits.shape[1]
        pairs = labels * classes + logits.argmax(1)
        counts = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        self.confusion = counts if self.confusion is None else self.confusion + counts
        self.cross_entropy += float(F.cross_entropy(logits, labels, reduction="sum"))

    def gather(self) -> Classification:
        """Return the score of all ranks together."""
        ranks = [s for s in everyone(self) if s.confusion is not None]
        if not ranks:
            return self
        total = ranks[0]
        for other in ranks[1:]:
            total.confusion = total.confusion + other.confusion
            total.cross_entropy += other.cross_entropy
        return total

    def metrics(self, part: str) -> dict[str, float]:
        """Return `<part>/accuracy`, `/cross_entropy` and `/skill`.

        `skill` is the error rate over that of the majority class.
        """
        if self.confusion is None or not self.confusion.sum():
            return {}
        total = float(self.confusion.sum())
        right = float(self.confusion.diagonal().sum())
        majority = float(self.confusion.sum(1).max())
        found = {
            "accuracy": right / total,
            "cross_entropy": self.cross_entropy / total,
            "skill": (total - right) / max(total - majority, 1.0),
            "baseline/majority": majority / total,
        }
        return {f"{part}/{name}": value for name, value in found.items()}

    def figures(self) -> dict:
        """Return what pictures show: see `sciml.callbacks.plots`."""
        return {} if self.confusion is None else {"confusion": self.confusion.numpy()}


def score_of(kind: str) -> Regression | Classification:
    """Return an empty score for "regression" or "classification"."""
    return Classification() if kind == "classification" else Regression()


def everyone(own: object) -> list:
    """Return what every rank has, in order of ranks."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [own]
    found: list = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    return found
