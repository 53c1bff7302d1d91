"""The SDGD PINN module: its loss, its points, its ranks."""

import functools
import tempfile
from pathlib import Path

import lightning
import pytest
import torch
import torch.distributed as dist

from sciml.autodiff.estimators import SDGD, Exact, Hutchinson
from sciml.autodiff.streams import Streams
from sciml.data.collocation import CollocationBatch, CollocationData
from sciml.errors import InvalidArgument
from sciml.modules.sdgd_pinn import SDGDPINN
from sciml.networks import MLP
from sciml.physics.pde import Points
from sciml.physics.problems.biharmonic import Biharmonic
from sciml.physics.problems.hjb import HJBLQG
from sciml.physics.problems.unit_ball import SineGordon
from sciml.physics.residual.residual_fields import operator_of
from sciml.testing.ranks import run_ranks

torch.set_num_threads(1)
D, N = 6, 5


def module_of(problem, estimator, width=8, **options):
    torch.manual_seed(0)
    timed = problem.time_dependent
    return SDGDPINN(
        problem=problem,
        network=MLP(dim=problem.dim, time=timed, width=width, depth=3),
        estimator=estimator,
        optimizer=functools.partial(torch.optim.SGD, lr=0.1),
        inputs=("x", "t") if timed else ("x",),
        **options,
    ).double()


def batch_of(problem, step=0, rank=0, world=1, **options):
    """Return a float64 batch."""
    data = CollocationData(problem=problem, points=N, seed=5, **options)
    b = data.batch(step, rank, world)
    conditions = {name: q.to(torch.float64) for name, q in b.conditions.items()}
    return CollocationBatch(b.points.to(torch.float64), conditions, b.streams, b.counts)


def loss_of(module, batch):
    return sum(term.loss(batch.streams.world) for term in module.loss_terms(batch))


def gradient_of(module, batch):
    """Return the gradient of the loss in all parameters as one vector."""
    parameters = list(module.parameters())
    pieces = torch.autograd.grad(loss_of(module, batch), parameters, allow_unused=True)
    pieces = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, pieces, strict=True)
    ]
    return torch.cat([g.flatten() for g in pieces])


