"""DeepZero, PolyStep and CBO against line-by-line transcriptions, known minima and thresholds."""

import io
import math

import pytest
import torch
from torch import nn

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm, total_loss
from sciml.optim.flat import flatten
from sciml.optim.gradient_free.cbo import CBO
from sciml.optim.gradient_free.deepzero import DeepZero
from sciml.optim.gradient_free.polystep import PolyStep, simplex
from sciml.optim.gradient_free.zeroth_order import forward_parallel, softmin

torch.set_num_threads(1)
MAKERS = {
    "deepzero": lambda p: DeepZero(p, sparsity=0.5, probes=8, refresh=2),
    "polystep": lambda p: PolyStep(p, subspace=4),
    "cbo": lambda p: CBO(p, particles=12, spread=1.0),
}


class Threshold(nn.Module):
    """A network whose gradient is zero or undefined everywhere that matters."""

    def __init__(self, width=8):
        super().__init__()
        self.a, self.b = nn.Linear(2, width).double(), nn.Linear(width, 1).double()

    def forward(self, x):
        return self.b((self.a(x) > 0).to(x))


def setup(seed=0):
    torch.manual_seed(seed)
    net = Threshold(4)

    def terms(batch=0):
        g = torch.Generator().manual_seed(batch)
        x = torch.randn(10, 2, generator=g, dtype=torch.float64)
        return [LossTerm("data", net(x)[:, 0] - x[:, 0].sign() * x[:, 1], 1.0, 10)]

    return net, terms


def quadratic(n, seed=0):
    """Return a vector, terms with its known minimum, and the minimum."""
    g = torch.Generator().manual_seed(seed)
    target = torch.randn(n, generator=g, dtype=torch.float64)
    scales = torch.linspace(1, 2, n, dtype=torch.float64)
    w = nn.Parameter(torch.zeros(n, dtype=torch.float64))
    return w, lambda: [LossTerm("q", scales * (w - target), 1.0, n)], target


def train(optimizer, terms, steps, schedule=None):
    for i in range(steps):
        if schedule is not None:
            optimizer.param_groups[0]["lr"] = schedule(i / steps)
        optimizer.update_curvature(Objective(terms, seed=7, step=i))
        optimizer.step()


# --- known minima ---------------------------------------------------------------------------------
def test_central_differences_find_the_minimum_of_a_quadratic():
    w, terms, target = quadratic(6)
    train(DeepZero([w], lr=0.5, momentum=0.5, sparsity=0.0, central=True), terms, 200)
    assert (w.detach() - target).abs().max() < 1e-9


def test_forward_differences_stop_half_a_difference_step_short():
    # L(w + mu e) - L(w) = 0 along a coordinate of a quadratic at the minimum minus mu / 2
    w, terms, target = quadratic(6)
    train(DeepZero([w], lr=0.5, momentum=0.5, sparsity=0.0, smoothing=1e-2), terms, 200)
    torch.testing.assert_close(w.detach(), target - 5e-3, rtol=0, atol=1e-9)


def test_sparse_patterns_reach_the_minimum_too():
    w, terms, target = quadratic(40)
    train(DeepZero([w], lr=5.0, momentum=0.0, sparsity=0.8, central=True), terms, 200)
    assert (w.detach() - target).abs().max() < 1e-4


@pytest.mark.parametrize("polytope", ["orthoplex", "simplex"])
def test_polystep_finds_the_minimum_of_a_quadratic(polytope):
    w, terms, target = quadratic(6)
    optimizer = PolyStep([w], subspace=4, polytope=polytope)
    train(optimizer, terms, 300, lambda t: 0.5 * 1e-4**t)
    assert (w.detach() - target).abs().max() < 1e-3


@pytest.mark.parametrize("relative", [True, False])
def test_cbo_finds_the_minimum_of_a_quadratic(relative):
    w, terms, target = quadratic(4)
    alpha = 100.0 if relative else 1e4
    optimizer = CBO([w], particles=100, spread=1.0, alpha=alpha, relative=relative, noise=1.3)
    train(optimizer, terms, 250)
    assert (w.detach() - target).abs().max() < 3e-2


def test_cbo_leaves_local_minima():
    # Rastrigin's function in two dimensions: start in the basin of another minimum
    w = nn.Parameter(torch.full((2,), 2.0, dtype=torch.float64))

    def terms():
        waves = 10 * (1 - torch.cos(2 * math.pi * w))
        return [LossTerm("r", (w**2 + waves).sum()[None].sqrt(), 1.0, 1)]

    train(CBO([w], particles=100, spread=2.0), terms, 200)
    assert w.detach().abs().max() < 0.05


