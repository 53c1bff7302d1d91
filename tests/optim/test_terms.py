"""Loss terms refuse parts that do not fit, by the name of the term."""

import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.modules.training_method import step_loss
from sciml.optim.curvature.terms import LossTerm

U = torch.ones(4, 3)
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("residual", "count", "message"),
    [
        (U.mean(), 4, "'pde' is one number"),
        (U, 3, "'pde' has 4 rows, with count=3.*idle=True"),
        (U[:0], 0, "count=0"),
        (U.numpy(), 4, "'pde' is a ndarray"),
        (U.long(), 4, "'pde' is dtype torch.int64"),
        (None, 4, "'pde' is None"),
    ],
)
def test_residuals_have_one_row_per_sample(residual, count, message):
    with pytest.raises((InvalidArgument, InvalidType), match=message):
        LossTerm("pde", residual, 1.0, count)


def test_rows_without_weight_do_not_count():
    rows = torch.cat([U, torch.zeros(3, 3)])
    term = LossTerm("pde", rows, 2.0, 4, idle=True)
    assert float(term.loss()) == 2.0 / 4 * 12
    assert float(LossTerm("pde", U, 2.0, 4).loss()) == float(term.loss())
    # fewer rows than the global batch has samples: those of one of two ranks
    LossTerm("pde", U, 2.0, 8)


@pytest.mark.parametrize(
    ("logits", "target"),
    [(U[:, 0], LABELS), (U[:, :1], LABELS), (U, LABELS[:, None]), (U, LABELS[:3]),
     (U[:, :, None], LABELS)],
)  # fmt: skip
def test_logits_have_one_column_per_class(logits, target):
    with pytest.raises(InvalidArgument, match="logits of shape.*'labels'"):
        LossTerm("labels", logits, 1.0, 4, "categorical", target)
    LossTerm("labels", U, 1.0, 4, "categorical", LABELS)


def test_terms_of_one_name_would_hide_each_other():
    terms = [LossTerm("wall", U, 1.0, 4), LossTerm("wall", 2 * U, 1.0, 4)]
    with pytest.raises(InvalidArgument, match="distinct names"):
        step_loss(None, terms, 1)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (1,)])
def test_a_weight_is_one_number(shape):
    with pytest.raises(InvalidArgument, match="'heat' with a weight of shape.*square root"):
        LossTerm("heat", torch.zeros(4), torch.ones(shape), 4)
