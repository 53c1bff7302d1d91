"""Training of convergent graph solvers, and of the graph networks they are compared with.

    loss = mean over the nodes (or graphs) of the global batch of |prediction - target|^2,
           or the cross entropy of classes,

with the derivative of the fixed points by the implicit function theorem (`sciml.solvers`). A
network that predicts in several rounds is trained on all of them, the mean of their losses.

What the solves did is logged: iterations, systems that failed, residuals, of the adjoint too.
Systems are one per graph and head; a result that rests on solves that stopped early is a different
network from the one the equations say.

Reference: Park, Choo, Park, "Convergent Graph Solvers", ICLR 2022, arXiv 2106.01680. Departures:
features and targets are standardised, by statistics the network keeps; relative errors refer to
the target, not to the prediction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.data.steps import StepData
from sciml.modules.supervised import Supervised
from sciml.optim.curvature.terms import LossTerm
from sciml.solvers import Solution
from sciml.typed_arguments import typed


@typed
class ConvergentGraphSolver(Supervised):
    """Trains a graph network, one target per node or per graph.

    A network may have `standardise(**inputs, target)`, which is called once before training;
    `solve(**inputs) -> (prediction, Solution)`; `all_rounds(**inputs) -> list of predictions`.

    Args:
        network: Called with x, edge_index, edge_attr and batch.
        data: Graphs and targets; its `task` may have `measures(inputs, prediction, target)`,
            further scores per row by name.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.

    Example:
        >>> import torch
        >>> from sciml.data import GraphData
        >>> from sciml.modules import ConvergentGraphSolver
        >>> from sciml.networks import CGS
        >>> from sciml.physics.graphs import ResistorNetwork
        >>> data = GraphData(task=ResistorNetwork(), train_sizes=(10, 10), graphs=2)
        >>> network = CGS(**data.sizes, heads=2, width=4, hidden=4)
        >>> module = ConvergentGraphSolver(network=network, data=data, optimizer=torch.optim.Adam)
        >>> tuple(module.predict_batch(data.batch(0).to("cpu", torch.float32)).shape)
        (20, 1)
    """

    def __init__(
        self, *, network: Any, data: StepData, optimizer: Any, schedule: Any = None
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        self.measures = getattr(getattr(data, "task", None), "measures", None)
        self.solution: Solution | None = None
        self._shown: Tensor | None = None  # the newest prediction of an evaluation
        if hasattr(network, "standardise"):
            # the first training batch of rank 0: the same on all ranks, and when resumed
            sample = data.batch(0, 0, 1)
            target = sample.target if self.kind == "regression" else None
            if target is not None and "weight" in sample.extra:
                target = target[sample.extra["weight"] > 0]
            network.standardise(**sample.inputs, target=target)

    # --- the loss -------------------------------------------------------------------------------
    def predict_batch(self, batch: Batch) -> Tensor:
        """Return the prediction and keep the solution it comes from."""
        if hasattr(self.network, "solve"):
            prediction, self.solution = self.network.solve(**batch.inputs)
        else:
            prediction = self.network(**batch.inputs)
        self._shown = None if self.training else prediction
        return prediction

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return one term, or one per round."""
        if not hasattr(self.network, "all_rounds"):
            return [self.data_term(self.predict_batch(batch), batch)]
        rounds = self.network.all_rounds(**batch.inputs)
        return [
            self.data_term(prediction, batch, 1 / len(rounds), f"round{i}")
            for i, prediction in enumerate(rounds)
        ]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log now and then what the solves of forward and backward pass did."""
        due = (self.global_step + 1) % self.trainer.log_every_n_steps == 0
        if due and self.solution is not None:
            self.log_dict({k: v.float() for k, v in self.solution.log("graph").items()})
            self.log("cgs/residual", self.solution.stats["relative"].amax())

    # --- evaluation -----------------------------------------------------------------------------
    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk, and note what its solves did."""
        super().test_step(batch, batch_idx)
        if batch is not None:
            self._note_solves(batch.part)
            self._note_errors(batch, self._shown)
            self._shown = None

    def _note_solves(self, part: str) -> None:
        if self.solution is None:
            return
        self.effort.mean(f"{part}/iterations", self.solution.iterations)
        self.effort.mean(f"{part}/failed_share", ~self.solution.converged)
        self.effort.peak(f"{part}/residual", self.solution.stats["relative"])

    def _note_errors(self, batch: Batch, prediction: Tensor) -> None:
        """Add the task's own measures, and the relative error of the worst graph."""
        weight = batch.extra.get("weight")
        used = slice(None) if weight is None else weight > 0
        measures = self.measures or (lambda *_: {})
        for name, rows in measures(batch.inputs, prediction, batch.target).items():
            self.effort.mean(f"{batch.part}/{name}", rows[used])
        if self.kind == "regression" and batch.index is not None:
            pair = torch.stack([prediction - batch.target, batch.target]).double()
            square = pair.square().flatten(2).sum(2)[:, used]
            sums = square.new_zeros(2, int(batch.index.max()) + 1)
            sums.index_add_(1, batch.index[used], square)
            sums = sums[:, sums[1] > 0]  # graphs whose targets are not all zero
            self.effort.peak(f"{batch.part}/rel_l2_worst", (sums[0] / sums[1]).sqrt())