@pytest.mark.parametrize("name", ["polystep", "cbo", "deepzero"])
def test_a_threshold_network_learns(name):
    torch.manual_seed(0)
    net = Threshold(12)
    x = torch.randn(80, 2, dtype=torch.float64)
    y = torch.where(x[:, 0] * x[:, 1] > 0, 1.0, -1.0).double()

    def terms():
        return [LossTerm("data", net(x)[:, 0] - y, 1.0, len(y))]

    make = {
        "polystep": lambda p: PolyStep(p, subspace=16),
        "cbo": lambda p: CBO(p, particles=100, spread=0.5),
        # differences must be longer than the distance to the next threshold
        "deepzero": lambda p: DeepZero(p, lr=0.1, sparsity=0.5, smoothing=0.3, central=True),
    }[name]
    train(make(net.parameters()), terms, 150, None if name == "cbo" else lambda t: 0.31 - 0.3 * t)
    assert total_loss(terms()) < 0.6  # 1 for the best constant
    assert all(p.grad is None for p in net.parameters())


# --- transcriptions -------------------------------------------------------------------------------
def loss_at(w, terms, point):
    with torch.no_grad():
        old = w.clone()
        w.copy_(point)
        value = total_loss(terms()).clone()
        w.copy_(old)
    return value


@pytest.mark.parametrize("central", [True, False])
def test_deepzero_is_its_formula(central):
    w, terms, _ = quadratic(10)
    optimizer = DeepZero([w], lr=0.1, momentum=0.7, central=central, sparsity=0.6, probes=4)
    theta, m = w.detach().clone(), torch.zeros(10, dtype=torch.float64)
    for i in range(5):
        g = torch.zeros_like(theta)
        stream = Streams(7, i).generator("deepzero pattern", common=True)
        for k in torch.randperm(10, generator=stream)[:4].tolist():
            e = torch.zeros_like(theta)
            e[k] = 5e-3
            low = theta - e if central else theta
            rise = loss_at(w, terms, theta + e) - loss_at(w, terms, low)
            g[k] = rise / (1e-2 if central else 5e-3)
        m = 0.7 * m + g
        theta = theta - 0.1 * m
        optimizer.update_curvature(Objective(terms, seed=7, step=i))
        optimizer.step()
        torch.testing.assert_close(w.detach(), theta, rtol=1e-12, atol=1e-14)


def test_deepzero_scores_find_the_tensor_that_matters():
    a = nn.Parameter(torch.ones(20, dtype=torch.float64))
    b = nn.Parameter(torch.ones(20, dtype=torch.float64))
    terms = lambda: [LossTerm("q", torch.cat([5 * (a + 1), 0.01 * b]), 1.0, 40)]  # noqa: E731
    optimizer = DeepZero([a, b], sparsity=0.75, probes=256)
    train(optimizer, terms, 1)
    # theta (H g) is large for a: such weights raise the gradient's norm and are not kept
    kept = optimizer.memory["kept"]
    assert kept[1] >= 9 and sum(kept) in (10, 11)
    assert len(optimizer.memory["pattern"]) == sum(kept)


def test_polystep_is_its_formula():
    w, terms, _ = quadratic(5)
    optimizer = PolyStep([w], lr=0.2, probe=1.5, temperature=0.7, subspace=3)
    theta = w.detach().clone()
    for i in range(5):
        stream = Streams(7, i).generator("polystep", common=True)
        q = torch.linalg.qr(torch.randn(5, 3, generator=stream, dtype=torch.float64)).Q
        vertices = [sign * q[:, k] for sign in (1, -1) for k in range(3)]
        losses = torch.stack([loss_at(w, terms, theta + 0.3 * v) for v in vertices])
        weights = torch.exp(-losses / (0.7 * losses.std(correction=0)))
        weights = weights / weights.sum()
        theta = theta + sum(0.2 * c * v for c, v in zip(weights, vertices, strict=True))
        optimizer.update_curvature(Objective(terms, seed=7, step=i))
        optimizer.step()
        torch.testing.assert_close(w.detach(), theta, rtol=1e-11, atol=1e-13)


def test_hot_polystep_follows_the_gradient_and_cold_the_best_vertex():
    w, terms, _ = quadratic(4)
    (slope,) = torch.autograd.grad(total_loss(terms()), w)
    for temperature in (1e3, 1e-3):
        w, terms, _ = quadratic(4)
        optimizer = PolyStep([w], lr=1e-3, temperature=temperature, subspace=4)
        train(optimizer, terms, 1)
        step = w.detach()
        if temperature > 1:
            cosine = torch.dot(step, -slope) / step.norm() / slope.norm()
            assert cosine > 0.9999
        else:
            assert step.norm() == pytest.approx(1e-3)


def test_simplex_is_regular():
    corners = simplex(5)
    gram = corners @ corners.t()
    expected = torch.full((6, 6), -1 / 5, dtype=torch.float64).fill_diagonal_(1.0)
    torch.testing.assert_close(gram, expected, rtol=1e-13, atol=1e-14)
    assert corners.sum(0).abs().max() < 1e-14


