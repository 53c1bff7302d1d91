"""Progress: named losses and points per second, in a terminal and in a log file."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar

from sciml.typed_arguments import typed


def points_in(batch: object, world_size: int = 1) -> int:
    """Return the number of points of one step over all ranks.

    A batch says so itself (`counts`: points of the global batch by kind; `count`: its rows) or has
    a length.
    """
    rows = getattr(batch, "count", None)
    if isinstance(rows, int):  # lists have a method of that name
        return rows
    counts = getattr(batch, "counts", None)
    return sum(counts.values()) if counts else len(batch) * world_size


def in_terminal() -> bool:
    """Return whether standard output is a terminal a bar can be redrawn in."""
    return sys.stdout.isatty()


class PointsPerSecond:
    """Points per second over the time since the last reading.

    Time between readings includes whatever happened in it, so the number is what a user waits
    for; validation is left out with `pause` and `resume`.
    """

    def __init__(self) -> None:
        self.points, self.start, self.paused = 0, time.perf_counter(), 0.0

    def add(self, points: int) -> None:
        """Count the points of one step."""
        self.points += points

    def pause(self) -> None:
        """Stop the clock."""
        self.paused = time.perf_counter()

    def resume(self) -> None:
        """Let the clock run on."""
        self.start += time.perf_counter() - self.paused

    def read(self) -> float:
        """Return the rate since the last reading and start anew."""
        now = time.perf_counter()
        rate = self.points / max(now - self.start, 1e-9)
        self.points, self.start = 0, now
        return rate


# Metrics beside the bar, where a run has them.
SHOWN = ("train/loss", "val/loss", "val/residual", "val/iterations")


@typed
class Progress(TQDMProgressBar):
    """One bar over all steps of a run, or one line every few seconds where there is no terminal.

    Shown are the metrics of `SHOWN` and points/s (over all ranks), also logged as
    `train/points_per_s`; samples where that is what a batch counts. Reading a metric waits for the
    device, so it happens at most five times per second. Nothing may be logged with `prog_bar=True`:
    Lightning then reads it in every step, shown or not.

    Args:
        seconds: Least time between two lines when output is not a terminal.
        refresh_seconds: Least time between two redraws in a terminal.

    Example:
        >>> from sciml.callbacks import Progress
        >>> Progress(seconds=60.0).seconds  # in a log file a line a minute
        60.0
    """

    BAR_FORMAT = (
        "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
    )

    def __init__(self, seconds: float = 10.0, refresh_seconds: float = 0.2) -> None:
        super().__init__(leave=False)
        self.seconds, self.refresh_seconds = float(seconds), float(refresh_seconds)
        self.clock = PointsPerSecond()
        self.rate, self.unit = float("nan"), "points"
        self._shown = self._begin = 0.0
        self._first_step = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Draw bars only into a terminal, only on rank 0."""
        super().setup(trainer, pl_module, stage)
        self._talks = trainer.is_global_zero
        if not in_terminal():
            self.disable()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar at the step training continues from."""
        self._begin = self._shown = time.perf_counter()
        self._first_step = trainer.global_step
        self.clock = PointsPerSecond()
        self.train_progress_bar = self.init_train_tqdm()
        self.train_progress_bar.total = total_steps(trainer)
        self.train_progress_bar.initial = self.train_progress_bar.n = trainer.global_step
        self.train_progress_bar.set_description("train")

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: object) -> None:
        """Keep the one bar: it counts steps of the run, not batches of an epoch."""

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count points, log the rate with the other metrics, redraw or print when it is time."""
        self.clock.add(points_in(batch, trainer.world_size))
        self.unit = getattr(batch, "unit", "points")
        if trainer._logger_connector.should_update_logs:
            self.rate = self.clock.read()
            pl_module.log(f"train/{self.unit}_per_s", self.rate, rank_zero_only=True)
        now, step = time.perf_counter(), trainer.global_step
        wait = self.refresh_seconds if self.is_enabled else self.seconds
        if self._talks and (now - self._shown >= wait or step == total_steps(trainer)):
            self._shown = now
            if self.is_enabled:
                self.train_progress_bar.n = step
                self.train_progress_bar.set_postfix_str(self._numbers(trainer, pl_module))
            else:
                self._line(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the one bar open."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave validation out of the rate."""
        self.clock.pause()
        super().on_validation_start(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the clock run on."""
        super().on_validation_end(trainer, pl_module)
        self.clock.resume()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict:
        """Return the metrics to show, as numbers."""
        known = trainer.callback_metrics
        return {name: float(known[name]) for name in SHOWN if name in known}

    def _numbers(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        metrics = self.get_metrics(trainer, pl_module)
        items = [f"{name} {_short(value)}" for name, value in metrics.items()]
        if self.rate == self.rate:
            rate = f"{self.rate:,.0f}" if self.rate >= 100 else f"{self.rate:.3g}"
            items.append(f"{rate} {self.unit}/s")
        return ", ".join(items)

    def _line(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step, total, now = trainer.global_step, total_steps(trainer), time.perf_counter()
        done, elapsed = step - self._first_step, now - self._begin
        text = f"step {step}" + (f"/{total}" if total else "")
        if total and done and step < total:
            text += f", {clock(elapsed / done * (total - step))} left"
        print(f"[{clock(elapsed)}] {text} | {self._numbers(trainer, pl_module)}", flush=True)


def total_steps(trainer: pl.Trainer) -> int | None:
    """Return the number of optimizer steps the run will make, None if only time limits it."""
    total = trainer.estimated_stepping_batches if trainer.max_steps < 0 else trainer.max_steps
    return int(total) if total != float("inf") and total >= 0 else None


def clock(seconds: float) -> str:
    """Return seconds as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
