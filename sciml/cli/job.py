"""One run: build, fit, test, and leave its record in the run folder."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sciml.cli import paths, resume
from sciml.errors import SciMLError

log = logging.getLogger("sciml")


def train(
    config: Mapping[str, Any], run_dir: Path, command: str, found: resume.Checkpoint | None = None
) -> int:
    """Build, fit and test one run, and leave its record in the run folder.

    Args:
        config: The resolved and checked configuration.
        run_dir: The run folder.
        command: The user's arguments, for the record.
        found: The checkpoint to continue from, or None.

    Returns:
        0.

    Raises:
        SciMLError: What is wrong with the input, or why training stopped.
        KeyboardInterrupt: After Ctrl-C; the record says so.
    """
    import lightning.pytorch as pl
    import torch

    from sciml.callbacks import csv_log
    from sciml.cli.build import build

    quiet()
    torch.set_float32_matmul_precision(config["matmul_precision"])
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    try:
        run = build(config, run_dir)
    except SciMLError:
        if found is None:
            discard(run_dir)
        raise
    if not paths.is_worker():
        if found is None:
            clear(run_dir)
        write_config(config, run_dir, command)
    log.info("%s in %s", config["model"], run_dir)
    if found is not None:
        for text in found.warnings:
            log.warning("%s", text)
        log.info("continuing %s at step %d", found.path, found.step)
        if not paths.is_worker():
            source = (found.run_dir or run_dir) / "metrics.csv"
            csv_log.rewind(run_dir / "metrics.csv", found.step, source)
    checkpoint = str(found.path) if found is not None else None
    try:
        run.trainer.fit(run.module, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        run.trainer.test(run.module, datamodule=run.data, verbose=False)
    except SystemExit:
        # Lightning answers Ctrl-C by leaving with code 1 and ignoring further ones.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None
    for record in (c for c in run.trainer.callbacks if hasattr(c, "finish")):
        record.finish("completed")
        log.info("%s", record.table())
    return 0


def discard(run_dir: Path) -> None:
    """Remove the run folder of a run that was refused, if there is nothing but its log in it."""
    if {file.name for file in run_dir.iterdir()} <= {"run.log"}:
        (run_dir / "run.log").unlink(missing_ok=True)
        run_dir.rmdir()


def clear(run_dir: Path) -> None:
    """Remove what an earlier run left in the folder that a new one would take for its own.

    Its metrics would precede the new ones, and `ckpt_path=last` could fall back to its checkpoint.
    """
    old = [run_dir / "metrics.csv", *(run_dir / "checkpoints").glob("*.ckpt")]
    old = [file for file in old if file.exists()]
    if old:
        log.warning("replacing the run in %s (ckpt_path=last would continue it)", run_dir)
    for file in old:
        file.unlink()


def write_config(config: Mapping[str, Any], run_dir: Path, command: str) -> None:
    """Write `config.yaml`: the command on the first line, then every resolved value."""
    from omegaconf import OmegaConf

    text = f"# python train.py {command}\n" + OmegaConf.to_yaml(OmegaConf.create(dict(config)))
    temporary = run_dir / f".config.yaml.{os.getpid()}"
    temporary.write_text(text)
    os.replace(temporary, run_dir / "config.yaml")


def quiet() -> None:
    """Keep Lightning's advice about hardware and loaders out of the user's terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    for text in (
        ".*does not have many workers.*",
        ".*Trying to infer the `batch_size`.*",
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # modules join ranks themselves
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*number of training batches .* is smaller than the logging interval.*",
        ".*Starting from v1.9.0, `tensorboardX`.*",
        ".*isinstance.treespec, LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=text)
