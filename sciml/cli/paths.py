"""Where configurations are, what they are called, and how a run's folder is named.

Imports neither lightning nor hydra: `sciml list` and `--help` answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import sciml
from sciml.errors import ConfigError

STAMP = "SCIML_STAMP"


def config_dir() -> Path:
    """Return the folder of configurations: shipped inside the package, or beside it in a checkout.

    Raises:
        ConfigError: If neither exists.
    """
    package = Path(sciml.__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(
        f"no configurations beside or inside {package}",
        "a folder configs/ with train.yaml",
        "Reinstall the package",
    )


def options(group: str, folder: Path | None = None) -> list[str]:
    """Return the sorted names a config group offers; empty if there is no such group."""
    return sorted(file.stem for file in ((folder or config_dir()) / group).glob("*.yaml"))


def groups(folder: Path | None = None) -> list[str]:
    """Return the config groups (subfolders) in alphabetical order."""
    folder = folder or config_dir()
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and any(p.glob("*.yaml")))


def describe(group: str, name: str, folder: Path | None = None) -> str:
    """Return what an option is: its first comment that is neither a command nor a directive."""
    for line in ((folder or config_dir()) / group / f"{name}.yaml").read_text().splitlines():
        text = line.removeprefix("#").strip()
        if line and not line.startswith("#"):
            break
        if text and not text.startswith(("python ", "sciml ", "@package")):
            return text.rstrip(".")
    return ""


def is_worker(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is a rank other than the first, started by a launcher."""
    rank = environ.get("RANK", environ.get("LOCAL_RANK", "0"))
    return rank != "0" or environ.get("NODE_RANK", environ.get("GROUP_RANK", "0")) != "0"


def run_stamp(environ: Mapping[str, str] = os.environ) -> str:
    """Return the name of this run's folder, the same on every rank of the run.

    Lightning's own worker processes inherit the variable from the process that started them.
    Under torchrun and SLURM all ranks start alike, so the name comes from the job's identity.

    Raises:
        ConfigError: If torchrun spans several nodes without a shared identity.
    """
    if "TORCHELASTIC_RUN_ID" in environ:
        identity = environ["TORCHELASTIC_RUN_ID"]
        if identity != "none":
            return f"torchrun-{identity}"
        if environ.get("GROUP_WORLD_SIZE", "1") != "1":
            raise ConfigError(
                "torchrun on several nodes without --rdzv-id",
                "a run folder all ranks agree on",
                f"Add --rdzv-id=NAME, or set {STAMP}=NAME on every node",
            )
        return f"torchrun-{os.getppid()}"
    if int(environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in environ:
        return f"slurm-{environ['SLURM_JOB_ID']}"
    if "LOCAL_RANK" in environ and STAMP in environ:
        return environ[STAMP]
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
