"""Functions handed to solvers: wrong shapes refused before anything broadcasts."""

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers import (
    GMRES,
    LBFGS,
    Anderson,
    Broyden,
    LevenbergMarquardt,
    Newton,
    NewtonKrylov,
    fixed_point,
    implicit_derivative,
    integrate,
    minimise,
    root,
)
from sciml.solvers.dense import Dense
from sciml.solvers.solve import linear_solve

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
    with pytest.raises(InvalidType, match=f"{next(iter(wrong))}=.*number"):
        solver(**wrong)
    assert solver(max_iter=np.int64(9), rtol=np.float32(1e-3)).max_iter == 9
