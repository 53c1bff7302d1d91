"""Finding, checking and comparing checkpoints before anything is built."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sciml.cli.records.read_checkpoint import Checkpoint, defect, read
from sciml.errors import CheckpointError

# What fixes the meaning of the weights, or of the record: another value is another run.
FIXED = ("model", "seed", "problem", "network", "module", "optimizer._target_", "freeze")
# What changes the training from here on; a resumed run may also train longer, on other devices, or
# log elsewhere.
TOLD = ("data", "estimator", "solver", "adjoint", "schedule", "optimizer", "matmul_precision")
TOLD += tuple(
    f"trainer.{name}"
    for name in ("precision", "accumulate_grad_batches", "gradient_clip_val")
    + ("gradient_clip_algorithm",)
)

NEWEST_FIRST = ("last.ckpt", "previous.ckpt")


def in_folder(run: Path) -> Checkpoint:
    """Return the newest usable checkpoint of a run folder; the one before if it is damaged.

    Raises:
        CheckpointError: If the folder has none.
    """
    files = [run / "checkpoints" / name for name in NEWEST_FIRST]
    files = [file for file in files if file.exists()]
    if not files:
        raise CheckpointError(
            f"ckpt_path: the folder {run} has no checkpoints/last.ckpt",
            "the folder of a run that had started training, a checkpoint, or last",
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


def same_training(found: Checkpoint, config: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another run; tell what else differs and note what can be set.

    Raises:
        CheckpointError: Naming what differs.
    """
    a, b = flat(found.config), flat(config)
    differ = [k for k in {**a, **b} if not same(k, a.get(k), b.get(k))]
    other = [text(k, a, b) for k in differ if within(k, FIXED)]
    if other:
        raise CheckpointError(
            f"{found.path} belongs to another run: {'; '.join(other[:6])}",
            "the command line it was started with, and ckpt_path=last",
            f"The first line of {found.path.parent.parent / 'config.yaml'} has it",
        )
    told = [k for k in differ if within(k, TOLD)]
    for key in list(told):
        name, old, new = key.removeprefix("optimizer."), a.get(key), b.get(key)
        if name in found.tuned and key != name and is_number(old) and is_number(new):
            if name != "lr" or old:
                found.settings[name] = (old, new)
                found.warnings.append(f"from here on {key}={new}, it was {old}")
                told.remove(key)
    decays = not str(b.get("schedule._target_", "Constant")).endswith("Constant")
    if decays and a.get("trainer.max_steps") != b.get("trainer.max_steps"):
        told.append("trainer.max_steps")  # which the schedule is stretched over
    if told:
        found.warnings.append(
            f"{found.path} was trained with other settings: "
            f"{'; '.join(text(k, a, b) for k in told[:6])}. The result is not that of one training"
        )


def same(key: str, there: Any, here: Any) -> bool:
    """Return whether two values say the same; classes are told by name, as their files move."""
    if key.endswith("_target_") and isinstance(there, str) and isinstance(here, str):
        ours = there.partition(".")[0] == here.partition(".")[0]
        return ours and there.rpartition(".")[2] == here.rpartition(".")[2]
    return there == here


def within(key: str, groups: Sequence[str]) -> bool:
    """Return whether a dotted key is one of some groups or below one."""
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def text(key: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return how a key differs."""
    return f"{key}={there.get(key)} there, {here.get(key)} here"


def is_number(value: Any) -> bool:
    """Return whether a value of a configuration is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def fits(found: Checkpoint, module: Any, ranks: int) -> None:
    """Compare a checkpoint with the module that is to take its weights.

    Args:
        found: The checkpoint; told if the number of ranks differs.
        module: A `torch.nn.Module`.
        ranks: Processes of the present run.

    Raises:
        CheckpointError: If names or shapes of the weights differ.
    """
    needed = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    differ = [
        f"{k} is {found.weights.get(k, 'missing')} there, {needed.get(k, 'unknown')} here"
        for k in {**needed, **found.weights}
        if needed.get(k) != found.weights.get(k)
        and not (needed.get(k) == (0,) and k in found.weights)  # buffers that training fills
    ]
    if differ:
        raise CheckpointError(
            f"the weights in {found.path} are not those of this network: {'; '.join(differ[:3])}",
            "a checkpoint of this version of the model",
        )
    lost = [name for name, _ in module.named_parameters() if name in found.endless]
    if lost:
        raise CheckpointError(
            f"weights in {found.path} are not finite: {', '.join(lost[:3])}",
            "a checkpoint from before the run diverged",
        )
    if found.ranks not in (None, ranks):
        found.warnings.append(
            f"{found.path} was written by {found.ranks} processes, {ranks} continue: they draw "
            "other points than an uninterrupted run would have, and another number of them"
        )


def continues(found: Checkpoint | None, run_dir: Path) -> bool:
    """Return whether a run goes on in the folder of its checkpoint."""
    here = found is not None and found.run_dir is not None
    return here and found.run_dir.resolve() == run_dir.resolve()


def take_over(found: Checkpoint, run_dir: Path) -> None:
    """Have a run folder hold what belongs to the steps before a checkpoint: rows and best state."""
    from sciml.callbacks import csv_log

    source = found.run_dir or run_dir
    csv_log.rewind(run_dir / "metrics.csv", found.step, source / "metrics.csv")
    best = source / "checkpoints" / "best.ckpt"
    if not continues(found, run_dir) and defect(best) is None and read(best).step <= found.step:
        (run_dir / "checkpoints").mkdir(exist_ok=True)
        shutil.copy(best, run_dir / "checkpoints" / "best.ckpt")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one level with dotted keys."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out
