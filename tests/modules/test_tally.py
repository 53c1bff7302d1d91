"""Means and maxima over chunks and ranks."""

import numpy as np
import pytest
import torch

from sciml.modules import tally
from sciml.modules.tally import Tally


def noted(chunks):
    found = Tally()
    for chunk in chunks:
        found.mean("mean", chunk)
        found.mean("share", chunk > 0)
        found.peak("peak", chunk)
    return found


def test_chunks_and_ranks_do_not_matter(monkeypatch):
    values = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    whole = noted([values]).gathered()
    v = values.double().numpy()
    assert whole == {
        "mean": pytest.approx(v.mean(), rel=1e-14),
        "share": np.mean(v > 0),
        "peak": v.max(),
    }
    # of unequal sizes, the largest value on the second rank, one of them empty
    top = int(values.amax(1).argmax())
    first, second = values[:top], values[top:]
    ranks = [noted([first[:1], first[1:], first[:0]]), noted([second])]
    everyone = [(rank._sums, rank._peaks) for rank in ranks]
    monkeypatch.setattr(tally, "everyone", lambda own: everyone)
    assert ranks[0].gathered() == pytest.approx(whole, rel=1e-14)


def test_nothing_noted_is_nothing():
    found = Tally()
    found.peak("peak", torch.zeros(0))
    assert found.gathered() == {}
    found.mean("calls", 8.0)
    found.mean("calls", 4.0)
    assert found.gathered() == {"calls": 6.0}
