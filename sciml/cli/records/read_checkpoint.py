"""Reading checkpoint files: whether one is complete and undamaged, and of which run it is."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from sciml.errors import CheckpointError

# What every checkpoint of a training run has at its top.
ENTRIES = {
    "epoch": int,
    "global_step": int,
    "state_dict": Mapping,
    "optimizer_states": list,
    "lr_schedulers": list,
    "callbacks": Mapping,
    "loops": Mapping,
}


@dataclass
class Checkpoint:
    """A checkpoint that was read and found complete.

    Attributes:
        path: The file.
        run_dir: The run folder it lies in, or None if it lies elsewhere.
        step: Optimizer steps done.
        config: Configuration of the run that wrote it.
        weights: Shapes of the weights by name.
        endless: Names of weights that are not finite.
        ranks: Processes it was written by; None if it does not say.
        tuned: Names of the optimizer's hyperparameters that it holds.
        warnings: What the user should know.
        settings: Hyperparameters that change: name to (value before, value now).
    """

    path: Path
    run_dir: Path | None
    step: int
    config: dict[str, Any]
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    endless: frozenset[str] = frozenset()
    ranks: int | None = None
    tuned: frozenset[str] = frozenset()
    warnings: list[str] = field(default_factory=list)
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)


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
    except UnpicklingError as error:
        raise CheckpointError(
            f"cannot use checkpoint {path}: it holds other objects than plain data, and reading "
            "those could run code",
            "a checkpoint of a training run holding plain data",
        ) from error
    except UNREADABLE as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"cannot use checkpoint {path}: {lines[0][:200]}",
            "a checkpoint of a training run holding plain data",
        ) from error
    return understood(path, content)


# All that unpickling bytes which are no pickle of plain data may raise.
UNREADABLE = (RuntimeError, KeyError, TypeError, ValueError, EOFError, OSError)
UNREADABLE += (AttributeError, IndexError, AssertionError, struct.error)


def understood(path: Path, content: Any) -> Checkpoint:
    """Return what the content of a checkpoint says about itself.

    Raises:
        CheckpointError: If something is missing, or not what was written.
    """
    import torch

    from sciml.callbacks.checkpoint_file import KEY, PARTS, changed

    expected = "an unchanged checkpoint of a training run"
    said = content.get(KEY) if isinstance(content, Mapping) else None
    if not isinstance(said, Mapping) or not isinstance(said.get("config"), Mapping):
        raise CheckpointError(f"{path} was not written by this program", expected)
    wrong = [
        f"{name} is {'missing' if name not in content else type(content[name]).__name__}"
        for name, kind in ENTRIES.items()
        if not isinstance(content.get(name), kind) or content[name] is True
    ]
    if not isinstance(said.get(PARTS, {}), Mapping):
        wrong.append(f"{KEY}.{PARTS} is {type(said[PARTS]).__name__}")
    wrong = wrong or changed(content)
    if not wrong:
        wrong = [
            f"{k} is no tensor" for k, v in content["state_dict"].items() if not torch.is_tensor(v)
        ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        text = "; ".join(wrong[:3])
        raise CheckpointError(f"cannot use checkpoint {path}: {text}{more}", expected)
    folder = path.absolute().parent
    groups = [g for state in content["optimizer_states"][:1] for g in state["param_groups"][:1]]
    return Checkpoint(
        path,
        folder.parent if folder.name == "checkpoints" else None,
        content["global_step"],
        dict(said["config"]),
        {name: tuple(value.shape) for name, value in content["state_dict"].items()},
        frozenset(k for k, v in content["state_dict"].items() if not v.isfinite().all()),
        said.get("world_size"),
        frozenset(name for group in groups for name in group if name != "params"),
        remarks(path, content),
    )


def remarks(path: Path, content: Mapping[str, Any]) -> list[str]:
    """Return why a run continued from here may differ from one that was never interrupted."""
    import torch

    import sciml
    from sciml.callbacks.checkpoint_file import KEY, PARTS
    from sciml.callbacks.random_streams import KEY as STREAMS

    said, found = content[KEY], []
    for name, now in (("version", sciml.__version__), ("torch", str(torch.__version__))):
        if name in said and said[name] != now:
            program = "sciml" if name == "version" else name
            found.append(f"{path} was written by {program} {said[name]}, this is {now}")
    if PARTS not in said:
        found.append(f"{path} does not say what it holds: changes to it would go unnoticed")
    if STREAMS not in content:
        found.append(
            f"{path} holds no random streams: dropout and whatever else draws from them goes on "
            "with other numbers than an uninterrupted run would have"
        )
    folder, steps = path.absolute().parent, content.get("global_step", 0)
    if folder.name == "checkpoints" and steps and not (folder.parent / "metrics.csv").exists():
        found.append(f"{folder.parent} has no metrics.csv: no rows of the first {steps} steps")
    return found
