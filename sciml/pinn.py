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
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from sciml.callbacks.first_step import FirstStep
from sciml.callbacks.history import History
from sciml.cli import paths
from sciml.cli.checks import rules
from sciml.cli.records import run_folder
from sciml.cli.runs import build
from sciml.cli.targets import preflight
from sciml.cli.typed import overrides, schema
from sciml.errors import ConfigError, InvalidArgument, TrainingDiverged
from sciml.modules.system_pinn import PINN
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
from sciml.pretrained.classes import class_table
from sciml.pretrained.saving import own_solution
from sciml.system_solution import SystemSolution as Solution
from sciml.system_solution import load
from sciml.typed_arguments import typed

__all__ = [
    "At", "Ball", "Box", "Disk", "Initial", "Integral", "Interval", "Observed", "On", "Polygon",
    "Range", "Rectangle", "Same", "Solution", "System", "Time", "Unknown", "load", "solve", "torch",
]  # fmt: skip

KEPT = ("finite", "curvature", "progress")  # callbacks of a run that writes nothing


def _system(value: Any) -> str:
    wanted = "an instance of a System: type solve(MySystem()); sciml.modules.solve_pde has the "
    return "" if isinstance(value, System) else f"{wanted}solver for one unknown in many dimensions"


@typed(problem=_system)
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
    overwrite: bool = False,
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
        balance: "gradnorm", "ntk" or "unit": weights of terms that follow from the terms.
        causal: True, eps or a rising ladder of them: earlier times first.
        attention: Whether points whose residual stays large weigh more; needs a kept batch,
            "data.fixed_for=100000".
        windows: Windows of time, each from the end state of the one before; they share steps or
            seconds equally.
        sampled: Dimensions of Laplacians that are drawn in every step; all by default.
        seed: Seed of weights and points.
        run_dir: Where a run folder is left as by the command line, new or empty, which `load`
            reads; with several optimizers one folder each inside. None for nothing on disk.
        overwrite: Whether a run in that folder is replaced, as by `overwrite=true` of the command
            line: it stays whole until the new one has made its first step.
        progress: Whether to show progress: a bar in a terminal, else a line every few seconds.

    Returns:
        The solution.

    Raises:
        InvalidArgument, InvalidType, ConfigError: For what cannot be right, before training.
        TrainingDiverged: If the loss or the weights stop being finite.

    Example:
        >>> from sciml.pinn import Interval, On, System, solve
        >>> class Line(System):
        ...     domain = Interval(0, 1)
        ...     conditions = {"ends": On(domain.boundary, u=lambda x: x)}
        ...     def residual(self, u):
        ...         return u.xx
        >>> solution = solve(Line(), steps=20, width=8, depth=2, points=16)
        >>> round(solution(x=0.5)["u"].item(), 2)
        0.5
    """
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
    marching, staged = (windows or 1) > 1, not module_given and network == "staged"
    if len(phases) > 1 and (marching or staged):
        parts = f"windows={windows}" if marching else "network=staged"
        raise InvalidArgument(
            f"{parts} with the optimizers {phases} one after the other",
            "one optimizer, which starts anew in every part of the run",
        )
    if run_dir is not None:
        _free(Path(run_dir), overwrite)
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
            if not progress:  # Lightning refuses a bar that it is told to leave out
                config["callbacks"].pop("progress", None)
            config["trainer"]["enable_progress_bar"] = progress
            pl.seed_everything(seed, workers=True, verbose=False)
            run = build.build(config, folder, parts)
            history.start(phase)
            run.trainer.callbacks.insert(0, history)
            if run_dir is not None:  # what another run left there, until this one has begun
                old = run_folder.remains(folder)
                old += run_folder.remains(Path(run_dir)) if folder != Path(run_dir) else []
                run.trainer.callbacks.insert(0, FirstStep(partial(run_folder.clear, old)))
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
    solution = Solution(run.module, described, history.rows)
    if run_dir is not None and described:
        solution.save(Path(run_dir) / own_solution.FOLDER)
    return solution


def _free(run_dir: Path, overwrite: bool) -> None:
    """Refuse a folder that is in use.

    Raises:
        InvalidArgument: If it is a file, or holds files that nobody said to replace.
    """
    if not run_dir.exists():
        return
    if not run_dir.is_dir():
        raise InvalidArgument(f"run_dir='{run_dir}', which is a file", "a folder", "Take another")
    if not overwrite and any(run_dir.iterdir()):
        raise InvalidArgument(
            f"run_dir='{run_dir}', which holds files", "a new or empty folder",
            "Type overwrite=True to replace a run in it, or take another name",
        )  # fmt: skip


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
        if steps < phases:
            raise InvalidArgument(
                f"steps={steps}" + (f" for {phases} optimizers" if phases > 1 else ""),
                "a step at least" + (" for each of them" if phases > 1 else ""),
                f"Write steps={100 * phases}, or seconds=60",
            )
        return [f"trainer.max_steps={steps // phases}"]
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
