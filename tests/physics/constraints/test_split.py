"""The router: blocks, windows, and what is assembled from them."""

import itertools
import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.constraints import Split, counts_of

CASES = [
    ((7, 9), (3, 1)),
    ((7, 9), (1, 4)),
    ((7, 9), (2, 4)),
    ((5, 8, 6), (1, 2, 2)),
    ((5, 8, 6), (2, 3, 1)),
    ((3, 4, 5, 6), (1, 2, 2, 3)),
]


@pytest.mark.parametrize(("sizes", "counts"), CASES)
def test_partition_is_undone_and_covers_every_point_once(sizes, counts):
    split = Split(sizes, counts)
    field = torch.randn(2, *sizes)
    parts = split.partition(field)
    assert len(parts) == split.experts == math.prod(counts)
    assert torch.equal(split.unpartition(parts), field)
    every = torch.cat(split.members(core=True)).sort().values
    assert torch.equal(every, torch.arange(math.prod(sizes)))
    sizes_of_blocks = [len(m) for m in split.members(core=True)]
    assert max(sizes_of_blocks) <= math.prod(-(-n // c) for n, c in zip(sizes, counts, strict=True))


@pytest.mark.parametrize(("sizes", "counts"), CASES)
def test_assembly_without_overlap_takes_the_owner(sizes, counts):
    split = Split(sizes, counts)
    columns = torch.randn(2, 3, *sizes)
    weights = torch.randn(2, split.experts, 3)
    flat = columns.flatten(2)
    wanted = torch.empty(2, math.prod(sizes))
    for k, points in enumerate(split.members(core=True)):
        for b in range(2):
            wanted[b, points] = weights[b, k] @ flat[b][:, points]
    found = split.assemble(columns, weights)
    torch.testing.assert_close(found.flatten(1), wanted, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("periodic", [(False, False), (False, True)])
def test_windows_are_a_smooth_partition_of_unity(periodic):
    split = Split((12, 31), (2, 3), overlap=3, periodic=periodic)
    like = torch.zeros(())
    for axis, window in enumerate(split.windows(like)):
        torch.testing.assert_close(
            window.sum(0), torch.ones(split.sizes[axis]), rtol=1e-15, atol=1e-15
        )
        assert float(window.min()) >= 0
        wide = torch.cat([window, window[:, :1]], 1) if periodic[axis] else window
        assert float(wide.diff(dim=1).abs().max()) < 0.3  # no step
    # the ramp at the first border is sin^2 of the distance
    edge = split.edges[1][1]
    s = (torch.arange(-3, 3) + 0.5 + 3) / 6
    torch.testing.assert_close(
        split.windows(like)[1][1, edge - 3 : edge + 3],
        torch.sin(math.pi / 2 * s) ** 2,
        rtol=1e-12,
        atol=1e-14,
    )
    assert split.windows(like)[1][0, -1] == (
        0.0 if not periodic[1] else split.windows(like)[1][0, -1]
    )
    assert bool(split.windows(like)[1][0, -1] > 0) == periodic[1]


def test_one_expert_is_the_global_sum_bit_for_bit():
    columns, weights = torch.randn(2, 5, 6, 7), torch.randn(2, 1, 5)
    found = Split((6, 7), (1, 1), overlap=2).assemble(columns, weights)
    assert torch.equal(found, (columns * weights[:, 0, :, None, None]).sum(1))


@pytest.mark.parametrize("periodic", [False, True])
def test_jump_is_that_of_the_two_neighbours_at_both_sides(periodic):
    split = Split((4, 9), (1, 3), periodic=(False, periodic))
    columns, weights = torch.randn(2, 3, 4, 9), torch.randn(2, 3, 3)
    fields = torch.einsum("bntx,bkn->bktx", columns, weights)
    gaps = []
    borders = [(0, 1, 3), (1, 2, 6)] + ([(2, 0, 0)] if periodic else [])
    for left, right, line in borders:
        for x in (line, line - 1):
            gaps.append(fields[:, left, :, x] - fields[:, right, :, x])
    wanted = torch.stack(gaps, 1).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(split.jump(columns, weights), wanted, rtol=1e-13, atol=1e-14)
    same = weights[:, :1].expand_as(weights)
    assert float(split.jump(columns, same).max()) == 0.0
    assert float(Split((4, 9), (1, 1)).jump(columns, weights[:, :1]).max()) == 0.0


def test_jump_of_a_split_along_two_axes():
    split = Split((4, 6), (2, 2))
    columns, weights = torch.randn(1, 2, 4, 6), torch.randn(1, 4, 2)
    fields = torch.einsum("bntx,bkn->bktx", columns, weights)[0].unflatten(0, (2, 2))
    gaps = [
        fields[0, j, t, 3 * j : 3 * j + 3] - fields[1, j, t, 3 * j : 3 * j + 3]
        for j, t in itertools.product((0, 1), (1, 2))
    ]
    gaps += [
        fields[i, 0, 2 * i : 2 * i + 2, x] - fields[i, 1, 2 * i : 2 * i + 2, x]
        for i, x in itertools.product((0, 1), (2, 3))
    ]
    wanted = torch.cat([g.flatten() for g in gaps]).square().mean().sqrt()
    torch.testing.assert_close(split.jump(columns, weights)[0], wanted, rtol=1e-13, atol=1e-14)


def test_halo_holds_the_points_beside_a_block():
    split = Split((2, 9), (1, 3))
    assert [sorted(h.tolist()) for h in split.halo()] == [[3, 12], [2, 6, 11, 15], [5, 14]]
    wrapped = Split((1, 9), (1, 3), periodic=(False, True)).halo()
    assert [sorted(h.tolist()) for h in wrapped] == [[3, 8], [2, 6], [0, 5]]
    assert [len(h) for h in Split((2, 9), (1, 1)).halo()] == [0]


@pytest.mark.parametrize(
    ("sizes", "counts", "settings", "match"),
    [
        ((4, 9), (1, 10), {}, "none is empty"),
        ((4, 9), (0, 1), {}, "none is empty"),
        ((4, 9), (1, 2, 2), {}, "one count per axis"),
        ((4, 9), (1, 3), {"overlap": 2}, "must not meet"),
        ((4, 9), (1, 3), {"overlap": -1}, "zero or a positive"),
    ],
)
def test_splits_that_cannot_be_are_refused(sizes, counts, settings, match):
    with pytest.raises(InvalidArgument, match=match):
        Split(sizes, counts, **settings)


def test_counts_by_name():
    assert counts_of(4, "space", ("t", "x"), (101, 1024)) == (1, 4)
    assert counts_of(4, "time", ("t", "x"), (101, 1024)) == (4, 1)
    assert counts_of(4, "space", ("t", "x", "y"), (64, 64, 64)) == (1, 2, 2)
    assert math.prod(counts_of(12, "space_time", ("t", "x", "y"), (64, 32, 32))) == 12
    assert counts_of(6, [3, 2], ("t", "x"), (9, 9)) == (3, 2)
    with pytest.raises(InvalidArgument, match="Type experts=6"):
        counts_of(4, [3, 2], ("t", "x"), (9, 9))
    with pytest.raises(InvalidArgument, match="space, time, space_time"):
        counts_of(4, "time", ("x", "y"), (9, 9))
    with pytest.raises(InvalidArgument, match="positive"):
        counts_of(0, "space", ("t", "x"), (9, 9))
