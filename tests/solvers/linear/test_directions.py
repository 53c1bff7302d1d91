"""Flexible CG and conjugate directions: CG where they must be, safe where they are not."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg

from sciml.errors import ConvergenceError, InvalidArgument, InvalidType
from sciml.solvers import CG, Operator, Rows, Status
from sciml.solvers.linear import (
    ConjugateDirections,
    FlexibleCG,
    IncompleteCholesky,
    Stencil,
    build_stencil,
    fixed,
    guarded,
)


def box(n: int, batch: int = 1) -> Stencil:
    edge = torch.zeros(n)
    edge[0] = edge[-1] = 1
    shift = edge[:, None] + edge + torch.zeros(batch, n, n)
    faces = torch.ones(batch, n - 1, n), torch.ones(batch, n, n - 1)
    return Stencil(faces, shift, torch.ones(batch, n, n, dtype=torch.bool))


def inverse(s: Stencil, factor: float = 1.0):
    matrix = torch.from_numpy(np.linalg.inv(s.to_csr().toarray()))
    return fixed(lambda r: factor * (r.flatten(1) @ matrix).reshape(r.shape))


def rough(seed: int = 0):
    """Any function: an untrained convolution with ReLU."""
    torch.manual_seed(seed)
    one, two = torch.randn(4, 1, 3, 3), torch.randn(1, 4, 3, 3)

    def f(r):
        hidden = torch.nn.functional.conv2d(r[:, None], one, padding=1).relu()
        return 0.05 * torch.nn.functional.conv2d(hidden, two, padding=1)[:, 0] + r

    return f


@pytest.mark.parametrize("factor", [1.0, -3.0])
def test_the_inverse_is_done_in_one_step(factor):
    s, b = box(8), torch.randn(1, 8, 8)
    solver = ConjugateDirections(rtol=1e-10, preconditioner=inverse(s, factor))
    found = s.solve(b, linear=solver, on_failure="raise")
    assert found.iterations.tolist() == [1]
    if factor > 0:
        solver = FlexibleCG(rtol=1e-10, preconditioner=inverse(s, factor))
        assert s.solve(b, linear=solver, on_failure="raise").iterations.tolist() == [1]


@pytest.mark.parametrize("kind", [FlexibleCG, ConjugateDirections])
def test_without_preconditioner_it_is_scipys_cg(kind):
    s, b = box(16), torch.randn(1, 16, 16)
    theirs: list[np.ndarray] = []
    matrix = s.to_csr()
    cg(matrix, b.flatten().numpy(), rtol=1e-6, atol=0, callback=lambda x: theirs.append(x.copy()))
    seen = []

    def watched(r):
        seen.append(r)
        return r

    solver = kind(rtol=1e-6, preconditioner=fixed(watched))
    found = s.solve(b, linear=solver, on_failure="raise")
    assert found.iterations.tolist() == [len(theirs)]
    for k in range(30):
        r = b.flatten().numpy() - matrix @ theirs[k]
        mine = seen[k + 1].flatten().numpy()
        if kind is ConjugateDirections:  # sees unit residuals
            r = r / np.linalg.norm(r)
        assert np.abs(mine - r).max() < 1e-10


@pytest.mark.parametrize("directions", [0, 1, 2, 5])
def test_the_error_falls_in_every_step_whatever_the_function(directions):
    s, b = box(12), torch.randn(1, 12, 12)
    exact = torch.from_numpy(np.linalg.solve(s.to_csr().toarray(), b.flatten().numpy()))
    kept, operator = [], s.operator(b)
    product = operator.matvec
    operator.matvec = lambda v: kept.append(v) or product(v)
    solver = ConjugateDirections(
        rtol=1e-14, max_iter=25, preconditioner=fixed(rough()), directions=directions
    )
    solver(operator, b)
    x, errors = torch.zeros_like(b), []
    for d in kept[:25]:
        r = b - s.times(x)
        x = x + (d * r).sum() / (d * s.times(d)).sum() * d
        e = x.flatten() - exact
        errors.append(float(e @ s.times(e.reshape(b.shape)).flatten()))
    assert all(new < old for old, new in zip(errors, errors[1:], strict=False))
    for lag in range(1, directions + 1 if directions < 5 else 3):
        for one, two in zip(kept[:25], kept[lag:25], strict=False):
            size = (one * s.times(one)).sum().sqrt() * (two * s.times(two)).sum().sqrt()
            assert (one * s.times(two)).sum().abs() < 1e-10 * size


def test_a_batch_equals_its_problems_and_zero_takes_no_step():
    s, b = box(10, 4), torch.randn(4, 10, 10)
    b[2] = 0
    b[3] *= 1e-40
    bent = fixed(lambda r: r * (1 + 0.3 * torch.tanh(10 * r)))
    for solver in (FlexibleCG(), ConjugateDirections(preconditioner=bent, directions=3)):
        found = s.solve(b, linear=solver, on_failure="raise")
        assert torch.equal(found.value[2], torch.zeros(10, 10)) and found.iterations[2] == 0
        for k in range(4):
            alone = s[k : k + 1].solve(b[k : k + 1], linear=solver, on_failure="raise")
            assert alone.iterations[0] == found.iterations[k]
            scale = alone.value.abs().max()
            assert (found.value[k] - alone.value[0]).abs().max() <= 1e-12 * scale


def test_a_float32_function_does_not_spoil_float64():
    s, b = box(24), torch.randn(1, 24, 24)
    f = inverse(s)(None)
    half = fixed(lambda r: (f(r).float() * (1 + 1e-4 * torch.rand_like(r).float())).double())
    for solver in (FlexibleCG(preconditioner=half), ConjugateDirections(preconditioner=half)):
        found = s.solve(b, linear=solver, on_failure="raise")
        true = (b - s.times(found.value)).norm() / b.norm()
        assert true <= 1e-10 and int(found.iterations) <= 4


def test_float32_never_reports_a_residual_it_has_not_reached():
    s, b = box(64).to(torch.float32), torch.randn(1, 64, 64).float()
    found = s.solve(b, linear=FlexibleCG(rtol=2e-7, max_iter=2000), on_failure="best")
    exact = box(64)
    true = (b.double() - exact.times(found.value.double())).norm() / b.double().norm()
    # round-off of the check itself is of the size of eps sqrt(8)
    assert true <= 2e-7 * 1.5 or not bool(found.converged)


BAD = {
    "noise": lambda r: torch.randn_like(r),
    "NaN": lambda r: r * torch.nan,
    "zero": lambda r: r * 0,
    "indefinite": lambda r: r * torch.linspace(-1, 1, r.shape[-1]),
    "constant": lambda r: torch.ones_like(r),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("directions", [None, 2])
def test_a_useless_function_is_dropped(name, directions):
    s, b = box(24, 2), torch.randn(2, 24, 24)
    plain = s.solve(b, linear=CG(rtol=1e-8), on_failure="raise")
    solver = guarded(fixed(BAD[name]), rtol=1e-8, directions=directions)
    found = s.solve(b, linear=solver, on_failure="raise")
    assert found.stats["stage"].tolist() == [1, 1]
    # conjugate directions do not mind signs: this function helps a little for some windows
    windows = 4 if (name, directions) == ("indefinite", 2) else 1
    assert bool((found.iterations <= 1.2 * plain.iterations + 10 * windows).all())
    true = (b - s.times(found.value)).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
    assert bool((true <= 1e-8).all())


def test_a_function_that_fails_late_is_dropped_where_it_stands():
    s, b = box(32), torch.randn(1, 32, 32)
    calls = []

    def spoiled(r):
        calls.append(1)
        return r if len(calls) < 40 else r * torch.nan

    plain = s.solve(b, linear=CG(rtol=1e-8), on_failure="raise")
    found = s.solve(b, linear=guarded(fixed(spoiled), rtol=1e-8, window=40), on_failure="raise")
    assert found.stats["stage"].tolist() == [1]
    assert int(found.iterations) <= 40 + 8 + int(plain.iterations)


def test_what_needs_no_fallback_reports_none():
    s, b = box(8), torch.randn(1, 8, 8)
    found = s.solve(b, linear=guarded(inverse(s)), on_failure="raise")
    assert found.stats["stage"].tolist() == [0]


def test_an_indefinite_matrix_is_said_to_be_one():
    a = torch.diag(torch.tensor([1.0, -2.0, 3.0, 4.0]))
    operator = Operator(lambda v: v @ a, None, torch.zeros(1, 4), Rows(1), symmetric=True)
    b = torch.tensor([[1.0, 5.0, 1.0, 1.0]])
    for solver in (FlexibleCG(max_iter=3), ConjugateDirections(max_iter=3)):
        out = solver(operator, b)
        assert out.status.tolist() == [int(Status.SINGULAR)]


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InvalidArgument, match="window=1"):
        FlexibleCG(window=1)
    with pytest.raises(InvalidArgument, match="directions=-1"):
        ConjugateDirections(directions=-1)
    with pytest.raises(InvalidType, match="directions is 2.5"):
        ConjugateDirections(directions=2.5)
    s = build_stencil([torch.ones(1, 3)], torch.ones(1, 4), torch.ones(1, 4) > 0)
    lopsided = Operator(s.times, s.times, torch.zeros(1, 4), Rows(1))
    with pytest.raises(InvalidArgument, match="not declared symmetric"):
        FlexibleCG()(lopsided, torch.ones(1, 4))


@pytest.mark.parametrize("solves", ["scipy", "wavefront"])
def test_a_fallback_that_has_no_factor_leaves_the_verdict_to_cg(solves):
    """One matrix of a batch is not positive definite: SuperLU called its factor singular."""
    n = 12
    faces = torch.ones(2, n - 1, n), torch.ones(2, n, n - 1)
    faces[0][1] *= -1
    s = Stencil(faces, torch.full((2, n, n), 0.5), torch.ones(2, n, n, dtype=torch.bool))
    b = torch.randn(2, n, n)
    fallback = IncompleteCholesky(s, solves=solves)
    solver = guarded(fixed(torch.zeros_like), fallback, rtol=1e-8)
    out = s.solve(b, linear=solver, on_failure="mask")
    assert out.converged.tolist() == [True, False]
    residual = (b - s.times(out.value))[0].norm() / b[0].norm()
    assert float(residual) <= 1e-8
    with pytest.raises(ConvergenceError, match=r"1 of 2 .* positive definite matrix"):
        s.solve(b, linear=solver, on_failure="raise")
