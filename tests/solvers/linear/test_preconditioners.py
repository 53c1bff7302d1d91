"""Preconditioners: symmetric, positive definite, equal to what they claim to be, and of use."""

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument, MissingPackage
from sciml.physics.fluids import RandomDomains
from sciml.solvers import batch_parts
from sciml.solvers.linear import (
    AlgebraicMultigrid,
    FlexibleCG,
    IncompleteCholesky,
    Jacobi,
    Multigrid,
    Stencil,
    build_stencil,
    guarded,
)
from sciml.solvers.linear.coarsening import coarsen, hierarchy
from sciml.solvers.linear.multigrid import chebyshev_steps
from sciml.solvers.linear.v_cycle import Level, pseudo_inverse, v_cycle

KINDS = {
    "jacobi": Jacobi,
    "ic": lambda s: IncompleteCholesky(s, modified=0.0, solves="wavefront"),
    "mic": lambda s: IncompleteCholesky(s, solves="wavefront"),
    "mic_scipy": lambda s: IncompleteCholesky(s, solves="scipy"),
    "multigrid": Multigrid,
    "multigrid_degree_1": lambda s: Multigrid(s, degree=1),
    "multigrid_degree_3": lambda s: Multigrid(s, degree=3, ratio=8.0),
}


def stencil(*shape: int, batch: int = 2, spread: float = 1.0, closed: float = 0.1) -> Stencil:
    """Random matrices: log-normal faces, some closed, holes, fixed values at one end."""
    d = len(shape)
    faces = []
    for a in range(d):
        w = torch.randn(batch, *(n - (i == a) for i, n in enumerate(shape))).mul(spread).exp()
        faces.append(torch.where(torch.rand_like(w) < closed, 0.0, w))
    shift = torch.zeros(batch, *shape)
    shift[..., -1] = torch.rand(batch, *shape[:-1]) * 10
    return build_stencil(faces, shift, torch.rand(batch, *shape) >= 0.1)


def disk(n: int, batch: int = 1) -> Stencil:
    """Fluid around a disk, open at one end, walls elsewhere."""
    x = (torch.arange(n) + 0.5) / n
    unknown = (x[:, None] - 0.45).square() + (x - 0.4).square() > 0.04
    shift = torch.zeros(n, n)
    shift[:, -1] = 1
    faces = torch.ones(batch, n - 1, n), torch.ones(batch, n, n - 1)
    wide = (batch, n, n)
    return build_stencil(faces, shift.expand(wide), unknown.expand(wide))


def dense(product, s: Stencil, k: int) -> np.ndarray:
    """The matrix of a product, over all cells of one problem."""
    n = s.grid.numel()
    units = torch.eye(n).reshape(n, 1, *s.grid).expand(n, *s.problems, *s.grid)
    return product(units)[:, k].reshape(n, n).numpy()


