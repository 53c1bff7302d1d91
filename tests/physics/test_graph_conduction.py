"""Generators of conduction problems on graphs: balances, bounds, and references of other kinds."""

import math

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.graph.graph_layers import Edges
from sciml.networks.graph.graph_solve import equilibrium
from sciml.physics.graphs.conduction import (
    DIRECT_UP_TO,
    effective_resistance,
    laplacian,
    outflow,
    potentials,
)
from sciml.physics.graphs.graph import both_ways
from sciml.physics.graphs.heat_mesh import HeatMesh, couplings, heat_graph, wavy_disc
from sciml.physics.graphs.porous import (
    PRESSURE,
    PorousNetwork,
    delaunay_pairs,
    hagen_poiseuille,
    pore_network,
)
from sciml.physics.graphs.resistors import ResistorNetwork, random_connected

F64 = torch.float64
TASKS = [PorousNetwork(), ResistorNetwork(), HeatMesh(source=2.0)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- conduction -----------------------------------------------------------------------------------
def test_laplacian_equals_its_definition():
    pairs = np.array([[0, 1], [1, 2], [0, 1]])  # two parallel edges
    found = laplacian(pairs, np.array([1.0, 3.0, 0.5]), 4).toarray()
    want = np.array([[1.5, -1.5, 0, 0], [-1.5, 4.5, -3, 0], [0, -3, 3, 0], [0, 0, 0, 0]])
    assert np.allclose(found, want, rtol=1e-12, atol=1e-11)


def test_chain_is_a_voltage_divider():
    pairs = np.array([[0, 1], [1, 2], [2, 3]])
    resistance = np.array([1.0, 2.0, 5.0])
    fixed, value = np.array([True, False, False, True]), np.array([8.0, 0, 0, 0.0])
    assert np.allclose(
        potentials(pairs, 1 / resistance, fixed, value), [8, 7, 5, 0], rtol=1e-12, atol=1e-11
    )


def test_large_systems_agree_with_the_direct_solver():
    net = pore_network(np.random.default_rng(0), DIRECT_UP_TO + 1000, sigma=0.5)
    p = net.pressure()  # conjugate gradients
    scale = net.flow(p)[0]
    inner = ~(net.inlet | net.outlet)
    assert inner.sum() > DIRECT_UP_TO
    assert np.abs(outflow(net.pairs, net.conductance, p)[inner]).max() < 1e-10 * scale
    import scipy.sparse.linalg as spla

    matrix = laplacian(net.pairs, net.conductance, len(p))
    direct = spla.spsolve(matrix[inner][:, inner].tocsc(), -(matrix[inner][:, ~inner] @ p[~inner]))
    assert np.abs(direct - p[inner]).max() < 1e-9 * PRESSURE


@pytest.mark.parametrize("seed", range(3))
def test_effective_resistance_equals_that_of_the_pseudo_inverse(seed):
    rng = np.random.default_rng(seed)
    pairs = random_connected(rng, 25, 4.0)
    c = 10 ** rng.uniform(-1, 1, len(pairs))
    inverse = np.linalg.pinv(laplacian(pairs, c, 25).toarray())
    a, b = 3, 17
    want = inverse[a, a] + inverse[b, b] - 2 * inverse[a, b]
    assert effective_resistance(pairs, c, 25, a, b) == pytest.approx(want, rel=1e-8)


def test_potentials_that_are_not_unique_are_refused():
    pairs, ones = np.array([[0, 1], [2, 3]]), np.ones(2)
    value = np.zeros(4)
    for fixed in (np.zeros(4, dtype=bool), np.array([True, False, False, False])):
        with pytest.raises(InvalidArgument, match="without a path to a node of known potential"):
            potentials(pairs, ones, fixed, value)
    fixed = np.array([True, False, True, False])
    assert np.allclose(potentials(pairs, ones, fixed, value), 0, rtol=0, atol=1e-8)
    with pytest.raises(InvalidArgument, match="positive conductances"):
        potentials(pairs, np.array([1.0, 0.0]), fixed, value)


# --- pore networks --------------------------------------------------------------------------------
@pytest.mark.parametrize("pores", [8, 60, 400])
def test_flow_balances_and_pressures_obey_the_maximum_principle(pores):
    net = pore_network(np.random.default_rng(pores), pores, sigma=0.5)
    p = net.pressure()
    out, (inflow, outflow_) = outflow(net.pairs, net.conductance, p), net.flow(p)
    inner = ~(net.inlet | net.outlet)
    assert np.abs(out[inner]).max(initial=0) < 1e-10 * inflow
    assert inflow > 0 and inflow == pytest.approx(outflow_, rel=1e-10)
    assert p.min() >= -1e-6 and p.max() <= PRESSURE + 1e-6
    assert (net.length > 0).all()


def test_permeability_grows_with_the_fourth_power_of_radii_and_units_cancel():
    import dataclasses

    net = pore_network(np.random.default_rng(1), 80, sigma=0.3)
    p = net.pressure()
    kappa = net.permeability(p)
    wide = dataclasses.replace(net, radius=2 * net.radius)
    assert np.allclose(wide.pressure(), p, rtol=1e-12, atol=1e-8)
    assert wide.permeability(p) == pytest.approx(16 * kappa, rel=1e-10)
    thick = dataclasses.replace(net, viscosity=1e-3)
    assert thick.permeability(p) == pytest.approx(kappa, rel=1e-10)


def test_one_pipe_obeys_hagen_poiseuille():
    # water in a pipe of 1 mm radius and 1 m length at 1 kPa: 0.3927 ml / s
    flow = hagen_poiseuille(np.array(1e-3), np.array(1.0), 1e-3) * 1e3
    assert flow == pytest.approx(3.927e-7, rel=1e-3)


def test_delaunay_edges_of_a_square_with_a_centre():
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]], dtype=float)
    pairs = {tuple(p) for p in delaunay_pairs(points).tolist()}
    assert pairs == {(0, 1), (1, 2), (2, 3), (0, 3), (0, 4), (1, 4), (2, 4), (3, 4)}


