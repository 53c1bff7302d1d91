"""Data-driven law of a cell: a perceptron from macro strain to stress, trained with its tangent.

    loss = mean over snapshots of  |shat - s|^2 / |s|^2 + weight |d shat / d ehat - C|^2 / |C|^2

(Sobolev training). It needs labels, `data.labels=true`, and knows no fields. The network is the
`EquiNO` with three modes, which then are the components of the stress themselves.

Reference: Eivazi, Troger, Wittek, Hartmann, Rausch 2023, "FE2 computations with deep neural
networks", Math. Comput. Appl. 28(4):91 (there 100 000 labels).
"""

from __future__ import annotations

from typing import Any

import torch

from sciml.data.batch import Batch
from sciml.data.strain_data import SnapshotData
from sciml.errors import InvalidArgument
from sciml.modules.cell_law_training import CellLaw
from sciml.networks.cells.equino_law import EquiNO
from sciml.optim.curvature.terms import LossTerm
from sciml.typed_arguments import typed


@typed
class StressLaw(CellLaw):
    """Trains a law on stresses and tangents.

    Args:
        network: With `modes=3`.
        data: Snapshots with labels in their batches.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.
        tangent_weight: Weight of the tangent; 0 for stresses only.

    Raises:
        InvalidArgument: For data without labels, or another number of modes.

    Example:
        >>> import torch
        >>> from sciml.data import SnapshotData
        >>> from sciml.modules import StressLaw
        >>> from sciml.networks import EquiNO
        >>> from sciml.physics.solids import DiskCell
        >>> data = SnapshotData(
        ...     cell=DiskCell(2), train=6, val=2, test=2, small=2, labels=True, batch_size=4
        ... )
        >>> network = EquiNO(modes=3, width=8, depth=2)
        >>> module = StressLaw(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.double().loss_terms(data.batch(0))]
        ['stress', 'tangent']
    """

    def __init__(
        self,
        *,
        network: EquiNO,
        data: SnapshotData,
        optimizer: Any,
        schedule: Any = None,
        tangent_weight: float = 1.0,
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if not data.labels:
            raise InvalidArgument(
                "data.labels=false for module=stress_law",
                "snapshots with stress and tangent in the batches",
                "Type data.labels=true",
            )
        if not isinstance(network, EquiNO) or network.modes != 3:
            raise InvalidArgument(
                f"network={type(network).__name__} for module=stress_law",
                "the three components of the stress",
                "Type network=equino network.modes=3",
            )
        self.tangent_weight = tangent_weight
        known = data.sets["train"]
        pairs = torch.from_numpy(known.strain), torch.from_numpy(known.stress)
        network.branch.standardise(*pairs)

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the terms of stress and tangent."""
        stress, tangent = self.homogenised(batch.inputs["strain"])
        terms = []
        for name, weight, found, wanted in (
            ("stress", 1.0, stress, batch.target),
            ("tangent", self.tangent_weight, tangent, batch.extra["tangent"]),
        ):
            size = wanted.flatten(1).norm(dim=1, keepdim=True)
            rows = (found - wanted).flatten(1) / size.clamp_min(torch.finfo(size.dtype).tiny)
            terms.append(LossTerm(name, rows, weight, batch.count, "gaussian"))
        return terms
