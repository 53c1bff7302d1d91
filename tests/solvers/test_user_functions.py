"""Functions handed to solvers: wrong shapes refused before anything broadcasts."""

import numpy as np
import pytest
import torch

from sciml.errors import ConvergenceError, InvalidArgument, InvalidType
from sciml.solvers import (
    GMRES,
    LBFGS,
    Anderson,
    Broyden,
    LevenbergMarquardt,
    Newton,
    NewtonKrylov,
    Rows,
    fixed_point,
    implicit_derivative,
    integrate,
    least_squares,
    minimise,
    root,
)
from sciml.solvers.algebra.dense import Dense
from sciml.solvers.entry_points import linear_solve

torch.set_num_threads(1)
B = torch.ones(4, 3, dtype=torch.float64)

WRONG = {
    "column": (lambda x: x[:, :1], r"\(4, 3\).*\(4, 1\)|\(4, 1\).*\(4, 3\)"),
    "sum": (lambda x: x.sum(), r"\(\)"),
    "rows": (lambda x: x.sum(1), r"\(4,\)"),
    "numpy": (lambda x: x.numpy(), "ndarray"),
    "nothing": (lambda x: None, "without return"),
    "bools": (lambda x: x > 0, "bool"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("linear", [Dense(), GMRES()])
def test_products_keep_the_shape(linear, name):
    product, message = WRONG[name]
    with pytest.raises((InvalidArgument, InvalidType), match=message) as error:
        linear_solve(product, B, linear=linear, on_failure="raise")
    assert "product of a linear solve" in str(error.value)


def test_start_and_right_hand_side_have_one_shape():
    with pytest.raises(InvalidArgument, match=r"x0 of shape \(4, 3\) for b of shape \(4, 1\)"):
        linear_solve(lambda x: 2 * x, B[:, :1], linear=GMRES(), on_failure="raise", x0=B)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("solve", [root, fixed_point])
def test_maps_keep_the_shape(solve, name):
    with pytest.raises((InvalidArgument, InvalidType), match=f"lambda.*{WRONG[name][1]}"):
        solve(WRONG[name][0], B, on_failure="raise")


def test_derivatives_of_solutions_found_elsewhere_are_checked_too():
    theta = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(InvalidArgument, match=r"maps shape \(4, 3\) to \(4, 1\)"):
        implicit_derivative(lambda x, t: (x - t)[:, :1], B, (theta,)).sum().backward()


def test_objectives_and_fields_are_tensors():
    with pytest.raises(InvalidType, match="minimise.*float"):
        minimise(lambda x: 1.0, B, on_failure="raise")
    with pytest.raises(InvalidType, match="field of an ODE returned None"):
        integrate(lambda t, z: None, B, on_failure="raise")


SOLVERS = (Newton, NewtonKrylov, Broyden, Anderson, LBFGS, LevenbergMarquardt, GMRES)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"rtol": "1e-3"},
        {"rtol": True},
        {"atol": None},
        {"atol": "0"},
        {"max_iter": 2.5},
        {"max_iter": True},
        {"max_iter": "9"},
    ],
    ids=str,
)
def test_settings_of_the_wrong_type_are_refused(solver, wrong):
    with pytest.raises(InvalidType, match=f"{next(iter(wrong))}( is|=).*number"):
        solver(**wrong)
    assert solver(max_iter=np.int64(9), rtol=np.float32(1e-3)).max_iter == 9


def paired(x):
    """The problems of a batch combined with each other by broadcasting, hidden by a mean."""
    return (x[:, 0] - x[:, :1]).mean(1, keepdim=True)


PAIRED = {
    "least squares": lambda x: least_squares(lambda x: x[:, 0] - x[:, :1], x, on_failure="best"),
    "mean": lambda x: least_squares(lambda x: x + paired(x), x, on_failure="best"),
    "root": lambda x: root(lambda x: x + paired(x), x, on_failure="best"),
    "fixed point": lambda x: fixed_point(lambda x: 0.5 * x + paired(x), x, on_failure="best"),
    "theta": lambda x: root(
        lambda x, c: x + (torch.sqrt(x.flatten()) - c).mean(1, True), x, (x,), on_failure="best"
    ),
    "minimise": lambda x: minimise(lambda x: (x.sum(1) * x).mean(1), x, on_failure="best"),
    "ode": lambda x: integrate(lambda t, x: paired(x), x, on_failure="best"),
    "adjoint": lambda x: integrate(
        lambda t, x: paired(x), x.requires_grad_(), on_failure="best", gradient="adjoint"
    ),
}


@pytest.mark.parametrize("name", PAIRED)
def test_problems_that_are_paired_by_broadcasting_are_refused(name):
    with pytest.raises(InvalidArgument, match=r"combines a tensor \(3,\) with a tensor \(3, 1\)"):
        PAIRED[name](torch.ones(3, 1))


def test_as_many_unknowns_or_measurements_as_problems_are_no_pairs():
    at, weight = torch.linspace(0.0, 1.0, 3), torch.tensor([0.3, -0.2, 0.1])
    true = torch.tensor([[1.0, 0.5], [2.0, 1.0], [0.7, 2.0]], dtype=torch.float64)

    def curves(w):
        return w[:, :1] * torch.exp(-w[:, 1:] * at)

    found = least_squares(
        lambda w: curves(w) - curves(true), torch.ones_like(true), on_failure="raise"
    )
    assert torch.allclose(found.value, true, rtol=1e-6, atol=1e-6)
    x0 = torch.ones(3, 3, dtype=torch.float64)
    root(lambda x: x - torch.tanh(x[:, :1] * weight), x0, on_failure="raise")
    # pairs within one problem
    energy = torch.vmap(lambda row: (row - row[:, None]).square().sum() + (row - 1).square().sum())
    found = minimise(energy, x0 * torch.arange(3.0), on_failure="raise").value
    assert torch.allclose(found, x0, rtol=0, atol=1e-7)


def test_a_compiled_function_is_compiled_without_the_watching():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    step = torch.compile(lambda x: 0.1 * x[:, :1] * torch.tanh(x), backend=backend, fullgraph=True)
    with torch.no_grad():
        for _ in range(3):
            fixed_point(step, torch.ones(3, 2), on_failure="raise")
    assert len(graphs) == 1


@pytest.mark.parametrize("solver", [Newton(), NewtonKrylov()])
def test_a_failure_says_that_the_rows_of_a_batch_are_coupled(solver):
    b = torch.linspace(-1.0, 1.0, 8, dtype=torch.float64).view(4, 2)

    def coupled(u, b):
        return u + 0.1 * u**3 - 2.5 * u.mean(0) - b

    with pytest.raises(ConvergenceError, match=r"depends on the unknown of others.*Rows\(0\)"):
        root(coupled, torch.zeros_like(b), (b,), on_failure="raise", solver=solver)
    found = root(coupled, torch.zeros_like(b), (b,), on_failure="raise", layout=Rows(0))
    assert coupled(found.value, b).abs().max() < 1e-8
    # other failures have other cures
    with pytest.raises(ConvergenceError) as error:
        root(lambda u, b: u**2 + 1 + b**2, torch.ones_like(b), (b,), on_failure="raise")
    assert "Rows(0)" not in str(error.value)
