"""The interface of graph tasks: a graph with its answer, and what draws such graphs.

A *task* draws random graphs with exact answers. It is an object with

    kind      "regression" or "classification"
    level     "node" or "graph": what has a target
    sizes     what a network is told: node_features, edge_features, outputs (or classes)
    draw(generator, size) -> Graph

where `generator` is a CPU `torch.Generator`, the only source of randomness, and `size` the number
of nodes the graph has. `sciml.data.graph.graphs.GraphData` makes batches of what it draws. Tensors
are float64 and in physical units; scaling is the network's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from sciml.arguments import shown, whole
from sciml.errors import InvalidArgument, InvalidType


@dataclass
class Graph:
    """One graph with its answer.

    Attributes:
        x: `(N, n)` node features.
        edge_index: `(2, E)` int64, source above target; an undirected edge stands twice.
        edge_attr: `(E, k)` edge features.
        target: `(N, m)` values or `(N,)` classes of nodes; `(1, m)` or `(1,)` of the graph.
        weight: `(N,)` weight of nodes in loss and scores; None for 1. Known nodes get 0.
        extra: Further node tensors `(N, ...)` by name, for scores of a task's own.

    Example:
        >>> import torch
        >>> from sciml.physics.graphs import Graph
        >>> triangle = Graph(
        ...     x=torch.ones(3, 1),
        ...     edge_index=torch.tensor([[0, 1, 2], [1, 2, 0]]),  # one way round
        ...     edge_attr=torch.ones(3, 1),
        ...     target=torch.zeros(3, 1),
        ... )
        >>> tuple(triangle.x.shape), tuple(triangle.edge_index.shape)
        ((3, 1), (2, 3))
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor
    target: Tensor
    weight: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)


class GraphTask(Protocol):
    """Draws random graphs with exact answers, see the top of this file.

    Example:
        >>> import torch
        >>> from sciml.physics.graphs import Graph, GraphTask
        >>> class Degrees:  # of the nodes of a ring
        ...     kind, level = "regression", "node"
        ...     sizes = {"node_features": 1, "edge_features": 1, "outputs": 1}
        ...     def draw(self, generator, size):
        ...         i = torch.arange(size)
        ...         around = torch.stack([torch.cat([i - 1, i + 1]) % size, torch.cat([i, i])])
        ...         one = torch.ones(size, 1)
        ...         return Graph(one, around, torch.ones(2 * size, 1), target=2 * one)
        >>> task: GraphTask = Degrees()
        >>> task.draw(torch.Generator(), 5).target[:, 0].tolist()
        [2.0, 2.0, 2.0, 2.0, 2.0]
    """

    kind: Literal["regression", "classification"]
    level: Literal["node", "graph"]
    sizes: dict[str, Any]

    def draw(self, generator: torch.Generator, size: int) -> Graph:
        """Return a random graph with `size` nodes: the same for the same generator state."""
        ...


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """Return a numpy generator that continues a torch one: for scipy and its kin."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return np.random.default_rng(int(seed))


def both_ways(pairs: np.ndarray) -> np.ndarray:
    """Return undirected edges `(m, 2)` as directed ones `(2, 2 m)`; e and e + m are opposite."""
    return np.concatenate([pairs.T, pairs.T[::-1]], axis=1).astype(np.int64)


def check_size(size: int, least: int, what: str) -> None:
    """Refuse graphs that are too small.

    Raises:
        InvalidArgument: If `size` is below `least`.
    """
    if whole(size):
        raise InvalidType(f"{what} of {shown(size)} nodes", whole(size))
    if size < least:
        raise InvalidArgument(f"{what} of {size} nodes", f"at least {least}")
