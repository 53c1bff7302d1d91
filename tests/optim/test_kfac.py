"""K-FAC and MKOR on one process: steps, physics losses, state, refusals."""

import gc
import io
import math
import time
import weakref

import pytest
import torch
from torch import nn

from sciml.autodiff.estimators import SDGD, Exact
from sciml.data.collocation import CollocationBatch, CollocationData
from sciml.errors import InvalidArgument, NumericalWarning
from sciml.modules.sdgd_pinn import SDGDPINN
from sciml.networks.pointwise.mlp import MLP
from sciml.optim import step_size
from sciml.optim.curvature.jacobian import jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.kronecker.kfac import KFAC
from sciml.optim.kronecker.mkor import MKOR, rank_one
from sciml.physics.problems.poisson_box import PoissonBox
from sciml.physics.problems.unit_ball import SineGordon

torch.set_num_threads(1)
F64 = torch.float64


def pinn(problem=None, estimator=None, width=7, depth=3, points=12, boundary=6, seed=0):
    """Return a float64 module and one batch with float64 sources."""
    torch.manual_seed(seed)
    problem = problem or PoissonBox(dim=2)
    module = SDGDPINN(
        problem=problem,
        network=MLP(dim=problem.dim, width=width, depth=depth),
        estimator=estimator or Exact(),
        optimizer=torch.optim.SGD,
        inputs=("x",),
    ).double()
    data = CollocationData(problem=problem, points=points, condition_points=boundary, seed=seed)
    b = data.batch(0, 0, 1)
    conditions = {name: q.to(F64) for name, q in b.conditions.items()}
    points = b.points.to(F64)
    points.source = problem.source(points.x)
    return module, CollocationBatch(points, conditions, b.streams, b.counts)


def train(optimizer, terms, steps):
    """Take steps in a plain loop; return the losses before them."""
    losses = []
    for _ in range(steps):
        objective = Objective(terms, step=optimizer.steps)
        if optimizer.due():
            optimizer.update_curvature(objective)
        loss = sum(t.loss() for t in objective.terms())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.forget()
        losses.append(loss.item())
    return losses


