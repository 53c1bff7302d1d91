"""Solver-in-the-loop training of a corrector C of a coarse solver P.

    s_{t+1} = P(s_t) + C(P(s_t)),    loss = mean over i <= n of |s_{t+i} - T r_{t+i}|^2

with references r of a fine solver brought to the coarse grid by T. Three ways to learn:

    non   one step from states s that the uncorrected solver has reached, less than `data.restart`
          steps after a reference. The correction asked for is the one that the reference needs in
          this step, T r_{t+1} - P(T r_t): asked for T r_{t+1} itself C would make up for several
          steps in every one, and numerical diffusion, taken back more than once, would become
          negative
    pre   one step from reference states: corrections that are known beforehand
    sol   n steps from reference states, gradient through the solver: the corrector sees what its
          own corrections lead to. n doubles from 1 every `curriculum` steps

`detach_solver` stops the gradient at the solver's input, which keeps most of the benefit of
unrolling. A solver without derivatives (`differentiable=false`, any program behind a function) runs
without a graph; the optimizer must then be one that looks at losses alone.

Test: whole trajectories, corrected (`test`) and not (`test_source`). Errors are those of all steps
together, the late ones, which are much larger than those of the first, included; `mae_last` and the
picture are of the last step, `plots/error_over_time.png` has every one.

Sources: Um, Brand, Fei, Holl & Thuerey, NeurIPS 2020, arXiv 2007.00016 (NON, PRE, SOL); List, Chen,
Bali & Thuerey, arXiv 2402.12971 (unrolling without gradient through the solver).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.data.batch import Batch
from sciml.data.trajectories.rollouts import RolloutData
from sciml.errors import InvalidArgument
from sciml.modules.evaluation.scores import Classification, Regression, everyone, score_of
from sciml.modules.supervised import Supervised
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.gradient_free.zeroth_order import ZerothOrder
from sciml.typed_arguments import typed

VARIANTS = ("non", "pre", "sol")


@typed
class SolverInTheLoop(Supervised):
    """Trains a corrector.

    Args:
        network: C, called with `state` and `external`.
        data: Trajectories and the solver P that is corrected.
        optimizer: Makes the optimizer from the parameters, or from the module where its first
            argument is called `module`.
        schedule: Makes the learning-rate schedule from the optimizer, stepped every step.
        variant: `non`, `pre` or `sol`.
        unroll: n of `sol`.
        curriculum: Steps after which the number of unrolled steps doubles; 0 unrolls n at once.
        detach_solver: Whether the gradient stops at the solver's input.
        differentiable: Whether the solver has derivatives.

    Raises:
        InvalidArgument: For settings that do not fit each other.

    Example:
        >>> import torch
        >>> from sciml.data import RolloutData
        >>> from sciml.modules import SolverInTheLoop
        >>> from sciml.networks import Corrector
        >>> from sciml.physics.fluids import ForcedBurgers
        >>> loop = ForcedBurgers(cells=8, ratio=2, warm_up=2)
        >>> data = RolloutData(
        ...     problem=loop, train=2, val=1, test=1, steps=6, window=4, restart=0, batch_size=2
        ... )
        >>> network = Corrector(channels=2, external=2, width=4, blocks=1)
        >>> module = SolverInTheLoop(network=network, data=data, optimizer=torch.optim.Adam)
        >>> tuple(module.predict_batch(data.batch(0).to("cpu", torch.float32)).shape)
        (2, 4, 2, 8, 8)
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        data: RolloutData,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], object] | None = None,
        variant: Literal["non", "pre", "sol"] = "sol",
        unroll: int = 4,
        curriculum: int = 100,
        detach_solver: bool = False,
        differentiable: bool = True,
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if variant not in VARIANTS or curriculum < 0 or unroll < 1:
            raise InvalidArgument(
                f"module.variant={variant}, unroll={unroll}, curriculum={curriculum}",
                f"{', '.join(VARIANTS)}, one step or more, and zero or more",
            )
        if variant == "sol" and unroll > data.window:
            raise InvalidArgument(
                f"module.unroll={unroll}",
                f"at most data.window={data.window}",
                f"Type data.window={unroll}",
            )
        self.loop, self.variant = data.problem, variant
        self.unroll = unroll if variant == "sol" else 1
        self.curriculum = curriculum
        self.detach_solver, self.differentiable = detach_solver, differentiable

    # --- the loop ---------------------------------------------------------------------------
    def solved(self, state: Tensor, external: Tensor) -> Tensor:
        """Return P of a state, with as much of a graph as is wanted."""
        if self.differentiable and not self.detach_solver:
            return self.loop.step(state, external)
        with torch.no_grad():
            return self.loop.step(state.detach(), external)

    def rolled(self, state: Tensor, external: Tensor, *, corrected: bool = True) -> Tensor:
        """Return the states after every step, `(N, n, C, *grid)`.

        Args:
            state: `(N, C, *grid)`.
            external: `(N, n, E, *grid)`.
            corrected: Whether the corrector acts.
        """
        states = []
        for outer in external.unbind(1):
            state = self.solved(state, outer)
            if corrected:
                state = state + self.loop.placed(self.network(state, outer))
            states.append(state)
        return torch.stack(states, 1)

    def horizon(self) -> int:
        """Return how many steps are unrolled now."""
        if self.curriculum == 0:
            return self.unroll
        doubled = min(self.global_step // self.curriculum, 30)
        return min(self.unroll, 2**doubled)

    # --- what is special to the method --------------------------------------------------------
    def predict_batch(self, batch: Batch) -> Tensor:
        """Return the states after every step of a batch from its first reference."""
        return self.rolled(batch.inputs["state"], batch.inputs["external"])

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the loss of the steps that are unrolled now."""
        n = self.horizon()
        start, target = batch.inputs["state"], batch.target[:, :n]
        if self.variant == "non":
            start, outer = batch.inputs["source"], batch.inputs["external"][:, 0]
            with torch.no_grad():
                ahead = self.loop.step(start, outer) - self.loop.step(batch.inputs["state"], outer)
            target = target + ahead[:, None]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiable):
            found = self.rolled(start, batch.inputs["external"][:, :n])
        return [self.data_term(found, replace(batch, target=target))]

    # --- evaluation ---------------------------------------------------------------------------
    def on_test_epoch_start(self) -> None:
        """Start empty scores."""
        super().on_test_epoch_start()
        self._squares: dict[str, Tensor] = {}

    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score whole trajectories, corrected and not."""
        if batch is None:
            return
        plain = self.rolled(batch.inputs["state"], batch.inputs["external"], corrected=False)
        own = self.predict_batch(batch)
        for part, found in (("test", own), ("test_source", plain)):
            # pictures show the first state that is handed over; the last one has the whole error
            score = self.scores.setdefault(part, score_of(self.kind))
            score.add(found.flip(1), batch.target.flip(1))
            self._add(part, found - batch.target)
            self.effort.mean(f"{part}/mae_last", (found[:, -1] - batch.target[:, -1]).abs())
        self._add("size", batch.target)

    def _add(self, name: str, states: Tensor) -> None:
        """Add the sum of squares of every step."""
        square = states.cpu().double().square().transpose(0, 1).flatten(1).sum(1)
        self._squares[name] = self._squares.get(name, 0.0) + square

    def on_test_epoch_end(self) -> None:
        """Log the metrics; the uncorrected solver is one of the baselines."""
        super().on_test_epoch_end()
        if "test_source/rel_l2" in (metrics := self._report["metrics"]):
            self._report["baselines"]["uncorrected"] = metrics["test_source/rel_l2"]

    def test_figures(self) -> dict[str, Any]:
        """Return the error after every step, corrected and not."""
        ranks = [found for found in everyone(self._squares) if found]
        if not ranks:
            return {}
        sums = {name: sum(found[name] for found in ranks) for name in ranks[0]}
        labels = {"corrected": "test", "uncorrected": "test_source"}
        curve = {
            "x": list(range(1, len(sums["size"]) + 1)),
            "y": {k: (sums[v] / sums["size"]).sqrt().tolist() for k, v in labels.items()},
            "xlabel": f"step, {self.unroll} unrolled in training",
            "ylabel": "relative L2 error",
            "log": "y",
        }
        return {"curves": {"error_over_time": curve}}

    def _figures(self, score: Regression | Classification) -> dict[str, Any]:
        """Return what pictures show, with the step that they are of."""
        found = super()._figures(score)
        for row in found.get("fields", []):
            row |= {key: row[key].T for key in ("reference", "prediction")}  # x to the right
            row |= {"title": f"{row['title']}, last step", "xlabel": "cell along x"}
            row |= {"ylabel": "cell along y"}
        return found

    def configure_optimizers(self) -> object:
        """Return the optimizer and the schedule.

        Raises:
            InvalidArgument: For an optimizer that needs a gradient where there is none.
        """
        made = super().configure_optimizers()
        optimizer = made["optimizer"] if isinstance(made, dict) else made
        if not self.differentiable and not isinstance(optimizer, ZerothOrder):
            raise InvalidArgument(
                f"module.differentiable=false with {type(optimizer).__name__}",
                "an optimizer that looks at losses alone: cbo, deepzero or polystep",
                "Type optimizer=polystep, or module.detach_solver=true with any other",
            )
        return made
