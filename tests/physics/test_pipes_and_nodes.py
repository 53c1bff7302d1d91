"""Pore networks and Darcy's flow on nodes against formulas: units, means of faces, fits."""

import math

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.graphs.porous import (
    PRESSURE,
    PoreNetwork,
    PorousNetwork,
    hagen_poiseuille,
    pore_network,
)
from sciml.physics.graphs.resistors import random_connected
from sciml.physics.steady import NodalDarcy

F64 = torch.float64


def pipes(count=3):
    """Return pipes in parallel between two pores, of two throats each."""
    n = 2 + count
    ends = np.arange(n) == 0, np.arange(n) == 1
    pairs = np.array([[0, 2 + k] for k in range(count)] + [[2 + k, 1] for k in range(count)])
    radius = np.tile(1e-5 * (1 + np.arange(count)), 2)
    return PoreNetwork(
        np.zeros((n, 3)), np.full(n, 1e-5), pairs, radius, np.full(2 * count, 5e-4), *ends,
        side=1e-3, viscosity=1e-3,
    )  # fmt: skip


def test_parallel_pipes_have_the_permeability_of_their_sum():
    net = pipes()
    p = net.pressure()
    assert p[:2].tolist() == [101_325.0, 0.0] and p[2:] == pytest.approx([PRESSURE / 2] * 3)
    one = math.pi * (1e-5) ** 4 / (8 * 1e-3 * 1e-3)  # over both throats, 1 mm
    flow = one * (1 + 16 + 81) * PRESSURE
    assert net.flow(p) == pytest.approx((flow, flow), rel=1e-9)
    assert net.permeability(p) == pytest.approx(flow * 1e-3 * 1e-3 / (1e-6 * PRESSURE), rel=1e-9)
    assert hagen_poiseuille(2.0, 3.0, 5.0) == pytest.approx(math.pi * 16 / 120)


def test_drawn_networks_are_made_as_they_say():
    net = pore_network(np.random.default_rng(0), 400, sigma=0.5, side=2e-3)
    assert net.points.min() >= 0 and net.points.max() <= 2e-3 and net.side == 2e-3
    i, j = net.pairs.T
    apart = np.linalg.norm(net.points[i] - net.points[j], axis=1)
    np.testing.assert_allclose(
        net.length, apart - (net.diameter[i] + net.diameter[j]) / 2, rtol=1e-9, atol=0
    )
    np.testing.assert_allclose(
        net.radius, np.minimum(net.diameter[i], net.diameter[j]) / 2, rtol=1e-12, atol=0
    )
    every = np.linalg.norm(net.points[:, None] - net.points, axis=2)
    nearest = np.where(np.eye(400) > 0, np.inf, every).min(1)
    assert (net.diameter <= 0.9 * nearest * (1 + 1e-12)).all()
    free = net.diameter < 0.899 * nearest
    logs = np.log(net.diameter[free] / 2e-5)  # median a hundredth of the side
    assert np.median(logs) == pytest.approx(0, abs=0.15) and 0.35 < logs.std() < 0.6
    depth = net.points[:, 0] / net.side
    margin = 0.5 * 400 ** (-1 / 3)
    assert np.array_equal(net.inlet, depth <= margin)
    assert np.array_equal(net.outlet, depth >= 1 - margin)


def test_graphs_hold_features_in_their_order():
    task = PorousNetwork(coordinates=True)
    net = pipes()
    graph = task.graph(net)
    assert graph.x[:, :2].tolist() == [[1, 1], [1, 0], [0, 0], [0, 0], [0, 0]]
    assert graph.x.shape == (5, 5) and graph.weight.tolist() == [0, 0, 1, 1, 1]
    torch.testing.assert_close(
        graph.target[:, 0], torch.tensor([1, 0, 0.5, 0.5, 0.5]).double(), rtol=1e-9, atol=1e-12
    )
    assert graph.edge_index.shape == (2, 12)
    np.testing.assert_allclose(graph.edge_attr[:6, 0], net.radius, rtol=1e-12, atol=0)
    np.testing.assert_allclose(graph.edge_attr[6:, 2], net.conductance, rtol=1e-12, atol=0)
    assert (
        PorousNetwork().graph(net).x.shape == (5, 2) and PorousNetwork().sizes["node_features"] == 2
    )
    shown = net.points / net.side
    np.testing.assert_allclose(graph.x[:, 2:], shown, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("nodes", "degree"), [(40, 3.0), (300, 6.0)])