@pytest.mark.parametrize("shape", [(11, 9), (7, 6, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_symmetric_positive_definite(kind, shape):
    s = stencil(*shape)
    m = KINDS[kind](s)
    for k in range(2):
        matrix, mask = dense(m.apply, s, k), s.unknown[k].flatten().numpy()
        size = np.abs(matrix).max()
        assert np.abs(matrix - matrix.T).max() < 1e-13 * size
        # A is the identity beside the unknowns, and so is M
        assert np.array_equal(matrix[~mask], np.eye(len(matrix))[~mask])
        values = np.linalg.eigvalsh(matrix[np.ix_(mask, mask)])
        assert values[0] > 0
        # and it is a better identity than A itself
        preconditioned = np.linalg.eigvals(matrix[np.ix_(mask, mask)] @ s.to_csr(k).toarray()).real
        plain = np.linalg.eigvalsh(s.to_csr(k).toarray())
        assert preconditioned.max() / preconditioned.min() < plain[-1] / plain[0]


@pytest.mark.parametrize("tau", [0.0, 0.97])
def test_the_incomplete_factor_equals_a_naive_one(tau):
    s = stencil(6, 5, batch=1)
    a = np.zeros((30, 30))
    kept = s.unknown[0].flatten().numpy()
    a[np.ix_(kept, kept)] = s.to_csr().toarray()
    a[~kept, ~kept] = 1
    e, lower = np.zeros(30), np.tril(a, -1)
    for i in range(30):
        e[i] = a[i, i]
        for j in range(i):
            if a[i, j] != 0:
                rest = sum(a[k, j] for k in range(j + 1, 30) if k != i)
                e[i] -= a[i, j] * (a[i, j] + tau * rest) / e[j]
        if e[i] < 0.25 * a[i, i]:
            e[i] = a[i, i]
    m = (np.diag(e) + lower) @ np.diag(1 / e) @ (np.diag(e) + lower).T
    want = np.linalg.inv(m)
    for solves in ("scipy", "wavefront"):
        got = dense(IncompleteCholesky(s, modified=tau, solves=solves).apply, s, 0)
        assert np.abs(got - want).max() < 1e-13 * np.abs(want).max()
    if tau == 0:  # the product has the entries of A where A has some
        assert np.abs((m - a)[a != 0]).max() < 1e-13 * np.abs(a).max()


def test_incomplete_factors_save_what_they_should():
    s, b = disk(48), torch.randn(1, 48, 48)

    def count(m):
        solver = FlexibleCG(rtol=1e-6, preconditioner=m)
        return int(s.solve(b, linear=solver, on_failure="raise").iterations)

    plain, ic, mic = (
        count(None),
        count(IncompleteCholesky(s, modified=0)),
        count(IncompleteCholesky(s)),
    )
    assert ic < 0.4 * plain and mic < 0.65 * ic


def test_restriction_is_the_transpose_of_interpolation():
    s = stencil(9, 6, batch=2)
    for axes in ((-1,), (-2,), (-2, -1)):
        coarse, transfer = coarsen(s, axes)
        x, r = torch.randn(2, *coarse.grid), torch.randn(2, 9, 6)
        left = (transfer.up(x) * r).flatten(1).sum(1)
        right = (x * transfer.down(r)).flatten(1).sum(1)
        assert torch.allclose(left, right, rtol=0, atol=1e-13 * r.numel())


def test_constants_and_slopes_are_interpolated():
    """Without surfaces constants stay; between joined cells of equal coefficients, slopes too."""
    faces = torch.ones(1, 7, 8), torch.ones(1, 8, 7)
    s = Stencil(faces, torch.zeros(1, 8, 8), torch.ones(1, 8, 8) > 0)
    coarse, transfer = coarsen(s, (-2, -1))
    assert torch.equal(transfer.up(torch.ones(1, 4, 4)), torch.ones(1, 8, 8))
    x = torch.arange(4.0).expand(1, 4, 4) * 2 + 0.5  # centres of coarse cells
    got = transfer.up(x)[0, :, 1:-1]
    assert torch.allclose(got, torch.arange(1.0, 7.0).expand(8, 6), rtol=0, atol=1e-14)
    assert all(torch.equal(w, torch.ones_like(w)) for w in coarse.faces)  # half of two faces


def test_coarse_matrices_are_those_of_the_coarse_grid():
    """A wall a distance away is a conductor as long as the way to it: 1 / (1/2 + 2^l / 2)."""
    edge = torch.zeros(64)
    edge[-1] = 1
    s = build_stencil(
        [torch.ones(1, 63, 64), torch.ones(1, 64, 63)],
        edge.expand(1, 64, 64),
        torch.ones(1, 64, 64) > 0,
    )
    for level, matrix in enumerate(hierarchy(s)[0][:3]):
        size = 2**level
        want = size / (0.5 + size / 2)
        assert torch.allclose(matrix.shift[..., -1], torch.tensor(want), rtol=1e-14, atol=0)


def test_iterations_do_not_grow_with_the_grid():
    counts = []
    for n in (32, 64, 128):
        s, b = disk(n), torch.randn(1, n, n)
        solver = FlexibleCG(rtol=1e-6, preconditioner=Multigrid(s, dtype=torch.float32))
        counts.append(int(s.solve(b, linear=solver, on_failure="raise").iterations))
    assert max(counts) <= 7 and counts[2] <= counts[0] + 1


def test_anisotropy_along_axes_does_not_slow_multigrid():
    n = 48
    for ratio in (1.0, 50.0, 1000.0):
        faces = torch.ones(1, n - 1, n) / ratio, torch.ones(1, n, n - 1)
        shift = torch.zeros(1, n, n)
        shift[:, 0] = 1 / ratio
        s = Stencil(faces, shift, torch.ones(1, n, n) > 0)
        solver = FlexibleCG(rtol=1e-6, preconditioner=Multigrid(s))
        found = s.solve(torch.randn(1, n, n), linear=solver, on_failure="raise")
        assert int(found.iterations) <= 12, ratio


def test_singular_systems_need_nothing_special():
    faces = torch.rand(2, 31, 32) + 0.5, torch.rand(2, 32, 31) + 0.5
    faces[0][1, 15] = 0  # two rooms
    s = Stencil(faces, torch.zeros(2, 32, 32), torch.ones(2, 32, 32) > 0)
    b = torch.randn(2, 32, 32)
    for kind in ("mic", "multigrid"):
        solver = FlexibleCG(rtol=1e-9, preconditioner=KINDS[kind](s))
        found = s.solve(b, linear=solver, on_failure="raise")
        left = s.project(b) - s.times(found.value)
        assert left.norm() < 1e-9 * b.norm() and s.singular.tolist() == [True, True]
        assert int(found.iterations.max()) < 60


def test_one_batch_equals_its_problems_and_float32_serves_float64():
    s, b = stencil(16, 16, batch=3, spread=0.5), torch.randn(3, 16, 16)
    whole = Multigrid(s)
    for k in range(3):
        want = Multigrid(s[k : k + 1]).apply(b[k : k + 1])[0]
        assert torch.allclose(whole.apply(b)[k], want, rtol=0, atol=1e-12 * want.abs().max())
    half = Multigrid(s, dtype=torch.float32).apply(b * 1e-60)
    want = whole.apply(b * 1e-60)
    assert half.dtype == torch.float64
    assert torch.allclose(half, want, rtol=0, atol=1e-5 * float(want.abs().max()))


def test_weak_axes_wait_in_their_own_problems_only():
    s = disk(32, batch=3)
    factors = torch.tensor([[1.0, 1.0], [1.0, 0.02], [0.02, 1.0]], dtype=torch.float64)
    faces = [w * f.to(w.dtype).reshape(3, 1, 1) for w, f in zip(s.faces, factors.T, strict=True)]
    s = Stencil(tuple(faces), s.shift * factors[:, 1:, None].to(s.shift.dtype), s.unknown)
    m, b = Multigrid(s), torch.randn(3, 32, 32)
    sizes = [(32, 32), (8, 32), (32, 8)]
    assert sorted(grids[min(len(grids) - 1, 2)] for grids in m.grids) == sorted(
        [(8, 8), *sizes[1:]]
    )
    for k in range(3):
        want = Multigrid(s[k : k + 1]).apply(b[k : k + 1])[0]
        assert torch.allclose(m.apply(b)[k], want, rtol=0, atol=1e-12 * want.abs().max())
    out = s.solve(b, linear=FlexibleCG(rtol=1e-6, preconditioner=m), on_failure="raise")
    assert int(out.iterations.max()) <= 8


def test_any_interpolation_and_any_gates_keep_it_definite():
    """What learning may change cannot make the V-cycle indefinite."""
    s = stencil(10, 9, batch=1)
    stencils, transfers = hierarchy(s)
    wild = [
        None
        if t is None
        else type(t)(
            t.axes,
            t.sizes,
            tuple(torch.randn_like(w) for w in t.below),
            tuple(torch.randn_like(w) for w in t.above),
            t.damp * torch.randn_like(t.damp),
        )
        for t in transfers
    ]
    levels = [
        Level(
            m, torch.rand_like(m.shift) * m.unknown / m.diagonal, chebyshev_steps(2, 0.05, 2.0), t
        )
        for m, t in zip(stencils, wild, strict=True)
    ]
    matrix = dense(lambda r: v_cycle(levels, None, r), s, 0)
    mask = s.unknown[0].flatten().numpy()
    values = np.linalg.eigvalsh(matrix[np.ix_(mask, mask)])
    assert np.abs(matrix - matrix.T).max() < 1e-12 * np.abs(matrix).max() and values[0] > 0


def test_a_guarded_solve_falls_back_on_a_classical_preconditioner():
    s, b = disk(32, 2), torch.randn(2, 32, 32)
    solver = guarded(lambda operator: torch.zeros_like, Multigrid(s), rtol=1e-8)
    found = s.solve(b, linear=solver, on_failure="raise")
    assert found.stats["stage"].tolist() == [1, 1] and int(found.iterations.max()) <= 12


@pytest.mark.parametrize("kind", ["mic", "mic_scipy", "multigrid"])
def test_what_a_foreign_function_leaves_beside_the_unknowns_is_put_right(kind):
    s, b = stencil(16, 12), torch.randn(2, 16, 12)
    solver = guarded(lambda operator: torch.randn_like, KINDS[kind](s), rtol=1e-8, max_iter=5)
    found = s.solve(b, linear=solver, on_failure="raise")
    b = torch.where(s.unknown, b, 0.0)
    assert (b - s.times(found.value)).norm() <= 1e-8 * b.norm()


@pytest.mark.parametrize("kind", ["ruge_stuben", "smoothed_aggregation"])
def test_pyamg_takes_few_iterations(kind):
    pytest.importorskip("pyamg")
    s, b = disk(48, 2), torch.randn(2, 48, 48)
    solver = FlexibleCG(rtol=1e-6, preconditioner=AlgebraicMultigrid(s, kind))
    found = s.solve(b, linear=solver, on_failure="raise")
    assert int(found.iterations.max()) <= 10


def test_without_pyamg_it_says_what_to_type(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyamg", None)
    with pytest.raises(MissingPackage, match=r"sciml-torch\[amg\]"):
        AlgebraicMultigrid(disk(8))


def test_settings_that_cannot_be_are_refused():
    s = disk(8)
    with pytest.raises(InvalidArgument, match="degree=0"):
        Multigrid(s, degree=0)
    with pytest.raises(InvalidArgument, match="modified=2"):
        IncompleteCholesky(s, modified=2)
    with pytest.raises(InvalidArgument, match="kind='sa'"):
        AlgebraicMultigrid(s, "sa")
    other = disk(16)
    with pytest.raises(InvalidArgument, match="vector of shape"):
        other.solve(
            torch.zeros(1, 16, 16), linear=FlexibleCG(preconditioner=Jacobi(s)), on_failure="raise"
        )


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("kind", ["multigrid", "multigrid32", "ic", "wavefront", "jacobi"])
def test_parts_of_a_batch_give_the_bits_of_the_whole(kind, many, monkeypatch):
    """One matrix for all right-hand sides, or one for each; groups, closed rooms, singular ones."""
    make = {
        "multigrid": Multigrid,
        "multigrid32": lambda s: Multigrid(s, dtype=torch.float32),
        "ic": IncompleteCholesky,
        "wavefront": lambda s: IncompleteCholesky(s, solves="wavefront"),
        "jacobi": Jacobi,
    }[kind]
    family = RandomDomains(coefficients=("constant", "anisotropic"), sealed=0.3, pockets=0.3)
    stencil = family.draw(7 if many else 1, (20, 24), torch.Generator().manual_seed(3)).stencil
    draw = torch.Generator().manual_seed(4)
    b = torch.randn(7, 20, 24, dtype=torch.float64, generator=draw)
    preconditioner = make(stencil)
    solver = FlexibleCG(rtol=1e-9, max_iter=500, preconditioner=preconditioner)
    whole = stencil.solve(b, linear=solver, on_failure="raise")
    monkeypatch.setattr(batch_parts, "UNKNOWNS", 3 * 20 * 24)  # parts of 3, 3 and 1
    seen = []
    apply = type(preconditioner).apply
    monkeypatch.setattr(
        type(preconditioner), "apply", lambda self, r: (seen.append(len(r)), apply(self, r))[1]
    )
    made_in_parts = make(stencil)
    for mine in (preconditioner, made_in_parts):
        solver = FlexibleCG(rtol=1e-9, max_iter=500, preconditioner=mine)
        found = stencil.solve(b, linear=solver, on_failure="raise")
        assert torch.equal(found.value, whole.value)
        assert torch.equal(found.iterations, whole.iterations)
        assert torch.equal(found.residual, whole.residual)
    assert set(seen) == {3, 1}


def test_derivatives_of_a_batch_in_parts(monkeypatch):
    family = RandomDomains(coefficients=("constant", "log_normal"))
    stencil = family.draw(5, (12, 12), torch.Generator().manual_seed(3)).stencil
    b = torch.randn(5, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    found = []
    for unknowns in (2**20, 2 * 12 * 12):
        monkeypatch.setattr(batch_parts, "UNKNOWNS", unknowns)
        faces = tuple(w.clone().requires_grad_() for w in stencil.faces)
        mine = Stencil(faces, stencil.shift, stencil.unknown)
        solver = FlexibleCG(rtol=1e-10, preconditioner=Multigrid(mine))
        y = mine.solve(b.requires_grad_(), linear=solver, on_failure="raise").value
        found.append(torch.autograd.grad(y.square().sum(), (b, *faces)))
    for whole, split in zip(*found, strict=True):
        assert torch.equal(whole, split)


def test_pseudo_inverses_of_singular_matrices():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 5, 5, generator=generator, dtype=torch.float64)
    a = a @ a.mT
    a[1] = a[1][:, :3] @ a[1][:, :3].mT  # rank 3
    a[2] = 0
    torch.testing.assert_close(
        pseudo_inverse(a), torch.linalg.pinv(a, hermitian=True, rtol=1e-12), rtol=1e-8, atol=1e-9
    )
