"""Finding, checking and comparing checkpoints before anything is built."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from sciml.errors import CheckpointError

NEWEST_FIRST = ("last.ckpt", "previous.ckpt")


@dataclass
class Checkpoint:
    """A checkpoint that was read and found complete.

    Attributes:
        path: The file.
        run_dir: The run folder it lies in, or None if it lies elsewhere.
        step: Optimizer steps done.
        config: Configuration of the run that wrote it; empty if it does not say.
        warnings: What the user should know.
    """

    path: Path
    run_dir: Path | None
    step: int
    config: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def defect(path: Path) -> str | None:
    """Return what is wrong with a checkpoint file, or None.

    Reads the whole file: torch writes a zip archive with a check sum per tensor, and loading
    alone notices neither a flipped bit nor, in some places, a missing end.
    """
    if not path.is_file():
        return "it does not exist"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        return f"it is truncated or no checkpoint ({error})"
    return f"its part {damaged} is damaged" if damaged else None


def read(path: Path) -> Checkpoint:
    """Return what a checkpoint says about itself.

    Raises:
        CheckpointError: If it is missing, damaged, or not written by a training run.
    """
    import torch

    problem = defect(path)
    if problem:
        before = path.with_name("previous.ckpt")
        other = before != path and defect(before) is None
        hint = f"The one before is complete: ckpt_path={before}" if other else ""
        hint = hint or "Give the path of a .ckpt file, ckpt_path=last, or leave ckpt_path out"
        raise CheckpointError(f"cannot use checkpoint {path}: {problem}", hint=hint)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        step, said = int(content["global_step"]), dict(content.get("sciml") or {})
    except (RuntimeError, KeyError, TypeError, ValueError, EOFError, UnpicklingError) as error:
        raise CheckpointError(
            f"cannot use checkpoint {path}: {str(error).splitlines()[0][:200]}",
            "a checkpoint of a training run holding plain data",
        ) from error
    folder = path.resolve().parent
    run = folder.parent if folder.name == "checkpoints" else None
    return Checkpoint(path, run, step, dict(said.get("config") or {}))


def in_folder(run: Path) -> Checkpoint:
    """Return the newest usable checkpoint of a run folder; the one before if it is damaged.

    Raises:
        CheckpointError: If the folder has none.
    """
    files = [run / "checkpoints" / name for name in NEWEST_FIRST]
    files = [file for file in files if file.exists()]
    if not files:
        raise CheckpointError(
            f"ckpt_path=last, but {run} has no checkpoint",
            "a run that had started training",
            "Leave ckpt_path out to start from the beginning",
        )
    try:
        return read(files[0])
    except CheckpointError as error:
        if len(files) == 1:
            raise
        found = read(files[1])
        found.warnings.append(f"{error.received}; continuing from {files[1]} at step {found.step}")
        return found


def newest(runs: Path) -> Path:
    """Return the folder in `runs` whose checkpoint is the newest.

    Raises:
        CheckpointError: If no folder has a checkpoint.
    """
    found = [file for name in NEWEST_FIRST for file in runs.glob(f"*/checkpoints/{name}")]
    if not found:
        raise CheckpointError(
            f"ckpt_path=last, but no run below {runs} has a checkpoint",
            "an interrupted run to continue",
            "Leave ckpt_path out to start one, or give hydra.run.dir=FOLDER of the run",
        )
    return max(found, key=lambda file: file.stat().st_mtime_ns).parent.parent


def find(ckpt_path: str, run_dir: Path, given: bool) -> Checkpoint:
    """Return the checkpoint a run continues from.

    Args:
        ckpt_path: "last", a file, or a run folder.
        run_dir: Folder of the present run.
        given: Whether the user named that folder (`hydra.run.dir=`).

    Raises:
        CheckpointError: If there is none, or it cannot be used.
    """
    if ckpt_path == "last":
        return in_folder(run_dir if given else newest(run_dir.parent))
    path = Path(ckpt_path)
    return in_folder(path) if path.is_dir() else read(path)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return sentences about what makes two configurations two different trainings.

    Only the groups that fix the meaning of the weights count: a resumed run may train longer, on
    other devices, or log elsewhere.
    """
    found = []
    for group in ("model", "problem", "network", "module"):
        a, b = flat({group: before.get(group)}), flat({group: now.get(group)})
        found += [
            f"{k}={a.get(k)} there, {b.get(k)} here" for k in {**a, **b} if a.get(k) != b.get(k)
        ]
    return found


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one level with dotted keys."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out
