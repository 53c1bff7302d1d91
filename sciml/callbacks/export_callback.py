"""Leave the trained solution in the run folder in the pretrained format."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from sciml.networks.solutions.ansatz import Ansatz, network_sizes
from sciml.networks.solutions.time_windows import TimeWindows
from sciml.pretrained import save_operator, save_pretrained, training_ranges
from sciml.pretrained.checks.distance_checks import described
from sciml.pretrained.checks.joint import joint_range
from sciml.pretrained.classes import class_table
from sciml.pretrained.saving import own_solution
from sciml.pretrained.saving.save import update_metrics
from sciml.typed_arguments import typed

log = logging.getLogger(__name__)

RANGE_POINTS = 65536
RANGE_ELEMENTS = 2**22
RANGE_BATCHES = 16  # training batches whose ranges stand for all of an operator's

# Said where a file could not name what was trained.
UNKNOWN = (
    "no pretrained/ folder: the class of the %s is neither sciml's nor offered by a plug-in; "
    "CONTRIBUTING.md says how a package becomes one"
)
OWN = (
    "no pretrained/ folder, since a file may not name a class of your own: read the run with "
    "sciml.pinn.load(%r, %s())"
)


@typed
class ExportPretrained(pl.Callback):
    """Writes `pretrained/` when training ends and adds the test metrics when they are known.

    The module offers a solution as `trial` (a `TrialSolution`), or an operator as `network` (with
    a `schema`). A run whose problem or network is not in the table of published classes is not
    exported, and the log says so: such a class could not be named in the folder.

    Args:
        run_dir: The run folder.
        model: Name of the model configuration.
        config: The resolved configuration: `problem`, `network`, `data` and `seed` are read.

    Example:
        >>> from sciml.callbacks import ExportPretrained
        >>> callback = ExportPretrained("runs/mine", "pinn_poisson2d", {"seed": 0})
        >>> callback.folder.as_posix()
        'runs/mine/pretrained'
    """

    def __init__(self, run_dir: str | Path, model: str, config: Mapping[str, Any]) -> None:
        self.folder, self.model, self.config = Path(run_dir) / "pretrained", str(model), config
        self._written = False

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the folder after fit, its metrics after test; rank 0 only."""
        if not trainer.is_global_zero:
            return
        if stage == "fit":
            if hasattr(pl_module, "trial"):
                self._written = self._export(pl_module)
            elif isinstance(getattr(pl_module, "network", None), Ansatz | TimeWindows):
                self._written = self._system(pl_module.network)
            else:
                self._written = self._operator(trainer, pl_module)
        elif stage == "test" and self._written:
            metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
            update_metrics(
                self.folder, {k: v for k, v in sorted(metrics.items()) if k.startswith("test")}
            )

    def _export(self, pl_module: pl.LightningModule) -> bool:
        solution = getattr(pl_module, "trial", None)
        specs = {kind: describe(kind, self.config.get(kind)) for kind in ("problem", "network")}
        absent = [kind for kind, spec in specs.items() if spec is None]
        if solution is None or absent:
            what = " and ".join(absent) or "module"
            log.info(UNKNOWN, what)
            return False
        problem = solution.problem
        # What the builder adds to the configuration of a network: which inputs it has.
        specs["network"]["arguments"] |= {
            "dim": problem.dim if "x" in solution.inputs else 0,
            "time": "t" in solution.inputs,
            "features": len(solution.features),
        }
        n = max(16, min(RANGE_POINTS, RANGE_ELEMENTS // problem.dim))
        points = problem.sample(n, torch.Generator().manual_seed(0))
        save_pretrained(
            self.folder,
            solution,
            problem=specs["problem"],
            network=specs["network"],
            ranges=training_ranges(points.x, points.t),
            joint=joint_range(points.x, points.t),
            name=self.model,
            description=(type(problem).__doc__ or "").strip().splitlines()[0],
            data={"recipe": self.config.get("data"), "seed": self.config.get("seed")},
        )
        return True

    def _system(self, ansatz: Ansatz | TimeWindows) -> bool:
        specs = {kind: describe("part", self.config.get(kind)) for kind in ("problem", "network")}
        absent = [kind for kind, spec in specs.items() if spec is None]
        if absent == ["problem"]:  # the user's own class, which no file may name
            own = self.folder.parent / own_solution.FOLDER
            own_solution.write(own, ansatz, specs["network"], {})
            log.info(OWN, str(own.parent), type(ansatz.system).__name__)
            return False
        if absent:
            log.info(UNKNOWN, " and ".join(absent))
            return False
        system = ansatz.system
        # What the builder adds to the configuration of a network.
        specs["network"]["arguments"] |= network_sizes(system, ansatz.modes)
        ends = zip(system.region.low.tolist(), system.region.high.tolist(), strict=True)
        save_operator(
            self.folder,
            ansatz,
            arguments={
                "system": specs["problem"],
                "network": specs["network"],
                "modes": ansatz.modes,
                **({"windows": ansatz.windows} if isinstance(ansatz, TimeWindows) else {}),
            },
            ranges=dict(zip(system.region.variables, ends, strict=True)),
            name=self.model,
            description=(type(system).__doc__ or "").strip().splitlines()[0],
            data={"recipe": self.config.get("data"), "seed": self.config.get("seed")},
        )
        return True

    def _operator(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        network, data = getattr(pl_module, "network", None), trainer.datamodule
        spec = describe_operator(self.config, getattr(data, "sizes", {}))
        if not isinstance(network, nn.Module) or not hasattr(network, "schema") or spec is None:
            log.info(UNKNOWN, "network")
            return False
        known = network.schema()["inputs"]
        equation = describe("part", (self.config.get("module") or {}).get("equation"))
        # a module that has read all of its training set knows its ranges
        seen = {name: list(ends) for name, ends in getattr(data, "ranges", {}).items()}
        for step in range(0 if seen else RANGE_BATCHES):
            for name, value in data.batch(step).inputs.items():
                if name not in known or not value.is_floating_point():
                    continue
                if known[name].get("homogeneous"):  # its size means nothing, so it has no range
                    continue
                shown = described(name, value, getattr(network, "half", None))
                for quantity, part in shown.items():
                    key = name if quantity == "value" else f"{name}.{quantity}"
                    seen.setdefault(key, []).extend([float(part.min()), float(part.max())])
        save_operator(
            self.folder,
            network,
            arguments=spec["arguments"],
            ranges={name: (min(values), max(values)) for name, values in seen.items()},
            name=self.model,
            description=(type(network).__doc__ or "").strip().splitlines()[0],
            data={
                "recipe": self.config.get("data"),
                "seed": self.config.get("seed"),
                **({"equation": equation} if equation else {}),
            },
        )
        return True


def describe_operator(config: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict | None:
    """Return `{"class", "arguments"}` of a run's network, None if it or a part has no name.

    Args:
        config: The resolved configuration.
        sizes: What the data module tells the network.
    """
    node = config.get("network") or {}
    name = class_table.name_of("operator", str(node.get("_target_", "")))
    if name is None:
        return None
    accepted = inspect.signature(class_table.resolve("operator", name)).parameters
    parts = {key: config[key] for key in ("solver", "adjoint") if config.get(key)}
    given = {**parts, **sizes, **node}
    arguments = {}
    for key, value in given.items():
        if key not in accepted:
            continue
        if key == "coarse_solver":  # an object of the data module, fitted to them or as configured
            value = value.node() if hasattr(value, "node") else config["data"]["coarse"]
        if isinstance(value, Mapping) and "_target_" in value:
            value = describe("part", value)
            if value is None:
                return None
        arguments[key] = value
    return {"class": name, "arguments": arguments}


def describe(kind: str, node: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return `{"class", "arguments"}` of a configuration node, None if its class has no name."""
    name = class_table.name_of(kind, str((node or {}).get("_target_", "")))
    if name is None:
        return None
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    for key, value in arguments.items():
        if isinstance(value, Mapping) and "_target_" in value:
            arguments[key] = describe("part", value)
            if arguments[key] is None:
                return None
    return {"class": name, "arguments": arguments}
