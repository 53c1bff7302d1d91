"""Every linear solver against a dense solve, per problem."""

import pytest
import torch

from sciml.errors import InvalidArgument, PerformanceWarning
from sciml.solvers import (
    CG,
    GMRES,
    MINRES,
    BiCGStab,
    Dense,
    JacobianFree,
    LaggedFactor,
    Neumann,
    NormalCG,
    Operator,
    Rows,
    Segments,
    Status,
    jacobi,
    root,
)

B, N = 4, 12


def matrices(kind: str) -> torch.Tensor:
    a = torch.randn(B, N, N)
    if kind == "definite":
        return a @ a.mT / N + 0.3 * torch.eye(N)
    if kind == "symmetric":
        q = torch.linalg.qr(a)[0]
        return q @ torch.diag(torch.linspace(-2, 3, N)) @ q.mT
    if kind in ("lower", "upper"):
        a = a + 4 * torch.eye(N)
        return a.tril() if kind == "lower" else a.triu()
    if kind == "diagonal":
        return torch.diag_embed(torch.rand(B, N) + 0.5)
    return torch.eye(N) + 0.5 * a / N**0.5


def operator_of(a: torch.Tensor, **tags: bool) -> Operator:
    def apply(m, v):
        return (m @ v[..., None])[..., 0]

    symmetric = any(tags.values())
    like = torch.zeros(a.shape[:-1])
    return Operator(
        lambda v: apply(a, v),
        None if symmetric else lambda v: apply(a.mT, v),
        like,
        Rows(1),
        **tags,
    )


CASES = [
    (Dense(), "general", {}),
    (Dense("positive_definite"), "definite", {"positive_definite": True}),
    (Dense("symmetric"), "symmetric", {"symmetric": True}),
    (Dense("lower"), "lower", {}),
    (Dense("upper"), "upper", {}),
    (Dense("diagonal"), "diagonal", {}),
    (Dense("min_norm"), "general", {}),
    (CG(rtol=1e-13), "definite", {"positive_definite": True}),
    (CG(rtol=1e-13, preconditioner=jacobi), "definite", {"positive_definite": True}),
    (NormalCG(rtol=1e-13), "general", {}),
    (MINRES(rtol=1e-13), "symmetric", {"symmetric": True}),
    (GMRES(rtol=1e-13), "general", {}),
    (GMRES(rtol=1e-13, restart=5), "general", {}),
    (GMRES(rtol=1e-13, preconditioner=jacobi), "lower", {}),
    (BiCGStab(rtol=1e-13), "general", {}),
    (BiCGStab(rtol=1e-13, preconditioner=jacobi), "upper", {}),
]


@pytest.mark.parametrize("solver, kind, tags", CASES)
def test_equals_the_dense_solution_and_its_transpose(solver, kind, tags):
    a, b, c = matrices(kind), torch.randn(B, N), torch.randn(B, N)
    operator = operator_of(a, **tags)
    out = solver(operator, b)
    wanted = torch.linalg.solve(a, b)
    assert (out.status == Status.CONVERGED).all()
    assert torch.allclose(out.value, wanted, rtol=0, atol=1e-10 * wanted.norm())
    assert torch.allclose(
        out.residual, (b - (a @ out.value[..., None])[..., 0]).norm(dim=-1), rtol=1e-12, atol=1e-14
    )
    # adjoint identity: <c, A^-1 b> = <A^-T c, b>
    back = solver(operator.T, c).value
    size = c.norm() * out.value.norm()
    assert abs((c * out.value).sum() - (back * b).sum()) < 1e-11 * size


@pytest.mark.parametrize("solver, kind, tags", CASES)
def test_a_problem_does_not_see_the_others(solver, kind, tags):
    a, b = matrices(kind), torch.randn(B, N)
    b[2] *= 1e6
    together = solver(operator_of(a, **tags), b)
    alone = solver(operator_of(a[1:2], **tags), b[1:2])
    assert torch.allclose(together.value[1:2], alone.value, rtol=1e-12, atol=1e-12)
    assert together.iterations[1] == alone.iterations[0]


