"""Weak supervision by walks: unbiased gradients, the reference-free metric, baselines, scores."""

import functools

import lightning.pytorch as pl
import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.walk_labels.walk_clouds import WalkClouds
from sciml.data.walk_labels.walk_data import WalkData
from sciml.errors import InvalidArgument
from sciml.modules.grid_energy import cloud_terms, energy_term, residual_term
from sciml.modules.wos_operator import WalkOperator, half_noise, two_halves
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.networks.elliptic.wos_gino import WosGINO
from sciml.optim.curvature.terms import total_loss
from sciml.physics.elliptic.elliptic_families import StarPoisson
from sciml.testing.runs import fit, prepare

SMALL = {"batch_size": 2, "pool": 4, "nodes": 16, "table": 32, "val_count": 2, "test_count": 2}


def module(data, **options):
    torch.manual_seed(0)
    net = WosFNO(width=4, modes=3, layers=2, hidden=8)
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    return WalkOperator(network=net, data=data, optimizer=sgd, **options)


def slope(m, batch):
    m.zero_grad()
    total_loss(m.loss_terms(batch)).backward()
    return torch.cat([p.grad.flatten() for p in m.network.parameters()])


@pytest.mark.parametrize("control", [0, 4])
def test_gradients_are_unbiased(control):
    """The mean over walks against the gradient with exact solutions as target."""
    d = WalkData(StarPoisson(), walks=1, control=control, eps=1e-3, **SMALL)
    m = module(d, loss="mse")
    with torch.no_grad():
        m.network.domain[-1].weight.mul_(30)
    one = d.batch(0)
    streams = one.streams
    domain, shapes = d._drawn(streams)
    instances = d.family.fields(domain, streams.generator("fields"))
    inside = one.extra["mask"].flatten(1) > 0
    points = torch.where(inside[..., None], d.grid.points(2), 0.0)
    exact = torch.where(inside, instances.solution(points), 0.0)
    target = Batch(one.inputs, exact.view(2, 16, 16).float(), streams, 2, extra=one.extra)
    wanted = slope(m, target)
    found = []
    for step in range(100):
        generator = Streams(5, step).generator("walks")
        estimate, where = d._walked(d._engine(1), instances, shapes, generator)
        labels = d._on_grid(estimate.mean, *where).float() * one.extra["mask"]
        found.append(slope(m, Batch(one.inputs, labels, streams, 2, extra=one.extra)))
    found = torch.stack(found)
    mean, error = found.mean(0), found.std(0) / len(found) ** 0.5
    cosine = torch.nn.functional.cosine_similarity(mean, wanted, dim=0)
    assert cosine > (0.99 if control else 0.97)
    # the squared distance has the expected noise, not more
    assert (mean - wanted).square().sum() < 3 * error.square().sum() + 1e-4 * wanted.square().sum()


def test_two_halves_measure_the_true_error():
    d = WalkData(StarPoisson(), val_walks=16, nodes=16, pool=4, batch_size=2, val_count=8)
    batch = d.val_chunk(0)
    m = module(d)
    with torch.no_grad():
        u = m.predict_batch(batch)
        found = torch.tensor(two_halves(u + 0.05, batch))
        reference = torch.tensor(two_halves(u, batch))
    # shifted by 0.05: (e + 0.05)^2 - e^2 = 0.1 e + 0.0025, with e from the mean of both halves
    mask = batch.extra["mask"]
    count = mask.flatten(1).sum(1)
    e = ((u - batch.target) * mask).flatten(1).sum(1)
    wanted = (0.1 * e + 0.0025 * count).to(found)
    assert torch.allclose(found[:, 0] - reference[:, 0], wanted, rtol=1e-3, atol=1e-4)
    # a perfect prediction scores zero within noise, although labels are noisy
    fine = WalkData(StarPoisson(), val_walks=256, nodes=16, pool=4, batch_size=2, val_count=8)
    better = fine.val_chunk(0).target
    noise = ((batch.target - better) * mask).square().sum()
    assert abs(sum(e for e, _ in two_halves(better, batch))) < 0.7 * float(noise)


