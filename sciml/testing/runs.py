"""Small runs for tests: composed and built as the command line does, without its output."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from sciml.cli import paths
from sciml.cli.checks import rules
from sciml.cli.runs.build import Run, build
from sciml.cli.targets import preflight
from sciml.cli.typed import overrides, schema
from sciml.errors import ConfigError

# What a user adds to models that take something of their own.
OWN = dict.fromkeys(
    (
        "cloud_unet",
        "deeponet",
        "fno",
        "fno_deq",
        "fnogno",
        "gino",
        "pod_deeponet",
        "tfno",
        "unet",
        "uno",
    ),
    ("data.path=fields.npz",),
)
OWN["pinn_system"] = ("problem=kovasznay",)


def compose(words: Sequence[str], folder: Path | None = None) -> dict[str, Any]:
    """Return the resolved and checked configuration of a command line.

    Args:
        words: What would be typed after `python train.py`.
        folder: The folder of configurations; the installed one by default.

    Raises:
        ConfigError: With everything preflight finds, as the command line would refuse it.
    """
    return copy.deepcopy(_compose(tuple(words), folder or paths.config_dir()))


@functools.cache  # composing takes most of a second, and a test asks for the same line often
def _compose(words: tuple[str, ...], folder: Path) -> dict[str, Any]:
    os.environ.setdefault(paths.STAMP, "test")
    schema.register()
    line = overrides.read(list(words), folder)
    findings = line.findings
    if line.config:
        findings = findings + preflight.check(line.config) + rules.check(line.config)
    if findings:
        raise ConfigError(" ".join(findings))
    return line.config


def prepare(
    words: Sequence[str],
    run_dir: Path,
    *,
    callbacks: Sequence[str] = (),
    trainer: Mapping[str, Any] | None = None,
) -> Run:
    """Return the objects of a run that writes nothing but what its callbacks write.

    Args:
        words: What would be typed after `python train.py`.
        run_dir: The run folder.
        callbacks: Those of the configuration to keep, by key.
        trainer: Trainer arguments that replace the configured ones.
    """
    config = compose(words)
    every = config.get("callbacks") or {}
    kept = {"curvature", *callbacks}  # without the first, some optimizers do not train
    config["callbacks"] = {key: node for key, node in every.items() if key in kept}
    config["logger"] = {}
    config["trainer"] |= {"enable_progress_bar": False, **(trainer or {})}
    if not any(key == "checkpoint" for key in callbacks):
        config["trainer"]["enable_checkpointing"] = False
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    return build(config, run_dir)


def fit(run: Run, *extra: pl.Callback, ckpt_path: Path | None = None) -> Run:
    """Train a prepared run, with further callbacks, and return it.

    Args:
        run: From `prepare`.
        extra: Callbacks added in front of the run's own.
        ckpt_path: Checkpoint to continue from.
    """
    run.trainer.callbacks[:0] = extra
    path = None if ckpt_path is None else str(ckpt_path)
    run.trainer.fit(run.module, datamodule=run.data, ckpt_path=path, weights_only=True)
    return run


class Losses(pl.Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss."""
        self.values.append(float(outputs["loss"]))


class Gradients(pl.Callback):
    """Keeps which trainable parameters the first backward pass left without a gradient."""

    def __init__(self) -> None:
        self.missing: list[str] | None = None

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the gradients."""
        if self.missing is None:
            self.missing = [
                name
                for name, p in pl_module.named_parameters()
                if p.requires_grad and (p.grad is None or not bool(p.grad.any()))
            ]


class Killed(Exception):
    """Stands for a process that ended without warning."""


class KillAt(pl.Callback):
    """Ends the run before step `step`.

    Args:
        step: Optimizer steps done before.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the run when it is time."""
        if trainer.global_step == self.step:
            raise Killed(f"at step {self.step}")
