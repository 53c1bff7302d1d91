"""The front door for systems of equations: say the problem, call `solve`.

    from sciml.pinn import *

    class Burgers(System):
        domain = Interval(-1, 1) * Time(0, 1)
        conditions = {
            "start": Initial(u=lambda x: -torch.sin(torch.pi * x)),
            "ends": On(domain.boundary, u=0),
        }

        def residual(self, u):
            return u.t + u * u.x - 0.01 / torch.pi * u.xx

    solution = solve(Burgers(), seconds=60)
    solution(x=0.5, t=1.0)["u"]

`solve` makes the run that `python train.py model=pinn_system problem=FILE.py:Burgers` makes: the
same configuration files, checks and objects.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from sciml.callbacks.history import History
from sciml.cli import paths
from sciml.cli.checks import rules
from sciml.cli.runs import build
from sciml.cli.targets import preflight
from sciml.cli.typed import overrides, schema
from sciml.errors import (
    ConfigError,
    InvalidArgument,
    InvalidType,
    PretrainedError,
    TrainingDiverged,
)
from sciml.modules.pinn import PINN
from sciml.modules.system_report import SystemReport
from sciml.networks.pointwise.ansatz import network_sizes
from sciml.physics.systems import (
    At,
    Ball,
    Box,
    Disk,
    Initial,
    Integral,
    Interval,
    Observed,
    On,
    Polygon,
    Range,
    Rectangle,
    Same,
    System,
    Time,
    Unknown,
)
from sciml.pretrained import class_table, weights

__all__ = [
    "At", "Ball", "Box", "Disk", "Initial", "Integral", "Interval", "Observed", "On", "Polygon",
    "Range", "Rectangle", "Same", "Solution", "System", "Time", "Unknown", "load", "solve", "torch",
]  # fmt: skip

KEPT = ("finite", "curvature")  # callbacks of a run that writes nothing
CARD = "solution.json"


class Solution:
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
        self, module: PINN, network: dict | None = None, history: Sequence[dict] = ()
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
        folder.mkdir(parents=True, exist_ok=True)
        paired = weights.write(folder / weights.FILE, self.module.network.state_dict())
        card = {
            "problem": type(self.problem).__name__,
            "outputs": list(self.problem.outputs),
            "variables": list(self.problem.region.variables),
            "network": self.network,
            "modes": self.module.network.modes,
            "windows": getattr(self.module.network, "windows", 1),
            "metrics": {k: v for k, v in self.metrics.items() if math.isfinite(v)},
            "sha256": weights.sha256(folder / weights.FILE),
            "complex128": paired,
        }
        (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        return folder

    def __repr__(self) -> str:
        """Return errors and unknowns."""
        rows = [f"{name.removeprefix('test/')} {value:.3g}" for name, value in self.metrics.items()]
        return f"Solution of {type(self.problem).__name__}: {', '.join(rows) or 'no reference'}"


def solve(
    problem: System,
    *words: str,
    optimizer: str | Sequence[str] = "lm",
    steps: int | None = None,
    seconds: float | None = None,
    points: int | None = None,
    condition_points: int | None = None,
    network: str | nn.Module = "mlp",
    width: int | None = None,
    depth: int | None = None,
    balance: str | None = None,
    causal: bool | float | Sequence[float] | None = None,
    attention: bool | None = None,
    windows: int | None = None,
    sampled: int | None = None,
    seed: int = 0,
    run_dir: str | Path | None = None,
    progress: bool = False,
) -> Solution:
    """Train a physics-informed network on a system of equations.

    Args:
        problem: The system.
        words: Further words of the command line: "optimizer.damping=1e-8", "data.candidates=4".
        optimizer: Any of `configs/optimizer`; or several, one after the other, which share steps
            or seconds equally: ("adam", "ssbroyden").
        steps: Optimizer steps; what the optimizer's recipe says by default.
        seconds: Time instead of steps.
        points: Points inside per step.
        condition_points: Points per condition and step.
        network: Any of `configs/network` that takes coordinates as features, or a module called as
            `network(None, None, f)`, trained in place.
        width: Of a configured network.
        depth: Of a configured network.
        balance: "gradnorm" or "ntk": weights of terms that follow from the terms.
        causal: True, eps or a rising ladder of them: earlier times first.
        attention: Whether points whose residual stays large weigh more; needs a kept batch,
            "data.fixed_for=100000".
        windows: Windows of time, each from the end state of the one before; they share steps or
            seconds equally.
        sampled: Dimensions of Laplacians that are drawn in every step; all by default.
        seed: Seed of weights and points.
        run_dir: Where a run folder is left as by the command line; None for nothing on disk.
        progress: Whether to show progress.

    Returns:
        The solution.

    Raises:
        InvalidArgument, InvalidType, ConfigError: For what cannot be right, before training.
        TrainingDiverged: If the loss or the weights stop being finite.
    """
    if not isinstance(problem, System):
        raise InvalidType(
            f"solve({type(problem).__name__})",
            "an instance of a System",
            "Write solve(MySystem()); sciml.modules.solve_pde has the solver for one unknown in "
            "many dimensions",
        )
    problem.needs  # noqa: B018 - mistakes are said before anything is set up
    phases = [optimizer] if isinstance(optimizer, str) else list(optimizer)
    module_given = isinstance(network, nn.Module)
    own = dict.fromkeys(("network.width", "network.depth", "data.points", "data.condition_points"))
    own |= {"network.width": width, "network.depth": depth, "data.points": points}
    own["data.condition_points"] = condition_points
    options = {"balance": balance, "causal": causal, "attention": attention, "windows": windows}
    options["sampled"] = sampled
    for name, value in options.items():
        value = list(value) if isinstance(value, tuple) else value
        own[f"module.{name}"] = str(value).lower() if isinstance(value, bool) else value
    if len(phases) > 1 and (windows or 1) > 1:
        raise InvalidArgument(
            f"windows={windows} with the optimizers {phases} one after the other",
            "one optimizer, which starts anew in every window",
        )
    said = [f"{key}={value}" for key, value in own.items() if value is not None]
    if not module_given:
        said.append(f"network={network}")
    history, run, trained = History(), None, network if module_given else None
    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        for phase in phases:
            folder = Path(run_dir or scratch)
            folder = folder / phase if len(phases) > 1 and run_dir else folder
            line = ["model=pinn_system", "problem=burgers1d", f"optimizer={phase}", f"seed={seed}"]
            line += [*said, *_length(steps, seconds, len(phases)), *words]
            config = _config(line, folder)
            # the class is not one that a file may name
            config["problem"] = None
            parts: dict[str, Any] = {"problem": problem}
            if trained is not None:
                parts["network"] = trained
            if run_dir is None:
                every = config["callbacks"]
                config["callbacks"] = {k: every[k] for k in KEPT if k in every}
                config["logger"] = {}
                config["trainer"] |= {"enable_checkpointing": False, "val_check_interval": None}
                config["trainer"]["limit_val_batches"] = 0
            config["trainer"]["enable_progress_bar"] = progress and run_dir is None
            pl.seed_everything(seed, workers=True, verbose=False)
            run = build.build(config, folder, parts)
            history.start(phase)
            run.trainer.callbacks.insert(0, history)
            run.trainer.fit(run.module, datamodule=run.data)
            if run_dir is not None:
                run.trainer.test(run.module, datamodule=run.data, verbose=False)
                for record in (c for c in run.trainer.callbacks if hasattr(c, "finish")):
                    record.finish("completed")
            trained = run.module.network.network
            _finite(run.module)
    described = None
    if not module_given:
        node = {k: v for k, v in config["network"].items() if k != "_target_"}
        name = class_table.name_of("network", config["network"]["_target_"])
        described = name and {"class": name, "arguments": node}
    return Solution(run.module, described, history.rows)


def load(folder: str | Path, problem: System) -> Solution:
    """Return a solution that was saved, for the problem that it was trained on.

    Args:
        folder: From `Solution.save`.
        problem: An instance of the same class.

    Raises:
        PretrainedError: For a folder that is incomplete or damaged, or another problem.
    """
    path = Path(folder) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        outputs, names = tuple(card["outputs"]), tuple(card["variables"])
        spec, modes, windows = card["network"], int(card["modes"]), int(card.get("windows", 1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PretrainedError(f"{path} cannot be read ({error})", "what save() wrote") from error
    if (outputs, names) != (tuple(problem.outputs), problem.region.variables):
        raise PretrainedError(
            f"a solution {outputs} of {names}",
            f"one of {type(problem).__name__}: {problem.outputs} of {problem.region.variables}",
        )
    sizes = network_sizes(problem, modes)
    arguments = {**spec["arguments"], **sizes}
    network = class_table.build("network", {"class": spec["class"], "arguments": arguments})

    class Settings:
        pass

    settings = Settings()
    settings.modes = modes
    module = PINN(
        problem=problem, network=network, optimizer=torch.optim.Adam, data=settings, windows=windows
    )
    state = weights.read(Path(folder) / weights.FILE, card["sha256"], card["complex128"])
    weights.assign(module.network, state)
    return Solution(module, spec)


def _config(words: list[str], folder: Path) -> dict[str, Any]:
    """Return the checked configuration of a command line.

    Raises:
        ConfigError: With everything that is wrong.
    """
    os.environ.setdefault(paths.STAMP, paths.run_stamp())
    schema.register()
    line = overrides.read(words, paths.config_dir())
    findings = line.findings
    if line.config:
        findings = findings + preflight.check(line.config) + rules.check(line.config)
    if findings:
        raise ConfigError(" ".join(findings))
    return line.config


def _length(steps: int | None, seconds: float | None, phases: int) -> list[str]:
    """Return the words that end each phase."""
    if steps is not None and seconds is not None:
        raise InvalidArgument(f"steps={steps} and seconds={seconds}", "one of them")
    if steps is not None:
        return [f"trainer.max_steps={max(1, steps // phases)}"]
    if seconds is not None:
        if not seconds > 0:
            raise InvalidArgument(f"seconds={seconds}", "a positive number")
        share = max(1, round(seconds / phases))
        clock = f"{share // 86400:02d}:{share // 3600 % 24:02d}:{share // 60 % 60:02d}"
        return [
            "trainer.max_steps=-1",
            f"trainer.max_time='{clock}:{share % 60:02d}'",
            "schedule=constant",
        ]
    return []


def _finite(module: PINN) -> None:
    bad = [name for name, w in module.network.named_parameters() if not bool(w.isfinite().all())]
    if bad:
        raise TrainingDiverged(
            f"the weights {', '.join(bad[:3])} are not finite",
            "finite weights",
            "Look for log, sqrt and divisions in the residual, or give a lower optimizer.lr",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice about hardware and loaders away."""
    quiet = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in quiet]
    for logger in quiet:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*Checkpoint directory.*")
            yield
    finally:
        for logger, level in zip(quiet, levels, strict=True):
            logger.setLevel(level)


def table_of(solution: Solution, n: int = 101) -> dict[str, np.ndarray]:
    """Return coordinates and outputs on a grid of n nodes per variable, for other programs."""
    region = solution.problem.region
    axes = [
        np.linspace(float(a), float(b), n) for a, b in zip(region.low, region.high, strict=True)
    ]
    grid = dict(zip(region.variables, np.meshgrid(*axes, indexing="ij"), strict=True))
    return {**grid, **{k: v.numpy() for k, v in solution(**grid).items()}}
