"""Checks of a configuration before anything is built.

Every `_target_` must lie in an allowed package and be defined there; every key must be an
argument of its target and of the type the signature says; no required argument may be missing.
All findings are returned together, each with its full key. Nothing is constructed here.
"""

from __future__ import annotations

import collections.abc
import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Union

from sciml import plugins
from sciml.cli.targets import kinds, own_class
from sciml.errors import ConfigError, did_you_mean, nearest

LIBRARIES = ("sciml", "torch.optim", "lightning", "pytorch_optimizer")

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

# Types of plain values in words.
KINDS = {int: "an integer", float: "a number with a fraction", bool: "true or false", str: "a word"}
KINDS |= {list: "a list", tuple: "a list", dict: "a table"}

INSTALL = {"pytorch_optimizer": "pip install pytorch_optimizer"}


def resolve(target: object) -> Callable[..., Any]:
    """Return the class or function a `_target_` names.

    Args:
        target: Dotted path, e.g. `torch.optim.Adam`.

    Raises:
        ConfigError: If it lies outside the allowed packages, does not exist, or is something the
            package only imported from elsewhere.
    """
    packages = f"a class from {', '.join(allowed())}"
    if own_class.is_own(target):
        if target in own_class.CLASSES:
            return own_class.CLASSES[target]
        raise ConfigError(
            f"{target} is code of yours",
            "its name on the command line",
            f"Type problem={target}",
        )
    if not isinstance(target, str) or not _inside(target):
        raise ConfigError(f"{target!r} is outside the allowed packages", packages)
    module, _, name = target.rpartition(".")
    if any(part.startswith("_") or not part.isidentifier() for part in target.split(".")):
        raise ConfigError(f"{target[:80]} is private, or no name", packages)
    try:
        found = getattr(plugins.imported(module), name)
    except ModuleNotFoundError as error:
        missing = error.name or module
        hint = INSTALL.get(missing.partition(".")[0], "")
        raise ConfigError(f"{target}: no module named {missing}", hint=hint) from error
    except ImportError as error:  # an optional package that the module needs, or a broken one
        raise ConfigError(f"{target} cannot be imported: {error}") from error
    except AttributeError as error:
        names = [k for k, v in vars(importlib.import_module(module)).items() if inspect.isclass(v)]
        close = nearest(name, names)
        hint = f"Did you mean {module}.{close}?" if close else ""
        raise ConfigError(f"{module} has no {name}", hint=hint) from error
    home = getattr(found, "__module__", None)
    constructible = inspect.isclass(found) or inspect.isfunction(found)
    if isinstance(home, str) and home.startswith("sciml.cli."):
        raise ConfigError(f"{target} is part of the command line", packages)
    if not constructible or not isinstance(home, str) or not _inside(home + "."):
        raise ConfigError(f"{target} is not defined in an allowed package ({home})", packages)
    return found


def allowed() -> tuple[str, ...]:
    """Return the packages whose classes a configuration may name."""
    return (*LIBRARIES, *plugins.names())


def _inside(path: str) -> bool:
    return any(path.startswith(f"{package}.") for package in allowed())