def test_random_graphs_have_each_pair_once_and_about_their_degree(nodes, degree):
    pairs = random_connected(np.random.default_rng(1), nodes, degree)
    assert len({tuple(p) for p in pairs.tolist()}) == len(pairs)
    assert 0.85 * degree < 2 * len(pairs) / nodes <= degree


# --- Darcy's flow on nodes ----------------------------------------------------------------------
def dense(a, grid, mean):
    """Return -div(a grad u) = 1 on nodes by a dense matrix, node by node."""
    if grid == "left":  # the last line and column once more
        a = np.pad(a, ((0, 1), (0, 1)), mode="edge")
    n = len(a)
    h, inner = 1 / (n - 1), [(i, j) for i in range(1, n - 1) for j in range(1, n - 1)]
    place = {p: k for k, p in enumerate(inner)}
    matrix = np.zeros((len(inner),) * 2)
    for (i, j), k in place.items():
        for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            p, q = a[i, j], a[i + di, j + dj]
            w = 2 * p * q / (p + q) if mean == "harmonic" else (p + q) / 2
            matrix[k, k] += w / h**2
            if (i + di, j + dj) in place:
                matrix[k, place[i + di, j + dj]] -= w / h**2
    u = np.zeros((n, n))
    u[1:-1, 1:-1] = np.linalg.solve(matrix, np.ones(len(inner))).reshape(n - 2, n - 2)
    return u[:-1, :-1] if grid == "left" else u


@pytest.mark.parametrize("grid", ["left", "both"])
@pytest.mark.parametrize("mean", ["harmonic", "arithmetic"])
def test_nodes_obey_the_dense_system(grid, mean):
    given = (torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0)) > 0.5).double()
    solver = NodalDarcy(3.0, 12.0, grid=grid, mean=mean)
    found = solver.solve(given).value
    assert found.shape == (2, 1, 9, 9) and found.dtype == F64
    for k in range(2):
        wanted = dense(3 + 9 * given[k, 0].numpy(), grid, mean)
        np.testing.assert_allclose(found[k, 0], wanted, rtol=1e-6, atol=1e-10)


def test_a_constant_coefficient_has_the_series_of_poisson():
    solver = NodalDarcy(0.0, 2.0, grid="both")
    found = solver.solve(torch.ones(1, 1, 33, 33)).value[0, 0]
    odd = np.arange(1, 60, 2)
    m, n = np.meshgrid(odd, odd)
    terms = 16 / (math.pi**4 * m * n * (m**2 + n**2))
    signs = np.sin(m * math.pi / 2) * np.sin(n * math.pi / 2)
    assert float(found[16, 16]) == pytest.approx((terms * signs).sum() / 2, rel=2e-3)


def test_numbers_are_fitted_to_solutions_and_kept_where_they_are_known():
    draw = torch.Generator().manual_seed(1)
    given = (torch.rand(5, 1, 12, 12, generator=draw) > 0.5).double()
    truth = NodalDarcy(0.5, 4.0)
    fitted = NodalDarcy().fitted(given, truth.solve(given).value)
    assert fitted.low == pytest.approx(0.5, rel=0.02) and fitted.high == pytest.approx(
        4.0, rel=0.03
    )
    assert truth.fitted(given, given).node() == {**truth.node(), "phases": True}
    kept = fitted.node()
    assert kept["low"] == fitted.low and kept["grid"] == "left" and kept["mean"] == "harmonic"
    with pytest.raises(InvalidArgument, match="inputs between 0 and 1"):
        NodalDarcy().fitted(2 * given, given)


