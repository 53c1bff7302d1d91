"""The pretrained folder: `model.json`, `weights.safetensors`, `README.md`.

Everything in it is data. `model.json` holds the format version, class names from a fixed table,
plain constructor arguments, the input and output schema with units and ranges, metrics, the data
recipe and the SHA-256 of the weights. Reading is strict: whatever is missing, unknown or does not
match is an error that says which file and why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from sciml.arguments import device as device_
from sciml.arguments import maybe, path, takes, text
from sciml.errors import InvalidArgument, PretrainedError, did_you_mean
from sciml.pretrained import hub, weights
from sciml.pretrained.class_table import CLASSES, REFUSALS, build, resolve
from sciml.pretrained.operator import PretrainedOperator, check_schema
from sciml.pretrained.predictor import PretrainedPINN

FORMAT = 1
LARGEST = 1e300  # number in model.json
SHIPPED = Path(__file__).parent / "models"
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


def list_pretrained() -> list[str]:
    """Return the names of the models shipped with the package, sorted."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/model.json"))


@takes(path_or_name=path, device=device_, revision=maybe(text))
def load_pretrained(
    path_or_name: str | Path,
    device: str | torch.device = "cpu",
    *,
    revision: str | None = None,
) -> PretrainedPINN | PretrainedOperator:
    """Load a trained model for prediction; no training code is imported.

    Args:
        path_or_name: A name from `list_pretrained()`, a pretrained folder, a run folder that has
            one inside, or `hf://owner/name` on the Hugging Face hub.
        device: Where predictions are computed.
        revision: Of a model on the hub, see `sciml.pretrained.hub`.

    Returns:
        The model: a solution with `predict(x, t)`, or an operator whose `predict` takes the inputs
        that its card lists.

    Raises:
        PretrainedError: If there is no such model, or the folder is incomplete or damaged, or
            names a class outside the table, or the weights do not match it.

    Example:
        >>> import sciml
        >>> operator = sciml.load_pretrained("equino_rve1")  # or the folder of a run
        >>> tuple(operator.predict(strain=[[0.02, 0.0, 0.0]])["stress"].shape)
        (1, 3)
    """
    remote = str(path_or_name).startswith(hub.PREFIX)
    if revision is not None and not remote:
        raise InvalidArgument(f"revision={revision!r} for {path_or_name}", "none: it is local")
    folder = hub.download(str(path_or_name), revision) if remote else find(path_or_name)
    spec = read_spec(folder)
    file = member(folder, spec["weights"]["file"])
    # building draws initial weights that are thrown away: leave the caller's random stream alone
    with torch.random.fork_rng(devices=[]), weights.bounded(file):
        model = build_model(spec)
    state = weights.read(file, spec["weights"]["sha256"], spec["weights"]["complex128"])
    weights.assign(model, state)
    kind = PretrainedPINN if spec["class"] in CLASSES["solution"] else PretrainedOperator
    try:
        return kind(model, spec).to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has all three
        said = str(error).partition("\n")[0]
        raise InvalidArgument(f"device={device}: {said}", "a device of this machine") from error


def find(path_or_name: str | Path) -> Path:
    """Return the folder meant by a path, a run folder or a shipped name."""
    path, names = Path(path_or_name), list_pretrained()
    try:
        for folder in (path, path / "pretrained"):
            if (folder / "model.json").is_file():
                return folder
        whole = path.is_dir()
    except OSError as error:  # a name too long for the system, a folder that may not be entered
        raise PretrainedError(f"{str(path)[:80]} cannot be read ({error.strerror})") from error
    if whole:
        raise PretrainedError(
            f"the folder {path} holds no model.json",
            "a pretrained folder (model.json, weights.safetensors, README.md) or a run folder with "
            "pretrained/ inside",
        )
    if str(path_or_name) in names:
        return SHIPPED / str(path_or_name)
    hint = did_you_mean(str(path_or_name), names) if names else "No models ship with this version"
    raise PretrainedError(
        f"there is no pretrained model '{path_or_name}'", "a folder that exists or a name", hint
    )


def member(folder: Path, name: object) -> Path:
    """Return `folder/name` after checking that it is a plain file inside the folder."""
    if name != weights.FILE:
        raise PretrainedError(
            f"model.json says the weights are in {name!r}",
            f"'{weights.FILE}' beside it; other names and paths are never followed",
        )
    path = folder / weights.FILE
    if not path.is_file():
        raise PretrainedError(f"{path} is missing", "the weights beside model.json")
    if path.resolve().parent != folder.resolve():
        raise PretrainedError(f"{path} is a link out of its folder", "a file inside the folder")
    return path


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


def _check_solution(spec: Mapping, problem: object) -> None:
    """Refuse inputs and outputs that are not those of the problem."""
    dim, timed = problem.dim, bool(problem.time_dependent)
    inputs = {"x": ["N", dim]} | ({"t": ["N", 1]} if timed else {})
    for side, wanted in (
        ("inputs", inputs),
        ("outputs", {"value": ["N"], "gradient": ["N", dim]}),
    ):
        found = {name: entry["shape"] for name, entry in spec[side].items()}
        if found != wanted:
            raise PretrainedError(f"model.json lists the {side} {str(found)[:80]}", f"{wanted}")


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


def build_model(spec: Mapping) -> nn.Module:
    """Return the freshly initialised model that a `model.json` describes."""
    known = [*CLASSES["solution"], *CLASSES["operator"]]
    from_plugin = ":" in spec["class"]  # all of them operators: there is one class of solutions
    if spec["class"] not in known and not from_plugin:
        raise PretrainedError(
            f"model.json names the class {spec['class']!r}",
            "a solution or operator of the table; paths and modules are never followed",
            did_you_mean(spec["class"], known),
        )
    if from_plugin or spec["class"] in CLASSES["operator"]:
        network = build("operator", {"class": spec["class"], "arguments": spec["arguments"]})
        check_schema(network, spec)
        return network
    cls, arguments = resolve("solution", spec["class"]), spec["arguments"]
    if set(arguments) != {"problem", "network", "inputs"}:
        raise PretrainedError(
            f"the arguments of {spec['class']} are {sorted(arguments)}", "problem, network, inputs"
        )
    problem = build("problem", arguments["problem"])
    _check_solution(spec, problem)
    network = build("network", arguments["network"])
    names = arguments["inputs"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PretrainedError(f"the inputs of {spec['class']} are {str(names)[:60]}", "names")
    try:
        return cls(problem, network, names)
    except REFUSALS as error:
        raise PretrainedError(
            f"{spec['class']} refuses its inputs in model.json: {error}"
        ) from error
