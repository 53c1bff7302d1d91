"""The shipped preconditioners: iteration counts on domains never seen, and no false convergence."""

import numpy as np
import pytest
import torch

from sciml.networks.preconditioners import LearnedPreconditioner
from sciml.physics.fluids import RandomDomains
from sciml.pretrained import load_pretrained
from sciml.pretrained.files.folder import SHIPPED
from sciml.solvers import Status
from sciml.solvers.linear import FlexibleCG, IncompleteCholesky, Multigrid, guarded

KINDS = ("constant", "log_normal", "two_phase", "anisotropic")


def systems(shape, count, seed, kinds=("constant",), **family):
    """Irregular domains with mixed boundaries of seeds that no training draws, and white noise."""
    draw = torch.Generator().manual_seed(seed)
    s = RandomDomains(coefficients=kinds, **family).draw(count, shape, draw).stencil
    b = torch.randn(s.shift.shape, generator=draw, dtype=torch.float64)
    return s, s.project(torch.where(s.unknown, b, 0.0))


def iterations(preconditioner, s, b, rtol=1e-6):
    solver = FlexibleCG(rtol=rtol, max_iter=3000, preconditioner=preconditioner)
    out = solver(s.operator(b), b)
    left = torch.linalg.vector_norm((b - s.times(out.value)).flatten(1), dim=1)
    assert bool((left <= rtol * torch.linalg.vector_norm(b.flatten(1), dim=1)).all())
    return out.iterations.double()


def test_they_are_small():
    names = ("pressure_2d", "pressure_3d")
    files = [file for name in names for file in (SHIPPED / name).iterdir()]
    assert sum(file.stat().st_size for file in files) < 100_000


def test_iterations_on_unseen_domains_hardly_grow_with_the_grid():
    network, mean = load_pretrained("pressure_2d").network, {}
    for n in (64, 128, 256):
        s, b = systems((n, n), 2, 9000 + n)
        learned = LearnedPreconditioner(network, s)
        assert float(iterations(learned, s, b, 1e-4).max()) <= 6
        mean[n] = float(iterations(learned, s, b).mean())
        assert mean[n] <= 8
    assert mean[128] <= 1.5 * mean[64] and mean[256] <= 1.5 * mean[128]
    incomplete = IncompleteCholesky(s, modified=0.0)
    assert float(iterations(incomplete, s, b).mean()) >= 10 * mean[256]


@pytest.mark.parametrize(
    ("kind", "most"), [("log_normal", 9), ("two_phase", 40), ("anisotropic", 14)]
)
def test_variable_coefficients(kind, most):
    s, b = systems((128, 128), 4, 17, (kind,))
    found = iterations(LearnedPreconditioner(load_pretrained("pressure_2d").network, s), s, b)
    assert float(found.max()) <= most


def test_in_space():
    s, b = systems((40, 40, 40), 2, 5, ("constant", "log_normal"))
    found = iterations(LearnedPreconditioner(load_pretrained("pressure_3d").network, s), s, b)
    assert float(found.max()) <= 12


def test_nothing_is_called_converged_that_is_not():
    """1,000 random systems, closed rooms and singular ones among them, by matrices of SciPy."""
    network, wrong = load_pretrained("pressure_2d").network, 0
    for seed in range(4):
        s, b = systems((16, 16), 250, seed, KINDS, sealed=0.2, pockets=0.2)
        solver = guarded(LearnedPreconditioner(network, s), Multigrid(s), rtol=1e-6)
        out = solver(s.operator(b), b)
        for k in range(250):
            mask = s.unknown[k]
            given = b[k][mask].numpy()
            left = given - s.to_csr(k) @ out.value[k][mask].numpy()
            fine = np.linalg.norm(left) <= 1.000001e-6 * np.linalg.norm(given)
            wrong += int(out.status[k]) == Status.CONVERGED and not fine
        assert bool((out.status == Status.CONVERGED).all())
    assert wrong == 0
