"""Operators between fields at the points of clouds, of people's own files.

    loss   of `Supervised`, by default the mean over samples of |u_theta - u|^2 / |u|^2

The test compares with the training point that is nearest in place and features, and with the best
constant; `test/skill` is the error over that of the better one. Pictures show two of the clouds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.data.cloud_files import CloudFiles
from sciml.modules.evaluation.scores import Regression, everyone
from sciml.modules.supervised import Supervised
from sciml.networks.fields import CloudNetwork
from sciml.typed_arguments import typed

SHOWN = 2  # test clouds that pictures show


@typed
class SupervisedClouds(Supervised):
    """Trains a network on point clouds.

    Args:
        network: On point clouds.
        data: The files.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.
        loss: As in `Supervised`.
        baselines: Whether the test compares with the nearest point.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from sciml.data import CloudFiles
        >>> from sciml.modules import SupervisedClouds
        >>> from sciml.networks.fields import CloudOperator
        >>> cloud = lambda: {"x": torch.rand(30, 2), "y": torch.rand(30, 1)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save([cloud() for _ in range(4)], f"{folder}/clouds.pt")
        ...     data = CloudFiles(path=f"{folder}/clouds.pt", samples=20)
        >>> network = CloudOperator(data.sizes["clouds"], nodes=6, radius=0.4, width=4, modes=2)
        >>> module = SupervisedClouds(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.loss_terms(data.batch(0).to("cpu", torch.float32))]
        ['data']
    """

    left_out = ("skill",)  # over the best constant; here it is over the better of two baselines

    def __init__(
        self,
        *,
        network: CloudNetwork,
        data: CloudFiles,
        optimizer: Any,
        schedule: Any = None,
        loss: str = "relative",
        baselines: bool = True,
    ) -> None:
        super().__init__(
            network=network, data=data, optimizer=optimizer, schedule=schedule, loss=loss
        )
        self.files, self.baselines = data, baselines

    def on_test_epoch_start(self) -> None:
        """Start empty, and look for what needs no training."""
        super().on_test_epoch_start()
        self.rivals = self.files.rivals() if self.baselines else {}
        self.rival_scores = {name: Regression() for name in self.rivals}
        self.shown: list[dict[str, Any]] = []

    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one cloud, and what needs no training beside it."""
        if batch is None:
            return
        super().test_step(batch, batch_idx)
        for name, model in self.rivals.items():
            found = model(batch.inputs).to(batch.target)
            self.rival_scores[name].add(*self._scored(found, batch))
        if len(self.shown) < SHOWN:
            self.shown.append(self._picture(batch, batch_idx))

    def _picture(self, batch: Batch, number: int) -> dict[str, Any]:
        """Return the first channel at the points, seen along the direction of least extent."""
        where, found = self.files.where, self.predict_batch(batch)[0, :, 0]
        place = batch.inputs[where][0].double().cpu()
        kept = (place.amax(0) - place.amin(0)).argsort(descending=True)[:2].sort().values
        at = torch.zeros(len(place), 2, dtype=torch.float64)
        at[:, : len(kept)] = place[:, kept]
        names = [f"{where}[{int(k)}]" for k in kept] + ["", ""]
        return {
            "title": f"test cloud {number}",
            "points": at.numpy(),
            "reference": batch.target[0, :, 0].double().cpu().numpy(),
            "prediction": found.double().cpu().numpy(),
            "symbol": self.files.wanted,
            "inputs": {n: _first(batch.inputs[n]) for n in self.files.features[:2]},
            "xlabel": names[0],
            "ylabel": names[1],
        }

    def on_test_epoch_end(self) -> None:
        """Add baselines, skill and pictures to the report."""
        super().on_test_epoch_end()
        report = self._report
        for name in sorted({n for rank in everyone(list(self.rival_scores)) for n in rank}):
            score = self.rival_scores.get(name, Regression()).gather()
            report["baselines"][name] = score.metrics("test")["test/rel_l2"]
        error = report["metrics"].get("test/rel_l2")
        if error is not None and report["baselines"]:
            best = max(min(report["baselines"].values()), 1e-30)
            report["metrics"]["test/skill"] = error / best
            self.log("test/skill", error / best)
        report["fields"] = self.shown


def _first(value: Tensor) -> Any:
    return value[0, :, 0].double().cpu().numpy()
