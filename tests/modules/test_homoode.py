"""What the HomoODE module does besides a supervised step."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist

from sciml.errors import ConfigError, SciMLError
from sciml.solvers import ODE
from sciml.solvers.ode.initial_value import local_estimates
from sciml.testing import runs

SMALL = [
    "model=homoode_digits",
    "network.width=4",
    "network.head=8",
    "network.groups=2",
    "data.batch_size=8",
]


def prepare(tmp_path, *words, steps=3, **trainer):
    limits = {"max_steps": steps, "limit_val_batches": 0, "log_every_n_steps": 1} | trainer
    return runs.prepare([*SMALL, *words], tmp_path, trainer=limits)


def batch_of(run, step=0):
    return run.data.batch(step)


def test_start_moves_by_its_own_rule(tmp_path):
    """Every second step, plain descent at the cosine's rate; the optimizer does not know it."""
    run = prepare(tmp_path, "module.start_every=2", "module.start_lr=0.5", steps=5)
    start = run.module.network.start
    seen, moves = [], []
    slopes, descend = start.slopes, start.descend

    def spy_slopes(ends):
        loss, found = slopes(ends)
        seen.append((ends.detach().clone(), found.clone(), start.weight.clone()))
        return loss, found

    def spy_descend(found, lr):
        descend(found, lr)
        moves.append((lr, start.weight.clone()))

    start.slopes, start.descend = spy_slopes, spy_descend
    runs.fit(run)
    assert [lr for lr, _ in moves] == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * k / 5)) for k in (2, 4)]
    )
    for (_, found, before), (lr, after) in zip(seen, moves, strict=True):
        assert torch.allclose(after, before - lr * found[0], rtol=1e-6, atol=1e-8)
        assert found.abs().sum() > 0
    owned = {id(p) for group in run.trainer.optimizers[0].param_groups for p in group["params"]}
    assert owned == {id(p) for p in run.module.network.parameters()}


def tiny_cifar(folder) -> str:
    """Return a folder with six files in CIFAR-10's format, 20 random images each."""
    inside, random = folder / "cifar-10-batches-bin", np.random.default_rng(0)
    inside.mkdir()
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        rows = random.integers(0, 256, (20, 3073), dtype=np.uint8)
        rows[:, 0] = np.arange(20) % 10
        rows.tofile(inside / f"{name}.bin")
    return str(folder)


def test_cifar10_is_the_published_model(tmp_path):
    words = ["model=homoode_cifar10", f"data.root={tiny_cifar(tmp_path)}"]
    run = runs.prepare(words, tmp_path)
    network = run.module.network
    assert sum(p.numel() for p in network.parameters()) == 132_938
    assert network.dropout == 0.1 and network.field.norm1.num_groups == 32
    assert network.solver == ODE("dopri5", rtol=1e-3, atol=1e-3)
    assert runs.compose([*words, "scale=paper"])["trainer"]["max_steps"] == 300 * 703
    batch = run.data.batch(0)
    batch.inputs["image"], batch.target = batch.inputs["image"][:2], batch.target[:2]
    (term,) = run.module.loss_terms(batch)
    assert term.residual.shape == (2, 10)


@pytest.mark.parametrize("solver", ["residual_flow", "homotopy", "anderson"])
def test_equilibria_by_any_solver(tmp_path, solver):
    """The same map, so the same equilibrium, and a gradient without a trajectory."""
    kind = "homotopy" if solver == "homotopy" else "residual"
    words = [f"solver={solver}", f"network.kind={kind}", "network.activation=silu"]
    run = prepare(tmp_path, *words, "network.norm=group")
    run.module.network.field.norm1.weight.data.fill_(0.1)
    (term,) = run.module.loss_terms(batch_of(run))
    flow = run.module._flow
    assert float(run.module.network.equilibrium_residual(flow).max()) < 2e-4
    term.loss().backward()
    assert all(p.grad is not None for p in run.module.network.parameters())