def test_oracle_weights_reproduce_pressures_within_the_bias_of_gamma():
    """Softmax of log k on interior rows, none on given ones (method sheet, 4.1)."""
    net = pore_network(np.random.default_rng(3), 120, sigma=0.5)
    fixed = torch.from_numpy(net.inlet | net.outlet)
    index = torch.from_numpy(both_ways(net.pairs))
    edges = Edges.build(index, 120)
    k = torch.from_numpy(np.concatenate([net.conductance] * 2))
    a = edges.softmax(edges.sorted(k).log()[:, None]) * ~fixed[edges.row, None]
    want = torch.from_numpy(net.pressure() / PRESSURE)
    b = (want * fixed)[:, None]
    errors = []
    for gap in (1e-2, 1e-4, 1e-6):
        h = equilibrium(
            edges, (1 - gap) * a, b, factor=1 - gap, on_failure="raise", rtol=1e-12
        ).value[:, 0]
        errors.append(float((h - want).abs().max()))
    assert errors[0] < 0.2 and errors[1] < 2e-3 and errors[2] < 2e-5
    assert errors[0] > 20 * errors[1] > 400 * errors[2]


# --- resistors and heat ---------------------------------------------------------------------------
def test_resistor_currents_balance_and_leave_at_the_ground():
    graph = ResistorNetwork(sources=2).draw(generator(), 40)
    row = graph.edge_index[1]
    c, v = graph.edge_attr[:, 0], graph.target[:, 0]
    flow = torch.zeros(40, dtype=F64).index_add_(0, row, c * (v[row] - v[graph.edge_index[0]]))
    total = torch.zeros(40, dtype=F64).index_add_(0, row, c)
    injected = graph.x[:, 1] * total
    ground = graph.x[:, 0] == 1
    assert float(injected.sum()) == pytest.approx(1.0)
    assert (flow - injected)[~ground].abs().max() < 1e-10
    assert float(flow[ground]) == pytest.approx(-1.0)
    assert v.min() >= -1e-12 and float(v[ground]) == 0


