"""Solver-in-the-loop training: gradients, curriculum, what is refused, what it learns."""

import functools

import pytest
import torch

from sciml.data.trajectories.rollouts import RolloutData
from sciml.errors import InvalidArgument
from sciml.modules.solver_in_the_loop import SolverInTheLoop
from sciml.networks.preconditioners.corrector import Corrector
from sciml.optim.gradient_free.polystep import PolyStep
from sciml.physics.fluids.loops import DiskWake, ForcedBurgers
from sciml.testing import runs

ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


@pytest.fixture(scope="module")
def data():
    problem = ForcedBurgers(cells=16, ratio=2, size=16.0, warm_up=10)
    counts = {"train": 2, "val": 1, "test": 1}
    return RolloutData(problem=problem, **counts, steps=12, window=4, restart=0, batch_size=2)


def learner(data, **settings):
    torch.manual_seed(0)
    network = Corrector(width=4, blocks=1, **{k: data.sizes[k] for k in ("scale",)}).double()
    settings = {"optimizer": ADAM, "curriculum": 0, **settings}
    return SolverInTheLoop(network=network, data=data, **settings)


def loss(module, batch):
    return sum(term.loss(1) for term in module.loss_terms(batch))


def test_the_fine_solver_is_the_equation():
    """du/dt of one step of small dt against derivatives by FFT, for a smooth field."""
    loop = ForcedBurgers(cells=64, ratio=1, size=32.0, dt=1e-3, viscosity=0.1)
    x = (torch.arange(64, dtype=torch.float64) + 0.5) * 0.5
    k = 2 * torch.pi / 32
    a, b = torch.sin(k * x)[:, None], torch.cos(k * x)[None]
    u = torch.stack([1 + a * b, 0.5 * b * (1 + a)])[None]
    wave = 2 * torch.pi * torch.fft.fftfreq(64, 0.5, dtype=torch.float64)

    def slope(f, axis):
        shape = [-1, 1] if axis == 0 else [1, -1]
        return torch.fft.ifft2(1j * wave.reshape(shape) * torch.fft.fft2(f)).real

    rate = torch.stack(
        [
            -sum(u[0, i] * slope(u[0, c], i) for i in range(2))
            + 0.1 * sum(slope(slope(u[0, c], i), i) for i in range(2))
            for c in range(2)
        ]
    )
    got = (loop.step(u, torch.zeros_like(u)) - u)[0] / 1e-3
    # bilinear interpolation: diffusion |u| h / 2 (1 - ...) that vanishes with h
    assert float((got - rate).norm() / rate.norm()) < 0.15


def test_references_continue_and_forces_have_their_range(data):
    known = data.sets["train"]
    assert known["states"].shape == (2, 13, 2, 16, 16)
    fine = ForcedBurgers(cells=16, ratio=2, size=16.0, warm_up=10)
    again = fine.reference(2, 12, 201)
    torch.testing.assert_close(again["states"], known["states"], rtol=0, atol=0)
    assert float(known["external"].abs().max()) <= 20 * 0.15
    assert torch.equal(known["source"][:, 0], known["states"][:, 0])


def test_gradient_of_an_unrolled_loss_equals_finite_differences(data):
    module, batch = learner(data, unroll=4), data.batch(0)
    parameters = list(module.network.parameters())
    slopes = torch.autograd.grad(loss(module, batch), parameters)
    torch.manual_seed(1)
    way = [torch.randn_like(p) for p in parameters]
    along = sum((s * w).sum() for s, w in zip(slopes, way, strict=True))
    values = []
    eps = 1e-6
    for step in (eps, -2 * eps):
        with torch.no_grad():
            for p, w in zip(parameters, way, strict=True):
                p += step * w
            values.append(loss(module, batch))
    wanted = (values[0] - values[1]) / (2 * eps)
    torch.testing.assert_close(along.detach(), wanted, rtol=1e-5, atol=0.0)


@pytest.fixture(scope="module")
def wake():
    problem = DiskWake(cells=8, ratio=2, warm_up=2, substeps=1, dt=0.1, rtol=1e-11)
    return RolloutData(problem=problem, train=2, val=1, test=1, steps=5, window=3, batch_size=2)


