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
from torch import Tensor

from sciml.data.batch import Batch
from sciml.modules.scores import Regression, everyone

RIDGE = 1e-10  # of the kernel matrix, whose diagonal is 1


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
        flat = known.flatten(1)
        self.basis = torch.linalg.svd(flat, full_matrices=False)[2][:count]
        self._points = self._scaled(given)
        gap = torch.cdist(self._points, self._points)
        self._length = gap[gap > 0].median() if bool((gap > 0).any()) else gap.new_ones(())
        kernel = self._kernel(self._points) + RIDGE * torch.eye(len(known), dtype=gap.dtype)
        self._mean = (flat @ self.basis.T).mean(0)
        self._coefficients = torch.linalg.solve(kernel, flat @ self.basis.T - self._mean)

    def _scaled(self, inputs: Tensor) -> Tensor:
        """Return inputs `(n, ...)` as the kernel sees them: channels in units of their spread."""
        spread = torch.tensor(self.data.sizes["std"], dtype=torch.float64)
        return (inputs / spread.view(1, -1, *[1] * (inputs.dim() - 2))).flatten(1)

    def _kernel(self, points: Tensor) -> Tensor:
        """Return the Matérn kernel of smoothness 5/2 between points and those known."""
        r = 5**0.5 * torch.cdist(points, self._points) / self._length
        return (1 + r + r.square() / 3) * torch.exp(-r)

    @torch.no_grad()
    def add(self, batch: Batch, shown: slice) -> None:
        """Score a test batch at the time levels `shown`."""
        known = self.data.references
        if known is None:
            return
        field = batch.inputs["field"].double().cpu()
        levels = batch.target.shape[1]
        points = self._scaled(field)
        nearest = torch.cdist(points, self._points).argmin(1)
        coefficients = self._mean + self._kernel(points) @ self._coefficients
        found = {
            "nearest": known[nearest],
            "pod_regression": (coefficients @ self.basis).unflatten(1, known.shape[1:]),
        }
        basis = self.basis.unflatten(1, known.shape[1:])[:, :levels]
        if getattr(self.network.constraint, "counts", None):
            basis = basis.expand(len(field), *basis.shape)
            found["pod_constrained"] = self.network.patient(basis, field).value
        for name, value in found.items():
            score = self.scores.setdefault(f"{batch.part}/baseline/{name}", Regression())
            score.add(value[:, :levels][:, shown], batch.target[:, shown])

    def metrics(self) -> dict[str, float]:
        """Return `<part>/baseline/<name>`, relative L2 errors, over all ranks."""
        out = {}
        for name in sorted({name for rank in everyone(list(self.scores)) for name in rank}):
            score = self.scores.get(name, Regression())
            part = name.split("/")[0]
            out[name] = score.gather().metrics(part)[f"{part}/rel_l2"]
        return out
