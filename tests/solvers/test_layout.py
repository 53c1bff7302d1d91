"""Reductions per problem against loops over problems."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers import Rows, Segments

INDEX = torch.tensor([2, 0, 2, 3, 0, 2, 3])  # unsorted; graph 1 is empty
COUNT = 4


def cases():
    """Return layout, unknown, and the unknown's values per problem as a list of vectors."""
    x = torch.randn(3, 2, 4)
    yield Rows(1), x, [row.flatten() for row in x]
    yield Rows(2), x, list(x.reshape(6, 4))
    yield Rows(0), x, [x.flatten()]
    yield Rows(0), torch.tensor(2.5), [torch.tensor([2.5])]
    h = torch.randn(7, 3)
    yield Segments(INDEX, COUNT), h, [h[INDEX == g].flatten() for g in range(COUNT)]
    per = Segments(INDEX, COUNT, per_column=True)
    yield per, h, [h[INDEX == g][:, c] for g in range(COUNT) for c in range(3)]
    yield Segments(INDEX, COUNT), h[:, 0], [h[INDEX == g, 0] for g in range(COUNT)]
    yield (
        per.stacked(),
        h.expand(2, 7, 3),
        2 * [h[INDEX == g][:, c] for g in range(COUNT) for c in range(3)],
    )
    # one graph, which needs no segments
    one = torch.zeros(7, dtype=torch.long)
    yield Segments(one, 1), h, [h.flatten()]
    per = Segments(one, 1, per_column=True)
    yield per, h, list(h.T)
    yield per.stacked(), h.expand(2, 7, 3), 2 * list(h.T)


@pytest.mark.parametrize("case", range(11))
def test_reductions_and_packing(case):
    layout, x, problems = list(cases())[case]
    shape = layout.problems(x)
    assert math.prod(shape) == len(problems)
    assert torch.allclose(
        layout.dot(x, x).flatten(), torch.stack([p @ p for p in problems]), rtol=1e-12, atol=1e-10
    )
    for p in (1, 2, math.inf):
        wanted = torch.stack([p_.new_zeros(()) if not len(p_) else p_.norm(p) for p_ in problems])
        assert torch.allclose(layout.norm(x, p).flatten(), wanted, rtol=1e-12, atol=1e-10)
    c = torch.randn(shape)
    scaled = layout.spread(c, x) * x
    wanted = torch.stack([a * p.norm() for a, p in zip(c.flatten().abs(), problems, strict=True)])
    assert torch.allclose(layout.norm(scaled).flatten(), wanted, rtol=1e-12, atol=1e-11)
    history, a = torch.randn(4, *x.shape), torch.randn(4, *shape)
    dots = torch.stack([layout.dot(h, x) for h in history])
    assert torch.allclose(layout.dots(history, x), dots, rtol=1e-12, atol=1e-10)
    combined = sum(layout.spread(ak, x) * h for ak, h in zip(a, history, strict=True))
    assert torch.allclose(layout.combine(a, history), combined, rtol=1e-12, atol=1e-11)
    packed = layout.pack(x)
    assert torch.equal(layout.unpack(packed, x), x)
    padding = layout.padding(x)
    filled = packed.numel() - (0 if padding is None else int(padding.sum()))
    assert filled == x.numel()
    units = torch.stack([layout.pack(u) for u in layout.basis(x)], -2)
    eye = torch.eye(packed.shape[-1]).expand(units.shape)
    keep = torch.ones_like(packed) if padding is None else (~padding).double()
    assert torch.equal(units, eye * keep[..., None])


def test_one_graph_without_nodes():
    layout = Segments(torch.zeros(0, dtype=torch.long), 1)
    for p in (1, 2, math.inf):
        assert torch.equal(layout.norm(torch.zeros(0, 3), p), torch.zeros(1))


def test_int32_index_is_accepted():
    layout = Segments(torch.zeros(2, dtype=torch.int32), 1)
    assert torch.allclose(
        layout.norm(torch.tensor([3.0, 4.0])), torch.tensor([5.0]), rtol=1e-12, atol=1e-11
    )


def test_bad_segments_are_refused():
    with pytest.raises(InvalidArgument, match="from 0 to 3 with count=3"):
        Segments(torch.tensor([0, 3]), 3)
    with pytest.raises(InvalidType, match="tensor of integers"):
        Segments(torch.tensor([0.0, 1.0]), 2)
    with pytest.raises(InvalidArgument, match=r"shape \(2, \.\.\.\)"):
        Segments(torch.tensor([0, 1]), 2).check(torch.zeros(3, 1))
