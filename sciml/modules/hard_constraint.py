"""Hard constraints by a mixture of experts (PI-HC-MoE), one expert (PI-HC), and none (PI-SC).

A network maps the inputs a of a problem to N basis functions b over space and time; a layer finds
the weights with which they obey the equation, block by block (`sciml.physics.constraints`):

    u_theta(a) = sum_k phi_k b . w_k,     w_k = argmin |equation and conditions in block k|^2
    loss = mean over instances of  mean_x F(u_theta)(x)^2 + weight |conditions(u_theta)|^2

over the whole grid or the loss points; no solution is used in training. The penalty method takes
the same network with one function, which is the solution itself. One layer, one module:

    pihc_...    constraint.experts=1          pisc_...    a `SoftConstraint` and functions=1

The test reports, in the distribution of the training set and at times beyond its horizon,

    <part>/rel_l2               error against the problem's own solver
    <part>/residual             root mean square of the equation over the assembled field
    <part>/jump                 root mean square of the jumps between experts
    <part>/constraint/...       iterations, share of experts that failed, also expert by expert

and what needs no training beside it: the best constant; the nearest solved training input; kernel
regression of the coefficients of a basis from solutions (POD), as many as the network has
functions; that basis under the same constraint. The time of the problem's own solver stands with
them.

Sources: Chalapathi, Du & Krishnapriyan 2024, arXiv 2402.13412; Negiar, Mahoney & Krishnapriyan
2023, arXiv 2207.08675. Departures: the loss is a sum of squares by default; rows and loss are
weighed in time by the equation (`ramp`).
"""

from __future__ import annotations

import time
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.errors import InvalidArgument
from sciml.modules.evaluation.scores import Regression, everyone
from sciml.modules.pod_baselines import Baselines
from sciml.modules.supervised import Supervised
from sciml.networks.spectral.constrained_fno import ConstrainedOperator
from sciml.optim.curvature.terms import LossTerm
from sciml.physics.constraints import Balance, Constrained
from sciml.typed_arguments import typed


