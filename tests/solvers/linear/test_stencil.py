"""Stencil matrices against dense and sparse ones, spectra, components and derivatives."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse

from sciml.errors import ConvergenceError, InvalidArgument, InvalidType
from sciml.solvers import Dense, Implicit
from sciml.solvers.linear import FlexibleCG, Stencil, build_stencil
from sciml.solvers.linear.grid_graph import add_flows

TIGHT = FlexibleCG(rtol=1e-13)


def stencil(*shape: int, batch: int = 2, holes: float = 0.2, fixed: float = 0.2) -> Stencil:
    d = len(shape)
    faces = [torch.rand(batch, *(n - (i == a) for i, n in enumerate(shape))) for a in range(d)]
    shift = torch.where(torch.rand(batch, *shape) < fixed, torch.rand(batch, *shape), 0.0)
    return build_stencil(faces, shift, torch.rand(batch, *shape) >= holes)


def box(n: int) -> Stencil:
    """Dirichlet walls all around."""
    edge = torch.zeros(n)
    edge[0] = edge[-1] = 1
    faces = torch.ones(1, n - 1, n), torch.ones(1, n, n - 1)
    return Stencil(faces, edge[:, None] + edge + torch.zeros(1, n, n), torch.ones(1, n, n) > 0)


def pockets() -> Stencil:
    """A wall through the middle: fixed values on the left, a free constant on the right."""
    unknown = torch.ones(1, 6, 9, dtype=torch.bool)
    unknown[:, :, 4] = False
    shift = torch.zeros(1, 6, 9)
    shift[:, :, 0] = 1
    return build_stencil([torch.rand(1, 5, 9) + 0.1, torch.rand(1, 6, 8) + 0.1], shift, unknown)


@pytest.mark.parametrize("shape", [(7,), (6, 5), (4, 5, 3)])
def test_products_equal_those_of_the_assembled_matrix(shape):
    s = stencil(*shape)
    s.check()
    x = torch.randn(3, 2, *shape)  # three vectors for two matrices
    y, slow = s.times(x), add_flows(torch.where(s.unknown, s.shift, 1.0) * x, s.faces, x)
    torch.testing.assert_close(slow, y, rtol=0, atol=2e-15)
    for k in range(2):
        matrix, mask = s.to_csr(k), s.unknown[k]
        assert (matrix != matrix.T).nnz == 0
        for j in range(3):
            want = torch.from_numpy(matrix @ x[j, k][mask].numpy())
            assert torch.allclose(y[j, k][mask], want, rtol=0, atol=2e-15)
            assert torch.equal(y[j, k][~mask], x[j, k][~mask])


def test_the_smallest_eigenvalue_of_the_box_is_known():
    values = np.linalg.eigvalsh(box(16).to_csr().toarray())
    assert values[0] == pytest.approx(8 * math.sin(math.pi / 34) ** 2, rel=1e-12)
    assert values[0] == pytest.approx(0.0681076, abs=5e-8)


def test_one_matrix_serves_many_right_hand_sides():
    s, b = box(8), torch.randn(5, 8, 8)
    found = s.solve(b, linear=TIGHT, on_failure="raise").value
    for k in range(5):
        alone = s.solve(b[k : k + 1], linear=TIGHT, on_failure="raise").value
        torch.testing.assert_close(found[k : k + 1], alone, rtol=0, atol=1e-12)


def test_singular_components_are_found_and_solved_by_themselves():
    s = pockets()
    assert s.singular.tolist() == [True] and not bool(box(4).singular.any())
    b = torch.randn(1, 6, 9)
    found = s.solve(b, linear=TIGHT, on_failure="raise")
    matrix, mask = s.to_csr().toarray(), s.unknown[0]
    want = np.linalg.pinv(matrix, rcond=1e-12) @ b[0][mask].numpy()
    assert torch.allclose(found.value[0][mask], torch.from_numpy(want), rtol=0, atol=1e-12)
    assert found.value[0, :, 5:].mean().abs() < 1e-14
    assert torch.equal(found.value[0, :, 4], torch.zeros(6))


def test_a_right_hand_side_outside_the_range_gives_zero():
    s = build_stencil(
        [torch.ones(1, 3, 4), torch.ones(1, 4, 3)], torch.zeros(1, 4, 4), torch.ones(1, 4, 4) > 0
    )
    found = s.solve(torch.full((1, 4, 4), 0.1), linear=FlexibleCG(), on_failure="raise")
    assert torch.equal(found.value, torch.zeros(1, 4, 4)) and found.iterations.tolist() == [0]


def test_derivatives_equal_finite_differences_and_cost_one_solve():
    s = stencil(3, 3, fixed=1.0)
    b = torch.randn(2, 3, 3)
    given = [t.clone().requires_grad_() for t in (b, s.shift, *s.faces)]

    def solve(b, shift, *faces):
        # the mask keeps finite differences from joining what is not joined
        shift = torch.where(s.shift > 0, shift, 0.0)
        faces = [torch.where(w > 0, f, 0.0) for w, f in zip(s.faces, faces, strict=True)]
        return Stencil(faces, shift, s.unknown).solve(b, linear=TIGHT, on_failure="raise").value

    assert torch.autograd.gradcheck(solve, given, fast_mode=True)
    calls = []

    class Counting(FlexibleCG):
        def __call__(self, operator, b, x0=None):
            calls.append(b.shape)
            return super().__call__(operator, b, x0)

    leaf = [t.clone().requires_grad_() for t in s.faces]
    found = Stencil(leaf, s.shift, s.unknown).solve(b, linear=Counting(), on_failure="raise")
    (found.value**2).sum().backward()
    assert len(calls) == 2
    # the formula of the docstring, at the faces of the first axis
    matrices = [s.to_csr(k).toarray() for k in range(2)]
    for k in range(2):
        x, mask = found.value[k].detach(), s.unknown[k]
        dual = torch.zeros(3, 3)
        dual[mask] = torch.from_numpy(np.linalg.solve(matrices[k], 2 * x[mask].numpy()))
        want = -(dual[1:] - dual[:-1]) * (x[1:] - x[:-1])
        assert torch.allclose(leaf[0].grad[k], want, rtol=0, atol=1e-10)


def test_the_derivative_of_a_singular_system_is_that_of_the_pseudo_inverse():
    s = pockets()
    b, g = torch.randn(1, 6, 9, requires_grad=True), torch.randn(1, 6, 9)
    s.solve(b, linear=TIGHT, on_failure="raise").value.backward(g)
    mask = s.unknown[0]
    want = np.linalg.pinv(s.to_csr().toarray(), rcond=1e-12) @ g[0][mask].numpy()
    assert torch.allclose(b.grad[0][mask], torch.from_numpy(want), rtol=0, atol=1e-12)
    assert torch.equal(b.grad[0][~mask], torch.zeros(int((~mask).sum())))


def test_second_derivatives_follow_where_they_are_asked_for():
    s = stencil(3, 3, batch=1)
    faces = [torch.where(w > 0, w, 0.0).requires_grad_() for w in s.faces]

    def loss(b):
        found = Stencil(faces, s.shift, s.unknown).solve(
            b, linear=TIGHT, on_failure="raise", adjoint=Implicit(TIGHT, order=2)
        )
        return (found.value**3).sum()

    b = torch.randn(1, 3, 3, requires_grad=True)
    assert torch.autograd.gradgradcheck(loss, (b,), fast_mode=True)


def test_dense_solvers_take_it_too():
    s, b = stencil(4, 4, fixed=0.5), torch.randn(2, 4, 4)
    b = torch.where(s.unknown, b, 0.0)
    got = s.solve(b, linear=Dense(), on_failure="raise").value
    assert torch.allclose(s.times(got), b, rtol=0, atol=1e-12)


def test_what_is_joined_to_nothing_is_no_unknown():
    unknown = torch.zeros(1, 3, 3, dtype=torch.bool)
    unknown[0, 1, 1] = True
    s = build_stencil([torch.ones(1, 2, 3), torch.ones(1, 3, 2)], torch.zeros(1, 3, 3), unknown)
    assert not bool(s.unknown.any()) and not bool(s.singular.any())
    found = s.solve(torch.ones(1, 3, 3), linear=FlexibleCG(), on_failure="raise")
    assert torch.equal(found.value, torch.zeros(1, 3, 3))


def test_bad_stencils_are_refused():
    s = stencil(4, 4)
    with pytest.raises(InvalidArgument, match="negative or not finite"):
        Stencil((-s.faces[0], s.faces[1]), s.shift, s.unknown).check()
    with pytest.raises(InvalidArgument, match="not finite"):
        Stencil(s.faces, s.shift * torch.nan, s.unknown).check()
    with pytest.raises(InvalidArgument, match="faces of shapes"):
        Stencil((s.faces[1], s.faces[0][:, :, :3]), s.shift, s.unknown)
    with pytest.raises(InvalidType, match="booleans"):
        Stencil(s.faces, s.shift, s.unknown.long())
    with pytest.raises(InvalidArgument, match="vector of shape"):
        s.solve(torch.zeros(2, 5, 4), linear=FlexibleCG(), on_failure="raise")
    with pytest.raises(InvalidArgument, match="joined and no unknowns"):
        Stencil(s.faces, s.shift, torch.zeros_like(s.unknown)).check()


def test_nan_raises_or_stays_with_its_problem():
    s = box(6)
    b = torch.randn(3, 6, 6)
    b[1, 2, 2] = torch.nan
    with pytest.raises(ConvergenceError, match="1 met NaN or infinity"):
        s.solve(b, linear=FlexibleCG(), on_failure="raise")
    found = s.solve(b, linear=FlexibleCG(), on_failure="best")
    assert found.converged.tolist() == [True, False, True]
    assert found.value[1].isnan().all() and found.value[[0, 2]].isfinite().all()


def test_scipy_agrees_on_components():
    s = stencil(9, 9, batch=3, holes=0.45, fixed=0.02)
    want = []
    for k in range(3):
        matrix = s.to_csr(k)
        _, label = sparse.csgraph.connected_components(matrix, directed=False)
        pinned = s.shift[k][s.unknown[k]].numpy() > 0
        free = set(label) - set(label[pinned])
        want.append(len(free))
    label, sizes = s._components
    got = [len(set(label[k].flatten().tolist()) - {0}) for k in range(3)]
    assert got == want and min(want) > 0
    v = torch.randn(3, 9, 9)
    assert torch.allclose(s.project(s.project(v)), s.project(v), rtol=0, atol=1e-15)