@pytest.mark.parametrize("relative", [True, False])
def test_cbo_is_its_formula(relative):
    w, terms, _ = quadratic(3)
    optimizer = CBO([w], lr=0.2, particles=6, alpha=2.0, drift=0.8, noise=0.5, relative=relative)
    first = Streams(7, 0).generator("cbo cloud", common=True)
    drawn = torch.randn(6, 3, generator=first, dtype=torch.float64)
    drawn[0] = 0
    cloud = 0.3 * drawn
    for i in range(5):
        losses = torch.stack([loss_at(w, terms, p) for p in cloud])
        power = -2.0 * losses / (losses.std(correction=0) if relative else 1.0)
        c = (power.exp()[:, None] * cloud).sum(0) / power.exp().sum()
        stream = Streams(7, i).generator("cbo noise", common=True)
        xi = torch.randn(6, 3, generator=stream, dtype=torch.float64)
        cloud = cloud - 0.8 * 0.2 * (cloud - c) + 0.5 * 0.2**0.5 * (cloud - c) * xi
        optimizer.update_curvature(Objective(terms, seed=7, step=i))
        optimizer.step()
        torch.testing.assert_close(w.detach(), c, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(optimizer.memory["particles"], cloud, rtol=1e-11, atol=1e-13)


def test_softmin_survives_any_losses():
    inf = math.inf
    for losses, expected in [
        ([1e300, 1e300, inf], [0.5, 0.5, 0.0]),
        ([inf, inf], [0.5, 0.5]),
        ([0.0, math.nan, 5.0], [1.0, 0.0, 0.0]),
        ([3.0, 3.0 + 1e-15, 3.0], [1 / 3, 1 / 3, 1 / 3]),
    ]:
        weights = softmin(torch.tensor(losses, dtype=torch.float64), 50.0)
        torch.testing.assert_close(
            weights, torch.tensor(expected, dtype=torch.float64), rtol=1e-2, atol=1e-9
        )
    strong = softmin(torch.tensor([1e5, 2e5], dtype=torch.float64), 1e6, relative=False)
    assert strong.tolist() == [1.0, 0.0]


# --- infrastructure -------------------------------------------------------------------------------
def test_losses_leave_the_parameters_alone():
    net, terms = setup()
    before = flatten(net.parameters())
    points = before + torch.randn(5, len(before), dtype=torch.float64)
    objective = Objective(terms)
    values = objective.losses(points, list(net.parameters()))
    assert torch.equal(flatten(net.parameters()), before)
    assert objective.evaluations == 5 and not values.requires_grad
    calls = []

    def broken():
        calls.append(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Objective(broken).losses(points, list(net.parameters()))
    assert torch.equal(flatten(net.parameters()), before) and len(calls) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_batched_evaluation_changes_nothing(name):
    results = []
    for batched in (False, True):
        net, terms = setup()
        optimizer = MAKERS[name](net.parameters())
        optimizer.chunk = 3
        for i in range(4):
            evaluate = forward_parallel(net, terms) if batched else None
            optimizer.update_curvature(Objective(terms, step=i, batched=evaluate))
            optimizer.step()
        results.append(flatten(net.parameters()))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_state_continues_bit_for_bit(name):
    def run(optimizer, terms, start, stop):
        for i in range(start, stop):
            optimizer.update_curvature(Objective(lambda i=i: terms(i), step=i))
            optimizer.step()

    net, terms = setup()
    run(MAKERS[name](net.parameters()), terms, 0, 20)
    expected = flatten(net.parameters())
    net, terms = setup()
    first = MAKERS[name](net.parameters())
    run(first, terms, 0, 13)
    buffer = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": first.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    net, terms = setup()
    net.load_state_dict(saved["net"])
    second = MAKERS[name](net.parameters())
    second.load_state_dict(saved["optimizer"])
    assert second.statistics() == first.statistics()
    run(second, terms, 13, 20)
    assert torch.equal(flatten(net.parameters()), expected)
    assert not torch.equal(flatten(setup()[0].parameters()), expected)


@pytest.mark.parametrize("name", MAKERS)
def test_any_precision_and_complex_numbers(name):
    w = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    b = nn.Parameter(torch.zeros(3, dtype=torch.float32))
    terms = lambda: [  # noqa: E731
        LossTerm("w", torch.view_as_real(w - (1 - 2j)), 1.0, 2),
        LossTerm("b", b - 1, 1.0, 3),
    ]
    before = total_loss(terms()).detach()
    train(MAKERS[name]([w, b]), terms, 60)
    assert total_loss(terms()) < 0.7 * before
    assert w.dtype == torch.complex64 and b.dtype == torch.float32


def test_wrong_use_is_answered():
    w = nn.Parameter(torch.zeros(2))
    for make, word in [
        (lambda: DeepZero([w], sparsity=1.0), "sparsity"),
        (lambda: DeepZero([w], smoothing=0.0), "smoothing"),
        (lambda: DeepZero([w], lr=0.0), "lr"),
        (lambda: PolyStep([w], temperature=0.0), "temperature"),
        (lambda: PolyStep([w], polytope="simplx"), "simplex"),
        (lambda: CBO([w], particles=1), "particles"),
        (lambda: CBO([w], chunk=0), "chunk"),
        (lambda: CBO([w]).step(), "update_curvature"),
    ]:
        with pytest.raises(InvalidArgument, match=word):
            make()
