"""What equilibrium layers add: gradients of the iteration, shared inverses, spectra."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.solvers import (
    GMRES,
    Anderson,
    Backprop,
    Broyden,
    FixedPointIteration,
    ForwardInverse,
    Implicit,
    JacobianFree,
    Phantom,
    Reversible,
    ReversibleIteration,
    Segments,
    SharedInverse,
    Status,
    fixed_point,
    jacobian_rows,
    root,
    spectral_norm,
    spectral_radius,
)

P, D = 4, 16
STEPS = 12


def weights(size=0.9):
    w = torch.randn(D, D)
    return (size * w / torch.linalg.matrix_norm(w, 2)).requires_grad_()


def solve(w, x, solver, adjoint, policy="best", start=None):
    return fixed_point(
        lambda z, w, x: torch.tanh(z @ w.mT + x),
        torch.zeros(P, D) if start is None else start,
        (w, x),
        solver=solver,
        adjoint=adjoint,
        on_failure=policy,
    )


def gradients(value, *inputs):
    c = torch.linspace(0.5, 2, value.numel()).reshape(value.shape)
    return torch.autograd.grad((value * c).sin().sum(), inputs, retain_graph=True)


def close(got, wanted, tolerance):
    for g, v in zip(got, wanted, strict=True):
        assert (g - v).abs().max() < tolerance * max(1.0, v.abs().max())


def coupled(w, x, steps, beta, z=None):
    """The reversible iteration as the paper writes it, through which autograd may go."""
    y = z = torch.zeros(P, D) if z is None else z
    for _ in range(steps):
        y = (1 - beta) * y + beta * torch.tanh(z @ w.mT + x)
        z = (1 - beta) * z + beta * torch.tanh(y @ w.mT + x)
    return z


# --- gradients of the iteration ------------------------------------------------------------------
@pytest.mark.parametrize("damping", [1.0, 0.6])
def test_backprop_is_the_gradient_of_the_finite_iteration(damping):
    w, x = weights(), torch.randn(P, D, requires_grad=True)
    solver = FixedPointIteration(max_iter=STEPS, damping=damping)
    out = solve(w, x, solver, Backprop())
    z = torch.zeros(P, D)
    for _ in range(STEPS):
        z = (1 - damping) * z + damping * torch.tanh(z @ w.mT + x)
    assert (out.value - z).abs().max() < 1e-12 and not out.residual.requires_grad
    close(gradients(out.value, w, x), gradients(z, w, x), 1e-12)
    # of every order
    (g,) = torch.autograd.grad(out.value.sum(), x, create_graph=True)
    (v,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    close(gradients(g, w), gradients(v, w), 1e-11)


@pytest.mark.parametrize("beta", [0.3, 0.5, 0.8])
def test_reversible_is_the_exact_gradient_of_the_finite_iteration(beta):
    w, x = weights(), torch.randn(P, D, requires_grad=True)
    start = 0.1 * torch.randn(P, D)
    out = solve(w, x, ReversibleIteration(max_iter=STEPS, mixing=beta), Reversible(), start=start)
    z = coupled(w, x, STEPS, beta, start)
    assert (out.status == Status.MAX_ITER).all() and (out.iterations == STEPS).all()
    assert (out.value - z).abs().max() < 1e-12
    residual = (z - torch.tanh(z @ w.mT + x)).norm(dim=1)
    assert (out.residual - residual).abs().max() < 1e-12
    # float64 states lose (1 + beta |J|) / (1 - beta) per half step
    close(gradients(out.value, w, x), gradients(z, w, x), 1e-5 if beta > 0.5 else 1e-9)
    assert out.log("z")["implicit/z/bwd_residual"] < 1e-3


def test_reversible_stops_per_problem():
    """Problems that converge early are walked back from where they stopped."""
    w = weights(0.7)
    x = torch.randn(P, D)
    x[1] *= 1e-4
    x.requires_grad_()
    solver = ReversibleIteration(max_iter=60, rtol=1e-4, mixing=0.4)
    out = solve(w, x, solver, Reversible(tolerance=1e-1))
    assert out.converged.all() and len(set(out.iterations.tolist())) > 1
    wanted = torch.stack(
        [coupled(w, x, int(n), 0.4)[k] for k, n in enumerate(out.iterations.tolist())]
    )
    assert (out.value - wanted).abs().max() < 1e-12
    close(gradients(out.value, w, x), gradients(wanted, w, x), 1e-6)


def test_reversible_in_float32_walks_back_in_float64():
    torch.set_default_dtype(torch.float32)
    w, x = weights(), torch.randn(P, D, requires_grad=True)
    out = solve(w, x, ReversibleIteration(max_iter=STEPS), Reversible())
    z = coupled(w, x, STEPS, 0.5)
    close(gradients(out.value, w, x), gradients(z, w, x), 1e-4)


def test_reversible_says_when_it_cannot_walk_back():
    w, x = weights(), torch.randn(P, D, requires_grad=True)
    solver = ReversibleIteration(max_iter=60, rtol=1e-15, mixing=0.9)
    with pytest.raises(ConvergenceError, match="walking the reversible iteration back"):
        solve(w, x, solver, Reversible(on_failure="raise")).value.sum().backward()


def test_memory_of_reversible_does_not_grow():
    w, x = weights(), torch.randn(P, D, requires_grad=True)
    kept = []
    for steps in (2, 40):
        total = [0]

        def pack(t, total=total):
            total[0] += t.numel() * t.element_size()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            solve(w, x, ReversibleIteration(max_iter=steps, rtol=1e-15), Reversible())
        kept.append(total[0])
    assert 0 < kept[0] == kept[1]


@pytest.mark.parametrize(
    "solver, adjoint",
    [
        (ReversibleIteration(max_iter=STEPS), Reversible()),
        (FixedPointIteration(max_iter=STEPS), Backprop()),
        (Anderson(), Phantom()),
    ],
)
def test_captured_parameters_get_their_gradient_once_or_twice(solver, adjoint):
    layer, x = nn.Linear(D, D), torch.randn(P, D)
    with torch.no_grad():
        layer.weight *= 0.4

    def implicit(module, x):
        return fixed_point(
            lambda z, x: torch.tanh(module(z) + x),
            torch.zeros(P, D),
            (x,),
            solver=solver,
            adjoint=adjoint,
            on_failure="best",
        ).value

    def explicit(module, x):
        if isinstance(adjoint, Phantom):
            z = implicit(module, x).detach()
            for _ in range(5):
                z = 0.5 * z + 0.5 * torch.tanh(module(z) + x)
            return z
        if isinstance(adjoint, Backprop):
            z = torch.zeros(P, D)
            for _ in range(STEPS):
                z = torch.tanh(module(z) + x)
            return z
        y = z = torch.zeros(P, D)
        for _ in range(STEPS):
            y = 0.5 * y + 0.5 * torch.tanh(module(z) + x)
            z = 0.5 * z + 0.5 * torch.tanh(module(y) + x)
        return z

    for module in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)).eval()):
        # in series, and the same layer twice before one backward pass
        got = implicit(module, implicit(module, x) + 1) * implicit(module, 2 * x)
        wanted = explicit(module, explicit(module, x) + 1) * explicit(module, 2 * x)
        weight = list(module.parameters())
        close(gradients(got, *weight), gradients(wanted, *weight), 1e-8)


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


def test_reversible_finds_parameters_behind_custom_functions_and_inner_solves():
    layer = nn.Linear(D, D)
    with torch.no_grad():
        layer.weight *= 0.2

    def inner(z):
        return fixed_point(
            lambda y, z: 0.3 * torch.tanh(layer(y)) + z, torch.zeros(P, D), (z,), on_failure="best"
        ).value

    for f in (lambda z: 0.1 * _Square.apply(layer(z)) + 1, lambda z: 0.2 * inner(z) + 1):
        out = fixed_point(
            f,
            torch.zeros(P, D),
            solver=ReversibleIteration(max_iter=8),
            adjoint=Reversible(),
            on_failure="best",
        )
        y = z = torch.zeros(P, D)
        for _ in range(8):
            y = 0.5 * y + 0.5 * f(z)
            z = 0.5 * z + 0.5 * f(y)
        close(gradients(out.value, layer.weight), gradients(z, layer.weight), 1e-9)


def test_reversible_refuses_what_it_would_lose():
    w, x = weights(), torch.randn(P, D, requires_grad=True)
    made = 0.5 * w
    with pytest.raises(InvalidArgument, match="Pass it through theta"):
        fixed_point(
            lambda z: torch.tanh(z @ made.mT),
            torch.zeros(P, D),
            solver=ReversibleIteration(),
            adjoint=Reversible(),
            on_failure="best",
        )
    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(
            lambda x: solve(w.detach(), x, ReversibleIteration(), Reversible()).value.sum()
        )(x.detach())
    with pytest.raises(InvalidArgument, match="solver=ReversibleIteration"):
        solve(w, x, FixedPointIteration(), Reversible())
    with pytest.raises(InvalidArgument, match="solver=FixedPointIteration"):
        solve(w, x, Anderson(), Backprop())
    for adjoint in (Phantom(), Reversible()):
        with pytest.raises(InvalidArgument, match="a root problem"):
            root(lambda x: x - 1, torch.zeros(P, D), adjoint=adjoint, on_failure="best")


@pytest.mark.parametrize(
    "solver, adjoint",
    [(Anderson(), Phantom()), (ReversibleIteration(max_iter=STEPS), Reversible())],
)
def test_a_second_derivative_raises(solver, adjoint):
    w, x = weights(), torch.randn(P, D, requires_grad=True)
    value = solve(w, x, solver, adjoint).value
    for loss in (value.sum(), value.sin().sum()):
        grads = torch.autograd.grad(loss, (w, x), create_graph=True, retain_graph=True)
        with pytest.raises(InvalidArgument, match="higher order"):
            torch.autograd.grad(sum(g.square().sum() for g in grads), x, retain_graph=True)


@pytest.mark.parametrize("steps, damping", [(1, 1.0), (5, 0.5), (40, 1.0)])
def test_phantom_is_autograd_through_the_last_steps(steps, damping):
    w, x = weights(0.8), torch.randn(P, D, requires_grad=True)
    out = solve(w, x, Anderson(rtol=1e-13), Phantom(steps, damping))
    exact = solve(w, x, Anderson(rtol=1e-13), Implicit())
    z = out.value.detach()
    assert torch.equal(z, exact.value.detach())
    for _ in range(steps):
        z = (1 - damping) * z + damping * torch.tanh(z @ w.mT + x)
    got = gradients(out.value, w, x)
    close(got, gradients(z, w, x), 1e-10)
    one = gradients(solve(w, x, Anderson(rtol=1e-13), Implicit(JacobianFree())).value, w, x)
    right = gradients(exact.value, w, x)
    error = [(g - v).norm() / v.norm() for g, v in zip(got, right, strict=True)]
    assert max(error) < (1e-3 if steps == 40 else 1.0) and (steps == 40 or max(error) > 1e-3)
    if steps == 1:
        close(got, one, 1e-10)


def test_failed_problems_give_no_gradient_under_mask():
    w, x = weights(0.8), torch.randn(P, D)
    slope = torch.tensor([1.0, 1.0, 8.0, 1.0])[:, None]  # the third map is no contraction

    def layer(keep, solver, adjoint, policy):
        given = x[keep].clone().requires_grad_()
        out = fixed_point(
            lambda z, w, x: slope[keep] * (z @ w.mT) + x,
            torch.zeros(len(keep), D),
            (w, given),
            solver=solver,
            adjoint=adjoint,
            on_failure=policy,
        )
        return out, gradients(out.value, w, given) if policy == "mask" else None

    for solver, adjoint in (
        (FixedPointIteration(max_iter=200), Backprop()),
        (FixedPointIteration(max_iter=200), Phantom()),
    ):
        out, grads = layer([0, 1, 2, 3], solver, adjoint, "mask")
        assert out.converged.tolist() == [True, True, False, True]
        assert out.value.isfinite().all() and (grads[1][2] == 0).all()
    with pytest.raises(ConvergenceError, match="1 of 4 problems"):
        layer([0, 1, 2, 3], FixedPointIteration(max_iter=200), Backprop(), "raise")


def test_reversible_survives_a_nan_sample():
    w, x = weights(0.7).detach(), torch.randn(P, D)
    x[1] = torch.nan
    out = solve(w, x.requires_grad_(), ReversibleIteration(max_iter=30), Reversible())
    good = [0, 2, 3]
    assert out.status[1] == Status.NONFINITE and out.value[1].isnan().all()
    assert out.value[good].isfinite().all()
    (g,) = torch.autograd.grad(out.value[good].sum(), x)
    z = coupled(w, x[good[:1]].expand(P, D), 30, 0.5)
    assert (out.value[0] - z[0]).abs().max() < 1e-12 and g[good].isfinite().all()


def test_graphs_are_walked_back_like_rows():
    index = torch.tensor([0, 1, 0, 1, 1])
    a = 0.3 * torch.rand(5, 5) * (index[:, None] == index)
    b = torch.randn(5, 2, requires_grad=True)
    out = fixed_point(
        lambda h, b: torch.tanh(a @ h) + b,
        torch.zeros(5, 2),
        (b,),
        solver=ReversibleIteration(max_iter=8),
        adjoint=Reversible(),
        layout=Segments(index, 2),
        on_failure="best",
    )
    y = z = torch.zeros(5, 2)
    for _ in range(8):
        y = 0.5 * y + 0.5 * (torch.tanh(a @ z) + b)
        z = 0.5 * z + 0.5 * (torch.tanh(a @ y) + b)
    close(gradients(out.value, b), gradients(z, b), 1e-9)


# --- the inverse of the forward solver -----------------------------------------------------------
def test_shared_inverse_preconditions_the_exact_gradient():
    w, x = weights(0.97), torch.randn(P, D, requires_grad=True)
    wanted = gradients(solve(w, x, Anderson(rtol=1e-13), Implicit()).value, w, x)
    counts = {}
    for name, rule in {
        "plain": GMRES(rtol=1e-10),
        "shared": GMRES(rtol=1e-10, preconditioner=ForwardInverse()),
    }.items():
        out = solve(w, x, Broyden(rtol=1e-13, share=True), Implicit(rule))
        close(gradients(out.value, w, x), wanted, 1e-7)
        counts[name] = out.adjoint.outcome.iterations.double().mean()
    assert counts["shared"] < counts["plain"]


def test_shared_inverse_as_the_gradient_is_better_than_one_step():
    w, x = weights(0.97), torch.randn(P, D, requires_grad=True)
    exact = gradients(solve(w, x, Anderson(rtol=1e-13), Implicit()).value, w, x)
    errors = []
    for linear in (JacobianFree(), SharedInverse(), SharedInverse(refine=3)):
        out = solve(w, x, Broyden(rtol=1e-10, share=True), Implicit(linear))
        got = gradients(out.value, w, x)
        errors.append(max((g - v).norm() / v.norm() for g, v in zip(got, exact, strict=True)))
    assert errors[1] < 0.5 * errors[0] and errors[2] < errors[0]
    with pytest.raises(InvalidArgument, match="order=1"):
        Implicit(SharedInverse(), order=2)


def test_shared_inverse_is_transposed_and_must_exist():
    w, x = weights().detach(), torch.randn(P, D)
    kept = []

    def solver(task, z):
        out = Broyden(rtol=1e-12, share=True)(task, z)
        kept.append(out.inverse)
        return out

    solve(w, x, solver, None)
    u, v = torch.randn(P, D), torch.randn(P, D)
    forward, back = (u * kept[0](v, False)).sum(1), (v * kept[0](u, True)).sum(1)
    assert (forward - back).abs().max() < 1e-12 * forward.abs().max()
    for share in (False, True):
        given = x.clone().requires_grad_()
        inner = Broyden(share=False) if not share else Anderson()
        out = solve(w, given, inner, Implicit(SharedInverse()))
        with pytest.raises(InvalidArgument, match=r"Broyden\(share=True\)"):
            out.value.sum().backward()


def test_a_useless_inverse_falls_back_to_one_step():
    w, x = weights(), torch.randn(P, D, requires_grad=True)
    out = solve(w, x, Broyden(share=True), Implicit(SharedInverse(fallback=0.0)))
    one = solve(w, x, Broyden(), Implicit(JacobianFree()))
    close(gradients(out.value, w, x), gradients(one.value, w, x), 1e-12)


# --- spectra -------------------------------------------------------------------------------------
def test_spectral_radius_of_a_rotation():
    """A complex pair, on which power iteration returns whatever phase it stops at."""
    c, s = math.cos(0.7), math.sin(0.7)
    turn = 0.384 * torch.block_diag(torch.tensor([[c, -s], [s, c]]), 0.3 * torch.eye(D - 2))
    radius = spectral_radius(lambda z: z @ turn.mT, torch.zeros(P, D))
    assert (radius - 0.384).abs().max() < 1e-10  # the subspace is invariant after three steps


def test_spectra_of_a_layer_are_those_of_its_dense_jacobian():
    w, x = weights(1.3).detach(), torch.randn(P, D)

    def f(z, x):
        return torch.tanh(z @ w.mT + x)

    z = 0.3 * torch.randn(P, D)
    jacobian = (1 - f(z, x) ** 2)[:, :, None] * w
    radius = torch.linalg.eigvals(jacobian).abs().amax(-1)
    norm = torch.linalg.matrix_norm(jacobian, 2)
    assert torch.allclose(spectral_radius(f, z, (x,)), radius, rtol=1e-8)
    assert torch.allclose(spectral_norm(f, z, (x,)), norm, rtol=1e-8)
    few = spectral_norm(f, z, (x,), steps=4)
    assert (few <= norm + 1e-12).all() and (few > 0.6 * norm).all()
    assert spectral_radius(f, z[:0], (x[:0],)).shape == (0,)
    constant = spectral_radius(lambda z: x + 0 * z.detach(), z)
    assert (constant == 0).all()


def test_spectra_on_graphs():
    index = torch.tensor([0, 1, 0, 1, 1])
    a = torch.randn(5, 5) * (index[:, None] == index)
    radius = spectral_radius(lambda h: a @ h, torch.zeros(5, 1), layout=Segments(index, 2))
    for g in range(2):
        part = a[index == g][:, index == g]
        assert abs(radius[g] - torch.linalg.eigvals(part).abs().max()) < 1e-9


def test_jacobian_rows_estimate_the_norm_and_its_gradient():
    w, x = weights(), torch.randn(P, D)
    z = solve(w, x, Anderson(), None).value
    sharp = (1 - torch.tanh(z.detach() @ w.mT + x) ** 2)[:, :, None] * w
    wanted = sharp.square().sum((1, 2))
    (slope,) = torch.autograd.grad(wanted.sum(), w)
    probes = torch.eye(D)  # all unit vectors: the sum of squares is exact
    rows = [
        jacobian_rows(lambda z, x: torch.tanh(z @ w.mT + x), z, (x,), e.expand(P, D))
        for e in probes
    ]
    total = sum(r.square().sum(1) for r in rows)
    assert torch.allclose(total, wanted, rtol=1e-12, atol=1e-11)
    (got,) = torch.autograd.grad(total.sum(), w)
    assert torch.allclose(got, slope, rtol=1e-12, atol=1e-11)
