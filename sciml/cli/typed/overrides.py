"""What the user typed: group choices and keys, checked before Hydra composes a run.

Hydra answers one mistake at a time and proposes `+key=value` for a misspelt key. Here all
mistakes are collected, each with the nearest name.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sciml import plugins
from sciml.cli.paths import groups, options
from sciml.cli.targets import preflight
from sciml.cli.typed import signatures
from sciml.errors import ConfigError, nearest

OTHER_MODEL = ("problem", "network", "data")  # with another of these, a model's figures are not its
COLLECTIONS = ("callbacks", "logger")  # groups of several targets, to which `+` may add
# Groups whose values belong to the option they were set for. Not among them: the trainer, whose
# options share one target, and the optimizer, whose values stand in recipes of its own.
OWNED = ("problem", "network", "estimator", "solver", "adjoint", "module", "data", "schedule")
OWNED += COLLECTIONS
# Parts that a model may have, each used by what takes an argument of its name.
PARTS = ("problem", "network", "estimator", "solver", "adjoint")
NEEDED = ("model", "scale", "module", "data", "optimizer", "trainer")
FOLLOWING = ("recipe", "size", "size_recipe")  # files that follow from the choices above
# What may be typed of Hydra's own: other keys name code to run.
HYDRA_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name")
HYDRA_KEYS += ("hydra.output_subdir", "hydra.verbose", "hydra.mode")  # Lightning types the first
HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra/hydra_logging")
ALWAYS_RIGHT = ("model", "scale", *HYDRA_KEYS)  # a line of these alone runs, if it composes
MOST_RUNS = 10_000  # in one sweep
# What Hydra and OmegaConf raise on words that they cannot use, beside their own families.
UNUSABLE = (HydraException, OmegaConfBaseException, ValueError, TypeError, LookupError)
UNUSABLE += (AttributeError, AssertionError, RecursionError, NotImplementedError)


@dataclass
class CommandLine:
    """A checked command line.

    Attributes:
        overrides: What Hydra gets: as typed, with `++` before keys that the target accepts
            although no file lists them.
        findings: Everything wrong with it.
        config: The composed configuration (the first of a sweep); empty if it could not be
            composed, its model is only a guess, or nothing is left to check.
        run_dir: Folder of the run as composed.
        given: Whether the user named that folder.
        sweeps: Words that name the values of several runs.
    """

    overrides: list[str]
    findings: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    run_dir: Path = Path()
    given: bool = False
    sweeps: list[str] = field(default_factory=list)


def read(words: list[str], folder: Path) -> CommandLine:
    """Return the checked command line.

    Args:
        words: Arguments of the form `key=value`.
        folder: The folder of configurations.
    """
    words = [_plug(word) for word in words]
    line = CommandLine(overrides=list(words), findings=plugins.clashes(folder))
    parsed = _parse(words, folder, line.findings)
    parsed = [p for p in parsed if _check_word(p, folder, line.findings)]
    mode = any(p.key_or_group == "hydra.mode" for p in parsed)  # Hydra's other word for -m
    line.sweeps = [p.input_line for p in parsed if p.is_sweep_override() and not mode]
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
        if not close or all(p.key_or_group == "model" for p in parsed):
            return line  # nothing to check the rest of the line with, or no rest
        guessed = True
        # the model that was probably meant serves to check the rest of the line
        chosen += OverridesParser.create().parse_overrides([f"model={close[0]}"])
    with initialize_config_dir(str(folder), version_base="1.3"):
        try:
            _compose_checked(line, chosen, [p for p in parsed if p.key_or_group not in names])
        except ConfigError as error:
            line.findings.append(f"{str(error).rstrip('.')}.")
            return line
    if guessed:
        line.config = {}
    return line


def _plug(word: str) -> str:
    """Make the packages of `plugins=mylab,other` plug-ins, and return the word as Hydra wants it.

    Raises:
        ConfigError: If one cannot be found.
    """
    key, sign, value = word.partition("=")
    if key != "plugins" or not sign:
        return word
    packages = plugins.words(value)
    plugins.use(*packages)
    return f"plugins=[{','.join(packages)}]"


def full_names(words: list[str], folder: Path) -> list[str]:
    """Return words for Hydra alone with the keys that a model's short names stand for."""
    model = [w for w in words if w.partition("=")[0] == "model"]
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            short = dict(_compose(model).get("short") or {}) if model else {}
    except ConfigError:  # which Hydra says itself
        return words
    parts = [w.partition("=") for w in words]
    return [f"{short.get(key, key)}{sign}{value}" for key, sign, value in parts]