@pytest.mark.parametrize("nodes", [25, 120])
def test_random_resistor_graphs_are_connected_without_loops(nodes):
    pairs = random_connected(np.random.default_rng(nodes), nodes, 3.0)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    seen = {0}
    for _ in range(nodes):
        seen |= {b for a, b in pairs if a in seen} | {a for a, b in pairs if b in seen}
    assert len(seen) == nodes


def test_meshes_have_the_nodes_asked_for_and_the_area_of_the_domain():
    for nodes in (20, 77, 500):
        mesh = wavy_disc(np.random.default_rng(nodes), nodes, waves=0.0)
        _, w, area = couplings(mesh)
        assert len(mesh.points) == nodes == len(np.unique(mesh.triangles))
        sides = int(mesh.boundary.sum())
        polygon = sides / 2 * math.sin(2 * math.pi / sides)
        assert area.sum() == pytest.approx(polygon, rel=1e-12)


def test_couplings_of_inner_edges_are_not_negative():
    for seed in range(5):
        mesh = wavy_disc(np.random.default_rng(seed), 150, waves=0.3)
        pairs, w, _ = couplings(mesh)
        assert w[~mesh.boundary[pairs].all(1)].min() > -1e-12


def test_linear_fields_are_exact_and_curved_ones_converge_at_second_order():
    errors = []
    for nodes in (100, 400, 1600):
        mesh = wavy_disc(np.random.default_rng(0), nodes)
        x, y = mesh.points.T
        linear = 3 * x - y + 2
        graph = heat_graph(mesh, linear, np.zeros(nodes))
        assert np.abs(graph.target[:, 0].numpy() - linear).max() < 2e-4  # the floor of couplings
        harmonic = x**3 - 3 * x * y**2
        found = heat_graph(mesh, harmonic, np.zeros(nodes)).target[:, 0].numpy()
        square = heat_graph(mesh, x**2 + y**2, -4 * np.ones(nodes)).target[:, 0].numpy()
        errors.append([np.abs(found - harmonic).max(), np.abs(square - x**2 - y**2).max()])
    errors = np.array(errors)
    assert (errors[1:] < 0.45 * errors[:-1]).all()  # a quarter at best on random meshes
    assert (errors[-1] < 3e-3).all()


# --- all of them ----------------------------------------------------------------------------------
@pytest.mark.parametrize("task", TASKS, ids=lambda t: type(t).__name__)
def test_draws_are_repeatable_and_complete(task):
    one, again, other = (task.draw(generator(s), 40) for s in (1, 1, 2))
    for name in ("x", "edge_index", "edge_attr", "target", "weight"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert not torch.equal(one.target, other.target)
    assert one.x.shape == (40, task.sizes["node_features"])
    assert one.edge_attr.shape == (one.edge_index.shape[1], task.sizes["edge_features"])
    assert one.target.shape == (40, 1) and one.edge_index.dtype == torch.int64
    assert one.x.dtype == one.edge_attr.dtype == one.target.dtype == F64
    half = one.edge_index.shape[1] // 2
    assert torch.equal(one.edge_index[:, half:], one.edge_index[:, :half].flip(0))
    for column in task.sizes.get("edge_log", []):
        assert one.edge_attr[:, column].min() > 0
    assert 0 < one.weight.sum() < 40


def test_wrong_numbers_are_refused():
    for make in (
        lambda: PorousNetwork(sigma=-1.0),
        lambda: ResistorNetwork(degree=1.0),
        lambda: HeatMesh(waves=0.6),
        lambda: PorousNetwork().draw(generator(), 3),
        lambda: ResistorNetwork().draw(generator(), 3),
        lambda: HeatMesh().draw(generator(), 10),
    ):
        with pytest.raises(InvalidArgument):
            make()
