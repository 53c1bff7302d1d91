"""Losses of learned directions at what is known, own residuals, and what the judging counts."""

import math
from dataclasses import replace

import pytest
import torch

from sciml.data.pressure_data import PressureData
from sciml.errors import ConfigError, InvalidArgument
from sciml.modules.conjugate_loss import direction_rows, inner, own_residuals
from sciml.physics.fluids import RandomDomains
from sciml.solvers.linear import ConjugateDirections, FlexibleCG, Multigrid, fixed
from sciml.testing import runs

FAMILY = RandomDomains(coefficients=("constant", "log_normal"), sealed=0.3)
SMALL = [
    "model=pressure_2d",
    "data.train_sizes=[16]",
    "data.val_size=16",
    "data.test_sizes=[16,24]",
    "data.val=3",
    "data.test=3",
    "data.chunk=2",
    "network.hidden=2",
]


def systems():
    s = FAMILY.draw(4, (12, 10), torch.Generator().manual_seed(0)).stencil
    b = torch.randn(4, 12, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    b = s.project(torch.where(s.unknown, b, 0.0))
    b = b / inner(b, b).sqrt()
    x = s.solve(b, linear=FlexibleCG(rtol=1e-13, max_iter=5000), on_failure="raise").value
    return s, b, x


class Watched(FlexibleCG):
    def residuals(self, s, b):
        """What its preconditioner, the diagonal, is called with."""
        seen = []

        def divide(r):
            seen.append(r)
            return r / s.diagonal

        replace(self, preconditioner=fixed(divide))(s.operator(b), b)
        return seen


def losses(s, q, b, x, kind):
    return direction_rows(s, q, b, x, kind).square().sum(1)


@pytest.mark.parametrize("kind", ["energy", "residual"])
def test_losses_ignore_the_scale_and_vanish_at_the_solution(kind):
    s, b, x = systems()
    q = x + 0.3 * b
    want = losses(s, q, b, x, kind)
    for factor in (-3.0, 1e-4):
        assert torch.allclose(losses(s, factor * q, b, x, kind), want, rtol=1e-9, atol=0)
    assert bool((losses(s, -2 * x, b, x, kind) < 1e-10).all())
    assert bool((want > 1e-6).all())


def test_the_energy_loss_is_what_one_step_leaves_of_the_error():
    s, b, x = systems()
    q = torch.randn(4, 12, 10, dtype=torch.float64) * s.unknown
    got = losses(s, q, b, x, "energy")
    formula = 1 - inner(q, b) ** 2 / (inner(q, s.times(q)) * inner(x, b))
    assert torch.allclose(got, formula.flatten(), rtol=1e-10, atol=0)
    assert bool(((got >= 0) & (got <= 1)).all())


def test_the_residual_loss_is_what_the_solver_leaves():
    s, b, x = systems()
    f = fixed(lambda r: r + 0.5 * r.roll(1, -1) * s.unknown)
    out = ConjugateDirections(rtol=1e-12, max_iter=1, preconditioner=f)(s.operator(b), b)
    left = b - s.times(out.value)
    got = losses(s, f(None)(b), b, x, "residual")
    # the solver keeps its best iterate, which may be the start
    want = torch.where(inner(left, left).flatten() < 1 - 1e-12, inner(left, left).flatten(), got)
    assert torch.allclose(got, want, rtol=1e-9, atol=0)
    assert bool((got < 1).any())


def test_own_residuals_are_those_of_the_solver():
    s, b, x = systems()
    f = lambda r: r / s.diagonal  # noqa: E731
    age = torch.tensor([0, 1, 2, 4])
    got, solution = own_residuals(f, s, b, x, age)
    for k, steps in enumerate(age.tolist()):
        r = b[k : k + 1]
        if steps:
            one = s[k : k + 1]
            solver = Watched(rtol=1e-12, max_iter=steps + 1)
            r = solver.residuals(one, r)[steps]
        assert torch.allclose(got[k], r[0] / r.norm(), rtol=0, atol=1e-12)
    assert torch.allclose(inner(got, got), torch.ones_like(inner(got, got)), rtol=1e-12, atol=0)
    assert torch.allclose(s.times(solution), got, rtol=0, atol=1e-9)


def test_losses_stay_finite_where_a_good_network_leaves_round_off():
    """In float32 x.b of what eight V-cycles leave is noise of either sign; |x|_A is not."""
    s, b, x = systems()
    s, b, x = s.to(torch.float32), b.float(), x.float()
    cycle = Multigrid(s)
    r, left = own_residuals(cycle.product, s, b, x, torch.full((4,), 8))
    rows = direction_rows(s, cycle.product(r), r, left, "energy")
    assert bool(rows.isfinite().all())
    assert float(losses(s, cycle.product(r), r, left, "energy").max()) <= 1 + 1e-4


def test_ages_follow_the_share():
    data = PressureData(problem=FAMILY, train_sizes=[8], batch_size=2, test_sizes=[8], val_size=8)
    run = runs.prepare(SMALL, None)
    u = (torch.arange(1000) + 0.5) / 1000
    run.module.own_share, run.module.own_steps = 0.5, 4
    ages = run.module._ages(u)
    counts = torch.bincount(ages)
    assert len(counts) == 5 and int(counts[0]) == 500
    assert counts[1:].tolist() == [125] * 4
    run.module.own_share = 0.0
    assert int(run.module._ages(u).max()) == 0
    assert set(data.batch(0).extra) == {"age"}


def test_validation_counts_iterations_and_the_test_compares_sizes(tmp_path):
    words = ["trainer.max_steps=2", "trainer.val_check_interval=2", "module.compare=[cg,multigrid]"]
    run = runs.fit(runs.prepare([*SMALL, *words], tmp_path))
    logged = run.trainer.callback_metrics
    assert 1 <= float(logged["val/iterations"]) <= 40 and float(logged["val/unsolved"]) == 0
    assert float(logged["val/residual"]) <= 1e-6
    run.trainer.test(run.module, run.data, verbose=False)
    found = run.module.test_report["metrics"]
    for part in ("test", "test_24"):
        assert found[f"{part}/iterations"] < found[f"{part}/iterations_cg"]
        assert math.isfinite(found[f"{part}/iterations_multigrid"])
    curve = run.module.test_report["curves"]["iterations"]
    assert curve["x"] == [1, 2] and curve["ticks"] == ["test", "test 24"]
    assert set(curve["y"]) == {"LearnedMultigrid", "cg", "multigrid"}


def test_wrong_combinations_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="trains a PreconditionerNetwork"):
        runs.prepare(["model=pressure_2d", "network=mlp", "data.val=1"], tmp_path)
    with pytest.raises(ConfigError, match="module.loss=cosine"):
        runs.prepare([*SMALL, "module.loss=cosine"], tmp_path)