def test_start_moves_alike_on_all_ranks(tmp_path, monkeypatch):
    """The mean of the ranks' slopes is the slope on the joined batch."""
    run = prepare(tmp_path)
    start = run.module.network.start
    ends = torch.randn(6, 4, 4, 4)
    joined = start.slopes(ends)[1]
    other = start.slopes(ends[3:])[1]

    class Flow:
        class solution:  # noqa: N801
            value = ends[:3]

    def all_reduce(slopes):
        slopes += other

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(run.module, "log", lambda *a, **k: None)
    run.module._flow, before = Flow, start.weight.clone()
    run.module._move(start, 0.3)
    assert torch.allclose(start.weight, before - 0.3 * joined[0], atol=1e-6, rtol=1e-6)


def test_penalty_over_the_path_is_the_solvers_own(tmp_path):
    run = prepare(
        tmp_path,
        "solver=dopri5",
        "module.regularise=error",
        "module.regularise_where=path",
        "module.regularise_weight=3.0",
    )
    data, solver = run.module.loss_terms(batch_of(run))
    flow = run.module._flow
    wanted = 3.0 * flow.solution.stats["error"].detach().mean()
    assert float(solver.loss()) == pytest.approx(float(wanted), rel=1e-5)
    assert flow.solution.stats["error"].min() > 0
    grads = torch.autograd.grad(solver.loss(), list(run.module.network.field.parameters()))
    assert all(g.isfinite().all() for g in grads) and sum(g.abs().sum() for g in grads) > 0


@pytest.mark.parametrize("name", ["error", "stiffness"])
def test_local_penalty_is_one_step_at_the_drawn_time(tmp_path, name):
    run = prepare(tmp_path, f"module.regularise={name}", "solver.steps=4")
    module = run.module
    places = set()
    for step in range(6):
        batch = batch_of(run, step)
        _, solver = module.loss_terms(batch)
        place = module._random_time(batch)
        places.add(place)
        assert place in (0.0, 0.25, 0.5, 0.75)
        flow, network = module._flow, module.network
        path = flow.solution.stats["path"]
        state = path[0] if place == 0 else path[1]
        theta, steps = (flow.x, flow.mask), flow.solution.stats["evaluations"].steps
        h = (1 - place) / steps
        found = local_estimates(network.velocity, place, h, state, theta)
        wanted = found[0 if name == "error" else 1].mean()
        assert float(solver.loss()) == pytest.approx(float(wanted), rel=1e-4)
    assert len(places) > 1


def test_dropout_is_a_function_of_the_step(tmp_path):
    run = prepare(tmp_path, "network.dropout=0.5")
    losses = [float(run.module.loss_terms(batch_of(run, s))[0].loss()) for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_what_is_logged(tmp_path):
    run = prepare(
        tmp_path, "network.gradient=checkpoint", limit_val_batches=1, val_check_interval=3
    )
    runs.fit(run)
    logged = run.trainer.logged_metrics | run.trainer.callback_metrics
    assert float(logged["ode/nfe_fwd"]) == float(logged["ode/nfe_bwd"]) == 8
    assert float(logged["homo/equilibrium_residual"]) > 0
    assert float(logged["val/nfe"]) == 8 and float(logged["val/equilibrium_residual"]) > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["network.kind=residual", "module.regularise=error"], "network.gradient=backprop"),
        (["module.regularise=sharpness"], "stiffness"),
        (["module.regularise=error", "module.regularise_where=path"], "dopri5"),
        (["module.regularise_where=everywhere"], "local"),
        (["network.gradient=ift"], "network.kind=residual"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, words, said):
    with pytest.raises((SciMLError, ConfigError), match=said):
        prepare(tmp_path, *words)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("words", "least"),
    [
        (["model=homoode_digits"], 0.99),
        (["model=homoode_digits", "trainer.max_steps=600"], 0.985),
        (["model=neural_ode_digits"], 0.98),
    ],
)
def test_accuracy_on_digits(tmp_path, words, least, seed):
    """`python train.py model=homoode_digits seed=0`: a minute on one quiet core."""
    run = runs.prepare([*words, f"seed={seed}"], tmp_path, callbacks=["ema"])
    assert sum(p.numel() for p in run.module.parameters()) <= 32_000
    runs.fit(run)
    (found,) = run.trainer.test(run.module, datamodule=run.data, verbose=False)
    assert found["test/accuracy"] >= least
