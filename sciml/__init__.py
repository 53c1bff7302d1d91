"""Scientific machine learning on PyTorch Lightning.

Importing `sciml` costs nothing: rooms are imported when a name in them is first used, so that
inference never pulls training code in and `sciml --help` answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sciml.pretrained import (
        list_pretrained,
        load_pretrained,
        save_operator,
        save_pretrained,
    )

__version__ = "0.1.0"

# Public names and the rooms they live in.
_HOMES = {
    "list_pretrained": "sciml.pretrained",
    "load_pretrained": "sciml.pretrained",
    "save_operator": "sciml.pretrained",
    "save_pretrained": "sciml.pretrained",
}

__all__ = [
    "__version__",
    "list_pretrained",
    "load_pretrained",
    "save_operator",
    "save_pretrained",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sciml' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