# --- what a step is -----------------------------------------------------------------------------
@pytest.mark.parametrize("inverse", ["exact", "factored", "same"])
def test_one_step_solves_least_squares(inverse):
    """One affine layer: the natural gradient is V A^-1, and the step of length one ends at
    the optimum, also at condition number 1e6."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 3).double()
    x = torch.randn(40, 5, dtype=F64) * torch.logspace(0, -3, 5, dtype=F64)
    y = torch.randn(40, 3, dtype=F64)
    z = torch.cat([x, torch.ones(40, 1, dtype=F64)], 1)
    best = torch.linalg.lstsq(z, y).solution
    least = (z @ best - y).square().sum() / 40

    def terms():
        return [LossTerm("data", layer(x) - y, 1.0, 40)]

    damping = {"exact": 1e-20, "factored": 1e-36, "same": 1e-18}[inverse]
    optimizer = KFAC(layer, step="lr", lr=1.0, momentum=0.0, damping=damping, inverse=inverse)
    train(optimizer, terms, 1)
    assert (terms()[0].loss() - least).item() <= 1e-12


def test_the_quadratic_step_minimises_the_exact_model_over_both_directions():
    module, batch = pinn()
    optimizer = KFAC(module.trial, step="quadratic", damping=1e-3, inverse="same")

    def terms():
        return module.loss_terms(batch)

    train(optimizer, terms, 3)
    last = torch.cat([optimizer.state[p]["update"].flatten() for p in optimizer.treated])
    dense = jacobian_of(Objective(terms), optimizer.layers, optimizer.treated)
    gradient = dense.transposed_times(dense.residual)
    j = dense.dense()
    start = torch.cat([p.detach().flatten() for p in optimizer.treated])
    train(optimizer, terms, 1)
    direction = torch.cat([d.flatten() for d in optimizer.precondition(gradient)])
    basis = torch.stack([-direction, last], 1)
    g = torch.cat([x.flatten() for x in gradient])
    model = basis.t() @ (j.t() @ (j @ basis) + 1e-3 * basis)
    best = basis @ torch.linalg.solve(model, -basis.t() @ g)
    moved = torch.cat([p.detach().flatten() for p in optimizer.treated]) - start
    torch.testing.assert_close(moved, best, rtol=1e-7, atol=1e-12)


def test_the_model_ignores_a_second_direction_that_is_zero_or_parallel():
    for second in (0.0, 2.0):
        d = torch.tensor([[3.0, 1.0], [3.0 * second, second]], dtype=F64)
        linear = d @ torch.tensor([-1.0, 2.0], dtype=F64)
        alpha, mu = step_size.quadratic_model(d @ d.t(), linear)
        assert mu == 0 and math.isclose(alpha, -linear[0] / 10, rel_tol=1e-12)


def test_kl_clip_bounds_the_step():
    torch.manual_seed(1)
    layer = nn.Linear(3, 2).double()
    x = torch.randn(9, 3, dtype=F64)

    def terms():
        return [LossTerm("data", layer(x) - 5.0, 1.0, 9)]

    optimizer = KFAC(layer, step="kl_clip", kl_clip=1e-4, lr=0.3, momentum=0.0, damping=1e-2)
    gradient = torch.autograd.grad(terms()[0].loss(), optimizer.treated)
    start = [p.detach().clone() for p in optimizer.treated]
    train(optimizer, terms, 1)
    moved = [s - p.detach() for p, s in zip(optimizer.treated, start, strict=True)]
    natural = optimizer.precondition(gradient)
    nu = math.sqrt(1e-4 / (0.09 * float(step_size.inner(natural, gradient))))
    assert nu < 1
    for m, n in zip(moved, natural, strict=True):
        torch.testing.assert_close(m, 0.3 * nu * n, rtol=1e-12, atol=1e-14)


def test_the_walk_finds_what_the_whole_grid_finds_with_few_evaluations():
    evaluated = []

    def loss_at(exponent):
        evaluated.append(exponent)
        return (2.0**exponent - 0.06) ** 2

    assert step_size.walk(loss_at, 1.0, start=0)[0] == -4
    assert len(evaluated) == 6
    evaluated.clear()
    assert step_size.walk(loss_at, 1.0, start=-4)[0] == -4
    assert sorted(evaluated) == [-5, -4, -3]
    # a wall in between: nothing near the start lowers the loss, so the whole grid is seen
    assert step_size.walk(lambda e: 2.0 if e > -20 else abs(e + 25), 1.0, start=-3)[0] == -25
    assert step_size.walk(lambda e: math.nan, 1.0)[1] == math.inf


def test_no_improvement_keeps_the_parameters_and_warns():
    layer = nn.Linear(2, 1).double()
    x = torch.randn(4, 2, dtype=F64)
    optimizer = KFAC(layer, step="line_search", lr=1.0)
    objective = Objective(lambda: [LossTerm("data", layer(x)[:, 0], 1.0, 4)])
    optimizer.update_curvature(objective)
    before = [p.detach().clone() for p in optimizer.treated]
    for p in optimizer.treated:  # uphill
        p.grad = -torch.autograd.grad(objective.terms()[0].loss(), p, retain_graph=True)[0]
    with pytest.warns(NumericalWarning, match="no step"):
        optimizer.step()
    for p, q in zip(optimizer.treated, before, strict=True):
        assert torch.equal(p, q)


def test_damping_follows_how_well_the_model_predicts():
    module, batch = pinn()
    optimizer = KFAC(
        module.trial, step="quadratic", damping=1e-2, inverse="same", adapt_every=5, start=1.0
    )
    train(optimizer, lambda: module.loss_terms(batch), 1)
    factor = (19 / 20) ** 5
    rho = optimizer.statistics()["rho"]
    expected = 1e-2 * factor if rho > 0.75 else 1e-2 / factor if rho < 0.25 else 1e-2
    assert math.isclose(optimizer.memory["damping"], expected, rel_tol=1e-12)
    assert not optimizer.accumulates and optimizer.searches


# --- physics ------------------------------------------------------------------------------------
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_factors_of_a_laplacian_are_those_of_a_loop_over_samples(dim):
    """Forward Laplacian written out: value, first derivatives, Laplacian through each layer."""
    problem = PoissonBox(dim=dim)
    module, batch = pinn(problem, points=4)
    optimizer = KFAC(module.trial)
    optimizer.update_curvature(Objective(lambda: module.loss_terms(batch)))
    optimizer.preconditioner.refresh(optimizer.memory, Objective(lambda: []), 0, True)
    layers = list(optimizer.layers.items())
    sums = {name: [0.0, 0.0] for name, _ in layers}
    for x in batch.points.x:
        slots, outputs = {}, {}
        state = torch.cat([x[None], torch.eye(dim, dtype=F64), x.new_zeros(1, dim)])
        for i, (name, layer) in enumerate(layers):
            ones = x.new_zeros(dim + 2, 1)
            ones[0] = 1.0
            slots[name] = torch.cat([state, ones], 1).detach()
            out = state @ layer.weight.t() + ones * layer.bias
            outputs[name] = out
            t = out[0].tanh()
            if i + 1 < len(layers):
                first = (1 - t**2) * out[1 : dim + 1]
                second = -2 * t * (1 - t**2) * out[1 : dim + 1].square().sum(0)
                state = torch.cat([t[None], first, ((1 - t**2) * out[-1] + second)[None]])
        residual = outputs[layers[-1][0]][-1, 0]
        cotangents = torch.autograd.grad(residual, list(outputs.values()))
        for (name, _), gamma in zip(layers, cotangents, strict=True):
            sums[name][0] += slots[name].t() @ slots[name] / (4 * (dim + 2))
            sums[name][1] += 2 * gamma.t() @ gamma / 4  # loss: mean of r^2
    for name, _ in layers:
        for got, expected in zip(
            optimizer.memory["factors"]["residual"][name], sums[name], strict=True
        ):
            torch.testing.assert_close(got[0], expected, rtol=1e-12, atol=1e-12)


def test_the_output_layers_block_is_exact_with_partial_traces():
    """The residual is linear in the last layer's weights and uses one of its slots."""
    module, batch = pinn(points=6)
    for sharing, exact in (("trace", True), ("expand", False)):
        optimizer = KFAC(module.trial, sharing=sharing)
        objective = Objective(lambda: module.loss_terms(batch))
        optimizer.update_curvature(objective)
        j = jacobian_of(objective, optimizer.layers, optimizer.treated)
        name = "network.output"
        optimizer.preconditioner.refresh(optimizer.memory, objective, 0, True)
        rows = j.blocks[0][2][name]
        flat = torch.einsum("sno,snk->nok", rows.cotangents, rows.inputs).flatten(1)
        a, g = optimizer.memory["factors"]["residual"][name]
        error = (torch.kron(g[0], a[0]) - flat.t() @ flat).norm() / (flat.t() @ flat).norm()
        assert (error < 1e-12) == exact


