"""Whole runs of the command line."""

import csv
import json
import os
import signal
import time
from pathlib import Path

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


def test_a_second_run_in_the_same_folder_replaces_the_first_if_told(run):
    assert run("model=toy", "hydra.run.dir=it")[0] == 0
    code, out, _ = run("model=toy", "hydra.run.dir=it", "trainer.max_steps=3", "overwrite=true")
    assert code == 0 and "replacing the run" in out
    assert len((run.work / "it" / "metrics.csv").read_text().splitlines()) == 1 + 3 + 1
    said = [torch.load(f)["global_step"] for f in (run.work / "it" / "checkpoints").glob("*.ckpt")]
    assert sorted(said) == [0, 3]


def test_multirun(run):
    code, out, err = run("-m", "model=toy", "optimizer=adam,sgd", "seed=1,2")
    assert (code, err) == (0, "")
    found = [json.loads(f.read_text()) for f in (run.work / "runs" / "toy").glob("*/metrics.json")]
    assert sorted((r["optimizer"], r["seed"]) for r in found) == [
        ("adam", 1),
        ("adam", 2),
        ("sgd", 1),
        ("sgd", 2),
    ]


def test_one_bad_run_of_a_sweep_does_not_hide_the_others(run):
    code, _, err = run("-m", "model=toy", "problem.dim=2,-1,3")
    assert code == 2 and "problem.dim=-1" in err
    assert len(list((run.work / "runs" / "toy").glob("*/metrics.json"))) == 2


@pytest.mark.parametrize("sweep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ranks_share_one_folder(program, run, sweep):
    words = ["model=toy", "trainer=ddp", "trainer.max_steps=4"]
    words = ["-m", *words, "seed=1,2"] if sweep else words
    process = program(*words)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    folders = list((run.work / "runs" / "toy").iterdir())
    assert len(folders) == (2 if sweep else 1), out
    for folder in folders:
        assert json.loads((folder / "metrics.json").read_text())["world_size"] == 2
        assert len(torch.load(folder / "checkpoints/last.ckpt")["random_streams"]) == 2
    assert out.count("files: ") == len(folders)


def test_failure_is_recorded(run, monkeypatch):
    import toy

    def diverge(self, batch, batch_idx):
        raise TrainingDiverged("the loss is nan at step 0")

    monkeypatch.setattr(toy.Module, "training_step", diverge)
    code, _, err = run("model=toy", "hydra.run.dir=it")
    assert code == 1 and err == "error: the loss is nan at step 0.\n"
    assert json.loads((run.work / "it" / "metrics.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("ask", [lambda: torch.empty(10**15), lambda: bytearray(10**17)])
def test_memory_that_ends_in_a_step_is_a_message(run, monkeypatch, ask):
    import toy

    monkeypatch.setattr(toy.Module, "training_step", lambda *arguments: ask())
    code, _, err = run("model=toy", "hydra.run.dir=it")
    assert code == 1 and "it stopped, out of memory: " in err
    assert "Type smaller sizes" in err and "Traceback" not in err
    assert json.loads((run.work / "it" / "metrics.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("batches", [1, 3])
def test_validations_are_counted_in_steps(run, monkeypatch, batches):
    import toy

    seen = []
    monkeypatch.setattr(toy.Data, "val_dataloader", toy.Data.test_dataloader, raising=False)
    monkeypatch.setattr(
        toy.Module, "validation_step", lambda self, *_: seen.append(self.global_step)
    )
    words = ("trainer.val_check_interval=5", f"trainer.accumulate_grad_batches={batches}")
    assert run("model=toy", "trainer.max_steps=11", *words)[0] == 0
    assert seen == [5, 10]


@pytest.mark.parametrize(
    "name",
    [
        "SIGINT",
        "SIGHUP",
        *(
            pytest.param(f"SIG{n}", marks=pytest.mark.slow)
            for n in ("TERM", "USR1", "USR2", "XCPU")
        ),
    ],
)
def test_interrupt_is_recorded(run, program, name):
    process = program("model=toy", "trainer.max_steps=1000000", "hydra.run.dir=it")
    log = run.work / "it" / "metrics.csv"
    while process.poll() is None and not log.exists():
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "ckpt_path=last" in out and "Traceback" not in out
    assert json.loads((run.work / "it" / "metrics.json").read_text())["status"] == "interrupted"


# Seconds after start-up at which a rank is killed or, the last one, stopped; None for steps.
LOST = [(0.0, "KILL"), (4.0, "KILL"), (None, "KILL"), (None, "STOP")]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "other"])
@pytest.mark.parametrize(("wait", "how"), LOST)
def test_a_lost_rank_ends_the_other(run, program, victim, wait, how):
    """Within a minute, and the record says that the run failed."""
    process = program("model=toy", "trainer=ddp", "trainer.max_steps=1000000", "hydra.run.dir=it")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text().split():
        time.sleep(0.02)
    other = int(children.read_text().split()[0])
    while wait is None and not (run.work / "it" / "metrics.csv").exists():
        time.sleep(0.02)
    time.sleep(wait or 0)
    begin = time.monotonic()
    os.kill(process.pid if victim == "first" else other, getattr(signal, f"SIG{how}"))
    out, _ = process.communicate(timeout=60)  # the other holds the pipe open as long as it lives
    took = time.monotonic() - begin
    print(f"{victim} rank, {how} after {wait}: {took:.1f} s, code {process.returncode}\n{out}")
    assert json.loads((run.work / "it" / "metrics.json").read_text())["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize(("wait", "how"), LOST)
def test_a_rank_of_torchrun_that_is_lost_ends_the_other(run, program, victim, wait, how):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["model=toy", "trainer=ddp", "trainer.max_steps=1000000", "hydra.run.dir=it"]
    process = program(*words, launcher=launcher)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 2:
        time.sleep(0.02)
    while wait is None and not (run.work / "it" / "metrics.csv").exists():
        time.sleep(0.02)
    time.sleep(wait or 0)
    os.kill(int(children.read_text().split()[victim]), getattr(signal, f"SIG{how}"))
    begin = time.monotonic()
    out, _ = process.communicate(timeout=60)
    took = time.monotonic() - begin
    print(f"rank {victim}, {how} after {wait}: {took:.1f} s, code {process.returncode}\n{out}")
    assert process.returncode == 1
    record = run.work / "it" / "metrics.json"  # none if it was over before there was anything
    assert not record.exists() or json.loads(record.read_text())["status"] == "failed"


def test_help_lists_models_and_examples(run):
    code, out, _ = run("--help")
    assert code == 0 and "pinn_hjb" in out and out.count("  python train.py") == 4


def test_hydra_shows_the_configuration(run):
    code, out, _ = run("model=toy", "--cfg", "job")
    assert code == 0 and "_target_: toy.Problem" in out
