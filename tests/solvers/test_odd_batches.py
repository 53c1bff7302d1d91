"""Empty batches, changed default dtypes, NaN beside good problems, and views of other tensors."""

import math

import pytest
import torch

from sciml.solvers import (
    CG,
    GMRES,
    LBFGS,
    MINRES,
    Anderson,
    Backprop,
    BiCGStab,
    Broyden,
    Contraction,
    Dense,
    FixedPointIteration,
    HomotopyPath,
    LevenbergMarquardt,
    Newton,
    NewtonKrylov,
    NormalCG,
    ResidualFlow,
    ReversibleIteration,
    Segments,
    Status,
    fixed_point,
    least_squares,
    linear_solve,
    minimise,
    root,
    spectral_norm,
    spectral_radius,
)

FIXED = [
    FixedPointIteration(),
    Anderson(),
    Broyden(),
    Newton(),
    NewtonKrylov(),
    ReversibleIteration(max_iter=100),
    ResidualFlow(),
    HomotopyPath(),
]
LINEAR = [CG(), MINRES(), GMRES(), BiCGStab(), NormalCG(), Contraction(), Dense()]
LINEAR += [Dense("positive_definite"), Dense("min_norm")]


def image(z, x):
    return torch.tanh(0.3 * z - 0.2 * z.flip(-1)) + x


def energy(z, x):
    return (torch.cosh(z - x) - 1).sum(-1)


def equation(z, x):
    return z + 0.3 * torch.sin(z) - x


def product(v, x):
    return v + 0.2 * (x * v)


def kinds():
    """Yield a name and a solve `(x0, x) -> Solution` for every entry point and solver."""
    for s in FIXED:
        yield (
            f"fixed_point {type(s).__name__}",
            lambda z, x, s=s: fixed_point(image, z, (x,), solver=s, on_failure="mask"),
        )
    for s in (Newton(), NewtonKrylov()):
        yield (
            f"root {type(s).__name__}",
            lambda z, x, s=s: root(equation, z, (x,), solver=s, on_failure="mask"),
        )
    for s in (LevenbergMarquardt(), LBFGS()):
        yield (
            f"least_squares {type(s).__name__}",
            lambda z, x, s=s: least_squares(equation, z, (x,), solver=s, on_failure="mask"),
        )
    for s in (LBFGS(), Newton()):
        yield (
            f"minimise {type(s).__name__}",
            lambda z, x, s=s: minimise(energy, z, (x,), solver=s, on_failure="mask"),
        )
    for s in LINEAR:
        yield f"linear {s}", lambda z, x, s=s: linear_solve(
            product, x, (x.detach(),), linear=s, on_failure="mask", symmetric=True,
            positive_definite=True, x0=z,
        )  # fmt: skip


KINDS = dict(kinds())
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@pytest.mark.parametrize("shape", [(0, 2), (3, 0)], ids=str)
def test_nothing_to_solve(kind, shape):
    x = torch.zeros(shape, requires_grad=True)
    out = KINDS[kind](torch.zeros(shape), x)
    assert out.value.shape == shape and out.status.shape == shape[:1]
    assert bool(out.converged.all())
    out.value.sum().backward()
    assert x.grad.shape == shape
    assert all(bool(v.isfinite()) for v in out.log("layer").values() if v.numel() and shape[0])


@every_kind
def test_the_default_dtype_changes_nothing(kind):
    x = torch.linspace(0.1, 0.7, 6, dtype=torch.float64).reshape(3, 2)
    for dtype in (torch.float32, torch.float64):
        given, found = x.to(dtype).requires_grad_(), []
        for default in (torch.float32, torch.float64):
            torch.set_default_dtype(default)
            out = KINDS[kind](torch.zeros_like(given), given)
            assert out.value.dtype == dtype
            grad = torch.autograd.grad(out.value.square().sum(), given)[0]
            found.append((out.value.detach(), out.status, grad))
        for a, b in zip(*found, strict=True):
            assert torch.equal(a, b)


@every_kind
def test_a_broken_sample_leaves_the_others_alone(kind):
    x = torch.linspace(0.1, 0.8, 8).reshape(4, 2)
    good = KINDS[kind](torch.zeros(4, 2), x)
    for bad in (math.nan, math.inf):
        broken = x.clone()
        broken[1, 0] = bad
        broken.requires_grad_()
        out = KINDS[kind](torch.zeros(4, 2), broken)
        assert out.converged.tolist() == [True, False, True, True], out.status
        keep = torch.tensor([0, 2, 3])
        assert torch.allclose(out.value[keep], good.value[keep], rtol=1e-9, atol=1e-9)
        assert out.status[1] == Status.NONFINITE or bad == math.inf
        grad = torch.autograd.grad(out.value[keep].sum(), broken)[0]
        assert bool(grad[keep].isfinite().all())


def unanswered(policy):
    """Yield solutions of a batch whose second problem is NaN."""
    x, z = torch.linspace(0.1, 0.8, 8).reshape(4, 2), torch.zeros(4, 2)
    x[1, 0] = math.nan
    x.requires_grad_()
    for s in FIXED:
        yield s, fixed_point(image, z, (x,), solver=s, on_failure=policy)
    unrolled = {"solver": FixedPointIteration(), "adjoint": Backprop()}
    yield "backprop", fixed_point(image, z, (x,), on_failure=policy, **unrolled)
    yield "root", root(equation, z, (x,), on_failure=policy)
    yield "least_squares", least_squares(equation, z, (x,), on_failure=policy)
    yield "minimise", minimise(energy, z, (x,), on_failure=policy)
    for s in LINEAR:
        tags = {"symmetric": True, "positive_definite": True, "x0": z}
        yield s, linear_solve(product, x, (x.detach(),), linear=s, on_failure=policy, **tags)


@pytest.mark.parametrize("policy", ["best", "warn"])
@pytest.mark.filterwarnings("ignore::sciml.errors.NumericalWarning")
def test_a_question_that_is_nan_has_no_finite_answer(policy):
    """No iterate has a finite residual: the start is not the best of them."""
    for solver, found in unanswered(policy):
        assert not found.converged[1], solver
        finite = found.value.isfinite().all(1).tolist()
        assert finite == [True, False, True, True], (solver, found.status)


@every_kind
def test_views_of_other_tensors_are_solved_alike(kind):
    x = torch.linspace(0.1, 0.8, 16).reshape(2, 8)
    view = x.T[::2]  # (4, 2), not contiguous
    wanted = KINDS[kind](torch.zeros(4, 2), view.contiguous()).value
    found = KINDS[kind](torch.zeros(2, 4).T, view).value
    assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-14)


def test_graphs_without_nodes():
    layout = Segments(torch.zeros(0, dtype=torch.long), 3)
    for solver in FIXED[:6]:
        z = torch.zeros(0, 2)
        out = fixed_point(lambda z: 0.5 * z, z, solver=solver, on_failure="raise", layout=layout)
        assert out.value.shape == (0, 2) and out.converged.shape == (3,)


def test_spectra_of_what_is_empty_or_not_finite():
    x = torch.ones(3, 2)
    x[1] = math.nan
    for measure in (spectral_radius, spectral_norm):
        found = measure(lambda z: 0.5 * z * z, x)
        assert torch.allclose(found[[0, 2]], torch.ones(2), rtol=1e-12, atol=0)
        assert bool(found[1].isnan())
        assert measure(lambda z: 0.5 * z, x[:0]).shape == (0,)
