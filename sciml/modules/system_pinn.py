"""Physics-informed networks for systems of equations.

The outputs u_1, ..., u_K of an `Ansatz` are trained on all residuals of a `System`,

    loss = sum_i  w_i mean_{x in X_i}  r_i(x, u(x), Du(x), ...)^2 ,

one term per equation, condition and observed quantity, each with its own points X_i and weight
w_i. All derivatives of a set of points come from one pass of Taylor arithmetic
(`sciml.autodiff.multijet`). Unknown constants are trained along; their standard errors come from
the Gauss-Newton matrix, see `sciml.modules.identified`.

Reference: Raissi, Perdikaris and Karniadakis 2019, J. Comput. Phys. 378. Options have files of
their own: `adaptive_points` (kept with their batch), `balance`, `causal`, `attention`, `marching`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.data.collocation import CollocationBatch
from sciml.modules import marching, stages
from sciml.modules.adaptive_points import kept_candidates
from sciml.modules.initial_weights import initialise
from sciml.modules.joint_evaluation import values_together
from sciml.modules.system_report import SystemReport
from sciml.modules.training_method import TrainingMethod, step_loss
from sciml.modules.weights.attention import ResidualAttention
from sciml.modules.weights.balance import balanced, check_balance
from sciml.modules.weights.causal import CausalWeights
from sciml.modules.weights.given_weights import check_names, check_numbers
from sciml.modules.weights.units import warn_of_units
from sciml.networks.solutions.ansatz import Ansatz
from sciml.networks.solutions.time_windows import TimeWindows
from sciml.optim.construct import curvature_of
from sciml.optim.curvature.terms import LossTerm
from sciml.physics.systems import PointSet, System
from sciml.physics.systems import sampled_laplacian as sampling
from sciml.physics.systems.system_reading import EQUATIONS
from sciml.typed_arguments import typed


@typed
class PINN(TrainingMethod):
    """A network trained on the residuals of a system of equations.

    Args:
        problem: The system.
        network: Called as `network(None, None, f)` with the inputs of `Ansatz`.
        optimizer: Makes the optimizer from the parameters, or from a `module`, its first argument.
        schedule: Makes the learning-rate schedule from the optimizer, stepped every step.
        data: The data module, which says how many harmonics of periodic variables there are.
        adaptive_power: Exponent of the residual in the odds of candidates (`data.candidates` > 1).
        weights: Weights of loss terms by name instead of the ones they have.
        balance: Weights of terms: none, gradnorm, ntk or unit (`sciml.modules.weights.balance`).
        balance_every: Steps between two updates of these weights; 1 for unit, whatever is given.
        causal: One eps or a rising ladder (`sciml.modules.weights.causal`); true for the paper's.
        causal_chunks: Parts of time whose weights differ.
        attention: Whether points have multipliers, see `sciml.modules.weights.attention`.
        attention_decay: gamma of these.
        attention_rate: eta of these.
        windows: Windows of time, trained one after the other (`sciml.modules.marching`).
        sampled: Dimensions of Laplacians drawn per step (`sampled_laplacian`); None for all.
        initial: The network's weights as given, or in linear layers glorot (`initial_weights`).

    Raises:
        InvalidArgument, InvalidType: For a system, weights or options that cannot be right.

    Example:
        >>> import torch
        >>> from sciml.modules import PINN
        >>> from sciml.networks import MLP
        >>> from sciml.physics.suite import Wave1D
        >>> pinn = PINN(problem=Wave1D(), network=MLP(dim=0, features=2), optimizer=torch.optim.SGD)
        >>> tuple(pinn(torch.rand(5, 2))["u"].shape)
        (5,)
    """

    def __init__(
        self,
        *,
        problem: System,
        network: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], object] | None = None,
        data: object = None,
        adaptive_power: float = 1.0,
        weights: Mapping[str, float] | None = None,
        balance: Literal["none", "gradnorm", "ntk", "unit"] = "none",
        balance_every: int = 100,
        causal: bool | float | list[float] | None = None,
        causal_chunks: int = 32,
        attention: bool = False,
        attention_decay: float = 0.999,
        attention_rate: float = 0.01,
        windows: int = 1,
        sampled: int | None = None,
        initial: Literal["given", "glorot"] = "given",
    ) -> None:
        super().__init__(optimizer, schedule)
        check_balance(balance, balance_every)
        self.balance, self.balance_every = balance, 1 if balance == "unit" else balance_every
        self.problem, self.needs = problem, problem.needs
        initialise(network, initial)
        modes = getattr(data, "modes", 1)
        if windows == 1:
            self.network: Ansatz | TimeWindows = Ansatz(problem, network, modes)
        else:
            self.network = TimeWindows(problem, network, modes, windows)
            marching.check(problem, windows)
        if sampled is not None:
            sampling.check(problem, sampled)
        self.sampled, self._dimensions = sampled, (-1, ())  # and those of which step
        self.row_weights = nn.ModuleList()
        if causal is not None and causal is not False:
            self.row_weights.append(CausalWeights(problem, causal, causal_chunks))
        if attention:
            kept = getattr(data, "fixed_for", math.inf)
            equations = problem.term_names[: problem.equation_count]
            rule = ResidualAttention(equations, kept, attention_decay, attention_rate)
            self.row_weights.append(rule)
        # conditions that read values alone; in windows of time a start reads the one before, too
        values = frozenset([problem.names.zero])
        simple = tuple(name for name in problem.terms if self.needs[name] == values)
        self._simple = simple if windows == 1 else ()
        self._weighed: tuple[int, PointSet | None] = (-1, None)  # by which step, which points
        self._raw: dict[str, Tensor] = {}
        self.adaptive_power, self.weights = adaptive_power, dict(weights or {})
        check_numbers(self.weights)
        check_names(self.weights, problem.term_names)
        self.report: SystemReport | None = None
        self.history: dict[str, list[tuple[int, float]]] = {}
        # which candidates were kept, of which batch: points stay as long as their batch does
        self.register_buffer("kept", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("kept_of", torch.tensor(-1))
        self._kept_of: int | None = None  # the same on the host; None for not yet read
        self.register_buffer("balance_log", torch.zeros(len(problem.term_names)))
        self._factors: list[float] | None = None  # exp(balance_log), on the host

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs `(N,)` by name at points `(N, D)`."""
        return self.network(x)

    # --- the loss ---------------------------------------------------------------------------
    def residuals(self, name: str, p: PointSet) -> dict[str, Tensor]:
        """Return the residuals `(N,)` at a set of points, "equations" or a condition's, by term."""
        jet, (step, dimensions) = self.network.jet, self._dimensions
        if dimensions and step == self.global_step and self.training:
            known = sampling.fields(self.problem, name, p, dimensions, jet)
        else:
            known = self.problem.fields(p, jet(p, self.needs[name]), jet)
        found = self.problem.residuals(name, p, known)
        if isinstance(self.network, TimeWindows):
            return marching.handed_over(self, name, p, found)
        return found

    def loss_terms(self, batch: CollocationBatch) -> list[LossTerm]:
        """Return one term per equation and per quantity of a condition."""
        terms = []
        weighed = self.row_weights if batch.points is self._weighed[1] else ()
        found = self.residuals(EQUATIONS, batch.points)
        if weighed:
            self._raw = {name: value.detach() for name, value in found.items()}
        for name, value in found.items():
            for rule in weighed:
                value = value * rule.factor(name, batch.points)
            weight = self.weights.get(name, self.problem.weights.get(name, 1.0))
            terms.append(LossTerm(name, value, weight, batch.counts["interior"]))
        together = self._values_together(batch)
        for name, p in batch.conditions.items():
            for key, value in (together.get(name) or self.residuals(name, p)).items():
                weight = self.weights.get(key, self.problem.terms[name].weight)
                # where points come in pairs there is one row per pair
                count = batch.counts[name] * len(value) // len(p)
                terms.append(LossTerm(key, value, weight, count))
        if self.balance != "none":
            if self._factors is None:
                self._factors = self.balance_log.exp().tolist()
            for term, factor in zip(terms, self._factors, strict=True):
                term.weight *= factor
        return stages.scaled(self, terms)

    def _values_together(self, batch: CollocationBatch) -> dict[str, dict[str, Tensor]]:
        """Return the residuals of conditions on values alone, from one pass for all their points.

        Left to one pass each, and empty, where an optimizer looks at layers: there rows of a pass
        have to be those of a term.
        """
        simple = self._simple if self._trainer is not None and self.training else ()
        if len(simple) < 2 or any(curvature_of(o) is not None for o in self.trainer.optimizers):
            return {}
        return values_together(self.network, self.problem, simple, self.needs[simple[0]], batch)

    def _update_balance(self, batch: CollocationBatch) -> None:
        """Look at the terms with the weights that the user set."""
        self._factors = [1.0] * len(self.balance_log)
        with torch.enable_grad():
            terms = self.loss_terms(batch)
            self.balance_log = balanced(
                self.balance,
                terms,
                [p for p in self.network.parameters() if p.requires_grad],
                self.balance_log,
                batch.streams.generator("balance"),
                self.problem.equation_count,
            )
        self._factors = None

    def training_step(self, batch: CollocationBatch, batch_idx: int) -> Tensor:
        """Return this rank's share of the loss."""
        if self.sampled is not None:
            # with every step, also where a batch is kept
            streams = replace(batch.streams, step=self.global_step)
            drawn = sampling.draw(
                self.problem, self.sampled, streams.generator("dimensions", cpu=True)
            )
            self._dimensions = (self.global_step, drawn)
        if isinstance(self.network, TimeWindows):
            batch = marching.moved(batch, self.network)
        batch = self.choose_points(batch)
        step, points = self._weighed
        # an optimizer may ask several times in a step: the weights stay
        fresh = step != self.global_step or points is not batch.points
        if fresh:
            self._weighed = (self.global_step, batch.points)
            for rule in self.row_weights:
                rule.begin(batch.points, batch.streams)
        if self.balance != "none" and self.global_step % self.balance_every == 0:
            self._update_balance(batch)
        terms, log = self.step_terms(batch), self.logs_step()
        warn_of_units(self, terms)
        for rule in self.row_weights if fresh else ():
            rule.update(batch.points, self._raw, batch.streams)
            if log:
                self.log_dict(rule.numbers())
        for name, constant in self.network.unknowns.items() if log else ():
            self.log(f"unknown/{name}", constant().detach())
        return step_loss(self, terms, batch.streams.world, log=log)

    # --- points -----------------------------------------------------------------------------
    def choose_points(self, batch: CollocationBatch) -> CollocationBatch:
        """Keep candidates with probability |r|^k / mean |r|^k + 1, k the adaptive power."""
        p, keep = batch.points, batch.counts["interior"] // batch.streams.world
        if len(p) <= keep:
            return batch
        if self._kept_of is None:
            self._kept_of = int(self.kept_of)
        if self._kept_of != batch.streams.step or len(self.kept) != keep:
            with torch.no_grad():
                parts = self.residuals(EQUATIONS, p).values()
            size = sum(r.square() for r in parts).sqrt()
            generator = batch.streams.generator("keep")
            self.kept = kept_candidates(size, self.adaptive_power, keep, generator)
            self.kept_of.fill_(batch.streams.step)
            self._kept_of = batch.streams.step
            p.cache["chosen"] = None
        if p.cache.get("chosen") is None:
            p.cache.clear()  # of the candidates, which nobody needs any more
            p.cache["chosen"] = p[self.kept]
        chosen = p.cache["chosen"]
        return CollocationBatch(chosen, batch.conditions, batch.streams, batch.counts)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take over how many points were kept."""
        if f"{prefix}kept" in state_dict:
            self.kept = torch.empty_like(state_dict[f"{prefix}kept"], device=self.device)
        self._factors = self._kept_of = None
        super()._load_from_state_dict(state_dict, prefix, *args)

    def equation_residuals(self, x: Tensor) -> Tensor:
        """Return the residuals `(N, R)` of the equations at points `(N, D)`."""
        return torch.stack(list(self.residuals(EQUATIONS, PointSet(x)).values()), 1)

    # --- evaluation -------------------------------------------------------------------------
    def validation_step(self, batch: CollocationBatch, batch_idx: int) -> None:
        """Log the root mean square residual at fixed points, without reference solution."""
        if isinstance(self.network, TimeWindows):
            batch = marching.moved(batch, self.network)
        with torch.no_grad():
            parts = self.residuals(EQUATIONS, batch.points).values()
            value = sum(r.square().mean() for r in parts).sqrt()
        self.log("val/residual", value, sync_dist=True, batch_size=len(batch.points))

    def test_step(self, batch: CollocationBatch, batch_idx: int) -> None:
        """Compare with the reference, where there is one; all ranks do the same."""
        self.report = SystemReport(self)

    def on_test_epoch_end(self) -> None:
        """Log the metrics."""
        self.log_dict(self.report.metrics)

    @property
    def test_report(self) -> dict:
        """Return what plots and tables show."""
        return {} if self.report is None else self.report.as_dict()

    @torch.no_grad()
    def predict_points(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs `(N,)` by name, float64, at points `(N, D)` of any dtype."""
        kind = self.network.dtype
        chunks = [self.network(part.to(kind)) for part in x.split(16_384)]
        return {k: torch.cat([c[k] for c in chunks]).double() for k in self.problem.outputs}

    # --- parts of a run ---------------------------------------------------------------------
    @property
    def parts(self) -> int:
        """Windows of time, or stages of the network."""
        return self.network.windows if isinstance(self.network, TimeWindows) else super().parts

    def begin_step(self) -> None:
        """Begin the next window or stage, if it is due, before anybody looks at the optimizer."""
        if isinstance(self.network, TimeWindows):
            marching.go_on(self)
        else:
            super().begin_step()
