"""Checks of a configuration before anything is built.

Every `_target_` must lie in an allowed package and be defined there; every key must be an
argument of its target and of the type the signature says; no required argument may be missing.
All findings are returned together, each with its full key. Nothing is constructed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sciml.cli.targets import kinds
from sciml.cli.targets.plain_values import matches, wrong_value
from sciml.cli.targets.resolving import annotations, arguments, resolve, takes, targets
from sciml.errors import ConfigError, did_you_mean, nearest

# Arguments that the builder supplies; a configuration need not (and for those marked by the
# builder's order of construction cannot) give them.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "network": ("dim", "time", "features", "outputs", "fields", "clouds")
    + ("coarse_solver", "solver", "adjoint"),
    "module": ("problem", "network", "estimator", "optimizer", "schedule")
    + ("data", "solver", "adjoint"),
    "data": ("problem", "seed"),
    "optimizer": ("params", "module"),
    "schedule": ("optimizer",),
    "trainer": ("callbacks", "logger", "default_root_dir"),
    "callbacks": ("run_dir", "model", "optimizer", "config"),
    "logger": ("run_dir", "save_dir"),
}

# Of these, what a configuration cannot give at all: objects that only the run has.
BUILT: dict[str, tuple[str, ...]] = {
    "network": ("dim", "time", "features", "outputs", "fields", "clouds")
    + ("coarse_solver", "solver", "adjoint"),
    "module": ("problem", "network", "estimator", "optimizer", "schedule", "data")
    + ("solver", "adjoint"),
    "data": ("problem",),
    "optimizer": ("params", "module"),
    "schedule": ("optimizer",),
    "callbacks": ("run_dir", "model", "optimizer", "config"),
    "logger": ("run_dir", "save_dir"),
}

# Above this number a list of options no longer helps beside the nearest one.
MANY = 15


def check(config: Mapping[str, Any]) -> list[str]:
    """Return everything wrong with a resolved configuration, one sentence or two each.

    Args:
        config: The configuration as plain dictionaries and lists.
    """
    found = kinds.entries_without_target(config)
    for path, node in targets(config):
        try:
            target = resolve(node["_target_"])
        except ConfigError as error:
            found.append(f"{path}._target_: {str(error).rstrip('.')}.")
            continue
        wrong = kinds.wrong_kind(path, target)
        if wrong:
            found.append(f"{path}._target_: {node['_target_']} is {wrong}.")
            continue
        # A network for data is told their sizes by the data module, see sciml.data.steps.
        by_data = path == "network" and not config.get("problem")
        found += check_node(path, node, target, complete=not by_data)
    return found


def check_node(
    path: str, node: Mapping[str, Any], target: Callable[..., Any], *, complete: bool = True
) -> list[str]:
    """Return what is wrong with the keys of one node.

    Args:
        path: Full key of the node.
        node: The node.
        target: What it names.
        complete: Whether a required argument that nothing gives is a finding.
    """
    group = path.partition(".")[0]
    known, free = arguments(target)
    supplied = set(SUPPLIED.get(group, ()))
    outer = path == group or (group in ("callbacks", "logger") and path.count(".") == 1)
    built = BUILT.get(group, ()) if outer else ()
    hints, found = annotations(target), []
    for key, value in node.items():
        if key == "_target_":
            continue
        if not isinstance(key, str) or key.startswith("_"):
            found.append(f"{path}.{key} is unknown. No argument begins with _.")
        elif key in built and not _described(value):
            found.append(f"{path}.{key} is given by the run itself. Leave {path}.{key} out.")
        elif key not in known and not (free and takes(target, key)):
            found.append(unknown_key(f"{path}.{key}", [k for k in known if k not in supplied]))
        elif not matches(value, hints.get(key, Any)):
            found.append(wrong_value(f"{path}.{key}", value, hints[key]))
    for key, parameter in known.items():
        required = parameter.default is parameter.empty
        if complete and required and key not in node and key not in supplied:
            found.append(f"{path}.{key} is missing: {target.__name__} needs it.")
    return found


def _described(value: Any) -> bool:
    """Return whether a value describes an object."""
    return isinstance(value, Mapping) and "_target_" in value


def unknown_key(key: str, options: list[str]) -> str:
    """Return the message for a key that nothing takes."""
    head, _, last = key.rpartition(".")
    close = nearest(last, options)
    lead = f"{key} is unknown."
    if close:
        lead += f" Did you mean {head}.{close}?" if head else f" Did you mean {close}?"
    if close and len(options) > MANY:
        return lead
    return f"{lead} Available: {', '.join(sorted(options))}."


def unknown_choice(group: str, value: str, names: list[str]) -> str:
    """Return the message for an option a config group does not have."""
    return f"{group}={value} is unknown. {did_you_mean(value, names)}."
