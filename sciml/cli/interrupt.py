"""Signals that end a run: each leaves a record.

Lightning ends a run between two steps after SIGTERM, and saves it. The other polite ways to ask a
program to stop (a closed terminal, a batch system's warning) are taken for the same; and so is
SIGTERM at times when Lightning does not look, while things are built or ranks wait for each other.
"""

from __future__ import annotations

import signal

import lightning.pytorch as pl

# Those a system has; SIGUSR1 and SIGUSR2 are what batch systems send before the time is up.
POLITE = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")


class Stop(pl.Callback):
    """Ends a run on a signal, between two steps where there are steps.

    A signal that is ignored already stays so (`nohup`), and SIGUSR1 is left to Lightning under
    SLURM, where it has the job started again.
    """

    def __init__(self) -> None:
        self.stepping = False
        self._before: dict[int, object] = {}

    def listen(self, *, requeued: bool) -> None:
        """Take over the signals.

        Args:
            requeued: Whether Lightning handles SIGUSR1.
        """
        for name in POLITE:
            number = getattr(signal, name, None)
            if number is None or (requeued and name == "SIGUSR1"):
                continue
            if signal.getsignal(number) == signal.SIG_DFL:
                self._before[number] = signal.signal(number, self._handle)

    def leave(self) -> None:
        """Give the signals back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _handle(self, number: int, frame: object) -> None:
        if not self.stepping:
            raise KeyboardInterrupt
        if number != signal.SIGTERM:  # which Lightning notes beside us
            signal.raise_signal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on Lightning looks for SIGTERM."""
        self.stepping = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning looks no longer."""
        self.stepping = False

    def on_exception(self, trainer, pl_module, exception: BaseException) -> None:
        """Lightning looks no longer."""
        self.stepping = False
