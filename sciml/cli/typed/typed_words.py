"""The words of a command line, each read and judged by itself: form, Hydra's settings, sweeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from sciml.cli.paths import groups, options
from sciml.errors import nearest

# Groups of which every run needs an option.
NEEDED = ("model", "scale", "module", "data", "optimizer", "trainer")
FOLLOWING = ("recipe", "size", "size_recipe")  # files that follow from these choices
# What may be typed of Hydra's own: other keys name code to run.
HYDRA_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name")
HYDRA_KEYS += ("hydra.output_subdir", "hydra.verbose", "hydra.mode")  # Lightning types the first
HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra/hydra_logging")
MOST_RUNS = 10_000  # in one sweep
NAN_WORDS = ("data.skip",)  # keys of which nan is a value, which Hydra reads as a number
# What Hydra and OmegaConf raise on words that they cannot use, beside their own families.
UNUSABLE = (HydraException, OmegaConfBaseException, ValueError, TypeError, LookupError)
UNUSABLE += (AttributeError, AssertionError, RecursionError, NotImplementedError)


def option_of(p: Override) -> Any:
    """Return the option that a word chooses, None for none."""
    return None if p.is_delete() else p.value()


def quoted(word: str) -> str:
    """Return a word as Hydra wants it: nan in quotes where the key takes the word, not a number."""
    key, sign, value = word.partition("=")
    is_word = key.lstrip("+") in NAN_WORDS and value.strip().lower() == "nan"
    return f"{key}{sign}'nan'" if is_word else word


def parsed_words(words: list[str]) -> list[Override]:
    """Return words that are known to be of the form `key=value`, parsed."""
    return OverridesParser.create().parse_overrides(words)


def parse(words: list[str], folder: Path, findings: list[str]) -> list[Override]:
    """Return the words that can be parsed; add a finding for each of the others."""
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
                findings.append(f"'{word}' cannot be read: {first_line(error)}.{_quoting(word)}")
    return parsed


def _quoting(word: str) -> str:
    """Return how to type a word whose value has marks that Hydra reads; empty if that is no help.

    Values that begin with a quotation mark or a bracket were meant as what they are.
    """
    key, _, value = word.partition("=")
    if not value or value[0] in "'\"[{$" or "'" in value:
        return ""
    text = f"{key}='{value}'"
    try:
        (read,) = parsed_words([text])
    except UNUSABLE:
        return ""
    same = not read.is_sweep_override() and str(read.value()) == value
    return f' If it is one text, quote it: "{text}".' if same else ""


def refused(words: Iterable[str]) -> list[str]:
    """Return what is wrong with words on Hydra's own settings, of which many name code to run."""
    found: list[str] = []
    for word in words:
        try:
            parsed = parsed_words([word])
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


def check_word(p: Override, folder: Path, findings: list[str]) -> bool:
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
        why = first_line(error)
        return f"{p.input_line} names no runs ({why}). Type the values: {p.key_or_group}=A,B"
    if count > MOST_RUNS:
        return f"{p.input_line} asks for more than {MOST_RUNS} runs. Type fewer values."
    return "" if count else f"{p.input_line} names no values. Type {p.key_or_group}=A,B."


def shortened(value: Any) -> str:
    """Return a value as text that fits into a message."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def values_of(override: Override) -> list[Any]:
    """Return the values of an override, all of them where it is a sweep."""
    if override.is_sweep_override():
        return [str(v) for v in override.sweep_string_iterator()]
    return [override.value()]


def first_run(override: Override, word: str | None = None) -> str:
    """Return an override for one run: the first value of a sweep."""
    word = override.input_line if word is None else word
    if not override.is_sweep_override():
        return word
    return f"{word.partition('=')[0]}={next(iter(override.sweep_string_iterator()))}"


def first_line(error: BaseException) -> str:
    """Return the first line that says something, of an error of Hydra or OmegaConf."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
