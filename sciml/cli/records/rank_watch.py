"""Ranks look after each other: whoever is gone, the others end, and the record says so.

A rank that is gone leaves the others waiting for it, up to half an hour where they have not met
yet, in a call that no signal interrupts. Lightning knows the processes it starts itself. Ranks that
torchrun or srun start all alike know nothing of each other: each holds a lock on a file of its own
in the run folder, which the system gives back however it ends, and looks at those of the others.
One that is stopped (SIGSTOP) and not continued is ended, where the system says which those are.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sciml.cli import paths
from sciml.cli.records import run_folder

FIRST = "SCIML_FIRST"  # names the process of the first rank to those it starts
LOOK = 0.5  # seconds between two looks
GRACE = 4.0  # seconds a rank that has lost another has to end by itself
# Seconds after which a rank that never showed up counts as gone: it was killed while it imported
# what it needs. Nodes may start minutes apart and have folders of their own: nothing is known then.
MEETING = 30.0
# Seconds after which a stopped rank is ended. They are counted in looks: where all are stopped, by
# Ctrl-Z or by SLURM for another job, nobody looks, and all go on afterwards.
STOPPED = 45.0

Lost = Callable[[str], None]
log = logging.getLogger("sciml")


class Ranks:
    """What one of several ranks that a launcher started alike knows of the others.

    Args:
        run_dir: The run folder, shared by all.
        rank: Number of this rank.
        world: Number of ranks; 1 for a process alone, or one whose ranks Lightning starts.
        meeting: Seconds to wait for one that has not shown up.

    Attributes:
        lost: What to do when one is gone; this process ends some seconds later.
    """

    def __init__(self, run_dir: Path, rank: int, world: int, meeting: float = MEETING) -> None:
        self.run_dir, self.rank, self.world, self.meeting = run_dir, rank, world, meeting
        self.others = [other for other in range(world) if other != rank and world > 1]
        self._met: set[int] = set()
        self._stopped = {other: Stopped() for other in self.others}
        self._began = time.monotonic()
        self.lost: Lost = functools.partial(said, run_dir)
        self._held = self._hold() if self.others else None
        if self._held is not None:  # from now on: one seen once is missed as soon as it is gone
            threading.Thread(target=self._watch, daemon=True).start()

    @classmethod
    def started(cls, run_dir: Path, sweep: bool = False) -> Ranks:
        """Return those of this process, as its launcher says.

        Args:
            run_dir: The run folder.
            sweep: Whether others may still be busy with a run before.
        """
        meeting = math.inf if sweep or paths.nodes() > 1 else MEETING
        return cls(run_dir, paths.rank(), paths.world(), meeting)

    def file(self, rank: int) -> Path:
        """Return the file of a rank."""
        return self.run_dir / f".rank{rank}"

    def _hold(self) -> int | None:
        """Take this rank's file; None where the system or the file system has no locks.

        Raises:
            ConfigError: If the same rank of another run has it.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            return None
        self.run_dir.mkdir(parents=True, exist_ok=True)
        held = os.open(self.file(self.rank), os.O_RDWR | os.O_CREAT, 0o666)
        patience = time.monotonic() + LOOK  # another rank may be looking at it
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.truncate(held, 0)
                os.write(held, f"{os.getpid()} {socket.gethostname()}".encode())
                return held
            except BlockingIOError as error:
                if time.monotonic() > patience:
                    os.close(held)
                    raise run_folder.taken(self.run_dir) from error
                time.sleep(0.01)
            except OSError:  # some network file systems
                os.close(held)
                self.file(self.rank).unlink(missing_ok=True)
                return None

    def gone(self) -> str | None:
        """Return which rank is gone, in words.

        One whose file was seen held and is not any more. One that has no file any more has ended
        in good order; one that never had has not shown up, and so has one with a file left over
        from another run.
        """
        for other in self.others if self._held is not None else ():
            held = is_held(self.file(other))
            if held:
                self._met.add(other)
                if self._stopped[other].ended(process_of(self.file(other))):
                    return f"rank {other} was stopped for {STOPPED:.0f} seconds"
            elif held is None and other in self._met:
                self.others.remove(other)
                return self.gone()
            elif other in self._met:
                return f"rank {other} has ended before its time"
            elif time.monotonic() - self._began > self.meeting:
                return f"rank {other} has not shown up for {self.meeting:.0f} seconds"
        return None

    def _watch(self) -> None:
        while self._held is not None and self.others:
            which = self.gone()
            if which:
                told = self.lost
                told(which)
                time.sleep(GRACE)
                if self.lost is not told:  # the run has begun its record meanwhile
                    self.lost(which)
                self.leave(in_order=False)
                os._exit(1)
            time.sleep(LOOK)

    def leave(self, *, in_order: bool) -> None:
        """Give the file back; remove it if the others need not end because this rank does.

        If they need, the last one removes all files, and the folder of a run that was refused.
        """
        held, self._held = self._held, None
        if held is None:
            return
        if in_order:
            self.file(self.rank).unlink(missing_ok=True)
        os.close(held)
        files = [self.file(rank) for rank in range(self.world)]
        if not in_order and not any(map(is_held, files)):
            for file in files:
                file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is not empty
                self.run_dir.rmdir()


