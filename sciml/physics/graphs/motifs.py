"""Graphs to classify whose class is known by construction or by proof.

`MotifGraphs`: a random tree with one small pattern hung on it; the class is the pattern. `Atlas`:
all 1253 graphs with up to seven nodes; the class is a property that an algorithm decides. Both
need no files and stand in for the graph sets of chemistry and social networks.

References: Ying et al. 2019, arXiv 1903.03894 (motifs on random bases); Read & Wilson, "An Atlas of
Graphs", 1998, by networkx.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sciml.errors import InvalidArgument, did_you_mean
from sciml.physics.graphs.graph import Graph, both_ways, check_size, numpy_generator
from sciml.typed_arguments import typed

_RING = [(i, (i + 1) % 6) for i in range(6)]
# Six nodes each; "bipartite" and "prism" have the same degrees.
MOTIFS = {
    "ring": _RING,
    "wheel": [(i, (i + 1) % 5) for i in range(5)] + [(i, 5) for i in range(5)],
    "bipartite": [(i, j) for i in range(3) for j in range(3, 6)],
    "prism": [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3), (0, 3), (1, 4), (2, 5)],
    "star": [(0, i) for i in range(1, 6)],
    "complete": [(i, j) for i in range(6) for j in range(i)],
}
MOTIF_NODES = 6


def pairs_graph(pairs: np.ndarray, nodes: int, label: int) -> Graph:
    """Return an undirected graph with its class; the node feature is the degree.

    Args:
        pairs: `(m, 2)`, each edge once.
        nodes: N.
        label: Its class.
    """
    edges = both_ways(np.asarray(pairs, dtype=np.int64).reshape(-1, 2))
    degree = np.bincount(edges[0], minlength=nodes).astype(np.float64)
    return Graph(
        x=torch.from_numpy(degree)[:, None],
        edge_index=torch.from_numpy(edges),
        edge_attr=torch.ones(edges.shape[1], 1, dtype=torch.float64),
        target=torch.tensor([label]),
    )


def growing_tree(rng: np.random.Generator, nodes: int) -> np.ndarray:
    """Return the edges `(N - 1, 2)` of a tree; new nodes prefer neighbours of high degree.

    A random end of a random earlier edge is a node drawn in proportion to its degree (Barabasi &
    Albert 1999 with one edge per node).
    """
    new = np.arange(nodes)
    edge = 1 + (rng.random(nodes) * np.maximum(new - 1, 0)).astype(np.int64)  # edge k: k - parent
    # one end is node `edge`, the other its parent: follow edges until the first end is taken
    stop = (rng.random(nodes) < 0.5) | (new <= 1)
    edge[:2] = 0
    jump = np.where(stop, new, edge)
    for _ in range(max(nodes, 2).bit_length()):
        jump = jump[jump]
    return np.stack([edge[jump], new], 1)[1:]


@typed
@dataclass(frozen=True)
class MotifGraphs:
    """Task: which motif hangs on a random tree?

    Args:
        motifs: Names of `MOTIFS`, one per class.
        noise: Further random edges as a share of the nodes.

    Raises:
        InvalidArgument: For an unknown motif or a negative share.
    """

    motifs: tuple[str, ...] = ("ring", "wheel", "bipartite", "prism")
    noise: float = 0.0

    kind = "classification"
    level = "graph"

    def __post_init__(self) -> None:
        """Check names and share."""
        for name in self.motifs:
            if name not in MOTIFS:
                raise InvalidArgument(f"motifs={name!r}", "", did_you_mean(name, MOTIFS))
        if self.noise < 0 or len(self.motifs) < 2:
            given = f"motifs={list(self.motifs)}, noise={self.noise}"
            raise InvalidArgument(given, "at least two motifs and noise >= 0")

    @property
    def sizes(self) -> dict:
        """Return what a network is told."""
        return {"node_features": 1, "edge_features": 1, "outputs": len(self.motifs)}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return tuple(self.motifs)

    def draw(self, generator: torch.Generator, size: int) -> Graph:
        """Return a graph of `size` nodes with a random motif."""
        check_size(size, MOTIF_NODES + 2, "a tree with a motif")
        rng = numpy_generator(generator)
        label, base = int(rng.integers(len(self.motifs))), size - MOTIF_NODES
        hung = [(int(rng.integers(base)), base + int(rng.integers(MOTIF_NODES)))]
        motif = np.array(MOTIFS[self.motifs[label]]) + base
        noise = rng.integers(base, size=(round(self.noise * size), 2))
        noise = noise[noise[:, 0] != noise[:, 1]]
        # nodes in random order, and no edge twice
        pairs = np.concatenate([growing_tree(rng, base), hung, motif, noise])
        pairs = np.unique(np.sort(rng.permutation(size)[pairs], axis=1), axis=0)
        return pairs_graph(pairs, size, label)


@typed
@dataclass(frozen=True)
class MotifSet:
    """A fixed number of motif graphs, for protocols with folds.

    Args:
        task: Draws them.
        count: How many.
        smallest: Nodes of the smallest.
        largest: Nodes of the largest.
        seed: Names the set; not the seed of a run.

    Raises:
        InvalidArgument: For counts that cannot be.

    Example:
        >>> from sciml.physics.graphs import MotifSet
        >>> motifs = MotifSet(count=8)
        >>> len(motifs.graphs()), motifs.names
        (8, ('ring', 'wheel', 'bipartite', 'prism'))
    """

    task: MotifGraphs = MotifGraphs()
    count: int = 600
    smallest: int = 15
    largest: int = 40
    seed: int = 20_231

    kind = "classification"
    level = "graph"

    def __post_init__(self) -> None:
        """Check the counts."""
        check_size(self.smallest, MOTIF_NODES + 2, "trees with motifs")
        if self.count < 1 or self.largest < self.smallest:
            raise InvalidArgument(
                f"count={self.count}, smallest={self.smallest}, largest={self.largest}",
                "one graph or more, and a largest size that is not below the smallest",
            )

    @property
    def sizes(self) -> dict:
        """Return what a network is told."""
        return self.task.sizes

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.task.names

    def graphs(self) -> list[Graph]:
        """Return the set."""
        generator = torch.Generator().manual_seed(self.seed)
        between = (self.smallest, self.largest + 1)
        sizes = torch.randint(*between, (self.count,), generator=generator).tolist()
        return [self.task.draw(generator, size) for size in sizes]


PROPERTIES = ("bipartite", "connected", "planar", "tree", "triangle_free", "eulerian")


@typed
@dataclass(frozen=True)
class Atlas:
    """The graphs with up to seven nodes and at least one edge, with a property as class.

    Args:
        label: One of `PROPERTIES`; the class is 1 where it holds.
        connected: Whether to keep connected graphs only.

    Raises:
        InvalidArgument: For an unknown property.

    Example:
        >>> from sciml.physics.graphs import Atlas
        >>> atlas = Atlas(label="bipartite")
        >>> atlas.names, len(atlas.graphs())
        (('not bipartite', 'bipartite'), 995)
    """

    label: str = "planar"
    connected: bool = True

    kind = "classification"
    level = "graph"
    sizes = {"node_features": 1, "edge_features": 1, "outputs": 2}

    def __post_init__(self) -> None:
        """Check the property."""
        if self.label not in PROPERTIES:
            raise InvalidArgument(f"label={self.label!r}", "", did_you_mean(self.label, PROPERTIES))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return (f"not {self.label}", self.label)

    def graphs(self) -> list[Graph]:
        """Return the graphs in the order of the atlas."""
        import networkx as nx  # half a second

        decide = {
            "bipartite": nx.is_bipartite,
            "connected": nx.is_connected,
            "planar": nx.is_planar,
            "tree": nx.is_tree,
            "triangle_free": lambda g: not any(nx.triangles(g).values()),
            "eulerian": nx.is_eulerian,
        }[self.label]
        found = [g for g in nx.graph_atlas_g() if g.number_of_edges()]
        if self.connected:
            found = [g for g in found if nx.is_connected(g)]
        return [pairs_graph(np.array(g.edges), len(g), int(decide(g))) for g in found]
