"""Configurations composed by Hydra from words, with its errors turned into one-line findings."""

from __future__ import annotations

from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from sciml.cli.typed.typed_words import UNUSABLE, first_line
from sciml.errors import ConfigError


def choices_of(words: list[str]) -> dict[str, Any]:
    """Return the option that each group has with these words."""
    return OmegaConf.to_container(composed_run(words).hydra.runtime.choices)


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
        raise ConfigError(first_line(error)) from error


def composed_run(words: list[str]) -> DictConfig:
    """Return the configuration of a run with these words.

    Raises:
        ConfigError: If they cannot be composed.
    """
    return composed("train", words)


def composed(name: str, words: list[str]) -> DictConfig:
    """Return the configuration of a file by its name, with words; see `composed_run`."""
    try:
        return compose(name, overrides=words, return_hydra_config=name == "train")
    except UNUSABLE as error:
        raise ConfigError(first_line(error)) from error


def run_folder(config: DictConfig) -> str:
    """Return the folder that a composed run writes to.

    Raises:
        ConfigError: If it is empty, or cannot be told.
    """
    try:
        found = str(config.hydra.run.dir)
    except UNUSABLE as error:
        raise ConfigError(f"hydra.run.dir: {first_line(error)}") from error
    if not found.strip():  # an unset variable of the shell; the folder would be the present one
        raise ConfigError(
            "hydra.run.dir is empty", "a folder", "Type hydra.run.dir=FOLDER, or leave it out"
        )
    return found
