"""Chains, motif graphs and the atlas: what they hold is checked by counting and by networkx."""

import networkx as nx
import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.graphs.chains import Chains
from sciml.physics.graphs.motifs import MOTIFS, Atlas, MotifGraphs, MotifSet, growing_tree


def as_networkx(graph):
    out = nx.Graph()
    out.add_nodes_from(range(len(graph.x)))
    out.add_edges_from(graph.edge_index.T.tolist())
    return out


def test_chains_carry_their_class_at_the_head_alone():
    source = Chains(classes=3, chains=2, length=5)
    parts = source.parts()
    assert [len(parts[name]) for name in ("train", "val", "test")] == [6, 6, 6]
    for number, graph in enumerate(parts["train"]):
        label = number // 2
        assert graph.target.tolist() == [label] * 5
        assert graph.x[0].tolist() == [float(k == label) for k in range(3)]
        assert not graph.x[1:].any()
        assert graph.edge_index.tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]


def test_every_node_of_the_chains_counts_once():
    parts = Chains().parts()
    counts = {name: sum(float(g.weight.sum()) for g in graphs) for name, graphs in parts.items()}
    assert counts == {"train": 200, "val": 400, "test": 3400}
    for graphs in zip(*parts.values(), strict=True):
        assert torch.equal(sum(g.weight for g in graphs), torch.ones(100, dtype=torch.float64))


def test_undirected_chains():
    graph = Chains(length=10, directed=False).chain(1)
    assert nx.is_path(as_networkx(graph), list(range(10)))
    pairs = {tuple(e) for e in graph.edge_index.T.tolist()}
    assert pairs == {(b, a) for a, b in pairs} and len(pairs) == 18


@pytest.mark.parametrize("nodes", [1, 2, 3, 40])
def test_growing_trees_are_trees(nodes):
    edges = growing_tree(np.random.default_rng(nodes), nodes)
    assert edges.shape == (nodes - 1, 2) and (edges[:, 0] < edges[:, 1]).all()
    tree = nx.Graph(edges.tolist())
    tree.add_node(0)
    assert nx.is_tree(tree) and len(tree) == nodes


def test_trees_grow_by_preferential_attachment():
    """The share of leaves tends to 2/3, that of nodes with degree k to 4 / (k (k + 1) (k + 2))."""
    rng = np.random.default_rng(0)
    degrees = np.concatenate([np.bincount(growing_tree(rng, 500).ravel()) for _ in range(200)])
    for k in (1, 2, 3):
        assert abs((degrees == k).mean() - 4 / (k * (k + 1) * (k + 2))) < 0.01


def test_the_motif_of_a_graph_can_be_found_again():
    task = MotifGraphs()
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(30):
        graph = task.draw(generator, 20)
        whole = as_networkx(graph)
        assert len(whole) == 20 and nx.is_connected(whole)
        assert graph.x[:, 0].tolist() == [d for _, d in whole.degree()]
        core = nx.k_core(whole, 2)  # what is left of a tree with a motif: the motif
        label = task.motifs[int(graph.target)]
        assert nx.is_isomorphic(core, nx.Graph(MOTIFS[label])), label
        seen.add(label)
    assert seen == set(task.motifs)


def test_noise_adds_edges():
    generator = torch.Generator().manual_seed(0)
    graph = MotifGraphs(motifs=("ring", "star"), noise=0.5).draw(generator, 40)
    assert 34 + 6 + 10 < graph.edge_index.shape[1] / 2 < 34 + 6 + 21


def test_the_motif_set_does_not_depend_on_a_run():
    a, b = (MotifSet(count=20).graphs() for _ in range(2))
    assert all(torch.equal(g.edge_index, h.edge_index) for g, h in zip(a, b, strict=True))
    sizes = [len(g.x) for g in MotifSet(count=200).graphs()]
    assert min(sizes) == 15 and max(sizes) == 40


def test_atlas_counts():
    """Connected graphs with 2 to 7 nodes: 995; trees among them: 1+1+2+3+6+11 (OEIS A000055)."""
    graphs = Atlas(label="tree").graphs()
    assert len(graphs) == 1 + 2 + 6 + 21 + 112 + 853
    assert sum(int(g.target) for g in graphs) == 1 + 1 + 2 + 3 + 6 + 11
    # connected bipartite graphs (OEIS A005142) and connected planar graphs (A003094)
    assert sum(int(g.target) for g in Atlas(label="bipartite").graphs()) == 1 + 1 + 3 + 5 + 17 + 44
    assert sum(int(g.target) for g in Atlas().graphs()) == 1 + 2 + 6 + 20 + 99 + 646
    assert len(Atlas(label="connected", connected=False).graphs()) == 1253 - 8


@pytest.mark.parametrize(
    "make",
    [
        lambda: Chains(length=1),
        lambda: Chains(classes=1),
        lambda: Chains(labelled=0.9, validated=0.1),
        lambda: MotifGraphs(motifs=("ring", "wheal")),
        lambda: MotifGraphs(motifs=("ring",)),
        lambda: MotifGraphs().draw(torch.Generator(), 7),
        lambda: Atlas(label="red"),
    ],
)
def test_refusals(make):
    with pytest.raises(InvalidArgument):
        make()
