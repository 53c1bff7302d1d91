"""`sciml export-data`: a generated data set as an HDF5 file, for models of other libraries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sciml.cli import paths
from sciml.errors import ConfigError, SciMLError, did_you_mean

USAGE = """usage: sciml export-data data=NAME out=FILE.h5 [train=N] [seed=N] [data.KEY=VALUE ...]
       sciml export-data check=FILE.h5

  data=NAME        which set: {names}
  out=FILE         .h5 or .hdf5; appears when it is whole
  train=N          training samples of sets that are drawn without end (256)
  seed=N           of the training part (0); validation and test parts are always the same
  data.KEY=VALUE   any setting of configs/data/NAME.yaml
  check=FILE       compares a file with the checksum in it

examples:
  sciml export-data data=star_poisson out=star.h5 train=1024
  sciml export-data data=porous out=pores.h5 train=200 data.task.coordinates=true
"""
OWN = ("data", "out", "train", "seed", "check")


def main(argv: Sequence[str]) -> int:
    """Run the verb.

    Args:
        argv: Arguments after `sciml export-data`.

    Returns:
        0, or 2 after one line on stderr that says what to change.
    """
    if not argv or "--help" in argv or "-h" in argv:
        print(USAGE.format(names=", ".join(paths.options("data"))))
        return 0
    try:
        print(_run(argv))
    except BrokenPipeError:  # `| head`: said by sciml.cli.main
        raise
    except (SciMLError, OSError) as error:
        print(f"sciml export-data: {error}", file=sys.stderr)
        return 2
    return 0


def _run(argv: Sequence[str]) -> str:
    from sciml.data import export_sets  # lightning takes a second

    given, changes = _read(argv)
    if "check" in given:
        return f"{given['check']} is whole, SHA-256 {export_sets.verify(given['check'])}"
    for key in ("data", "out"):
        if key not in given:
            raise ConfigError(f"no {key}", f"{key}=...", "See sciml export-data --help")
    path = Path(given["out"])
    if path.suffix not in export_sets.SUFFIXES:  # said before the work is done
        raise ConfigError(
            f"out={path}", f"a file name ending in {' or '.join(export_sets.SUFFIXES)}"
        )
    train, seed = (_whole(key, given.get(key)) for key in ("train", "seed"))
    node = _node(given["data"], changes)
    from sciml.cli.runs.build import make

    data = make("data", node, {"seed": seed or 0})
    digest = export_sets.export(data, path, train=train, recipe=node)
    return f"{path}: {path.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}"


def _read(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the verb's own settings, and those of the data."""
    given: dict[str, str] = {}
    changes = []
    for word in argv:
        key, sign, value = word.partition("=")
        if not sign:
            raise ConfigError(f"'{word}'", "key=value")
        if key.startswith("data."):
            changes.append(word.removeprefix("data."))
        elif key in OWN:
            given[key] = value
        else:
            raise ConfigError(f"'{key}' is unknown", hint=did_you_mean(key, OWN))
    return given, changes


def _whole(key: str, value: str | None) -> int | None:
    if value is None:
        return None
    least, most = (0, 2**63 - 1) if key == "seed" else (1, 10**7)
    number = int(value) if value.isdecimal() and len(value) < 20 else -1
    if not least <= number <= most:
        raise ConfigError(f"{key}={value[:40]}", f"a whole number from {least} to {most}")
    return number


def _node(name: str, changes: Sequence[str]) -> dict[str, Any]:
    """Return the checked configuration of a data set."""
    from sciml.cli.targets import resolving
    from sciml.cli.verbs.data_node import data_node
    from sciml.data.steps import StepData

    names = paths.options("data")
    if name not in names:
        raise ConfigError(f"data={name} is unknown", hint=did_you_mean(name, names))
    node = data_node(name, changes)
    if not issubclass(resolving.resolve(node["_target_"]), StepData):
        raise ConfigError(f"data={name}", "a set with inputs and answers", "It draws points only")
    return node
