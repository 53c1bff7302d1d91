"""Metrics as one CSV file that grows, also across a resume."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from sciml.typed_arguments import typed


@typed
class CSVLog(Logger):
    """Writes `metrics.csv` in the run folder, a row per logging call, complete after each.

    Lightning's own CSV logger starts a new file when a run resumes and keeps rows in memory until
    it flushes; this one goes on in the same file and loses nothing when the process is killed.
    A metric that shows up later adds a column.

    Args:
        run_dir: The run folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sciml.callbacks import CSVLog
        >>> with tempfile.TemporaryDirectory() as run:
        ...     log = CSVLog(run)
        ...     log.log_metrics({"train/loss": 0.5}, step=1)
        ...     log.log_metrics({"train/loss": 0.25, "val/loss": 0.3}, step=2)
        ...     rows = Path(run, "metrics.csv").read_text().splitlines()
        >>> len(rows), rows[0]
        (3, 'step,train/loss,val/loss')
    """

    def __init__(self, run_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(run_dir) / "metrics.csv"
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Name of the run."""
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run folder holds the whole configuration in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row.

        Args:
            metrics: Name to number.
            step: Optimizer step the numbers belong to.
        """
        row = {"step": step, **{k: repr(float(v)) for k, v in metrics.items() if k != "epoch"}}
        if self._columns is None:
            self._columns = read_rows(self.path)[0]
        missing = [name for name in row if name not in self._columns]
        if missing:
            columns, rows = read_rows(self.path)
            self._columns = [*columns, *missing]
            write_rows(self.path, self._columns, rows)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return columns and rows of a metrics file; a row cut off by a kill is left out."""
    if not path.exists():
        return [], []
    with path.open(newline="") as file:
        text = file.read()
    complete = text[: text.rfind("\n") + 1].splitlines()
    reader = csv.DictReader(complete)
    rows = [row for row in reader if None not in row.values() and None not in row]
    return list(reader.fieldnames or []), rows


def write_rows(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    """Write a metrics file as a whole, or leave the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def rewind(path: Path, step: int, source: Path | None = None) -> None:
    """Drop rows a resumed run will write again.

    Lightning logs a row after optimizer step s under the number s - 1, so the rows of a
    checkpoint taken after `step` steps are those numbered below `step`.

    Args:
        path: The metrics file to write.
        step: Optimizer steps done in the checkpoint.
        source: Where to read the rows, if elsewhere.
    """
    columns, rows = read_rows(source or path)
    if columns:
        write_rows(path, columns, [row for row in rows if row["step"] and int(row["step"]) < step])
