import pytest
import torch

from sciml.callbacks import RunCheckpoint, StopOnNonFinite
from sciml.errors import TrainingDiverged


def steps_on_disk(folder):
    files = (folder / "checkpoints").glob("*.ckpt")
    return sorted(torch.load(file, weights_only=True)["global_step"] for file in files)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("every", [None, 4])
def test_names_step_term_and_last_good_checkpoint(
    module, make_trainer, batches, tmp_path, value, every, monkeypatch
):
    stop = StopOnNonFinite(every=every or 50)
    if every:  # as on an accelerator: the host looks only now and then
        monkeypatch.setattr(StopOnNonFinite, "_rows", lambda self, values, trainer: self.every)
    trainer = make_trainer(stop, RunCheckpoint(tmp_path, {}, every_steps=3), max_steps=20)
    with pytest.raises(TrainingDiverged) as caught:
        trainer.fit(module(bad_step=7, bad_value=value), batches)
    message = str(caught.value)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert f"the loss term 'boundary' is {value} at step 7" in message
    assert f"ckpt_path={last}" in message and "optimizer.lr" in message
    content = torch.load(last, weights_only=True)
    assert content["global_step"] == 6
    assert all(v.isfinite().all() for v in content["state_dict"].values())


def test_no_checkpoint_of_a_bad_step_even_if_it_is_due(module, make_trainer, batches, tmp_path):
    trainer = make_trainer(
        StopOnNonFinite(every=50), RunCheckpoint(tmp_path, {}, every_steps=1), max_steps=20
    )
    with pytest.raises(TrainingDiverged):
        trainer.fit(module(bad_step=0), batches)
    assert steps_on_disk(tmp_path) == []  # not even the beginning: nothing is lost without it


def test_weights_that_broke_with_a_finite_loss_are_not_saved(
    module, make_trainer, batches, tmp_path
):
    class Broken(module):
        def on_before_optimizer_step(self, optimizer):
            if self.global_step == 5:
                self.layer.weight.grad.fill_(float("nan"))

    trainer = make_trainer(
        StopOnNonFinite(every=50), RunCheckpoint(tmp_path, {}, every_steps=6), max_steps=20
    )
    with pytest.raises(TrainingDiverged, match=r"weights layer.weight.* are not finite"):
        trainer.fit(Broken(), batches)
    assert steps_on_disk(tmp_path) == [0]


def test_bad_last_steps_are_found_when_training_ends(module, make_trainer, batches, monkeypatch):
    monkeypatch.setattr(StopOnNonFinite, "_rows", lambda self, values, trainer: self.every)
    trainer = make_trainer(StopOnNonFinite(every=50), max_steps=10)
    with pytest.raises(TrainingDiverged, match=r"at step 9.*No checkpoint was written yet"):
        trainer.fit(module(bad_step=9), batches)


def test_a_module_without_named_terms(module, make_trainer, batches):
    class Plain(module):
        def training_step(self, batch, batch_idx):
            loss = (self.layer(batch) ** 2).mean()
            return loss * float("inf") if self.global_step == 3 else loss

    with pytest.raises(TrainingDiverged, match="the loss is inf at step 3"):
        make_trainer(StopOnNonFinite()).fit(Plain(), batches)


def test_the_step_is_right_under_gradient_accumulation(module, make_trainer, batches):
    trainer = make_trainer(StopOnNonFinite(), accumulate_grad_batches=3)
    with pytest.raises(TrainingDiverged, match="at step 4"):
        trainer.fit(module(bad_step=4), batches)


def test_a_good_run_ends(module, make_trainer, batches):
    trainer = make_trainer(StopOnNonFinite())
    trainer.fit(module(), batches)
    assert trainer.global_step == 10
