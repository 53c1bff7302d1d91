"""Chains whose class is written at their head alone: a test of how far a graph network sees.

A chain is a path of nodes. Only its first node has a feature, the one-hot class of the chain; every
node is to be classified. A few nodes are labelled. What a network knows about a node at distance d
from the head has travelled d edges.

Source: the chains task of Gu et al., "Implicit Graph Neural Networks", NeurIPS 2020, arXiv
2009.06211.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sciml.errors import InvalidArgument
from sciml.physics.graphs.graph import Graph, check_size
from sciml.typed_arguments import typed

SEED = 20_231  # of the choice of labelled nodes, whatever the run's


@typed
@dataclass(frozen=True)
class Chains:
    """A set of labelled chains: the same graphs in all parts, other nodes counted in each.

    Node features: one-hot class at the head, zero elsewhere. Edge feature: a constant.

    Args:
        classes: Number of classes.
        chains: Chains per class.
        length: Nodes of a chain.
        directed: Whether edges lead from head to tail only, or both ways.
        labelled: Share of the nodes whose class training sees.
        validated: Share held out for validation; the rest is tested.

    Raises:
        InvalidArgument: For sizes or shares that cannot be.

    Example:
        >>> from sciml.physics.graphs import Chains
        >>> chains = Chains(classes=2, chains=3, length=10)
        >>> parts = chains.parts()
        >>> sorted(parts), len(parts["train"]), tuple(parts["train"][0].x.shape)
        (['test', 'train', 'val'], 6, (10, 2))
    """

    classes: int = 2
    chains: int = 20
    length: int = 100
    directed: bool = True
    labelled: float = 0.05
    validated: float = 0.1

    kind = "classification"
    level = "node"

    def __post_init__(self) -> None:
        """Check sizes and shares."""
        check_size(self.length, 2, "chains")
        if self.classes < 2 or self.chains < 1:
            given = f"classes={self.classes}, chains={self.chains}"
            raise InvalidArgument(given, "at least 2 classes and 1 chain of each")
        shares = self.labelled, self.validated
        if min(shares) <= 0 or sum(shares) >= 1:
            given = f"labelled={self.labelled}, validated={self.validated}"
            raise InvalidArgument(given, "positive shares with a sum below 1")

    @property
    def sizes(self) -> dict[str, int]:
        """Return what a network is told."""
        return {"node_features": self.classes, "edge_features": 1, "outputs": self.classes}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return tuple(f"class {k}" for k in range(self.classes))

    def parts(self) -> dict[str, list[Graph]]:
        """Return the chains thrice, with weight 1 where a node counts: train, val, test."""
        total = self.classes * self.chains * self.length
        order = torch.randperm(total, generator=torch.Generator().manual_seed(SEED))
        ends = [round(self.labelled * total), round((self.labelled + self.validated) * total)]
        found = {}
        for name, chosen in zip(
            ("train", "val", "test"), torch.tensor_split(order, ends), strict=True
        ):
            weight = torch.zeros(total, dtype=torch.float64)
            weight[chosen] = 1.0
            rows = weight.reshape(self.classes, self.chains, self.length)
            found[name] = [
                replace(self.chain(k), weight=row) for k in range(self.classes) for row in rows[k]
            ]
        return found

    def chain(self, label: int) -> Graph:
        """Return one chain of a class, every node with its target."""
        n = self.length
        x = torch.zeros(n, self.classes, dtype=torch.float64)
        x[0, label] = 1.0
        edges = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
        if not self.directed:
            edges = torch.cat([edges, edges.flip(0)], 1)
        ones = torch.ones(edges.shape[1], 1, dtype=torch.float64)
        return Graph(x, edges, ones, torch.full((n,), label))
