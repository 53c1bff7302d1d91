"""Learned directions: sizes of the paper, symmetry, definiteness, and use in a solver."""

import copy

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.preconditioners import DCDM, LearnedMultigrid, LearnedPreconditioner
from sciml.networks.preconditioners.learned_preconditioner import arrays_of, stencil_of
from sciml.physics.fluids import RandomDomains
from sciml.solvers.linear import ConjugateDirections, FlexibleCG, Multigrid, guarded

EVERY = ("constant", "log_normal", "two_phase", "anisotropic")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def systems(*shape: int, count: int = 2, **family):
    family = RandomDomains(**{"coefficients": EVERY, "sealed": 0.5, **family})
    return family.draw(count, shape, torch.Generator().manual_seed(1)).stencil


def spoiled(network, size: float):
    """The same network with weights that no training would give."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(size * torch.randn_like(p))
    return network


def test_networks_have_the_sizes_of_the_paper():
    sizes = {
        (2, 4, 3, 2): 32_657,
        (2, 6, 5, 3): 51_217,
        (3, 4, 3, 2): 97_457,
        (3, 6, 5, 3): 152_881,
    }
    for (dim, full, coarse, fine), wanted in sizes.items():
        network = DCDM(dim, 16, full, coarse, fine)
        assert sum(p.numel() for p in network.parameters()) == wanted
    assert sum(p.numel() for p in LearnedMultigrid().parameters()) == 693


def test_matrices_survive_the_way_through_arrays():
    for shape in ((9, 7), (6, 5, 7)):
        s = systems(*shape, count=3)
        again = stencil_of(*arrays_of(s))
        assert torch.equal(again.unknown, s.unknown)
        assert all(torch.equal(a, b) for a, b in zip(again.faces, s.faces, strict=True))
        assert torch.equal(again.diagonal, s.diagonal)


@pytest.mark.parametrize("shape", [(15, 12), (7, 6, 8)])
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0])
def test_learned_multigrid_is_definite_whatever_its_weights(shape, size):
    s = systems(*shape)
    network = spoiled(LearnedMultigrid(len(shape)), size).double()
    m, n = LearnedPreconditioner(network, s), s.grid.numel()
    units = torch.eye(n, dtype=torch.float64).reshape(n, 1, *shape).expand(n, 2, *shape)
    for k in range(2):
        matrix = m.apply(units)[:, k].reshape(n, n).numpy()
        mask = s.unknown[k].flatten().numpy()
        assert np.abs(matrix - matrix.T).max() <= 1e-12 * np.abs(matrix).max()
        assert np.array_equal(matrix[~mask], np.eye(n)[~mask])
        values = np.linalg.eigvalsh(matrix[np.ix_(mask, mask)])
        assert values[0] > 0


def test_single_precision_is_symmetric_to_round_off():
    s = systems(32, 32)
    m = LearnedPreconditioner(LearnedMultigrid(), s)
    v, w = torch.randn(2, 2, 32, 32, dtype=torch.float64) * s.unknown
    one, two = (v * m.apply(w)).flatten(1).sum(1), (w * m.apply(v)).flatten(1).sum(1)
    scale = (v * m.apply(v)).flatten(1).sum(1)
    assert bool(((one - two).abs() <= 1e-6 * scale).all()) and bool((scale > 0).all())


def test_it_is_linear_and_keeps_problems_apart():
    s = systems(32, 24, count=3)
    network = LearnedMultigrid()
    m = LearnedPreconditioner(network, s)
    v, w = torch.randn(2, 3, 32, 24)
    together = m.apply(2 * v - 3 * w)
    assert torch.allclose(together, 2 * m.apply(v) - 3 * m.apply(w), rtol=1e-5, atol=1e-4)
    for k in range(3):
        alone = LearnedPreconditioner(network, s[k : k + 1]).apply(v[k : k + 1])[0]
        assert torch.allclose(m.apply(v)[k], alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max()))


def test_weights_near_zero_are_classical_multigrid():
    s = systems(32, 32, count=4, coefficients=EVERY[:2])
    b = torch.randn(4, 32, 32, dtype=torch.float64)
    counts = []
    for m in (LearnedPreconditioner(spoiled(LearnedMultigrid(), 0.0), s), Multigrid(s)):
        solver = FlexibleCG(rtol=1e-6, preconditioner=m)
        counts.append(s.solve(b, linear=solver, on_failure="raise").iterations)
    assert int((counts[0] - counts[1]).abs().max()) <= 1


def test_directions_do_not_depend_on_the_size_of_the_residual():
    for dim, shape in ((2, (9, 8)), (3, (5, 6, 7))):
        network, r = DCDM(dim, 4, 2, 1, 1), torch.randn(2, *shape)
        q = network.directions(None, r)
        assert q.shape == r.shape
        assert torch.allclose(network.directions(None, 1e-8 * r), q, rtol=1e-4, atol=1e-6)
        assert network.directions(None, 0 * r).isfinite().all()


@pytest.mark.parametrize("shape", [(40, 32), (28, 28, 28)])
def test_directions_are_alike_on_every_size_of_grid(shape):
    """Four or eight tiles have smaller entries in a vector of norm 1, and biases would see that."""
    network = spoiled(DCDM(len(shape), 4, 2, 1, 1), 0.3)
    tile = torch.randn(1, *shape)
    many = tile.repeat(1, *(2,) * len(shape))
    inner = (slice(None), *(slice(12, n - 12) for n in shape))  # walls are not seen from there
    one, other = (network.directions(None, r)[inner] for r in (tile, many))
    assert torch.allclose(other, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_layers_start_without_biases():
    network = DCDM(2, 4, 2, 1, 1)
    biases = [p for name, p in network.named_parameters() if name.endswith("bias")]
    assert len(biases) == 8 and not any(p.any() for p in biases)


@pytest.mark.parametrize("kind", ["untrained", "spoiled", "NaN"])
def test_a_bad_network_costs_iterations_and_no_answer(kind):
    s = systems(24, 24, coefficients=("constant",), sealed=0.0)
    b = torch.randn(2, 24, 24, dtype=torch.float64)
    network = DCDM(2, 4, 2, 1, 1)
    if kind != "untrained":
        network = spoiled(network, 3.0)
    if kind == "NaN":
        network.leave.bias.data.fill_(torch.nan)
    learned = LearnedPreconditioner(network, s)
    solver = guarded(learned, Multigrid(s), rtol=1e-8, directions=2)
    found = s.solve(b, linear=solver, on_failure="raise")
    left = torch.where(s.unknown, b, 0.0) - s.times(found.value)
    assert left.norm() <= 1e-8 * b.norm() and found.stats["stage"].tolist() == [1, 1]


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidArgument, match="dim=4"):
        LearnedMultigrid(4)
    with pytest.raises(InvalidArgument, match="full=3"):
        DCDM(full=3)
    with pytest.raises(InvalidArgument, match="network for 3-D"):
        LearnedPreconditioner(DCDM(3), systems(8, 8))
    weights, shift = arrays_of(systems(8, 8))
    with pytest.raises(InvalidArgument, match="residuals of shape"):
        DCDM(2)(torch.zeros(2, 8, 9), weights, shift)
    with pytest.raises(InvalidArgument, match="weights of shape"):
        DCDM(2)(torch.zeros(2, 8, 8), weights[:, :1], shift)
    s = systems(8, 8)
    with pytest.raises(InvalidArgument, match="vector of shape"):
        m = LearnedPreconditioner(DCDM(2), systems(16, 16))
        solver = ConjugateDirections(preconditioner=m)
        s.solve(torch.zeros(2, 8, 8).double(), linear=solver, on_failure="raise")
