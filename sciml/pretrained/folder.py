"""The pretrained folder: `model.json`, `weights.safetensors`, `README.md`.

Everything in it is data. `model.json` holds the format version, class names from a fixed table,
plain constructor arguments, the input and output schema with units and ranges, metrics, the data
recipe and the SHA-256 of the weights. Reading is strict: whatever is missing, unknown or does not
match is an error that says which file and why.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from sciml.errors import InvalidArgument, PretrainedError, did_you_mean
from sciml.networks.trial import TrialSolution
from sciml.pretrained import card, weights
from sciml.pretrained.predictor import PretrainedPINN
from sciml.pretrained.table import build, resolve

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


def load_pretrained(path_or_name: str | Path, device: str | torch.device = "cpu") -> PretrainedPINN:
    """Load a trained model for prediction; no training code is imported.

    Args:
        path_or_name: A name from `list_pretrained()`, a pretrained folder, or a run folder that
            has one inside.
        device: Where predictions are computed.

    Returns:
        The model, with `predict(x, t)`.

    Raises:
        PretrainedError: If there is no such model, or the folder is incomplete or damaged, or
            names a class outside the table, or the weights do not match it.

    Example:
        >>> model = sciml.load_pretrained("runs/pinn_hjb/2026-01-31_12-00-00")
        >>> model.predict(x, t)["value"]  # x (N, d), t (N, 1) -> (N,)
    """
    folder = find(path_or_name)
    spec = read_spec(folder)
    file = member(folder, spec["weights"]["file"])
    # building draws initial weights that are thrown away: leave the caller's random stream alone
    with torch.random.fork_rng(devices=[]):
        solution = build_solution(spec)
    state = weights.read(file, spec["weights"]["sha256"], spec["weights"]["complex128"])
    weights.assign(solution, state)
    return PretrainedPINN(solution, spec).to(device)


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


def build_solution(spec: Mapping) -> TrialSolution:
    """Return the freshly initialised model that a `model.json` describes."""
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


def save_pretrained(
    folder: str | Path,
    solution: TrialSolution,
    *,
    problem: Mapping,
    network: Mapping,
    ranges: Mapping[str, tuple[float, float]],
    name: str,
    description: str = "",
    metrics: Mapping[str, float] | None = None,
    data: Mapping | None = None,
    units: Mapping[str, str] | None = None,
) -> Path:
    """Write a trained solution as a pretrained folder, replacing an earlier one as a whole.

    Args:
        folder: Where to write.
        solution: The trained model.
        problem: `{"class": name in the table, "arguments": plain constructor arguments}`.
        network: The same for the network.
        ranges: What training saw, from `training_ranges`; outside it predictions warn.
        name: Short name, for instance the model of the run.
        description: A sentence or two for the card.
        metrics: Measured quality, name to number.
        data: How the training points were made, plain data.
        units: Units of "x", "t" and "value"; "1" (dimensionless) where not given.

    Returns:
        The folder.

    Raises:
        PretrainedError: If the description does not rebuild this very model.
    """
    units = {"x": "1", "t": "1", "value": "1", **(units or {})}
    dim, timed = solution.problem.dim, bool(solution.problem.time_dependent)
    inputs = {"x": {"shape": ["N", dim], "unit": units["x"]}}
    if timed:
        inputs["t"] = {"shape": ["N", 1], "unit": units["t"]}
    for key, (low, high) in ranges.items():
        variable, _, quantity = key.partition(".")
        inputs[variable].setdefault("ranges", {})[quantity] = [float(low), float(high)]
    slope = units["value"] if units["x"] == "1" else f"{units['value']}/({units['x']})"
    spec = {
        "format": FORMAT,
        "name": name,
        "description": description,
        "class": type(solution).__name__,
        "arguments": {
            "problem": {"class": problem["class"], "arguments": dict(problem["arguments"])},
            "network": {"class": network["class"], "arguments": dict(network["arguments"])},
            "inputs": list(solution.inputs),
        },
        "inputs": inputs,
        "outputs": {
            "value": {"shape": ["N"], "unit": units["value"]},
            "gradient": {"shape": ["N", dim], "unit": slope},
        },
        "metrics": {key: finite_or_none(value) for key, value in (metrics or {}).items()},
        "data": dict(data or {}),
        "versions": _versions(),
    }
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".saving-") as temporary:
        draft = Path(temporary) / "model"
        draft.mkdir()
        paired = weights.write(draft / weights.FILE, solution.state_dict())
        digest = weights.sha256(draft / weights.FILE)
        spec["weights"] = {"file": weights.FILE, "sha256": digest, "complex128": paired}
        (draft / "model.json").write_text(_plain_json(spec), encoding="utf-8")
        (draft / "README.md").write_text(card.render(spec), encoding="utf-8")
        _check_round_trip(draft, solution)
        if target.exists():  # a folder cannot replace a full one: move the old aside first
            shutil.move(target, Path(temporary) / "old")
        os.replace(draft, target)
    return target


def update_metrics(folder: str | Path, metrics: Mapping[str, float]) -> None:
    """Write newly measured quality into a folder; the weights stay as they are.

    Args:
        folder: A pretrained folder.
        metrics: Name to number; replaces what was recorded.
    """
    folder = Path(folder)
    spec = read_spec(folder)
    spec["metrics"] = {key: finite_or_none(value) for key, value in metrics.items()}
    for name, text in (("README.md", card.render(spec)), ("model.json", _plain_json(spec))):
        draft = folder / f".{name}.{os.getpid()}"
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, folder / name)


def _check_round_trip(folder: Path, solution: TrialSolution) -> None:
    """Load what was written and compare every tensor, so a bad description fails at save time."""
    loaded = load_pretrained(folder).solution.state_dict()
    for name, value in solution.state_dict().items():
        if not torch.equal(loaded[name], value.detach().cpu()):
            raise PretrainedError(f"'{name}' changed between saving and loading", "equal tensors")


def _plain_json(spec: Mapping) -> str:
    try:
        return json.dumps(spec, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"the description of the model holds something that is not plain data ({error})",
            "numbers, strings, lists and dictionaries",
        ) from error


def finite_or_none(value: float) -> float | None:
    """Return `value` as a float, or None where JSON has no number for it."""
    value = float(value)
    return value if math.isfinite(value) else None


def _versions() -> dict[str, str]:
    import sciml

    return {"sciml": sciml.__version__, "torch": torch.__version__}
