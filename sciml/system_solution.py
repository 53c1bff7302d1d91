"""A trained system of equations: evaluated, drawn, saved and loaded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument, RangeWarning
from sciml.modules.system_pinn import PINN
from sciml.modules.system_report import SystemReport
from sciml.networks.solutions.ansatz import network_sizes
from sciml.physics.systems import System
from sciml.physics.systems.points_outside import warn_outside
from sciml.pretrained.classes import described_objects
from sciml.pretrained.files import weights
from sciml.pretrained.saving import own_solution
from sciml.typed_arguments import typed


class SystemSolution:
    """A trained system.

    Args:
        module: The trained module.
        network: Class name and arguments of its network, to save it; None for one of the user's.
        history: What was logged, see `sciml.callbacks.history`.

    Attributes:
        metrics: Errors against the reference, where there is one.
        unknowns: Identified constants: value and standard error, which is nan where no
            observations tell it.
    """

    def __init__(
        self,
        module: PINN,
        network: dict[str, Any] | None = None,
        history: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.module, self.network, self.history = module, network, list(history)
        self.problem = module.problem
        self.report = SystemReport(module)
        self.metrics = self.report.metrics
        self.unknowns = {
            name: (
                self.metrics[f"test/unknown/{name}"],
                self.metrics.get(f"test/standard_error/{name}", math.nan),
            )
            for name in self.problem.unknowns
        }

    def __call__(self, points: Any = None, **coordinates: Any) -> dict[str, Tensor]:
        """Return the outputs by name, float64, without graph.

        Args:
            points: `(N, D)`, columns in the order of the domain's variables.
            coordinates: Instead of points: every variable by name, of shapes that broadcast.

        Returns:
            Values `(N,)`, or of the shape of the coordinates.

        Raises:
            InvalidArgument: For other shapes or names.
        """
        names = self.problem.region.variables
        if points is None:
            if set(coordinates) != set(names):
                raise InvalidArgument(
                    f"a solution at {', '.join(coordinates) or 'nothing'}",
                    f"all of {', '.join(names)}",
                    f"Write solution({', '.join(f'{v}=...' for v in names)})",
                )
            given = [torch.as_tensor(coordinates[v], dtype=torch.float64) for v in names]
            given = torch.broadcast_tensors(*given)
            shape, x = given[0].shape, torch.stack([g.reshape(-1) for g in given], 1)
        else:
            x = torch.as_tensor(points, dtype=torch.float64)
            if x.dim() != 2 or x.shape[1] != len(names) or coordinates:
                raise InvalidArgument(
                    f"points of shape {tuple(x.shape)}",
                    f"(N, {len(names)}), the columns {', '.join(names)}, and nothing else",
                )
            shape = x.shape[:1]
        warn_outside(self.problem.region, x)
        found = self.module.predict_points(x.to(self.module.device))
        return {name: value.cpu().view(shape) for name, value in found.items()}

    def plot(self, folder: str | Path) -> list[Path]:
        """Draw losses, unknowns over the steps, fields and errors into `folder/plots`."""
        from sciml.callbacks.plots import draw

        folder = Path(folder)
        if self.history:
            names = sorted({name for row in self.history for name in row})
            lines = [",".join(names)]
            lines += [",".join(f"{row[n]:.8g}" if n in row else "" for n in names)
                      for row in self.history]  # fmt: skip
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        return draw(folder, self.report.as_dict())

    def save(self, folder: str | Path) -> Path:
        """Write weights and what else `load` needs; the class of the problem stays with its author.

        Raises:
            InvalidArgument: For a network of the user's own class.
        """
        if self.network is None:
            raise InvalidArgument(
                f"a network of class {type(self.module.network.network).__name__}",
                "one made by solve(network='mlp', ...)",
                "Write torch.save(solution.module.network.state_dict(), path)",
            )
        folder = Path(folder)
        own_solution.write(folder, self.module.network, self.network, self.metrics)
        return folder

    def __repr__(self) -> str:
        """Return errors and unknowns."""
        rows = [f"{name.removeprefix('test/')} {value:.3g}" for name, value in self.metrics.items()]
        return f"Solution of {type(self.problem).__name__}: {', '.join(rows) or 'no reference'}"


@typed
def load(folder: str | Path, problem: System) -> SystemSolution:
    """Return a solution that was saved, for the problem that it was trained on.

    Args:
        folder: From `Solution.save`, or the folder of a run of one's own problem.
        problem: An instance of the same class.

    Raises:
        PretrainedError: For a folder that is incomplete or damaged, or another problem.

    Example:
        >>> import tempfile
        >>> from sciml.pinn import Interval, On, System, load, solve
        >>> class Line(System):
        ...     domain = Interval(0, 1)
        ...     conditions = {"ends": On(domain.boundary, u=lambda x: x)}
        ...     def residual(self, u):
        ...         return u.xx
        >>> trained = solve(Line(), steps=2, width=8, depth=2, points=16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load(trained.save(folder), Line())
        >>> again(x=0.5)["u"].item() == trained(x=0.5)["u"].item()
        True
    """
    folder = own_solution.found(Path(folder))
    card = own_solution.read(folder, problem)
    spec, modes = card["network"], card["modes"]
    sizes = network_sizes(problem, modes)
    arguments = {**spec["arguments"], **sizes}
    network = described_objects.build("network", {"class": spec["class"], "arguments": arguments})

    module = PINN(
        problem=problem,
        network=network,
        optimizer=torch.optim.Adam,
        data=SimpleNamespace(modes=modes),
        windows=card["windows"],
    )
    state = weights.read(folder / weights.FILE, card["sha256"], card["complex128"])
    weights.assign(module.network, state)
    return SystemSolution(module, spec)


def table_of(solution: SystemSolution, n: int = 101) -> dict[str, np.ndarray]:
    """Return coordinates and outputs on a grid of n nodes per variable, for other programs."""
    region = solution.problem.region
    axes = [
        np.linspace(float(a), float(b), n) for a, b in zip(region.low, region.high, strict=True)
    ]
    grid = dict(zip(region.variables, np.meshgrid(*axes, indexing="ij"), strict=True))
    with warnings.catch_warnings():  # a grid is laid over holes, too
        warnings.simplefilter("ignore", RangeWarning)
        return {**grid, **{k: v.numpy() for k, v in solution(**grid).items()}}
