"""The records that runs leave in their folders, compared with each other to the last bit."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sciml.cli.records import run_folder

# Ends of the names of metrics that tell the time.
CLOCKS = ("_per_s", "/walk_share", "curvature/share", "share_of_time_reading", "seconds")
OLD_SEED = 77


def fresh(file: Path, since: float) -> bool:
    """Return whether a file was written after a time, in seconds since the epoch."""
    try:
        return file.stat().st_mtime > since
    except FileNotFoundError:
        return False


def written(home: Path, since: float) -> int:
    """Return how many rows of metrics the run that was started at a time has written."""
    file = home / "metrics.csv"
    return max(file.read_bytes().count(b"\n") - 1, 0) if fresh(file, since) else 0


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
        other = f"{len(steps[0])} rows have become {len(steps[1])}"
        lost = steps[0] != steps[1]
        found.append(other if lost else f"rows differ: {', '.join(sorted(names))}")
    if record(a) != record(b):
        found.append("metrics.json differs")
    for name in ("last", "best"):
        files = [folder / "checkpoints" / f"{name}.ckpt" for folder in (a, b)]
        if files[0].exists() != files[1].exists():
            found.append(f"{name}.ckpt is there in one only")
        elif files[0].exists():
            x, y = (torch.load(file, weights_only=True) for file in files)
            # which hold times and folders; the metrics are those of metrics.json
            keys = (x.keys() | y.keys()) - {"callbacks", "sciml", "metrics"}
            found += [f"{name}.ckpt: {k}" for k in sorted(keys) if not same(x.get(k), y.get(k))]
    for name in ("weights.safetensors", "model.json"):
        files = [folder / "pretrained" / name for folder in (a, b)]
        contents = [file.read_bytes() if file.exists() else None for file in files]
        if contents[0] != contents[1]:
            found.append(f"pretrained/{name} differs")
    names = [{str(f.relative_to(folder)) for f in folder.rglob("*")} for folder in (a, b)]
    found += [f"{name} is there in one only" for name in sorted(names[0] ^ names[1])]
    return found


def untruth(home: Path, whole: Path, old: Path | None) -> str | None:
    """Return what is wrong with the record that a killed run left, if anything.

    Args:
        home: The run folder.
        whole: Folder of the run that was left alone.
        old: What the folder held before.
    """
    if not (home / "metrics.json").exists():
        return None if not (home / "metrics.csv").exists() else "metrics without a record"
    said, full = record(home), record(whole)
    if said["seed"] == full["seed"]:
        if said["status"] == "completed":
            return None if said == full else "completed, but it was killed"
        return None if said["status"] == "running" else f"{said['status']}, but it was killed"
    if old is None or said != record(old):
        return f"the record of seed {said['seed']}"
    gone = [file for file in run_folder.remains(old) if not (home / file.relative_to(old)).exists()]
    return "the record of an older run, which is not whole" if gone or belongs(home) else None


def belongs(home: Path) -> bool:
    """Return whether a checkpoint in a folder is of the run that was killed, not of an older one.

    Between two renamings there is a `previous.ckpt` alone.
    """
    for name in ("last", "previous"):
        file = home / "checkpoints" / f"{name}.ckpt"
        if file.exists():
            content = torch.load(file, weights_only=True)
            return content["sciml"]["config"]["seed"] != OLD_SEED
    return False
