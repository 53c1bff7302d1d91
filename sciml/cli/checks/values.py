"""Values that a class would accept and a run could not use, or would use wrongly in silence."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from sciml.cli.targets import resolving
from sciml.errors import did_you_mean

Config = Mapping[str, Any]

PRECISIONS = ("highest", "high", "medium")
LARGEST_SEED = 2**32 - 1
LARGEST_SIZE = 10**9  # of anything that is counted in a problem, a network or a batch
SIZED = ("problem", "network", "estimator", "solver", "adjoint", "module", "data")
NO_NUMBER = ("beyond all numbers", "not a number")
# Endings of names of intervals, in steps; 0 would be a division by zero or never.
INTERVALS = ("every", "every_steps", "every_n_steps", "accumulate_grad_batches")
# 0 switches these off.
SWITCHED_OFF = ("adapt_every", "start_every")
# What modules log in validation.
MONITORED = {
    "SDGDPINN": ("val/residual",),
    "WalkOperator": ("val/loss", "val/rel_l2", "val/label_rel_l2"),
    "Supervised": ("val/loss", "val/rel_l2", "val/r2", "val/accuracy"),
}


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value of a configuration with its full key."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from leaves(value, f"{path}.{i}")
    else:
        yield path, tree


def number(value: Any) -> bool:
    """Return whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def root(config: Config) -> list[str]:
    """Keys outside the groups."""
    found = []
    seed, precision = config.get("seed", 0), config.get("matmul_precision", "highest")
    if isinstance(seed, int) and not 0 <= seed <= LARGEST_SEED:
        found.append(f"seed={seed} is out of range. Expected 0 to {LARGEST_SEED}.")
    if precision not in PRECISIONS:
        found.append(
            f"matmul_precision={precision} is unknown. {did_you_mean(str(precision), PRECISIONS)}."
        )
    if config.get("ckpt_path") == "":  # an unset variable of the shell: a run would start afresh
        found.append("ckpt_path is empty. Type ckpt_path=last or a file, or leave it out.")
    if not isinstance(config.get("reference") or {}, Mapping):
        found.append(
            f"reference={config['reference']!r} is no table. Expected reference=null, or "
            "reference={metric: number}."
        )
    return found


def numbers(config: Config) -> list[str]:
    """Numbers that are none, negative weights, intervals of zero, sizes beyond every machine."""
    found = []
    for key, value in leaves(config):
        last, group = key.rpartition(".")[2], key.partition(".")[0]
        if not number(value):
            continue
        if isinstance(value, float) and not math.isfinite(value):  # 1e400 is read as inf
            found.append(f"{key}={value} is {NO_NUMBER[value != value]}. Expected a finite number.")
            continue
        weight = last.endswith("weight") or last == "gradient_enhanced" or ".weights." in key
        if weight and group in SIZED and not 0 <= value < math.inf:
            found.append(f"{key}={value} is a weight in the loss. Expected 0 or a positive number.")
        interval = last.endswith(INTERVALS) and last not in SWITCHED_OFF
        if interval and isinstance(value, int) and value < 1:
            found.append(f"{key}={value} is a number of steps. Expected 1 or more.")
        if last.endswith("every_seconds") and value < 0:
            found.append(f"{key}={value} is a time. Expected 0 or more seconds.")
        seed = "seed" in last
        if group in SIZED and isinstance(value, int) and not seed and abs(value) > LARGEST_SIZE:
            found.append(f"{key}={value} is beyond every machine. Expected at most {LARGEST_SIZE}.")
        if seed and key != "seed" and isinstance(value, int) and not 0 <= value < 2**63:
            found.append(f"{key}={value} is out of range. Expected 0 to {2**63 - 1}.")
    return found


def memory() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def batches(config: Config) -> str | None:
    """Points that do not fit into memory."""
    data, problem = config.get("data") or {}, config.get("problem") or {}
    dim = problem.get("dim", 1)
    if not isinstance(dim, int):
        return None
    for name in ("points", "condition_points", "val_points", "test_points"):
        count = data.get(name)
        if not isinstance(count, int) or isinstance(count, bool):
            continue
        size = 8 * count * dim
        if size > memory():
            return (
                f"data.{name}={count} in {dim} dimensions takes {size / 2**30:.0f} GiB, more than "
                f"this machine's {memory() / 2**30:.0f} GiB. Type a smaller data.{name}."
            )
    return None


def training(config: Config) -> list[str]:
    """Arguments of Lightning's trainer that it would refuse, or misread, after the start."""
    trainer, found = config.get("trainer") or {}, []
    steps = trainer.get("max_steps", -1)
    if isinstance(steps, int) and steps < 1 and steps != -1:  # -1: the time decides
        found.append(f"trainer.max_steps={steps} trains nothing. Expected 1 or more.")
    every = trainer.get("val_check_interval")
    if every is not None and (not isinstance(every, int) or every < 1):
        found.append(
            f"trainer.val_check_interval={every} is no number of steps, and training data have no "
            "end of which it could be a share. Expected 1 or more, or null for no validation."
        )
    clip = trainer.get("gradient_clip_val")
    if number(clip) and clip < 0:
        found.append(f"trainer.gradient_clip_val={clip} is negative. Expected null or above 0.")
    for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
        limit = trainer.get(name)
        if isinstance(limit, int) and limit < 0:
            found.append(f"trainer.{name}={limit} is negative. Expected a number of batches.")
    return found


def monitors(config: Config) -> list[str]:
    """Metrics that decide about a checkpoint and that no validation computes."""
    module = resolving.class_of(config, "module")
    bases = [base.__name__ for base in getattr(module, "__mro__", ())]
    known = next((MONITORED[name] for name in bases if name in MONITORED), None)
    found = []
    for key, node in (config.get("callbacks") or {}).items():
        name = node.get("monitor") if isinstance(node, Mapping) else None
        if known is None or not isinstance(name, str) or name in known:
            continue
        found.append(
            f"callbacks.{key}.monitor={name} is not computed in validation by {bases[0]}. "
            f"{did_you_mean(name, known)}."
        )
    return found


RULES = (root, numbers, batches, training, monitors)
