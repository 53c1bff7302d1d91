"""Physics-informed networks by stochastic dimension gradient descent (SDGD).

A trial solution u = A n + B with a network n is trained on the residual of a PDE

    r(x) = sum_j a_j d_j^2 u + R(x, u, u_t, grad u),        loss = mean over points of (s r)^2,

where the sum over d dimensions is estimated from a few directions per step (an estimator of
`sciml.autodiff.estimators`) pushed through the network as Taylor jets; s is the problem's
`residual_scale`. Options: unbiased losses (the value of r from an independent or exact sum), ranks
that share the dimensions, adversarial and adaptive points, gradient enhancement, soft conditions.

Reference: Hu, Shukla, Karniadakis, Kawaguchi, "Tackling the Curse of Dimensionality with PINNs",
arXiv 2307.12306 (algorithms 1-3); Hutchinson variant arXiv 2312.14499; jets arXiv 2412.00088;
adversarial training Wang et al. 2022, arXiv 2206.02016; gradient enhancement Yu et al. 2022,
arXiv 2111.02801; residual-adaptive points Wu et al. 2023, arXiv 2207.10289 (method RAD).
Departures: exact terms of the hard constraint (`closed_form`); points of the domain of dependence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sciml.autodiff.draws import Draw
from sciml.autodiff.estimators import Exact
from sciml.data.collocation import CollocationBatch
from sciml.errors import InvalidArgument
from sciml.modules import stages
from sciml.modules.adaptive_points import kept_candidates
from sciml.modules.evaluation.solution_errors import Report
from sciml.modules.shared_dimensions import joined
from sciml.modules.training_method import TrainingMethod, step_loss
from sciml.modules.untrained_parameters import check_trained
from sciml.modules.weights.given_weights import check_names, check_numbers
from sciml.networks.solutions.trial import TrialSolution
from sciml.optim.curvature.terms import LossTerm
from sciml.physics.pde import PDE, Fields, Points
from sciml.physics.residual.reduced import evaluate_reduced, reducible
from sciml.physics.residual.residual_fields import evaluate, operator_of, second_derivatives
from sciml.physics.residual.soundness import check_problem
from sciml.typed_arguments import typed

FEATURE_POINTS = 64  # over which features are standardised; few: sources are computed there too


@typed
class SDGDPINN(TrainingMethod):
    """PINN whose second- or fourth-order operator is estimated from few directions per step.

    Args:
        problem: The PDE.
        network: Called as `network(x, t, f)`.
        estimator: Draws directions: `SDGD`, `Hutchinson` or `Exact`.
        optimizer: Makes the optimizer from the parameters, or from a `module`, its first argument.
        schedule: Makes the learning-rate schedule from the optimizer, stepped every step.
        inputs: What the network sees: "x", "t", names of the problem's features.
        val_estimator: Estimator of the validation residual; None for `estimator`.
        closed_form: Whether the terms of the hard constraint are exact (default) or sampled.
        gradient: `exact`, or `sampled` first derivatives in |grad u|^2 (no reverse pass).
        adversarial_steps: Sign-gradient ascent steps on the points before each step; 0 for none.
        adversarial_size: Size of one ascent step.
        gradient_enhanced: Weight of mean |grad_x r|^2; 0 for none.
        adaptive_power: Exponent of |r| in the odds of candidates (`data.candidates` > 1).
        dimension_parallel: Whether ranks share the points and split the dimensions.
        compile: Whether to compile the residual.
        weights: Weights of terms by name ("residual", "slope", conditions) instead of theirs.

    Raises:
        InvalidArgument: For combinations that cannot be right.

    Example:
        >>> import torch
        >>> from sciml.autodiff import SDGD
        >>> from sciml.modules import SDGDPINN
        >>> from sciml.networks import MLP
        >>> from sciml.physics import Poisson
        >>> given = {"problem": Poisson(dim=99), "network": MLP(dim=99, width=8), "inputs": ["x"]}
        >>> module = SDGDPINN(**given, estimator=SDGD(num_dims=4), optimizer=torch.optim.Adam)
        >>> tuple(module(torch.rand(5, 99)).shape)
        (5, 1)
    """

    def __init__(
        self,
        *,
        problem: PDE,
        network: nn.Module,
        estimator: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], object] | None = None,
        inputs: Sequence[str] = ("x", "t"),
        val_estimator: nn.Module | None = None,
        closed_form: bool = True,
        gradient: Literal["exact", "sampled"] = "exact",
        adversarial_steps: int = 0,
        adversarial_size: float = 0.05,
        gradient_enhanced: float = 0.0,
        adaptive_power: float = 1.0,
        dimension_parallel: bool = False,
        compile: bool = False,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(optimizer, schedule)
        if gradient == "sampled" and not problem.squared_gradient_only:
            raise InvalidArgument(
                f"module.gradient=sampled for {type(problem).__name__}",
                "a residual in which the gradient enters through |grad u|^2 alone",
                "Type module.gradient=exact",
            )
        known = ("residual", *(["slope"] if gradient_enhanced else []), *problem.conditions)
        check_names(weights or {}, known)
        check_numbers(weights or {})
        check_problem(problem)
        stages.check(network, problem, estimator, inputs)
        self.problem = problem
        self.weights = dict(weights or {})
        self.trial = TrialSolution(problem, network, inputs)
        if self.trial.features:
            # A fixed generator: all ranks and a resumed run standardise alike.
            sample = problem.sample(FEATURE_POINTS, torch.Generator().manual_seed(0))
            self.trial.standardise(sample.x, sample.t)
        self.estimator = estimator
        self.val_estimator = val_estimator or estimator
        for e in filter(lambda e: hasattr(e, "prepare"), {estimator, self.val_estimator}):
            e.prepare(problem.dim)
        if dimension_parallel and estimator.algorithm != 3:
            raise InvalidArgument(
                f"module.dimension_parallel with algorithm {estimator.algorithm}",
                "algorithm 3: the all-reduced residual already joins the ranks' samples",
            )
        self.closed_form, self.gradient = closed_form, gradient
        self.adversarial_steps, self.adversarial_size = adversarial_steps, adversarial_size
        self.gradient_enhanced, self.adaptive_power = gradient_enhanced, adaptive_power
        self.dimension_parallel = dimension_parallel
        # Networks of known features: the exact operator costs no more than a sampled one.
        self.reduced = isinstance(estimator, Exact) and reducible(problem, inputs)
        self.evaluate = torch.compile(evaluate, dynamic=False) if compile else evaluate
        self.report: Report | None = None
        self._unknowns_checked = False

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Return u `(N, 1)`."""
        return self.trial(x, t)

    def trained(self) -> nn.Module:
        """Return what the optimizer treats."""
        return self.trial

    # --- the loss ---------------------------------------------------------------------------
    def fields(self, p: Points, draw: Draw | None, reference: Draw | None = None) -> Fields:
        """Return u and its derivatives at the points for a draw of directions."""
        if self.reduced and draw is not None:
            return evaluate_reduced(self.trial, p)
        return self.evaluate(
            self.trial,
            p,
            draw,
            reference,
            closed_form=self.closed_form,
            gradient=self.gradient,
            chunk=getattr(self.estimator, "chunk", None),
        )

    def residual(self, p: Points, draw: Draw, reference: Draw | None = None) -> Tensor:
        """Return the scaled residual `(N,)`."""
        u = self.fields(p, draw, reference)
        u.trace = self._over_ranks(u.trace)
        return self.problem.residual_scale * self.problem.residual(u, p)

    def _over_ranks(self, estimate: Tensor) -> Tensor:
        """Join what ranks with the same points estimated; validation points are each rank's own."""
        shared = self.dimension_parallel and self.training and dist.is_initialized()
        return joined(estimate) if shared else estimate

    def loss_terms(self, batch: CollocationBatch) -> list[LossTerm]:
        """Return the terms of the loss: interior residual, its gradient, soft conditions."""
        # The slope needs a graph even where a line search asks for the loss alone.
        with torch.set_grad_enabled(torch.is_grad_enabled() or self.gradient_enhanced > 0):
            terms = self._interior_terms(batch)
        for name, weight in self.problem.conditions.items():
            q = batch.conditions[name]
            value = self.problem.condition_residual(name, self.fields(q, None), q)
            weight = self.weights.get(name, weight)
            # points in pairs have one row per pair; rows of all ranks stand in the same relation
            count = batch.counts[name] * len(value) // len(q)
            terms.append(LossTerm(name, value, weight, count))
        return stages.scaled(self, terms)

    def equation_residuals(self, x: Tensor) -> Tensor:
        """Return the residual `(N, 1)` at points `(N, D)`, time last, of an exact operator."""
        d = self.problem.dim
        time = x[:, d:] if x.shape[1] > d else None
        p = Points(x[:, :d], time, self.problem.source(x[:, :d]))
        return self.residual(p, operator_of(self.problem, p).exact(p.x))[:, None]

    def _interior_terms(self, batch: CollocationBatch) -> list[LossTerm]:
        p, operator = batch.points, operator_of(self.problem, batch.points)
        draw = self.estimator.draw(operator, p.x, batch.streams, "dims")
        reference = self.estimator.reference(operator, p.x, batch.streams)
        if self.gradient_enhanced:
            p = Points(p.x.detach().requires_grad_(), p.t, p.source)
        r = self.residual(p, draw, reference)
        count = batch.counts["interior"]
        terms = [LossTerm("residual", r, self.weights.get("residual", 1.0), count)]
        if self.gradient_enhanced:
            weight = self.weights.get("slope", self.gradient_enhanced)
            terms.append(LossTerm("slope", self._slope(r, p), weight, count))
        return terms

    def training_step(self, batch: CollocationBatch, batch_idx: int) -> Tensor:
        """Return this rank's share of the loss."""
        self._seen = batch
        batch = self.choose_points(batch)
        loss = step_loss(self, self.step_terms(batch), batch.streams.world)
        if not self._unknowns_checked:
            self._unknowns_checked = True
            check_trained(loss, self.problem, self.trial)
        return loss

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step, then let an importance-sampling estimator look at what it drew.

        Not in `on_train_batch_end`: the checkpoint of the step is written before that hook, and a
        resumed run would miss what was seen.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if getattr(self.estimator, "selection", None) == "importance":
            batch = self._seen
            p = batch.points[: batch.counts["interior"] // batch.streams.world]
            draw = self._draw(p, batch, "dims")
            self.estimator.observe(draw, second_derivatives(self.trial, p, draw.index))

    # --- points -----------------------------------------------------------------------------
    def choose_points(self, batch: CollocationBatch) -> CollocationBatch:
        """Apply residual-adaptive selection, then adversarial ascent."""
        p, keep = batch.points, batch.counts["interior"] // batch.streams.world
        if len(p) > keep:
            with torch.no_grad():
                r = self.residual(p, self._draw(p, batch, "candidates")).abs()
            generator = batch.streams.generator("keep", common=self.dimension_parallel)
            p = p[kept_candidates(r, self.adaptive_power, keep, generator)]
        for i in range(self.adversarial_steps):
            p = self._ascend(p, self._draw(p, batch, f"adversary{i}"))
        return CollocationBatch(p, batch.conditions, batch.streams, batch.counts)

    def _draw(self, p: Points, batch: CollocationBatch, purpose: str) -> Draw:
        return self.estimator.draw(operator_of(self.problem, p), p.x, batch.streams, purpose)

    def _ascend(self, p: Points, draw: Draw) -> Points:
        """Move points one sign-gradient step up the squared residual; t stays in its interval."""
        x = p.x.detach().requires_grad_()
        t = None if p.t is None else p.t.detach().requires_grad_()
        q = Points(x, t, p.source)
        r = self.residual(q, draw)
        slopes = list(torch.autograd.grad(r.square().sum(), [x] if t is None else [x, t]))
        # The points carry only the value of the source: r contains -s f.
        source = self.problem.residual_scale * self.problem.source_gradient(q)
        slopes[0] = slopes[0] - 2 * r.detach()[:, None] * source
        slopes = [self._over_ranks(slope) for slope in slopes]
        x = x.detach() + self.adversarial_size * slopes[0].sign()
        if t is not None:
            t = t.detach() + self.adversarial_size * slopes[1].sign()
            t = t.clamp(0.0, self.problem.final_time)
        return self.problem.moved(Points(x, t, p.source))

    def _slope(self, r: Tensor, p: Points) -> Tensor:
        """Return grad_x r `(N, d)`; the points carry only the value of the source."""
        (slope,) = torch.autograd.grad(r.sum(), p.x, create_graph=True)
        known = self.problem.residual_scale * self.problem.source_gradient(p)
        return self._over_ranks(slope) - known

    # --- evaluation -------------------------------------------------------------------------
    def validation_step(self, batch: CollocationBatch, batch_idx: int) -> None:
        """Log the root mean square residual at fixed points, without reference solution."""
        p = batch.points
        operator = operator_of(self.problem, p)
        draw = self.val_estimator.draw(operator, p.x, batch.streams, "validation")
        with torch.no_grad():
            r = self.residual(p, draw)
        self.log("val/residual", r.square().mean().sqrt(), sync_dist=True, batch_size=len(p))

    def on_test_start(self) -> None:
        """Start an empty report."""
        self.report = Report(self.problem, self.trainer.datamodule.test_points)

    def test_step(self, p: Points, batch_idx: int) -> None:
        """Evaluate one chunk of test points."""
        if len(p):
            self.report.add(p, self.predict_points(p))

    def on_test_epoch_end(self) -> None:
        """Compare with the reference solution and the baselines."""
        self.report.finish(self.predict_points)
        self.log_dict(self.report.metrics)

    @property
    def test_report(self) -> dict:
        """Return what plots and tables show: see `Report.as_dict`."""
        return {} if self.report is None else self.report.as_dict()

    @torch.no_grad()
    def predict_points(self, p: Points) -> Tensor:
        """Return u `(N,)` in float64 from points of any dtype."""
        dtype = next(self.trial.parameters()).dtype
        q = p.to(dtype)
        return (self.trial(q.x, q.t) if q.t is not None else self.trial(q.x))[:, 0].double()
