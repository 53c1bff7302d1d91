"""Linear solvers for the pressure of a simulation, by name; `auto` chooses one in every step.

    cg           conjugate gradients
    mic          with modified incomplete Cholesky
    multigrid    with our geometric multigrid, in float32
    amg          with Ruge-Stuben multigrid of PyAMG
    learned      flexible CG with a trained preconditioner; falls back to mic where that breaks down
    dcdm         conjugate directions (K = 2) of a trained network; likewise
    auto         Tsallis-INF over these (but dcdm), whose cost is the measured CPU time of a step's
                 set-up and solve

All computations are in float64 with the true residual, whoever preconditions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from sciml.errors import InvalidArgument
from sciml.networks.preconditioners.learned_preconditioner import (
    LearnedPreconditioner,
    PreconditionerNetwork,
)
from sciml.pretrained import list_pretrained, load_pretrained
from sciml.solvers.bandits import TsallisINF
from sciml.solvers.linear import (
    AlgebraicMultigrid,
    FlexibleCG,
    IncompleteCholesky,
    Multigrid,
    Stencil,
    guarded,
)
from sciml.typed_arguments import typed

NAMES = ("cg", "mic", "multigrid", "amg", "learned", "dcdm", "auto")
LEARNED = ("learned", "dcdm")
SHIPPED = {2: "pressure_2d", 3: "pressure_3d"}
MAX_ITER = 20_000
SEED = 0  # of the choices of `auto`

Maker = Callable[[Stencil], Any]


@typed
class PressureSolvers:
    """Makes the linear solver of every step and keeps account of what it cost.

    Args:
        name: One of `NAMES`.
        dim: Axes of the grid.
        rtol: Tolerance on the true relative residual.
        model: Of `learned` and `dcdm`: a name, a run folder or a pretrained folder. None takes the
            one that ships for the dimension; `auto` goes without one if there is none.

    Attributes:
        chosen: Name of the solver of the present step.
        setup: CPU seconds that its set-up took.

    Raises:
        InvalidArgument: For an unknown name, a tolerance that is none, a model that is no
            preconditioner, or one for another dimension.
        PretrainedError: If there is no such model.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import WakeFlow
        >>> from sciml.simulate import PressureSolvers
        >>> solvers = PressureSolvers("multigrid", dim=2)
        >>> solvers.choose()
        'multigrid'
        >>> flow = WakeFlow(shape=(16, 8), spacing=0.125)
        >>> _, projection = flow.step(flow.start(), 0.05, solvers)
        >>> projection.solution.status.tolist()
        [0]
    """

    def __init__(
        self, name: str, dim: int, *, rtol: float = 1e-6, model: str | None = None
    ) -> None:
        if name not in NAMES or not 0 < rtol < 1:
            raise InvalidArgument(
                f"solver={name}, rtol={rtol}", f"{', '.join(NAMES)}, and a tolerance in (0, 1)"
            )
        self.name, self.rtol = name, rtol
        if dim not in SHIPPED:
            raise InvalidArgument(f"dim={dim}", "2 or 3")
        wanted = model or SHIPPED[dim]
        there = model is not None or wanted in list_pretrained()
        self.network = None
        if name in LEARNED or (name == "auto" and there):
            self.network = network_of(wanted, dim)
        self.arms: tuple[str, ...] = (name,)
        self.bandit: TsallisINF | None = None
        if name == "auto":
            amg = ("amg",) if find_spec("pyamg") else ()
            learned = ("learned",) if self.network is not None else ()
            self.arms = ("cg", "mic", "multigrid", *amg, *learned)
            self.bandit = TsallisINF(len(self.arms), seed=SEED)
        self.chosen, self.setup = self.arms[0], 0.0

    def choose(self) -> str:
        """Choose the solver of the next step and return its name."""
        if self.bandit is not None:
            self.chosen = self.arms[int(self.bandit.choose())]
        return self.chosen

    def paid(self, seconds: float) -> None:
        """Say what the step's set-up and solve cost."""
        if self.bandit is not None:
            self.bandit.update(torch.tensor([seconds]))

    def __call__(self, stencil: Stencil) -> Any:
        """Return the linear solver for the matrices of the step."""
        began = time.process_time()
        made = self._make(stencil)
        self.setup = time.process_time() - began
        return made

    def _make(self, stencil: Stencil) -> Any:
        kind = self.chosen
        if kind in LEARNED:
            return guarded(
                LearnedPreconditioner(self.network, stencil),
                lambda operator: IncompleteCholesky(stencil)(operator),  # made if it is needed
                rtol=self.rtol,
                directions=2 if kind == "dcdm" else None,
            )
        preconditioner = {
            "cg": lambda: None,
            "mic": lambda: IncompleteCholesky(stencil),
            "multigrid": lambda: Multigrid(stencil, dtype=torch.float32),
            "amg": lambda: AlgebraicMultigrid(stencil),
        }[kind]()
        return FlexibleCG(rtol=self.rtol, max_iter=MAX_ITER, preconditioner=preconditioner)

    def shares(self) -> dict[str, float]:
        """Return the probabilities with which `auto` would choose now."""
        if self.bandit is None:
            return {}
        chances = self.bandit.probabilities()[0].tolist()
        return {f"chance/{name}": p for name, p in zip(self.arms, chances, strict=True)}


def network_of(model: str, dim: int) -> PreconditionerNetwork:
    """Return the network of a trained preconditioner.

    Raises:
        InvalidArgument: If the model is none, or one for another dimension.
        PretrainedError: If there is no such model.
    """
    network = getattr(load_pretrained(model), "network", None)
    if not isinstance(network, PreconditionerNetwork) or network.dim != dim:
        kind = type(network).__name__
        axes = f" for {network.dim}-D" if isinstance(network, PreconditionerNetwork) else ""
        raise InvalidArgument(
            f"model={model}, a {kind}{axes}",
            f"a trained preconditioner for {dim}-D",
            f"Type model={SHIPPED[dim]}, or the folder of python train.py model={SHIPPED[dim]}",
        )
    return network
