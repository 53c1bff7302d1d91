"""Leave the trained solution in the run folder in the pretrained format."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from sciml.pretrained import save_pretrained, table, training_ranges
from sciml.pretrained.folder import update_metrics

log = logging.getLogger(__name__)

RANGE_POINTS = 16384
RANGE_ELEMENTS = 2**22


class ExportPretrained(pl.Callback):
    """Writes `pretrained/` when training ends and adds the test metrics when they are known.

    The module offers the solution as `trial` (a `TrialSolution`). A run whose problem or network
    is not in the table of published classes is not exported, and the log says so: such a class
    could not be named in the folder.

    Args:
        run_dir: The run folder.
        model: Name of the model configuration.
        config: The resolved configuration: `problem`, `network`, `data` and `seed` are read.
    """

    def __init__(self, run_dir: str | Path, model: str, config: Mapping[str, Any]) -> None:
        self.folder, self.model, self.config = Path(run_dir) / "pretrained", str(model), config
        self._written = False

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the folder after fit, its metrics after test; rank 0 only."""
        if not trainer.is_global_zero:
            return
        if stage == "fit":
            self._written = self._export(pl_module)
        elif stage == "test" and self._written:
            metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
            update_metrics(
                self.folder, {k: v for k, v in sorted(metrics.items()) if k.startswith("test/")}
            )

    def _export(self, pl_module: pl.LightningModule) -> bool:
        solution = getattr(pl_module, "trial", None)
        specs = {kind: describe(kind, self.config.get(kind)) for kind in ("problem", "network")}
        absent = [kind for kind, spec in specs.items() if spec is None]
        if solution is None or absent:
            what = " and ".join(absent) or "module"
            log.info("no pretrained/ folder: the class of the %s is not published", what)
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
            name=self.model,
            description=(type(problem).__doc__ or "").strip().splitlines()[0],
            data={"recipe": self.config.get("data"), "seed": self.config.get("seed")},
        )
        return True


def describe(kind: str, node: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return `{"class", "arguments"}` of a configuration node, None if its class has no name."""
    name = table.name_of(kind, str((node or {}).get("_target_", "")))
    if name is None:
        return None
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    return {"class": name, "arguments": arguments}
