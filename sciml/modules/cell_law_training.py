"""What the methods share that learn the law of a periodic cell: their errors on whole fields.

Test metrics are relative L2 norms over all nodes or quadrature points of the mesh, the mean over
the strains of a set (with `_median` the median, with `_max` the largest):

    <part>/stress_xx, _yy, _xy        local stress, component by component
    <part>/u_x, u_y                   displacement, its affine part included
    <part>/rel_l2                     homogenised stress
    <part>/tangent                    homogenised tangent, Frobenius norm
    <part>/asymmetry                  of the homogenised tangent
    <part>/r2_xx, _yy, _xy            coefficient of determination of the homogenised stress
    <part>/floor_stress_xx, ...       projection of the stress onto the modes: what no branch beats
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sciml.data.batch import Batch
from sciml.data.strain_data import SnapshotData
from sciml.errors import InvalidType
from sciml.modules.evaluation.scores import everyone
from sciml.modules.supervised import Supervised

COMPONENTS = ("xx", "yy", "xy")


class CellLaw(Supervised):
    """Base of the methods on `SnapshotData`.

    Args:
        network: What is trained.
        data: Snapshots of the cell.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.

    Raises:
        InvalidType: For other data.
    """

    def __init__(
        self, *, network: nn.Module, data: SnapshotData, optimizer: Any, schedule: Any = None
    ) -> None:
        if not isinstance(data, SnapshotData):
            raise InvalidType(
                f"data={type(data).__name__} for module {type(self).__name__}",
                "snapshots of a cell",
                "Type data=disk_cell",
            )
        super().__init__(
            network=network, data=data, optimizer=optimizer, schedule=schedule, loss="relative"
        )
        mesh = data.solver.mesh
        self._buffer("cell_weights", torch.from_numpy(mesh.weights.ravel()))
        self._buffer("cell_nodes", torch.from_numpy(mesh.nodes))
        self._errors: dict[str, list[Tensor]] = {}

    def _buffer(self, name: str, value: Tensor) -> None:
        """Keep what the data give anew in every run on the device, out of checkpoints."""
        self.register_buffer(name, value, persistent=False)

    def setup(self, stage: str) -> None:
        """Bring what the data gave, in double precision, to the precision of the weights."""
        self.to(next(self.network.parameters()).dtype)

    # --- what a method says -----------------------------------------------------------------------
    def local_fields(self, strain: Tensor) -> dict[str, Tensor]:
        """Return what is known of "stress" `(n, Q, 3)` and the fluctuation "displacement"."""
        return {}

    def projected(self, stress: Tensor) -> Tensor | None:
        """Return the closest local stresses `(n, Q, 3)` that the method could give, if known."""
        return None

    def baseline(self, strain: Tensor) -> tuple[str, Tensor] | None:
        """Return name and homogenised stress `(n, 3)` of a method to compare with, if any."""
        return None

    def homogenised(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return stress `(n, 3)` and tangent `(n, 3, 3)`."""
        return self.network.stress_and_tangent(strain)

    def predict_batch(self, batch: Batch) -> Tensor:
        """Return the homogenised stress `(n, 3)`."""
        return self.homogenised(batch.inputs["strain"])[0]

    # --- evaluation -------------------------------------------------------------------------------
    def on_test_epoch_start(self) -> None:
        """Start empty scores."""
        super().on_test_epoch_start()
        self._errors = {}

    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk of a test set, homogenised and on the whole field."""
        super().test_step(batch, batch_idx)
        if batch is None:
            return
        with torch.no_grad():
            for name, value in self._named_errors(batch):
                self._errors.setdefault(f"{batch.part}/{name}", []).append(value.double().cpu())

    def _named_errors(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        strain, extra = batch.inputs["strain"], batch.extra
        stress, tangent = self.homogenised(strain)
        fields, local = self.local_fields(strain), extra["local_stress"]
        stresses = {"stress": fields.get("stress"), "floor_stress": self.projected(local)}
        for name, found in stresses.items():
            if found is not None:
                errors = relative(found - local, local)
                yield from zip((f"{name}_{c}" for c in COMPONENTS), errors.T, strict=True)
        if "displacement" in fields:
            wanted = extra["displacement"]
            errors = relative(fields["displacement"] - wanted, wanted + self._affine(strain))
            yield from zip(("u_x", "u_y"), errors.T, strict=True)
        yield "rel_l2", relative((stress - batch.target)[..., None], batch.target[..., None])[:, 0]
        pairs = ("tangent", extra["tangent"]), ("asymmetry", tangent.mT)
        for name, wanted in pairs:
            yield name, (tangent - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
        yield "pairs", torch.stack([stress, batch.target, strain], 1)

    def _affine(self, strain: Tensor) -> Tensor:
        """Return the displacement `(n, N, 2)` of a homogeneous strain."""
        xx, yy, shear = strain.T
        rows = torch.stack([torch.stack([xx, shear / 2], 1), torch.stack([shear / 2, yy], 1)], 1)
        return self.cell_nodes @ rows

    def on_test_epoch_end(self) -> None:
        """Log means, medians and maxima over the strains of every set."""
        super().on_test_epoch_end()
        ranks = everyone({name: torch.cat(parts) for name, parts in self._errors.items()})
        names = sorted({name for rank in ranks for name in rank})
        found: dict[str, float] = {}
        for name in names:
            values = torch.cat([rank[name] for rank in ranks if name in rank])
            if name.endswith("/pairs"):
                part, (stress, wanted, strain) = name.removesuffix("/pairs"), values.unbind(1)
                rows = zip(COMPONENTS, determination(stress, wanted), strict=True)
                found |= {f"{part}/r2_{c}": float(value) for c, value in rows}
                self._baselines(part, strain, wanted)
                continue
            found |= {
                name: float(values.mean()),
                f"{name}_median": float(values.median()),
                f"{name}_max": float(values.max()),
            }
        self.log_dict(found)
        self._report["metrics"] |= found

    def _baselines(self, part: str, strain: Tensor, wanted: Tensor) -> None:
        other = self.baseline(strain) if part == "test" else None
        if other is not None:
            error = relative((other[1] - wanted)[..., None], wanted[..., None]).mean()
            self.log(f"test/baseline/{other[0]}", error)
            self._report["baselines"][other[0]] = float(error)


def relative(error: Tensor, value: Tensor) -> Tensor:
    """Return `|error| / |value|` `(n, c)` of fields `(n, points, c)`; 0 where both vanish."""
    size = torch.linalg.vector_norm(value, dim=1)
    return torch.linalg.vector_norm(error, dim=1) / size.clamp_min(torch.finfo(size.dtype).tiny)


def determination(found: Tensor, wanted: Tensor) -> Tensor:
    """Return R^2 `(c,)` of values `(n, c)`."""
    spread = (wanted - wanted.mean(0)).square().sum(0)
    return 1 - (found - wanted).square().sum(0) / spread
