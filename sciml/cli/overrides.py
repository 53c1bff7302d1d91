"""What the user typed: group choices and keys, checked before Hydra composes a run.

Hydra answers one mistake at a time and proposes `+key=value` for a misspelt key. Here all
mistakes are collected, each with the nearest name.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sciml.cli import preflight
from sciml.cli.paths import groups, options
from sciml.errors import ConfigError, nearest

OTHER_MODEL = ("problem", "network", "data")  # with another of these, a model's figures are not its
COLLECTIONS = ("callbacks", "logger")  # groups of several targets, to which `+` may add


@dataclass
class CommandLine:
    """A checked command line.

    Attributes:
        overrides: What Hydra gets: as typed, with `++` before keys that the target accepts
            although no file lists them.
        findings: Everything wrong with it.
        config: The composed configuration (the first of a sweep); empty if it could not be
            composed or its model is only a guess.
        run_dir: Folder of the run as composed.
        given: Whether the user named that folder.
    """

    overrides: list[str]
    findings: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    run_dir: Path = Path()
    given: bool = False


def read(words: list[str], folder: Path) -> CommandLine:
    """Return the checked command line.

    Args:
        words: Arguments of the form `key=value`.
        folder: The folder of configurations.
    """
    line = CommandLine(overrides=list(words))
    parsed = _parse(words, folder, line.findings)
    line.given = any(p.key_or_group == "hydra.run.dir" for p in parsed)
    names = groups(folder)
    chosen = [p for p in parsed if p.key_or_group in names]
    bad = [p for p in chosen if _check_choice(p, folder, line.findings)]
    chosen = [p for p in chosen if p not in bad]
    _check_sizes(chosen, folder, line.findings)
    guessed = False
    if not any(p.key_or_group == "model" for p in chosen):
        models = options("model", folder)
        typed = [str(v) for p in bad if p.key_or_group == "model" for v in _values(p)]
        if not typed:
            line.findings.append(
                f"No model given. Expected model=NAME, one of: {', '.join(models)}."
            )
        close = [name for name in (nearest(v, models) for v in typed) if name]
        if not close:
            return line
        guessed = True
        # the model that was probably meant serves to check the rest of the line
        chosen += OverridesParser.create().parse_overrides([f"model={close[0]}"])
    keys = [p for p in parsed if p.key_or_group not in names]
    with initialize_config_dir(str(folder), version_base="1.3"):
        base = _compose([_first(p) for p in chosen])
        allowed = []
        for p in keys:
            word = _check_key(p, base, line.findings)
            if word is not None:
                line.overrides[line.overrides.index(p.input_line)] = word
                allowed.append((p, word))
        first = [_first(p) for p in chosen]
        other = any(p.key_or_group in OTHER_MODEL for p in chosen)
        if other and not any(p.key_or_group.startswith("reference") for p in keys):
            first.append("reference=null")
            line.overrides.append("reference=null")
        values = [_first(p, word) for p, word in allowed]
        try:
            config = _compose(first + values)
            line.config = settle(plain(config), first + values)
        except (HydraException, OmegaConfBaseException) as error:
            good = _blame(first, values, line.findings)
            if good == values:
                line.findings.append(_short(error))
                return line
            config = _compose(first + good)
            line.config = settle(plain(config), first + good)
        line.run_dir = Path(str(config.hydra.run.dir))
    if guessed:
        line.config = {}
    return line


def settle(config: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """Return a configuration without what the model's file set for a choice the user replaced.

    A model that uses SDGD may set `estimator.num_dims`; with `estimator=exact` typed there is no
    such key. What the user typed stays, for preflight to judge.

    Args:
        config: The resolved configuration.
        words: What the user typed.
    """
    parsed = OverridesParser.create().parse_overrides(words)
    typed = {p.key_or_group for p in parsed}
    settled = dict(config)
    for group in typed & {name for name, node in config.items() if isinstance(node, dict)}:
        node = config[group]
        try:
            known, free = preflight.arguments(preflight.resolve(node.get("_target_")))
        except ConfigError:
            continue
        kept = {"_target_", *known, *(k for k in node if free or f"{group}.{k}" in typed)}
        settled[group] = {key: value for key, value in node.items() if key in kept}
    return settled


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the user's part of a configuration, resolved, as dictionaries and lists."""
    user = OmegaConf.masked_copy(config, [k for k in config if k != "hydra"])
    missing = sorted(str(key) for key in OmegaConf.missing_keys(user))
    if missing:
        raise ConfigError(f"no value for {', '.join(missing)}", hint=f"Add {missing[0]}=VALUE")
    return OmegaConf.to_container(user, resolve=True)


