"""The pretrained folder: `model.json`, `weights.safetensors`, `README.md`.

Everything in it is data. `model.json` holds the format version, class names from a fixed table,
plain constructor arguments, the input and output schema with units and ranges, metrics, the data
recipe and the SHA-256 of the weights. Reading is strict: whatever is missing, unknown or does not
match is an error that says which file and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from sciml.arguments import device as device_
from sciml.arguments import maybe, path, takes, text
from sciml.errors import InvalidArgument, PretrainedError, did_you_mean
from sciml.pretrained.checks.schema_checks import check_schema
from sciml.pretrained.classes.class_table import CLASSES, kind_of, resolve
from sciml.pretrained.classes.described_objects import REFUSALS, build
from sciml.pretrained.files import hub, weights
from sciml.pretrained.files.model_description import read_spec
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator
from sciml.pretrained.predictors.pretrained_pinn import PretrainedPINN

SHIPPED = Path(__file__).parents[1] / "models"


def list_pretrained() -> list[str]:
    """Return the names of the models shipped with the package, sorted.

    Example:
        >>> import sciml
        >>> "wos_poisson2d" in sciml.list_pretrained()
        True
    """
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
        revision: Of a model on the hub, see `sciml.pretrained.files.hub`.

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
    kind = {"solution": PretrainedPINN, "operator": PretrainedOperator}[kind_of(spec)]
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
    own = [place for place in (path, path / "solution") if (place / "solution.json").exists()]
    if whole and own:
        raise PretrainedError(
            f"{path} holds a solution of somebody's own problem, whose class no file may name",
            "a pretrained folder",
            f"Write sciml.pinn.load({str(path)!r}, problem) with an instance of that class",
        )
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
    if kind_of(spec) == "operator":
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
