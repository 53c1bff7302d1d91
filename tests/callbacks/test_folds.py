"""Which step is chosen, honestly and by looking: against a list of accuracies known in advance."""

import math
from types import SimpleNamespace

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.callbacks.folds import FoldSelection
from sciml.data.batch import Batch


def chunks():
    """Two chunks; in the second the last row does not count."""
    labels = torch.tensor([0, 1, 1]), torch.tensor([0, 0])
    weight = torch.ones(3), torch.tensor([1.0, 0.0])
    return [
        Batch({"x": torch.zeros(len(y))}, y, Streams(0, 0), 4, extra={"weight": w})
        for y, w in zip(labels, weight, strict=True)
    ]


class Module:
    """Answers with fixed classes."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        self.answers, self.logged = [], {}

    def predict_batch(self, batch):
        return torch.nn.functional.one_hot(self.answers.pop(0), 2).float()

    def log(self, name, value):
        self.logged[name] = value


def validate(callback, module, loss, first, second, fn="fit", sanity=False):
    data = SimpleNamespace(test_chunks=2, test_chunk=lambda i: chunks()[i])
    trainer = SimpleNamespace(
        callback_metrics={"val/loss": torch.tensor(loss)},
        sanity_checking=sanity,
        state=SimpleNamespace(fn=fn),
        datamodule=data,
        global_rank=0,
        world_size=1,
        strategy=SimpleNamespace(reduce=lambda value, reduce_op: value),
    )
    module.answers = [torch.tensor(first), torch.tensor(second)]
    callback.on_validation_end(trainer, module)
    return trainer


def test_honest_and_optimistic_choices_differ():
    callback, module = FoldSelection(), Module()
    validate(callback, module, 0.9, [0, 0, 0], [0, 0])  # 2 of 4
    validate(callback, module, 0.3, [0, 1, 0], [0, 1])  # 3 of 4: the lowest loss
    trainer = validate(callback, module, 0.5, [0, 1, 1], [0, 1])  # 4 of 4
    validate(callback, module, 0.1, [1, 0, 0], [1, 1], fn="validate")  # not during training
    validate(callback, module, 0.1, [1, 0, 0], [1, 1], sanity=True)  # nor before it
    callback.on_test_epoch_end(trainer, module)
    assert module.logged == {"test/accuracy_nested": 0.75, "test/accuracy_optimistic": 1.0}


def test_nothing_is_reported_without_validation():
    callback, module = FoldSelection(), Module()
    callback.on_test_epoch_end(None, module)
    assert module.logged == {} and math.isnan(callback.nested)


def test_a_continued_run_remembers():
    callback, module = FoldSelection(), Module()
    validate(callback, module, 0.3, [0, 1, 0], [0, 1])
    again = FoldSelection()
    again.load_state_dict(callback.state_dict())
    validate(again, module, 0.4, [0, 0, 0], [0, 0])
    assert (again.nested, again.optimistic) == (0.75, 0.75)
    assert again.lowest == pytest.approx(0.3)