def test_a_wake_is_packed_and_brought_down(wake):
    loop, known = wake.problem, wake.sets["train"]
    assert known["states"].shape == (2, 6, 2, 17, 9)
    assert (known["states"][:, :, 0, 0, :-1] == 1).all()  # the inflow
    torch.manual_seed(0)
    fine = torch.randn(1, 33, 16).double(), torch.randn(1, 32, 17).double()
    coarse = loop.down(fine)
    # the flux through a coarse face is that through the fine faces on it
    torch.testing.assert_close(coarse[0][0, 3, 2], fine[0][0, 6, 4:6].mean(), rtol=0, atol=1e-15)
    torch.testing.assert_close(coarse[1][0, 3, 2], fine[1][0, 6:8, 4].mean(), rtol=0, atol=1e-15)
    back = loop.unpacked(loop.packed(coarse))
    assert all(torch.equal(a, b) for a, b in zip(back, coarse, strict=True))
    moved = loop.placed(torch.ones(1, 2, 17, 9))
    assert (moved[0, 0, 0] == 0).all() and (moved[0, :, -1, -1] == 0).all()


def test_gradient_through_pressure_solves_equals_finite_differences(wake):
    torch.manual_seed(0)
    network = Corrector(external=1, width=4, blocks=1, periodic=False).double()
    module = SolverInTheLoop(network=network, data=wake, optimizer=ADAM, unroll=3, curriculum=0)
    batch, p = wake.batch(0), network.last.weight
    (slope,) = torch.autograd.grad(loss(module, batch), p)
    way, values, eps = torch.randn_like(p), [], 1e-5
    for step in (eps, -2 * eps):
        with torch.no_grad():
            p += step * way
            values.append(loss(module, batch))
    wanted = (values[0] - values[1]) / (2 * eps)
    torch.testing.assert_close((slope * way).sum(), wanted, rtol=1e-5, atol=0.0)


def test_detaching_the_solver_changes_the_gradient_and_not_the_loss(data):
    batch = data.batch(0)
    found = {}
    for detach in (False, True):
        module = learner(data, unroll=3, detach_solver=detach)
        value = loss(module, batch)
        found[detach] = value, torch.autograd.grad(value, module.network.last.weight)[0]
    assert torch.equal(found[False][0], found[True][0])
    assert not torch.allclose(found[False][1], found[True][1], rtol=1e-3, atol=0.0)


def test_variants_start_where_they_should(data):
    batch = data.batch(1)
    kept = {}
    for variant in ("non", "pre", "sol"):
        module = learner(data, variant=variant, unroll=4)
        kept[variant] = loss(module, batch).item()
        start = batch.inputs["source" if variant == "non" else "state"]
        n = 4 if variant == "sol" else 1
        wanted, state, outer = 0.0, start, batch.inputs["external"]
        for k in range(n):  # as the paper writes it
            state = module.loop.step(state, outer[:, k])
            correction = module.network(state, outer[:, k])
            state = state + correction
            wanted += (state - batch.target[:, k]).square().mean() / n
        if variant == "non":  # the correction that the reference needs
            known = batch.target[:, 0] - module.loop.step(batch.inputs["state"], outer[:, 0])
            wanted = (correction - known).square().mean()
        assert kept[variant] == pytest.approx(wanted.item(), rel=1e-10)
    assert len(set(kept.values())) == 3


def test_uncorrected_states_start_again(data):
    again = RolloutData(problem=data.problem, train=1, val=1, test=1, steps=6, restart=2)
    known = again.sets["train"]
    same = [torch.equal(known["source"][:, k], known["states"][:, k]) for k in range(7)]
    assert same == [True, False, True, False, True, False, True]


def test_the_curriculum_doubles(data, monkeypatch):
    module = learner(data, unroll=4, curriculum=10)
    seen = []
    for step in (0, 9, 10, 19, 20, 10_000):
        monkeypatch.setattr(SolverInTheLoop, "global_step", step)
        seen.append(module.horizon())
    assert seen == [1, 1, 2, 2, 4, 4]


