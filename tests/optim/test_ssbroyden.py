"""Self-scaled quasi-Newton iterations against dense formulas and known minima."""

import io
import math

import pytest
import torch
from torch import nn

from sciml.autodiff.estimators import Exact
from sciml.data.collocation import CollocationBatch, CollocationData
from sciml.errors import InvalidArgument, NumericalWarning
from sciml.modules.sdgd_pinn import SDGDPINN
from sciml.networks.pointwise.mlp import MLP
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.flat import assign, flatten, unflatten
from sciml.optim.full.ssbroyden import SSBroyden, coefficients
from sciml.physics.problems.poisson_box import PoissonBox

torch.set_num_threads(1)
VARIANTS = ["ssbroyden", "ssbfgs", "bfgs"]


def setup(seed=0, dtype=torch.float64):
    """Return a network and a function from batch numbers to loss terms."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)

    def terms(batch=0):
        g = torch.Generator().manual_seed(batch)
        x = torch.randn(12, 2, generator=g, dtype=torch.float64).to(dtype)
        return [
            LossTerm("data", net(x)[:, 0] - torch.sin(2 * x.sum(1)), 1.0, 12),
            LossTerm("size", net(x) * 0.1, 0.5, 12),
        ]

    return net, terms


def run(optimizer, terms, steps, start=0, fixed_for=10**6):
    for i in range(start, start + steps):
        optimizer.update_curvature(Objective(lambda i=i: terms(i // fixed_for)))
        optimizer.step()


def naive_coefficients(variant, b, h, n):
    """The sheet's formulas in its order and names."""
    if variant == "bfgs":
        return 1.0, 1.0
    if variant == "ssbfgs":
        return min(1, 1 / b), 1.0
    a = b * h - 1
    c = math.sqrt(a / (1 + a))
    rho_m = min(1, h * (1 - c))
    theta_m, theta_p = (rho_m - 1) / a, 1 / rho_m
    theta = max(theta_m, min(theta_p, (1 - b) / b))
    sigma = 1 + a * theta
    rho_p = min(1, 1 / b)
    if theta > 0:
        tau = rho_p * min(sigma ** (-1 / (n - 1)), 1 / theta)
    else:
        tau = min(rho_p * sigma ** (-1 / (n - 1)), sigma)
    return tau, (1 - theta) / (1 + a * theta)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_update_is_the_formula_and_keeps_its_promises(variant):
    net, terms = setup()
    optimizer = SSBroyden(net.parameters(), variant=variant)
    objective = Objective(terms)
    parameters = list(net.parameters())
    n = len(flatten(parameters))
    inverse = torch.eye(n, dtype=torch.float64)
    for _ in range(30):
        x, before = flatten(parameters), objective.loss_and_gradient(parameters)
        optimizer.update_curvature(objective)
        optimizer.step()
        after = objective.loss_and_gradient(parameters)
        s, y = flatten(parameters) - x, after.gradient - before.gradient
        ys, hy = y @ s, inverse @ y
        yhy, sbs = y @ hy, s @ torch.linalg.solve(inverse, s)
        tau, phi = naive_coefficients(variant, float(sbs / ys), float(yhy / ys), n)
        v = yhy.sqrt() * (s / ys - hy / yhy)
        inverse = (inverse - torch.outer(hy, hy) / yhy + phi * torch.outer(v, v)) / tau
        inverse = inverse + torch.outer(s, s) / ys
        ours = optimizer.memory["inverse"]
        torch.testing.assert_close(ours, inverse, rtol=1e-6, atol=1e-9)
        assert (ours - ours.t()).abs().max() <= 1e-14 * ours.abs().max()
        assert torch.linalg.eigvalsh(ours)[0] > 0
        assert (ours @ y - s).norm() <= 5e-13 * s.norm() * max(1.0, float(ours.norm()))
        # strong Wolfe conditions
        length = optimizer.statistics()["step"]
        slope = float(before.gradient @ s) / length
        assert after.loss <= before.loss + 1e-4 * length * slope
        assert abs(float(after.gradient @ s)) / length <= 0.9 * abs(slope) * (1 + 1e-12)
        inverse = ours.clone()  # compare one update at a time


