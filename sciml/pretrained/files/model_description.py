"""The description of a model, model.json: read, and checked for version, keys and types."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sciml.errors import PretrainedError, did_you_mean

FORMAT = 1
LARGEST = 1e300  # number in model.json
KEYS = {
    "format": int,
    "name": str,
    "description": str,
    "class": str,
    "arguments": dict,
    "inputs": dict,
    "outputs": dict,
    "metrics": dict,
    "data": dict,
    "weights": dict,
    "versions": dict,
}


def read_spec(folder: Path) -> dict:
    """Return `model.json` after checking version, keys and types."""
    path = folder / "model.json"
    try:
        spec = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5000 digits
        raise PretrainedError(
            f"{path} is not valid JSON ({error})", "the file written by sciml.save_pretrained"
        ) from error
    if not isinstance(spec, dict) or "format" not in spec:
        raise PretrainedError(f"{path} has no format version", f'an object with "format": {FORMAT}')
    if spec["format"] != FORMAT or not _whole(spec["format"]):
        raise PretrainedError(
            f"{path} has format version {spec['format']!r}",
            f"{FORMAT}, the one this sciml reads",
            "Load it with the version of sciml that wrote it (model.json, 'versions')",
        )
    _check_keys(path, spec, KEYS)
    _check_keys(path, spec["weights"], {"file": str, "sha256": str, "complex128": list}, "weights.")
    if not re.fullmatch(r"[0-9a-f]{64}", spec["weights"]["sha256"]):
        raise PretrainedError(f"{path} holds no SHA-256 of the weights", "64 hexadecimal digits")
    if not all(isinstance(name, str) for name in spec["weights"]["complex128"]):
        raise PretrainedError(f"{path}: 'weights.complex128' holds more than names", "names")
    for name, value in spec["metrics"].items():
        if value is not None and not _number(value):
            raise PretrainedError(f"{path}: metric '{name}' is {str(value)[:40]!r}", "a number")
    _check_recipe(path, spec["data"].get("recipe"))
    for side in ("inputs", "outputs"):
        for name, entry in spec[side].items():
            _check_entry(path, f"{side}.{name}", entry)
    return spec


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number in JSON")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    """Return whether a value is a number that a float can hold."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and -LARGEST <= value <= LARGEST


def _check_entry(path: Path, place: str, entry: object) -> None:
    """Refuse an input or output whose shape, unit or ranges are not what they must be."""
    if not isinstance(entry, dict) or not isinstance(entry.get("unit"), str):
        side, _, name = place.partition(".")
        said = f"{path} lists the {side} with '{name}' as {str(entry)[:60]}"
        raise PretrainedError(said, "its shape and unit")
    shape = entry.get("shape")
    axes = shape if isinstance(shape, list) and shape else [None]
    if not all(isinstance(axis, str) or (_whole(axis) and axis > 0) for axis in axes):
        raise PretrainedError(f"{path}: '{place}.shape' is {str(shape)[:60]}", "sizes and letters")
    ranges = entry.get("ranges", {})
    pairs = ranges.values() if isinstance(ranges, dict) else [None]
    for pair in pairs:
        plain = isinstance(pair, list) and len(pair) == 2 and all(map(_number, pair))
        if not plain or pair[0] > pair[1]:
            raise PretrainedError(
                f"{path} gives '{place}' the range {str(ranges)[:60]}", "[low, high]"
            )


def _check_recipe(path: Path, recipe: object) -> None:
    """Refuse a data recipe of another form than the one that `sciml verify` reads."""
    family = recipe.get("family") if isinstance(recipe, dict) else None
    wrong = recipe is not None and not isinstance(recipe, dict)
    if wrong or not (family is None or (isinstance(family, dict) and "_target_" in family)):
        raise PretrainedError(f"{path}: 'data.recipe' is {str(recipe)[:60]}", "a table, as saved")


def _check_keys(path: Path, found: dict, wanted: dict[str, type], prefix: str = "") -> None:
    for key, kind in wanted.items():
        if key not in found:
            raise PretrainedError(f"{path} lacks the key '{prefix}{key}'", "every key of format 1")
        if not isinstance(found[key], kind) or isinstance(found[key], bool):
            raise PretrainedError(
                f"{path}: '{prefix}{key}' is {str(found[key])[:40]!r}",
                f"a value of type {kind.__name__}",
            )
    for key in found:
        if key not in wanted:
            raise PretrainedError(
                f"{path} has the unknown key '{prefix}{key}'", hint=did_you_mean(key, wanted)
            )
