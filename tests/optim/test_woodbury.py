"""The low-rank Fisher matrix against dense inverses and closed forms."""

import pytest
import torch

from sciml.optim.low_rank import woodbury
from sciml.optim.low_rank.woodbury import Ring

torch.set_num_threads(1)


def ring_of(vectors, length=None, sizes=None, dtype=torch.float64):
    """Return a ring that has seen the vectors, cut into pieces of the given sizes."""
    length, sizes = length or len(vectors), sizes or [vectors.shape[1]]
    pieces = [torch.zeros(length, n, dtype=dtype) for n in sizes]
    ring = Ring(pieces, torch.zeros(length, length, dtype=torch.float64))
    for v in vectors:
        ring.push(v.split(sizes))
    return ring


def dense(vectors, damping, weight=1.0):
    eye = torch.eye(vectors.shape[1], dtype=torch.float64)
    return damping * eye + weight * vectors.double().t() @ vectors.double()


def relative(found, wanted):
    return (found - wanted).norm() / wanted.norm()


@pytest.mark.parametrize("seen", [1, 3, 5, 12])  # filling, full, wrapped
@pytest.mark.parametrize("weight", [1.0, 0.2])
def test_inverse_equals_the_dense_one(seen, weight):
    g = torch.Generator().manual_seed(seen)
    vectors = torch.randn(seen, 17, generator=g, dtype=torch.float64)
    x = torch.randn(17, generator=g, dtype=torch.float64)
    ring = ring_of(vectors, length=5, sizes=[4, 13])
    kept = vectors[-5:]
    fisher = dense(kept, 1e-3, weight)
    found = torch.cat(ring.newest(1e-3, weight=weight))
    assert relative(found, torch.linalg.solve(fisher, kept[-1])) < 1e-10
    found = torch.cat(ring.solve(x.split([4, 13]), 1e-3, weight=weight))
    assert relative(found, torch.linalg.solve(fisher, x)) < 1e-10


def test_float32_history_equals_the_dense_inverse():
    g = torch.Generator().manual_seed(0)
    vectors = 30 * torch.randn(6, 40, generator=g)
    ring = ring_of(vectors, dtype=torch.float32)
    wanted = torch.linalg.solve(dense(vectors, 1e-3), vectors[-1].double())
    assert relative(ring.newest(1e-3)[0].float(), wanted) < 1e-3
    x = torch.randn(40, generator=g)
    wanted = torch.linalg.solve(dense(vectors, 1e-3), x.double())
    assert relative(ring.solve([x], 1e-3)[0].float(), wanted) < 1e-3


@pytest.mark.parametrize("damping", [1e-3, 1e-9, 1e-14])
def test_one_column_has_a_closed_form_without_cancellation(damping):
    v = torch.linspace(-1, 2, 50, dtype=torch.float64)
    found = ring_of(v[None]).newest(damping)[0]
    assert relative(found, v / (damping + v.square().sum())) < 1e-12


def test_orthogonal_columns_rescale_only_their_own_component():
    v = torch.linalg.qr(torch.randn(9, 4, dtype=torch.float64))[0].t() * torch.arange(1, 5)[:, None]
    found = ring_of(v).newest(1e-8)[0]
    assert relative(found, v[-1] / (1e-8 + 16)) < 1e-12
    x = torch.randn(9, dtype=torch.float64)
    y = ring_of(v).solve([x], 0.5)[0]
    along = v @ x / v.square().sum(1)
    wanted = (x - along @ v) / 0.5 + (along / (0.5 + v.square().sum(1))) @ v
    assert relative(y, wanted) < 1e-12


def test_repeated_gradients_do_not_spoil_the_solve():
    v = torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = ring_of(v.expand(4, 30)).newest(1e-6)[0]
    assert relative(found, v / (1e-6 + 4 * v.square().sum())) < 1e-7


def test_rounding_of_a_bfloat16_history_is_not_amplified():
    v = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    ring = ring_of(v[None], dtype=torch.bfloat16)
    found = ring.newest(1e-6)[0]
    assert relative(found, v / v.square().sum()) < 1e-2  # the difference form is off by 1e3


def test_oldest_vector_is_overwritten_first():
    ring = ring_of(torch.zeros(0, 1), length=3)
    for i in range(1, 8):
        ring.push([torch.tensor([float(i)])])
        kept = [float(ring.pieces[0][slot]) for slot in ring.order()]
        assert kept == [float(k) for k in range(max(1, i - 2), i + 1)]
        outer = ring.pieces[0].flatten()
        assert torch.equal(ring.gram, outer[:, None] * outer.double())


def test_blocks_change_nothing(monkeypatch):
    vectors = torch.randn(5, 23, dtype=torch.float64)
    whole = ring_of(vectors)
    monkeypatch.setattr(woodbury, "BLOCK", 30)
    cut = ring_of(vectors)
    assert torch.allclose(whole.gram, cut.gram, rtol=1e-13)
    assert relative(cut.newest(1e-3)[0], whole.newest(1e-3)[0]) < 1e-11
    again = cut.gram.clone()
    cut.rebuild()
    assert torch.allclose(again, cut.gram, rtol=1e-13)


def test_relative_damping_does_not_see_the_scale_of_gradients():
    vectors = torch.randn(3, 11, dtype=torch.float64)
    one = ring_of(vectors, length=4).newest(1e-2, relative=True)[0]
    thousand = ring_of(1e3 * vectors, length=4).newest(1e-2, relative=True)[0]
    assert relative(1e3 * thousand, one) < 1e-12
    shift = 1e-2 * vectors.square().sum(1).mean()
    assert relative(one, torch.linalg.solve(dense(vectors, shift), vectors[-1])) < 1e-10


@pytest.mark.parametrize("relative_damping", [False, True])
def test_zero_gradients_give_a_zero_direction(relative_damping):
    ring = ring_of(torch.zeros(2, 6), length=3)
    assert torch.equal(ring.newest(1e-3, relative=relative_damping)[0], torch.zeros(6).double())
