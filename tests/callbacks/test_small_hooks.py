"""Callbacks of a few lines: when they act, and on what."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciml.callbacks import RunRecord
from sciml.callbacks.first_step import FirstStep
from sciml.callbacks.history import History
from sciml.callbacks.new_settings import NewSettings
from sciml.callbacks.progress import Progress, total_steps
from sciml.callbacks.random_streams import RandomStreams
from sciml.callbacks.run_record import aligned, mark_failed_in_place, write_json
from sciml.errors import CheckpointError


# --- the moment from which a run can no longer be refused ---------------------------------------
def test_the_first_step_acts_once_and_after_it(module, make_trainer, batches, few_batches):
    seen, model = [], module()
    trainer = make_trainer(FirstStep(lambda: seen.append(trainer.global_step)), max_steps=3)
    trainer.fit(model, batches)
    trainer.test(model, few_batches, verbose=False)
    assert seen == [1]


def test_without_a_step_left_it_acts_all_the_same(module, make_trainer, batches, few_batches):
    seen = []
    make_trainer(FirstStep(lambda: seen.append("test"))).test(module(), few_batches, verbose=False)
    make_trainer(FirstStep(lambda: seen.append("fit")), max_steps=0).fit(module(), batches)
    assert seen[0] == "test"
    FirstStep(lambda: seen.append("end")).on_train_end(SimpleNamespace(is_global_zero=True), None)
    assert seen[-1] == "end"


def test_other_ranks_do_not_act():
    other = SimpleNamespace(is_global_zero=False)
    FirstStep(lambda: pytest.fail("acted")).on_train_batch_end(other, None, None, None, 0)


# --- settings that a continued run changes ------------------------------------------------------
def test_a_new_rate_scales_the_schedule_and_every_group():
    weights = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    groups = [{"params": [weights[0]], "lr": 0.1}, {"params": [weights[1]], "lr": 0.02}]
    optimizer = torch.optim.Adam(groups, weight_decay=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
    for _ in range(3):  # past the first drop: 0.01 and 0.002
        optimizer.step()
        schedule.step()
    trainer = SimpleNamespace(
        optimizers=[optimizer], lr_scheduler_configs=[SimpleNamespace(scheduler=schedule)]
    )
    NewSettings({"lr": (0.1, 0.3), "weight_decay": (0.5, 0.0)}).on_train_start(trainer, None)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.03, 0.006])
    assert [group["initial_lr"] for group in optimizer.param_groups] == pytest.approx([0.3, 0.06])
    assert schedule.base_lrs == pytest.approx([0.3, 0.06])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.0]
    optimizer.step()
    schedule.step()  # the next drop, from the new rates
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([3e-3, 6e-4])


# --- what a run logs, in memory -----------------------------------------------------------------
def test_history_keeps_a_row_every_few_steps_and_the_last(module, make_trainer, batches):
    history = History()
    history.start("first")
    make_trainer(history, max_steps=5).fit(module(), batches)
    assert [row["step"] for row in history.rows] == [2, 4, 5]
    assert all("train/loss" in row for row in history.rows)
    history.start("second")
    make_trainer(history, max_steps=3).fit(module(), batches)
    assert [row["step"] for row in history.rows] == [2, 4, 5, 7, 8]  # goes on where it ended
    assert history.phases == [(0, "first"), (5, "second")]
    seconds = [row["seconds"] for row in history.rows]
    assert 0 < seconds[0] and seconds == sorted(seconds) and seconds[-1] < 60


# --- random streams -----------------------------------------------------------------------------
def draws():
    return float(torch.rand(())), float(np.random.rand()), random.random(), np.random.randn()


@pytest.fixture
def streams():
    """Keep the streams of other tests."""
    held = torch.get_rng_state(), np.random.get_state(), random.getstate()
    np.random.randn()  # the second number of a pair of normal ones waits in the state
    yield
    torch.set_rng_state(held[0])
    np.random.set_state(held[1])
    random.setstate(held[2])


def trainer_of(ranks=1, fn="fit"):
    return SimpleNamespace(
        world_size=ranks, global_rank=0, state=SimpleNamespace(fn=fn), ckpt_path="last.ckpt"
    )


@pytest.mark.usefixtures("streams")
def test_global_streams_go_on_where_the_checkpoint_was_taken():
    checkpoint = {}
    RandomStreams().on_save_checkpoint(trainer_of(), None, checkpoint)
    wanted, later = draws(), draws()
    again = RandomStreams()
    again.on_load_checkpoint(trainer_of(), None, checkpoint)
    draws()  # setting up draws, too
    again.on_train_start(trainer_of(), None)
    assert draws() == wanted and draws() == later
    again.on_train_start(trainer_of(), None)  # a second training is not set back
    assert draws() != wanted


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize(("ranks", "fn"), [(2, "fit"), (1, "test")])
def test_streams_stay_alone_on_other_ranks_and_outside_training(ranks, fn):
    checkpoint = {}
    RandomStreams().on_save_checkpoint(trainer_of(), None, checkpoint)
    wanted = draws()
    again = RandomStreams()
    again.on_load_checkpoint(trainer_of(ranks, fn), None, checkpoint)
    again.on_train_start(trainer_of(ranks), None)
    assert draws() != wanted


@pytest.mark.usefixtures("streams")
def test_streams_that_are_none_are_said():
    checkpoint = {}
    RandomStreams().on_save_checkpoint(trainer_of(), None, checkpoint)
    checkpoint["random_streams"][0]["python"] = (3, [1, 2], None)
    again = RandomStreams()
    again.on_load_checkpoint(trainer_of(), None, checkpoint)
    with pytest.raises(CheckpointError, match=r"last\.ckpt cannot be restored"):
        again.on_train_start(trainer_of(), None)


# --- progress -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("most", "estimated", "total"), [(7, 3, 7), (-1, 12, 12), (-1, float("inf"), None), (0, 5, 0)]
)
def test_how_many_steps_a_run_will_make(most, estimated, total):
    trainer = SimpleNamespace(max_steps=most, estimated_stepping_batches=estimated)
    assert total_steps(trainer) == total


def test_time_left_is_that_of_the_steps_done_here(capsys, monkeypatch):
    """Continued at step 100 of 400, 100 steps took 50 s: 200 more take 100 s."""
    monkeypatch.setattr("time.perf_counter", lambda: 60.0)
    progress = Progress()
    progress._begin, progress._first_step = 10.0, 100
    metrics = {"train/loss": torch.tensor(0.125), "other": torch.tensor(1.0)}
    trainer = SimpleNamespace(max_steps=400, global_step=200, callback_metrics=metrics)
    for rate, said in ((123456.7, "123,457"), (99.96, "100"), (1.234, "1.23")):
        progress.rate = rate
        progress._line(trainer, None)
        line = f"[0:50] step 200/400, 1:40 left | train/loss 0.125, {said} points/s\n"
        assert capsys.readouterr().out == line
    progress.rate, trainer.global_step = float("nan"), 400
    progress._line(trainer, None)
    assert capsys.readouterr().out == "[0:50] step 400/400 | train/loss 0.125\n"


# --- the record ---------------------------------------------------------------------------------
def test_the_closing_table_orders_and_writes_numbers(tmp_path):
    record = RunRecord(tmp_path, "m", "o", {"reference": {"test/rel_l2": 2e-3, "other/rel_l2": 1}})
    record.metrics = {
        "train/loss": 3.0,
        "test/accuracy": 0.98765,
        "test/baseline/mean": 1.0,
        "other/rel_l2": 0.00999,
        "test/skill": 0.01,
        "test/rel_l2": 12345.6,
        "test/zero": 0.0,
        "test/below": 9999.4,
    }
    record.steps, record.parameters = 1234, 56789
    record._seconds = {"fit": 2.25, "test": 0.5}
    lines = record.table().splitlines()
    rows = [line.split() for line in lines[2:-2]]
    assert rows == [
        ["test/rel_l2", "1.235e+04", "-", "2.000e-03"],
        ["test/skill", "0.01", "1", "by", "definition", "-"],
        ["other/rel_l2", "9.990e-03", "-", "1"],
        ["test/accuracy", "0.9877", "-", "-"],
        ["test/below", "9999", "-", "-"],
        ["test/zero", "0", "-", "-"],
    ]
    assert lines[-2] == "running: 1234 steps, 2.8 s (fit 2.2, test 0.5), 56,789 parameters, cpu"
    record.metrics = {}
    assert len(record.table().splitlines()) == 2  # no metrics: no head of a table


def test_columns_are_as_wide_as_their_widest_entry():
    lines = aligned([("a", "long head", "c"), ("longer", "b", "cc")])
    assert lines == ["a       long head  c", "------  ---------  --", "longer  b          cc"]


def test_a_record_on_a_full_disk_still_says_that_it_failed(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"schema": 1, "status": "running", "steps": 7})
    size = path.stat().st_size
    mark_failed_in_place(path)
    text = path.read_text()
    assert '"status": "failed"' in text and "running" not in text and '"steps": 7' in text
    assert path.stat().st_size == size
    mark_failed_in_place(path)
    assert path.read_text() == text  # nothing to replace
