"""Checks that the inputs and outputs in a model.json are those of the network that it names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from sciml.errors import PretrainedError


def check_schema(network: nn.Module, spec: Mapping) -> None:
    """Refuse a description whose inputs and outputs are not those of the network it names.

    Raises:
        PretrainedError: Naming the entry.
    """
    for side, entries in network.schema().items():
        found = spec[side]
        if set(found) != set(entries):
            raise PretrainedError(
                f"model.json lists the {side} {sorted(found)}", f"{sorted(entries)}"
            )
        for name, entry in entries.items():
            same = isinstance(found[name], dict) and all(
                found[name].get(key) == value for key, value in entry.items()
            )
            if not same:
                raise PretrainedError(
                    f"model.json describes '{name}' as {str(found[name])[:80]}", f"{entry}"
                )
