"""Sophia and AdaHessian: formulas, state, accumulation, ranks."""

import gc
import math
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm, total_loss
from sciml.optim.diagonal.adahessian import AdaHessian
from sciml.optim.diagonal.probes import gauss_newton_bartlett, hutchinson, squared_probe
from sciml.optim.diagonal.sophia import SophiaG, SophiaH, add_estimate
from sciml.testing.ranks import run_ranks

torch.set_num_threads(1)
F64 = torch.float64
ALL = [
    (SophiaG, {"lr": 0.01, "gamma": 0.5, "weight_decay": 0.1}),
    (SophiaG, {"lr": 0.01, "gamma": 0.5, "bias_correction": True}),
    (SophiaH, {"lr": 0.01, "gamma": 0.5}),
    (AdaHessian, {"lr": 0.05, "weight_decay": 0.1, "curvature_every": 10}),
]


def quadratic(scale, x):
    """Return `1/2 sum_i scale_i x_i^2` as residuals."""
    return [LossTerm("quadratic", scale.sqrt() * x, 0.5 * len(x), len(x))]


def advance(optimizer, terms, step, seed=0):
    optimizer.zero_grad()
    objective = Objective(terms, seed=seed, step=step)
    loss = total_loss(objective.terms())
    if optimizer.due():
        optimizer.update_curvature(objective)
    loss.backward()
    optimizer.step()


# --- formulas -----------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [SophiaG, SophiaH])
def test_a_quadratic_over_six_decades_is_solved_in_one_step(make):
    scale = torch.logspace(0, 6, 7, dtype=F64)
    x = nn.Parameter(torch.linspace(-0.9, 0.8, 7, dtype=F64))
    optimizer = make([x], lr=1.0, gamma=1.0, betas=(0.0, 0.0), curvature_every=1)
    advance(optimizer, lambda: quadratic(scale, x), 0)
    assert x.abs().max() <= 1e-14
    assert optimizer.statistics()["win_rate"] == 1.0


def test_clipped_coordinates_move_by_lr_and_no_more():
    scale = torch.logspace(0, 6, 7, dtype=F64)
    start = torch.tensor([9.0, -4.0, 0.05, -0.02, 3.0, 0.01, -8.0], dtype=F64)
    x = nn.Parameter(start.clone())
    optimizer = SophiaG([x], lr=0.1, gamma=1.0, betas=(0.0, 0.0))
    advance(optimizer, lambda: quadratic(scale, x), 0)
    moved = start - x.detach()
    torch.testing.assert_close(moved, 0.1 * start.clamp(-1, 1), rtol=1e-12, atol=1e-15)
    assert optimizer.statistics()["win_rate"] == pytest.approx(3 / 7)


def test_without_curvature_the_step_is_a_sign_and_so_it_is_where_curvature_is_negative():
    x = nn.Parameter(torch.tensor([2.0, -3.0, 0.0], dtype=F64))
    optimizer = SophiaH([x], lr=0.1)
    assert optimizer.due()  # the first refresh belongs to the first step
    x.grad = torch.tensor([1e-3, -5.0, 0.0], dtype=F64)
    optimizer.step()
    torch.testing.assert_close(
        x.detach(), torch.tensor([1.9, -2.9, 0.0], dtype=F64), rtol=1e-12, atol=1e-11
    )
    add_estimate(optimizer, [torch.tensor([-4.0, -1e9, 1.0], dtype=F64)])
    optimizer.step()
    torch.testing.assert_close(
        x.detach(), torch.tensor([1.8, -2.8, 0.0], dtype=F64), rtol=1e-12, atol=1e-11
    )
    numbers = optimizer.statistics()
    assert numbers["h_negative"] == pytest.approx(2 / 3) and numbers["h_min"] < 0


