"""Random walks on weighted graphs: PageRank, stationary distributions, hitting probabilities.

A walker at node i takes edge i -> j with probability P_ij = w_ij / sum_k w_ik. Exact answers in
float64, by one sparse factor for all graphs of a batch:

    PageRank       pi = d P^T pi + (1 - d) / n + (dangling mass) / n,     sum pi = 1
    stationary     pi = P^T pi,                                           sum pi = 1
    hitting        h = P h away from the ends,   h = 1 at goals, 0 at traps

References: Brin & Page 1998; Langville & Meyer 2004, "Deeper inside PageRank" (the linear system);
Kemeny & Snell 1960, "Finite Markov Chains" (absorbing chains).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from sciml.errors import ConvergenceError, InvalidArgument


@dataclass(frozen=True)
class Walk:
    """A batch of weighted directed graphs to walk on; the walker goes from source to target.

    Attributes:
        edge_index: `(2, E)`, source above target.
        weight: `(E,)` positive; parallel edges add up.
        batch: `(N,)` graph of every node, in order.
    """

    edge_index: np.ndarray
    weight: np.ndarray
    batch: np.ndarray

    @property
    def nodes(self) -> int:
        """Return N."""
        return len(self.batch)

    @property
    def sizes(self) -> np.ndarray:
        """Return the number of nodes per graph `(G,)`."""
        return np.bincount(self.batch)

    def strength(self) -> np.ndarray:
        """Return the weight of all edges that leave a node `(N,)`."""
        return np.bincount(self.edge_index[0], self.weight, self.nodes)

    def probability(self) -> np.ndarray:
        """Return P on the edges `(E,)`."""
        return self.weight / self.strength()[self.edge_index[0]]

    def matrix(self) -> sp.csc_matrix:
        """Return P `(N, N)`; a node without outgoing edges has an empty row."""
        entries = (self.probability(), tuple(self.edge_index))
        return sp.coo_matrix(entries, (self.nodes, self.nodes)).tocsc()

    def pagerank(self, damping: float = 0.85) -> np.ndarray:
        """Return the PageRank `(N,)`, which sums to 1 over every graph.

        A walker without an edge to take starts again anywhere. The solution is proportional to
        that of (I - d P^T) v = 1 without such jumps: they only add a multiple of the same
        right-hand side.

        Args:
            damping: d in [0, 1); see `stationary` for d = 1.
        """
        if not 0 <= damping < 1:
            raise InvalidArgument(
                f"damping={damping}", "at least 0 and below 1", "For 1 take stationary()"
            )
        a = sp.identity(self.nodes, format="csc") - damping * self.matrix().T
        return self._shares(spla.spsolve(a.tocsc(), np.ones(self.nodes)))

    def stationary(self) -> np.ndarray:
        """Return the stationary distribution `(N,)`, which sums to 1 over every graph.

        The first node of each graph gets the value 1, the others follow from the balance at
        their own place.

        Raises:
            ConvergenceError: If a graph is not strongly connected: its answer is not unique.
        """
        parts, _ = sp.csgraph.connected_components(self.matrix(), connection="strong")
        if parts != len(self.sizes):
            raise ConvergenceError(
                f"a walk on {len(self.sizes)} graphs with {parts} strong components",
                "every graph strongly connected",
                "Take pagerank(damping) with damping below 1",
            )
        first = np.zeros(self.nodes, dtype=bool)
        first[self.sizes.cumsum() - self.sizes] = True
        balance = (sp.identity(self.nodes) - self.matrix().T).tocsc()
        value = np.ones(self.nodes)
        if not first.all():
            inside = balance[~first]
            right = -inside[:, first] @ np.ones(first.sum())
            value[~first] = spla.spsolve(inside[:, ~first].tocsc(), right)
        return self._shares(value)

    def hitting(self, goal: np.ndarray, trap: np.ndarray) -> np.ndarray:
        """Return the probability `(N,)` to reach a goal before a trap.

        Args:
            goal: `(N,)` booleans.
            trap: `(N,)` booleans.

        Raises:
            ConvergenceError: If a walker may never reach either.
        """
        ends = goal | trap
        p = self.matrix()
        reach = _reaches(p, ends)
        if not reach.all():
            raise ConvergenceError(
                f"{int((~reach).sum())} nodes from which neither a goal nor a trap is reached",
                "ends within reach of every node",
            )
        value = goal.astype(float)
        free = np.flatnonzero(~ends)
        if len(free):
            rows = p[free]
            a = sp.identity(len(free), format="csc") - rows[:, free]
            value[free] = spla.spsolve(a.tocsc(), rows @ value)
        return value

    def _shares(self, value: np.ndarray) -> np.ndarray:
        return value / np.bincount(self.batch, value)[self.batch]


def _reaches(p: sp.csc_matrix, ends: np.ndarray) -> np.ndarray:
    """Return which nodes `(N,)` have a path along nonzeros of P to one of the ends."""
    n = len(ends)
    # one more node that leads to all ends, and every edge turned round
    start = sp.csr_matrix((np.ones(ends.sum()), (np.zeros(ends.sum()), ends.nonzero()[0])), (1, n))
    turned = sp.bmat([[p.T, None], [start, sp.csr_matrix((1, 1))]]).tocsr()
    found = np.zeros(n + 1, dtype=bool)
    found[sp.csgraph.breadth_first_order(turned, n, return_predecessors=False)] = True
    return found[:n]


def random_walk_graph(
    rng: np.random.Generator,
    sizes: Sequence[int],
    *,
    degree: float,
    sigma: float,
    directed: bool,
) -> Walk:
    """Return random graphs, strongly connected by a cycle through all their nodes.

    Further edges start anywhere and end at nodes drawn by popularity, whose logarithm is normal;
    so are the weights.

    Args:
        rng: Random numbers.
        sizes: Nodes per graph.
        degree: Mean number of edges that leave a node, the cycle's included.
        sigma: Standard deviation of the logarithms of weights and popularity.
        directed: Whether edges are one-way; else each stands in both directions.
    """
    sizes = np.asarray(sizes)
    begin = np.cumsum(sizes) - sizes
    batch = np.repeat(np.arange(len(sizes)), sizes)
    # the cycle: a random order within every graph, each node to the next, the last to the first
    order = np.lexsort((rng.random(len(batch)), batch))
    local = np.arange(len(batch)) - begin[batch]
    following = order[begin[batch] + (local + 1) % sizes[batch]]
    per_node = (degree if directed else degree / 2) - 1
    graph = np.repeat(np.arange(len(sizes)), np.round(per_node * sizes).astype(int).clip(0))
    source = begin[graph] + (rng.random(len(graph)) * sizes[graph]).astype(int)
    # popularity: a uniform number on the graph's part of the cumulative sum
    top = np.cumsum(np.exp(sigma * rng.standard_normal(len(batch))))
    low, high = np.r_[0.0, top][begin[graph]], top[(begin + sizes - 1)[graph]]
    target = np.searchsorted(top, low + rng.random(len(graph)) * (high - low), side="right")
    target = np.clip(target, begin[graph], (begin + sizes - 1)[graph])
    keep = source != target
    edges = np.stack([np.r_[order, source[keep]], np.r_[following, target[keep]]])
    weight = np.exp(sigma * rng.standard_normal(edges.shape[1]))
    if not directed:
        edges, weight = np.c_[edges, edges[::-1]], np.r_[weight, weight]
    return Walk(edges.astype(np.int64), weight, batch)
