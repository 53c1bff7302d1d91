"""How far a signal travels along a chain, in closed form."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.graph.convergent import CGS
from sciml.physics.graphs.chains import Chains


def solver(gamma, **changes):
    torch.manual_seed(0)
    settings = {"heads": 3, "width": 4, "hidden": 4, "parametrisation": "softmax"}
    settings |= {"source": True, "encoded_bias": False, "linear": "dense", "outputs": 2} | changes
    return CGS(node_features=2, edge_features=1, gamma=gamma, **settings).double()


def fixed_points(net, graph):
    found = []
    net.decode = lambda h, edges: found.append(h) or h[:, :2]
    net(graph.x, graph.edge_index, graph.edge_attr)
    return found[0]


@pytest.mark.parametrize("gamma", [0.5, 0.99])
def test_a_directed_chain_passes_on_gamma_per_edge(gamma):
    """One edge enters a node, so its softmax is 1 whatever the weights: h_d = gamma^d W x_0."""
    net, graph = solver(gamma), Chains(length=40).chain(1)
    expected = (
        gamma ** torch.arange(40.0, dtype=torch.float64)[:, None] * net.map.source.weight[:, 1]
    )
    torch.testing.assert_close(fixed_points(net, graph), expected, rtol=1e-12, atol=0)


def test_an_undirected_chain_decays_as_a_random_walk():
    """Equal weights both ways: (1 - sqrt(1 - gamma^2)) / gamma per edge, far from the ends."""
    net, gamma = solver(0.9), 0.9
    with torch.no_grad():
        for p in net.encoder.parameters():
            p.zero_()
    h = fixed_points(net, Chains(length=60, directed=False).chain(0))
    rate = (1 - math.sqrt(1 - gamma**2)) / gamma
    ratio = h[11:31] / h[10:30]
    torch.testing.assert_close(ratio, torch.full_like(ratio, rate), rtol=1e-9, atol=0)


def test_nodes_without_features_add_nothing():
    graph = Chains(length=10).chain(0)
    graph.x[0, 0] = 0.0
    assert not fixed_points(solver(0.9), graph).any()
    assert fixed_points(solver(0.9, encoded_bias=True), graph).all()


def test_normalised_signals_tell_classes_apart_at_any_distance():
    """The direction of h stays where its size has fallen by 1e-60."""
    net = solver(0.25, normalise=True, decoder=[4])
    shown = [net(g.x, g.edge_index, g.edge_attr) for g in map(Chains().chain, (0, 1))]
    for logits in shown:
        torch.testing.assert_close(logits, logits[:1].expand_as(logits), rtol=1e-6, atol=1e-6)
    assert (shown[0] - shown[1]).abs().max() > 1e-2


def test_a_map_needs_something_in_b():
    with pytest.raises(InvalidArgument, match="no part of b"):
        solver(0.9, source=False)