@pytest.mark.parametrize("corrected", [False, True])
def test_sophia_follows_the_formula_on_a_scalar_sequence(corrected):
    lr, b1, b2, gamma, decay, every = 0.02, 0.9, 0.8, 0.3, 0.5, 3
    gs = [math.sin(3 * i) + 0.2 for i in range(20)]
    ds = [abs(math.cos(i)) * 2 for i in range(20)]
    theta, m, h, n = 1.5, 0.0, 0.0, 0
    for i, (g, d) in enumerate(zip(gs, ds, strict=True)):
        m = b1 * m + (1 - b1) * g
        if i % every == 0:
            h, n = b2 * h + (1 - b2) * d, n + 1
        denominator = max(gamma * (h / (1 - b2**n) if corrected else h), 1e-12)
        theta = theta * (1 - lr * decay) - lr * min(1.0, max(-1.0, m / denominator))
    p = nn.Parameter(torch.tensor([1.5], dtype=F64))
    options = {"lr": lr, "betas": (b1, b2), "gamma": gamma, "weight_decay": decay}
    options |= {"curvature_every": every, "bias_correction": corrected}
    optimizer = SophiaG([p], **options)
    for g, d in zip(gs, ds, strict=True):
        p.grad = torch.tensor([g], dtype=F64)
        if optimizer.due():
            add_estimate(optimizer, [torch.tensor([d], dtype=F64)])
        optimizer.step()
    assert p.item() == pytest.approx(theta, rel=1e-13)


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("every", [1, 4])
def test_adahessian_follows_the_formula_on_a_scalar_sequence(every, power):
    lr, b1, b2, eps, decay = 0.05, 0.9, 0.99, 1e-4, 0.3
    gs = [math.sin(3 * i) + 0.2 for i in range(20)]
    ds = [math.cos(i) * 2 for i in range(20)]
    theta, m, v, n = 1.5, 0.0, 0.0, 0
    for i, (g, d) in enumerate(zip(gs, ds, strict=True)):
        m = b1 * m + (1 - b1) * g
        if i % every == 0:
            v, n = b2 * v + (1 - b2) * d * d, n + 1
        mhat, vhat = m / (1 - b1 ** (i + 1)), v / (1 - b2**n)
        theta = theta * (1 - lr * decay) - lr * mhat / (vhat ** (power / 2) + eps)
    p = nn.Parameter(torch.tensor([1.5], dtype=F64))
    options = {"lr": lr, "betas": (b1, b2), "eps": eps, "weight_decay": decay}
    optimizer = AdaHessian([p], **options, hessian_power=power, curvature_every=every)
    for g, d in zip(gs, ds, strict=True):
        p.grad = torch.tensor([g], dtype=F64)
        if optimizer.due():
            add_estimate(optimizer, [torch.tensor([d], dtype=F64)])
        optimizer.step()
    assert p.item() == pytest.approx(theta, rel=1e-13)


def test_adahessian_solves_a_diagonal_quadratic_in_one_step_whatever_the_interval():
    for every in (1, 10):
        scale = torch.logspace(0, 6, 7, dtype=F64)
        x = nn.Parameter(torch.linspace(-9, 8, 7, dtype=F64))
        optimizer = AdaHessian([x], lr=1.0, eps=1e-300, curvature_every=every)
        advance(optimizer, lambda x=x, scale=scale: quadratic(scale, x), 0)
        assert x.abs().max() <= 1e-13