def test_bfgs_is_the_product_form():
    net, terms = setup()
    optimizer = SSBroyden(net.parameters(), variant="bfgs")
    run(optimizer, terms, 5)
    old = optimizer.memory["inverse"].clone()
    torch.manual_seed(1)
    s = torch.randn(len(old), dtype=torch.float64)
    y = s + 0.1 * torch.randn(len(old), dtype=torch.float64)
    optimizer._update(s, y, -s, 1.0)
    rho, eye = 1 / (y @ s), torch.eye(len(old), dtype=torch.float64)
    left = eye - rho * torch.outer(s, y)
    expected = left @ old @ left.t() + rho * torch.outer(s, s)
    torch.testing.assert_close(optimizer.memory["inverse"], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("b, h", [(0.2, 30.0), (1.0, 1.0), (3.0, 0.4), (50.0, 9.0), (0.9, 1.2)])
def test_coefficients_keep_the_inverse_positive(b, h):
    tau, phi = coefficients("ssbroyden", b, h, 100)
    assert 0 < tau <= 1
    assert 1 + phi * (b * h - 1) > 0  # else H+ would be indefinite
    if b * h > 1 + 1e-9:
        assert (tau, phi) == pytest.approx(naive_coefficients("ssbroyden", b, h, 100), rel=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scale_first", [True, False])
def test_rosenbrock_is_solved(variant, scale_first):
    w = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))

    def terms():
        r = torch.stack([10 * (w[1] - w[0] ** 2), 1 - w[0]])
        return [LossTerm("r", r, 2.0, 2)]

    optimizer = SSBroyden([w], variant=variant, scale_first=scale_first)
    objective = Objective(terms)
    for _ in range(80):
        optimizer.update_curvature(objective)
        if objective.loss() < 1e-24:
            break
        optimizer.step()
    assert (w.detach() - 1).abs().max() < 1e-10


def test_the_gradient_is_taken_again_only_where_it_must_be():
    net, terms = setup()
    calls = []

    def counted(batch):
        calls.append(batch)
        return terms(batch)

    optimizer = SSBroyden(net.parameters())
    fixed = Objective(lambda: counted(0))
    for _ in range(6):
        optimizer.update_curvature(fixed)
        optimizer.step()
    assert len(calls) == 1 + optimizer.statistics()["evaluations"]
    known = optimizer._reached[2]
    # the same batch in another objective: terms are looked at, the gradient is kept
    optimizer.update_curvature(Objective(lambda: counted(0)))
    assert optimizer._now is known
    optimizer.update_curvature(Objective(lambda: counted(1)))
    assert optimizer._now is not known
    fresh = Objective(lambda: terms(1)).loss_and_gradient(list(net.parameters()))
    assert torch.equal(optimizer._now.gradient, fresh.gradient)
    # the same objective after somebody moved the weights
    with torch.no_grad():
        net[0].bias += 0.1
    optimizer.update_curvature(fixed)
    assert not torch.equal(optimizer._now.gradient, known.gradient)


def test_new_batches_keep_the_inverse_and_lower_the_loss():
    net, terms = setup()
    optimizer = SSBroyden(net.parameters())
    before = float(sum(Objective(lambda b=b: terms(b)).loss() for b in range(20)))
    run(optimizer, terms, 100, fixed_for=5)
    after = float(sum(Objective(lambda b=b: terms(b)).loss() for b in range(20)))
    assert after < 0.6 * before
    assert not optimizer.memory["fresh"]


def test_a_failed_search_keeps_the_weights_and_warns_once():
    w = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = SSBroyden([w], max_evaluations=4)

    class Wrong(torch.autograd.Function):  # a gradient that points uphill
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return -g

    objective = Objective(lambda: [LossTerm("r", Wrong.apply(w), 1.0, 3)])
    optimizer.memory["inverse"] = 2 * torch.eye(3, dtype=torch.float64)
    optimizer.update_curvature(objective)
    with pytest.warns(NumericalWarning, match="no lower loss"):
        optimizer.step()
    assert torch.equal(w.detach(), torch.ones(3, dtype=torch.float64))
    assert torch.equal(optimizer.memory["inverse"], torch.eye(3, dtype=torch.float64))
    optimizer.update_curvature(objective)
    optimizer.step()  # a second warning would be an error here
    assert optimizer.statistics()["failures"] == 2


