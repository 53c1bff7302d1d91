"""Keys of a command line against a composed configuration: known, allowed, or misspelt."""

from __future__ import annotations

import itertools
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sciml.cli.targets import preflight
from sciml.cli.typed.replaced_choices import COLLECTIONS, named_arguments
from sciml.cli.typed.signatures import misfit
from sciml.cli.typed.typed_words import HYDRA_GROUPS, HYDRA_KEYS, UNUSABLE, parsed_words, shortened
from sciml.errors import InvalidType, did_you_mean, nearest

LOOKED_AT = 100  # values of a sweep


def check_key(
    override: Override, base: DictConfig, findings: list[str], *, quick: bool = False
) -> str | None:
    """Return the word to hand on for a `key=value`, or None after adding a finding.

    Args:
        override: The word.
        base: What the choices compose to.
        findings: Gets what is wrong with it.
        quick: Whether keys that only an import could settle pass unseen.
    """
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
        known, free = named_arguments(parent["_target_"], quick=quick)
        if last in known or free:
            return "++" + word.lstrip("+")
        hidden = preflight.SUPPLIED.get(root, ())
        findings.append(preflight.unknown_key(key, [k for k in known if k not in hidden]))
        return None
    findings.append(_nowhere(key, parent, base))
    return None


def wrong_value(override: Override, base: DictConfig) -> str:
    """Return the message for a word where a class takes numbers, or another word; empty for none.

    Nothing is imported for it. Of a sweep the first values are looked at.
    """
    key = (base.get("short") or {}).get(override.key_or_group) or override.key_or_group
    head, _, last = key.rpartition(".")
    try:
        node = OmegaConf.select(base, head, default=None) if head else None
    except UNUSABLE:
        return ""
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    if not isinstance(target, str) or override.is_delete():
        return ""
    for value in _first_values(override):
        if (found := misfit(target, last, value)) is None:
            continue
        wanted, options = found
        if not options:
            text = repr(value) if isinstance(value, list) else repr(str(value))
            return str(InvalidType(f"{key} is {text:.60}", wanted)).rstrip(".") + "."
        return f"{key}={shortened(value)} is unknown. {did_you_mean(value, options)}."
    return ""


def _first_values(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    texts = itertools.islice(override.sweep_string_iterator(), LOOKED_AT)
    return [parsed_words([f"{override.key_or_group}={text}"])[0].value() for text in texts]


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
