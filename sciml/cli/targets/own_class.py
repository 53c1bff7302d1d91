"""A class of the user's own from the command line: `problem=cavity.py:Cavity`.

The user who types it names code of his own to run; nothing else may: a configuration that says so
without the word on the command line is refused by preflight, like any class from elsewhere.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sciml.errors import ConfigError, did_you_mean

PLACE = "SCIML_OWN_PROBLEM"  # variable of the environment that holds the class
# What was typed, by the text that stands in configurations.
CLASSES: dict[str, type] = {}


def is_own(target: object) -> bool:
    """Return whether a `_target_` is of this form."""
    return isinstance(target, str) and ".py:" in target


def take(words: Sequence[str]) -> list[str]:
    """Return the words for Hydra, and load the class that they name.

    The option `own` of the group reads the class from the environment, where ranks that repeat the
    command line find it, too.

    Args:
        words: As typed; `problem=FILE.py:CLASS` becomes `problem=own`.

    Raises:
        ConfigError: If there is no such file or class, or the file cannot be run.
    """
    out = []
    for word in words:
        key, _, value = word.partition("=")
        value = value.strip("'\"")
        if key == "problem" and is_own(value):
            os.environ[PLACE] = load(value)
            word = "problem=own"
        elif key == "problem" and value.endswith(".py"):
            raise ConfigError(*_without_class(value))
        elif word == "problem=own":
            if not is_own(os.environ.get(PLACE)):
                raise ConfigError("problem=own", "a class of yours", "Type problem=FILE.py:CLASS")
            load(os.environ[PLACE])
        out.append(word)
    return out


def _without_class(file: str) -> tuple[str, str, str]:
    """Return what to say of a file without a class; its text is read, not run."""
    path = Path(file)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except OSError:
        return f"problem={file}: there is no file {path.resolve()}", "a Python file of yours", ""
    except (SyntaxError, ValueError) as error:
        return f"problem={file}: {path.name} cannot be read ({error})", "", ""
    found = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    expected = f"a class in it, as problem={file}:CLASS"
    if not found:
        return f"problem={file} without a class", expected, f"There is no class in {path.name}"
    words = " or ".join(f"problem={file}:{name}" for name in found)
    return f"problem={file} without a class", expected, f"Type {words}"


def load(text: str) -> str:
    """Load `FILE.py:CLASS` and return it with the whole path.

    Raises:
        ConfigError: See `take`.
    """
    file, _, name = text.rpartition(":")
    path = Path(file).resolve()
    target = f"{path}:{name}"
    if target in CLASSES:
        return target
    if not path.is_file():
        raise ConfigError(f"problem={text}: there is no file {path}", "a Python file of yours")
    module_name = f"sciml_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # any: it is the user's program
        raise ConfigError(
            f"problem={text}: {path.name} cannot be run ({type(error).__name__}: {error})"
        ) from error
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        classes = [k for k, v in vars(module).items()
                   if inspect.isclass(v) and v.__module__ == module_name]  # fmt: skip
        raise ConfigError(f"problem={text}: no class {name}", hint=did_you_mean(name, classes))
    CLASSES[target] = found
    return target