def test_pairs_without_curvature_are_skipped():
    net, terms = setup()
    optimizer = SSBroyden(net.parameters())
    run(optimizer, terms, 3)
    old = optimizer.memory["inverse"].clone()
    s = torch.ones(len(old), dtype=torch.float64)
    optimizer._update(s, -s, -s, 1.0)
    optimizer._update(s, 0 * s, -s, 1.0)
    assert torch.equal(optimizer.memory["inverse"], old)
    assert optimizer.statistics()["skipped"] == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_saved_state_continues_bit_for_bit(dtype):
    net, terms = setup(dtype=dtype)
    run(SSBroyden(net.parameters()), terms, 20, fixed_for=5)
    expected = flatten(net.parameters())
    net, terms = setup(dtype=dtype)
    first = SSBroyden(net.parameters())
    run(first, terms, 13, fixed_for=5)
    buffer = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": first.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    net, terms = setup(dtype=dtype)
    net.load_state_dict(saved["net"])
    second = SSBroyden(net.parameters())
    second.load_state_dict(saved["optimizer"])
    assert second.statistics() == first.statistics()
    assert second.memory["inverse"].dtype == torch.float64
    run(second, terms, 7, start=13, fixed_for=5)
    assert torch.equal(flatten(net.parameters()), expected)


def test_complex_parameters_are_pairs():
    torch.manual_seed(0)
    start = torch.randn(3, 2, dtype=torch.float64)
    target = torch.randn(3, 2, dtype=torch.float64)
    results = []
    for complex_valued in (True, False):
        w = torch.view_as_complex(start.clone()) if complex_valued else start.clone()
        w = nn.Parameter(w)

        def terms(w=w):
            r = (torch.view_as_real(w) if w.is_complex() else w) - target
            return [LossTerm("r", torch.cat([r**2 + r, r.roll(1, 0) * r]), 1.0, 6)]

        run(SSBroyden([w]), terms_of(terms), 8)
        results.append(flatten([w]))
    assert torch.equal(*results)


def terms_of(terms):
    return lambda batch: terms()


def test_vectors_and_parameters_go_back_and_forth():
    like = [
        torch.randn(2, 3),
        torch.randn(4, dtype=torch.complex128),
        torch.randn((), dtype=torch.float64),
    ]
    flat = flatten(like)
    assert flat.dtype == torch.float64 and len(flat) == 15
    for a, b in zip(unflatten(flat, like), like, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    stacked = unflatten(torch.stack([flat, 2 * flat]), like)
    assert [tuple(t.shape) for t in stacked] == [(2, 2, 3), (2, 4), (2,)]
    copies = [torch.zeros_like(t) for t in like]
    assign(flat, copies)
    assert all(torch.equal(a, b) for a, b in zip(copies, like, strict=True))


def test_wrong_use_is_answered():
    w = nn.Parameter(torch.zeros(200))
    with pytest.raises(InvalidArgument, match="320000 bytes.*max_parameters=100.*lbfgs"):
        SSBroyden([w], max_parameters=100)
    with pytest.raises(InvalidArgument, match="ssbroyden"):
        SSBroyden([w], variant="ssbroiden")
    with pytest.raises(InvalidArgument, match="c1"):
        SSBroyden([w], c1=0.95)
    with pytest.raises(InvalidArgument, match="lr"):
        SSBroyden([w], lr=0.0)
    with pytest.raises(InvalidArgument, match="update_curvature"):
        SSBroyden([w]).step()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_poisson_2d_reaches_the_published_figures(seed):
    torch.manual_seed(seed)
    problem = PoissonBox(dim=2)
    module = SDGDPINN(
        problem=problem,
        network=MLP(dim=2, depth=2, width=64),
        estimator=Exact(),
        optimizer=torch.optim.SGD,
        inputs=("x",),
    ).double()
    data = CollocationData(problem=problem, points=900, condition_points=120, seed=seed)
    b = data.batch(0, 0, 1)
    conditions = {name: q.to(torch.float64) for name, q in b.conditions.items()}
    batch = CollocationBatch(b.points.to(torch.float64), conditions, b.streams, b.counts)
    optimizer = SSBroyden(module.trial.parameters())
    objective = Objective(lambda: module.loss_terms(batch))
    p = problem.sample_test(2000, torch.Generator().manual_seed(99))
    exact = problem.exact(p.x)
    errors = {}
    for i in range(1, 1001):
        optimizer.update_curvature(objective)
        optimizer.step()
        if i in (300, 1000):
            with torch.no_grad():
                errors[i] = float((module.predict_points(p) - exact).norm() / exact.norm())
    assert errors[300] <= 1e-3 and errors[1000] <= 5e-5, errors