def test_losses():
    d = WalkData(StarPoisson(), **SMALL)
    batch = d.batch(0)
    mask, y = batch.extra["mask"], batch.target
    u = module(d).predict_batch(batch).detach()
    error, size = (((a * mask) ** 2).flatten(1).sum(1) for a in (u - y, y))
    wanted = {
        "mse": (error / mask.flatten(1).sum(1)).mean(),
        "relative": (error / size).mean(),
        "norm": (error / size).sqrt().mean(),
    }
    for loss, value in wanted.items():
        m = module(d, loss=loss)
        assert torch.allclose(total_loss(m.loss_terms(batch)), value, rtol=1e-4)
    with pytest.raises(InvalidArgument, match="relative.*norm.*mse"):
        module(d, loss="huber")
    with pytest.raises(InvalidArgument, match="walks.*pino.*ritz"):
        module(d, objective="fem")


# --- baselines ------------------------------------------------------------------------------------
def square_problem(n, screening=None):
    """u = sin(x) sin(2 y) on [-1.5, 1.5]^2, of which a disk is the domain."""
    axis = torch.linspace(-1.5, 1.5, n, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    u = x.sin() * (2 * y).sin()
    alpha = (0.3 * x).exp()
    # div(alpha grad u) = alpha (-5 u + 0.3 du/dx)
    f = -alpha * (-5 * u + 0.3 * x.cos() * (2 * y).sin())
    r = x.hypot(y).clamp_min(1e-9)
    g = (x / r).sin() * (2 * y / r).sin()
    inputs = {"sdf": (r - 1)[None], "source": f[None], "diffusion": alpha[None]}
    inputs["boundary"] = g[None]
    if screening is not None:
        inputs["screening"] = torch.full_like(u, screening)[None]
        inputs["source"] = inputs["source"] + screening * u
    return u[None], Batch(inputs, u[None], Streams(0, 0), 1)


@pytest.mark.parametrize("screening", [None, 3.0])
def test_the_residual_of_a_solution_vanishes_with_the_grid(screening):
    sizes = []
    for n in (31, 61):
        u, batch = square_problem(n, screening)
        sizes.append(float(total_loss([residual_term(u, batch, 1.5)])))
        wrong = float(total_loss([residual_term(-u, batch, 1.5)]))
        assert sizes[-1] < 1e-3 * wrong
    assert sizes[1] < sizes[0] / 12  # fourth order of the square


@pytest.mark.parametrize("screening", [None, 3.0])
@pytest.mark.parametrize("power", [1, 2])
def test_the_energy_is_least_at_the_solution(screening, power):
    """Along u + s |distance|^power, 0 on the boundary; and a jump on the boundary is no way out."""
    u, batch = square_problem(61, screening)
    sdf = batch.inputs["sdf"]
    bump = torch.where(sdf < 0, sdf.abs() ** power, 0.0)
    s = torch.zeros((), dtype=torch.float64, requires_grad=True)
    at_solution, beside = (
        torch.autograd.grad(total_loss([energy_term(u + (s + c) * bump, batch, 1.5)]), s)[0]
        for c in (0.0, 0.3)
    )
    assert beside > 0
    assert at_solution.abs() < 0.04 * beside
    energy = [energy_term(u + c * (sdf < 0), batch, 1.5) for c in (s - 0.1, s, s + 0.1)]
    down, _, up = (float(torch.autograd.grad(total_loss([e]), s)[0]) for e in energy)
    assert down < -0.5 and up > 0.5


@pytest.mark.parametrize("objective", ["pino", "ritz"])
def test_objectives_without_walks_see_no_labels(objective):
    d = WalkData(StarPoisson(), **SMALL)
    m, batch = module(d, objective=objective), d.batch(0)
    one = slope(m, batch)
    batch.target = batch.target + 1
    assert torch.equal(one, slope(m, batch))
    assert one.norm() > 0


# --- clouds ---------------------------------------------------------------------------------------
class Exact(torch.nn.Module):
    """u = sin(x) sin(2 y) + s, whatever it is given."""

    def __init__(self):
        super().__init__()
        self.s = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, points, boundary, distance, source, query=None):
        x, y = (points if query is None else query).unbind(2)
        return x.sin() * (2 * y).sin() + self.s


