"""What a model's file set for a choice that the user replaced, taken out of the configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sciml.cli.targets import resolving
from sciml.cli.typed import signatures
from sciml.cli.typed.composing import choices_of, composed, plain
from sciml.cli.typed.typed_words import option_of, parsed_words
from sciml.errors import ConfigError

COLLECTIONS = ("callbacks", "logger")  # groups of several targets, to which `+` may add
# Groups whose values belong to the option they were set for. Not among them: the trainer, whose
# options share one target, and the optimizer, whose values stand in recipes of its own.
OWNED = ("problem", "network", "estimator", "solver", "adjoint", "module", "data", "schedule")
OWNED += COLLECTIONS
# Parts that a model may have, each used by what takes an argument of its name.
PARTS = ("problem", "network", "estimator", "solver", "adjoint")


def settle(config: DictConfig, words: list[str]) -> dict[str, Any]:
    """Return a configuration without what the model's file set for a choice the user replaced.

    A model that uses Anderson's method may set `solver.max_iter`, and its size `problem.dim`: with
    `solver=broyden` or `problem=wave` typed, these are the option's own again. Parts that the
    model's file names and nothing uses (the solver, where `network=fno` was typed) are left out;
    those that were typed stay, for the rules to judge. To be called while Hydra is initialised.

    Args:
        config: The composed configuration.
        words: What the user typed.

    Raises:
        ConfigError: If the words cannot be composed.
    """
    settled = plain(without_leaks(config, words))
    typed = {p.key_or_group.partition(".")[0] for p in parsed_words(words)}
    for name in PARTS:
        if name not in typed and not consumers(settled, name):
            settled[name] = None
    return settled


def consumers(config: Mapping[str, Any], part: str) -> list[str]:
    """Return the groups of a configuration whose target takes a part by an argument of its name."""
    found = []
    for group in ("data", "network", "module"):
        known, _ = named_arguments(_target(config.get(group)))
        if part in known and part not in config[group]:
            found.append(group)
    return found


def _target(node: Any) -> Any:
    return node.get("_target_") if isinstance(node, Mapping) else None


def without_leaks(config: DictConfig, words: list[str]) -> DictConfig:
    """Return a configuration in which every replaced choice has its own values and typed ones."""
    parsed = parsed_words(words)
    typed = {p.key_or_group: option_of(p) for p in parsed if p.key_or_group in OWNED}
    if not typed or "model" not in config:
        return config
    own = choices_of([f"model={config.model}"])
    config = copy.copy(config)
    OmegaConf.set_struct(config, False)
    debug = next((p.value() for p in parsed if p.key_or_group == "debug"), None)
    for group, option in typed.items():
        if str(own.get(group)) == str(option):
            continue
        if option is None:
            config[group] = None
            continue
        keys = [p for p in parsed if p.key_or_group.startswith(f"{group}.")]
        node = _alone(group, str(option), keys, debug)
        if group in COLLECTIONS:  # what is set for an entry belongs to the entry
            config[group] = {k: v for k, v in config[group].items_ex(False) if k in node}
        else:
            config[group] = node
    OmegaConf.set_struct(config, True)
    return config


def _alone(group: str, option: str, keys: list[Override], debug: str | None) -> DictConfig:
    """Return a group as its option's file, a debug option and typed keys make it."""
    words = []
    if debug is not None:
        own = composed(f"debug/{debug}", []).get(group) or {}
        words = [f"++{group}.{key}={value}" for key, value in own.items()]
    words += [p.input_line if p.is_delete() else f"++{p.input_line.lstrip('+')}" for p in keys]
    return composed(f"{group}/{option}", words)[group]


def named_arguments(target: Any, *, quick: bool = False) -> signatures.Names:
    """Return what a target takes by name, from its source where that says it all: in no time.

    Args:
        target: Dotted path of a class.
        quick: Whether to take any name for known, rather than import the class.
    """
    if isinstance(target, str) and (found := signatures.named_arguments(target)):
        return found
    if quick:
        return frozenset(), True
    try:
        known, free = resolving.arguments(resolving.resolve(target))
    except ConfigError:
        return frozenset(), False
    return frozenset(known), free
