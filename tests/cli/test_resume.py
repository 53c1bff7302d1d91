"""Continuing interrupted runs."""

import copy
import csv
import json
import os
import time
import zipfile

import pytest
import torch

from sciml.callbacks.csv_log import CSVLog
from sciml.cli.records import read_checkpoint, resume
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


@pytest.fixture
def finished(run):
    assert run("model=toy", "hydra.run.dir=it")[0] == 0
    return run.work / "it" / "checkpoints" / "last.ckpt"


def entries(tree, path=()):
    """Yield the path of every entry of nested dictionaries."""
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from entries(value, (*path, key))


def test_every_change_to_a_checkpoint_is_named(finished, tmp_path):
    """Every entry of every dictionary deleted, of another type, of another shape, and one more."""
    content = torch.load(finished, weights_only=True)
    content["optimizer_states"] = dict(enumerate(content["optimizer_states"]))  # to walk through
    paths = [path for path in entries(content) if path[:2] != ("sciml", "parts")]
    assert len(paths) > 80
    for path in paths:
        for change in ("delete", "retype", "reshape", "add"):
            changed = copy.deepcopy(content)
            *head, last = path
            node = changed
            for key in head:
                node = node[key]
            if change == "delete":
                del node[last]
            elif change == "add":
                node[f"{last}_2"] = 1
            else:
                tensor = torch.is_tensor(node[last])
                node[last] = torch.zeros(2, 7) if change == "reshape" and tensor else [{"a": 1}]
            if isinstance(changed.get("optimizer_states"), dict):
                changed["optimizer_states"] = list(changed["optimizer_states"].values())
            with pytest.raises(CheckpointError, match="is|was not written"):
                read_checkpoint.understood(tmp_path, changed)


def test_optimizer_state_of_another_shape_is_refused_by_name(run, finished):
    content = torch.load(finished, weights_only=True)
    content["optimizer_states"][0]["state"][0]["exp_avg"] = torch.zeros(1)  # would broadcast
    torch.save(content, finished)
    code, _, err = run("model=toy", f"ckpt_path={finished}", "hydra.run.dir=new")
    assert code == 2 and "exp_avg is float32 (1,), was float32 (1, 3)" in err
    assert not (run.work / "new").exists()


@pytest.mark.parametrize("content", [None, [], "x", {"global_step": 1}, {"sciml": {"config": {}}}])
def test_other_files_are_refused(run, tmp_path, content):
    torch.save(content, tmp_path / "x.ckpt")
    code, _, err = run("model=toy", f"ckpt_path={tmp_path}/x.ckpt")
    assert code == 2 and "Traceback" not in err


@pytest.mark.parametrize("word", ["seed=1", "optimizer=sgd"])
def test_another_seed_or_optimizer_is_another_run(run, finished, word):
    code, _, err = run("model=toy", "hydra.run.dir=it", "ckpt_path=last", word)
    assert code == 2 and "belongs to another run" in err and word.partition("=")[0] in err


def test_a_new_learning_rate_acts_and_other_settings_are_told(run, finished):
    words = ["model=toy", "hydra.run.dir=it", "ckpt_path=last", "trainer.max_steps=14"]
    code, out, _ = run(*words, "optimizer.lr=1e-5", "data.points=9")
    assert code == 0 and "optimizer.lr=1e-05, it was 0.001" in out
    assert "data.points=8 there, 9 here" in out and "trainer.max_steps=12 there" in out
    group = torch.load(finished, weights_only=True)["optimizer_states"][0]["param_groups"][0]
    assert group["initial_lr"] == pytest.approx(1e-5, rel=1e-12)
    assert 0.4e-5 < group["lr"] < 0.6e-5  # near the end of a schedule that halves it


def test_what_a_checkpoint_lacks_is_told(run, finished, tmp_path):
    content = torch.load(finished, weights_only=True)
    del content["random_streams"], content["sciml"]["parts"]
    content["sciml"] |= {"version": "0.0.1", "world_size": 2}
    torch.save(content, tmp_path / "old.ckpt")
    code, out, _ = run("model=toy", f"ckpt_path={tmp_path}/old.ckpt", "hydra.run.dir=new")
    assert code == 0
    for text in (
        "sciml 0.0.1",
        "no random streams",
        "by 2 processes",
        "does not say what it holds",
    ):
        assert text in out


