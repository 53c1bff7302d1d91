"""Tasks about random walks on random graphs: PageRank and hitting probabilities.

Both are linear fixed points over the whole graph; see `graph_walks` for the equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.graphs.graph import Graph, check_size, numpy_generator
from sciml.physics.graphs.random_walks import Walk, random_walk_graph
from sciml.typed_arguments import typed


@dataclass(frozen=True)
class _RandomWalks:
    """What both tasks share: random graphs to walk on."""

    degree: float = 6.0
    sigma: float = 0.5
    directed: bool = False

    kind = "regression"
    level = "node"
    unit = "1"

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.degree < 1 or self.sigma < 0:
            given = f"degree={self.degree}, sigma={self.sigma}"
            raise InvalidArgument(given, "degree >= 1 and sigma >= 0")

    def draw(self, generator: torch.Generator, size: int) -> Graph:
        """Return one graph of `size` nodes with its answer."""
        return self.draw_many(generator, [size])[0]

    def draw_many(self, generator: torch.Generator, sizes: Sequence[int]) -> tuple[Graph, Tensor]:
        """Return the union of graphs of these sizes with their answers, and each node's graph."""
        check_size(min(sizes), 3, "a graph to walk on")
        rng = numpy_generator(generator)
        walk = random_walk_graph(
            rng, sizes, degree=self.degree, sigma=self.sigma, directed=self.directed
        )
        return self.graph(walk, rng), torch.from_numpy(walk.batch)

    def graph(self, walk: Walk, rng: np.random.Generator) -> Graph:
        """Return a walk's graph with its answer."""
        raise NotImplementedError


@typed
@dataclass(frozen=True)
class PageRank(_RandomWalks):
    """Task: PageRank times the number of nodes; with `damping=1` the stationary distribution.

    Node features: strength over the graph's mean. Edge features: weight and probability of the
    step. Edges point where the walker goes, so rank flows along them.

    Args:
        damping: d in [0, 1].
        degree: Mean number of edges that leave a node.
        sigma: Spread of weights and popularity, see `random_walk_graph`.
        directed: Whether edges are one-way.

    Raises:
        InvalidArgument: For numbers out of range.

    Example:
        >>> import torch
        >>> from sciml.physics.graphs import PageRank
        >>> web = PageRank(damping=0.85).draw(torch.Generator().manual_seed(0), 30)
        >>> round(web.target.mean().item(), 4)  # ranks times nodes: 1 on average
        1.0
    """

    sizes = {
        "node_features": 1,
        "edge_features": 2,
        "outputs": 1,
        "node_log": [0],
        "edge_log": [0, 1],
    }

    damping: float = 0.85

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        if not 0 <= self.damping <= 1:
            raise InvalidArgument(f"damping={self.damping}", "between 0 and 1")

    def graph(self, walk: Walk, rng: np.random.Generator) -> Graph:
        """Return a walk's graph with the ranks."""
        rank = walk.stationary() if self.damping == 1 else walk.pagerank(self.damping)
        strength = walk.strength()
        mean = (np.bincount(walk.batch, strength) / walk.sizes)[walk.batch]
        return Graph(
            x=_column(strength / mean),
            edge_index=torch.from_numpy(walk.edge_index),
            edge_attr=_column(walk.weight, walk.probability()),
            target=_column(rank * walk.sizes[walk.batch]),
        )


@typed
@dataclass(frozen=True)
class HittingProbability(_RandomWalks):
    """Task: probability to reach a goal before a trap.

    Node features: whether the node is an end, and whether it is a goal. Edge feature: weight. An
    edge points from where the walker may go to where it stands, since this is how the answer
    travels. Ends count neither in loss nor in scores.

    Args:
        ends: Goals, and as many traps, as a share of the nodes; at least one each.
        degree: Mean number of edges that leave a node.
        sigma: Spread of weights and popularity, see `random_walk_graph`.
        directed: Whether edges are one-way.

    Raises:
        InvalidArgument: For numbers out of range.

    Example:
        >>> import torch
        >>> from sciml.physics.graphs import HittingProbability
        >>> walk = HittingProbability().draw(torch.Generator().manual_seed(0), 30)
        >>> int((walk.weight == 0).sum())  # one goal and one trap
        2
        >>> bool((walk.target >= 0).all() and (walk.target <= 1).all())
        True
    """

    sizes = {"node_features": 2, "edge_features": 1, "outputs": 1, "edge_log": [0]}

    degree: float = 4.0
    sigma: float = 1.0
    directed: bool = True
    ends: float = 0.03

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        if not 0 <= self.ends < 0.5:
            raise InvalidArgument(f"ends={self.ends}", "a share below one half")

    def graph(self, walk: Walk, rng: np.random.Generator) -> Graph:
        """Return a walk's graph with random ends and the probabilities."""
        order = np.lexsort((rng.random(walk.nodes), walk.batch))
        place = np.empty(walk.nodes, dtype=int)
        first = (np.cumsum(walk.sizes) - walk.sizes)[walk.batch]
        place[order] = np.arange(walk.nodes) - first
        count = np.maximum(1, np.round(self.ends * walk.sizes)).astype(int)[walk.batch]
        goal, trap = place < count, (place >= count) & (place < 2 * count)
        return Graph(
            x=_column(goal | trap, goal),
            edge_index=torch.from_numpy(walk.edge_index[::-1].copy()),
            edge_attr=_column(walk.weight),
            target=_column(walk.hitting(goal, trap)),
            weight=torch.from_numpy((~(goal | trap)).astype(np.float64)),
        )


def _column(*values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(values, 1).astype(np.float64))
