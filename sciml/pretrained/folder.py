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

from sciml.errors import InvalidArgument, PretrainedError, did_you_mean
from sciml.pretrained import hub, weights
from sciml.pretrained.operator import PretrainedOperator, check_schema
from sciml.pretrained.predictor import PretrainedPINN
from sciml.pretrained.table import CLASSES, build, resolve

FORMAT = 1
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
        >>> model = sciml.load_pretrained("runs/pinn_hjb/2026-01-31_12-00-00")
        >>> model.predict(x, t)["value"]  # x (N, d), t (N, 1) -> (N,)
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
    return kind(model, spec).to(device)


def find(path_or_name: str | Path) -> Path:
    """Return the folder meant by a path, a run folder or a shipped name."""
    path, names = Path(path_or_name), list_pretrained()
    for folder in (path, path / "pretrained"):
        if (folder / "model.json").is_file():
            return folder
    if path.is_dir():
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
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PretrainedError(
            f"{path} is not valid JSON ({error})", "the file written by sciml.save_pretrained"
        ) from error
    if not isinstance(spec, dict) or "format" not in spec:
        raise PretrainedError(f"{path} has no format version", f'an object with "format": {FORMAT}')
    if spec["format"] != FORMAT:
        raise PretrainedError(
            f"{path} has format version {spec['format']!r}",
            f"{FORMAT}, the one this sciml reads",
            "Load it with the version of sciml that wrote it (model.json, 'versions')",
        )
    _check_keys(path, spec, KEYS)
    _check_keys(path, spec["weights"], {"file": str, "sha256": str, "complex128": list}, "weights.")
    if not re.fullmatch(r"[0-9a-f]{64}", spec["weights"]["sha256"]):
        raise PretrainedError(f"{path} holds no SHA-256 of the weights", "64 hexadecimal digits")
    return spec


def _check_keys(path: Path, found: dict, wanted: dict[str, type], prefix: str = "") -> None:
    for key, kind in wanted.items():
        if key not in found:
            raise PretrainedError(f"{path} lacks the key '{prefix}{key}'", "every key of format 1")
        if not isinstance(found[key], kind):
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
    if spec["class"] not in known:
        raise PretrainedError(
            f"model.json names the class {spec['class']!r}",
            "a solution or operator of the table; paths and modules are never followed",
            did_you_mean(spec["class"], known),
        )
    if spec["class"] in CLASSES["operator"]:
        network = build("operator", {"class": spec["class"], "arguments": spec["arguments"]})
        check_schema(network, spec)
        return network
    cls, arguments = resolve("solution", spec["class"]), spec["arguments"]
    if set(arguments) != {"problem", "network", "inputs"}:
        raise PretrainedError(
            f"the arguments of {spec['class']} are {sorted(arguments)}", "problem, network, inputs"
        )
    problem = build("problem", arguments["problem"])
    network = build("network", arguments["network"])
    try:
        return cls(problem, network, arguments["inputs"])
    except (InvalidArgument, TypeError) as error:
        raise PretrainedError(
            f"{spec['class']} refuses its inputs in model.json: {error}"
        ) from error
