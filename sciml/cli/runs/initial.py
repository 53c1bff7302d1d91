"""Weights to begin with, from a pretrained folder, and weights that are not trained.

    python train.py model=fno data.path=MINE init_from=runs/fno/EARLIER "freeze=[spectral.*]"

Tensors are taken by name where name and shape are the same; what was not taken is listed. Means and
deviations of the data come along, since the weights are for these.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sciml.errors import ConfigError, did_you_mean
from sciml.pretrained.files import weights
from sciml.pretrained.files.folder import find, member
from sciml.pretrained.files.model_description import read_spec

log = logging.getLogger("sciml")
LISTED = 8


def described(path: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder that a path or name means, and its description.

    Raises:
        PretrainedError: If there is no such folder, or it is damaged.
    """
    folder = find(path)
    return folder, read_spec(folder)


def begin_with(model: nn.Module, path: str) -> tuple[list[str], list[str]]:
    """Give a model the tensors of a pretrained folder that fit, and log which did not.

    Args:
        model: Not trained yet.
        path: Pretrained folder, run folder, or the name of a shipped model.

    Returns:
        Names that were taken, and names that stay as they were.

    Raises:
        PretrainedError: If there is no such folder, or it is damaged.
        ConfigError: If nothing fits.
    """
    folder, spec = described(path)
    file = member(folder, spec["weights"]["file"])
    held = weights.read(file, spec["weights"]["sha256"], spec["weights"]["complex128"])
    own = model.state_dict()
    taken = [n for n, v in own.items() if n in held and held[n].shape == v.shape]
    trained = {n for n, _ in model.named_parameters()}
    if not trained & set(taken):
        raise ConfigError(
            f"init_from={path} holds a {spec['class']}, no tensor of which fits this "
            f"{type(model).__name__}",
            "a model of the same network",
            "Type the network.* that it was trained with; they stand in its model.json",
        )
    with torch.no_grad():
        for name in taken:
            own[name].copy_(held[name])
    left = [n for n in own if n not in taken]
    unused = [n for n in held if n not in own]
    log.info("init_from=%s: %d of %d tensors taken", path, len(taken), len(own))
    for said, names in (("stay as they were", left), ("of the folder are not used", unused)):
        if names:
            shown = [
                f"{n} {tuple((own if n in own else held)[n].shape)}"
                + (f", {tuple(held[n].shape)} there" if n in own and n in held else "")
                for n in names[:LISTED]
            ]
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            log.warning("init_from: %s %s%s", "; ".join(shown), said, more)
    return taken, left


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Take weights out of the training, and return their names.

    Args:
        model: Of which.
        patterns: Of names, with * for any letters: `lift.*`.

    Raises:
        ConfigError: If a pattern fits no weight, or nothing is left to train.
    """
    named = dict(model.named_parameters())
    chosen = set()
    for pattern in patterns:
        fits = fnmatch.filter(named, pattern)
        if not fits:
            parts = sorted({n.partition(".")[0] for n in named})
            raise ConfigError(
                f"freeze with {pattern}, which is no weight of {type(model).__name__}",
                "a pattern of names, as lift.*",
                did_you_mean(pattern.partition(".")[0], parts),
            )
        chosen |= set(fits)
    if len(chosen) == len(named):
        raise ConfigError(f"freeze={list(patterns)}, which leaves nothing to train")
    for name in chosen:
        named[name].requires_grad_(False)
    log.info("freeze: %d of %d tensors are not trained", len(chosen), len(named))
    return sorted(chosen)
