"""What a continued run may change, must keep, and is told: from plain dictionaries."""

import argparse
from pathlib import Path

import pytest
import torch

from sciml.cli.memory import beyond_memory
from sciml.cli.records.read_checkpoint import Checkpoint, remarks
from sciml.cli.records.resume import (
    continues,
    fits,
    flat,
    same,
    same_training,
    take_over,
    within,
)
from sciml.cli.verbs.argument_types import real, whole
from sciml.errors import CheckpointError

HERE = {
    "model": "m",
    "seed": 1,
    "problem": {"_target_": "sciml.physics.Poisson", "dim": 3},
    "network": {"width": 8},
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1, "eps": 1e-8, "amsgrad": False},
    "data": {"points": 8},
    "schedule": {"_target_": "sciml.optim.Constant"},
    "trainer": {"max_steps": 10, "precision": "32-true", "devices": 1},
}


def changed(**words):
    """Return the configuration with other values at dotted keys, written with two underscores."""
    tree = {k: dict(v) if isinstance(v, dict) else v for k, v in HERE.items()}
    for key, value in words.items():
        group, _, last = key.partition("__")
        if last:
            tree[group][last] = value
        else:
            tree[group] = value
    return tree


def checkpoint(config=HERE, **more):
    tuned = frozenset({"lr", "eps", "amsgrad"})
    return Checkpoint(Path("r/checkpoints/last.ckpt"), Path("r"), 5, config, tuned=tuned, **more)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"seed": 2}, "seed=1 there, 2 here"),
        ({"problem__dim": 4}, "problem.dim=3 there, 4 here"),
        ({"network__width": 9}, "network.width"),
        ({"network__depth": 9}, "network.depth=None there, 9 here"),
        ({"optimizer___target_": "torch.optim.SGD"}, "optimizer._target_"),
        ({"model": "n"}, "model=m there"),
    ],
)
def test_what_makes_another_run_is_refused(words, said):
    with pytest.raises(CheckpointError, match="belongs to another run") as caught:
        same_training(checkpoint(), changed(**words))
    assert said in str(caught.value) and "config.yaml" in str(caught.value)


def test_a_new_rate_is_set_and_said():
    found = checkpoint()
    same_training(found, changed(optimizer__lr=0.3, optimizer__eps=1e-6))
    assert found.settings == {"lr": (0.1, 0.3), "eps": (1e-8, 1e-6)}
    assert found.warnings == [
        "from here on optimizer.lr=0.3, it was 0.1",
        "from here on optimizer.eps=1e-06, it was 1e-08",
    ]


@pytest.mark.parametrize(
    "words", [{"optimizer__amsgrad": True}, {"optimizer__momentum": 0.5}, {"optimizer__lr": None}]
)
def test_settings_that_cannot_be_set_are_told(words):
    found = checkpoint()
    same_training(found, changed(**words))
    assert not found.settings and len(found.warnings) == 1
    assert "was trained with other settings: optimizer." in found.warnings[0]


def test_a_rate_of_zero_has_no_ratio():
    found = checkpoint(changed(optimizer__lr=0.0))
    same_training(found, changed(optimizer__lr=0.1))
    assert not found.settings and "optimizer.lr=0.0 there, 0.1 here" in found.warnings[0]


def test_more_steps_and_other_devices_are_nobodys_business_unless_a_schedule_decays():
    found = checkpoint()
    same_training(found, changed(trainer__max_steps=20, trainer__devices=2))
    assert not found.warnings
    decaying = {"_target_": "sciml.optim.Exponential"}
    found = checkpoint(changed(schedule=decaying))
    same_training(found, changed(schedule=decaying, trainer__max_steps=20))
    assert "trainer.max_steps=10 there, 20 here" in found.warnings[0]
    found = checkpoint()
    same_training(found, changed(trainer__precision="bf16-mixed", data__points=9))
    assert len(found.warnings) == 1
    assert "data.points" in found.warnings[0] and "trainer.precision" in found.warnings[0]


def test_classes_are_told_by_name_and_keys_by_their_groups():
    assert same("a._target_", "sciml.old.place.Class", "sciml.new.Class")
    assert not same("a._target_", "sciml.old.Class", "other.old.Class")
    assert not same("a._target_", "sciml.old.Class", "sciml.old.Other")
    assert not same("a.path", "sciml.old.Class", "sciml.new.Class") and same("x", 1, 1)
    assert within("network.width", ("network",)) and within("network", ("network",))
    assert not within("networks.width", ("network",)) and not within("net", ("network",))
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {"a.b": 1, "a.c.d": 2, "e": [3]}


