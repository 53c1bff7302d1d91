"""Runs that are killed at random moments, continued, and compared with one that was left alone.

A program, for any models and any number of kills:

    python -m sciml.testing.kills pinn_hjb wos_poisson2d --kills 10 --seed 0

`--only 3 7` repeats some of the ten.

Every run is a process group of its own, forked from this process when everything is imported, so a
moment can lie in the first millisecond of composing a configuration, in the building of a network,
in a step, in the writing of a file, in a validation, the test, the export or the pictures. Clocks
tell little on a busy machine: moments are counted from what the run has written so far. One lies in
the start, one where a run takes over a used folder, the others are spread over all rows of the
metrics, and half of these over the writing of checkpoints. A run that was killed before its first
checkpoint starts again; one in the folder of an older run replaces it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sciml.cli import train
from sciml.testing.finished_runs import OLD_SEED, belongs, differences, fresh, untruth, written

# Short runs with a checkpoint every few steps, and a row of metrics for every one.
STEPS = 12
SETTINGS = (
    f"trainer.max_steps={STEPS}",
    "trainer.log_every_n_steps=1",
    "trainer.val_check_interval=5",
    "callbacks.checkpoint.every_steps=3",
)
OLD = (f"seed={OLD_SEED}", "trainer.max_steps=5")  # the run before in a used folder


@dataclass(frozen=True)
class Moment:
    """When a run is killed: some time after it has written something.

    Attributes:
        rows: Rows of metrics it must have written.
        file: Another file it must have written, a path below its folder.
        delay: Seconds from then on.
    """

    rows: int = 0
    file: str | None = None
    delay: float = 0.0

    def come(self, home: Path, since: float) -> bool:
        """Return whether the run in a folder, started at a time, has come so far."""
        there = self.file is None or fresh(home / self.file, since)
        return there and written(home, since) >= self.rows


def start(words: Sequence[str], folder: Path | None = None) -> int:
    """Fork a process group that runs a command line, and return its number.

    Args:
        words: What would be typed after `python train.py`.
        folder: The folder of configurations; the installed one by default.
    """
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        code = train.main(words, folder=folder)
    finally:
        os._exit(code)


def end(process: int) -> int:
    """Wait for a process and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(process: int, home: Path, moment: Moment, since: float) -> bool:
    """Kill a run at its moment and return whether it was still under way."""
    due = math.inf
    while time.monotonic() < due and not ended(process):
        if due == math.inf and moment.come(home, since):
            due = time.monotonic() + moment.delay
        time.sleep(0.001)
    if not ended(process):
        os.killpg(process, signal.SIGKILL)
    return end(process) == -signal.SIGKILL


def pace(process: int, home: Path, since: float) -> list[float]:
    """Return the seconds after which a run has written 0, 1, 2 … rows, and those at its end."""
    times: list[float] = [0.0]
    while not ended(process):
        now = time.time() - since
        times += [now] * (written(home, since) + 1 - len(times))
        time.sleep(0.001)
    return [*times, time.time() - since]


def ended(process: int) -> bool:
    """Return whether a process is over; it can still be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def moment(number: int, kills: int, times: Sequence[float], draw: random.Random) -> Moment:
    """Return when to kill: all numbers together are spread over the whole run.

    Args:
        number: Which of the kills.
        kills: How many there are.
        times: Seconds at which the run that was left alone had written 0, 1, 2 … rows, and its end.
        draw: Of the moment.
    """
    if number == 0:
        return Moment(delay=draw.uniform(0, times[1]))
    if number == 1:
        return Moment(file="metrics.json", delay=draw.uniform(0, 0.05))
    part = (number - 2 + draw.random()) / (kills - 2)
    rows = 1 + int(part * (len(times) - 2))
    if number % 4 < 2:
        return Moment(rows, "checkpoints/.last.draft", draw.uniform(0, 0.02))
    return Moment(rows, delay=draw.uniform(0, times[rows + 1] - times[rows]))


def trial(
    words: Sequence[str],
    kills: int,
    seed: int,
    only: Sequence[int] | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Kill one run at random moments and return what came of it.

    Args:
        words: The command line of the run.
        kills: Number of kills.
        seed: Of the moments.
        only: Numbers of the kills to do; all by default.
        folder: The folder of configurations; the installed one by default.

    Returns:
        Counts: `kills`, `before` the first checkpoint, `used` folders, `twice` killed, `identical`
        in the end; `moments`, the rows written before every kill; and `wrong`, what was not as it
        should be.
    """
    counts = dict.fromkeys(("kills", "before", "used", "twice", "identical"), 0)
    after: list[int] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        whole, old = Path(place) / "whole", Path(place) / "old"
        since = time.time()
        process = start([*words, "hydra.run.dir=whole"], folder)
        times = pace(process, whole, since)
        code = end(process) or end(start([*words, *OLD, "hydra.run.dir=old"], folder))
        if code:
            return {**counts, "wrong": [f"a run that was left alone ended with code {code}"]}
        for number in range(kills) if only is None else only:
            draw = random.Random(f"{seed} {number}")
            when = moment(number, kills, times, draw)
            home, used = Path(place) / f"it{number}", number % 2 == 1
            line = [*words, f"hydra.run.dir={home.name}", *["overwrite=true"][: 1 if used else 0]]
            while True:
                if used:
                    shutil.copytree(old, home)
                since = time.time()
                if killed(start(line, folder), home, when, since):
                    break
                shutil.rmtree(home)  # it was over before
                when = Moment(when.rows, delay=draw.uniform(0, 0.05))
            counts["kills"] += 1
            counts["used"] += used
            after.append(written(home, since))
            problem = untruth(home, whole, old if used else None)
            if draw.random() < 0.3:  # once more
                again = Moment(draw.randrange(len(times) - 1), delay=draw.uniform(0, times[1] / 4))
                process = start(going_on(home, line), folder)
                counts["twice"] += killed(process, home, again, time.time())
                problem = problem or untruth(home, whole, old if used else None)
            counts["before"] += not belongs(home)
            code = end(start(going_on(home, line), folder))
            differ = [problem] if problem else []
            differ += [f"ended with code {code}"] if code else differences(whole, home)
            counts["identical"] += not differ
            # should the rest never come
            print(json.dumps({**counts, "moments": after}), file=sys.stderr, flush=True)
            wrong += [f"kill {number} after {when}: {text}" for text in differ]
    return {**counts, "seconds": round(times[-1], 1), "moments": after, "wrong": wrong}


def going_on(home: Path, line: list[str]) -> list[str]:
    """Return how the run in a folder goes on: from its own checkpoint, else from the beginning."""
    if not belongs(home):
        return line
    return [*(word for word in line if word != "overwrite=true"), "ckpt_path=last"]


def main(argv: Sequence[str] | None = None) -> int:
    """Kill runs of some models and print a line of JSON for each."""
    parser = argparse.ArgumentParser(prog="python -m sciml.testing.kills")
    parser.add_argument("models", nargs="+", help="model names, or command lines in quotes")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the kills; all by default")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)  # a fork takes no other threads along
    import lightning.pytorch  # noqa: F401, PLC0415 once, not in every fork

    failed = False
    for i, model in enumerate(given.models):
        first, *more = model.split()
        found = trial([f"model={first}", *SETTINGS, *more], given.kills, given.seed + i, given.only)
        print(json.dumps({"model": model, **found}), flush=True)
        failed |= found["identical"] < found["kills"] or bool(found["wrong"])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
