"""What the user typed: group choices and keys, checked before Hydra composes a run.

Hydra answers one mistake at a time and proposes `+key=value` for a misspelt key. Here all
mistakes are collected, each with the nearest name.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from sciml import plugins
from sciml.cli.paths import groups, options
from sciml.cli.targets import preflight
from sciml.cli.typed.composing import choices_of, composed_run, plain, run_folder
from sciml.cli.typed.replaced_choices import settle, without_leaks
from sciml.cli.typed.typed_keys import check_key, wrong_value
from sciml.cli.typed.typed_words import (
    HYDRA_KEYS,
    NEEDED,
    check_word,
    first_run,
    option_of,
    parse,
    parsed_words,
    quoted,
    shortened,
    values_of,
)
from sciml.errors import ConfigError, nearest

OTHER_MODEL = ("problem", "network", "data")  # with another of these, a model's figures are not its
ALWAYS_RIGHT = ("model", "scale", *HYDRA_KEYS)  # a line of these alone runs, if it composes


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
    words = [quoted(_plug(word)) for word in words]
    line = CommandLine(overrides=list(words), findings=plugins.clashes(folder))
    parsed = parse(words, folder, line.findings)
    parsed = [p for p in parsed if check_word(p, folder, line.findings)]
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
        typed = [str(v) for p in bad if p.key_or_group == "model" for v in values_of(p)]
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
            short = dict(composed_run(model).get("short") or {}) if model else {}
    except ConfigError:  # which Hydra says itself
        return words
    parts = [quoted(w).partition("=") for w in words]
    return [f"{short.get(key, key)}{sign}{value}" for key, sign, value in parts]


def _compose_checked(line: CommandLine, chosen: list[Override], keys: list[Override]) -> None:
    """Check keys against what the choices compose to, and compose the whole line.

    Raises:
        ConfigError: If the choices alone cannot be composed.
    """
    none = [p for p in chosen if not p.is_sweep_override() and option_of(p) is None]
    own = choices_of([first_run(p) for p in chosen if p.key_or_group == "model"]) if none else {}
    for p in none:
        # Hydra has no word for none of a group that has one, and none for none where there is none
        word, place = f"~{p.key_or_group}", line.overrides.index(p.input_line)
        there = own.get(p.key_or_group) is not None
        line.overrides[place : place + 1] = [word] if there else []
        chosen[chosen.index(p) : chosen.index(p) + 1] = parsed_words([word]) if there else []
    first = [first_run(p) for p in chosen]
    composed, words = composed_run(first), list(first)
    base = without_leaks(composed, first)
    allowed, before = [], len(line.findings)
    misfits = {p.input_line: text for p in keys if (text := wrong_value(p, base))}
    line.findings += misfits.values()
    for p in (p for p in keys if p.input_line not in misfits):
        word = check_key(p, base, line.findings, quick=bool(misfits))
        if word is not None:
            line.overrides[line.overrides.index(p.input_line)] = word
            allowed.append((p, word))
    other = any(p.key_or_group in OTHER_MODEL for p in chosen)
    if other and not any(p.key_or_group.startswith("reference") for p in keys):
        first.append("reference=null")
        line.overrides.append("reference=null")
    values = [first_run(p, word) for p, word in allowed]
    try:
        config = composed if first + values == words else composed_run(first + values)
        line.config = plain(config) if misfits else settle(config, first + values)
    except ConfigError as error:
        good = _blame(first, values, line.findings)
        if good == values:
            line.findings.append(f"{str(error).rstrip('.')}.")
            return
        config = composed_run(first + good)
        line.config = plain(config) if misfits else settle(config, first + good)
    line.run_dir = Path(run_folder(config))
    left = chosen + [p for p, _ in allowed]
    told = len(line.findings) > before
    if told or (line.findings and all(p.key_or_group in ALWAYS_RIGHT for p in left)):
        line.config = {}  # more checks cost the seconds of their imports, or would find nothing


def _check_choice(override: Override, folder: Path, findings: list[str]) -> bool:
    """Add a finding for an option that its group does not have; return whether there was one."""
    group, names = override.key_or_group, options(override.key_or_group, folder)
    values = list(values_of(override))
    wrong = [v for v in values if v is not None and str(v) not in names]
    findings += [preflight.unknown_choice(group, shortened(v), names) for v in wrong]
    if group in NEEDED and None in values:
        findings.append(f"{group}=null: every run needs one. Available: {', '.join(names)}.")
        return True
    return bool(wrong)


def _check_sizes(chosen: list[Override], folder: Path, findings: list[str]) -> None:
    """Add a finding for a scale that a model has no file for: its size would stay the default."""
    typed = {group: [] for group in ("model", "scale")}
    for p in chosen:
        if p.key_or_group in typed:
            typed[p.key_or_group] = [str(v) for v in values_of(p)]
    known = options("size", folder)
    for model, scale in itertools.product(typed["model"], typed["scale"]):
        if scale != "default" and f"{model}_{scale}" not in known:
            end = f"_{scale}"
            having = [name.removesuffix(end) for name in known if name.endswith(end)]
            findings.append(
                f"scale={scale} with model={model}, which has no such size. Expected "
                f"scale=default, or a model that has one: {', '.join(having)}."
            )


def _blame(choices: list[str], values: list[str], findings: list[str]) -> list[str]:
    """Add a finding for every value that cannot be composed by itself; return the others."""
    good, without = [], _uncomposed(choices)
    for word in values:
        error = _uncomposed([*choices, word])
        if error and error != without:  # else it lacks what they lack without it
            findings.append(f"{shortened(word.lstrip('+'))}: {error}")
        else:
            good.append(word)
    return good


def _uncomposed(words: list[str]) -> str:
    """Return why words cannot be composed, or an empty string."""
    try:
        plain(composed_run(words))
    except ConfigError as error:
        return str(error)
    return ""