# --- weights ------------------------------------------------------------------------------------
class Known:
    """Two weights and a buffer."""

    def __init__(self):
        self.weight, self.bias = torch.nn.Parameter(torch.zeros(2, 3)), torch.zeros(4)

    def state_dict(self):
        """Return both."""
        return {"weight": self.weight, "bias": self.bias}

    def named_parameters(self):
        """Return the one that is trained."""
        return [("weight", self.weight)]


def test_weights_of_another_network_are_refused():
    shapes = {"weight": (2, 3), "bias": (4,)}
    found = checkpoint(weights=shapes, ranks=2)
    fits(found, Known(), 2)
    assert not found.warnings
    for other, said in (
        ({"weight": (3, 2), "bias": (4,)}, r"weight is \(3, 2\) there, \(2, 3\) here"),
        ({"weight": (2, 3)}, "bias is missing there"),
        ({**shapes, "more": (1,)}, r"more is \(1,\) there, unknown here"),
    ):
        with pytest.raises(CheckpointError, match=said):
            fits(checkpoint(weights=other), Known(), 1)


def test_weights_that_are_no_numbers_are_refused_where_they_are_trained():
    shapes = {"weight": (2, 3), "bias": (4,)}
    fits(checkpoint(weights=shapes, endless=frozenset({"bias"})), Known(), 1)  # a buffer may be
    with pytest.raises(CheckpointError, match="not finite: weight"):
        fits(checkpoint(weights=shapes, endless=frozenset({"weight"})), Known(), 1)


@pytest.mark.parametrize(("there", "here", "told"), [(None, 2, 0), (2, 2, 0), (2, 1, 1), (1, 4, 1)])
def test_another_number_of_processes_is_told(there, here, told):
    found = checkpoint(weights={"weight": (2, 3), "bias": (4,)}, ranks=there)
    fits(found, Known(), here)
    assert len(found.warnings) == told
    assert not told or f"written by {there} processes, {here} continue" in found.warnings[0]


def test_what_a_file_lacks_is_remarked():
    import sciml

    whole = {
        "sciml": {"version": sciml.__version__, "torch": str(torch.__version__), "parts": {}},
        "random_streams": [],
    }
    assert remarks(Path("a.ckpt"), whole) == []
    old = {**whole, "sciml": {**whole["sciml"], "version": "0.0.1"}}
    assert "was written by sciml 0.0.1" in remarks(Path("a.ckpt"), old)[0]
    old = {**whole, "sciml": {**whole["sciml"], "torch": "1.0"}}
    assert "was written by torch 1.0" in remarks(Path("a.ckpt"), old)[0]
    assert "no random streams" in remarks(Path("a.ckpt"), {"sciml": whole["sciml"]})[0]
    bare = {"sciml": {}, "random_streams": []}
    assert "changes to it would go unnoticed" in remarks(Path("a.ckpt"), bare)[0]


# --- folders ------------------------------------------------------------------------------------
def test_rows_before_the_checkpoint_are_taken_over(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "checkpoints").mkdir(parents=True)
    target.mkdir()
    (source / "metrics.csv").write_text("step,train/loss\n0,4\n3,3\n4,2\n5,1\n9,0\n")
    found = checkpoint()
    found.run_dir = source
    take_over(found, target)
    # rows are numbered from 0: five steps are 0 to 4
    assert (target / "metrics.csv").read_text().split() == ["step,train/loss", "0,4", "3,3", "4,2"]
    assert not (target / "checkpoints").exists()  # no best state to take
    assert continues(found, source) and not continues(found, target)
    assert not continues(None, source)
    found.run_dir = None
    assert not continues(found, source)


# --- numbers of command lines -------------------------------------------------------------------
def test_whole_numbers_within_bounds():
    read = whole(2, 5)
    assert [read(text) for text in ("2", "5", " 3 ")] == [2, 5, 3]
    for text in ("1", "6", "2.5", "x", "", "-3", "1e1", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="a whole number from 2 to 5"):
            read(text)
    assert whole(0)("1000000000") == 10**9
    with pytest.raises(argparse.ArgumentTypeError):
        whole(0)("1000000001")


def test_real_numbers_within_bounds():
    read, above = real(0.5, 2.0), real(0.5, 2.0, open_below=True)
    assert read("0.5") == 0.5 and read("2") == above("2") == 2.0 and above("0.6") == 0.6
    for text in ("0.49", "2.1", "nan", "inf", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"a number from 0\.5 to 2"):
            read(text)
    with pytest.raises(argparse.ArgumentTypeError, match=r"a number above 0\.5 to 2"):
        above("0.5")


def test_what_says_that_memory_is_not_enough():
    assert beyond_memory(MemoryError()) and beyond_memory(RuntimeError("CUDA out of memory. Tried"))
    assert not beyond_memory(RuntimeError("out of luck"))
    assert beyond_memory(ValueError("array is too big; `arr.size * arr.dtype.itemsize`"))
