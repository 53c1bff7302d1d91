"""Flows to an equilibrium against closed forms and other solvers."""

import math

import pytest
import torch

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.solvers import (
    GMRES,
    ODE,
    Anderson,
    HomotopyPath,
    Implicit,
    NewtonKrylov,
    ResidualFlow,
    Rows,
    Status,
    fixed_point,
    integrate,
)
from sciml.solvers.problem import Problem, Task

TIGHT = ODE(rtol=1e-10, atol=1e-10)


def task(function, *theta):
    return Task(Problem("fixed_point", function, Rows(1)), theta)


@pytest.mark.parametrize("linear", [None, GMRES(rtol=1e-12)])
@pytest.mark.parametrize("kind", ["fixed_point", "newton"])
def test_path_of_a_linear_map(kind, linear):
    w, b, z0 = 0.3 * torch.randn(4, 4), torch.randn(3, 4), torch.randn(3, 4)
    levels = (0.0, 0.25, 0.5, 1.0)
    path = HomotopyPath(TIGHT, kind, linear).path(task(lambda z: z @ w.T + b), z0, levels)
    eye = torch.eye(4)
    rest = torch.linalg.solve(eye - w, b.T).T
    for level, z in zip(levels, path, strict=True):
        if kind == "fixed_point":
            exact = torch.linalg.solve(eye - level * w, (level * b + (1 - level) * z0).T).T
        else:
            exact = rest + (1 - level) * (z0 - rest)
        assert torch.allclose(z, exact, atol=1e-8, rtol=1e-7)


def test_path_of_the_cosine():
    path = HomotopyPath(TIGHT).path(task(torch.cos), torch.tensor([[-1.0]]), (0.0, 0.5, 1.0))
    assert abs(float(path[1])) < 1e-9
    assert float(path[2]) == pytest.approx(0.739085133215, abs=1e-11)


@pytest.mark.parametrize("kind", ["fixed_point", "newton"])
def test_homotopy_needs_no_contraction(kind):
    """Slopes between -3 and -1: iteration oscillates, the path is smooth."""
    shift = torch.linspace(-2, 2, 5)[:, None]

    def f(z, shift):
        return shift - 2 * z - torch.sin(z)

    found = fixed_point(
        f, torch.zeros(5, 1), (shift,), on_failure="raise", solver=HomotopyPath(kind=kind)
    )
    assert torch.allclose(f(found.value, shift), found.value, atol=1e-12, rtol=1e-12)


def test_residual_flow_in_closed_form():
    """f = a z + x: z(t) = z* + (z_0 - z*) exp(-(1 - a) t)."""
    a, x = -1.5, torch.tensor([[1.0], [-2.0]])
    z0, rest = torch.zeros(2, 1), x / (1 - a)
    path = integrate(
        lambda t, z: a * z + x - z, z0, on_failure="raise", ode=TIGHT, times=(0, 0.3, 1.1)
    ).stats["path"]
    for t, z in zip((0, 0.3, 1.1), path, strict=True):
        assert torch.allclose(z, rest + (z0 - rest) * math.exp(-(1 - a) * t), atol=1e-9, rtol=1e-9)
    # slope -1.5: plain iteration diverges, the flow rests
    found = fixed_point(lambda z: a * z + x, z0, on_failure="raise", solver=ResidualFlow())
    assert torch.allclose(found.value, rest, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    "solver",
    [
        ResidualFlow(),
        ResidualFlow(TIGHT, rtol=1e-8),
        HomotopyPath(),
        HomotopyPath(kind="newton", corrector=NewtonKrylov()),
    ],
)
def test_same_equilibrium_and_gradient_as_anderson(solver):
    w, layer = torch.randn(6, 6), torch.nn.Linear(6, 6)
    w = (0.8 * w / torch.linalg.matrix_norm(w, 2)).requires_grad_()
    x = torch.randn(4, 6, requires_grad=True)

    def found(solver):
        solution = fixed_point(
            lambda z, x: torch.tanh(z @ w.T + layer(x)),
            torch.zeros(4, 6),
            (x,),
            on_failure="raise",
            solver=solver,
            adjoint=Implicit(),
        )
        wanted = (w, x, layer.weight)
        return [solution.value, *torch.autograd.grad(solution.value.square().sum(), wanted)]

    for a, b in zip(found(solver), found(Anderson()), strict=True):
        assert torch.allclose(a, b, atol=1e-6, rtol=1e-6)


def test_a_problem_alone_and_among_slow_ones():
    """Fixed steps: values and windows of a problem do not depend on its neighbours."""
    slope = torch.tensor([[0.1], [0.95], [0.5]])

    def solve(slope):
        return fixed_point(
            lambda z, slope: slope * torch.cos(z) + 1,
            torch.zeros(len(slope), 1),
            (slope,),
            on_failure="raise",
            solver=ResidualFlow(horizon=200),
        )

    together = solve(slope)
    for i in range(3):
        alone = solve(slope[i : i + 1])
        assert torch.allclose(alone.value[0], together.value[i], rtol=0, atol=1e-12)
        assert int(alone.iterations[0]) == int(together.iterations[i])


@pytest.mark.parametrize("solver", [ResidualFlow(horizon=100), HomotopyPath(ODE("rk4"))])
def test_failures_are_told_apart(solver):
    """NaN in one problem, no equilibrium in another, a good one beside them."""
    x = torch.tensor([[0.5], [torch.nan], [0.3]])
    found = fixed_point(
        lambda z, x: 0.5 * torch.sin(z) + x,
        torch.zeros(3, 1),
        (x,),
        on_failure="mask",
        solver=solver,
    )
    assert found.converged.tolist() == [True, False, True]
    assert found.status[1] == Status.NONFINITE
    alone = fixed_point(
        lambda z: 0.5 * torch.sin(z) + 0.5, torch.zeros(1, 1), on_failure="raise", solver=solver
    )
    assert torch.allclose(found.value[0], alone.value[0], atol=1e-12, rtol=1e-12)


def test_a_flow_that_never_rests():
    with pytest.raises(ConvergenceError, match="used all iterations"):
        fixed_point(
            lambda z: z + torch.stack([-z[:, 1], z[:, 0]], 1),  # a rotation
            torch.ones(1, 2),
            on_failure="raise",
            solver=ResidualFlow(horizon=5),
        )


def test_arguments_are_checked():
    with pytest.raises(InvalidArgument):
        ResidualFlow(window=0.0)
    with pytest.raises(InvalidArgument):
        HomotopyPath(kind="exact")