def dense_residual(module, x, t=None):
    """Return the exact scaled residual (N,) by nested autograd; a source counts as constant."""
    problem, u = module.problem, module.trial(x, t) if t is not None else module.trial(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    trace = sum(
        torch.autograd.grad(slope[:, j].sum(), x, create_graph=True)[0][:, j] for j in range(D)
    )
    if t is None:
        return problem.residual_scale * (trace + torch.sin(u[:, 0]) - problem.source(x.detach()))
    (rate,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    return rate[:, 0] + trace - problem.mu * slope.square().sum(1)


# --- the loss ---------------------------------------------------------------------------------
def test_loss_of_all_dimensions_is_the_mean_square_residual():
    problem = HJBLQG(dim=D)
    for estimator in (Exact(), Exact(chunk=4), SDGD(num_dims=D), SDGD(num_dims=D, algorithm=1)):
        module = module_of(problem, estimator)
        batch = batch_of(problem)
        x, t = batch.points.x.requires_grad_(), batch.points.t.requires_grad_()
        wanted = dense_residual(module, x, t).square().mean()
        assert torch.allclose(loss_of(module, batch), wanted, rtol=1e-11)
        dense = torch.autograd.grad(wanted, list(module.parameters()), allow_unused=True)
        dense = torch.cat([g.flatten() for g in dense if g is not None])
        found = gradient_of(module, batch)
        assert torch.allclose(found[: len(dense)], dense, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("algorithm", [1, 2, 3])
def test_algorithms_are_their_naive_transcriptions(algorithm):
    """Value from the exact, the second or the same draw; gradient from the first."""
    problem = HJBLQG(dim=D)
    module = module_of(problem, SDGD(num_dims=2, algorithm=algorithm))
    batch = batch_of(problem, step=3)
    p, streams = batch.points, batch.streams
    operator = operator_of(problem, p)
    draw = module.estimator.draw(operator, p.x, streams, "dims")
    r = module.residual(p, draw)
    if algorithm == 3:
        loss = r.square().mean()
    else:
        second = operator.exact(p.x)
        if algorithm == 2:
            second = module.estimator.draw(operator, p.x, streams, "reference")
            assert not torch.equal(second.index, draw.index)
        loss = (2 * module.residual(p, second).detach() * r).mean()
    wanted = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    wanted = torch.cat([g.flatten() for g in wanted if g is not None])
    found = gradient_of(module, batch)
    assert torch.allclose(found[: len(wanted)], wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("make", [HJBLQG, SineGordon], ids=["hjb", "sine-gordon"])
def test_gradient_enhancement_is_the_slope_of_the_exact_residual(make):
    problem = make(dim=D)
    module = module_of(problem, Exact(), gradient_enhanced=0.3)
    batch = batch_of(problem)
    terms = {term.name: term for term in module.loss_terms(batch)}
    x = batch.points.x.detach().requires_grad_()
    if problem.time_dependent:
        r = dense_residual(module, x, batch.points.t.requires_grad_())
    else:
        r = dense_residual(module, x)
    (slope,) = torch.autograd.grad(r.sum(), x)
    if not problem.time_dependent:  # the slope of the source by finite differences
        slope = slope - problem.residual_scale * _source_slope(problem, x.detach())
    assert torch.allclose(terms["slope"].residual, slope, rtol=1e-6, atol=1e-7)
    assert terms["slope"].weight == 0.3
    wanted = terms["residual"].residual.square().mean() + 0.3 * slope.square().sum(1).mean()
    assert torch.allclose(loss_of(module, batch), wanted, rtol=1e-6)


def _source_slope(problem, x, h=1e-5):
    steps = h * torch.eye(D, dtype=x.dtype)
    return torch.stack(
        [(problem.source(x + e) - problem.source(x - e)) / (2 * h) for e in steps], 1
    )


def test_soft_conditions_are_terms_with_their_weights():
    problem = Biharmonic(dim=3, normal_weight=7.0)
    torch.manual_seed(0)
    module = module_of(problem, Hutchinson(probes=2, law="gaussian"))
    batch = batch_of(problem, world=2, condition_points=4)
    terms = {term.name: term for term in module.loss_terms(batch)}
    assert set(terms) == {"residual", "normal_derivative"}
    term = terms["normal_derivative"]
    assert (term.weight, term.count) == (7.0, 8)
    # this rank's share of the mean over both ranks, for gradients averaged over ranks
    assert torch.allclose(term.loss(2), 7.0 * term.residual.square().mean(), rtol=1e-12, atol=1e-8)


# --- points -----------------------------------------------------------------------------------
def test_adversarial_ascent_increases_the_residual_and_keeps_the_time():
    problem = HJBLQG(dim=D)
    module = module_of(problem, Exact(), adversarial_steps=5, adversarial_size=0.02)
    batch = batch_of(problem)
    batch.points.t[0], batch.points.t[1] = 0.999, 0.001
    moved = module.choose_points(batch).points
    assert moved.t.min() >= 0 and moved.t.max() <= problem.final_time
    assert 0 < (moved.x - batch.points.x).abs().max() <= 5 * 0.02 + 1e-12
    before, after = (
        module.residual(p, module._draw(p, batch, "check")).square() for p in (batch.points, moved)
    )
    assert after.mean() > 1.02 * before.mean()
    assert not moved.x.requires_grad


def test_moved_points_carry_their_own_source():
    problem = SineGordon(dim=D)
    module = module_of(problem, SDGD(num_dims=2), adversarial_steps=2)
    moved = module.choose_points(batch_of(problem)).points
    assert torch.allclose(moved.source, problem.source(moved.x), rtol=1e-6)


def test_residual_adaptive_points_have_larger_residuals():
    problem = HJBLQG(dim=D)
    kept, drawn = [], []
    module = module_of(problem, Exact(), adaptive_power=2.0)
    for step in range(40):
        batch = batch_of(problem, step, candidates=6)
        assert len(batch.points) == 6 * N and batch.counts["interior"] == N
        chosen = module.choose_points(batch).points
        assert len(chosen) == N
        for points, out in ((batch.points, drawn), (chosen, kept)):
            with torch.no_grad():
                out.append(module.residual(points, module._draw(points, batch, "check")).abs())
        # a subset of the candidates, each at most once
        same = (chosen.x[:, None] == batch.points.x).all(-1)
        assert (same.sum(1) == 1).all() and (same.sum(0) <= 1).all()
    assert torch.cat(kept).mean() > 1.15 * torch.cat(drawn).mean()


# --- importance -------------------------------------------------------------------------------
def test_importance_scores_follow_the_network_and_resume():
    problem = SineGordon(dim=D)

    def make():
        return module_of(problem, SDGD(num_dims=3, selection="importance")).float()

    module = make()
    with torch.no_grad():  # one coordinate matters more than the others
        module.trial.network.input.x.weight[:, 2] *= 20
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    options |= {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_steps=20, limit_val_batches=0, **options)
    data = CollocationData(problem=problem, points=N)
    trainer.fit(module, data)
    scores = module.estimator.scores
    assert scores.argmax() == 2 and scores.min() > 0 and scores[2] > 3 * scores[0]
    other = make()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.estimator.scores, scores)


# --- ranks ------------------------------------------------------------------------------------
OPTIONS = {
    "plain": {},
    "gradient-enhanced": {"gradient_enhanced": 0.2},
    "adversarial": {"adversarial_steps": 2},
}


def _rank(rank, world, folder):
    """Compute the gradients on one of two ranks that share points and split dimensions."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    problem, out = HJBLQG(dim=D), {}
    for name, options in OPTIONS.items():
        estimator = SDGD(num_dims=2, ranks="disjoint")
        module = module_of(problem, estimator, dimension_parallel=True, **options)
        batch = module.choose_points(batch_of(problem, 4, rank, world, share_points=True))
        gradient = gradient_of(module, batch)
        dist.all_reduce(gradient)
        out[name] = (batch.points.x, gradient / world)
    module.eval()  # validation points are not shared: nothing may be joined
    own = CollocationData(problem=problem).val_batch(rank, world)
    p = own.points.to(torch.float64)
    out["validation"] = module.residual(p, module._draw(p, own, "validation")).detach()
    out["stream"] = torch.rand(3, generator=Streams(1, 2, rank).generator("points"))
    torch.save(out, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


class _Union(SDGD):
    """What two ranks draw, in one process."""

    def draw(self, operator, like, streams, purpose):
        index = []
        for rank in range(2):
            pair = Streams(streams.seed, streams.step, rank, 2)
            index.append(super().draw(operator, like, pair, purpose).index)
        return operator.along(torch.cat(index), operator.dim / 4, like)


@pytest.fixture(scope="module")
def two_ranks():
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(_rank, (2, folder), 2)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", OPTIONS)
def test_dimension_parallel_gradient_is_that_of_the_union(two_ranks, name):
    problem = HJBLQG(dim=D)
    module = module_of(problem, _Union(num_dims=2, ranks="disjoint"), **OPTIONS[name])
    batch = module.choose_points(batch_of(problem, 4, share_points=True))
    wanted = gradient_of(module, batch)
    for rank in range(2):
        x, found = two_ranks[rank][name]
        assert torch.equal(x, two_ranks[0][name][0])
        assert torch.allclose(x, batch.points.x, rtol=1e-12)
        assert (found - wanted).norm() < 1e-12 * wanted.norm()


def test_validation_under_dimension_parallel_is_each_ranks_own(two_ranks):
    problem = HJBLQG(dim=D)
    module = module_of(problem, SDGD(num_dims=2, ranks="disjoint"))
    for rank in range(2):
        own = CollocationData(problem=problem).val_batch(rank, 2)
        p = own.points.to(torch.float64)
        wanted = module.residual(p, module._draw(p, own, "validation"))
        assert torch.allclose(two_ranks[rank]["validation"], wanted, rtol=1e-12)


def test_streams_are_the_same_in_every_process(two_ranks):
    for rank in range(2):
        here = torch.rand(3, generator=Streams(1, 2, rank).generator("points"))
        assert torch.equal(two_ranks[rank]["stream"], here)
    assert not torch.equal(two_ranks[0]["stream"], two_ranks[1]["stream"])


# --- arguments --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gradient": "none"}, "gradient=none"),
        (
            {"dimension_parallel": True, "estimator": SDGD(num_dims=2, algorithm=2)},
            "dimension_parallel with algorithm 2",
        ),
        ({"estimator": SDGD(num_dims=D + 1)}, f"estimator.num_dims={D + 1}"),
    ],
)
def test_unusable_arguments_are_named(options, words):
    options = {"estimator": Exact(), **options}
    with pytest.raises(InvalidArgument, match=words):
        module_of(HJBLQG(dim=D), **options)


def test_predictions_take_any_dtype_and_return_float64():
    problem = HJBLQG(dim=D)
    module = module_of(problem, Exact()).float()
    p = problem.sample_test(3, torch.Generator().manual_seed(0))
    u = module.predict_points(p)
    assert u.shape == (3,) and u.dtype == torch.float64
    wanted = module(p.x.float(), p.t.float())[:, 0].double()
    assert torch.equal(u, wanted)
    assert torch.equal(module.predict_points(Points(p.x.float(), p.t.float())), u)


def test_runs_in_double_precision(tmp_path) -> None:
    from sciml.cli.train import main

    words = ["model=pinn_hjb", "problem.dim=6", "estimator.num_dims=4", "trainer.max_steps=3"]
    words += ["trainer.precision=64-true", "data.test_points=50", "callbacks.plots=null"]
    assert main([*words, f"hydra.run.dir={tmp_path}/run"]) == 0
