"""From a checked configuration to the objects of a run, in the order they depend on each other."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sciml.cli import paths
from sciml.cli.checks.values import memory
from sciml.cli.runs import initial
from sciml.cli.targets import resolving
from sciml.errors import ConfigError, PretrainedError, SciMLError
from sciml.optim import schedules
from sciml.pretrained.files.weights import Bounded

log = logging.getLogger("sciml")

# What constructors raise on arguments that they cannot use.
REFUSALS = (MisconfigurationException, ArithmeticError, AssertionError, AttributeError)
REFUSALS += (ImportError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


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
    except REFUSALS as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[0][:300] if lines else type(error).__name__
        raise ConfigError(f"{path}: {target.__name__} refuses its arguments: {said}") from error


def prepare(
    path: str, node: Mapping[str, Any], supplied: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the target of a node and the arguments it is to be called with."""
    target = resolving.resolve(node["_target_"])
    known, _ = resolving.arguments(target)
    given = {name: value for name, value in supplied.items() if name in known}
    for key, value in node.items():
        if key != "_target_":
            nested = isinstance(value, Mapping) and "_target_" in value
            given[key] = make(f"{path}.{key}", value, {}) if nested else value
    return target, given


def rehearse(config: Mapping[str, Any], run_dir: Path) -> None:
    """Construct what is quick to construct and throw it away, so that a refusal leaves no trace.

    The optimizer is tried on a layer of two weights. Data, network and module are not among these:
    data may take minutes.

    Args:
        config: The resolved and checked configuration.
        run_dir: The run folder, which is not touched.

    Raises:
        SciMLError: If a constructor refuses its arguments.
    """
    with torch.random.fork_rng(devices=[]), bounded():
        for name in ("problem", "solver", "adjoint", "estimator"):
            if config.get(name):
                made = make(name, config[name], {})
                getattr(made, "needs", None)  # a system is read, which finds what is wrong with it
        layer = torch.nn.Linear(1, 1)
        known, _ = resolving.arguments(resolving.resolve(config["optimizer"]["_target_"]))
        first = next(iter(known), "params")
        given = layer if first == "module" else list(layer.parameters())
        optimizer = make("optimizer", config["optimizer"], {first: given})
        if config.get("schedule"):
            attach = scheduler(config["schedule"], config["trainer"].get("max_steps", -1))
            tried("schedule", lambda: attach(optimizer))
        about = facts(config, run_dir)
        callbacks = [make(f"callbacks.{k}", v, about) for k, v in chosen(config, "callbacks")]
        given = {"callbacks": callbacks, "logger": False, "default_root_dir": str(run_dir)}
        make("trainer", config["trainer"], given)


def tried(path: str, construct: Callable[[], Any]) -> Any:
    """Return what a function constructs.

    Raises:
        ConfigError: With the key, if arguments are refused.
    """
    try:
        return construct()
    except SciMLError:
        raise
    except REFUSALS as error:
        raise ConfigError(f"{path} is refused: {error}") from error


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Refuse to make parts that are larger than this machine's memory.

    Raises:
        ConfigError: If they are.
    """
    try:
        said = f"more than {{made}} MB, this machine's memory is {memory() / 1e6:.0f} MB"
        with Bounded(memory(), said):
            yield
    except PretrainedError as error:
        raise ConfigError(
            f"the network needs {error.received}", "one that fits", "Type a smaller network.width"
        ) from error


def facts(config: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Return what callbacks and loggers may be told about the run."""
    return {
        "run_dir": run_dir,
        "save_dir": str(run_dir),
        "model": config["model"],
        "optimizer": resolving.resolve(config["optimizer"]["_target_"]).__name__.lower(),
        "config": config,
        "seed": config["seed"],
    }


def build(config: Mapping[str, Any], run_dir: Path, given: Mapping[str, Any] | None = None) -> Run:
    """Construct problem, solver, data, network, module, callbacks, loggers and trainer.

    Args:
        config: The resolved and checked configuration.
        run_dir: The run folder.
        given: Parts that are there already, `problem` or `network`, instead of the configured ones.

    Raises:
        SciMLError: If a constructor refuses its arguments.
    """
    if config.get("init_from"):
        initial.described(config["init_from"])  # before data that take minutes are made
    parts: dict[str, Any] = dict(given or {})
    for name in ("problem", "solver", "adjoint", "estimator"):
        if config.get(name) and name not in parts:
            parts[name] = make(name, config[name], {})
    data = make("data", config["data"], {**parts, "seed": config["seed"]})
    for text in () if paths.is_worker() else getattr(data, "doubts", ()):
        log.warning("data: %s", text)
    if config.get("network") and "network" not in parts:
        seen = {**parts, **getattr(data, "sizes", {}), **inputs(config, parts.get("problem"))}
        with bounded():
            parts["network"] = make("network", config["network"], seen)
    optimizer, settings = prepare("optimizer", config["optimizer"], {})
    parts["optimizer"] = functools.partial(optimizer, **settings)  # called with the parameters
    if config.get("schedule"):
        parts["schedule"] = scheduler(config["schedule"], config["trainer"].get("max_steps", -1))
    module = make("module", config["module"], {**parts, "data": data})
    model = getattr(module, "trial", None) or getattr(module, "network", None) or module
    if config.get("init_from"):
        initial.begin_with(model, config["init_from"])
    if config.get("freeze"):
        initial.freeze(model, config["freeze"])

    about = facts(config, run_dir)
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
    if not hasattr(problem, "time_dependent"):
        return {}  # none, or a system, whose data say what the network sees
    default = ["x", "t"] if problem.time_dependent else ["x"]
    names = (config.get("module") or {}).get("inputs") or default
    return {
        "dim": problem.dim if "x" in names else 0,
        "time": "t" in names,
        "features": len([name for name in names if name not in ("x", "t")]),
    }
