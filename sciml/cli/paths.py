"""Where configurations are, what they are called, and how a run's folder is named.

Imports neither lightning nor hydra: `sciml list` and `--help` answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import sciml
from sciml import plugins
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


def places(folder: Path | None = None) -> list[Path]:
    """Return the folder of configurations, by default our own, and those of plug-ins."""
    return [folder or config_dir(), *plugins.config_folders()]


def options(group: str, folder: Path | None = None) -> list[str]:
    """Return the sorted names a config group offers; empty if there is no such group."""
    return sorted({file.stem for p in places(folder) for file in (p / group).glob("*.yaml")})


def groups(folder: Path | None = None) -> list[str]:
    """Return the config groups (subfolders) in alphabetical order."""
    found = {file.parent.name for place in places(folder) for file in place.glob("*/*.yaml")}
    return sorted(found)


def file_of(group: str, name: str, folder: Path | None = None) -> Path:
    """Return the file of an option that a group offers."""
    files = (place / group / f"{name}.yaml" for place in places(folder))
    return next(file for file in files if file.is_file())


def describe(group: str, name: str, folder: Path | None = None) -> str:
    """Return what an option is: its first comment that is neither a command nor a directive."""
    for line in file_of(group, name, folder).read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if line and not line.startswith("#"):
            break
        if text and not text.startswith(("python ", "sciml ", "@package")):
            return text.rstrip(".")
    return ""


def rank(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of this process in its run: as torchrun, srun or Lightning's launcher say.

    Only whether it is 0 matters before the run is built: on a node other than the first, Lightning
    tells a process no more than that.
    """
    if "RANK" in environ:
        return int(environ["RANK"])
    if by_srun(environ):
        return int(environ["SLURM_PROCID"])
    node = int(environ.get("NODE_RANK", environ.get("GROUP_RANK", "0")))
    return node or int(environ.get("LOCAL_RANK", "0"))


def is_worker(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is a rank other than the first, started by a launcher."""
    return rank(environ) != 0


def world(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes that torchrun or srun started alike; 1 where neither did."""
    if "TORCHELASTIC_RUN_ID" in environ:
        return int(environ.get("WORLD_SIZE", "1"))
    return int(environ["SLURM_NTASKS"]) if by_srun(environ) else 1


def nodes(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of machines they run on."""
    if "TORCHELASTIC_RUN_ID" in environ:
        return int(environ.get("GROUP_WORLD_SIZE", "1"))
    names = ("SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    return int(next((environ[name] for name in names if name in environ), "1"))


def by_srun(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether srun started several processes of which this is one.

    In an interactive allocation (a job called bash or interactive) commands run by themselves, as
    Lightning sees it too.
    """
    several = int(environ.get("SLURM_NTASKS", "1")) > 1
    interactive = environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    named = {"SLURM_JOB_ID", "SLURM_PROCID"} <= environ.keys()
    return several and named and not interactive and slurm_step(environ) is not None


def slurm_step(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the number of the present `srun` within its job, None outside one."""
    return environ.get("SLURM_STEP_ID", environ.get("SLURM_STEPID"))


def by_lightning(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether Lightning itself started this process, as a rank of a run it launched."""
    launched = "LOCAL_RANK" in environ and "TORCHELASTIC_RUN_ID" not in environ
    return launched and STAMP in environ and not by_srun(environ)


def launched(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a launcher started this process, so that others share its run's folder."""
    return "TORCHELASTIC_RUN_ID" in environ or by_srun(environ) or by_lightning(environ)


def restarted(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether SLURM or torchrun started the same run before and starts it again."""
    counts = ("SLURM_RESTART_COUNT",) if by_srun(environ) else ("TORCHELASTIC_RESTART_COUNT",)
    return any(environ.get(name, "0") != "0" for name in counts)


def run_stamp(environ: Mapping[str, str] = os.environ) -> str:
    """Return the name of this run's folder, the same on every rank of the run.

    Lightning's own worker processes inherit the variable from the process that started them.
    Under torchrun and SLURM all ranks start alike, so the name comes from the job's identity: the
    job and the step, as several `srun` in one job are several runs.

    Raises:
        ConfigError: If torchrun spans several nodes without a shared identity.
    """
    if "TORCHELASTIC_RUN_ID" in environ:
        identity = environ["TORCHELASTIC_RUN_ID"]
        if identity != "none":
            return f"torchrun-{identity}"
        if STAMP in environ:
            return environ[STAMP]
        if environ.get("GROUP_WORLD_SIZE", "1") != "1":
            raise ConfigError(
                "torchrun on several nodes without --rdzv-id",
                "a run folder all ranks agree on",
                f"Add --rdzv-id=NAME, or set {STAMP}=NAME on every node",
            )
        return f"torchrun-{os.getppid()}"
    if by_srun(environ):
        return f"slurm-{environ['SLURM_JOB_ID']}-{slurm_step(environ)}"
    if by_lightning(environ):
        return environ[STAMP]
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
