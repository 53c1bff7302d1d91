"""Operators of steady PDEs: from a field to the field in equilibrium with it (FNO-DEQ, FNO).

    loss = mean over samples of |u_theta(a) - u|^2 / |u|^2,

u_theta an equilibrium of one Fourier layer (`sciml.networks.spectral.fourier_equilibrium`),
u_theta(a) = Q(z*), z* = g(a) + sigma(A z*), or an explicit network for comparison
(`sciml.networks.spectral.square_fno`). Training solves to a loose tolerance; validation and test go
on longer (`network.patience`).

What only an equilibrium can do is measured at the test, on every test set:

    <part>/deq/...               iterations, residual, share of samples not solved
    <part>/ten_times_change      relative change of the error under ten times the iterations: a
                                 network that depends on where its solver stopped has a large one
    budget.png                   error against the number of evaluations of the map

Reference: Marwah et al. 2023, arXiv 2312.00234.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.errors import InvalidArgument
from sciml.modules.evaluation.tally import Tally, step_figures
from sciml.modules.supervised import Supervised
from sciml.networks.spectral.fourier_equilibrium import FNODEQ, stretched
from sciml.networks.spectral.square_fno import FieldOperator
from sciml.solvers import Solution, Trace
from sciml.typed_arguments import typed


@typed
class SteadyOperator(Supervised):
    """Trains field operators; explicit ones without what concerns solvers.

    Args:
        network: The network.
        data: Pairs of fields.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.
        loss: `relative` or `mse`, as in `Supervised`.
        budgets: Evaluations of the map after which the test reads the error off.

    Raises:
        InvalidArgument: For another kind of network.

    Example:
        >>> import torch
        >>> from sciml.data import FieldData
        >>> from sciml.modules import SteadyOperator
        >>> from sciml.networks import FNODEQ
        >>> from sciml.physics.steady import Semilinear
        >>> data = FieldData(problem=Semilinear(n=20), train=4, val=2, test=2, hard=2, batch_size=2)
        >>> network = FNODEQ(width=4, hidden=8, modes=4, contraction=0.8)
        >>> module = SteadyOperator(network=network, data=data, optimizer=torch.optim.Adam)
        >>> tuple(module.predict_batch(data.batch(0).to("cpu", torch.float32)).shape)
        (2, 1, 20, 20)
    """

    def __init__(
        self,
        *,
        network: FieldOperator,
        data: Any,
        optimizer: Any,
        schedule: Any = None,
        loss: str = "relative",
        budgets: Sequence[int] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64),
    ) -> None:
        super().__init__(
            network=network, data=data, optimizer=optimizer, schedule=schedule, loss=loss
        )
        if not isinstance(network, FieldOperator):
            raise InvalidArgument(
                f"network={type(network).__name__} for module=fno_deq",
                "an operator between fields",
                "Type network=fno_deq or network=fno",
            )
        self.budgets = sorted(budgets)
        self._solution: Solution | None = None
        self.path = Tally()  # errors on the way of the solver

    # --- the loss -----------------------------------------------------------------------------
    def predict_batch(self, batch: Batch) -> Tensor:
        """Return u, and note what the solver did."""
        if not isinstance(self.network, FNODEQ):
            return self.network(**batch.inputs)
        value, solution = self.network.solve(**batch.inputs)
        if self.training:
            self._solution = solution
            return value
        part = batch.part if self.trainer.testing else "val"
        self.effort.solve(f"{part}/deq", solution)
        if self.trainer.testing:
            self._on_the_way(batch)
        return value

    def on_after_backward(self) -> None:
        """Now and then log what the solver did, forward and backward."""
        solution, self._solution = self._solution, None  # a graph is not kept over the step
        if solution is not None and (self.global_step + 1) % self.trainer.log_every_n_steps == 0:
            self.log_dict(step_figures(solution))

    # --- evaluation ---------------------------------------------------------------------------
    def _on_the_way(self, batch: Batch) -> None:
        """Solve once more for longer, and read the error off after every budget and at the end."""
        network = self.network
        patient = stretched(network.solver, 10 * network.patience)
        trace = Trace(patient, self.budgets)
        value, _ = network.solve(**batch.inputs, solver=trace)
        self.path.mean(f"{batch.part}/ten_times", errors(value, batch.target))
        for budget, state in zip(trace.at, trace.states, strict=True):
            found = errors(network.decoded(state), batch.target)
            self.path.mean(f"{batch.part}/budget/{budget}", found)

    def on_test_epoch_start(self) -> None:
        """Start empty scores."""
        super().on_test_epoch_start()
        self.path = Tally()

    def on_test_epoch_end(self) -> None:
        """Log scores, what the solver did, and what more iterations change."""
        super().on_test_epoch_end()
        metrics, found = self._report["metrics"], self.path.gathered()
        parts = sorted({name.split("/")[0] for name in found})
        change = {}
        for part in parts:
            error = metrics[f"{part}/rel_l2"]
            change[f"{part}/ten_times_change"] = abs(found[f"{part}/ten_times"] - error) / error
        self.log_dict(change)
        metrics |= change
        if parts:
            self._report["curves"] = {"budget": self._curve(parts, found)}

    def _curve(self, parts: list[str], found: dict[str, float]) -> dict[str, Any]:
        return {
            "x": self.budgets,
            "y": {p: [found[f"{p}/budget/{b}"] for b in self.budgets] for p in parts},
            "xlabel": "evaluations of the map",
            "ylabel": "relative L2 error",
            "log": "xy",
        }


def errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the relative L2 error per sample `(N,)`, float64."""
    u = target.double().flatten(1)
    return torch.linalg.vector_norm(prediction.double().flatten(1) - u, dim=1) / u.norm(dim=1)
