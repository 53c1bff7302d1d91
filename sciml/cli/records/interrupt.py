"""Signals that end a run: each leaves a record.

Lightning ends a run between two steps after SIGTERM, and saves it. The other polite ways to ask a
program to stop (a closed terminal, a batch system's warning) are taken for the same; and so is
SIGTERM at times when Lightning does not look, while things are built or ranks wait for each other.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from typing import Any

import lightning.pytorch as pl

from sciml.callbacks.checkpoint import RunCheckpoint

log = logging.getLogger("sciml")

# Those a system has; SIGUSR1 and SIGUSR2 are what batch systems send before the time is up.
POLITE = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")


class Stop(pl.Callback):
    """Ends a run on a signal, between two steps where there are steps.

    A signal that is ignored already stays so (`nohup`). Several ranks stop after the same step,
    whichever of them was asked: Lightning's own handlers talk to the other ranks from within the
    handler, in the middle of whatever these are saying to each other.

    Attributes:
        asked: Whether a signal came.
        again: Whether SLURM is to start the job again: SIGUSR1 is its word for it.
        stepped: Whether there were steps.
    """

    def __init__(self) -> None:
        self.stepping = self.stepped = self.asked = self.again = False
        self._several = self._requeued = False
        self._before: dict[int, object] = {}

    def listen(self, *, requeued: bool) -> None:
        """Take over the signals.

        Args:
            requeued: Whether SIGUSR1 asks for the job to be started again.
        """
        self._requeued = requeued
        for name in POLITE:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                self._before[number] = signal.signal(number, self._handle)

    def leave(self) -> None:
        """Give the signals back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _handle(self, number: int, frame: object) -> None:
        self.asked = True
        if self._requeued and number == signal.SIGUSR1:
            self.again = True
        if not self.stepping:
            raise KeyboardInterrupt
        if not self._several and number != signal.SIGTERM:  # which Lightning notes beside us
            signal.raise_signal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on Lightning looks whether it was asked; of several ranks, we do."""
        self.stepping = self.stepped = True
        self._several = trainer.world_size > 1
        if self._several:
            signal.signal(signal.SIGTERM, self._handle)  # Lightning gives it back at the end

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Tell Lightning on all ranks after the same step."""
        if self._several and trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer._signal_connector.received_sigterm = True  # it has no public word for it
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, RunCheckpoint):
                    callback.stopping = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning looks no longer."""
        self.stepping = False

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Lightning looks no longer."""
        self.stepping = False


def requeue() -> None:
    """Have SLURM start this job again, which goes on from the last checkpoint."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        problem = done.stderr.strip() if done.returncode else None
    except OSError as error:
        problem = str(error)
    if problem is None:
        log.info("job %s is started again", job)
    else:
        log.error("job %s is not started again: scontrol requeue: %s", job, problem)
