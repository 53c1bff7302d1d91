"""Runs that are killed at random moments, continued, and compared with one that was left alone.

A program, for any models and any number of kills:

    python -m sciml.testing.kills pinn_hjb wos_poisson2d --kills 10 --seed 0

Every run is a process that is forked from this one when everything is imported, so a moment can lie
in the first millisecond of composing a configuration, in the building of a network, in a step, in
the writing of a file, in a validation, the test, the export or the pictures. A run that was killed
before its first checkpoint starts again; one in the folder of an older run replaces it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sciml.cli import train

# Short runs with a checkpoint every few steps, and a row of metrics for every one.
STEPS = 12
SETTINGS = (
    f"trainer.max_steps={STEPS}",
    "trainer.log_every_n_steps=1",
    "trainer.val_check_interval=5",
    "callbacks.checkpoint.every_steps=3",
)
CLOCKS = ("_per_s", "/share", "seconds")  # ends of the names of metrics that tell the time
OLD_SEED = 77
OLD = (f"seed={OLD_SEED}", "trainer.max_steps=5")  # the run before in a used folder


def start(words: Sequence[str], folder: Path | None = None) -> int:
    """Fork a process that runs a command line, and return its number.

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
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        code = train.main(words, folder=folder)
    finally:
        os._exit(code)


def end(process: int, after: float | None = None) -> int:
    """Wait for a process, kill it after some seconds, and return its exit code."""
    deadline = None if after is None else time.monotonic() + after
    while deadline is not None and time.monotonic() < deadline:
        if _ended(process):
            deadline = None
        else:
            time.sleep(0.002)
    if deadline is not None:
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of `metrics.csv` without what tells the time and without empty cells."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if v and not k.endswith(CLOCKS)}
            for row in csv.DictReader(file)
        ]


def record(folder: Path) -> dict[str, Any]:
    """Return what `metrics.json` says, without what tells the time."""
    said = json.loads((folder / "metrics.json").read_text())
    said.pop("seconds")
    said["metrics"] = {k: v for k, v in said["metrics"].items() if not k.endswith(CLOCKS)}
    return said