def _compose_checked(line: CommandLine, chosen: list[Override], keys: list[Override]) -> None:
    """Check keys against what the choices compose to, and compose the whole line.

    Raises:
        ConfigError: If the choices alone cannot be composed.
    """
    none = [p for p in chosen if not p.is_sweep_override() and _option(p) is None]
    own = _choices([_first(p) for p in chosen if p.key_or_group == "model"]) if none else {}
    for p in none:
        # Hydra has no word for none of a group that has one, and none for none where there is none
        word, place = f"~{p.key_or_group}", line.overrides.index(p.input_line)
        there = own.get(p.key_or_group) is not None
        line.overrides[place : place + 1] = [word] if there else []
        chosen[chosen.index(p) : chosen.index(p) + 1] = _parsed([word]) if there else []
    first = [_first(p) for p in chosen]
    composed, words = _compose(first), list(first)
    base = _settled(composed, first)
    allowed = []
    for p in keys:
        word = _check_key(p, base, line.findings)
        if word is not None:
            line.overrides[line.overrides.index(p.input_line)] = word
            allowed.append((p, word))
    other = any(p.key_or_group in OTHER_MODEL for p in chosen)
    if other and not any(p.key_or_group.startswith("reference") for p in keys):
        first.append("reference=null")
        line.overrides.append("reference=null")
    values = [_first(p, word) for p, word in allowed]
    try:
        config = composed if first + values == words else _compose(first + values)
        line.config = settle(config, first + values)
    except ConfigError as error:
        good = _blame(first, values, line.findings)
        if good == values:
            line.findings.append(f"{str(error).rstrip('.')}.")
            return
        config = _compose(first + good)
        line.config = settle(config, first + good)
    line.run_dir = Path(_folder(config))
    left = chosen + [p for p, _ in allowed]
    if line.findings and all(p.key_or_group in ALWAYS_RIGHT for p in left):
        line.config = {}  # more checks would find nothing, and cost the seconds of their imports


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
    settled = plain(_settled(config, words))
    typed = {p.key_or_group.partition(".")[0] for p in _parsed(words)}
    for name in PARTS:
        if name not in typed and not consumers(settled, name):
            settled[name] = None
    return settled


def consumers(config: Mapping[str, Any], part: str) -> list[str]:
    """Return the groups of a configuration whose target takes a part by an argument of its name."""
    found = []
    for group in ("data", "network", "module"):
        known, _ = _named(_target(config.get(group)))
        if part in known and part not in config[group]:
            found.append(group)
    return found


def _target(node: Any) -> Any:
    return node.get("_target_") if isinstance(node, Mapping) else None


def _settled(config: DictConfig, words: list[str]) -> DictConfig:
    """Return a configuration in which every replaced choice has its own values and typed ones."""
    parsed = _parsed(words)
    typed = {p.key_or_group: _option(p) for p in parsed if p.key_or_group in OWNED}
    if not typed or "model" not in config:
        return config
    own = _choices([f"model={config.model}"])
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
        own = _composed(f"debug/{debug}", []).get(group) or {}
        words = [f"++{group}.{key}={value}" for key, value in own.items()]
    words += [p.input_line if p.is_delete() else f"++{p.input_line.lstrip('+')}" for p in keys]
    return _composed(f"{group}/{option}", words)[group]


def _option(p: Override) -> Any:
    """Return the option that a word chooses, None for none."""
    return None if p.is_delete() else p.value()


def _choices(words: list[str]) -> dict[str, Any]:
    """Return the option that each group has with these words."""
    return OmegaConf.to_container(_compose(words).hydra.runtime.choices)


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the user's part of a configuration, resolved, as dictionaries and lists."""
    try:
        user = OmegaConf.masked_copy(config, [k for k in config if k != "hydra"])
        missing = sorted(str(key) for key in OmegaConf.missing_keys(user))
        if missing:
            raise ConfigError(f"no value for {', '.join(missing)}", hint=f"Add {missing[0]}=VALUE")
        return OmegaConf.to_container(user, resolve=True)
    except ConfigError:
        raise
    except UNUSABLE as error:
        raise ConfigError(_short(error)) from error


def _compose(words: list[str]) -> DictConfig:
    return _composed("train", words)


def _composed(name: str, words: list[str]) -> DictConfig:
    try:
        return compose(name, overrides=words, return_hydra_config=name == "train")
    except UNUSABLE as error:
        raise ConfigError(_short(error)) from error


def _folder(config: DictConfig) -> str:
    try:
        found = str(config.hydra.run.dir)
    except UNUSABLE as error:
        raise ConfigError(f"hydra.run.dir: {_short(error)}") from error
    if not found.strip():  # an unset variable of the shell; the folder would be the present one
        raise ConfigError(
            "hydra.run.dir is empty", "a folder", "Type hydra.run.dir=FOLDER, or leave it out"
        )
    return found


