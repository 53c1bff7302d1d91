"""SOR and SSOR against dense transcriptions."""

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.fluids import RandomDomains
from sciml.solvers.linear import FlexibleCG, Stencil, around
from sciml.solvers.linear.relaxation import SSOR, best_omega, sor


def box(n=6, m=5):
    faces = torch.ones(1, n - 1, m).double(), torch.ones(1, n, m - 1).double()
    return Stencil(faces, 4.0 - around(faces), torch.ones(1, n, m, dtype=torch.bool))


def naive_sor(stencil, b, omega, sweeps):
    """Red cells one after the other, then the black ones."""
    a = stencil.to_csr().toarray()
    n, m = stencil.grid
    x, rhs = np.zeros(n * m), b.numpy().ravel()
    order = sorted(range(n * m), key=lambda c: (c // m + c % m) % 2)
    for _ in range(sweeps):
        for c in order:
            x[c] += omega * (rhs[c] - a[c] @ x) / a[c, c]
    return x, np.linalg.norm(rhs - a @ x)


@pytest.mark.parametrize("omega", [1.0, 1.5, 1.8])
def test_sor_counts_like_a_naive_transcription(omega):
    torch.manual_seed(0)
    stencil, b = box(), torch.randn(1, 6, 5).double()
    found = sor(stencil, b, omega, rtol=1e-8)
    k = int(found.iterations)
    x, left = naive_sor(stencil, b, omega, k)
    assert left <= 1e-8 * float(b.norm()) < naive_sor(stencil, b, omega, k - 1)[1]
    np.testing.assert_allclose(found.value.numpy().ravel(), x, rtol=0, atol=1e-12)
    assert float(found.relative) == pytest.approx(left / float(b.norm()), rel=1e-6)


def test_a_batch_is_its_samples():
    torch.manual_seed(0)
    one, b = box(8, 8), torch.randn(5, 8, 8).double()
    b[3] = 0
    many = one.map(lambda t: t.expand(5, *t.shape[1:]))
    omega = torch.tensor([1.0, 1.2, 1.5, 1.7, 1.9])
    found = sor(many, b, omega, rtol=1e-9)
    assert int(found.iterations[3]) == 0
    for k in range(5):
        alone = sor(one, b[k : k + 1], omega[k], rtol=1e-9)
        assert int(alone.iterations) == int(found.iterations[k])
        torch.testing.assert_close(alone.value[0], found.value[k], rtol=0, atol=1e-13)


def test_what_is_not_solved_is_said():
    found = sor(box(16, 16), torch.ones(1, 16, 16).double(), 1.0, rtol=1e-9, max_iter=5)
    assert found.status.tolist() == [1] and found.iterations.tolist() == [5]
    assert 1e-3 < float(found.relative) < 2


def test_the_best_omega_is_best():
    radius = torch.cos(torch.tensor(torch.pi / 17).double())
    b = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    counts = {
        w: int(sor(box(16, 16), b, w, rtol=1e-8).iterations)
        for w in (float(best_omega(radius)), 1.0, 1.5, 1.6, 1.9)
    }
    assert min(counts, key=counts.get) == float(best_omega(radius))


def test_ssor_is_its_formula():
    stencil, omega = box(), 1.4
    a = stencil.to_csr().toarray()
    d, lower = np.diag(np.diag(a)), -np.tril(a, -1)
    e = d / omega
    m = (e - lower) @ np.linalg.inv(e) @ (e - lower).T
    r = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0)).double()
    wanted = np.linalg.solve(m, r.numpy().ravel())
    for solves in ("scipy", "wavefront"):
        got = SSOR(stencil, omega=omega, solves=solves).apply(r)
        np.testing.assert_allclose(got.numpy().ravel(), wanted, rtol=0, atol=1e-12)


def test_ssor_makes_conjugate_gradients_faster():
    stencil = RandomDomains().draw(2, (32, 32), torch.Generator().manual_seed(0)).stencil
    b = torch.where(stencil.unknown, torch.randn(2, 32, 32).double(), 0.0)
    counts = [
        int(stencil.solve(b, linear=FlexibleCG(rtol=1e-8, preconditioner=m), on_failure="raise")
            .iterations.max())
        for m in (None, SSOR(stencil, omega=1.0), SSOR(stencil, omega=1.7))
    ]  # fmt: skip
    assert counts[0] > 1.8 * counts[1] > 1.8 * counts[2]


@pytest.mark.parametrize("omega", [0.0, 2.0])
def test_wrong_omegas_are_told(omega):
    with pytest.raises(InvalidArgument, match="omega"):
        sor(box(), torch.ones(1, 6, 5).double(), omega, rtol=1e-6)
    with pytest.raises(InvalidArgument, match="omega"):
        SSOR(box(), omega=omega)
    with pytest.raises(InvalidArgument, match="tolerance"):
        sor(box(), torch.ones(1, 6, 5).double(), 1.5)
