"""How rules read a resolved configuration: names of classes, and values or their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sciml.cli.targets import resolving

Config = Mapping[str, Any]

# Optimizers of other libraries that evaluate loss and gradient several times per step.
CLOSURES = ("LBFGS",)


def name_of(node: Any) -> str:
    """Return the class name a node's `_target_` ends in, or an empty string."""
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, Mapping) else ""


def get(config: Config, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key, or the target's own default, or `default`."""
    group, _, last = key.partition(".")
    node = config.get(group)
    if not isinstance(node, Mapping):
        return default
    if last in node:
        return node[last]
    found = resolving.class_of(config, group)
    parameter = resolving.arguments(found)[0].get(last) if found is not None else None
    return (
        default if parameter is None or parameter.default is parameter.empty else parameter.default
    )


def problem_order(config: Config) -> int:
    """Return the order of the problem's operator, 2 where it cannot be told."""
    return int(getattr(resolving.class_of(config, "problem"), "order", 2))


def looks_at_terms(config: Config) -> bool:
    """Return whether the optimizer sees loss terms, not only gradients."""
    return hasattr(resolving.class_of(config, "optimizer"), "update_curvature")


def kfac_searches(config: Config) -> bool:
    """Return whether K-FAC is asked for a step that evaluates the batch again."""
    if name_of(config.get("optimizer")) != "KFAC":
        return False
    again = get(config, "optimizer.step") in ("line_search", "quadratic")
    return again or get(config, "optimizer.adapt_every") not in (0, None)


def several_processes(config: Config) -> bool:
    """Return whether a run has more than one process."""
    devices = get(config, "trainer.devices", 1)
    count = len(devices) if isinstance(devices, list) else devices
    return count not in (1, "1") or get(config, "trainer.num_nodes", 1) > 1