def test_a_completed_run_continued_says_the_same(run, finished):
    def said():
        record = json.loads((run.work / "it" / "metrics.json").read_text())
        return record["metrics"], record["steps"], (run.work / "it" / "metrics.csv").read_text()

    before = said()
    assert run("model=toy", "hydra.run.dir=it", "ckpt_path=last")[0] == 0
    assert said() == before


def test_a_table_of_metrics_that_was_taken_away_is_told(run, finished):
    (run.work / "it" / "metrics.csv").unlink()
    code, out, err = run("model=toy", "hydra.run.dir=it", "ckpt_path=last")
    assert code == 0 and "no rows of the first 12 steps" in out + err
    assert json.loads((run.work / "it" / "metrics.json").read_text())["status"] == "completed"


def test_a_linked_checkpoint_belongs_to_the_folder_it_lies_in(run, finished, tmp_path):
    finished.rename(tmp_path / "elsewhere.ckpt")
    finished.symlink_to(tmp_path / "elsewhere.ckpt")
    assert read_checkpoint.read(finished).run_dir == run.work / "it"


class PowerCut(BaseException):
    """Ends a run as a kill would, at a moment of our choice."""


def test_no_row_is_lost_between_checkpoint_and_log(run, monkeypatch):
    """Ended after the eighth step, with its checkpoint drafted and its row not yet written."""
    words = ["model=toy", "schedule=constant"]
    assert run(*words, "hydra.run.dir=whole")[0] == 0
    write = CSVLog.log_metrics

    def cut(self, metrics, step=None):
        if step == 7:
            raise PowerCut
        write(self, metrics, step)

    with monkeypatch.context() as patch:
        patch.setattr(CSVLog, "log_metrics", cut)
        with pytest.raises(PowerCut):
            run(*words, "hydra.run.dir=it")
    code, out, err = run(*words, "hydra.run.dir=it", "ckpt_path=last")
    assert code == 0 and "at step 4" in out, err
    files = [(run.work / name / "metrics.csv").read_text() for name in ("it", "whole")]
    assert files[0] == files[1]
    assert same(weights(run.work / "it"), weights(run.work / "whole"))


def test_a_sweep_continues_from_the_file_it_names(run, finished):
    words = ["-m", "model=toy", "trainer.max_steps=13", f"ckpt_path={finished}"]
    code, out, err = run(*words, "optimizer.lr=1e-3,1e-4")
    assert code == 0 and out.count("at step 12") == 2, err


def test_killed_at_an_arbitrary_moment(run, program):
    """SIGKILL while steps run; the continued run ends bit-identical."""
    words = ["model=toy", "trainer.max_steps=300", "callbacks.checkpoint.every_steps=20"]
    whole = program(*words, "hydra.run.dir=whole")
    victim = program(*words, "hydra.run.dir=it")
    log = run.work / "it" / "metrics.csv"
    while victim.poll() is None and (not log.exists() or log.stat().st_size < 1500):
        time.sleep(0.01)
    victim.kill()
    victim.communicate()
    assert victim.returncode == -9, "the run was over before it could be killed"
    out, _ = whole.communicate()
    assert whole.returncode == 0, out
    code, out, err = run(*words, "hydra.run.dir=it", "ckpt_path=last")
    assert code == 0 and "continuing" in out, err
    assert same(weights(run.work / "it"), weights(run.work / "whole"))
    assert steps(run.work / "it") == list(range(300))


def test_the_newest_run_is_continued_whatever_its_name(tmp_path):
    for name, age in (("2026-01-03", 30), ("2026-01-01", 10), ("2026-01-02", 20)):
        file = tmp_path / name / "checkpoints" / "last.ckpt"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        os.utime(file, (1e9 - age, 1e9 - age))
    assert resume.newest(tmp_path).name == "2026-01-01"