def test_a_solver_without_derivatives_needs_losses_alone(data):
    module = learner(data, differentiable=False, unroll=2)
    with pytest.raises(InvalidArgument, match="polystep"):
        module.configure_optimizers()
    module = learner(data, differentiable=False, optimizer=PolyStep, unroll=2)
    module.configure_optimizers()
    calls, inner = [], module.loop

    def program(state, external):  # any function of numbers
        calls.append(state.requires_grad)
        return torch.from_numpy(inner.step(state, external).numpy().copy())

    module.loop = type("Program", (), {"step": staticmethod(program), "placed": inner.placed})()
    assert not loss(module, data.batch(0)).requires_grad
    assert calls == [False, False]


def test_wrong_settings_are_told(data):
    with pytest.raises(InvalidArgument, match="data.window=8"):
        learner(data, unroll=8)
    with pytest.raises(InvalidArgument, match="variant"):
        learner(data, variant="sup")
    with pytest.raises(InvalidArgument, match="1/4"):
        ForcedBurgers(dt=1.0)
    with pytest.raises(InvalidArgument, match="data.steps=2"):
        RolloutData(problem=data.problem, steps=2)
    with pytest.raises(InvalidArgument, match="\\(N, 2, nx, ny\\)"):
        Corrector()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 8, 8))


def test_corrections_are_measured_in_what_one_step_lacks(data):
    known, loop = data.sets["train"], data.problem
    size = data.sizes["correction_scale"]
    lacking = [
        known["states"][:, k + 1] - loop.step(known["states"][:, k], known["external"][:, k])
        for k in range(12)
    ]
    wanted = torch.stack(lacking).square().mean((0, 1, 3, 4)).sqrt()
    torch.testing.assert_close(torch.tensor(size), wanted, rtol=1e-6, atol=0.0, check_dtype=False)
    one, two = (Corrector(width=4, blocks=1, correction_scale=s) for s in (None, size))
    two.load_state_dict({**one.state_dict(), "correction_scale": two.correction_scale})
    state = known["states"][:, 0].float()
    made = [c(state, known["external"][:, 0].float()) for c in (one, two)]
    torch.testing.assert_close(made[1], made[0] * two.correction_scale, rtol=1e-6, atol=0.0)


def test_errors_that_a_start_has_already_are_not_asked_for(data):
    """A step that is right for the reference needs no correction from another state either."""
    batch = data.batch(1)
    module = learner(data, variant="non")
    outer = batch.inputs["external"][:, 0]
    drift = batch.inputs["source"] - batch.inputs["state"]
    assert float(drift.abs().max()) > 1e-3
    batch.target[:, 0] = module.loop.step(batch.inputs["state"], outer)
    with torch.no_grad():
        for p in module.network.last.parameters():
            p.zero_()
    assert loss(module, batch).item() < 1e-25


def test_pictures_are_of_the_last_step_and_the_curve_of_every_one(tmp_path):
    """The first step's picture stood beside the error of all: 1.5e-2 beside 0.58."""
    grid = [f"data.problem.{word}" for word in ("cells=12", "ratio=2", "size=12.0", "warm_up=5")]
    small = [*grid, "data.train=1", "data.val=1", "data.test=2", "data.steps=8", "network.width=4"]
    run = runs.prepare(["model=sol_burgers", *small, "trainer.max_steps=1"], tmp_path)
    run = runs.fit(run)
    run.trainer.test(run.module, run.data, verbose=False)
    report, batch = run.module.test_report, run.data.test_chunk(0).to("cpu", torch.float32)
    for k, row in enumerate(report["fields"]):
        shown = torch.from_numpy(row["reference"].copy()).float()
        assert torch.equal(shown, batch.target[k, -1, 0].T)
    with torch.no_grad():
        plain = run.module.rolled(batch.inputs["state"], batch.inputs["external"], corrected=False)
        own = run.module.predict_batch(batch)
    curves = report["curves"]["error_over_time"]["y"]
    for name, found in (("uncorrected", plain), ("corrected", own)):
        gap, size = (x.square().sum((0, 2, 3, 4)) for x in (found - batch.target, batch.target))
        wanted = (gap / size).sqrt()
        torch.testing.assert_close(torch.tensor(curves[name]), wanted, rtol=1e-5, atol=0.0)
        assert wanted[-1] > 3 * wanted[0]
    assert report["baselines"]["uncorrected"] == report["metrics"]["test_source/rel_l2"]
    assert len(curves["uncorrected"]) == 8
