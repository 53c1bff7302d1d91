"""The average of the weights and the rows of metrics, as a resumed run leaves them."""

import torch

from sciml.callbacks import RunCheckpoint
from sciml.callbacks.average import EMAWeightAveraging
from sciml.callbacks.fresh_rows import FreshRows


def test_a_run_resumed_after_its_last_step_ends_with_the_average(
    module, make_trainer, batches, tmp_path
):
    def run(ckpt_path=None):
        torch.manual_seed(0)
        model = module()
        keeper = RunCheckpoint(tmp_path, {}, every_steps=3)
        make_trainer(EMAWeightAveraging(decay=0.5), keeper).fit(model, batches, ckpt_path=ckpt_path)
        return model.state_dict()

    whole = run()
    last = tmp_path / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    assert content["global_step"] == 10
    assert not torch.equal(content["current_model_state"]["layer.weight"], whole["layer.weight"])
    again = run(last)
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_a_row_holds_the_metrics_of_its_own_step(module, make_trainer, batches):
    class NowAndThen(module):
        def training_step(self, batch, batch_idx):
            if self.global_step % 4 == 0:
                self.log("train/rare", float(self.global_step))
            return super().training_step(batch, batch_idx)

    seen = []

    class Look(FreshRows):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append("train/rare" in trainer._logger_connector.metrics["log"])

    trainer = make_trainer(Look())
    trainer.fit(NowAndThen(), batches)
    assert seen == [step % 4 == 0 for step in range(10)]
    assert trainer.callback_metrics["train/rare"] == 8.0  # the newest stays known