@pytest.mark.parametrize("solver, kind, tags", CASES)
def test_zero_and_nan_right_hand_sides(solver, kind, tags):
    a, b = matrices(kind), torch.randn(B, N)
    b[0], b[1, 3] = 0, torch.nan
    out = solver(operator_of(a, **tags), b)
    assert torch.equal(out.value[0], torch.zeros(N)) and out.status[0] == Status.CONVERGED
    assert out.status[1] == Status.NONFINITE
    wanted = torch.linalg.solve(a[2:], b[2:])
    assert torch.allclose(out.value[2:], wanted, rtol=0, atol=1e-9 * wanted.norm())


@pytest.mark.parametrize("solver", [Dense(), Dense("min_norm"), NormalCG(), MINRES(), GMRES()])
def test_singular_systems(solver):
    q = torch.linalg.qr(torch.randn(2, N, N))[0]
    values = torch.linspace(1, 2, N)
    values[:3] = 0
    a = q @ torch.diag(values) @ q.mT
    b = torch.randn(2, N)
    b[0] = a[0] @ b[0]  # consistent; the other is not
    tags = {"symmetric": True} if isinstance(solver, MINRES) else {}
    out = solver(operator_of(a, **tags), b)
    assert out.status[0] == Status.CONVERGED
    assert torch.allclose(
        out.value[0], torch.linalg.pinv(a[0], rtol=1e-10) @ b[0], atol=1e-11, rtol=1e-12
    )
    assert out.status[1] != Status.CONVERGED
    if not isinstance(solver, MINRES):
        assert out.status[1] == Status.SINGULAR


def test_krylov_on_segments_equals_the_padded_direct_solve():
    index = torch.tensor([0, 0, 0, 2, 2, 3, 0, 2])
    layout = Segments(index, 4, per_column=True)
    same = (index[:, None] == index).double()
    weights = torch.rand(3, 8, 8) * same
    weights = weights / weights.sum(-1, keepdim=True)
    a = torch.eye(8) - 0.9 * weights  # one matrix per head

    def product(m):
        return lambda h: torch.einsum("hij,jh->ih", m, h)

    operator = Operator(product(a), product(a.mT), torch.zeros(8, 3), layout)
    b = torch.randn(8, 3)
    wanted = torch.linalg.solve(a, b.t()[..., None])[..., 0].t()
    for solver in (Dense(), GMRES(), BiCGStab(rtol=1e-12), NormalCG(rtol=1e-12)):
        out = solver(operator, b)
        assert out.status.shape == (4, 3)
        assert (out.status == Status.CONVERGED).all()  # the empty graph too
        assert torch.allclose(out.value, wanted, atol=1e-10, rtol=1e-12)
        back = solver(operator.T, b).value
        assert torch.allclose(
            back.t()[..., None], torch.linalg.solve(a.mT, b.t()[..., None]), rtol=1e-12, atol=1e-10
        )


def test_truncated_series():
    a, b = matrices("general"), torch.randn(B, N)
    operator, eye = operator_of(a), torch.eye(N)
    series = sum(torch.matrix_power(eye - 0.5 * a, k) for k in range(4)) * 0.5
    out = Neumann(4, damping=0.5)(operator, b)
    assert torch.allclose(out.value, (series @ b[..., None])[..., 0], rtol=1e-12, atol=1e-11)
    assert torch.equal(JacobianFree()(operator, b).value, b)


def test_a_good_start_saves_work_and_a_bad_one_is_dropped():
    a, b = matrices("general"), torch.randn(B, N)
    operator = operator_of(a)
    exact = torch.linalg.solve(a, b)
    for solver in (GMRES(), BiCGStab(), NormalCG()):
        cold = solver(operator, b)
        assert (solver(operator, b, exact).iterations == 0).all()
        bad = solver(operator, b, 1e9 * torch.randn(B, N))
        assert torch.equal(bad.iterations, cold.iterations)


