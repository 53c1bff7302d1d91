"""Physics-informed networks for systems of equations.

The outputs u_1, ..., u_K of an `Ansatz` are trained on all residuals of a `System`,

    loss = sum_i  w_i mean_{x in X_i}  r_i(x, u(x), Du(x), ...)^2 ,

one term per equation, condition and observed quantity, each with its own points X_i and weight
w_i. All derivatives of a set of points come from one pass of Taylor arithmetic
(`sciml.autodiff.multijet`). Unknown constants are trained along; their standard errors come from
the Gauss-Newton matrix, see `sciml.modules.identified`.

Reference: Raissi, Perdikaris and Karniadakis 2019, "Physics-informed neural networks", J. Comput.
Phys. 378; residual-adaptive points: Wu et al. 2023, arXiv 2207.10289 (method RAD), drawn anew with
the batch and kept as long as it (`data.fixed_for`). Options have files of their own: `balance`,
`causal`, `attention`, `marching`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn

from sciml.autodiff.multijet import MultiJet, lattice_of
from sciml.data.collocation import Batch
from sciml.errors import InvalidArgument, did_you_mean
from sciml.modules import marching
from sciml.modules.step import step_loss
from sciml.modules.system_report import SystemReport
from sciml.modules.weights.attention import ResidualAttention
from sciml.modules.weights.balance import RULES, balanced
from sciml.modules.weights.causal import CausalWeights
from sciml.networks.pointwise.ansatz import Ansatz
from sciml.networks.pointwise.time_windows import TimeWindows
from sciml.optim.construct import construct, curvature_of
from sciml.optim.curvature.terms import LossTerm
from sciml.physics.systems import PointSet, System
from sciml.physics.systems import sampled_laplacian as sampling
from sciml.physics.systems.system import EQUATIONS

LADDER = (1e-2, 1e-1, 1.0, 1e1, 1e2)  # of causal=true


class PINN(LightningModule):
    """A network trained on the residuals of a system of equations.

    Args:
        problem: The system.
        network: Called as `network(None, None, f)` with the inputs of `Ansatz`.
        optimizer: Makes the optimizer from the parameters, or from the module where its first
            argument is called `module`.
        schedule: Makes the learning-rate schedule from the optimizer, stepped every step.
        data: The data module, which says how many harmonics of periodic variables there are.
        adaptive_power: Exponent of the residual in the probability of keeping a candidate point;
            needs `data.candidates` above 1.
        weights: Weights of loss terms by name instead of the ones they have.
        balance: Rule by which weights of terms follow from the terms: none, gradnorm or ntk, see
            `sciml.modules.weights.balance`.
        balance_every: Steps between two updates of these weights.
        causal: Values of eps of `sciml.modules.weights.causal`, one or a rising ladder; true for
            the ladder of the paper.
        causal_chunks: Parts of time whose weights differ.
        attention: Whether points have multipliers, see `sciml.modules.weights.attention`.
        attention_decay: gamma of these.
        attention_rate: eta of these.
        windows: Windows of time that are trained one after the other, see
            `sciml.modules.marching`.
        sampled: Dimensions of Laplacians that are drawn in every step, see
            `sciml.physics.systems.sampled_laplacian`; None for all of them.
        initial: Weights to begin with: those of the network as it comes, or for all its linear
            layers those of Glorot and Bengio (2010), normal with variance 2 / (inputs + outputs),
            and zero biases, under which tanh networks see finer structures from the start.

    Raises:
        InvalidArgument, InvalidType: For a system that cannot be right, unknown weights, or options
            that make no sense for it.
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
        balance: Literal["none", "gradnorm", "ntk"] = "none",
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
        super().__init__()
        if balance not in RULES:
            raise InvalidArgument(
                f"module.balance={balance}", "a rule", did_you_mean(balance, RULES)
            )
        if balance_every < 1:
            raise InvalidArgument(f"module.balance_every={balance_every}", "a positive integer")
        self.balance, self.balance_every = balance, balance_every
        self.needs = problem.needs
        self.problem = problem
        if initial not in ("given", "glorot"):
            raise InvalidArgument(f"module.initial={initial}", "given or glorot")
        if initial == "glorot":
            network.apply(_glorot)
        modes = getattr(data, "modes", 1)
        if windows == 1:
            self.network: Ansatz | TimeWindows = Ansatz(problem, network, modes)
        else:
            self.network = TimeWindows(problem, network, modes, windows)
            marching.check(problem, windows)
        if sampled is not None:
            sampling.check(problem, sampled)
        self.sampled, self._dimensions = sampled, (-1, ())  # and those of which step
        self.as_new: list[dict] = []  # states of optimizers that have taken no step
        self.row_weights = nn.ModuleList()
        if causal is not None and causal is not False:
            ladder = LADDER if causal is True else causal
            ladder = [ladder] if isinstance(ladder, int | float) else list(ladder)
            self.row_weights.append(CausalWeights(problem, ladder, causal_chunks))
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
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.adaptive_power = adaptive_power
        self.weights = dict(weights or {})
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise InvalidArgument(
                    f"module.weights={{{name}: {weight}}}", "a finite weight of at least 0"
                )
        self._weights_checked = not self.weights
        self.report: SystemReport | None = None
        self.last_terms: dict[str, Tensor] = {}
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

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
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
        return terms

    def _values_together(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Return the residuals of conditions on values alone, from one pass for all their points.

        Left to one pass each, and empty, where an optimizer looks at layers: there rows of a pass
        have to be those of a term.
        """
        simple = self._simple if self._trainer is not None and self.training else ()
        if len(simple) < 2 or any(curvature_of(o) is not None for o in self.trainer.optimizers):
            return {}
        points = [batch.conditions[name] for name in simple]
        whole = points[0].cache.get("together")
        if whole is None or whole[0] is not points[-1]:
            whole = points[-1], PointSet(torch.cat([p.x for p in points]))
            points[0].cache["together"] = whole
        packed = self.network.jet(whole[1], self.needs[simple[0]]).packed
        parts = packed.split([len(p) for p in points], 1)
        lattice, found = lattice_of(self.needs[simple[0]]), {}
        for name, p, part in zip(simple, points, parts, strict=True):
            known = self.problem.fields(p, MultiJet(part, lattice), self.network.jet)
            found[name] = self.problem.residuals(name, p, known)
        return found

    def _update_balance(self, batch: Batch) -> None:
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
            )
        self._factors = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
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
        batch = self._choose_points(batch)
        step, points = self._weighed
        # an optimizer may ask several times in a step: the weights stay
        fresh = step != self.global_step or points is not batch.points
        if fresh:
            self._weighed = (self.global_step, batch.points)
            for rule in self.row_weights:
                rule.begin(batch.points, batch.streams)
        if self.balance != "none" and self.global_step % self.balance_every == 0:
            self._update_balance(batch)
        terms = self.loss_terms(batch)
        log = self._logs()
        for rule in self.row_weights if fresh else ():
            rule.look(batch.points, self._raw, batch.streams)
            if log:
                self.log_dict(rule.numbers())
        if not self._weights_checked:
            self._check_weights([term.name for term in terms])
        for name, constant in self.network.unknowns.items() if log else ():
            self.log(f"unknown/{name}", constant().detach())
        return step_loss(self, terms, batch.streams.world, log=log)

    def _logs(self) -> bool:
        """Return whether this step's numbers are written down, as the trainer counts."""
        trainer = self._trainer
        if trainer is None:
            return True
        step = self.global_step + 1
        return (
            step == 1 or step == trainer.max_steps or not step % max(1, trainer.log_every_n_steps)
        )

    def _check_weights(self, names: list[str]) -> None:
        self._weights_checked = True
        for name in self.weights:
            if name not in names:
                raise InvalidArgument(
                    f"module.weights={{{name}: ...}}",
                    "the name of a loss term",
                    did_you_mean(name, names),
                )

    # --- points -----------------------------------------------------------------------------
    def _choose_points(self, batch: Batch) -> Batch:
        """Keep candidates with probability |r|^k / mean |r|^k + 1, k the adaptive power."""
        p, keep = batch.points, batch.counts["interior"] // batch.streams.world
        if len(p) <= keep:
            return batch
        if self._kept_of is None:
            self._kept_of = int(self.kept_of)
        if self._kept_of != batch.streams.step or len(self.kept) != keep:
            with torch.no_grad():
                parts = self.residuals(EQUATIONS, p).values()
            size = sum(r.square() for r in parts).sqrt() ** self.adaptive_power
            size = size / size.mean().clamp_min(torch.finfo(size.dtype).tiny) + 1.0
            generator = batch.streams.generator("keep")
            self.kept = torch.multinomial(size, keep, generator=generator)
            self.kept_of.fill_(batch.streams.step)
            self._kept_of = batch.streams.step
            p.cache["chosen"] = None
        if p.cache.get("chosen") is None:
            p.cache.clear()  # of the candidates, which nobody needs any more
            p.cache["chosen"] = p[self.kept]
        chosen = p.cache["chosen"]
        return Batch(chosen, batch.conditions, batch.streams, batch.counts)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Take over how many points were kept."""
        if f"{prefix}kept" in state_dict:
            self.kept = torch.empty_like(state_dict[f"{prefix}kept"], device=self.device)
        self._factors = self._kept_of = None
        super()._load_from_state_dict(state_dict, prefix, *args)

    # --- evaluation -------------------------------------------------------------------------
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the root mean square residual at fixed points, without reference solution."""
        if isinstance(self.network, TimeWindows):
            batch = marching.moved(batch, self.network)
        with torch.no_grad():
            parts = self.residuals(EQUATIONS, batch.points).values()
            value = sum(r.square().mean() for r in parts).sqrt()
        self.log("val/residual", value, sync_dist=True, batch_size=len(batch.points))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
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

    # --- optimisation -----------------------------------------------------------------------
    def configure_optimizers(self) -> object:
        """Return the optimizer and, if there is one, the schedule stepped every step."""
        optimizer = construct(self.make_optimizer, self.network)
        made = None if self.make_schedule is None else self.make_schedule(optimizer)
        if isinstance(self.network, TimeWindows):
            self.as_new = [copy.deepcopy(optimizer.state_dict())]
            if made is not None:
                steps = self.trainer.max_steps if self._trainer is not None else 0
                made = marching.repeated(made, self.network.windows, steps)
        if made is None:
            return optimizer
        schedule = {"scheduler": made, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def begin_step(self) -> None:
        """Begin the next window of time, if it is due, before anybody looks at the optimizer."""
        if isinstance(self.network, TimeWindows):
            marching.go_on(self)


def _glorot(layer: nn.Module) -> None:
    """Give a linear layer weights of Glorot's variance, and no bias; frozen ones stay."""
    if isinstance(layer, nn.Linear) and layer.weight.requires_grad:
        nn.init.xavier_normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
