"""Physics-informed networks for systems of equations.

The outputs u_1, ..., u_K of an `Ansatz` are trained on all residuals of a `System`,

    loss = sum_i  w_i mean_{x in X_i}  r_i(x, u(x), Du(x), ...)^2 ,

one term per equation, condition and observed quantity, each with its own points X_i and weight
w_i. All derivatives of a set of points come from one pass of Taylor arithmetic
(`sciml.autodiff.multijet`). Unknown constants are trained along; their standard errors come from
the Gauss-Newton matrix, see `sciml.modules.identified`.

Reference: Raissi, Perdikaris and Karniadakis 2019, "Physics-informed neural networks", J. Comput.
Phys. 378; residual-adaptive points: Wu et al. 2023, arXiv 2207.10289 (method RAD), drawn anew with
the batch and kept as long as it (`data.fixed_for`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn

from sciml.data.collocation import Batch
from sciml.errors import InvalidArgument, did_you_mean
from sciml.modules.balance import RULES, balanced
from sciml.modules.step import step_loss
from sciml.modules.system_report import SystemReport
from sciml.networks.ansatz import Ansatz
from sciml.optim.construct import construct
from sciml.optim.terms import LossTerm
from sciml.physics.systems import PointSet, System
from sciml.physics.systems.system import EQUATIONS


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
            `sciml.modules.balance`.
        balance_every: Steps between two updates of these weights.

    Raises:
        InvalidArgument, InvalidType: For a system that cannot be right, or unknown weights.
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
        self.network = Ansatz(problem, network, getattr(data, "modes", 1))
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
        known = self.problem.fields(p, self.network.jet(p, self.needs[name]))
        return self.problem.residuals(name, p, known)

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return one term per equation and per quantity of a condition."""
        terms = []
        for name, value in self.residuals(EQUATIONS, batch.points).items():
            weight = self.weights.get(name, self.problem.weights.get(name, 1.0))
            terms.append(LossTerm(name, value, weight, batch.counts["interior"]))
        for name, p in batch.conditions.items():
            for key, value in self.residuals(name, p).items():
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
        batch = self._choose_points(batch)
        if self.balance != "none" and self.global_step % self.balance_every == 0:
            self._update_balance(batch)
        terms = self.loss_terms(batch)
        if not self._weights_checked:
            self._check_weights([term.name for term in terms])
        for name, constant in self.network.unknowns.items():
            self.log(f"unknown/{name}", constant().detach())
        return step_loss(self, terms, batch.streams.world)

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
        kind = self.network.middle
        chunks = [self.network(part.to(kind)) for part in x.split(16_384)]
        return {k: torch.cat([c[k] for c in chunks]).double() for k in self.problem.outputs}

    # --- optimisation -----------------------------------------------------------------------
    def configure_optimizers(self) -> object:
        """Return the optimizer and, if there is one, the schedule stepped every step."""
        optimizer = construct(self.make_optimizer, self.network)
        if self.make_schedule is None:
            return optimizer
        schedule = {"scheduler": self.make_schedule(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}
