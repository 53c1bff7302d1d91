"""Deep conjugate directions: networks that make search directions for sparse SPD systems.

For a right-hand side b with solution x and the network's direction q = f(b; A), the solver's exact
step is alpha = q.b / q.Aq. Two losses, both independent of the size and sign of q:

    residual   mean of |b - alpha A q|^2 for |b| = 1                    (DCDM)
    energy     mean of |x - alpha q|_A^2 / |x|_A^2 = 1 - (q.b)^2 / (q.Aq x.b), in [0, 1]

The first is not bounded by 1, since alpha minimises another norm; the second is the share of the
error's A-norm that one step leaves, formed from sqrt(w_f) times the jump of the error at every face
and sqrt(s_c) times the error in every cell. |x|_A^2 is formed in the same way and not as x.b, which
round-off may make zero. Curvature sees the norm of each sample as its residual.

With `own_steps`, a share of the samples are residuals that the present network leaves after one to
`own_steps` steps of the solver, without gradient through these steps: what it will be asked later.

Validation and test solve systems of domains that training has not seen, in float64 with the true
residual, and count iterations to `rtol`; unsolved systems count `max_iter`.

Sources: Kaneda et al. 2023, arXiv 2205.10763 (residual loss, Ritz data, directions); Rudikov et al.
2024, arXiv 2402.05598 (energy loss of a flexible CG step, training on residuals).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.data.pressure_data import SystemData
from sciml.errors import InvalidArgument
from sciml.modules.conjugate_loss import direction_rows, own_residuals
from sciml.modules.evaluation.scores import everyone
from sciml.modules.evaluation.tally import Tally
from sciml.modules.training_method import TrainingMethod
from sciml.networks.preconditioners import LearnedPreconditioner, PreconditionerNetwork
from sciml.networks.preconditioners.learned_preconditioner import stencil_of
from sciml.optim.curvature.terms import LossTerm
from sciml.solvers import Outcome, Status
from sciml.solvers.linear import (
    ConjugateDirections,
    FlexibleCG,
    IncompleteCholesky,
    Multigrid,
    Stencil,
)
from sciml.typed_arguments import typed

# What iterations are compared with at the test.
CLASSICAL: dict[str, Callable[[Stencil], Any]] = {
    "cg": lambda stencil: None,
    "ic": lambda stencil: IncompleteCholesky(stencil, modified=0.0),
    "mic": IncompleteCholesky,
    "multigrid": lambda stencil: Multigrid(stencil, dtype=torch.float32),
}


@typed
class ConjugateDirectionLearner(TrainingMethod):
    """Trains a network of `sciml.networks.preconditioners`.

    Args:
        network: The network.
        data: Systems with solutions.
        optimizer: Makes the optimizer from the parameters, or from the module where its first
            argument is called `module`.
        schedule: Makes the learning-rate schedule from the optimizer, stepped every step.
        loss: `energy` or `residual`.
        own_steps: Largest number of solver steps before a residual is taken; 0 for none.
        own_share: Share of the samples they make up.
        directions: K of the solver that judges: None for flexible CG.
        rtol: Tolerance on the true relative residual in validation and test.
        max_iter: Iterations after which a system counts as unsolved.
        compare: Classical preconditioners whose iterations are counted at the test: cg, ic, mic,
            multigrid.

    Raises:
        InvalidArgument: For another kind of network or data, or settings that cannot be.

    Example:
        >>> import torch
        >>> from sciml.data import PressureData
        >>> from sciml.modules import ConjugateDirectionLearner
        >>> from sciml.networks import DCDM
        >>> from sciml.physics.fluids import RandomDomains
        >>> data = PressureData(problem=RandomDomains(), train_sizes=(8,), batch_size=2)
        >>> network = DCDM(channels=4, full=2, pooled=1, fine=1)
        >>> module = ConjugateDirectionLearner(
        ...     network=network, data=data, optimizer=torch.optim.Adam, own_steps=0
        ... )
        >>> [term.name for term in module.loss_terms(data.batch(0).to("cpu", torch.float32))]
        ['direction']
    """

    def __init__(
        self,
        *,
        network: PreconditionerNetwork,
        data: SystemData,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], object] | None = None,
        loss: Literal["energy", "residual"] = "energy",
        own_steps: int = 4,
        own_share: float = 0.5,
        directions: int | None = None,
        rtol: float = 1e-6,
        max_iter: int = 300,
        compare: Sequence[str] = ("multigrid",),
    ) -> None:
        super().__init__(optimizer, schedule)
        if not isinstance(network, PreconditionerNetwork) or not isinstance(data, SystemData):
            raise InvalidArgument(
                f"network={type(network).__name__}, data={type(data).__name__} for "
                "module=conjugate_direction",
                "a network of preconditioners and linear systems",
                "Type network=learned_multigrid data=pressure",
            )
        if own_steps < 0 or not 0 <= own_share <= 1:
            raise InvalidArgument(
                f"module.own_steps={own_steps}, own_share={own_share}",
                "zero or more steps, and a share in [0, 1]",
            )
        for name in compare:
            if name not in CLASSICAL:
                raise InvalidArgument(f"module.compare={list(compare)}", ", ".join(CLASSICAL))
        self.network, self.loss = network, loss
        self.own_steps, self.own_share = own_steps, own_share
        self.directions, self.rtol, self.max_iter = directions, rtol, max_iter
        self._solver(None)  # refuses what a solver refuses, before training
        self.compare = tuple(compare)
        self.effort = Tally()
        self._report: dict[str, Any] = {}

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the directions of a batch."""
        return self.network(**inputs)

    # --- the loss -----------------------------------------------------------------------------
    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the loss of a batch, on white noise or mixtures and on own residuals."""
        stencil = stencil_of(batch.inputs["weights"], batch.inputs["shift"])
        prepared = self.network.prepare(stencil)

        def product(r: Tensor) -> Tensor:
            return torch.where(stencil.unknown, self.network.directions(prepared, r), 0.0)

        b, x = batch.inputs["residual"], batch.target
        if self.own_steps and "age" in batch.extra:
            b, x = own_residuals(product, stencil, b, x, self._ages(batch.extra["age"]))
        rows = direction_rows(stencil, product(b), b, x, self.loss)
        # one number per sample, not one per face: curvature takes a derivative of each
        left = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return [LossTerm("direction", left, 1.0, batch.count)]

    def _ages(self, u: Tensor) -> Tensor:
        """Return how many solver steps each sample is old, from uniform numbers `(N,)`."""
        share = max(self.own_share, torch.finfo(u.dtype).tiny)
        age = 1 + (u / share * self.own_steps).long().clamp_max(self.own_steps - 1)
        return torch.where(u < self.own_share, age, 0)

    # --- evaluation ---------------------------------------------------------------------------
    def _solver(self, preconditioner: Any) -> FlexibleCG | ConjugateDirections:
        """Return the solver that judges a preconditioner."""
        settings = {"rtol": self.rtol, "max_iter": self.max_iter}
        if self.directions is None:
            return FlexibleCG(**settings, preconditioner=preconditioner)
        return ConjugateDirections(
            **settings, preconditioner=preconditioner, directions=self.directions
        )

    def _judge(self, batch: Batch, part: str, compare: Sequence[str] = ()) -> None:
        """Note loss and iterations of a chunk of systems, and those of classical methods."""
        inputs = batch.inputs
        stencil = stencil_of(inputs["weights"].double(), inputs["shift"].double())
        b = inputs["residual"].double()
        operator = stencil.operator(b)
        learned = LearnedPreconditioner(self.network, stencil)
        out = self._solver(learned)(operator, b)
        self._note(part, "", out)
        q = learned.apply(b)
        rows = direction_rows(stencil, q, b, batch.target.double(), self.loss)
        self.effort.mean(f"{part}/loss", rows.square().sum(1))
        for name in compare:
            many = 20 * self.max_iter
            solver = FlexibleCG(
                rtol=self.rtol, max_iter=many, preconditioner=CLASSICAL[name](stencil)
            )
            self._note(part, f"_{name}", solver(operator, b))

    def _note(self, part: str, name: str, out: Outcome) -> None:
        solved = out.status == Status.CONVERGED
        count = torch.where(solved, out.iterations, self.max_iter) if not name else out.iterations
        self.effort.mean(f"{part}/iterations{name}", count)
        self.effort.peak(f"{part}/iterations_max{name}", count)
        if not name:
            self.effort.mean(f"{part}/unsolved", ~solved)
            self.effort.peak(f"{part}/residual", out.relative)

    def on_validation_epoch_start(self) -> None:
        """Start empty figures."""
        self.effort = Tally()

    @torch.no_grad()
    def validation_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Solve one chunk of systems."""
        if batch is not None:
            self._judge(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log loss and iterations of the validation systems."""
        self.log_dict(self.effort.gathered())

    def on_test_epoch_start(self) -> None:
        """Start empty figures."""
        self.effort, self._report = Tally(), {}

    @torch.no_grad()
    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Solve one chunk of one of the test sets, classical methods beside the learned one."""
        if batch is not None:
            self._judge(batch, batch.part, self.compare)

    def on_test_epoch_end(self) -> None:
        """Log the figures of every test set, and keep the report."""
        found = self.effort.gathered()
        self.log_dict(found)
        parts = sorted({name.partition("/")[0] for name in found}, key=_size_of)
        curves = {}
        if len(parts) > 1:
            names = ["", *(f"_{name}" for name in self.compare)]
            labels = [type(self.network).__name__, *self.compare]
            y = {
                label: [found[f"{part}/iterations{name}"] for part in parts]
                for name, label in zip(names, labels, strict=True)
            }
            curves["iterations"] = {
                "x": list(range(1, len(parts) + 1)),
                "y": y,
                "ticks": [part.replace("_", " ") for part in parts],
                "xlabel": "test set, by cells per axis",
                "ylabel": f"iterations to {self.rtol:g}",
                "log": "y",
            }
        self._report = {"metrics": found, "curves": curves, "ranks": len(everyone(0))}

    @property
    def test_report(self) -> dict[str, Any]:
        """Return what plots and tables show, see `sciml.callbacks.plots`."""
        return self._report


def _size_of(part: str) -> int:
    """Return the order of test sets: `test` first, then by size."""
    return int(part.partition("_")[2] or 0)
