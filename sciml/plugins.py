"""Packages from outside whose problems, networks, optimizers and methods count like our own.

A package is a plug-in if the user named it: by installing it with an entry point,

    [project.entry-points."sciml.plugins"]
    mylab = "mylab"

by `plugins=mylab` on the command line of a training, or in the environment, `SCIML_PLUGINS=mylab`,
for every program. Its folder `configs/` holds groups of files as ours does (`model/`, `optimizer/`,
`problem/`, `recipe/` ...), and `_target_: mylab.Helmholtz` in them names its classes. A pretrained
folder calls such a class `mylab:Helmholtz`, which is looked up in the package itself, never along a
path, and only if the package is a plug-in here too.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from sciml.errors import ConfigError

GROUP, VARIABLE = "sciml.plugins", "SCIML_PLUGINS"
_typed: dict[str, None] = {}  # packages named by this program, in their order


def use(*packages: str) -> None:
    """Make packages plug-ins of this process.

    Args:
        packages: Names of packages that can be imported, without dots.

    Raises:
        ConfigError: If one cannot be found, or is a part of Python.

    Example:
        >>> from sciml.plugins import use
        >>> use("sciml")
        Traceback (most recent call last):
        sciml.errors.ConfigError: plugins=sciml. Expected a package beside sciml.
    """
    for package in packages:
        if not package.isidentifier():
            raise ConfigError(f"plugins={package}", "names of packages, plugins=[mylab,other]")
        if package == "sciml" or package in sys.stdlib_module_names:
            raise ConfigError(f"plugins={package}", "a package beside sciml")
        folder(package)
    _typed.update(dict.fromkeys(packages))


def names() -> list[str]:
    """Return the packages that are plug-ins: installed ones, the environment's, and typed ones."""
    return list(dict.fromkeys([*_installed(), *words(os.environ.get(VARIABLE, "")), *_typed]))


@functools.cache
def _installed() -> tuple[str, ...]:
    return tuple(entry.value for entry in entry_points(group=GROUP))


def words(text: str) -> list[str]:
    """Return the names in `mylab,other` or `[mylab,other]`."""
    return [word.strip() for word in text.strip("[]").split(",") if word.strip()]


def folder(package: str) -> Path:
    """Return where a plug-in's files are; it is not imported.

    Raises:
        ConfigError: If there is no such package.
    """
    if os.getcwd() not in sys.path:  # as `python train.py` has it, so that both commands agree
        sys.path.append(os.getcwd())
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"there is no package {package} to plug in",
            f"a folder {package}/ with __init__.py, installed or in this folder",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def imported(module: str) -> ModuleType:
    """Return a module, ours or a plug-in's, whose own code may raise anything when it is imported.

    Args:
        module: Dotted path.

    Raises:
        ConfigError: With what the plug-in raised and where.
        ImportError: If a module is missing, as from every import.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise
    except (Exception, SystemExit) as error:
        package = module.partition(".")[0]
        if package not in names():
            raise
        trace = error.__traceback__
        while trace.tb_next:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
        if isinstance(error, SyntaxError):
            place = f"{error.filename}, line {error.lineno}"
        raise ConfigError(
            f"the plug-in {package} cannot be imported: {type(error).__name__}: {error} ({place})",
            "a package that python can import",
            f"Look with python -c 'import {module}'",
        ) from error


def config_folders() -> list[Path]:
    """Return the folders of configurations that plug-ins bring."""
    found = [folder(package) / "configs" for package in names()]
    return [place for place in found if place.is_dir()]


def clashes(ours: Path) -> list[str]:
    """Return a sentence for every file of a plug-in that has the name of an earlier one.

    Args:
        ours: Our own folder of configurations.
    """
    seen: dict[Path, Path] = {f.relative_to(ours): ours for f in _files([ours])}
    found = []
    for place in config_folders():
        for file in _files([place]):
            name = file.relative_to(place)
            if name in seen:
                found.append(f"{place}/{name} has the name of {seen[name]}/{name}. Rename it.")
            seen[name] = place
    return found


def _files(folders: Iterable[Path]) -> list[Path]:
    return sorted(file for place in folders for file in place.glob("*/*.yaml"))
