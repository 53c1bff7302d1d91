"""Checkpoints as files: written where they belong, and describing what they hold."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

KEY = "sciml"
PARTS = "parts"


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint straight to its place, with the permissions of any new file.

    Lightning writes to the system's folder of temporary files, readable to the owner only, and
    moves the file: a full copy where that is another disk, and one left behind by a killed run.

    Under `sciml.parts` the file says what every entry is, so that one that was lost or changed
    later is noticed and named.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint and wait until it is on the disk."""
        said = {k: v for k, v in (checkpoint.get(KEY) or {}).items() if k != PARTS}
        whole = {**checkpoint, KEY: said}
        whole[KEY] = {**said, PARTS: dict(parts(whole))}
        buffer = io.BytesIO()
        torch.save(whole, buffer)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())


def parts(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name of every entry of a nested structure and what it is.

    Tensors by type and shape, long lists of numbers by their length, other values as they print.
    """
    if isinstance(tree, Tensor):
        yield path, f"{str(tree.dtype).removeprefix('torch.')} {tuple(tree.shape)}"
    elif isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from parts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple) and tree:
        if len(tree) > 16 and all(isinstance(value, int | float) for value in tree):
            yield path, f"{type(tree).__name__} of {len(tree)} numbers"
            return
        for i, value in enumerate(tree):
            yield from parts(value, f"{path}.{i}")
    else:
        yield path, repr(tree)[:80]


def changed(checkpoint: Mapping[str, Any]) -> list[str]:
    """Return what of a checkpoint is not what was written, a few words each.

    Empty also for one that does not say: one of an earlier version.
    """
    said = dict(checkpoint[KEY])
    written = said.pop(PARTS, None)
    if written is None:
        return []
    found = dict(parts({**checkpoint, KEY: said}))
    return [
        f"{name} is {found.get(name, 'missing')}, was {written.get(name, 'not there')}"
        for name in {**written, **found}
        if found.get(name) != written.get(name)
    ]
