"""What needs no training beside a constrained operator: solutions of some inputs, and their basis.

    nearest            the solution of the closest solved training input
    pod_regression     kernel ridge regression of the coefficients of a basis by proper orthogonal
                       decomposition (POD) on the inputs
    pod_constrained    that basis, not the coefficients, under the operator's own constraint

All three know the same few solutions of training inputs, at all times, so beyond the horizon of
training too: there the operator has not seen what they have.
"""

from __future__ import annotations

from typing import Any

import torch

from sciml.data.batch import Batch
from sciml.modules.evaluation.scores import Regression, everyone
from sciml.physics.evolution import PODRegression, pod_modes


class Baselines:
    """Learns from `data.references` and scores test batches.

    Args:
        data: Knows solutions `references` `(n, ...)` of its first training inputs, or None.
        network: A `ConstrainedOperator`, for its constraint and its number of functions.
    """

    def __init__(self, data: Any, network: Any) -> None:
        self.data, self.network = data, network
        self.scores: dict[str, Regression] = {}

    @property
    def horizon(self) -> float:
        """Return the last time that training sees."""
        return float(self.data.problem.times[self.data.levels - 1])

    def learn(self) -> None:
        """Find the basis and the regression."""
        self.scores = {}
        known = self.data.references
        if known is None:
            return
        given = self.data.inputs["train"][: len(known)]
        count = min(getattr(self.network.basis, "functions", len(known)), len(known))
        count = len(known) if count == 1 else count  # a soft constraint has one function only
        spread = torch.tensor(self.data.sizes["std"], dtype=torch.float64)
        self.regression = PODRegression(given, known, count, spread=spread)
        self.modes = None
        if getattr(self.network.constraint, "counts", None):
            # of what the weights multiply: solutions without the offset of a lift
            offset = self.network.equation.offset(known[:, None], given)
            self.modes, _ = pod_modes(known - offset, count)

    @torch.no_grad()
    def add(self, batch: Batch, shown: slice) -> None:
        """Score a test batch at the time levels `shown`."""
        known = self.data.references
        if known is None:
            return
        field = batch.inputs["field"].double().cpu()
        levels = batch.target.shape[1]
        found = {
            "nearest": self.regression.nearest(field),
            "pod_regression": self.regression.predict(field),
        }
        if self.modes is not None:
            basis = self.modes[:, :levels].expand(len(field), -1, *batch.target.shape[1:])
            found["pod_constrained"] = self.network.patient(basis, field, lifted=True).value
        for name, value in found.items():
            score = self.scores.setdefault(f"{batch.part}/baseline/{name}", Regression())
            score.add(value[:, :levels][:, shown], batch.target[:, shown].cpu())

    def metrics(self) -> dict[str, float]:
        """Return `<part>/baseline/<name>`, relative L2 errors, over all ranks."""
        out = {}
        for name in sorted({name for rank in everyone(list(self.scores)) for name in rank}):
            score = self.scores.get(name, Regression())
            part = name.split("/")[0]
            out[name] = score.gather().metrics(part)[f"{part}/rel_l2"]
        return out
