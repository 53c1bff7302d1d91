"""Random walks against dense linear algebra, closed forms and networkx."""

import networkx as nx
import numpy as np
import pytest
import torch

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.networks.graph.graph_layers import Edges
from sciml.networks.graph.graph_solve import equilibrium
from sciml.physics.graphs.random_walks import Walk, random_walk_graph
from sciml.physics.graphs.walk_tasks import HittingProbability, PageRank


def walk_of(graph):
    """A networkx graph as a walk; undirected edges stand twice."""
    edges = list(nx.to_directed(graph).edges(data="weight", default=1.0))
    index = np.array([e[:2] for e in edges]).T
    return Walk(index, np.array([e[2] for e in edges], float), np.zeros(len(graph), dtype=int))


def random_walk(seed=0, sizes=(20, 35), directed=True):
    rng = np.random.default_rng(seed)
    return random_walk_graph(rng, sizes, degree=4.0, sigma=0.7, directed=directed)


def dense(walk, graph=0):
    """The transition matrix of one graph, entry by entry."""
    inside = np.flatnonzero(walk.batch == graph)
    p = np.zeros((walk.nodes, walk.nodes))
    for (i, j), w in zip(walk.edge_index.T, walk.weight, strict=True):
        p[i, j] += w
    p = p[np.ix_(inside, inside)]
    total = p.sum(1, keepdims=True)
    return np.divide(p, total, out=np.zeros_like(p), where=total > 0), inside


@pytest.mark.parametrize("weighted", [True, False])
def test_pagerank_of_the_karate_club(weighted):
    club = nx.karate_club_graph()
    if not weighted:
        nx.set_edge_attributes(club, 1.0, "weight")
    expected = nx.pagerank(club, tol=1e-15, max_iter=1000)
    expected = np.array([expected[i] for i in range(len(club))])
    assert np.abs(walk_of(club).pagerank(0.85) - expected).max() < 1e-12


def test_pagerank_with_dangling_nodes():
    graph = nx.gnp_random_graph(30, 0.05, seed=1, directed=True)
    assert min(d for _, d in graph.out_degree()) == 0
    expected = nx.pagerank(graph, tol=1e-15, max_iter=1000)
    expected = np.array([expected[i] for i in range(30)])
    assert np.abs(walk_of(graph).pagerank() - expected).max() < 1e-12


def test_karate_pagerank_by_a_contracting_map():
    """Rank over degree averages over neighbours: h = d A h + (1 - d) / (n deg), rows of A sum to 1.

    The weights are those of a softmax of the logarithm of the edge weight.
    """
    club = nx.karate_club_graph()
    walk = walk_of(club)
    strength = torch.from_numpy(walk.strength())[:, None]
    edges = Edges.build(torch.from_numpy(walk.edge_index), len(club))
    weight = edges.sorted(torch.from_numpy(walk.weight)[:, None])
    rows = edges.softmax(weight.log())
    found = equilibrium(
        edges, 0.85 * rows, 0.15 / (len(club) * strength), factor=0.85, on_failure="raise"
    )
    rank = (found.value * strength)[:, 0].numpy()
    expected = nx.pagerank(club, tol=1e-15, max_iter=1000)
    assert max(abs(rank[i] - expected[i]) for i in range(len(club))) < 1e-8


def test_pagerank_by_its_own_map():
    """M = d P^T on directed graphs: columns sum to d instead of rows, the solve does not mind."""
    walk = random_walk(1)
    edges = Edges.build(torch.from_numpy(walk.edge_index), walk.nodes, torch.from_numpy(walk.batch))
    m = 0.85 * edges.sorted(torch.from_numpy(walk.probability())[:, None])
    jump = torch.from_numpy(0.15 / walk.sizes[walk.batch])[:, None]
    for method in ("bicgstab", "dense"):
        found = equilibrium(edges, m, jump, factor=0.85, method=method, on_failure="raise")
        assert np.abs(found.value[:, 0].numpy() - walk.pagerank()).max() < 1e-8


@pytest.mark.parametrize("directed", [True, False])
def test_stationary_distributions(directed):
    walk = random_walk(2, directed=directed)
    found = walk.stationary()
    for graph in range(2):
        p, inside = dense(walk, graph)
        values, vectors = np.linalg.eig(p.T)
        vector = np.real(vectors[:, np.argmax(np.real(values))])
        assert np.abs(found[inside] - vector / vector.sum()).max() < 1e-11
    if not directed:  # proportional to the strength
        strength = walk.strength()
        share = strength / np.bincount(walk.batch, strength)[walk.batch]
        assert np.abs(found - share).max() < 1e-13


def test_pagerank_tends_to_the_stationary_distribution():
    walk = random_walk(3)
    assert np.abs(walk.pagerank(1 - 1e-8) - walk.stationary()).max() < 1e-8


def test_stationary_refuses_two_closed_parts():
    two = nx.DiGraph([(0, 1), (1, 0), (2, 3), (3, 2)])
    with pytest.raises(ConvergenceError, match="strongly connected"):
        walk_of(two).stationary()
    with pytest.raises(InvalidArgument, match="stationary"):
        walk_of(two).pagerank(1.0)


