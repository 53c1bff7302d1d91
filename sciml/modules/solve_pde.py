"""Solve a PDE of your own from Python: the whole run in one call.

    solution = solve(MyPDE(dim=20), steps=1000)
    solution(x)  # u at points x (N, d)
    solution.metrics["test/rel_l2"]  # where the problem has an exact solution

The command line (`python train.py`) does the same for configured problems and keeps a run folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import lightning as L
import torch
from torch import Tensor, nn

from sciml.autodiff.estimators import SDGD, Exact
from sciml.data.collocation import CollocationData
from sciml.errors import TrainingDiverged
from sciml.modules.sdgd_pinn import SDGDPINN
from sciml.networks.pointwise.mlp import MLP
from sciml.optim.schedules import Linear, attach
from sciml.physics.pde import PDE, Points
from sciml.physics.residual.soundness import check_answers
from sciml.physics.returned import points as check_points
from sciml.typed_arguments import typed


@dataclass
class PDESolution:
    """A trained solution.

    Attributes:
        module: The trained module.
        metrics: Test metrics by name; empty where the problem has no `exact`.
    """

    module: SDGDPINN
    metrics: dict[str, float]

    def __call__(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Return u `(N,)` at x `(N, d)` and t `(N, 1)`, without graph, in float64.

        Raises:
            InvalidArgument: For other shapes, and for a time where the problem has none.
        """
        p = Points(x, t)
        check_points("the argument of the solution", p, self.module.problem)
        return self.module.predict_points(p)


@typed
def solve(
    problem: PDE,
    *,
    steps: int = 2000,
    points: int = 100,
    lr: float = 1e-3,
    network: nn.Module | None = None,
    estimator: nn.Module | None = None,
    inputs: Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> PDESolution:
    """Train a PINN on a problem with Adam and linear decay; nothing is written to disk.

    Args:
        problem: The PDE.
        steps: Optimizer steps.
        points: Collocation points per step (and per soft condition).
        lr: Learning rate at the start.
        network: Called as `network(x, t, f)`, trained in place: a second call goes on from there.
            None for an MLP of four layers of width 128. Parameters of the problem are trained too.
        estimator: None for SDGD with 16 dimensions, or all of them where there are no more.
        inputs: What the network sees; None for the coordinates.
        seed: Seed of weights, points and dimensions.
        progress: Whether to show a progress bar.

    Raises:
        TrainingDiverged: If the trained weights are not finite.

    Example:
        >>> import torch
        >>> from sciml.modules.solve_pde import solve
        >>> from sciml.physics import Poisson
        >>> solution = solve(Poisson(dim=2), steps=5)  # thousands, to be any good
        >>> solution(torch.tensor([[0.5, 0.0]])).shape, solution.metrics["test/rel_l2"] > 0
        (torch.Size([1]), True)
    """
    known = type(problem).exact is not PDE.exact
    if known:
        check_answers(problem)
    L.seed_everything(seed, verbose=False)
    inputs = list(inputs or (["x", "t"] if problem.time_dependent else ["x"]))
    network = network or MLP(
        dim=problem.dim if "x" in inputs else 0,
        time="t" in inputs,
        features=len([name for name in inputs if name not in ("x", "t")]),
    )
    if estimator is None:
        estimator = SDGD(num_dims=16) if problem.dim > 16 else Exact()
    module = SDGDPINN(
        problem=problem,
        network=network,
        estimator=estimator,
        optimizer=partial(torch.optim.Adam, lr=lr),
        schedule=partial(attach, schedule=Linear(), total=steps),
        inputs=inputs,
    )
    data = CollocationData(problem=problem, points=points, condition_points=points, seed=seed)
    quiet = logging.getLogger("lightning.pytorch")
    level = quiet.level
    quiet.setLevel(logging.WARNING)
    try:
        trainer = L.Trainer(
            max_steps=steps,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
            limit_val_batches=0,
            inference_mode=False,
        )
        trainer.fit(module, data)
        bad = [name for name, w in module.trial.named_parameters() if not w.isfinite().all()]
        if bad:
            raise TrainingDiverged(
                f"after {steps} steps the weights {', '.join(bad[:3])} are not finite",
                "finite weights",
                "Look for log, sqrt and divisions in the residual, or give a lower lr",
            )
        if known:
            trainer.test(module, data, verbose=False)
    finally:
        quiet.setLevel(level)
    return PDESolution(module, module.report.metrics if known else {})
