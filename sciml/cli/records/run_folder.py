"""A run folder belongs to one run: whose it is, who writes to it now, and how another takes over.

A run in a used folder is refused unless the user types `overwrite=true`. Even then the old run
stays whole until the new one has made its first step: what is refused before leaves it untouched.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from sciml.errors import ConfigError

# What a run writes, as patterns below its folder; everything else in there is the user's.
FILES = (
    "metrics.csv",
    "gradient_norm.npy",
    "hpc_ckpt_*.ckpt",  # Lightning's own, before SLURM requeues a job
    "checkpoints/*.ckpt",
    "plots/*.png",
    "plots/*.pdf",
    "tensorboard/events.out.tfevents.*",
)
PRETRAINED = "pretrained"
# What a killed process leaves of files it had not finished.
DRAFTS = (
    ".config.yaml.*",
    ".metrics.json.*",
    ".metrics.csv.*",
    ".gradient_norm.npy.*",
    "checkpoints/.*.draft",
    ".saving-*",
)


def content(run_dir: Path) -> str | None:
    """Return what of another run a folder holds, None if nothing worth keeping.

    A run that ended before its first step left no more than its configuration and a record that
    says so: nothing is lost when the command is started again.
    """
    if began(run_dir):
        return "checkpoints and metrics"
    if (run_dir / PRETRAINED / "model.json").exists():
        return "a trained network"
    try:
        status = json.loads((run_dir / "metrics.json").read_text())["status"]
    except FileNotFoundError:
        return "a config.yaml" if (run_dir / "config.yaml").exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return "a metrics.json"
    return "a completed run" if status == "completed" else None


def began(run_dir: Path) -> bool:
    """Return whether a run in this folder made its first step."""
    return (run_dir / "metrics.csv").exists() or any((run_dir / "checkpoints").glob("*.ckpt"))


def refuse_used(run_dir: Path) -> None:
    """Refuse a folder that holds another run.

    Raises:
        ConfigError: If it does.
    """
    held = content(run_dir)
    if held:
        raise ConfigError(
            f"{run_dir} holds another run ({held})",
            "a folder without one",
            "Type ckpt_path=last to continue that run, hydra.run.dir=FOLDER for another folder, "
            "or overwrite=true to replace it",
        )


def writable(run_dir: Path) -> None:
    """Create the run folder if need be and see that files can be made in it.

    Raises:
        ConfigError: If not. A folder without write permission is taken at its word even if the
            user is root, for whom the system would let it pass.
    """
    hint = "Name a folder you may write to with hydra.run.dir=FOLDER"
    try:
        folder = next(p for p in (run_dir.absolute(), *run_dir.absolute().parents) if p.exists())
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file")
        if not folder.stat().st_mode & 0o222:
            raise PermissionError(f"{folder} is read-only")
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir) as file:
            file.write(b"x" * 4096)  # a full disk has room for a name, not for a block
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        name = str(run_dir)[:200]
        raise ConfigError(f"cannot write the run folder {name}: {error}", hint=hint) from error


def lock(run_dir: Path) -> int | None:
    """Claim a folder for this process until it ends, however it ends.

    The system keeps the claim on the folder itself, so a killed process leaves none behind.

    Returns:
        What holds the claim, None on file systems that have no such thing.

    Raises:
        ConfigError: If another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    held = os.open(run_dir, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise taken(run_dir) from error
    except OSError:  # some network file systems
        os.close(held)
        return None
    return held


def taken(run_dir: Path) -> ConfigError:
    """Return what to say where another process is writing."""
    return ConfigError(
        f"another process is writing a run to {run_dir}",
        "a folder of its own for every run",
        "Wait for it to end, or name another folder with hydra.run.dir=FOLDER",
    )


def abandoned(run_dir: Path) -> bool:
    """Return whether no process has a claim on a folder; False where the system has no claims."""
    try:
        held = lock(run_dir)
    except (ConfigError, OSError):  # another has it, or there is no such folder
        return False
    if held is not None:
        os.close(held)
    return held is not None


def tidy(run_dir: Path) -> None:
    """Remove unfinished files of a killed process."""
    clear([file for pattern in DRAFTS for file in run_dir.glob(pattern)])


def remains(run_dir: Path) -> list[Path]:
    """Return what an earlier run left that a new one would take for its own, or others would."""
    found = [file for pattern in FILES for file in run_dir.glob(pattern)]
    if (run_dir / PRETRAINED / "model.json").exists():
        found.append(run_dir / PRETRAINED)
    return found


def clear(found: list[Path]) -> None:
    """Remove the files and folders that `remains` found."""
    for file in found:
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)


def discard(run_dir: Path) -> None:
    """Remove the folder of a run that was refused, unless it had made steps before."""
    if began(run_dir):
        return
    tidy(run_dir)
    for name in ("run.log", "config.yaml", "metrics.json"):
        (run_dir / name).unlink(missing_ok=True)
    for folder in (run_dir / "checkpoints", run_dir):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
