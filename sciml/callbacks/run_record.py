"""The record of a run: `metrics.json` and the closing table."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from sciml.typed_arguments import typed

log = logging.getLogger(__name__)

KEY = "metrics"  # of a checkpoint
STATUS = ("running", "completed", "failed", "interrupted")


@typed
class RunRecord(pl.Callback):
    """Collects what a run did and writes it, whatever way the run ends.

    The record says "running" from the start, so a run that is killed without warning leaves no
    other's. In a folder that holds a record already it is replaced when the first step is done: a
    run that is refused before leaves it alone.

    An exception inside Lightning writes the record by itself ("interrupted" for Ctrl-C and
    SIGTERM, else "failed"). The program around the trainer calls `finish("completed")` after the
    last stage, or `finish("failed")` for an error outside Lightning. Only rank 0 writes.

    Args:
        run_dir: The run folder.
        model: Name of the model configuration.
        optimizer: Name of the optimizer configuration.
        config: The resolved configuration; `seed` is read, and `reference`: metric name to the
            number a user should expect, shown in the closing table.

    Example:
        >>> from sciml.callbacks import RunRecord
        >>> record = RunRecord("runs/mine", "pinn_poisson2d", "adam", {"seed": 3})
        >>> found = record.as_dict()
        >>> found["model"], found["optimizer"], found["seed"], found["status"]
        ('pinn_poisson2d', 'adam', 3, 'running')
    """

    def __init__(
        self, run_dir: str | Path, model: str, optimizer: str, config: Mapping[str, Any]
    ) -> None:
        self.run_dir = Path(run_dir)
        self.model, self.optimizer = str(model), str(optimizer)
        self.seed = config.get("seed")
        self.reference: dict[str, Any] = dict(config.get("reference") or {})
        self.status = "running"
        self.begun = False
        self.metrics: dict[str, float] = {}
        self.baselines: dict[str, float] = {}
        self.steps, self.parameters, self.world_size = 0, 0, 1
        self.device = "cpu"
        self._seconds = {"fit": 0.0, "test": 0.0}
        self._since: dict[str, float] = {}
        self._writes = True

    # --- counting ---------------------------------------------------------------------------
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Note where and how large the run is, and start the clock of this stage."""
        self._writes = trainer.is_global_zero
        self.world_size = trainer.world_size
        self.device = trainer.strategy.root_device.type
        self.parameters = sum(p.numel() for p in pl_module.parameters())
        if not (self.run_dir / "metrics.json").exists():
            self.begin()
        if stage in self._seconds:
            self._since[stage] = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return the time spent so far, so that a resumed run goes on counting."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the time spent before the interruption."""
        self._seconds.update({k: float(v) for k, v in state_dict["seconds"].items()})

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take over what the last step left, should there be no other to make."""
        self.steps = int(checkpoint["global_step"])
        self.metrics.update(checkpoint.get(KEY) or {})

    @property
    def seconds(self) -> dict[str, float]:
        """Time spent in fit and test up to now, earlier parts of a resumed run included."""
        now = time.perf_counter()
        return {k: v + now - self._since.get(k, now) for k, v in self._seconds.items()}

    def _stop_clock(self, stage: str) -> None:
        if stage in self._since:
            self._seconds = {**self._seconds, stage: self.seconds[stage]}
            del self._since[stage]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Begin, if another record was in the way."""
        if not self.begun:
            self.begin()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write how far the run has come: should it be killed, it goes on from here."""
        self.steps = trainer.global_step
        self.metrics.update({k: float(v) for k, v in trainer.callback_metrics.items()})
        checkpoint[KEY] = dict(self.metrics)
        if self.begun and trainer.state.fn == "fit":
            self.finish("running")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the number of optimizer steps."""
        self.steps = trainer.global_step

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop the clock and keep the metrics, which the next stage forgets."""
        self._stop_clock(stage)
        self._collect(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Write the record of a run that did not end by itself."""
        for stage in list(self._since):
            self._stop_clock(stage)
        self.steps = max(self.steps, trainer.global_step)
        self._collect(trainer, pl_module)
        stopped = isinstance(exception, KeyboardInterrupt | SystemExit) or (
            type(exception).__name__ == "SIGTERMException"  # not public in Lightning
        )
        self.status = "interrupted" if stopped else "failed"
        if not self.begun:
            return
        try:
            self.finish(self.status)
        except OSError as error:  # the exception may well be about the very disk
            log.error("cannot write %s: %s", self.run_dir / "metrics.json", error)
            if self._writes and self.status == "failed":
                mark_failed_in_place(self.run_dir / "metrics.json")

    def _collect(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.metrics.update({k: float(v) for k, v in trainer.callback_metrics.items()})
        report = getattr(pl_module, "test_report", None) or {}
        self.metrics.update({k: float(v) for k, v in report.get("metrics", {}).items()})
        self.baselines = {k: float(v) for k, v in report.get("baselines", {}).items()}

    # --- writing ----------------------------------------------------------------------------
    def as_dict(self) -> dict[str, Any]:
        """Return the content of `metrics.json`, schema 1; metrics that are not finite are null."""
        return {
            "schema": 1,
            "status": self.status,
            "model": self.model,
            "optimizer": self.optimizer,
            "seed": self.seed,
            "metrics": {k: _json_number(v) for k, v in sorted(self.metrics.items())},
            "steps": int(self.steps),
            "seconds": {k: round(v, 3) for k, v in self.seconds.items()},
            "parameters": int(self.parameters),
            "device": self.device,
            "world_size": int(self.world_size),
            "versions": versions(),
        }

    def begin(self) -> None:
        """Write that the run is under way."""
        self.begun = True
        self.finish("running")

    def finish(self, status: str = "completed") -> None:
        """Write `metrics.json` with this status, replacing an earlier one as a whole."""
        if status not in STATUS:
            raise ValueError(f"status={status!r}. Expected one of {', '.join(STATUS)}.")
        self.status = status
        if self._writes:
            write_json(self.run_dir / "metrics.json", self.as_dict())

    def table(self) -> str:
        """Return the closing table: metric, value, baseline, reference; files."""
        rows = [("metric", "value", "baseline", "reference")]
        for name, value in sorted(self.metrics.items(), key=_rank):
            if name.startswith("test/baseline/"):
                continue  # baselines have a column of their own
            further = name.startswith("test_") and name.endswith("/rel_l2")
            if not (name.startswith("test/") or further) and name not in self.reference:
                continue  # of further test sets: the error, and what a user is told to expect
            others = sorted(self.baselines.items(), key=lambda item: item[1])
            shown = [f"{_number(v)} {k}" for k, v in others] if name == "test/rel_l2" else []
            if name.startswith("test/skill"):
                shown = ["1 by definition"]
            rows.append(
                (name, _number(value), *(shown[:1] or ["-"]), _reference(self.reference, name))
            )
            rows += [("", "", more, "") for more in shown[1:]]
        seconds, total = self.seconds, sum(self.seconds.values())
        foot = [
            f"{self.status}: {self.steps} steps, {total:.1f} s (fit {seconds['fit']:.1f}, "
            f"test {seconds['test']:.1f}), {self.parameters:,} parameters, {self.device}",
            f"files: {self.run_dir}",
        ]
        return "\n".join([*aligned(rows), *foot]) if len(rows) > 1 else "\n".join(foot)


def _rank(item: tuple[str, float]) -> tuple[bool, bool, str]:
    """Put the error first, then what compares it with the baselines, then the rest by name."""
    return item[0] != "test/rel_l2", not item[0].startswith("test/skill"), item[0]


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Return table rows as lines with columns of equal width and a rule below the first."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return [lines[0], "  ".join("-" * w for w in widths), *lines[1:]]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two threads may write: the run, and who watches whether all its ranks are there.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def mark_failed_in_place(path: Path) -> None:
    """Say in a record that the run failed where there is no room for a new one, on a full disk.

    As many bytes of the file replace as many.
    """
    before = b'"status": "running"'
    try:
        with path.open("r+b") as file:
            place = file.read().find(before)
            if place >= 0:
                file.seek(place)
                file.write(b'"status": "failed"'.ljust(len(before)))
    except OSError as error:
        log.error("%s goes on saying that the run is under way: %s", path, error)


def versions() -> dict[str, str]:
    """Return the versions a result may depend on."""
    import sciml

    found = {
        "torch": torch.__version__,
        "sciml": sciml.__version__,
        "lightning": pl.__version__,
        "python": platform.python_version(),
    }
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:.3e}" if value and abs(value) < 1e-2 or abs(value) >= 1e4 else f"{value:.4g}"


def _reference(reference: Mapping[str, Any], name: str) -> str:
    value = reference.get(name, "-")
    return _number(float(value)) if isinstance(value, int | float) else str(value)