def test_gamblers_ruin():
    """On a line with odds q / p = r the chance to win from i of n is (1 - r^i) / (1 - r^n)."""
    n, r = 12, 0.7
    line = nx.DiGraph()
    for i in range(1, n):
        line.add_edge(i, i + 1, weight=1.0)
        line.add_edge(i, i - 1, weight=r)
    place = np.arange(n + 1)
    found = walk_of(line).hitting(place == n, place == 0)
    # networkx orders nodes by insertion; walk_of uses their names
    assert np.abs(found - (1 - r**place) / (1 - r**n)).max() < 1e-13


def test_hitting_probabilities_equal_simulation_and_a_dense_solve():
    walk = random_walk(4, sizes=(15,))
    goal, trap = np.zeros(15, bool), np.zeros(15, bool)
    goal[3], trap[[7, 8]] = True, True
    found = walk.hitting(goal, trap)
    p, _ = dense(walk)
    free = ~(goal | trap)
    solved = np.linalg.solve(np.eye(free.sum()) - p[np.ix_(free, free)], p[np.ix_(free, goal)])
    assert np.abs(found[free] - solved.sum(1)).max() < 1e-12
    rng, walkers = np.random.default_rng(0), np.zeros(4000, dtype=int)
    for _ in range(400):
        moving = ~(goal | trap)[walkers]
        u = rng.random(moving.sum())[:, None]
        walkers[moving] = (u > p.cumsum(1)[walkers[moving]]).sum(1)
    assert abs(goal[walkers].mean() - found[0]) < 4 * 0.5 / np.sqrt(4000)


def test_hitting_refuses_what_never_ends():
    graph = nx.DiGraph([(0, 1), (1, 0), (2, 3), (3, 2), (0, 2)])
    ends = np.arange(4) == 0
    with pytest.raises(ConvergenceError, match="2 nodes"):
        walk_of(graph).hitting(ends, np.zeros(4, bool))


def test_random_graphs_are_as_described():
    walk = random_walk_graph(
        np.random.default_rng(5), [40, 3, 200], degree=5.0, sigma=1.0, directed=True
    )
    assert walk.sizes.tolist() == [40, 3, 200]
    assert (walk.batch[walk.edge_index[0]] == walk.batch[walk.edge_index[1]]).all()
    assert (walk.edge_index[0] != walk.edge_index[1]).all()
    assert 4.5 < walk.edge_index.shape[1] / 243 <= 5
    assert abs(np.log(walk.weight).std() - 1) < 0.1
    walk.stationary()  # strongly connected, or refused
    both = random_walk(6, directed=False)
    matrix = np.zeros((both.nodes, both.nodes))
    np.add.at(matrix, tuple(both.edge_index), both.weight)
    assert np.array_equal(matrix, matrix.T)


@pytest.mark.parametrize(
    "task", [PageRank(), PageRank(damping=1.0, directed=True), HittingProbability()]
)
def test_tasks(task):
    graph, batch = task.draw_many(torch.Generator().manual_seed(0), [30, 60])
    again, _ = task.draw_many(torch.Generator().manual_seed(0), [30, 60])
    assert torch.equal(graph.target, again.target)
    assert graph.x.shape == (90, task.sizes["node_features"])
    assert graph.edge_attr.shape == (graph.edge_index.shape[1], task.sizes["edge_features"])
    assert batch.tolist() == [0] * 30 + [1] * 60
    source, target = graph.edge_index
    if isinstance(task, PageRank):
        per_graph = torch.zeros(2, dtype=torch.float64).index_add(0, batch, graph.target[:, 0])
        torch.testing.assert_close(
            per_graph, torch.tensor([30.0, 60.0], dtype=torch.float64), rtol=1e-12, atol=1e-10
        )
        flow = graph.edge_attr[:, 1] * graph.target[source, 0]
        inflow = torch.zeros(90, dtype=torch.float64).index_add(0, target, flow)
        expected = (1 - task.damping) + task.damping * inflow
    else:  # the mean over the edges that enter, weighted
        weight = graph.edge_attr[:, 0]
        mean = torch.zeros(90, dtype=torch.float64).index_add(
            0, target, weight * graph.target[source, 0]
        )
        mean = mean / torch.zeros(90, dtype=torch.float64).index_add(0, target, weight)
        expected = torch.where(graph.x[:, 0] > 0, graph.x[:, 1], mean)
        assert torch.equal(graph.weight, 1 - graph.x[:, 0])
        assert graph.x.sum(0).tolist() == [6.0, 3.0]
    torch.testing.assert_close(graph.target[:, 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PageRank(damping=1.1),
        lambda: PageRank(degree=0.5),
        lambda: HittingProbability(ends=0.6),
        lambda: HittingProbability(sigma=-1),
        lambda: PageRank().draw(torch.Generator(), 2),
    ],
)
def test_refusals(make):
    with pytest.raises(InvalidArgument):
        make()
