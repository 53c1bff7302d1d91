import os
import signal

import pytest
import torch

from sciml.callbacks import RunCheckpoint, RunRecord, StopOnNonFinite
from sciml.testing.runs import Killed


def files(folder):
    return sorted(p.name for p in (folder / "checkpoints").iterdir())


def step(path):
    return torch.load(path, weights_only=True)["global_step"]


def test_last_and_the_one_before(module, make_trainer, batches, tmp_path):
    keeper = RunCheckpoint(tmp_path, {"seed": 1, "problem": {"dim": 3}}, every_steps=4)
    make_trainer(keeper).fit(module(), batches)
    folder = tmp_path / "checkpoints"
    assert files(tmp_path) == ["last.ckpt", "previous.ckpt"]
    assert step(folder / "last.ckpt") == 10 and step(folder / "previous.ckpt") == 8
    assert keeper.last_model_path == str(folder / "last.ckpt")
    said = torch.load(folder / "last.ckpt", weights_only=True)["sciml"]
    assert said["config"] == {"seed": 1, "problem": {"dim": 3}} and said["version"]


def test_seconds(module, make_trainer, batches, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        RunCheckpoint, "_draft", lambda self, trainer: saved.append(trainer.global_step)
    )
    make_trainer(RunCheckpoint(tmp_path, {}, every_seconds=3600.0)).fit(module(), batches)
    assert saved[:2] == [0, 10]
    saved.clear()
    make_trainer(RunCheckpoint(tmp_path, {}, every_seconds=0.0)).fit(module(), batches)
    assert saved[:11] == list(range(11))


def test_resume_is_bit_identical(module, make_trainer, batches, tmp_path):
    class Stateless(module):
        """Draws its points from the step, as all of ours do."""

        def training_step(self, batch, batch_idx):
            generator = torch.Generator().manual_seed(self.global_step)
            return super().training_step(torch.randn(8, 3, generator=generator), batch_idx)

    def run(steps, folder, ckpt_path=None):
        torch.manual_seed(0)
        model = Stateless()
        keepers = RunCheckpoint(folder, {}, every_steps=3), StopOnNonFinite()
        trainer = make_trainer(*keepers, RunRecord(folder, "m", "o", {}), max_steps=steps)
        trainer.fit(model, batches, ckpt_path=ckpt_path)
        return model.state_dict()

    whole = run(12, tmp_path / "whole")
    run(7, tmp_path / "cut")
    for name in ("last.ckpt", "previous.ckpt"):
        again = run(12, tmp_path / "again", tmp_path / "cut" / "checkpoints" / name)
        for key, value in whole.items():
            assert torch.equal(again[key], value), (name, key)


def test_best_follows_validation_over_a_resume(
    module, make_trainer, batches, few_batches, tmp_path
):
    def fit(steps, ckpt_path=None):
        keeper = RunCheckpoint(tmp_path, {})
        trainer = make_trainer(keeper, max_steps=steps, val_check_interval=5)
        trainer.fit(module(), batches, few_batches, ckpt_path=ckpt_path)
        return keeper

    first = fit(10)
    assert files(tmp_path) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    again = fit(20, first.last_model_path)
    assert again.best <= first.best < float("inf")


def test_sigterm_saves_after_the_step(module, make_trainer, batches, tmp_path):
    class Terminated(module):
        def on_train_batch_start(self, batch, batch_idx):
            if batch_idx == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    record = RunRecord(tmp_path, "m", "o", {})
    trainer = make_trainer(RunCheckpoint(tmp_path, {}, every_seconds=3600.0), record)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        trainer.fit(Terminated(), batches)
    signal.signal(signal.SIGTERM, before)
    assert step(tmp_path / "checkpoints" / "last.ckpt") == 6
    assert record.status == "interrupted" and record.steps == 6


def test_no_checkpoint_while_gradients_are_accumulated(module, make_trainer, batches, tmp_path):
    """Its micro-batches would be lost, and the continued run another one."""

    class Due(RunCheckpoint):
        def _is_time(self, trainer):
            return True

    keeper = Due(tmp_path, {})
    make_trainer(keeper, max_steps=4, accumulate_grad_batches=3).fit(module(), batches)
    for name, batch in (("last", 12), ("previous", 9)):
        content = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        total = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]
        assert total["ready"] == batch


def test_a_validation_that_was_cut_off_is_repeated(
    module, make_trainer, batches, few_batches, tmp_path
):
    class Cut(module):
        def on_validation_start(self):
            if self.global_step == 6:
                raise Killed

    keeper = RunCheckpoint(tmp_path, {}, every_steps=1)
    trainer = make_trainer(keeper, max_steps=9, val_check_interval=3)
    with pytest.raises(Killed):
        trainer.fit(Cut(), batches, few_batches)
    assert step(tmp_path / "checkpoints" / "last.ckpt") == 5
    assert step(tmp_path / "checkpoints" / "best.ckpt") == 3


def test_files_have_the_permissions_of_any_other(module, make_trainer, batches, tmp_path):
    make_trainer(RunCheckpoint(tmp_path, {}), max_steps=1).fit(module(), batches)
    (tmp_path / "any").touch()
    modes = {file.stat().st_mode for file in (tmp_path / "checkpoints").iterdir()}
    assert modes == {(tmp_path / "any").stat().st_mode}
