"""Point clouds and surfaces from people's own files: a list of samples of different sizes.

    python train.py model=gino data.path=mini_car.pt

Every sample is a dictionary of arrays: the points `(P, d)`, features `(P, ...)` and the wanted
field `(P, ...)`, or `(1, P)`. A training batch sees random points of each cloud, so that samples
of different sizes fit into one array; validation and test see all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.epochs import epoch_places
from sciml.data.files.sample_split import split
from sciml.data.files.statistics import check_finite
from sciml.data.readers import open_source
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument

POINTS = ("vertices", "points", "pos", "coords", "coordinates", "x", "input_geom")
OUTPUTS = ("press", "pressure", "y", "u", "output", "target", "value")


class CloudFiles(StepData):
    """Samples of points.

    Args:
        path: File, see `sciml.data.files`.
        points: Name of the coordinates; None for what is recognised.
        inputs: Names of features at the points, or one name.
        outputs: Name of the wanted field, alone or in a list; None for what is recognised.
        unit: Of the output.
        samples: Points of each cloud in a training batch, drawn at random.
        train: Training samples at most.
        val: Validation samples, a number or a share.
        test: Test samples, likewise.
        batch_size: Clouds per step and rank.
        seed: Of order and points.
        fixed_for: Steps for which a batch stays the same.

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
        samples: int = 1024,
        train: int | None = None,
        val: float | int = 1,
        test: float | int = 1,
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
        source = open_source(path)
        if source.clouds is None:
            raise InvalidArgument(
                f"{path} is no list of samples: it holds {source.listed()}",
                "a list of dictionaries of points and values",
                "For fields on grids type model=fno",
            )
        where = points or next((n for n in POINTS if n in source.arrays), None)
        wanted = outputs or [n for n in OUTPUTS if n in source.arrays][:1]
        if where is None or len(wanted) != 1:
            raise InvalidArgument(
                f"{path} with {source.listed()}", "the coordinates and one wanted field",
                "Type data.points=NAME data.outputs=[NAME]",
            )  # fmt: skip
        for name, key in ((where, "data.points"), (wanted[0], "data.outputs")):
            source.array(name, key)
        self.where, self.features, self.wanted = where, tuple(inputs), wanted[0]
        self.clouds = [self._cloud(source.clouds, i, Path(path)) for i in range(len(source.clouds))]
        self.chosen = split(source, len(self.clouds), how="random", val=val, test=test,
                            train=train, apart=False)  # fmt: skip
        known = [self.clouds[i] for i in self.chosen["train"]]
        place = torch.cat([c[where] for c in known])
        value = torch.cat([c[self.wanted] for c in known])
        given = [torch.cat([c[n] for c in known]) for n in self.features]
        spread = place.amax(0) - place.amin(0)
        self.sizes = {
            "clouds": {
                "points": where,
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

    def _cloud(self, clouds: Sequence[Mapping], i: int, path: Path) -> dict[str, Tensor]:
        """Return a sample as arrays `(P, C)`.

        Raises:
            InvalidArgument: If an array has no entry per point, or numbers that are none.
        """
        found, count = {}, None
        for name in (self.where, *self.features, self.wanted):
            if name not in clouds[i]:
                raise InvalidArgument(
                    f"{path}: sample {i} has no {name}", f"one of {', '.join(clouds[i])}"
                )
            value = torch.from_numpy(np.asarray(clouds[i][name])).float()
            count = len(value) if count is None else count
            if value.shape[0] != count and value.shape[-1] == count:
                value = value.movedim(-1, 0)
            if value.shape[0] != count:
                raise InvalidArgument(
                    f"{path}: sample {i} has {name} {tuple(clouds[i][name].shape)} for {count} "
                    f"points in {self.where}",
                    "one entry per point",
                )
            value = value.reshape(count, -1)
            check_finite(name, value[None], [i], path)
            found[name] = value
        return found

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