def test_adahessian_averages_over_kernels_and_blocks():
    conv, matrix = torch.randn(2, 3, 3, 3, dtype=F64), torch.randn(4, 6, dtype=F64)
    wave = torch.randn(2, 3, 4, dtype=torch.complex128)
    params = [nn.Parameter(p.clone()) for p in (conv, matrix, wave)]
    d = [torch.randn(2, 3, 3, 3, dtype=F64), torch.randn(4, 6, dtype=F64)]
    d.append(torch.randn(2, 3, 4, 2, dtype=F64))
    optimizer = AdaHessian(params, betas=(0.9, 0.0), block=3)
    add_estimate(optimizer, d)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    v = [optimizer.state[p]["v"] for p in params]
    kernel = d[0].abs().mean((2, 3), keepdim=True).square().expand_as(d[0])
    torch.testing.assert_close(v[0], kernel, rtol=1e-12, atol=1e-12)
    blocks = d[1].abs().view(4, 2, 3).mean(2).square().repeat_interleave(3, 1)
    torch.testing.assert_close(v[1], blocks, rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(v[2], d[2].square(), rtol=1e-12, atol=1e-11)  # modes are no kernel


# --- accumulation, state ------------------------------------------------------------------------
class Net(nn.Module):
    """A linear layer, a complex weight and a parameter that gets no gradient."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Linear(3, 4, dtype=F64)
        self.z = nn.Parameter(torch.randn(4, dtype=torch.complex128))
        self.idle = nn.Parameter(torch.ones(2, dtype=F64))

    def terms(self, x, count=None):
        f = (torch.tanh(self.a(x)).to(torch.complex128) @ self.z).abs()
        count = len(x) if count is None else count
        return [
            LossTerm("value", f - x.sum(1), 0.7, count),
            LossTerm("other", f * f - 1, 0.2, count),
        ]


def parameters_of(net):
    return torch.cat([(torch.view_as_real(p) if p.is_complex() else p).detach().flatten()
                      for p in net.parameters()])  # fmt: skip


@pytest.mark.parametrize(("make", "options"), ALL)
def test_micro_batches_are_averaged(make, options):
    net = Net()
    xs = torch.randn(2, 5, 3, dtype=F64)
    optimizer = make(net.parameters(), **options)
    names = [name for name, _ in net.named_parameters()]
    probe = gauss_newton_bartlett if make is SophiaG else hutchinson
    total = 0
    for i, x in enumerate(xs):
        objective = Objective(lambda x=x: net.terms(x), step=i)
        optimizer.update_curvature(objective)
        found = probe(Objective(lambda x=x: net.terms(x), step=i), list(net.parameters()))
        total = total + dict(zip(names, found, strict=True))["a.weight"] / 2
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    state, b2 = optimizer.state[net.a.weight], optimizer.param_groups[0]["betas"][1]
    found = state["v"] if make is AdaHessian else state["h"]
    wanted = total.square() if make is AdaHessian else total
    torch.testing.assert_close(found, (1 - b2) * wanted, rtol=1e-12, atol=0)
    assert optimizer.memory["refreshes"] == 1 and "estimate" not in state


@pytest.mark.parametrize(("make", "options"), ALL)
def test_thirteen_and_seven_steps_equal_twenty(tmp_path, make, options):
    xs = torch.randn(20, 6, 3, dtype=F64, generator=torch.Generator().manual_seed(1))

    def train(net, optimizer, steps):
        for i in steps:
            advance(optimizer, lambda i=i: net.terms(xs[i]), i)

    net = Net()
    idle = net.idle.detach().clone()
    train(net, make(net.parameters(), **options), range(20))
    wanted = parameters_of(net)
    assert torch.equal(net.idle, idle)
    net = Net()
    optimizer = make(net.parameters(), **options)
    train(net, optimizer, range(13))
    assert not optimizer.due()
    torch.save([net.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    net = Net()
    net.load_state_dict(weights)
    optimizer = make(net.parameters(), **options)
    optimizer.load_state_dict(state)
    train(net, optimizer, range(13, 20))
    assert torch.equal(parameters_of(net), wanted)


@pytest.mark.usefixtures("own_objects")
@pytest.mark.parametrize(("make", "options"), ALL)
def test_sixty_refreshes_leave_nothing_behind(make, options):
    net, x = Net(), torch.randn(6, 3, dtype=F64)
    optimizer = make(net.parameters(), **{**options, "curvature_every": 1})
    counts = []
    for i in range(60):
        advance(optimizer, lambda: net.terms(x), i)
        if i in (20, 59):
            gc.collect()
            counts.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (SophiaG, {"gamma": 0.0}, "optimizer.gamma=0.0"),
        (SophiaG, {"betas": (0.9, 1.0)}, "optimizer.betas="),
        (SophiaH, {"weight_decay": -1.0}, "optimizer.weight_decay=-1.0"),
        (SophiaH, {"curvature_every": 0}, "optimizer.curvature_every=0"),
        (AdaHessian, {"hessian_power": 1.5}, "optimizer.hessian_power=1.5"),
        (AdaHessian, {"block": 0}, "optimizer.block=0"),
    ],
)
def test_bad_options_are_named(make, options, words):
    with pytest.raises(InvalidArgument, match=words):
        make([nn.Parameter(torch.zeros(2))], **options)


# --- ranks --------------------------------------------------------------------------------------
STEPS, SIZES = 5, {2: (4, 3), 3: (3, 3, 1)}


def batches(world):
    """Return the joined batch of every step, and the slices of the ranks."""
    xs = torch.randn(STEPS, 7, 3, dtype=F64, generator=torch.Generator().manual_seed(2))
    return [list(x.split(SIZES[world])) for x in xs]


def averaged_gradient(net, parts):
    loss = sum(total_loss(net.terms(x, 7)) for x in parts)
    net.zero_grad()
    loss.backward()


def worker(rank, world, folder):
    address = f"file://{folder}/rendezvous{world}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    out = {}
    for k, (make, options) in enumerate(ALL):
        net = Net()
        optimizer = make(net.parameters(), **{**options, "curvature_every": 2})
        for i, parts in enumerate(batches(world)):
            averaged_gradient(net, parts)  # what DDP leaves in .grad
            if optimizer.due():
                x = parts[rank]
                objective = Objective(lambda n=net, x=x: n.terms(x, 7), seed=4, step=i)
                optimizer.update_curvature(objective)
            optimizer.step()
        out[k] = parameters_of(net)
    torch.save(out, f"{folder}/{world}.{rank}.pt")
    dist.destroy_process_group()


def one_process(make, options, world):
    """Return the parameters trained on the joined batch; Bartlett's e as the ranks draw them."""
    net = Net()
    optimizer = make(net.parameters(), **{**options, "curvature_every": 2})
    for i, parts in enumerate(batches(world)):
        averaged_gradient(net, parts)
        if optimizer.due() and make is SophiaG:
            total = None
            for rank, x in enumerate(parts):
                g = Streams(4, i, rank, world).generator("bartlett")
                terms = net.terms(x, 7)
                squares = squared_probe(terms, [t.draw(g) for t in terms], list(net.parameters()))
                pairs = zip(total or squares, squares, strict=True)
                total = [a + b for a, b in pairs] if total else squares
            add_estimate(optimizer, total)
        elif optimizer.due():
            joined = torch.cat(parts)
            objective = Objective(lambda x=joined: net.terms(x), seed=4, step=i)
            optimizer.update_curvature(objective)
        optimizer.step()
    return parameters_of(net)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_with_ragged_batches_equal_one_process(world):
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(worker, (world, folder), world)
        found = [torch.load(Path(folder) / f"{world}.{r}.pt") for r in range(world)]
    for k, (make, options) in enumerate(ALL):
        wanted = one_process(make, options, world)
        for rank in range(world):
            assert (found[rank][k] - wanted).norm() <= 1e-12 * wanted.norm()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_curvature_of_filters_is_averaged_over_space_alone(dims):
    """As in the reference: kernels of one, two and three dimensions; others keep every entry."""
    d = torch.randn(2, 3, *(4,) * dims, dtype=F64)
    optimizer = AdaHessian([nn.Parameter(d.clone())], spatial=True)
    found = optimizer._averaged(optimizer.treated[0], d)
    wanted = d.abs().flatten(2).mean(2).reshape(2, 3, *(1,) * dims).expand_as(d)
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=0)
    for shape in ((6,), (2, 3), (2, 3, 2, 2, 2, 2)):
        other = torch.randn(*shape, dtype=F64)
        assert torch.equal(optimizer._averaged(nn.Parameter(other.clone()), other), other.abs())
