"""metrics.csv: one row per call, complete after each, continued after a kill."""

import random

import numpy as np
import torch

from sciml.callbacks.csv_log import CSVLog, read_rows, rewind
from sciml.callbacks.random_streams import random_states, restore_random_states


def test_rows_and_late_columns(tmp_path):
    log = CSVLog(tmp_path)
    log.log_metrics({"train/loss": 0.1, "epoch": 0}, step=0)
    assert read_rows(log.path) == (["step", "train/loss"], [{"step": "0", "train/loss": "0.1"}])
    log.log_metrics({"val/residual": torch.tensor(2.0), "epoch": 0}, step=1)
    log.log_metrics({"train/loss": 0.3}, step=2)
    columns, rows = read_rows(log.path)
    assert columns == ["step", "train/loss", "val/residual"]
    assert [tuple(row.values()) for row in rows] == [
        ("0", "0.1", ""),
        ("1", "", "2.0"),
        ("2", "0.3", ""),
    ]


def test_another_logger_goes_on_in_the_same_file(tmp_path):
    CSVLog(tmp_path).log_metrics({"a": 1.0}, step=0)
    CSVLog(tmp_path).log_metrics({"a": 2.0, "b": 3.0}, step=1)
    assert [row["a"] for row in read_rows(tmp_path / "metrics.csv")[1]] == ["1.0", "2.0"]


def test_rewind_drops_what_will_be_written_again_and_a_torn_row(tmp_path):
    log = CSVLog(tmp_path)
    for step in range(6):
        log.log_metrics({"loss": step}, step=step)
    text = log.path.read_text()
    log.path.write_text(text[:-2])  # killed in the middle of the last row
    assert len(read_rows(log.path)[1]) == 5
    rewind(log.path, 3)
    assert [row["step"] for row in read_rows(log.path)[1]] == ["0", "1", "2"]
    rewind(tmp_path / "other" / "metrics.csv", 2, source=log.path)
    assert len(read_rows(tmp_path / "other" / "metrics.csv")[1]) == 2
    rewind(tmp_path / "none.csv", 2)
    assert not (tmp_path / "none.csv").exists()


def test_random_streams_survive_a_checkpoint_of_plain_data(tmp_path):
    np.random.standard_normal()  # leaves a second number waiting in the stream
    torch.save(random_states(), tmp_path / "states.pt")

    def draws():
        return torch.rand(3).tolist(), np.random.standard_normal(3).tolist(), random.random()

    before = draws()
    assert draws() != before
    restore_random_states(torch.load(tmp_path / "states.pt", weights_only=True))
    assert draws() == before