def said(run_dir: Path, which: str) -> None:
    """Say that a rank is gone; in the record too if it is the first, which cannot do so itself."""
    log.error("%s; this run cannot go on without it", which)
    if run_folder.abandoned(run_dir):
        mark_failed(run_dir)


def is_held(file: Path) -> bool | None:
    """Return whether a process holds a lock on a file, None if there is no such file."""
    import fcntl

    try:
        found = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(found, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: several may look at once
    except BlockingIOError:
        return True
    finally:
        os.close(found)
    return False


def process_of(file: Path) -> int | None:
    """Return the process that holds a rank's file, None if it runs on another machine."""
    try:
        process, machine = file.read_text().split()
    except (OSError, ValueError):
        return None
    return int(process) if machine == socket.gethostname() else None


class Stopped:
    """Ends a process that has been stopped for too long. One for each process."""

    def __init__(self) -> None:
        self._looks = 0

    def ended(self, process: int | None) -> bool:
        """Look at the process once; return whether it was ended. False without /proc."""
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            state = ""
        self._looks = self._looks + 1 if state == "T" else 0
        if process is None or self._looks * LOOK < STOPPED:
            return False
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
        return True


def watch_children(launcher: object, lost: Lost) -> None:
    """Call `lost` as soon as a rank that Lightning starts ends badly, and end.

    After some seconds Lightning would kill this process, which would then leave no record.

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
        stopped, which = Stopped(), ""
        while not which and process.poll() is None:
            if stopped.ended(process.pid):
                which = f"rank {rank} was stopped for {STOPPED:.0f} seconds"
            time.sleep(LOOK)
        if which or process.returncode:
            lost(which or f"rank {rank} has ended with code {process.returncode}")
            time.sleep(GRACE)
            os._exit(1)

    threading.Thread(target=start, daemon=True).start()


_parent_lost: list[Lost] = []  # a process has one parent


def watch_parent(lost: Lost) -> None:
    """Call `lost` when the first rank, which started this process, is gone, and end.

    It may be gone already: `FIRST` says which process it was. Called again, as soon as the run
    knows more to do, the later `lost` counts.
    """
    _parent_lost.append(lost)
    if len(_parent_lost) > 1:
        return
    parent = int(os.environ.get(FIRST, os.getppid()))

    def wait() -> None:
        stopped, which = Stopped(), "rank 0 has ended before its time"
        while os.getppid() == parent:
            if stopped.ended(parent):
                which = f"rank 0 was stopped for {STOPPED:.0f} seconds"
            time.sleep(LOOK)
        _parent_lost[-1](which)
        time.sleep(GRACE)
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