def test_residuals_on_clouds_by_automatic_differentiation():
    points = torch.rand(2, 12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, y = points.unbind(2)
    u = x.sin() * (2 * y).sin()
    distance = torch.full_like(u, -1.0)
    distance[:, 8:] = 0
    inputs = {"points": points, "boundary": u, "distance": distance, "source": 5 * u}
    batch = Batch(inputs, u, Streams(0, 0), 2)
    net = Exact()
    residual, boundary = cloud_terms(net, batch)
    assert total_loss([residual]) < 1e-25 and total_loss([boundary]) < 1e-25
    with torch.no_grad():
        net.s.fill_(0.1)
    assert total_loss([cloud_terms(net, batch)[1]]).item() == pytest.approx(0.01)
    batch.inputs["source"] = 4 * u
    wanted = 0.01 * u[:, :8].square().mean()
    assert torch.allclose(total_loss([cloud_terms(net, batch)[0]]), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("objective", ["walks", "pino", "ritz"])
def test_clouds_train(objective):
    d = WalkClouds(StarPoisson(), interior=30, boundary=10, batch_size=2, pool=4, table=32)
    torch.manual_seed(0)
    net = WosGINO(nodes=12, width=4, modes=3, layers=1, hidden=8)
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    m = WalkOperator(network=net, data=d, optimizer=sgd, objective=objective)
    total_loss(m.loss_terms(d.batch(0).to("cpu", torch.float32))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_energies_of_clouds_are_least_at_the_solution():
    """Along u + s (1 - |x|^2)^2 in the unit disk, up to the error of random points."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(4, 40_000, 2, dtype=torch.float64, generator=generator) - 1
    r2 = x.square().sum(2)
    # points outside are of no weight where u and f vanish: so the mean over the square is that
    # over the disk, times a constant
    inside = (r2 < 1).double()
    u = x[..., 0].sin() * (2 * x[..., 1]).sin()
    inputs = {"points": x, "boundary": u, "distance": 0 * u - 1, "source": 5 * u * inside}
    batch = Batch(inputs, u, Streams(0, 0), 4)

    class Beside(torch.nn.Module):
        def forward(self, points, boundary, distance, source, query):
            a, b = query.unbind(2)
            r2 = a**2 + b**2
            return (a.sin() * (2 * b).sin() + shift * (1 - r2) ** 2) * (r2 < 1)

    slopes = []
    for start in (0.0, 0.3):
        shift = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        energy, boundary = cloud_terms(Beside(), batch, "ritz")
        assert total_loss([boundary]) == 0
        slopes.append(float(torch.autograd.grad(total_loss([energy]), shift)[0]))
    assert slopes[1] > 0
    assert abs(slopes[0]) < 0.03 * slopes[1]


def test_no_labels_where_none_are_read():
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    for d in (
        WalkData(StarPoisson(), walks=0, **SMALL),
        WalkClouds(StarPoisson(), walks=0, interior=20, boundary=9, pool=4, batch_size=2),
    ):
        batch = d.batch(0)
        inner = batch.target if batch.target.dim() == 3 else batch.target[:, :20]
        assert (inner == 0).all() and batch.inputs["boundary"].abs().max() > 0.1
        with pytest.raises(InvalidArgument, match="at least 1 walk"):
            WalkOperator(network=WosGINO(), data=d, optimizer=sgd)
    assert torch.equal(batch.target[:, 20:], batch.inputs["boundary"][:, 20:])
    with pytest.raises(InvalidArgument, match="labels to be kept"):
        WalkData(StarPoisson(), walks=0, cache=True, **SMALL)


# --- what is refused, and what is logged ----------------------------------------------------------
def test_networks_that_take_other_inputs_are_refused():
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    grid = WalkData(StarPoisson(), **SMALL)
    cloud = WalkClouds(StarPoisson(), interior=20, boundary=9, pool=4, batch_size=2)
    for network, d, hint in (
        (WosGINO(), grid, "Type network=wos_fno"),
        (WosFNO(), cloud, "Type network=wos_gino"),
        (WosFNO(coefficients=["screening"]), grid, "what the data have: sdf, boundary, source"),
        (WosFNO(half=2.0), grid, "network.half=2.0 with data.half=1.5"),
        (WosGINO(half=1.6), cloud, "Type data.half=1.6 only"),
    ):
        with pytest.raises(InvalidArgument, match=hint):
            WalkOperator(network=network, data=d, optimizer=sgd)


def test_the_noise_of_labels_is_what_validation_says():
    """Against the difference from exact solutions of labels by two walks, on the same problems."""
    settings = {"batch_size": 16, "pool": 0, "nodes": 16, "control": 0, "table": 0}
    d = WalkData(StarPoisson(), walks=2, val_walks=32, val_count=48, **settings)
    m = module(d)
    noise = [v for k in range(3) for v in half_noise(d.val_chunk(k))]
    said = (m._noise * sum(noise) / len(noise)) ** 0.5
    squares = []
    for k in range(3):
        streams = d.val_chunk(k).streams
        domain, shapes = d._seen(d.family.domains(16, streams.generator("domains")))
        instances = d.family.fields(domain, streams.generator("fields"))
        generator = Streams(9, k).generator("walks")
        found, (index, own) = d._walked(d._engine(2), instances, shapes, generator)
        points = d.grid.points(16).gather(1, index[..., None].expand(-1, -1, 2))
        u = instances.solution(points)
        square = ((found.mean - u).square() * own).sum(1) / (u.square() * own).sum(1)
        squares += square.tolist()
    true = (sum(squares) / len(squares)) ** 0.5
    assert said == pytest.approx(true, rel=0.15), (said, true)
    assert true > 0.05


def test_a_run_logs_what_walks_cost(tmp_path):
    words = ["model=wos_poisson2d", "network.width=4", "network.modes=3", "network.layers=1"]
    words += ["data.nodes=14", "data.table=24", "data.pool=4", "data.batch_size=2"]
    words += ["data.val_count=2", "data.val_walks=4", "data.test_count=1"]
    run = fit(prepare(words, tmp_path, trainer={"max_steps": 4, "val_check_interval": 2}))
    logged = {k: float(v) for k, v in run.trainer.callback_metrics.items()}
    assert 0.05 < logged["train/walk_share"] < 1
    assert 3 < logged["train/walk_steps"] < 20 and logged["train/walk_truncated"] == 0
    assert 0.001 < logged["val/label_rel_l2"] < 1


def test_what_walks_did_is_known_when_the_checkpoint_of_the_step_is_written(tmp_path):
    class Keep(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.step = int(trainer.global_step)
            self.seen = {k: float(v) for k, v in trainer.callback_metrics.items()}

    words = ["model=wos_poisson2d", "data.nodes=20", "data.pool=16", "data.batch_size=4"]
    words += ["network.width=4", "network.modes=4"]
    keep = Keep()
    trainer = {"max_steps": 3, "limit_val_batches": 0, "log_every_n_steps": 1}
    run = fit(prepare(words, tmp_path, trainer=trainer), keep)
    names = ("train/walk_steps", "train/walk_truncated")
    assert keep.step == 3
    assert all(keep.seen[name] == float(run.trainer.callback_metrics[name]) for name in names)
