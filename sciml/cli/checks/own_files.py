"""People's own files, looked at before a run imports torch and lightning, which takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml.errors import ConfigError

if TYPE_CHECKING:
    from sciml.data.sources.source import Source

FIELDS, CLOUDS = "sciml.data.FieldFiles", "sciml.data.CloudFiles"
SMALL = 2**26  # bytes of a file that may well be read twice


def refuse_unreadable(config: Mapping[str, Any]) -> None:
    """Refuse files that are not there, cannot be read, or hold other arrays than were asked for.

    Args:
        config: Of the run, resolved.

    Raises:
        InvalidArgument: With what to type.
    """
    node = config.get("data") or {}
    if node.get("_target_") not in (FIELDS, CLOUDS):
        return
    from sciml.data.readers import open_source

    more = node.get("test_path")
    every = [node.get("path"), *(more if isinstance(more, list) else [more])]
    for place, path in enumerate(every):
        if not isinstance(path, str) or (Path(path).is_file() and _size(path) > SMALL):
            continue
        source = open_source(path)
        if place == 0 and node["_target_"] == FIELDS:
            refuse_unrecognised(source, node)


def refuse_unrecognised(source: Source, settings: Mapping[str, Any]) -> None:
    """Refuse arrays that cannot be used, with numpy alone.

    Values that are wrong themselves are left to the check of all settings.

    Args:
        source: From `sciml.data.readers.open_source`.
        settings: Of `data=fields`.

    Raises:
        InvalidArgument: With what to type.
    """
    from sciml.data.layouts.field_layout import recognise

    names = [settings.get(key) for key in ("inputs", "outputs")]
    axes = settings.get("axes")
    plain = all(isinstance(n, str | list | None) for n in names)
    plain &= isinstance(axes, dict | None)
    if plain and all(isinstance(letters, list) for letters in (axes or {}).values()):
        recognise(source, *names, axes)


def refuse_unknown(settings: Mapping[str, Any], target: str) -> None:
    """Refuse keys that a data set does not have, without importing its class.

    Args:
        settings: As typed, without `data.`.
        target: Dotted path of the class.

    Raises:
        ConfigError: With the nearest name.
    """
    from sciml.cli.targets import preflight
    from sciml.cli.typed import signatures

    found = signatures.named_arguments(target)
    if found is None:
        return
    unknown = [key for key in settings if key not in found[0]]
    if unknown:
        raise ConfigError(
            " ".join(preflight.unknown_key(f"data.{k}", [*found[0]]) for k in unknown)
        )


def _size(path: str) -> int:
    return Path(path).stat().st_size
