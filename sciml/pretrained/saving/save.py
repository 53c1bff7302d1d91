"""Writing pretrained folders: trained solutions of a PDE, trained operators."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sciml.arguments import made, mapping, maybe, path, takes
from sciml.arguments import text as text_
from sciml.errors import InvalidArgument, PretrainedError
from sciml.networks.solutions.trial import TrialSolution
from sciml.pretrained.classes.class_table import name_of
from sciml.pretrained.files import weights
from sciml.pretrained.files.folder import load_pretrained
from sciml.pretrained.files.model_description import FORMAT, read_spec
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator
from sciml.pretrained.saving import card


def _part(value: object) -> str:
    fits = not mapping(value) and {"class", "arguments"} <= set(value)
    return "" if fits else "a dictionary of 'class' and 'arguments'"


NETWORK = made("schema", "state_dict", what="a network with a schema")
SOLUTION = made("problem", "state_dict", what="a TrialSolution")
COMMON = {"folder": path, "ranges": mapping, "name": text_, "description": text_}
COMMON |= {"metrics": maybe(mapping), "data": maybe(mapping)}


@takes(
    solution=SOLUTION,
    problem=_part,
    network=_part,
    units=maybe(mapping),
    joint=maybe(mapping),
    **COMMON,
)
def save_pretrained(
    folder: str | Path,
    solution: TrialSolution,
    *,
    problem: Mapping[str, Any],
    network: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, float]],
    name: str,
    description: str = "",
    metrics: Mapping[str, float] | None = None,
    data: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
    joint: Mapping[str, Any] | None = None,
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
        joint: What training points covered together, from `checks.joint.joint_range`.

    Returns:
        The folder.

    Raises:
        PretrainedError: If the description does not rebuild this very model.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from sciml.networks import MLP, TrialSolution
        >>> from sciml.physics import Poisson
        >>> from sciml.pretrained import save_pretrained, training_ranges
        >>> sizes = {"dim": 3, "width": 8, "depth": 2}
        >>> solution = TrialSolution(Poisson(dim=3), MLP(**sizes), ["x"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = save_pretrained(
        ...         f"{folder}/mine", solution, name="mine",
        ...         ranges=training_ranges(torch.rand(64, 3)),
        ...         problem={"class": "Poisson", "arguments": {"dim": 3}},
        ...         network={"class": "MLP", "arguments": sizes},
        ...     )
        ...     sorted(file.name for file in made.iterdir())
        ['README.md', 'model.json', 'weights.safetensors']
    """
    units = {"x": "1", "t": "1", "value": "1", **(units or {})}
    dim, timed = solution.problem.dim, bool(solution.problem.time_dependent)
    inputs = {"x": {"shape": ["N", dim], "unit": units["x"]}}
    if timed:
        inputs["t"] = {"shape": ["N", 1], "unit": units["t"]}
    for key, (low, high) in ranges.items():
        variable, _, quantity = key.partition(".")
        inputs[variable].setdefault("ranges", {})[quantity] = [float(low), float(high)]
    if joint is not None:
        inputs["x"]["joint"] = dict(joint)
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
    return write(folder, spec, solution)


@takes(network=NETWORK, arguments=mapping, **COMMON)
def save_operator(
    folder: str | Path,
    network: nn.Module,
    *,
    arguments: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, float]],
    name: str,
    description: str = "",
    metrics: Mapping[str, float] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Path:
    """Write a trained network with a `schema` as a pretrained folder, replacing an earlier one.

    Args:
        folder: Where to write.
        network: The trained network; its class stands in the table.
        arguments: Plain constructor arguments, `{"class", "arguments"}` for solvers among them.
        ranges: Least and greatest value of every real input in training, by its name, and of what
            it shows ("sdf.inradius", see `distance_checks.described`); outside
            predictions warn.
        name: Short name, for instance the model of the run.
        description: A sentence or two for the card.
        metrics: Measured quality, name to number.
        data: How the training data were made, plain data.

    Returns:
        The folder.

    Raises:
        PretrainedError: If the description does not rebuild this very network.

    Example:
        >>> import tempfile
        >>> from sciml.networks import LearnedMultigrid
        >>> from sciml.pretrained import load_pretrained, save_operator
        >>> network = LearnedMultigrid(dim=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = save_operator(
        ...         f"{folder}/mine", network, arguments={"dim": 2}, ranges={}, name="mine"
        ...     )
        ...     type(load_pretrained(made).network).__name__
        'LearnedMultigrid'
    """
    schema, cls = network.schema(), type(network)
    inputs = {key: dict(entry) for key, entry in schema["inputs"].items()}
    for key, (low, high) in ranges.items():
        variable, _, quantity = key.partition(".")
        found = inputs[variable].setdefault("ranges", {})
        found[quantity or "value"] = [float(low), float(high)]
    spec = {
        "format": FORMAT,
        "name": name,
        "description": description,
        "class": name_of("operator", f"{cls.__module__}.{cls.__name__}") or cls.__name__,
        "arguments": dict(arguments),
        "inputs": inputs,
        "outputs": {key: dict(entry) for key, entry in schema["outputs"].items()},
        "metrics": {key: finite_or_none(value) for key, value in (metrics or {}).items()},
        "data": dict(data or {}),
        "versions": _versions(),
    }
    return write(folder, spec, network)


def write(folder: str | Path, spec: dict[str, Any], model: nn.Module) -> Path:
    """Write description, weights and card as a whole, after loading them once."""
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".saving-") as temporary:
        draft = Path(temporary) / "model"
        draft.mkdir()
        paired = weights.write(draft / weights.FILE, model.state_dict())
        digest = weights.sha256(draft / weights.FILE)
        spec["weights"] = {"file": weights.FILE, "sha256": digest, "complex128": paired}
        (draft / "model.json").write_text(_plain_json(spec), encoding="utf-8")
        _check_round_trip(draft, model)
        (draft / "README.md").write_text(card.update(draft, spec), encoding="utf-8")
        if target.exists():  # a folder cannot replace a full one: move the old aside first
            shutil.move(target, Path(temporary) / "old")
        os.replace(draft, target)
    return target


def update_metrics(
    folder: str | Path, metrics: Mapping[str, float], description: str | None = None
) -> None:
    """Write newly measured quality into a folder; the weights stay as they are.

    Args:
        folder: A pretrained folder.
        metrics: Name to number; replaces what was recorded.
        description: A sentence or two for the card; None leaves it.
    """
    folder = Path(folder)
    spec = read_spec(folder)
    spec["description"] = spec["description"] if description is None else description
    spec["metrics"] = {key: finite_or_none(value) for key, value in metrics.items()}
    for name, text in (("README.md", card.update(folder, spec)), ("model.json", _plain_json(spec))):
        draft = folder / f".{name}.{os.getpid()}"
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, folder / name)


def _check_round_trip(folder: Path, model: nn.Module) -> None:
    """Load what was written and compare every tensor, so a bad description fails at save time."""
    loaded = load_pretrained(folder)
    found = loaded.network if isinstance(loaded, PretrainedOperator) else loaded.solution
    state = found.state_dict()
    for name, value in model.state_dict().items():
        if not torch.equal(state[name], value.detach().cpu()):
            raise PretrainedError(f"'{name}' changed between saving and loading", "equal tensors")


def _plain_json(spec: Mapping[str, Any]) -> str:
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
