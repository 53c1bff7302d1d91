"""Targets of a configuration: from a dotted path to a class, its arguments and annotations."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sciml import plugins
from sciml.cli.targets import kinds, own_class
from sciml.errors import ConfigError, nearest

LIBRARIES = ("sciml", "torch.optim", "lightning", "pytorch_optimizer")
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
