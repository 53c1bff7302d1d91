"""Signals that end a run, and ranks that end without one: each leaves a record.

Lightning ends a run between two steps after SIGTERM, and saves it. The other polite ways to ask a
program to stop (a closed terminal, a batch system's warning) are taken for the same; and so is
SIGTERM at times when Lightning does not look, while things are built or ranks wait for each other.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl

log = logging.getLogger("sciml")

# Those a system has; SIGUSR1 and SIGUSR2 are what batch systems send before the time is up.
POLITE = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
FIRST = "SCIML_FIRST"  # names the process of the first rank to those it starts
LOOK = 0.5  # seconds between two looks for the first rank
GRACE = 4.0  # seconds a rank that has lost another has to end by itself


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


def watch_children(launcher: object, lost: Callable[[int, int], None]) -> None:
    """Call `lost(rank, exit code)` as soon as a rank that Lightning starts ends badly, and end.

    A rank that is gone leaves the others waiting for it, up to half an hour where they have not
    met yet; after some seconds Lightning kills this process, which then leaves no record.

    Args:
        launcher: Lightning's launcher; `procs` are the processes it has started.
        lost: What to do.
    """

    def start() -> None:
        while not launcher.procs:
            time.sleep(0.05)
        for rank, process in enumerate(launcher.procs, 1):
            threading.Thread(target=wait, args=(rank, process), daemon=True).start()

    def wait(rank: int, process: subprocess.Popen) -> None:
        code = process.wait()
        if code:
            lost(rank, code)
            time.sleep(GRACE)
            os._exit(1)

    threading.Thread(target=start, daemon=True).start()


def watch_parent(lost: Callable[[], None]) -> None:
    """Call `lost` when the first rank, which started this process, is gone, and end.

    It may be gone already: `FIRST` says which process it was.
    """
    parent = int(os.environ.get(FIRST, os.getppid()))

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        lost()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def mark_failed(run_dir: Path) -> None:
    """Say in the record of a run whose first rank is gone that it failed."""
    from sciml.callbacks.run_record import write_json

    file = run_dir / "metrics.json"
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError):
        return
    if record.get("status") == "running":
        write_json(file, {**record, "status": "failed"})
