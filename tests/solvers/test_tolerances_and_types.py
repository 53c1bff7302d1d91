"""Tolerances that are always met, functions with other arguments, mixed and sparse tensors."""

import pytest
import torch

from sciml import solvers
from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers.linear import AlgebraicMultigrid, build_stencil, ritz_pairs

X = torch.full((2, 3), 1 / 3, dtype=torch.float64)


def apart(x):
    return 0.5 * (x - 2).square().sum(-1)


def bands(u):
    return 0 * u, -torch.ones_like(u), 0 * u


def foreign(task, x):
    return x


CALLS = {
    "projected_gradient": lambda rtol: solvers.projected_gradient(
        apart, lambda v: v, X, on_failure="raise", rtol=rtol
    ),
    "mirror_descent": lambda rtol: solvers.mirror_descent(apart, X, on_failure="raise", rtol=rtol),
    "qp": lambda rtol: solvers.qp(torch.eye(3).to(X), X, on_failure="raise", rtol=rtol),
    "ODE": lambda rtol: solvers.ODE(rtol=rtol),
    "Dense": lambda rtol: solvers.Dense(rtol=rtol),
    "Refinement": lambda rtol: solvers.Refinement(rtol=rtol),
}


@pytest.mark.parametrize("rtol", [1e3, float("inf"), float("nan"), -1.0])
@pytest.mark.parametrize("name", CALLS)
def test_a_tolerance_that_is_always_met_is_refused(name, rtol):
    """At rtol=1000 proximal_gradient ended "converged" at 1.41 where the answer is 1.5."""
    with pytest.raises(InvalidArgument, match="rtol="):
        CALLS[name](rtol)


def test_a_foreign_solver_is_not_believed_its_own_tolerance():
    foreign.rtol = 1e3
    with pytest.raises(InvalidArgument, match="rtol=1000"):
        solvers.root(lambda x: x - 2, X, solver=foreign, on_failure="best")
    foreign.rtol = 1e-6
    found = solvers.root(lambda x: x - 2, X, solver=foreign, on_failure="best")
    assert not found.converged.any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: solvers.root(lambda x: x, X, (X,), on_failure="best"),
        lambda: solvers.minimise(lambda x, a: apart(x), X, on_failure="best"),
        lambda: solvers.root(lambda d: d, {"a": X}, (X,), on_failure="best"),
        lambda: solvers.linear_solve(
            lambda x, a: a * x, X, linear=solvers.Dense(), on_failure="best"
        ),
        lambda: solvers.integrate(lambda z: -z, X, on_failure="best"),
        lambda: solvers.rosenbrock(
            lambda t, u: -u, bands, X, torch.tensor([0.0, 1.0]), on_failure="best"
        ),
        lambda: solvers.projected_gradient(lambda: 0, lambda v: v, X, on_failure="best"),
        lambda: solvers.spectral_norm(lambda x: x, X, (X,)),
        lambda: solvers.root(torch.nn.Linear(3, 3).to(X), X, (X,), on_failure="best"),
    ],
)
def test_a_function_with_other_arguments_is_named(call):
    with pytest.raises(InvalidType, match="takes the arguments"):
        call()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: solvers.project_affine(X, X[:1].float(), X[0, :1]), "x of float64 on cpu"),
        (lambda: solvers.project_nonnegative(X.to_sparse()), r"\.to_dense\(\)"),
        (lambda: solvers.project_nonnegative(X.to("meta")), "one on 'meta' has none"),
        (lambda: solvers.root(lambda x: x, X.to_sparse(), on_failure="best"), "to_dense"),
        (lambda: solvers.Tridiagonal(X, X.float(), X), "diagonal of float32"),
        (lambda: solvers.Tridiagonal(X.half(), X.half(), X.half()), "float32 or float64"),
        (lambda: solvers.Tridiagonal(X, 2 * X, X).solve(X.float()), "b of float32"),
        (lambda: solvers.Segments([0, 1], 2), "index is a list"),
        (lambda: ritz_pairs(3, X, 2), "product is 3"),
    ],
)
def test_types_are_told_by_name(call, said):
    with pytest.raises(InvalidType, match=said):
        call()


def test_numbers_beyond_a_type_are_told():
    with pytest.raises(InvalidArgument, match=r"radius=1e\+300 for torch.float32"):
        solvers.project_simplex(X.float(), 1e300)
    assert torch.equal(solvers.project_box(X, -1e300, 1e300), X)


def test_projection_in_half_precision_and_radii_after_lapack():
    x, rhs = X.half(), torch.ones(1, dtype=torch.float16)
    y = solvers.project_affine(2 * x, torch.ones(1, 3, dtype=torch.float16), rhs)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.double(), X, rtol=2e-3, atol=0)
    radius = solvers.spectral_radius(lambda z: 2 * z, X.half(), steps=3)
    torch.testing.assert_close(radius, torch.full((2,), 2.0).float(), rtol=1e-5, atol=0)


def test_algebraic_multigrid_of_a_stencil_in_single_precision():
    pytest.importorskip("pyamg")
    faces = torch.ones(1, 15, 16), torch.ones(1, 16, 15)
    stencil = build_stencil(faces, torch.ones(1, 16, 16), torch.ones(1, 16, 16, dtype=torch.bool))
    b = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    linear = solvers.CG(preconditioner=AlgebraicMultigrid(stencil))
    found = stencil.solve(b, linear=linear, on_failure="raise")
    wanted = torch.linalg.solve(
        torch.from_numpy(stencil.to_csr(0).toarray()).double(), b.double().flatten()
    )
    torch.testing.assert_close(found.value.double().flatten(), wanted, rtol=1e-4, atol=1e-5)
