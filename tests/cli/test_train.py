"""Whole runs of the command line."""

import csv
import json

import pytest
import torch

from sciml.errors import TrainingDiverged


def test_run_folder(run):
    code, out, err = run("model=toy", "seed=3")
    assert (code, err) == (0, "")
    (folder,) = (run.work / "runs" / "toy").iterdir()
    assert (folder / "config.yaml").read_text().startswith("# python train.py model=toy seed=3\n")
    said = json.loads((folder / "metrics.json").read_text())
    assert said["status"] == "completed" and said["seed"] == 3 and said["steps"] == 12
    assert said["optimizer"] == "adam" and "test/rel_l2" in said["metrics"]
    with (folder / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == list(range(12))
    assert (folder / "run.log").exists() and "test/rel_l2" in out
