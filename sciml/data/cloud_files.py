"""Point clouds and surfaces from people's own files: samples of different sizes.

    python train.py model=cloud_unet data.path=mini_car.pt

Every sample is a dictionary of arrays, or a file of a folder: the points `(P, d)`, features
`(P, ...)`, numbers of the whole sample, and the wanted field `(P, ...)`, or `(1, P)`. A training
batch sees random points of each cloud, so that samples of different sizes fit into one array;
validation and test see all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.epochs import epoch_places
from sciml.data.files.cloud_samples import cloud_source, recognised, samples_of, unused
from sciml.data.files.data_parts import check_apart
from sciml.data.files.sample_split import split
from sciml.data.regression import nearest
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument

COMPARED = 20_000  # training points that the nearest is looked for among


class CloudFiles(StepData):
    """Samples of points.

    Args:
        path: File or folder, see `sciml.data.files`.
        points: Name of the coordinates; None for what is recognised.
        inputs: Names of features at the points, or one name.
        outputs: Name of the wanted field, alone or in a list; None for what is recognised.
        unit: Of the output.
        test_path: File or folder of test samples; None to take them from `path`.
        samples: Points of each cloud in a training batch, drawn at random.
        train: Training samples at most.
        val: Validation samples, a number or a share.
        test: Test samples, likewise.
        batch_size: Clouds per step and rank.
        seed: Of order and points.
        fixed_for: Steps for which a batch stays the same.

    Attributes:
        ranges: Least and greatest value of every input in training.
        notes: Sentences on what was recognised.
        doubts: Those of them that a run begins with.

    Raises:
        InvalidArgument: If the file is no list of samples, or names are not recognised.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from sciml.data import CloudFiles
        >>> cloud = lambda: {"x": torch.rand(30, 2), "y": torch.rand(30, 1)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save([cloud() for _ in range(4)], f"{folder}/clouds.pt")
        ...     data = CloudFiles(path=f"{folder}/clouds.pt", samples=20)
        >>> {name: tuple(value.shape) for name, value in data.batch(0).inputs.items()}
        {'x': (1, 20, 2)}
    """

    points_differ = True

    def __init__(
        self,
        *,
        path: str,
        points: str | None = None,
        inputs: str | Sequence[str] = (),
        outputs: str | Sequence[str] | None = None,
        unit: str = "1",
        test_path: str | None = None,
        samples: int = 1024,
        train: int | None = None,
        val: float | int = 0.1,
        test: float | int = 0.1,
        batch_size: int = 1,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        for name, value in (("batch_size", batch_size), ("samples", samples)):
            if value < 1:
                raise InvalidArgument(f"data.{name}={value}", "a positive integer")
        inputs, outputs = ([v] if isinstance(v, str) else v for v in (inputs, outputs))
        self.batch_size, self.points, self.unit = batch_size, samples, unit
        source = cloud_source(path, points)
        self.where, self.wanted = recognised(source, points, list(outputs or ()))
        self.features = tuple(inputs)
        for name in self.features:
            source.array(name, "data.inputs")
        arrays = (self.where, self.features, self.wanted)
        self.clouds = samples_of(source, *arrays)
        parts = {"val": val, "test": test, "train": train, "apart": test_path is not None}
        self.chosen = split(source, len(self.clouds), how="auto", **parts)
        if test_path is not None:
            check_apart(test_path, path)
            more = samples_of(cloud_source(test_path, self.where), *arrays)
            self._check_alike(more, test_path)
            self.chosen["test"] = np.arange(len(self.clouds), len(self.clouds) + len(more))
            self.clouds += more
        self.doubts = [t for t in [unused(source, (self.where, *self.features, self.wanted))] if t]
        self.notes = [*source.notes, *self.doubts]
        self.names = (self.wanted,)
        known = [self.clouds[i] for i in self.chosen["train"]]
        place = torch.cat([c[self.where] for c in known])
        value = torch.cat([c[self.wanted] for c in known])
        given = [torch.cat([c[n] for c in known]) for n in self.features]
        seen = dict(zip((self.where, *self.features), (place, *given), strict=True))
        self.ranges = {name: (float(v.min()), float(v.max())) for name, v in seen.items()}
        spread = place.amax(0) - place.amin(0)
        self.sizes = {
            "clouds": {
                "points": self.where,
                "features": list(self.features),
                "widths": [g.shape[1] for g in given],
                "output": self.wanted,
                "unit": unit,
                "dim": place.shape[1],
                "channels": sum(g.shape[1] for g in given),
                "out_channels": value.shape[1],
                "low": place.amin(0).tolist(),
                "high": (place.amin(0) + spread.clamp_min(1e-12)).tolist(),
                "mean": [m for g in given for m in g.mean(0).tolist()],
                "std": [s or 1.0 for g in given for s in g.std(0).tolist()],
                "out_mean": value.mean(0).tolist(),
                "out_std": [s or 1.0 for s in value.std(0).tolist()],
            }
        }

    def _check_alike(self, more: Sequence[dict[str, Tensor]], path: str) -> None:
        """Refuse test samples with other channels."""
        for name, value in self.clouds[0].items():
            if more[0][name].shape[1] != value.shape[1]:
                raise InvalidArgument(
                    f"{path} with {more[0][name].shape[1]} numbers per point in {name}",
                    f"{value.shape[1]}, as in the training samples",
                )

    def rivals(self) -> dict[str, Callable[[dict[str, Tensor]], Tensor]]:
        """Return what needs no training, by name: from the inputs of one cloud to its field.

        `nearest_point` is the value at the training point that is closest in coordinates and
        features, each over its deviation, among 20,000 of them at random.
        """
        names = (self.where, *self.features)
        known = [self.clouds[i] for i in self.chosen["train"]]
        x = torch.cat([torch.cat([c[n] for n in names], 1) for c in known]).double()
        y = torch.cat([c[self.wanted] for c in known]).double()
        draw = torch.Generator().manual_seed(self.seed)
        some = torch.randperm(len(x), generator=draw)[:COMPARED]
        mean, std = x.mean(0), x.std(0).clamp_min(1e-300)
        closest = nearest((x[some] - mean) / std, y[some])

        def found(given: dict[str, Tensor]) -> Tensor:
            new = torch.cat([given[n][0] for n in names], 1).double().cpu()
            return torch.cat([closest((part - mean) / std) for part in new.split(512)])[None]

        return {"nearest_point": found}

    def _batch(self, rows: Sequence[int], streams: Streams, count: int, drawn: bool) -> Batch:
        held: dict[str, list[Tensor]] = {}
        draw = streams.generator("points", cpu=True)
        least = min(len(self.clouds[i][self.where]) for i in rows)
        for i in rows:
            cloud = self.clouds[i]
            n = len(cloud[self.where])
            some = torch.randperm(n, generator=draw)[: min(self.points, least)]
            for name, value in cloud.items():
                held.setdefault(name, []).append(value[some] if drawn else value)
        made = {name: torch.stack(values) for name, values in held.items()}
        return Batch(made, made.pop(self.wanted), streams, count)

    # --- training and evaluation ------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return random points of the clouds of a step on a rank."""
        streams = Streams(self.seed, step, rank, world, self.device())
        rows = self.chosen["train"]
        rows = rows[epoch_places(self.seed, len(rows), self.batch_size, step, rank, world).numpy()]
        return self._batch(rows.tolist(), streams, self.batch_size * world, True)

    @property
    def val_chunks(self) -> int:
        """Number of validation clouds."""
        return len(self.chosen["val"])

    def val_chunk(self, index: int) -> Batch:
        """Return a validation cloud."""
        return self._one("val", index)

    @property
    def test_chunks(self) -> int:
        """Number of test clouds."""
        return len(self.chosen["test"])

    def test_chunk(self, index: int) -> Batch:
        """Return a test cloud."""
        return self._one("test", index)

    def _one(self, part: str, index: int) -> Batch:
        streams = Streams(0, index, device=self.device())
        return self._batch([int(self.chosen[part][index])], streams, 1, False)
