"""What every simulation is: a frozen dataclass of settings with a `run`.

    @dataclass(frozen=True)
    class Smoke(Simulation):
        '''Rising smoke.'''

        solver: str = setting("dcdm", "pressure solver", ("dcdm", "cg"))
        steps: int = setting(100, "time steps")

        def run(self, folder, say=print):
            ...
            return {"seconds_per_step": 0.1}

Settings are checked twice: their types when they are read, their meaning in `__post_init__`.
"""

from __future__ import annotations

import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sciml.errors import ConfigError, did_you_mean
from sciml.typed_arguments import typed

BOOLEANS = {"true": True, "false": False}


@typed
def setting(default: Any, text: str, choices: Sequence[str] = ()) -> Any:
    """Return a dataclass field with its line of help and the names it may have.

    Example:
        >>> from dataclasses import dataclass, fields
        >>> from sciml.simulate import setting
        >>> @dataclass(frozen=True)
        ... class Settings:
        ...     solver: str = setting("mgpcg", "what solves for the pressure", ["mgpcg", "dcdm"])
        >>> Settings().solver, fields(Settings)[0].metadata["choices"]
        ('mgpcg', ('mgpcg', 'dcdm'))
    """
    return field(default=default, metadata={"help": text, "choices": tuple(choices)})


@dataclass(frozen=True)
class Simulation(ABC):
    """Base of all simulations.

    Example:
        >>> from dataclasses import dataclass
        >>> from pathlib import Path
        >>> from sciml.simulate import Simulation, setting
        >>> @dataclass(frozen=True)
        ... class Decay(Simulation):
        ...     steps: int = setting(10, "time steps")
        ...     def run(self, folder, say=print):
        ...         return {"value": 0.5**self.steps}
        >>> Decay(steps=2).run(Path("results"))
        {'value': 0.25}
    """

    @abstractmethod
    def run(self, folder: Path, say: Callable[[str], None] = print) -> dict[str, float]:
        """Simulate, write into a folder, and return what was measured.

        Args:
            folder: There and empty, or with an earlier run that is continued.
            say: Takes lines on how it goes.
        """


def read(cls: type[Simulation], words: Sequence[str]) -> Simulation:
    """Return the simulation with the settings of a command line, `key=value` each.

    Raises:
        ConfigError: For unknown keys, keys given twice, and values of another type.
    """
    known = {f.name: f for f in fields(cls)}
    kinds = typing.get_type_hints(cls)
    given: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"'{word}'", "settings, key=value each")
        if key not in known:
            raise ConfigError(
                f"'{key}' is no setting of {cls.__name__}", hint=did_you_mean(key, known)
            )
        if key in given:
            raise ConfigError(f"{key} is given twice", "every setting once")
        given[key] = _value(key, text, kinds[key], known[key].metadata["choices"])
    return cls(**given)


def _value(key: str, text: str, kind: Any, choices: Sequence[str]) -> Any:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if type(None) in options and text in ("null", "none"):
        return None
    if choices and text not in choices:
        raise ConfigError(f"{key}={text}", ", ".join(choices), did_you_mean(text, choices))
    if bool in options and text in BOOLEANS:
        return BOOLEANS[text]
    for read_as in (int, float):
        if read_as in options:
            try:
                return read_as(text)
            except ValueError:
                continue
    if str in options and text:
        return text
    names = " or ".join("null" if k is type(None) else k.__name__ for k in options)
    raise ConfigError(f"{key}={text}", f"{names}")


def described(cls: type[Simulation]) -> str:
    """Return the settings with defaults and help, one line each."""
    lines = []
    for f in fields(cls):
        default = "null" if f.default is None else str(f.default).lower()
        default = default if isinstance(f.default, bool) or f.default is None else f.default
        choices = f" ({' | '.join(f.metadata['choices'])})" if f.metadata["choices"] else ""
        lines.append((f"{f.name}={default}", f.metadata["help"] + choices))
    width = max((len(left) for left, _ in lines), default=0)
    return "\n".join(f"  {left:<{width}}  {right}" for left, right in lines)
