"""Continuing interrupted runs."""

import csv
import json
import time
import zipfile

import pytest
import torch

from sciml.cli import resume
from sciml.errors import CheckpointError


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def steps(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_continue_where_it_stopped(run):
    """Stopped at step 8 of 12 (a checkpoint every 4), the rest is bit for bit the same."""
    assert run("model=toy", "hydra.run.dir=whole", "schedule=constant")[0] == 0
    words = ["model=toy", "schedule=constant"]
    assert run(*words, "trainer.max_steps=6")[0] == 0
    (folder,) = (run.work / "runs" / "toy").iterdir()
    # 6 was the last step of that run; go back to the checkpoint before it
    (folder / "checkpoints" / "last.ckpt").unlink()
    code, out, _ = run(*words, "ckpt_path=last")
    assert code == 0 and "at step 4" in out
    assert list((run.work / "runs" / "toy").iterdir()) == [folder]
    assert same(weights(folder), weights(run.work / "whole"))
    assert steps(folder) == list(range(12))
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 12


def test_path_of_a_checkpoint_continues_in_another_folder_if_asked(run):
    words = ["model=toy", "schedule=constant"]
    assert run(*words, "hydra.run.dir=whole")[0] == 0
    file = run.work / "whole" / "checkpoints" / "previous.ckpt"
    assert run(*words, f"ckpt_path={file}", "hydra.run.dir=other")[0] == 0
    assert same(weights(run.work / "other"), weights(run.work / "whole"))
    assert steps(run.work / "other") == list(range(12))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_newest_falls_back_with_a_warning(run, damage):
    words = ["model=toy", "schedule=constant", "hydra.run.dir=it"]
    assert run(*words)[0] == 0
    whole = weights(run.work / "it")
    last = run.work / "it" / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    if damage == "flipped":
        with zipfile.ZipFile(last) as archive:
            part = max(archive.infolist(), key=lambda info: info.file_size)
        content[part.header_offset + 100 + part.file_size // 2] ^= 1
    last.write_bytes({"truncated": content[:-500], "flipped": content, "empty": b""}[damage])
    code, out, _ = run(*words, "ckpt_path=last")
    assert code == 0 and "last.ckpt" in out and "continuing from" in out and "step 8" in out
    assert same(weights(run.work / "it"), whole)


def test_damaged_file_named_by_path_is_refused(run):
    assert run("model=toy", "hydra.run.dir=it")[0] == 0
    last = run.work / "it" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    code, _, err = run("model=toy", f"ckpt_path={last}")
    assert code == 2 and "truncated" in err and "previous.ckpt" in err and "Traceback" not in err
    (run.work / "it" / "checkpoints" / "previous.ckpt").write_bytes(b"")
    code, _, err = run("model=toy", "ckpt_path=last", "hydra.run.dir=it")
    assert code == 2 and "truncated" in err


def test_checkpoint_of_another_problem_is_refused(run):
    assert run("model=toy", "hydra.run.dir=it", "problem.dim=4")[0] == 0
    code, _, err = run("model=toy", "hydra.run.dir=it", "ckpt_path=last")
    assert code == 2 and "problem.dim=4 there, 3 here" in err and "config.yaml" in err


def test_a_file_that_names_code_is_not_run(run, tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"global_step": 1, "state_dict": Evil()}, tmp_path / "evil.ckpt")
    code, out, err = run("model=toy", f"ckpt_path={tmp_path}/evil.ckpt")
    assert code == 2 and "plain data" in err and "executed" not in out + err


def test_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        resume.find("last", tmp_path, given=True)
    with pytest.raises(CheckpointError, match="no run below"):
        resume.find("last", tmp_path / "stamp", given=False)


def test_killed_at_an_arbitrary_moment(run, program):
    """SIGKILL while steps run; the continued run ends bit-identical."""
    words = ["model=toy", "trainer.max_steps=900", "callbacks.checkpoint.every_steps=30"]
    whole = program(*words, "hydra.run.dir=whole")
    victim = program(*words, "hydra.run.dir=it")
    log = run.work / "it" / "metrics.csv"
    while victim.poll() is None and (not log.exists() or log.stat().st_size < 2000):
        time.sleep(0.01)
    victim.kill()
    victim.communicate()
    assert victim.returncode == -9, "the run was over before it could be killed"
    out, _ = whole.communicate()
    assert whole.returncode == 0, out
    code, out, err = run(*words, "hydra.run.dir=it", "ckpt_path=last")
    assert code == 0 and "continuing" in out, err
    assert same(weights(run.work / "it"), weights(run.work / "whole"))
    assert steps(run.work / "it") == list(range(900))