def same(a: Any, b: Any) -> bool:
    """Return whether two nested structures are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def differences(a: Path, b: Path) -> list[str]:
    """Return what of two finished runs is not the same, down to the last bit."""
    found = []
    if rows(a) != rows(b):
        steps = [[row["step"] for row in rows(folder)] for folder in (a, b)]
        pairs = zip(rows(a), rows(b), strict=False)
        names = {k for x, y in pairs for k in {**x, **y} if x.get(k) != y.get(k)}
        lost = steps[0] != steps[1]
        found.append("a row is missing" if lost else f"rows differ: {', '.join(sorted(names))}")
    if record(a) != record(b):
        found.append("metrics.json differs")
    for name in ("last", "best"):
        files = [folder / "checkpoints" / f"{name}.ckpt" for folder in (a, b)]
        if files[0].exists() != files[1].exists():
            found.append(f"{name}.ckpt is missing")
        elif files[0].exists():
            x, y = (torch.load(file, weights_only=True) for file in files)
            # which hold times and folders; the metrics are those of metrics.json
            keys = (x.keys() | y.keys()) - {"callbacks", "sciml", "metrics"}
            found += [f"{name}.ckpt: {k}" for k in sorted(keys) if not same(x.get(k), y.get(k))]
    weights = [folder / "pretrained" / "weights.safetensors" for folder in (a, b)]
    if weights[0].exists() and weights[0].read_bytes() != weights[1].read_bytes():
        found.append("pretrained/ differs")
    return found


def untruth(folder: Path, seed: int, old: Mapping[str, Any] | None) -> str | None:
    """Return what is wrong with the record that a killed run left, if anything.

    Args:
        folder: The run folder.
        seed: Seed of the killed run.
        old: Record of the run that was in the folder before.
    """
    file = folder / "metrics.json"
    if not file.exists():
        return None if not (folder / "metrics.csv").exists() else "metrics without a record"
    said = json.loads(file.read_text())
    if said["seed"] == seed:
        done = said["status"] == "completed"
        return "completed, but it was killed" if done and not said["metrics"] else None
    if old is None or record(folder) != old:
        return f"the record of seed {said['seed']}"
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return None if last["sciml"]["config"]["seed"] == OLD_SEED else "an old record of a new run"


def trial(words: Sequence[str], kills: int, seed: int, folder: Path | None = None) -> dict:
    """Kill one run at random moments and return what came of it.

    Args:
        words: The command line of the run.
        kills: Number of kills.
        seed: Of the moments.
        folder: The folder of configurations; the installed one by default.

    Returns:
        Counts: `kills`, `before` the first checkpoint, `used` folders, `twice` killed, `identical`
        in the end; and `wrong`, what was not as it should be.
    """
    draw = random.Random(seed)
    counts = dict.fromkeys(("kills", "before", "used", "twice", "identical"), 0)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        begin = time.time()
        code = end(start([*words, "hydra.run.dir=whole"], folder))
        length = time.time() - begin
        if code:
            return {**counts, "wrong": [f"the run itself ended with code {code}"]}
        code = end(start([*words, *OLD, "hydra.run.dir=old"], folder))
        if code:
            return {**counts, "wrong": [f"the older run ended with code {code}"]}
        # Building a network may take longer than all the rest: most moments come after it.
        built = (Path("whole") / "config.yaml").stat().st_mtime - begin
        while counts["kills"] < kills:
            number, old = counts["kills"], None
            home = Path(place) / f"it{number}"
            line = [*words, f"hydra.run.dir={home.name}"]
            if number % 2:
                shutil.copytree("old", home)
                old = record(home)
                line.append("overwrite=true")
            moment = draw.uniform(built if draw.random() < 0.8 else 0, length)
            if end(start(line, folder), moment) != -signal.SIGKILL:
                shutil.rmtree(home)  # it was over before
                continue
            counts["kills"] += 1
            counts["used"] += bool(old)
            problem = untruth(home, 0, old)
            again = [word for word in line if word != "overwrite=true"] + ["ckpt_path=last"]
            if draw.random() < 0.3:  # once more
                code = end(start(going_on(home, line, again), folder), draw.uniform(built, length))
                counts["twice"] += code == -signal.SIGKILL
                problem = problem or untruth(home, 0, old)
            words_now = going_on(home, line, again)
            counts["before"] += words_now is line
            code = end(start(words_now, folder))
            differ = [problem] if problem else []
            if code:
                differ.append(f"ended with code {code}")
            else:
                differ += differences(Path(place) / "whole", home)
            counts["identical"] += not differ
            print(json.dumps(counts), file=sys.stderr, flush=True)  # should the rest never come
            wrong += [f"kill {number} at {moment:.2f} s of {length:.2f}: {text}" for text in differ]
    return {**counts, "seconds": round(length, 2), "wrong": wrong}


def going_on(home: Path, line: list[str], again: list[str]) -> list[str]:
    """Return how the run in a folder goes on: from its own checkpoint, else from the beginning."""
    for name in ("last", "previous"):
        file = home / "checkpoints" / f"{name}.ckpt"
        if file.exists():
            own = torch.load(file, weights_only=True)["sciml"]["config"]["seed"] != OLD_SEED
            return again if own else line
    return line


def main(argv: Sequence[str] | None = None) -> int:
    """Kill runs of some models and print a line of JSON for each."""
    parser = argparse.ArgumentParser(prog="python -m sciml.testing.kills")
    parser.add_argument("models", nargs="+", help="model names, or command lines in quotes")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)  # a fork takes no other threads along
    import lightning.pytorch  # noqa: F401, PLC0415 once, not in every fork

    failed = False
    for i, model in enumerate(given.models):
        first, *more = model.split()
        found = trial([f"model={first}", *SETTINGS, *more], given.kills, given.seed + i)
        print(json.dumps({"model": model, **found}), flush=True)
        failed |= found["identical"] < found["kills"] or bool(found["wrong"])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