def test_a_finer_solve_of_two_phases_is_that_of_the_cut_interpolation():
    n, r = 8, 3
    draw = torch.Generator().manual_seed(3)
    smooth = torch.nn.functional.interpolate(
        torch.randn(1, 1, 4, 4, generator=draw, dtype=F64), size=(n + 1, n + 1), mode="bicubic",
        align_corners=True,
    )  # fmt: skip
    given = (smooth > 0).double()
    found = NodalDarcy(3.0, 12.0, grid="both", refine=r).solve(given).value
    # Keys' cubic convolution with a = -3/4 on values repeated at the ends, then the cut.
    x = np.pad(given[0, 0].numpy(), 2, mode="edge")

    def kernel(s):
        s, a = abs(s), -0.75
        near = (a + 2) * s**3 - (a + 3) * s**2 + 1
        return np.where(s <= 1, near, np.where(s < 2, a * (s**3 - 5 * s**2 + 8 * s - 4), 0))

    places = np.arange(r * n + 1) / r
    weight = kernel(places[:, None] - np.arange(-2, n + 3))
    cut = (weight @ x @ weight.T > 0.5 - 1e-9).astype(float)
    assert 0 < np.mean(cut[::r, ::r] == given[0, 0].numpy()) == 1
    wanted = NodalDarcy(3.0, 12.0, grid="both").solve(torch.tensor(cut)[None, None]).value
    np.testing.assert_allclose(found, wanted[:, :, ::r, ::r], rtol=1e-9)
    # A coefficient that is no phase is interpolated, within its range.
    smooth = smooth.clamp(0.1, 1)
    fine = NodalDarcy(0.0, 1.0, grid="both", refine=r).solve(smooth).value
    a = np.clip(weight @ np.pad(smooth[0, 0].numpy(), 2, mode="edge") @ weight.T,
                float(smooth.min()), float(smooth.max()))  # fmt: skip
    wanted = NodalDarcy(0.0, 1.0, grid="both").solve(torch.tensor(a)[None, None]).value
    np.testing.assert_allclose(fine, wanted[:, :, ::r, ::r], rtol=1e-9)


def test_what_was_fitted_to_two_phases_cuts_samples_between_two_grids_too():
    draw = torch.Generator().manual_seed(1)
    given = (torch.rand(5, 1, 12, 12, generator=draw) > 0.5).double()
    fitted = NodalDarcy(0.5, 4.0, refine=2).fitted(given, given)
    between = 0.96 * given + 0.02
    wanted = fitted.solve(given).value
    np.testing.assert_allclose(fitted.solve(between).value, wanted, rtol=1e-9)
    alone = NodalDarcy(0.5, 4.0, refine=2).solve(between).value
    assert float((alone - wanted).abs().max() / wanted.max()) > 0.05


def test_nodes_that_cannot_be_are_refused():
    for make in (
        lambda: NodalDarcy(1.0),
        lambda: NodalDarcy(-1.0, 2.0),
        lambda: NodalDarcy(1.0, 0.0),
        lambda: NodalDarcy(grid="cells"),
        lambda: NodalDarcy(refine=0),
        lambda: NodalDarcy(refine=17),
        lambda: NodalDarcy().solve(torch.ones(1, 1, 8, 8)),
        lambda: NodalDarcy(1.0, 2.0).solve(torch.ones(1, 1, 8, 9)),
        lambda: NodalDarcy(1.0, 2.0).solve(torch.ones(1, 1, 3, 3)),
        lambda: NodalDarcy(0.0, 2.0).solve(torch.zeros(1, 1, 8, 8)),
    ):
        with pytest.raises(InvalidArgument):
            make()
