"""`sciml list`: what can be trained, with which optimizers, and what is already trained."""

from __future__ import annotations

from collections.abc import Sequence

from sciml.cli.paths import describe, options
from sciml.errors import ConfigError, did_you_mean

KINDS = ("models", "optimizers", "pretrained")
USAGE = f"usage: sciml list [{' | '.join(KINDS)}]"


def main(argv: Sequence[str]) -> int:
    """Print names with a line on each.

    Args:
        argv: Nothing for everything, or the kinds wanted.

    Raises:
        ConfigError: If a kind is unknown.
    """
    if "--help" in argv or "-h" in argv:
        print(USAGE)
        return 0
    for kind in argv:
        if kind not in KINDS:
            raise ConfigError(f"sciml list {kind}", hint=did_you_mean(kind, KINDS))
    for kind in argv or KINDS:
        rows = entries(kind)
        width = max((len(name) for name, _ in rows), default=0)
        print(f"{kind}:")
        print("\n".join(f"  {name:<{width}}  {text}".rstrip() for name, text in rows) or "  none")
    return 0


def entries(kind: str) -> list[tuple[str, str]]:
    """Return names and one line on each, of one kind."""
    if kind == "pretrained":
        from sciml.pretrained import list_pretrained
        from sciml.pretrained.files.folder import SHIPPED
        from sciml.pretrained.files.model_description import read_spec

        return [(name, read_spec(SHIPPED / name)["description"]) for name in list_pretrained()]
    group = kind.removesuffix("s")
    return [(name, describe(group, name)) for name in options(group)]