def test_every_size_may_have_its_own_number_of_test_systems():
    data = PressureData(
        problem=RandomDomains(), test=[3, 1, 2], test_sizes=[8, 10, 12], val=1, val_size=8, chunk=2
    )
    chunks = [data.test_chunk(k) for k in range(data.test_chunks)]
    shapes = [(c.part, len(c.target), c.target.shape[-1]) for c in chunks]
    assert shapes == [("test", 2, 8), ("test", 1, 8), ("test_10", 1, 10), ("test_12", 2, 12)]
    with pytest.raises(InvalidArgument, match="one for each of the sizes"):
        PressureData(problem=RandomDomains(), test=[3, 1], test_sizes=[8, 10, 12])


@pytest.mark.slow
def test_what_is_learned_at_one_size_serves_finer_grids(tmp_path):
    """Measured 11, 14 and 38; with torch's biases and inputs of 2-norm 1 16, 24 and none in 120."""
    sizes = ["data.size=32", "data.val_size=32", "data.test_sizes=[32,64,128]", "data.test=2"]
    words = ["model=dcdm_2d", "data.lanczos=150", "data.val=2", *sizes, "module.max_iter=100"]
    run = runs.fit(runs.prepare(words, tmp_path))
    run.trainer.test(run.module, run.data, verbose=False)
    found = run.module.test_report["metrics"]
    parts = ("test", "test_64", "test_128")
    for part, most in zip(parts, (14, 21, 50), strict=True):
        assert found[f"{part}/iterations"] <= most and found[f"{part}/unsolved"] == 0
        assert 4 * found[f"{part}/iterations"] < found[f"{part}/iterations_cg"]
