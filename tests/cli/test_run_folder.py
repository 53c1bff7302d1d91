"""Whose a run folder is: used ones, refused commands, two processes at once."""

import json
import os
import stat

import pytest
import toy

from sciml.callbacks.checkpoint_file import CheckpointFile
from sciml.cli import paths
from sciml.cli.records import resume, run_folder
from sciml.errors import ConfigError, InvalidArgument


def state(folder):
    """Return name to content of everything but the log."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "run.log")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def record(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture
def used(run):
    assert run("model=toy", "hydra.run.dir=it")[0] == 0
    return run.work / "it"


def test_used_folder_is_refused(run, used):
    before = state(used)
    code, _, err = run("model=toy", "hydra.run.dir=it", "seed=1")
    assert code == 2 and "it holds another run" in err
    assert all(word in err for word in ("ckpt_path=last", "hydra.run.dir=", "overwrite=true"))
    code, _, err = run("model=toy", "hydra.run.dir=it", "ckpt_path=last", "overwrite=true")
    assert code == 2 and "overwrite=true with a checkpoint of the run" in err
    assert state(used) == before


@pytest.mark.parametrize(
    "where", ["__init__", "configure_optimizers", "on_train_start", "training_step"]
)
def test_what_is_refused_leaves_the_old_run_whole(run, used, monkeypatch, where):
    def refuse(self, *args, **kwargs):
        raise InvalidArgument(f"{where} came", "something else")

    before = state(used)
    monkeypatch.setattr(toy.Module, where, refuse)
    code, _, err = run("model=toy", "hydra.run.dir=it", "overwrite=true", "seed=1")
    assert code == 2 and f"{where} came" in err
    assert state(used) == before
    assert run("model=toy", "hydra.run.dir=new")[0] == 2
    assert not (run.work / "new").exists()


def test_overwrite_replaces_everything_of_the_old_run(run, used):
    (used / "pretrained").mkdir()
    for name in ("pretrained/model.json", "hpc_ckpt_1.ckpt", "checkpoints/best.ckpt", "notes.txt"):
        (used / name).write_text("old")
    code, out, _ = run("model=toy", "hydra.run.dir=it", "overwrite=true", "seed=1")
    assert code == 0 and "replacing the run" in out and record(used)["seed"] == 1
    assert "# python train.py model=toy" in (used / "config.yaml").read_text()
    assert set(state(used)) == {"config.yaml", "metrics.csv", "metrics.json", "notes.txt"} | {
        f"checkpoints/{name}.ckpt" for name in ("last", "previous")
    }


def test_the_record_says_running_from_the_start(run, monkeypatch):
    seen = []

    def look(self):
        seen.append(record(run.work / "it"))

    monkeypatch.setattr(toy.Module, "on_fit_start", look, raising=False)
    assert run("model=toy", "hydra.run.dir=it", "seed=5")[0] == 0
    assert seen[0]["status"] == "running" and seen[0]["seed"] == 5
    assert record(run.work / "it")["status"] == "completed"


def test_a_run_that_made_no_step_is_no_other_run(run, tmp_path):
    assert run_folder.content(tmp_path) is None
    (tmp_path / "config.yaml").touch()
    assert run_folder.content(tmp_path) == "a config.yaml"  # perhaps of something else
    (tmp_path / "metrics.json").write_text('{"status": "running"}')
    assert run_folder.content(tmp_path) is None
    (tmp_path / "metrics.json").write_text('{"status": "completed"}')
    assert run_folder.content(tmp_path) == "a completed run"
    (tmp_path / "metrics.csv").touch()
    assert run_folder.content(tmp_path) == "checkpoints and metrics"


def test_a_run_killed_before_its_configuration_is_written_is_no_other_run(run, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sciml.cli.runs.job.write_config", killed)
        assert run("model=toy", "hydra.run.dir=it")[0] == 130
    assert run("model=toy", "hydra.run.dir=it", "trainer.max_steps=2")[0] == 0


def test_two_processes_in_one_folder(tmp_path):
    held = run_folder.lock(tmp_path)
    with pytest.raises(ConfigError, match="another process is writing"):
        run_folder.lock(tmp_path)
    os.close(held)
    os.close(run_folder.lock(tmp_path))


def test_a_rank_whose_first_is_gone_says_so(run, monkeypatch):
    """Torchrun and srun start all ranks alike: none is there to see another die."""

    def gone(self, batch, batch_idx):
        raise RuntimeError("Connection closed by peer")

    assert run("model=toy", "hydra.run.dir=it", "trainer.max_steps=2")[0] == 0
    file = run.work / "it" / "metrics.json"
    file.write_text(file.read_text().replace("completed", "running"))  # as a killed run leaves it
    monkeypatch.setattr(toy.Module, "training_step", gone)
    monkeypatch.setattr("sciml.cli.paths.is_worker", lambda: True)
    held = run_folder.lock(file.parent)
    with pytest.raises(RuntimeError, match="Connection closed"):
        run("model=toy", "hydra.run.dir=it")
    assert record(file.parent)["status"] == "running"  # the first rank lives
    os.close(held)
    with pytest.raises(RuntimeError, match="Connection closed"):
        run("model=toy", "hydra.run.dir=it")
    assert record(file.parent)["status"] == "failed"


def test_two_processes_in_the_same_millisecond(run, monkeypatch):
    stamps = iter(["one", "one", "two"])
    monkeypatch.setattr(paths, "run_stamp", lambda: next(stamps))
    assert run("model=toy", "trainer.max_steps=2")[0] == 0
    assert run("model=toy", "trainer.max_steps=2")[0] == 0
    assert sorted(p.name for p in (run.work / "runs" / "toy").iterdir()) == ["one", "two"]


def test_a_full_disk_is_no_wrong_input(run, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(toy.Module, "training_step", full)
    code, _, err = run("model=toy", "hydra.run.dir=it")
    assert code == 1 and "No space left on device" in err and "stopped" in err
    assert record(run.work / "it")["status"] == "failed"
    monkeypatch.setattr(toy.Module, "__init__", full)
    code, _, err = run("model=toy", "hydra.run.dir=other")  # a file that the command line names
    assert code == 2 and "module: Module refuses its arguments: [Errno 28]" in err


def test_a_full_disk_spares_the_checkpoint_before(run, monkeypatch):
    save, written = CheckpointFile.save_checkpoint, []

    def full(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path, storage_options)
        written.append(checkpoint["global_step"])
        if len(written) == 3:
            with open(path, "r+b") as file:
                file.truncate(1000)  # as much as there was room for
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(CheckpointFile, "save_checkpoint", full)
    code, _, err = run("model=toy", "hydra.run.dir=it")
    assert code == 1 and "stopped: [Errno 28] No space left on device" in err
    assert record(run.work / "it")["status"] == "failed"
    assert resume.in_folder(run.work / "it").step == written[1] == 4
    assert not list((run.work / "it" / "checkpoints").glob(".*"))
    assert run("model=toy", "hydra.run.dir=it", "ckpt_path=last")[0] == 0
    assert record(run.work / "it")["status"] == "completed"


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_colleagues_may_read_what_the_system_lets_them(run, mask):
    before = os.umask(mask)
    try:
        assert run("model=toy", "hydra.run.dir=it", "trainer.max_steps=5")[0] == 0
    finally:
        os.umask(before)
    for path in (run.work / "it").rglob("*"):
        every = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == every & ~mask, path


def test_a_full_disk_has_room_for_the_word(run, monkeypatch):
    """The record says that the run failed even where no new file can be written."""

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    def step(self, batch, batch_idx):
        monkeypatch.setattr("sciml.callbacks.run_record.write_json", full)
        full()

    monkeypatch.setattr(toy.Module, "training_step", step)
    assert run("model=toy", "hydra.run.dir=it")[0] == 1
    found = record(run.work / "it")
    assert found["status"] == "failed" and found["model"] == "toy"


def test_a_file_is_no_folder(run):
    (run.work / "file").touch()
    code, _, err = run("model=toy", "hydra.run.dir=file")
    assert code == 2 and "is a file" in err
