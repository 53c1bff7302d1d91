import json
import signal

import pytest
import torch

from sciml.callbacks import RunCheckpoint, RunRecord

CONFIG = {"seed": 3, "reference": {"test/rel_l2": 2.5e-3}}
KEYS = {
    "schema",
    "status",
    "model",
    "optimizer",
    "seed",
    "metrics",
    "steps",
    "seconds",
    "parameters",
    "device",
    "world_size",
    "versions",
}


def read(folder):
    return json.loads((folder / "metrics.json").read_text())


def record(folder):
    return RunRecord(folder, "pinn_hjb", "adam", CONFIG)


def test_completed_run(module, make_trainer, batches, few_batches, tmp_path):
    keeper, model = record(tmp_path), module()
    trainer = make_trainer(keeper)
    trainer.fit(model, batches)
    assert json.loads((tmp_path / "metrics.json").read_text())["status"] == "running"
    trainer.test(model, few_batches, verbose=False)
    keeper.finish()
    found = read(tmp_path)
    assert set(found) == KEYS
    assert found["schema"] == 1 and found["status"] == "completed"
    assert (found["model"], found["optimizer"], found["seed"]) == ("pinn_hjb", "adam", 3)
    assert found["steps"] == 10 and found["parameters"] == 4
    assert found["device"] == "cpu" and found["world_size"] == 1
    assert found["seconds"]["fit"] > 0 and found["seconds"]["test"] > 0
    assert found["versions"]["torch"] == torch.__version__
    metrics = found["metrics"]
    assert metrics["test/rel_l2"] == 0.5 and metrics["test/skill"] == pytest.approx(0.03)
    assert "train/loss" in metrics
    assert [p.name for p in tmp_path.glob(".metrics*")] == []


def test_closing_table(module, make_trainer, batches, few_batches, tmp_path):
    keeper, model = record(tmp_path), module()
    trainer = make_trainer(keeper)
    trainer.fit(model, batches)
    trainer.test(model, few_batches, verbose=False)
    keeper.finish()
    lines = keeper.table().splitlines()
    assert lines[0].split() == ["metric", "value", "baseline", "reference"]
    assert lines[2].split() == ["test/rel_l2", "0.5", "3.100e-03", "closed_form", "2.500e-03"]
    assert lines[3].split() == ["0.07", "constant"]
    assert lines[4].startswith("test/skill")
    assert "completed: 10 steps" in lines[-2] and lines[-1] == f"files: {tmp_path}"


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_a_run_that_stops_early(module, make_trainer, batches, tmp_path, error, status):
    class Stops(module):
        def on_train_batch_start(self, batch, batch_idx):
            if batch_idx == 4:
                raise error("stop")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises((error, SystemExit)):
        make_trainer(record(tmp_path)).fit(Stops(), batches)
    signal.signal(signal.SIGINT, before)  # Lightning ignores it after the first one
    found = read(tmp_path)
    assert found["status"] == status and found["steps"] == 4
    assert found["seconds"]["fit"] > 0 and "train/loss" in found["metrics"]


def test_metrics_that_are_not_finite_are_null(tmp_path):
    keeper = record(tmp_path)
    keeper.metrics = {"test/rel_l2": float("nan"), "test/max_abs": 1.0}
    keeper.finish("failed")
    assert read(tmp_path)["metrics"] == {"test/rel_l2": None, "test/max_abs": 1.0}
    assert "nan" in keeper.table()


def test_other_ranks_do_not_write(tmp_path):
    keeper = record(tmp_path)
    keeper._writes = False
    keeper.finish()
    assert not (tmp_path / "metrics.json").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    keeper = record(tmp_path)
    keeper.finish("failed")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        keeper.finish("completed")
    assert read(tmp_path)["status"] == "failed"
    assert len(list(tmp_path.iterdir())) == 1


def test_time_is_counted_over_a_resume(module, make_trainer, batches, tmp_path):
    first = record(tmp_path)
    first._seconds["fit"] = 100.0
    make_trainer(first, RunCheckpoint(tmp_path, {}), max_steps=4).fit(module(), batches)
    second = record(tmp_path)
    path = tmp_path / "checkpoints" / "last.ckpt"
    make_trainer(second, RunCheckpoint(tmp_path, {})).fit(module(), batches, ckpt_path=path)
    second.finish()
    assert 100 < read(tmp_path)["seconds"]["fit"] < 110 and read(tmp_path)["steps"] == 10


def test_unknown_status(tmp_path):
    with pytest.raises(ValueError, match="completed, failed, interrupted"):
        record(tmp_path).finish("done")
