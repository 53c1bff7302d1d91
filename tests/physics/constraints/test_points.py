"""Points of experts: where they come from, their weights, their balance."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.constraints import Balance, PointSampler, Split


def sampler(counts=(1, 3), late=1):
    weight, shared = torch.ones(4, 10), torch.zeros(4, 10, dtype=torch.bool)
    weight[:late] = 0
    weight[-1] = 4.0
    shared[:, 0] = True
    return PointSampler(Split((4, 10), counts), weight, shared)


def test_all_points_are_those_with_weight_and_what_is_shared():
    points = sampler().draw(None)
    blocks = [range(1, 3), range(3, 6), range(6, 10)]
    for k, columns in enumerate(blocks):
        wanted = {10 * t + x for t in (1, 2, 3) for x in columns} | {10, 20, 30}
        used = points.scale[k] > 0
        assert set(points.index[k][used].tolist()) == wanted
        assert points.counts[k] == len(wanted) == int(used.sum())


def test_rows_are_means_of_the_own_and_of_the_shared_points():
    points = sampler().draw(None)
    square = points.scale.square()
    shared = square[:, -3:]
    torch.testing.assert_close(shared.sum(1), torch.full((3,), 2.0), rtol=1e-14, atol=0)
    own = square[:, :-3].sum(1)
    torch.testing.assert_close(own, torch.full((3,), 2.0), rtol=1e-14, atol=0)  # (1 + 1 + 4) / 3


def test_a_draw_has_no_point_twice_and_gathers_values_where_it_says():
    points = sampler().draw(4, torch.Generator().manual_seed(0))
    assert points.counts == (7, 7, 7)
    for index, scale in zip(points.index, points.scale, strict=True):
        used = index[scale > 0].tolist()
        assert len(set(used)) == len(used)
    field = torch.randn(2, 5, 4, 10)
    got = points.gather(field, 2)
    assert got.shape == (2, 5, 3, 7)
    assert torch.equal(got, field.flatten(2)[..., points.index])


def test_a_block_without_a_point_is_refused():
    with pytest.raises(InvalidArgument, match=r"blocks \[0\] of 4"):
        sampler((4, 1))
    with pytest.raises(InvalidArgument, match="0 points per expert"):
        sampler().draw(0)


def test_balance_moves_points_from_the_slow_expert_to_the_fast_ones():
    drawn, balance = sampler((1, 2), late=0), Balance(2, rate=0.02)
    cost = torch.tensor([30.0, 10.0])
    start = drawn.draw(8, torch.Generator().manual_seed(0), balance.bias)
    assert sum(start.counts) == 16 + 2 * 4
    for step in range(200):
        points = drawn.draw(8, torch.Generator().manual_seed(step), balance.bias)
        balance.update(points.counts, cost)
    loads = torch.tensor(points.counts) * cost
    first = torch.tensor(start.counts) * cost
    assert float(loads.max() / loads.min()) < 0.7 * float(first.max() / first.min())
    assert min(points.counts) > 4  # one of its own at least
    # steps have one size, whatever the loads
    before = balance.bias.clone()
    balance.update((10, 10), torch.tensor([1e6, 1.0]))
    torch.testing.assert_close(
        balance.bias - before, torch.tensor([-0.02, 0.02]), rtol=1e-12, atol=1e-14
    )


def test_balance_needs_a_rate():
    with pytest.raises(InvalidArgument, match="rate"):
        Balance(2, 0.0)
