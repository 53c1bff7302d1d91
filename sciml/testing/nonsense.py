"""Nonsense for public functions: every argument in turn is what nobody meant.

for label, call in spoilt(project_simplex, {"x": x, "radius": 1.0}):
only_ours(label, call)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from sciml.errors import SciMLError

NONSENSE: dict[str, Any] = {
    "text": "ab",
    "None": None,
    "nan": float("nan"),
    "negative": -1,
    "zero": 0,
    "half": 0.5,
    "true": True,
    "huge": 10**12,
    "nested list": [["a"]],
    "empty list": [],
    "table": {},
    "four axes": torch.ones(2, 2, 2, 2),
    "NaN entries": torch.tensor([float("nan"), 1.0]),
    "whole numbers": torch.ones(3, dtype=torch.long),
    "complex": torch.ones(3, dtype=torch.complex64),
    "array": np.ones((2, 3)),
    "array of objects": np.array([object()]),
    "bytes": b"ab",
    "object": object(),
    "class": int,
}
SHORTEST = 15  # letters of a message that says something


def spoilt(
    function: Callable[..., Any], good: Mapping[str, Any], leave: Mapping[str, tuple] | None = None
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield calls with one argument replaced, each with its name.

    Args:
        function: What to call.
        good: Arguments with which it works.
        leave: By the name of an argument, kinds of nonsense that it may take.
    """
    for key in good:
        for kind, value in NONSENSE.items():
            if kind not in (leave or {}).get(key, ()):
                given = {**good, key: value}
                yield f"{key} = {kind}", lambda given=given: function(**given)


def only_ours(label: str, call: Callable[[], Any]) -> None:
    """Call, and fail on an error that is no message of ours.

    Raises:
        AssertionError: With the name of the call.
    """
    try:
        call()
    except SciMLError as error:
        assert len(str(error)) > SHORTEST, f"{label}: {error}"
    except Exception as error:
        raise AssertionError(f"{label}: {type(error).__name__}: {error}") from error