def test_cg_refuses_what_is_not_declared_symmetric():
    with pytest.raises(InvalidArgument, match="symmetric=True"):
        CG()(operator_of(matrices("general")), torch.randn(B, N))
    # declared, but indefinite in a way CG cannot walk around: p^T A p = 0 at once
    a = torch.diag_embed(torch.tensor([1.0, -1.0]).repeat(N // 2)).expand(B, N, N)
    out = CG()(operator_of(a, symmetric=True), torch.ones(B, N))
    assert (out.status == Status.SINGULAR).all()


def test_unreachable_tolerances_are_refused():
    with pytest.raises(InvalidArgument, match="one of them positive"):
        GMRES(rtol=0.0)(operator_of(matrices("general")), torch.randn(B, N))


def test_empty_batch():
    operator = operator_of(torch.zeros(0, N, N))
    for solver in (Dense(), GMRES(), BiCGStab()):
        assert solver(operator, torch.zeros(0, N)).value.shape == (0, N)


def test_a_lagged_factor_serves_nearby_matrices():
    a, b = matrices("general"), torch.randn(B, N)
    lagged = LaggedFactor(refresh=4)
    solver = GMRES(rtol=1e-12, preconditioner=lagged)
    plain = GMRES(rtol=1e-12)(operator_of(a), b).iterations
    for k in range(4):
        near = a + 1e-6 * k * torch.randn(B, N, N)
        operator = operator_of(near)
        for matrix, turned in ((near, operator), (near.mT, operator.T)):
            out = solver(turned, b)
            assert torch.allclose(out.value, torch.linalg.solve(matrix, b), atol=1e-11, rtol=1e-12)
            assert (out.iterations <= 3).all() and (plain > 6).all()
    assert lagged.uses == 4  # eight solves, refreshed once


class Stubborn(torch.autograd.Function):
    """A cube that leaves torch in its backward, as wrapped simulators do."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(3 * x.detach().numpy() ** 2 * g.detach().numpy())


def test_functions_without_batching_rules_fall_back_to_rows():
    x0, t = torch.ones(2, 3), torch.tensor([[8.0], [27.0]], requires_grad=True)
    with pytest.warns(PerformanceWarning, match="row by row"):
        out = root(lambda x, t: Stubborn.apply(x) - t, x0, (t,), on_failure="raise")
        (g,) = torch.autograd.grad(out.value.sum(), t)
    assert torch.allclose(
        out.value, torch.tensor([[2.0], [3.0]]).expand(2, 3), rtol=1e-12, atol=1e-11
    )
    assert torch.allclose(g, torch.tensor([[3 / 12], [3 / 27]]), rtol=1e-12, atol=1e-12)


def test_drifting_recurrences_start_again():
    """float32, discount 0.99: recurrences report 1e-5 long before it is true."""
    torch.set_default_dtype(torch.float32)
    nodes, degree, graphs = 128, 6, 8
    count = nodes * graphs
    row = torch.arange(count).repeat_interleave(degree)
    col = row // nodes * nodes + torch.randint(nodes, row.shape)
    weight = torch.rand(len(row), 16)
    total = torch.zeros(count, 16).index_add(0, row, weight)
    weight = 0.99 * weight / total[row]

    def product(h, into, out):
        return h - torch.zeros_like(h).index_add(0, into, weight * h[out])

    layout = Segments(torch.arange(count) // nodes, graphs, per_column=True)
    operator = Operator(
        lambda h: product(h, row, col), lambda h: product(h, col, row), weight.new_zeros(count, 16),
        layout,
    )  # fmt: skip
    for turned in (operator, operator.T):
        b = torch.randn(count, 16) + 1
        out = BiCGStab(rtol=1e-5)(turned, b)
        assert (out.status == Status.CONVERGED).all()
        true = layout.norm(b - turned.matvec(out.value)) / layout.norm(b)
        assert true.max() <= 2.01e-5


def test_a_rising_residual_is_no_reason_to_give_up():
    """At condition 1e5 the residual of CG stays above its first value for 200 steps."""
    n = 150
    q = torch.linalg.qr(torch.randn(2, n, n))[0]
    a = q @ torch.diag(torch.logspace(0, 5, n)) @ q.mT
    b = torch.randn(2, n)
    out = CG(max_iter=3000)(operator_of(a, positive_definite=True), b)
    assert (out.status == Status.CONVERGED).all() and (out.iterations > n).all()
    wanted = torch.linalg.solve(a, b)
    assert (out.value - wanted).norm() < 1e-5 * wanted.norm()
