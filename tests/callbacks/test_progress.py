import csv
import re

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.callbacks import Progress
from sciml.callbacks.progress import PointsPerSecond, clock, points_in
from sciml.data.batch import Batch as DataBatch


def test_lines_where_there_is_no_terminal(module, make_trainer, batches, capsys):
    make_trainer(Progress(seconds=0.0)).fit(module(), batches)
    out = capsys.readouterr().out
    assert "\r" not in out
    lines = [line for line in out.splitlines() if line.startswith("[0:0")]
    assert len(lines) == 10 and "step 10/10" in lines[-1]
    for text in ("train/loss ", " points/s"):
        assert text in lines[-1]
    assert "left" in lines[4] and "left" not in lines[-1]


def test_few_lines_by_default(module, make_trainer, batches, capsys):
    make_trainer(Progress()).fit(module(), batches)
    lines = [line for line in capsys.readouterr().out.splitlines() if "step" in line]
    assert len(lines) == 1 and "step 10/10" in lines[0]


def test_a_bar_in_a_terminal(module, make_trainer, batches, capsys, monkeypatch):
    monkeypatch.setattr("sciml.callbacks.progress.in_terminal", lambda: True)
    make_trainer(Progress(refresh_seconds=0.0)).fit(module(), batches)
    out = capsys.readouterr()
    text = re.split(r"[\r\n]", out.out + out.err)
    last = [line for line in text if "10/10" in line][-1]
    assert "train/loss" in last and "points/s" in last and "100%" in last


def test_rate_is_in_the_csv_file(module, make_trainer, batches, tmp_path):
    make_trainer(Progress()).fit(module(), batches)
    with (tmp_path / "metrics.csv").open() as file:
        rates = [float(r["train/points_per_s"]) for r in csv.DictReader(file)]
    assert len(rates) == 5 and all(rate > 8 for rate in rates)


def test_points_of_a_batch():
    class Batch:
        counts = {"interior": 10, "origin": 2}  # of the global batch

    assert points_in(Batch(), 4) == 12 and points_in([1, 2, 3], 4) == 12
    data = DataBatch({"x": torch.zeros(3, 1)}, torch.zeros(3), Streams(0, 0, 1, 4), 10)
    assert points_in(data, 4) == 10


def test_rate_leaves_pauses_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    rate = PointsPerSecond()
    rate.add(100)
    now[0] = 1.0
    rate.pause()
    now[0] = 50.0
    rate.resume()
    now[0] = 51.0
    assert rate.read() == pytest.approx(50.0)


def test_clock():
    assert [clock(s) for s in (0, 61.9, 3723)] == ["0:00", "1:01", "1:02:03"]
