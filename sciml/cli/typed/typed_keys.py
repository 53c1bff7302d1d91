"""Keys of a command line against a composed configuration: known, allowed, or misspelt."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sciml.cli.targets import preflight
from sciml.cli.typed.replaced_choices import COLLECTIONS, named_arguments
from sciml.cli.typed.signatures import misfit
from sciml.cli.typed.typed_words import HYDRA_GROUPS, HYDRA_KEYS, UNUSABLE
from sciml.errors import InvalidArgument, InvalidType, did_you_mean, nearest


def check_key(override: Override, base: DictConfig, findings: list[str]) -> str | None:
    """Return the word to hand on for a `key=value`, or None after adding a finding."""
    key, word = override.key_or_group, override.input_line
    full = (base.get("short") or {}).get(key)
    if full is not None:  # a name of the model's own for one of its keys
        return word.replace(key, full, 1)
    root, _, rest = key.partition(".")
    if key in HYDRA_KEYS or key in HYDRA_GROUPS:
        return word
    try:
        known = OmegaConf.select(base, key, default=_ABSENT, throw_on_missing=False) is not _ABSENT
    except UNUSABLE:  # an interpolation, or a key that is no path
        known = False
    if override.is_delete():
        if known and rest:
            return word
        findings.append(
            f"'{word}': there is no {key} to remove."
            if rest
            else (f"'{word}': {key} cannot be removed.")
        )
        return None
    if known:
        if (wrong := _wrong_value(override, base)) is not None:
            findings.append(wrong)
            return None
        open_table = isinstance(override.value(), dict) and _is_open(base, key)
        return "++" + word.lstrip("+") if open_table else word
    if override.is_add() and root in COLLECTIONS and root in base and key.count("."):
        return word
    head, _, last = key.rpartition(".")
    if last and _is_open(base, head):
        return "++" + word.lstrip("+")
    try:
        parent = OmegaConf.select(base, head, default=None) if head else base
    except UNUSABLE:
        parent = None
    if isinstance(parent, DictConfig) and "_target_" in parent and last:
        known, free = named_arguments(parent["_target_"])
        if last in known or free:
            return "++" + word.lstrip("+")
        hidden = preflight.SUPPLIED.get(root, ())
        findings.append(preflight.unknown_key(key, [k for k in known if k not in hidden]))
        return None
    findings.append(_nowhere(key, parent, base))
    return None


def _wrong_value(override: Override, base: DictConfig) -> str | None:
    """Return the message for a word where a class takes numbers, or another word; None for none."""
    key = override.key_or_group
    head, _, last = key.rpartition(".")
    node = OmegaConf.select(base, head, default=None) if head else None
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    if not isinstance(target, str) or override.is_sweep_override():
        return None
    value = override.value()
    found = misfit(target, last, value)
    if found is None:
        return None
    wanted, options = found
    if not options:
        return str(InvalidType(f"{key} is {str(value)!r:.60}", wanted)).rstrip(".") + "."
    hint = did_you_mean(value, options).partition("Available")[0].strip()
    return str(InvalidArgument(f"{key}={value:.60}", wanted, hint))


def _is_open(base: DictConfig, key: str) -> bool:
    """Return whether a key holds an empty table, as `network.options` does: any name may follow."""
    try:
        node = OmegaConf.select(base, key, default=None) if key else None
    except UNUSABLE:
        return False
    return isinstance(node, DictConfig) and not node._is_none() and len(node) == 0


_ABSENT = object()


def _nowhere(key: str, parent: Any, base: DictConfig) -> str:
    """Return the message for a key whose parent is unknown or no target."""
    head, _, last = key.rpartition(".")
    same = [full for full in _leaves(base) if full.rpartition(".")[2] == last]
    if same:
        return f"{key} is unknown. Did you mean {' or '.join(same[:3])}?"
    if isinstance(parent, DictConfig):
        names = [str(k) for k in parent if k not in ("hydra", "_target_", "short")]
        names += [] if head else [str(k) for k in base.get("short") or {}]
        return preflight.unknown_key(key, names)
    root, _, rest = key.partition(".")
    close = nearest(root, [str(k) for k in base if k != "hydra"])
    if close and close != root:
        return f"{key} is unknown. Did you mean {close}.{rest}?"
    return f"{key} is unknown: {head} is not a group of keys in this run."


def _leaves(config: DictConfig) -> list[str]:
    found = []
    for group, node in config.items_ex(resolve=False):
        if group != "hydra" and isinstance(node, DictConfig) and not node._is_none():
            if not node._is_missing():
                found += [f"{group}.{key}" for key in node if key != "_target_"]
    return found
