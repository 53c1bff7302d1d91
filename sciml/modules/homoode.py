"""HomoODE: classification by the end of a flow that starts at one learned point for all images.

    dz/dt = F(z; x),  z(0) = z_0,        loss = cross entropy of head(z(1))
                                                + weight * mean over images of R

R regularises by what the integrator finds hard: the sum over steps of error times size, or of
stiffness (`sciml.solvers.ode.embedded`), or the same at one random time of the flow.

The start z_0 is trained on its own: every `start_every` steps one step of gradient descent on the
mean SmoothL1(z_0, z(1)) with a cosine from `start_lr` to 0; the task's loss does not reach it. It
is no second optimizer: its step follows from weights, batch and step number, so that it needs no
state, resumes exactly, and is the same on all ranks.

Neural ODEs and the explicit block (`sciml.networks.image.flow_classifier`) train with the same
module. Evaluations of the field and the equilibrium residual |dz/dt| / |z(1)| are logged together:
a low number of evaluations says nothing about whether z(1) is an equilibrium.

Departures from the published code: a validation set decides about the best checkpoint, not the test
set; the number of images per start step is the global batch.

Sources: arXiv 2310.09583; regularisation arXiv 2105.03918 and PMLR 202 (local variant).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from sciml.data.batch import Batch
from sciml.errors import InvalidArgument
from sciml.modules.supervised import Supervised
from sciml.networks.image.flow_classifier import ExplicitNetwork, FlowClassifier, ImageFlow
from sciml.networks.image.flow_start import LearnedStart
from sciml.optim.curvature.terms import LossTerm
from sciml.solvers.ode.initial_value import Evaluations
from sciml.solvers.ode.ode_method import ODE, check_gradient
from sciml.typed_arguments import typed


@typed
class HomoODEClassifier(Supervised):
    """Trains the classifiers of `sciml.networks.image.homoode_classifier` and `.flow_classifier`.

    Args:
        start_every: Steps between two steps of a learned start; 0 leaves it where it is.
        start_lr: First learning rate of the start.
        regularise: Estimate that is penalised: `none`, `error` or `stiffness`.
        regularise_weight: Weight of the penalty.
        regularise_where: Over the whole `path` (needs solver=dopri5 and no adjoint), or at one
            random time (`local`, with any solver).
        settings: Arguments of `Supervised`.

    Raises:
        InvalidArgument: For a network without a flow, data without classes, or combinations that
            do not work.

    Example:
        >>> import torch
        >>> from sciml.data import ImageData
        >>> from sciml.modules import HomoODEClassifier
        >>> from sciml.networks import HomoODE
        >>> from sciml.solvers import ODE
        >>> data = ImageData(source="digits", batch_size=4)
        >>> network = HomoODE(**data.sizes, width=8, head=8, groups=2, solver=ODE("rk4", steps=2))
        >>> module = HomoODEClassifier(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.loss_terms(data.batch(0).to("cpu", torch.float32))]
        ['data']
    """

    def __init__(
        self,
        *,
        network: FlowClassifier,
        data: Any,
        optimizer: Any,
        schedule: Any = None,
        start_every: int = 20,
        start_lr: float = 0.02,
        regularise: Literal["none", "error", "stiffness"] = "none",
        regularise_weight: float = 1.0,
        regularise_where: Literal["path", "local"] = "local",
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if not isinstance(network, FlowClassifier):
            raise InvalidArgument(
                f"network={type(network).__name__} for module=homoode",
                "a network with a flow",
                "Type network=homoode, network=neural_ode or network=explicit_block",
            )
        if data.kind != "classification":
            raise InvalidArgument(
                f"data of kind {data.kind} for module=homoode", "classes", "Type data=digits"
            )
        if regularise != "none":
            if network.gradient == "ift" or isinstance(network, ExplicitNetwork):
                raise InvalidArgument(
                    f"module.regularise={regularise} with network={type(network).__name__}, "
                    f"network.gradient={network.gradient}",
                    "a trajectory",
                    "Type network=homoode or network=neural_ode, network.gradient=backprop",
                )
            path = regularise_where == "path"
            check_gradient(network.solver, network.gradient, estimates=path)
        self.start_every, self.start_lr = start_every, start_lr
        self.regularise, self.regularise_weight = regularise, regularise_weight
        self.regularise_where = regularise_where
        self._flow: ImageFlow | None = None

    # --- the loss -------------------------------------------------------------------------------
    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the cross entropy and, if there is one, the penalty."""
        streams = batch.streams
        options: dict[str, Any] = {}
        place = None
        if self.regularise != "none" and self.regularise_where == "path":
            options["estimates"] = True
        elif self.regularise != "none":
            place = self._random_time(batch)
            options["times"] = tuple(sorted({0.0, place, 1.0}))
        generator = streams.generator("dropout")
        flow = self.network.flow(batch.inputs["image"], generator, **options)
        self._flow = flow
        terms = [self.data_term(flow.logits, batch)]
        if self.regularise != "none":
            found = self._estimate(flow, place)
            # the square of a residual is the penalty; 0 has no root with a slope
            rows = found.clamp_min(torch.finfo(found.dtype).tiny).sqrt()
            terms.append(LossTerm("solver", rows, self.regularise_weight, batch.count))
        return terms

    def _random_time(self, batch: Batch) -> float:
        """Return a time in [0, 1) at which fixed steps begin, or any for an adaptive method."""
        generator = batch.streams.generator("time", common=True, cpu=True)
        u = float(torch.rand((), generator=generator))
        solver: ODE = self.network.solver
        return u if solver.adaptive else math.floor(u * solver.steps) / solver.steps

    def _estimate(self, flow: ImageFlow, place: float | None) -> Tensor:
        """Return the penalised estimate `(N,)`."""
        stats = flow.solution.stats
        if place is None:
            return stats[self.regularise]
        steps = max(1, stats["evaluations"].steps)
        state = stats["path"][0 if place == 0 else 1]
        error, stiffness = self.network.estimates(flow, place, (1 - place) / steps, state)
        return error if self.regularise == "error" else stiffness

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return this rank's share of the loss; now and then log what the flow did."""
        loss = super().training_step(batch, batch_idx)
        if self._logging():
            residual = self.network.equilibrium_residual(self._flow).mean()
            self.log("homo/equilibrium_residual", residual)
            self.log("ode/nfe_fwd", float(evaluations(self._flow).forward))
        return loss

    def _logging(self) -> bool:
        """Return whether this step is one of those that are logged."""
        trainer = self._trainer  # none in a loop of one's own
        return trainer is not None and (self.global_step + 1) % trainer.log_every_n_steps == 0

    def on_after_backward(self) -> None:
        """Log evaluations of the field in the backward pass."""
        if self._flow is not None and self._logging():
            self.log("ode/nfe_bwd", float(evaluations(self._flow).backward))

    # --- the start ------------------------------------------------------------------------------
    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step, then now and then one of the start.

        Not in `on_train_batch_end`: the checkpoint of the step is written before that hook.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        start, step = getattr(self.network, "start", None), self.global_step + 1  # of this one
        if isinstance(start, LearnedStart) and self.start_every and self._flow is not None:
            if step % self.start_every == 0:
                self._move(start, self.start_rate(step))
        self._flow = None  # a graph is not kept over the step

    def start_rate(self, step: int) -> float:
        """Return the start's learning rate: half a cosine over the run, constant without an end."""
        total = self.trainer.max_steps
        share = min(step / total, 1.0) if total > 0 else 0.0
        return 0.5 * self.start_lr * (1 + math.cos(math.pi * share))

    def _move(self, start: LearnedStart, lr: float) -> None:
        """Move the start towards the ends of this step's flows on all ranks."""
        loss, slopes = start.slopes(self._flow.solution.value)
        if dist.is_initialized():
            dist.all_reduce(slopes)
            slopes = slopes / dist.get_world_size()
        start.descend(slopes, lr)
        self.log("homo/start", loss)

    # --- evaluation -----------------------------------------------------------------------------
    def predict_batch(self, batch: Batch) -> Tensor:
        """Return logits, and note what the flow did."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.training):
            flow = self.network.flow(batch.inputs["image"])
        rest = self.network.equilibrium_residual(flow)
        part = "test" if self.trainer.testing else "val"
        self.effort.mean(f"{part}/equilibrium_residual", rest)
        self.effort.mean(f"{part}/nfe", float(evaluations(flow).forward))
        return flow.logits


def evaluations(flow: ImageFlow) -> Evaluations:
    """Return the counts of a flow; an equilibrium solve counts its forward evaluations alone."""
    found = flow.solution.stats["evaluations"]
    return found if isinstance(found, Evaluations) else Evaluations(forward=found)
