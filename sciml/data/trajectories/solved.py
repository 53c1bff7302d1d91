"""Sets that are computed once: per process, and once at all where a folder keeps them as files.

A file is named by a hash of its recipe (problem, numbers, counts) and appears when it is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

_MADE: dict[str, dict[str, Tensor]] = {}  # made or read by this process, by recipe


def recipe_of(problem: Any, **numbers: int | float | str) -> str:
    """Return a problem's numbers and some more as a text that names a set.

    Args:
        problem: Its public attributes that are numbers or texts count.
        numbers: What else decides the set.
    """
    plain = {
        name: value
        for name, value in vars(problem).items()
        if isinstance(value, int | float | str) and not name.startswith("_")
    }
    return json.dumps({"problem": type(problem).__name__, **plain, **numbers}, sort_keys=True)


def solved_once(
    recipe: str, make: Callable[[], Mapping[str, Tensor]], cache: str | Path | None = None
) -> dict[str, Tensor]:
    """Return the tensors of a recipe by name, computed only if they are not known yet.

    Args:
        recipe: See `recipe_of`.
        make: Computes them.
        cache: Folder of files; None keeps them in memory.
    """
    if recipe not in _MADE:
        name = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        file = None if cache is None else Path(cache) / f"{name}.safetensors"
        if file is not None and file.exists():
            from safetensors.torch import load_file

            _MADE[recipe] = load_file(file)
        else:
            _MADE[recipe] = dict(make())
            if file is not None:
                _write(file, _MADE[recipe], recipe)
    return _MADE[recipe]


def _write(file: Path, tensors: Mapping[str, Tensor], recipe: str) -> None:
    """Write a file that is there only when it is whole."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.touch()
    mode = partial.stat().st_mode  # of any new file; save_file lets its owner alone read
    flat = {name: value.contiguous() for name, value in tensors.items()}
    save_file(flat, partial, metadata={"recipe": recipe})
    partial.chmod(mode)
    partial.replace(file)
