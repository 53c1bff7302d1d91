"""Exception and warning families.

Every error a user can cause derives from `SciMLError` *and* from the builtin a caller would
catch anyway (`ValueError`, `TypeError`, `RuntimeError`, `ImportError`). A message has three parts:
what was received, what was expected, and what to type instead.
"""

from __future__ import annotations

import difflib
import os.path
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

CLOSE = 0.5  # share of letters in common below which a name is no suggestion
DISTRIBUTION = "sciml-torch"  # what pip installs; `sciml` on the index is another project


def _sentence(text: str) -> str:
    return text if text.endswith("?") else text.rstrip(".") + "."


class SciMLError(Exception):
    """Root of all errors raised on purpose by sciml.

    Args:
        received: What came, with its name and value.
        expected: What would have been accepted; empty if `received` says it all.
        hint: What to type or do instead; may be empty.
    """

    def __init__(self, received: str, expected: str = "", hint: str = "") -> None:
        self.received, self.expected, self.hint = received, expected, hint
        parts = [received, f"Expected {expected}" if expected else "", hint]
        super().__init__(" ".join(_sentence(part) for part in parts if part))

    def __reduce__(self) -> tuple:
        """Keep the three parts when an error crosses a process boundary."""
        return type(self), (self.received, self.expected, self.hint)


class InvalidArgument(SciMLError, ValueError):
    """A value of the right type that cannot be used."""


class InvalidType(SciMLError, TypeError):
    """A value of the wrong type."""


class ConfigError(SciMLError, ValueError):
    """A run configuration that names something unknown or combines things that do not fit."""


class CheckpointError(SciMLError, RuntimeError):
    """A training checkpoint that is missing, truncated or of another run."""


class MissingPackage(SciMLError, ImportError):
    """A library that is needed and cannot be imported."""


def install(extra: str) -> str:
    """Return what to type to get the packages of an extra of pyproject.toml."""
    return f"Type pip install '{DISTRIBUTION}[{extra}]', in a clone pip install -e '.[{extra}]'"


def optional(name: str, extra: str, use: str) -> ModuleType:
    """Import and return a package that only some need.

    Args:
        name: Of the module, `h5py`.
        extra: The extra of pyproject.toml that brings it.
        use: What was asked for, `an HDF5 file`.

    Raises:
        MissingPackage: If it is not installed, with the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackage(f"{use} without the package {name}", hint=install(extra)) from error


class PretrainedError(SciMLError, RuntimeError):
    """A pretrained folder that is incomplete, damaged or names something outside the table."""


class TrainingDiverged(SciMLError, RuntimeError):
    """A loss that stopped being finite."""


class RunFailed(SciMLError, RuntimeError):
    """A run that the system stopped: a full disk, a file that may not be written any more."""


class ConvergenceError(SciMLError, RuntimeError):
    """A solver that stopped before reaching its tolerance."""


class SciMLWarning(UserWarning):
    """Root of all warnings issued by sciml."""


class NumericalWarning(SciMLWarning):
    """The result may be less accurate than asked for."""


class PerformanceWarning(SciMLWarning):
    """The result is right, but a faster way exists."""


class RangeWarning(SciMLWarning):
    """Inputs lie outside the range a model was trained on."""


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the entry of `options` closest in spelling to `name`, or None if none is close.

    An entry that is one typing mistake away comes first, then one that begins with `name`, then the
    one with most letters in common. Upper and lower case are the same.
    """
    typed = name.lower()

    def rank(option: str) -> tuple[bool, bool, float]:
        option = option.lower()
        return one_mistake(typed, option), option.startswith(typed), common(option, typed)

    close = [option for option in sorted(options) if common(option.lower(), typed) >= CLOSE]
    return max(close, key=rank, default=None)


def common(a: str, b: str) -> float:
    """Return the share of letters in common, 0 to 1, in the sense of difflib."""
    return difflib.SequenceMatcher(None, a, b).ratio()


def one_mistake(a: str, b: str) -> bool:
    """Return whether at most one letter is missing, added or wrong, or two neighbours swapped."""
    start = len(os.path.commonprefix((a, b)))
    a, b = a[start:], b[start:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1])


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return a sentence that names the nearest option and lists them all."""
    options = sorted(options)
    close = nearest(name, options)
    lead = f"Did you mean '{close}'? " if close else ""
    return f"{lead}Available: {', '.join(options)}"