def arguments(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the named arguments of a target, and whether it also takes any other name."""
    parameters = inspect.signature(target).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {
        k: p for k, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }, free


def takes(target: Callable[..., Any], key: str) -> bool:
    """Return whether a target that takes any name does something with this one.

    Optimizers of pytorch_optimizer take any name, and drop those they do not know without a word;
    the names that they do read stand in their constructor.
    """
    if not target.__module__.startswith("pytorch_optimizer"):
        return True
    return re.search(rf"kwargs\.\w+\(\s*['\"]{re.escape(key)}['\"]", source(target)) is not None


@functools.cache
def source(target: Callable[..., Any]) -> str:
    """Return the text of a class's constructor."""
    return inspect.getsource(target.__init__)


def annotations(target: Callable[..., Any]) -> dict[str, Any]:
    """Return resolved annotations of a target's arguments; empty where they cannot be resolved."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(inspect.unwrap(function))
    except (NameError, TypeError, AttributeError):  # names imported for type checkers only
        return {}


def targets(tree: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every node with a `_target_`, with its full key, outer ones first."""
    if isinstance(tree, Mapping):
        if "_target_" in tree:
            yield path, tree
        for key, value in tree.items():
            yield from targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from targets(value, f"{path}.{i}")


def class_of(config: Mapping[str, Any], group: str) -> Any:
    """Return the class that a group names; None where there is none of the group's kind."""
    node = config.get(group)
    try:
        found = resolve(node.get("_target_")) if isinstance(node, Mapping) else None
    except ConfigError:
        return None
    return found if found is not None and not kinds.wrong_kind(group, found) else None


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
            found.append(_wrong_value(f"{path}.{key}", value, hints[key]))
    for key, parameter in known.items():
        required = parameter.default is parameter.empty
        if complete and required and key not in node and key not in supplied:
            found.append(f"{path}.{key} is missing: {target.__name__} needs it.")
    return found


def _described(value: Any) -> bool:
    """Return whether a value describes an object."""
    return isinstance(value, Mapping) and "_target_" in value


def _wrong_value(key: str, value: Any, annotation: Any) -> str:
    """Return the message for a value that an argument does not take."""
    if typing.get_origin(annotation) is Literal and isinstance(value, str):
        names = [str(option) for option in typing.get_args(annotation)]
        return f"{key}={value} is unknown. {did_you_mean(value, names)}."
    wanted = describe(annotation)
    if value is None:
        return f"{key} is null. Expected {wanted}."
    text = repr(value)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    if isinstance(value, list | tuple) and "list" in wanted:
        return f"{key}={text} is another list. Expected {wanted}."
    literals = [type(v) for v in _literals(annotation)]
    kind = "unknown" if type(value) in literals else KINDS.get(type(value), type(value).__name__)
    return f"{key}={text} is {kind}. Expected {wanted}."


def _literals(annotation: Any) -> list[Any]:
    """Return the values that an annotation lists, in unions too."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return [value for option in inner for value in _literals(option)]
    return list(inner) if origin is Literal else []


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


def matches(value: Any, annotation: Any) -> bool:
    """Return whether a plain value can be passed where `annotation` stands.

    Only what is surely wrong is refused: annotations that are classes of objects, callables or
    type variables accept everything.
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or isinstance(value, Mapping) and "_target_" in value:
        return True
    if annotation is None or annotation is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        # YAML cannot hold an instance of a class such as Tensor: the plain options decide
        plain = [option for option in inner if not _is_object(option)]
        return not plain or any(matches(value, option) for option in plain)
    if origin is Literal:
        return value in inner and any(value == i and type(value) is type(i) for i in inner)
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is str:
        return isinstance(value, str)
    sequences = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
    if annotation in sequences or origin in sequences:
        if not isinstance(value, list | tuple):
            return False
        kinds = [k for k in inner if k is not Ellipsis]
        if origin is tuple and Ellipsis not in inner and kinds:
            return len(value) == len(kinds) and all(map(matches, value, kinds))
        return not kinds or all(matches(v, kinds[0]) for v in value)
    mappings = (dict, collections.abc.Mapping)
    if annotation in mappings or origin in mappings:
        return isinstance(value, Mapping)
    return True


def _is_object(annotation: Any) -> bool:
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    if not inspect.isclass(annotation) or typing.get_origin(annotation) is not None:
        return False
    return annotation not in plain and annotation.__module__ != "collections.abc"


def describe(annotation: Any) -> str:
    """Return an annotation in words a user types by."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        listed = list(dict.fromkeys(str(value) for value in _literals(annotation)))
        others = [o for o in inner if not _is_object(o) and typing.get_origin(o) is not Literal]
        return " or ".join(dict.fromkeys(listed + [describe(option) for option in others]))
    if origin is Literal:
        return " or ".join(dict.fromkeys(str(option) for option in inner))
    if annotation is type(None) or annotation is None:
        return "null"
    if annotation in KINDS:
        return "a number" if annotation is float else KINDS[annotation]
    if origin is tuple and Ellipsis not in inner and inner:
        each = list(dict.fromkeys(map(describe, inner)))
        return f"a list of {len(inner)} entries, {', '.join(each)}" + " each" * (len(each) == 1)
    if origin is not None and inner:
        return f"a list of {describe(inner[0])}" if origin is not dict else "a dictionary"
    return getattr(annotation, "__name__", str(annotation))