def _parsed(words: list[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(words)


def _parse(words: list[str], folder: Path, findings: list[str]) -> list[Override]:
    parser, parsed = OverridesParser.create(), []
    for word in words:
        try:
            parsed += parser.parse_overrides([word])
        except UNUSABLE as error:
            if "=" not in word:
                models = options("model", folder)
                hint = f" Did you mean model={word}?" if word in models else ""
                findings.append(f"'{word}' is not of the form key=value.{hint}")
            else:
                findings.append(f"'{word}' cannot be read: {_short(error)}")
    return parsed


def refused(words: Iterable[str]) -> list[str]:
    """Return what is wrong with words on Hydra's own settings, of which many name code to run."""
    found: list[str] = []
    for word in words:
        try:
            parsed = _parsed([word])
        except UNUSABLE:
            continue  # Hydra says so itself
        found += [text for p in parsed if (text := _check_hydra(p))]
    return found


def _check_hydra(p: Override) -> str:
    """Return what is wrong with a word on Hydra's settings, or an empty string."""
    key = p.key_or_group
    if key.partition(".")[0].partition("/")[0] != "hydra":
        return ""
    plain_value = isinstance(p.value(), str | int | float | bool | None)
    if not plain_value and not isinstance(p.value(), QuotedString):
        return f"{key} takes a word or a number, not {str(p.value())[:60]}."
    if key in HYDRA_GROUPS or key in HYDRA_KEYS:
        return f"{p.input_line} cannot be removed." if p.is_delete() else ""
    return unknown_hydra(key)


def unknown_hydra(key: str) -> str:
    """Return the message for a setting of Hydra that may not be typed."""
    close = nearest(key, HYDRA_KEYS + HYDRA_GROUPS)
    lead = f" Did you mean {close}?" if close else ""
    return f"{key} cannot be set here.{lead} Available: {', '.join(HYDRA_KEYS + HYDRA_GROUPS)}."


def _check_word(p: Override, folder: Path, findings: list[str]) -> bool:
    """Add a finding for a word that no key and no choice can be; return whether it is usable."""
    key, names = p.key_or_group, groups(folder)
    text = _check_hydra(p)
    if not text and (p.package is not None or "@" in key or ":" in key):
        text = f"'{p.input_line}' moves a group to another place. Type {key}=NAME."
    if not text and key in FOLLOWING and not (p.value() is None and not p.is_delete()):
        text = f"{key} follows from model, scale and optimizer. Type the keys, or {key}=null."
    added = p.is_add() or p.is_force_add()
    if not text and key in names and (added or (p.is_delete() and key in NEEDED)):
        off = f", or {key}=null for none" if key not in NEEDED else ""
        text = f"'{p.input_line}': {key} is a group of which one is chosen. Type {key}=NAME{off}."
    if not text:
        text = _check_sweep(p)
    if text:
        findings.append(text)
    return not text


def _check_sweep(p: Override) -> str:
    """Return what is wrong with the values of a sweep, or an empty string."""
    if not p.is_sweep_override():
        return ""
    try:
        count = sum(1 for _ in itertools.islice(p.sweep_string_iterator(), MOST_RUNS + 1))
    except UNUSABLE as error:
        return (
            f"{p.input_line} names no runs ({_short(error)}). Type the values: {p.key_or_group}=A,B"
        )
    if count > MOST_RUNS:
        return f"{p.input_line} asks for more than {MOST_RUNS} runs. Type fewer values."
    return "" if count else f"{p.input_line} names no values. Type {p.key_or_group}=A,B."


def _check_choice(override: Override, folder: Path, findings: list[str]) -> bool:
    """Add a finding for an option that its group does not have; return whether there was one."""
    group, names = override.key_or_group, options(override.key_or_group, folder)
    values = list(_values(override))
    wrong = [v for v in values if v is not None and str(v) not in names]
    findings += [preflight.unknown_choice(group, _cut(v), names) for v in wrong]
    if group in NEEDED and None in values:
        findings.append(f"{group}=null: every run needs one. Available: {', '.join(names)}.")
        return True
    return bool(wrong)


def _cut(value: Any) -> str:
    """Return a value as text that fits into a message."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


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
        known, free = _named(parent["_target_"])
        if last in known or free:
            return "++" + word.lstrip("+")
        hidden = preflight.SUPPLIED.get(root, ())
        findings.append(preflight.unknown_key(key, [k for k in known if k not in hidden]))
        return None
    findings.append(_nowhere(key, parent, base))
    return None


def _is_open(base: DictConfig, key: str) -> bool:
    """Return whether a key holds an empty table, as `network.options` does: any name may follow."""
    try:
        node = OmegaConf.select(base, key, default=None) if key else None
    except UNUSABLE:
        return False
    return isinstance(node, DictConfig) and not node._is_none() and len(node) == 0


def _named(target: Any) -> signatures.Names:
    """Return what a target takes by name, from its source where that says it all: in no time."""
    if isinstance(target, str) and (found := signatures.named_arguments(target)):
        return found
    try:
        known, free = preflight.arguments(preflight.resolve(target))
    except ConfigError:
        return frozenset(), False
    return frozenset(known), free


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
        except ConfigError as error:
            findings.append(f"{_cut(word.lstrip('+'))}: {error}")
        else:
            good.append(word)
    return good


def _short(error: BaseException) -> str:
    """Return the first line that says something, of an error of Hydra or OmegaConf."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