@pytest.mark.parametrize("step", ["quadratic", "line_search", "kl_clip"])
def test_stochastic_dimensions_are_treated_too(step):
    module, batch = pinn(SineGordon(dim=8), SDGD(num_dims=3), width=16, points=40)
    optimizer = KFAC(module.trial, step=step, damping=1e-3, start=1.0, momentum=0.5, kl_clip=0.1)
    losses = train(optimizer, lambda: module.loss_terms(batch), 30)
    assert losses[-1] < 0.1 * losses[0]


def test_micro_batches_add_up_to_the_batch():
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(8, 3, dtype=F64)
    found = []
    for parts in ([x], [x[:4], x[4:]]):
        optimizer = KFAC(net)
        for part in parts:
            objective = Objective(lambda part=part: [LossTerm("data", net(part), 1.0, len(part))])
            optimizer.update_curvature(objective)
        optimizer.preconditioner.refresh(optimizer.memory, objective, 0, True)
        found.append(optimizer.memory["factors"]["data"])
    for name in found[0]:
        for a, b in zip(found[0][name], found[1][name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-15)


# --- MKOR ---------------------------------------------------------------------------------------
def test_rank_one_updates_are_inverses():
    torch.manual_seed(3)
    matrix = torch.eye(5, dtype=F64).repeat(2, 1, 1)
    inverse = matrix.clone()
    for _ in range(7):
        v = torch.randn(2, 5, dtype=F64)
        matrix = 0.9 * matrix + 0.1 * v[:, :, None] * v[:, None, :]
        inverse = rank_one(inverse, v, 0.9)
    torch.testing.assert_close(inverse, torch.linalg.inv(matrix), rtol=1e-12, atol=1e-12)


def test_probes_of_mkor_have_the_factors_as_covariance():
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x = torch.randn(5, 2, dtype=F64)

    def terms():
        return [LossTerm("data", net(x), 0.7, 5)]

    kfac = KFAC(net)
    kfac.update_curvature(Objective(terms))
    kfac.preconditioner.refresh(kfac.memory, Objective(terms), 0, True)
    mkor = MKOR(net)
    draws = {name: ([], []) for name in mkor.layers}
    for step in range(1500):
        for name, (a, g, rows) in mkor._vectors(Objective(terms, step=step)).items():
            for v, out in zip((a[0] / rows.sqrt(), g[0]), draws[name], strict=True):
                out.append(torch.outer(v, v))
    for name, pair in draws.items():
        for samples, m in zip(pair, kfac.memory["factors"]["data"][name], strict=True):
            samples = torch.stack(samples)
            error = samples.std(0) / len(samples) ** 0.5
            assert ((samples.mean(0) - m[0]).abs() <= 4 * error + 1e-12).all()


@pytest.mark.parametrize("statistic", ["probe", "mean"])
def test_mkor_lowers_the_loss_and_keeps_the_length_of_the_gradient(statistic):
    module, batch = pinn(points=40)
    optimizer = MKOR(module.trial, lr=1e-2, statistic=statistic, momentum=0.0)
    before = {p: p.detach().clone() for p in optimizer.treated}
    train(optimizer, lambda: module.loss_terms(batch), 1)
    for layer in optimizer.layers.values():
        parts = list(layer.parameters(recurse=False))
        moved = sum((p.detach() - before[p]).square().sum() for p in parts).sqrt()
        gradient = sum(p.grad.square().sum() for p in parts).sqrt()
        torch.testing.assert_close(moved, 1e-2 * gradient, rtol=1e-12, atol=1e-13)
    losses = train(optimizer, lambda: module.loss_terms(batch), 150)
    assert losses[-1] < 0.6 * losses[0]
    assert optimizer.statistics()["largest"] <= 200


# --- state --------------------------------------------------------------------------------------
class Supervised(nn.Module):
    """A convolution with groups, a norm that goes to Adam, a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, padding=1, groups=2)
        self.norm = nn.LayerNorm(5)
        self.out = nn.Linear(20, 3)

    def forward(self, x):
        return self.out(self.norm(torch.tanh(self.conv(x))).flatten(1))


CONFIGS = {
    "kl clip": lambda m: KFAC(m, step="kl_clip", curvature_every=2, inverse_every=6),
    "plain": lambda m: KFAC(m, step="lr", lr=0.1, curvature_every=3, inverse_every=3, kind="mc"),
    "ekfac": lambda m: KFAC(m, step="kl_clip", ekfac=True, curvature_every=2, inverse_every=6),
    "star": lambda m: KFAC(m, step="quadratic", curvature_every=2, inverse_every=6, adapt_every=4),
    "search": lambda m: KFAC(m, step="line_search", curvature_every=2, inverse_every=6, start=1.0),
    "mkor": lambda m: MKOR(m, curvature_every=5),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_thirteen_and_seven_steps_are_twenty(name):
    x = torch.randn(6, 2, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 2, 0, 1, 2])

    def setup():
        torch.manual_seed(5)
        net = Supervised().double()
        kind = {"kind": "categorical", "target": target}

        def terms():
            return [LossTerm("class", net(x), 1.0, 6, **kind), LossTerm("ridge", net(x), 0.1, 6)]

        return net, CONFIGS[name](net), terms

    net, optimizer, terms = setup()
    assert len(optimizer.unregistered_parameters()) == 2  # the norm
    first = train(optimizer, terms, 13)[0]
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    logged = optimizer.statistics()
    losses = train(optimizer, terms, 7)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other, fresh, other_terms = setup()
    other.load_state_dict(saved["net"])
    fresh.load_state_dict(saved["optimizer"])
    assert fresh.steps == 13
    assert fresh.statistics() == logged
    assert train(fresh, other_terms, 7) == losses
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
    assert losses[-1] < first
    assert all(math.isfinite(v) for v in fresh.statistics().values())


@pytest.mark.usefixtures("own_objects")
def test_a_curvature_pass_leaves_gradients_alone_and_nothing_behind():
    module, batch = pinn()
    optimizer = KFAC(module.trial, step="quadratic", adapt_every=3)
    for p in optimizer.treated:
        p.grad = torch.full_like(p, 7.0)
    objective = Objective(lambda: module.loss_terms(batch))
    optimizer.update_curvature(objective)
    assert all((p.grad == 7).all() for p in optimizer.treated)
    graph = weakref.ref(objective.terms()[0].residual)
    optimizer.step()
    objective.forget()
    del objective
    gc.collect()
    assert graph() is None
    counts = []
    for _ in range(4):
        train(optimizer, lambda: module.loss_terms(batch), 12)
        gc.collect()
        counts.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
    assert counts[-1] == counts[1]
    assert not any(m._forward_hooks or m._backward_hooks for m in module.modules())


# --- refusals -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"damping": 0.0}, "optimizer.damping=0"),
        ({"momentum": 1.0}, "optimizer.momentum=1"),
        ({"step": "newton"}, "kl_clip, quadratic"),
        ({"curvature_every": 3, "inverse_every": 4}, "multiple of optimizer.curvature_every=3"),
        ({"ekfac": True, "grad_worker_fraction": "mem"}, "grad_worker_fraction=comm"),
        ({"kind": "forward_only", "sharing": "trace"}, "optimizer.kind=auto"),
        ({"kind": "forward_only", "ekfac": True}, "optimizer.kind=auto"),
        ({"grad_worker_fraction": "fast"}, "comm, hybrid, mem"),
    ],
)
def test_unusable_arguments_are_named(options, words):
    with pytest.raises(InvalidArgument, match=words):
        KFAC(nn.Linear(2, 1), **options)


def test_unusual_modules(caplog):
    with pytest.raises(InvalidArgument, match="without affine layers"):
        KFAC(nn.LayerNorm(3))
    net = nn.Sequential(nn.Linear(50, 3), nn.Tanh(), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    net[2].bias.requires_grad_(False)
    with caplog.at_level("INFO", logger="sciml"):
        optimizer = KFAC(net, max_factor=40)
    assert list(optimizer.layers) == ["4"]
    assert [name for name, _, _ in optimizer.unregistered_parameters()] == [
        "0.weight",
        "0.bias",
        "2.weight",
    ]
    assert "a factor of size 51" in caplog.text and "frozen" in caplog.text
    with pytest.raises(InvalidArgument, match="update_curvature"):
        optimizer.step()


def test_weights_used_in_unseen_ways_are_refused():
    layer = nn.Linear(3, 3).double()
    x = torch.randn(4, 3, dtype=F64)
    objective = Objective(lambda: [LossTerm("d", layer(x) + x @ layer.weight, 1.0, 4)])
    for kind in (KFAC, MKOR):
        with pytest.raises(InvalidArgument, match="outside the layer's own forward"):
            kind(layer).update_curvature(objective)


# --- figures ------------------------------------------------------------------------------------
def relative_error(module):
    points = module.problem.sample_test(5000, torch.Generator().manual_seed(9))
    exact = module.problem.exact(points.x)
    return float((module.predict_points(points) - exact).norm() / exact.norm())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("options", "steps", "figure"),
    [
        ({"step": "quadratic", "damping": 1e-9, "decay": 0.92}, 500, 5e-3),
        ({"step": "line_search", "damping": 1e-9, "decay": 0.45, "momentum": 0.5}, 200, 2e-2),
    ],
    ids=["star", "line search"],
)
def test_poisson_in_two_dimensions(options, steps, figure, seed):
    """900 interior and 120 boundary points, 257 parameters; figures of issue and method sheet."""
    module, batch = pinn(width=64, depth=2, points=900, boundary=120, seed=seed)
    optimizer = KFAC(module.trial, start=1.0, **options)
    start = time.perf_counter()
    train(optimizer, lambda: module.loss_terms(batch), steps)
    error = relative_error(module)
    print(f"{error:.2e} after {steps} steps, {time.perf_counter() - start:.0f} s")
    assert error <= figure


def test_the_gain_ratio_of_linear_least_squares_is_one():
    """There the quadratic model is the loss itself, so its promise is kept to rounding."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 2).double()
    x, y = torch.randn(30, 4, dtype=F64), torch.randn(30, 2, dtype=F64)
    optimizer = KFAC(layer, step="quadratic", damping=1e-12, adapt_every=1)

    def terms():
        return [LossTerm("data", layer(x) - y, 3.0, y.numel())]

    train(optimizer, terms, 1)
    said = optimizer.statistics()
    assert said["rho"] == pytest.approx(1.0, rel=1e-6)
    for i, name in enumerate(("trace_inputs", "trace_outputs")):
        (factors,) = optimizer.memory["factors"].values()
        traces = [float(m.trace()) for pair in factors.values() for m in pair[i]]
        assert said[name] == pytest.approx(sum(traces) / len(traces), rel=1e-12)
