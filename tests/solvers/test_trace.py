"""Iterates on the way, and what a solve costs beside its map."""

import time

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.solvers import Anderson, FixedPointIteration, Newton, Trace, fixed_point, root


def tanh_layer(n=128, batch=64, radius=0.97, dtype=torch.float32):
    """Return the symmetric layer of the comparison with torchdeq: map, start."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, n, generator=generator, dtype=torch.float64)
    a = a + a.mT
    w = (radius * a / torch.linalg.eigvalsh(a).abs().max()).to(dtype)
    x = 0.1 * torch.randn(batch, n, generator=generator, dtype=torch.float64).to(dtype)
    return lambda z: torch.tanh(z @ w + x), torch.zeros(batch, n, dtype=dtype)


def test_kept_iterates_are_those_of_the_iteration():
    f, z0 = tanh_layer(8, 3, 0.9, torch.float64)
    trace = Trace(FixedPointIteration(max_iter=20), [4, 0, 2, 500])
    out = fixed_point(f, z0, solver=trace, on_failure="best")
    plain = fixed_point(f, z0, solver=FixedPointIteration(max_iter=20), on_failure="best")
    assert torch.equal(out.value, plain.value)
    assert out.stats["evaluations"] == plain.stats["evaluations"]
    wanted, z = [], z0
    for k in range(5):
        if k in (0, 2, 4):
            wanted.append(z)
        z = f(z)
    for got, want in zip(trace.states, [*wanted, out.value], strict=True):
        assert (got - want).abs().max() < 1e-12 and not got.requires_grad


@pytest.mark.parametrize("solver", [Anderson(), Newton()])
def test_other_solvers_are_watched_too(solver):
    trace = Trace(solver, [1])
    out = root(lambda x: x**3 + x - 1, torch.zeros(2, 1), solver=trace, on_failure="best")
    assert len(trace.states) == 1 and out.value.shape == (2, 1)
    with pytest.raises(InvalidArgument, match="at="):
        Trace(solver, [-1])


def test_anderson_needs_few_iterations_where_the_map_is_slow():
    """Radius 0.97 to 1e-5 in float32: 38 iterations, plain iteration takes 142."""
    f, z0 = tanh_layer()
    fast = fixed_point(f, z0, solver=Anderson(rtol=1e-5), on_failure="raise")
    slow = fixed_point(f, z0, solver=FixedPointIteration(rtol=1e-5), on_failure="raise")
    assert fast.iterations.max() <= 45 < 120 < slow.iterations.max()
    z = fast.value
    assert ((z - f(z)).norm(dim=1) / f(z).norm(dim=1)).max() < 1.01e-5


@pytest.mark.slow
def test_the_loop_adds_at_most_twice_the_cost_of_the_map():
    """python -m pytest -m slow tests/solvers/test_trace.py; 128 unknowns, 64 problems, one thread.

    Processor time that the plain iteration adds to its bare map evaluations, best of many.
    """
    f, z0 = tanh_layer()
    iterations, best = 200, {"bare": float("inf"), "solver": float("inf")}
    solver = FixedPointIteration(rtol=1e-12, max_iter=iterations)

    def bare():
        z = z0
        for _ in range(iterations):
            z = f(z)

    def solve():
        with torch.no_grad():
            fixed_point(f, z0, solver=solver, on_failure="best")

    for _ in range(15):
        for name, run in (("bare", bare), ("solver", solve)):
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    assert best["solver"] - best["bare"] <= 2 * best["bare"], best