@typed
class HardConstraintOperator(Supervised):
    """Trains operators whose output obeys an equation.

    Args:
        network: A `ConstrainedOperator`.
        data: Inputs, and solutions to judge by.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.
        loss: `squared`, see the top of this file, or `norm`, its root of every instance.
        condition_weight: Weight of initial and boundary conditions in the loss.
        loss_points: Points of the grid at which the loss is taken, fresh in every step; None for
            all.
        balance: Rate at which points move from slow experts to fast ones
            (`sciml.physics.constraints.points`); 0 for none.

    Raises:
        InvalidArgument: For another kind of network, and numbers that cannot be.

    Example:
        >>> import torch
        >>> from sciml.data import EvolutionData
        >>> from sciml.modules import HardConstraintOperator
        >>> from sciml.networks import ConstrainedFNO
        >>> from sciml.physics.constraints import HardConstraint, HeatConstraint
        >>> from sciml.physics.evolution import Heat
        >>> problem = Heat(points=24, time_count=6)
        >>> data = EvolutionData(problem=problem, train=4, val=1, test=1, references=1)
        >>> layer = HardConstraint(HeatConstraint(problem))
        >>> network = ConstrainedFNO(layer, functions=4, width=4, hidden=4, modes=2, blocks=1)
        >>> module = HardConstraintOperator(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.loss_terms(data.batch(0).to("cpu", torch.float32))]
        ['residual', 'conditions']
    """

    def __init__(
        self,
        *,
        network: ConstrainedOperator,
        data: Any,
        optimizer: Any,
        schedule: Any = None,
        loss: Literal["squared", "norm"] = "squared",
        condition_weight: float = 1.0,
        loss_points: int | None = None,
        balance: float = 0.0,
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if not isinstance(network, ConstrainedOperator):
            raise InvalidArgument(
                f"network={type(network).__name__} for module=hard_constraint",
                "an operator with a constraint",
                "Type network=constrained_fno",
            )
        if condition_weight < 0 or balance < 0:
            raise InvalidArgument(
                f"module.condition_weight={condition_weight}, module.balance={balance}",
                "zero or positive numbers",
            )
        if loss_points is not None and loss_points < 1:
            raise InvalidArgument(f"module.loss_points={loss_points}", "a positive number or null")
        self.loss, self.condition_weight, self.loss_points = loss, condition_weight, loss_points
        self.levels = data.levels
        self.balance = Balance(network.constraint.experts, balance) if balance else None
        self.register_buffer("bias", torch.zeros(network.constraint.experts, dtype=torch.float64))
        self._found: Constrained | None = None
        self._others = Baselines(data, network)
        self._over_time = 0.0

    # --- the loss -----------------------------------------------------------------------------
    def predict_batch(self, batch: Batch) -> Tensor:
        """Return u in the precision of the network, and note what the experts did."""
        field = batch.inputs["field"]
        levels = batch.target.shape[1] if self.levels is not None else None
        started = time.perf_counter()
        out = self.network.solve(field, levels)
        seconds = (time.perf_counter() - started) / len(field)
        part = batch.part if self.trainer.testing else "val"
        self.effort.mean(f"{part}/seconds_per_sample", seconds)
        self._note(part, out, field)
        return out.value.to(field.dtype)

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the equation's residual, and that of the conditions where there are any."""
        field, layer = batch.inputs["field"], self.network.constraint
        points = batch.streams.generator("points", common=True, cpu=True)
        bias = self.bias if self.balance else None
        out = self.network.solve(field, self.levels, points, bias)
        self._found = out
        rows = layer.residual(out.value, field).flatten(1)
        if self.loss_points is not None:
            chosen = torch.randperm(rows.shape[1], generator=points)[: self.loss_points]
            rows = rows[:, chosen.to(rows.device)]
        terms = [self._term("residual", rows / rows.shape[1] ** 0.5, 1.0, batch)]
        conditions = layer.conditions(out.value, field)
        if conditions.shape[1] and self.condition_weight:
            terms.append(self._term("conditions", conditions, self.condition_weight, batch))
        return terms

    def _term(self, name: str, rows: Tensor, weight: float, batch: Batch) -> LossTerm:
        if self.loss == "norm":
            # the value is right; the gradient is doubled, as for all weights of residuals that
            # depend on themselves
            size = torch.linalg.vector_norm(rows.detach(), dim=1, keepdim=True)
            rows = rows / size.clamp_min(torch.finfo(rows.dtype).tiny).sqrt()
        return LossTerm(name, rows, weight, batch.count)

    def on_after_backward(self) -> None:
        """Move points between experts; now and then log what the solves did."""
        out, self._found = self._found, None  # a graph is not kept over the step
        if out is None:
            return
        if self.balance is not None:
            self.balance.bias = self.bias
            work = out.iterations.double().mean(0)
            work = self.trainer.strategy.reduce(work, reduce_op="mean")  # one draw for all ranks
            self.balance.update(out.points.counts, work)
            self.bias.copy_(self.balance.bias)
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:
            found = {
                "fail_frac": (~out.converged).double().mean(),
                "iters_mean": out.iterations.double().mean(),
                "iters_max": out.iterations.amax().double(),
                "jump": out.jump.mean(),
            }
            self.log_dict({f"constraint/{name}": value for name, value in found.items()})

    # --- evaluation ---------------------------------------------------------------------------
    @torch.no_grad()
    def _note(self, part: str, out: Constrained, field: Tensor) -> None:
        """Note what every expert did, and how well the assembled field obeys its equation."""
        residual = self.network.constraint.residual(out.value, field)
        self.effort.mean(f"{part}/residual", residual.flatten(1).square().mean(1).sqrt())
        self.effort.mean(f"{part}/jump", out.jump)
        name = f"{part}/constraint"
        self.effort.mean(f"{name}/iters_mean", out.iterations)
        self.effort.peak(f"{name}/iters_max", out.iterations)
        self.effort.mean(f"{name}/fail_frac", ~out.converged)
        self.effort.peak(f"{name}/rank_deficit_max", out.weights.shape[-1] - out.rank)
        for k in range(out.status.shape[1]):
            self.effort.mean(f"{name}/expert_{k}/fail_frac", ~out.converged[:, k])
            self.effort.mean(f"{name}/expert_{k}/iters_mean", out.iterations[:, k])
            self.effort.mean(f"{name}/expert_{k}/residual", out.residual[:, k])

    def validation_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk; the loss of the validation is the squared relative error."""
        if batch is None:
            return
        prediction = self.predict_batch(batch)
        self.scores["val"].add(prediction, batch.target)
        gap = (prediction - batch.target).double().flatten(1).square().sum(1)
        size = batch.target.double().flatten(1).square().sum(1)
        self._val[0] += float((gap / size).sum())
        self._val[1] += len(gap)

    def on_test_epoch_start(self) -> None:
        """Start empty scores, and learn the baselines."""
        super().on_test_epoch_start()
        self._over_time: Tensor | float = 0.0
        self._others.learn()

    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score one chunk; beyond the horizon of training only what lies there."""
        if batch is None:
            return
        score = self.scores.setdefault(batch.part, Regression())
        prediction = self.predict_batch(batch)
        beyond = batch.part == "test_beyond"
        shown = slice(self.levels, None) if beyond else slice(None)
        found, wanted = prediction[:, shown], batch.target[:, shown]
        if found.dim() == 4:  # pictures of flows show the first level handed over: the last one
            found, wanted = found.flip(1), wanted.flip(1)
        score.add(found, wanted)
        self._others.add(batch, shown)
        if self.levels is not None and (beyond or not self.trainer.datamodule.beyond):
            gap = (prediction - batch.target).double().flatten(2).square().sum((0, 2))
            size = batch.target.double().flatten(2).square().sum((0, 2))
            self._over_time = self._over_time + torch.stack([gap, size]).cpu()

    def on_test_epoch_end(self) -> None:
        """Log the metrics of every test set, what the experts did, and the baselines."""
        super().on_test_epoch_end()
        found = self._others.metrics()
        found["test/baseline/solver_seconds"] = self._others.data.solver_seconds
        self.log_dict(found)
        mark = "test/baseline/"
        self._report["baselines"] |= {
            k.removeprefix(mark): v
            for k, v in found.items()
            if k.startswith(mark) and not k.endswith("seconds")
        }
        self._report["metrics"] |= {k: v for k, v in found.items() if not k.startswith(mark)}

    def test_figures(self) -> dict[str, Any]:
        """Return the error over time, within the horizon of training and beyond."""
        ranks = [r for r in everyone(self._over_time) if isinstance(r, Tensor)]
        if not ranks:
            return {}
        gap, size = sum(ranks)
        curve = {
            "x": self._others.data.problem.times.tolist(),
            "y": {"test": (gap / size).sqrt().tolist()},
            "xlabel": f"t, training up to {self._others.horizon:.4g}",
            "ylabel": "relative L2 error",
            "log": "y",
        }
        return {"curves": {"error_over_time": curve}}
