"""From a checked configuration to the objects of a run, in the order they depend on each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sciml.cli import preflight
from sciml.errors import ConfigError, SciMLError
from sciml.optim import schedules


@dataclass
class Run:
    """The objects of a run."""

    module: pl.LightningModule
    data: pl.LightningDataModule
    trainer: pl.Trainer


def make(path: str, node: Mapping[str, Any], supplied: Mapping[str, Any]) -> Any:
    """Construct what one node describes, nested nodes first.

    Args:
        path: Full key of the node, for messages.
        node: `_target_` and plain arguments.
        supplied: Further objects; each is passed if the target has an argument of that name and
            the node does not set it.

    Raises:
        SciMLError: What the constructor says about its arguments.
        ConfigError: The same from a library's constructor, with the key.
    """
    target, given = prepare(path, node, supplied)
    try:
        return target(**given)
    except SciMLError:
        raise
    except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"{path}: {target.__name__} refuses its arguments: {error}") from error


def prepare(
    path: str, node: Mapping[str, Any], supplied: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the target of a node and the arguments it is to be called with."""
    target = preflight.resolve(node["_target_"])
    known, _ = preflight.arguments(target)
    given = {name: value for name, value in supplied.items() if name in known}
    for key, value in node.items():
        if key != "_target_":
            nested = isinstance(value, Mapping) and "_target_" in value
            given[key] = make(f"{path}.{key}", value, {}) if nested else value
    return target, given


def build(config: Mapping[str, Any], run_dir: Path) -> Run:
    """Construct problem, solver, data, network, module, callbacks, loggers and trainer.

    Args:
        config: The resolved and checked configuration.
        run_dir: The run folder.

    Raises:
        SciMLError: If a constructor refuses its arguments.
    """
    parts: dict[str, Any] = {}
    for name in ("problem", "solver", "adjoint", "estimator"):
        if config.get(name):
            parts[name] = make(name, config[name], {})
    data = make("data", config["data"], {**parts, "seed": config["seed"]})
    if config.get("network"):
        seen = {**parts, **getattr(data, "sizes", {}), **inputs(config, parts.get("problem"))}
        parts["network"] = make("network", config["network"], seen)
    optimizer, settings = prepare("optimizer", config["optimizer"], {})
    parts["optimizer"] = functools.partial(optimizer, **settings)  # called with the parameters
    if config.get("schedule"):
        parts["schedule"] = scheduler(config["schedule"], config["trainer"].get("max_steps", -1))
    module = make("module", config["module"], {**parts, "data": data})

    about = {
        "run_dir": run_dir,
        "save_dir": str(run_dir),
        "model": config["model"],
        "optimizer": preflight.resolve(config["optimizer"]["_target_"]).__name__.lower(),
        "config": config,
        "seed": config["seed"],
    }
    callbacks = [make(f"callbacks.{k}", v, about) for k, v in chosen(config, "callbacks")]
    loggers = [make(f"logger.{k}", v, about) for k, v in chosen(config, "logger")]
    trainer = make(
        "trainer",
        in_batches(config["trainer"]),
        {"callbacks": callbacks, "logger": loggers or False, "default_root_dir": str(run_dir)},
    )
    # Lightning converts weights after it has restored a checkpoint, which would round it.
    trainer.precision_plugin.convert_module(module)
    return Run(module, data, trainer)


def scheduler(node: Mapping[str, Any], total: int) -> Callable[[Optimizer], LRScheduler]:
    """Return what makes the learning-rate schedule once there is an optimizer.

    Args:
        node: One of `sciml.optim.schedules`, or of `torch.optim.lr_scheduler`.
        total: Steps of the run.
    """
    target, given = prepare("schedule", node, {})
    if not issubclass(target, schedules.Constant):
        return functools.partial(target, **given)
    return functools.partial(schedules.attach, schedule=make("schedule", node, {}), total=total)


def in_batches(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer's node with the interval of validations in batches, as Lightning counts.

    The configuration counts optimizer steps, of which each takes `accumulate_grad_batches`.
    """
    every, batches = trainer.get("val_check_interval"), trainer.get("accumulate_grad_batches")
    counted = isinstance(every, int) and isinstance(batches, int)
    return {**trainer, "val_check_interval": every * batches if counted else every}


def chosen(config: Mapping[str, Any], group: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the entries of a group of several targets; null switches one off."""
    return [(key, node) for key, node in (config.get(group) or {}).items() if node is not None]


def inputs(config: Mapping[str, Any], problem: Any) -> dict[str, Any]:
    """Return what the network sees, from the module's list of inputs.

    `x` and `t` are the coordinates; every other name is a feature of the problem, one column each.
    Without a list the network is given all coordinates the problem has.
    """
    if problem is None:
        return {}
    default = ["x", "t"] if problem.time_dependent else ["x"]
    names = (config.get("module") or {}).get("inputs") or default
    return {
        "dim": problem.dim if "x" in names else 0,
        "time": "t" in names,
        "features": len([name for name in names if name not in ("x", "t")]),
    }