def _compose(words: list[str]) -> DictConfig:
    return compose("train", overrides=words, return_hydra_config=True)


def _parse(words: list[str], folder: Path, findings: list[str]) -> list[Override]:
    parser, parsed = OverridesParser.create(), []
    for word in words:
        try:
            parsed += parser.parse_overrides([word])
        except HydraException as error:
            if "=" not in word:
                models = options("model", folder)
                hint = f" Did you mean model={word}?" if word in models else ""
                findings.append(f"'{word}' is not of the form key=value.{hint}")
            else:
                findings.append(f"'{word}' cannot be read: {_short(error)}")
    return parsed


def _check_choice(override: Override, folder: Path, findings: list[str]) -> bool:
    """Add a finding for an option that its group does not have; return whether there was one."""
    group, names = override.key_or_group, options(override.key_or_group, folder)
    if override.is_delete():
        return False
    values = list(_values(override))
    wrong = [v for v in values if v is not None and str(v) not in names]
    findings += [preflight.unknown_choice(group, str(v), names) for v in wrong]
    return bool(wrong)


def _check_sizes(chosen: list[Override], folder: Path, findings: list[str]) -> None:
    """Add a finding for a scale that a model has no file for: its size would stay the default."""
    typed = {group: [] for group in ("model", "scale")}
    for p in chosen:
        if p.key_or_group in typed:
            typed[p.key_or_group] = [str(v) for v in _values(p)]
    known = options("size", folder)
    for model, scale in itertools.product(typed["model"], typed["scale"]):
        if scale != "default" and f"{model}_{scale}" not in known:
            end = f"_{scale}"
            having = [name.removesuffix(end) for name in known if name.endswith(end)]
            findings.append(
                f"scale={scale} with model={model}, which has no such size. Expected "
                f"scale=default, or a model that has one: {', '.join(having)}."
            )


def _check_key(override: Override, base: DictConfig, findings: list[str]) -> str | None:
    """Return the word to hand on for a `key=value`, or None after adding a finding."""
    key, word = override.key_or_group, override.input_line
    root, _, _ = key.partition(".")
    if root == "hydra" or "/" in key or "@" in word.partition("=")[0] or override.is_delete():
        return word
    if OmegaConf.select(base, key, default=_ABSENT, throw_on_missing=False) is not _ABSENT:
        return word
    if override.is_add() and root in COLLECTIONS and root in base and key.count("."):
        return word
    head, _, last = key.rpartition(".")
    parent = OmegaConf.select(base, head, default=None) if head else base
    if isinstance(parent, DictConfig) and "_target_" in parent and last:
        try:
            known, free = preflight.arguments(preflight.resolve(parent["_target_"]))
        except ConfigError:
            known, free = {}, False
        if last in known or free:
            return "++" + word.lstrip("+")
        hidden = preflight.SUPPLIED.get(root, ())
        findings.append(preflight.unknown_key(key, [k for k in known if k not in hidden]))
        return None
    findings.append(_nowhere(key, parent, base))
    return None


_ABSENT = object()


def _nowhere(key: str, parent: Any, base: DictConfig) -> str:
    """Return the message for a key whose parent is unknown or no target."""
    head, _, last = key.rpartition(".")
    same = [full for full in _leaves(base) if full.rpartition(".")[2] == last]
    if same:
        return f"{key} is unknown. Did you mean {' or '.join(same[:3])}?"
    if isinstance(parent, DictConfig):
        names = [str(k) for k in parent if k not in ("hydra", "_target_")]
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


def _values(override: Override) -> list[Any]:
    """Return the values of an override, all of them where it is a sweep."""
    if override.is_sweep_override():
        return [str(v) for v in override.sweep_string_iterator()]
    return [override.value()]


def _first(override: Override, word: str | None = None) -> str:
    """Return an override for one run: the first value of a sweep."""
    word = override.input_line if word is None else word
    if not override.is_sweep_override():
        return word
    return f"{word.partition('=')[0]}={next(iter(override.sweep_string_iterator()))}"


def _blame(choices: list[str], values: list[str], findings: list[str]) -> list[str]:
    """Add a finding for every value that cannot be composed by itself; return the others."""
    good = []
    for word in values:
        try:
            plain(_compose([*choices, word]))
        except (HydraException, OmegaConfBaseException) as error:
            findings.append(f"{word.lstrip('+')}: {_short(error)}")
        else:
            good.append(word)
    return good


def _short(error: BaseException) -> str:
    """Return the first line that says something, of an error of Hydra or OmegaConf."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
