"""One run: build, fit, test, and leave its record in the run folder."""

from __future__ import annotations

import logging
import os
import signal
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sciml.cli import paths
from sciml.cli.memory import beyond_memory
from sciml.cli.records import read_checkpoint, resume, run_folder
from sciml.cli.records.rank_watch import (
    FIRST,
    LOOK,
    Ranks,
    mark_failed,
    said,
    watch_children,
    watch_parent,
)
from sciml.errors import ConfigError, ConvergenceError, RunFailed, SciMLError, TrainingDiverged

log = logging.getLogger("sciml")


def train(
    config: Mapping[str, Any],
    run_dir: Path,
    command: str,
    found: read_checkpoint.Checkpoint | None = None,
    *,
    sweep: bool = False,
) -> int:
    """Build, fit and test one run, and leave its record in the run folder.

    Args:
        config: The resolved and checked configuration.
        run_dir: The run folder.
        command: The user's arguments, for the record.
        found: The checkpoint to continue from, or None.
        sweep: Whether it is one of several, which ranks may start at other times.

    Returns:
        0.

    Raises:
        SciMLError: What is wrong with the input, or why training stopped.
        RunFailed: If the system stopped the run: a full disk, a file that may not be written, too
            little memory.
        KeyboardInterrupt: After Ctrl-C or another signal to stop; the record says so.
    """
    from sciml.cli.records import interrupt

    first = not paths.is_worker()
    held = run_folder.lock(run_dir) if first else None
    used = run_folder.content(run_dir) is not None
    stop, ranks, again = interrupt.Stop(), Ranks.started(run_dir, sweep), False
    try:
        stop.listen(requeued=paths.by_srun())
        code = _train(config, run_dir, command, found, used, stop, ranks)
        ranks.leave(in_order=True)
        return code
    except OSError as error:
        raise RunFailed(f"the run in {run_dir} stopped: {error}") from error
    except (TrainingDiverged, ConvergenceError):
        ranks.leave(in_order=True)
        raise
    except KeyboardInterrupt:
        ranks.leave(in_order=stop.stepped)  # who waits for a first meeting would wait for ever
        again = stop.again and first
        raise
    except RunFailed:
        raise
    except SciMLError:
        if first and not used:
            run_folder.discard(run_dir)
        raise
    except (MemoryError, RuntimeError) as error:
        if not beyond_memory(error):
            raise
        raise RunFailed(
            f"the run in {run_dir} stopped, out of memory: {str(error)[-200:] or 'a large array'}",
            hint="Type smaller sizes (network.width, data.points, ...)",
        ) from error
    finally:
        stop.leave()
        if first:
            run_folder.tidy(run_dir)
        elif run_folder.abandoned(run_dir):  # by the first rank, which would have said how it ended
            mark_failed(run_dir)
        if held is not None:
            os.close(held)
        ranks.leave(in_order=False)
        if again:
            interrupt.requeue()


def _train(
    config: Mapping[str, Any],
    run_dir: Path,
    command: str,
    found: read_checkpoint.Checkpoint | None,
    used: bool,
    stop: Any,
    ranks: Ranks,
) -> int:
    import lightning.pytorch as pl
    import torch

    from sciml.callbacks.first_step import FirstStep
    from sciml.callbacks.fresh_rows import FreshRows
    from sciml.callbacks.new_settings import NewSettings
    from sciml.cli.runs.build import build

    quiet()
    torch.set_float32_matmul_precision(config["matmul_precision"])
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    try:
        run = build(config, run_dir)
    except OSError as error:  # a file that the command line names
        raise ConfigError(f"cannot build the run: {error}") from error
    trainer, records = run.trainer, [c for c in run.trainer.callbacks if hasattr(c, "finish")]
    first = not paths.is_worker()
    gone: list[str] = []

    def lost(which: str, status: str = "running") -> None:
        if not gone:
            said(run_dir, which)
        gone.append(which)
        for record in records if first else ():
            if record.begun and record.status == status:
                record.finish("failed")

    if found is not None:
        resume.fits(found, run.module, trainer.world_size)
    old = run_folder.remains(run_dir) if used and not resume.continues(found, run_dir) else []

    def begin() -> None:
        """Make the folder this run's own."""
        if old:
            log.warning("replacing the run in %s", run_dir)
        for record in records:
            record.begin()
        write_config(config, run_dir, command)
        run_folder.clear(old)
        if found is not None:
            resume.take_over(found, run_dir)

    if first:
        run_folder.tidy(run_dir)
        if not used:
            for record in records:  # first: a config.yaml alone may be anybody's
                record.begin()
            write_config(config, run_dir, command)
        for stale in run_dir.glob("hpc_ckpt_*.ckpt"):  # Lightning would prefer it to ours
            stale.unlink()
    ranks.lost = lost
    log.info("%s in %s", config["model"], run_dir)
    trainer.callbacks[:0] = [stop, FirstStep(begin), FreshRows()]
    if found is not None:
        for text in found.warnings:
            log.warning("%s", text)
        log.info("continuing %s at step %d", found.path, found.step)
        trainer.callbacks.insert(0, NewSettings(found.settings))

    if trainer.world_size > 1:
        if paths.by_lightning() and not first:
            watch_parent(lost)
        elif hasattr(trainer.strategy.launcher, "procs"):
            os.environ[FIRST] = str(os.getpid())
            watch_children(trainer.strategy.launcher, lost)

    # A checkpoint of step 0 is the beginning, which Lightning would count as a step done.
    checkpoint = str(found.path) if found is not None and found.step else None
    try:
        trainer.fit(run.module, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        # Lightning numbers the row of the test by this, and restores it a step short.
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        trainer.test(run.module, datamodule=run.data, verbose=False)
    except RuntimeError as error:
        if trainer.world_size > 1:  # a lost connection: there is time to see who is gone
            time.sleep(3 * LOOK)
        if gone:
            raise RunFailed(f"the run in {run_dir} stopped: {gone[0]}") from error
        if not stop.asked:
            raise
        for record in records:  # the others were asked too, and were faster
            record.finish("interrupted")
        raise KeyboardInterrupt from None
    except (SystemExit, KeyboardInterrupt):
        # Lightning answers Ctrl-C by leaving with code 1 and ignoring further ones.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        which = ranks.gone()
        if which:  # torchrun ends the others by SIGTERM
            lost(which, "interrupted")
            raise RunFailed(f"the run in {run_dir} stopped: {which}") from None
        raise KeyboardInterrupt from None
    for record in records:
        record.finish("completed")
        log.info("%s", record.table())
    return 0


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
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # trainer.profiler
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
