"""Random resistor networks: voltages when currents are injected and one node is grounded.

    sum_j c_ij (v_i - v_j) = q_i,      v = 0 at the ground,

with conductances c_ij spread over some decades. The current goes in at a few nodes and out at the
ground, the node of the largest total conductance. For one source the voltage there is the effective
resistance to the ground, R_ab = L+_aa + L+_bb - 2 L+_ab with the pseudo-inverse of the Laplacian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sciml.errors import InvalidArgument
from sciml.physics.graphs.conduction import potentials
from sciml.physics.graphs.graph import Graph, both_ways, check_size, numpy_generator
from sciml.typed_arguments import typed


def random_connected(rng: np.random.Generator, nodes: int, degree: float) -> np.ndarray:
    """Return edges `(m, 2)` of a connected random graph, each once.

    A random recursive tree, and random pairs until the mean degree is reached; pairs drawn twice
    are dropped.

    Args:
        rng: Random numbers.
        nodes: N.
        degree: Mean degree asked for, at least 2.
    """
    label = rng.permutation(nodes)
    parent = (rng.random(nodes - 1) * np.arange(1, nodes)).astype(np.int64)
    tree = np.stack([label[parent], label[1:]], 1)
    extra = max(0, int(degree * nodes / 2) - len(tree))
    more = rng.integers(0, nodes, (extra, 2))
    pairs = np.sort(np.concatenate([tree, more[more[:, 0] != more[:, 1]]]), axis=1)
    return np.unique(pairs, axis=0)


@typed
@dataclass(frozen=True)
class ResistorNetwork:
    """Task: voltages of a random resistor network in volts.

    Node features: whether the node is grounded, and the injected current over the conductance of
    all its resistors (V). Edge features: conductance (1 / Ohm). The ground does not count in loss
    and scores.

    Attributes:
        degree: Mean degree.
        decades: Conductances are log-uniform over so many decades around 1 / Ohm.
        sources: Nodes where current goes in, one ampere in all.

    Raises:
        InvalidArgument: For numbers that cannot be.

    Example:
        >>> import torch
        >>> from sciml.physics.graphs import ResistorNetwork
        >>> circuit = ResistorNetwork(degree=4.0).draw(torch.Generator().manual_seed(0), 30)
        >>> tuple(circuit.x.shape), tuple(circuit.target.shape)
        ((30, 2), (30, 1))
        >>> int((circuit.weight == 0).sum())  # the ground does not count
        1
    """

    kind, level, unit = "regression", "node", "V"

    degree: float = 4.0
    decades: float = 2.0
    sources: int = 3

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.degree < 2 or self.decades < 0 or self.sources < 1:
            raise InvalidArgument(
                f"degree={self.degree}, decades={self.decades}, sources={self.sources}",
                "degree >= 2, decades >= 0, sources >= 1",
            )

    @property
    def sizes(self) -> dict[str, Any]:
        """Return what a network is told."""
        return {"node_features": 2, "edge_features": 1, "outputs": 1, "edge_log": [0]}

    def draw(self, generator: torch.Generator, size: int) -> Graph:
        """Return a network of `size` nodes with its voltages."""
        check_size(size, self.sources + 1, "a resistor network")
        rng = numpy_generator(generator)
        pairs = random_connected(rng, size, self.degree)
        c = 10 ** (self.decades * (rng.random(len(pairs)) - 0.5))
        both = np.concatenate([c, c])
        index = both_ways(pairs)
        total = np.bincount(index[1], both, minlength=size)
        # at the best connected node: at a loose end it would be one resistor against all others
        ground, current = np.arange(size) == total.argmax(), np.zeros(size)
        chosen = rng.permutation(np.flatnonzero(~ground))[: self.sources]
        share = rng.random(self.sources) + 0.1
        current[chosen] = share / share.sum()
        v = potentials(pairs, c, ground, np.zeros(size), current)
        return Graph(
            x=torch.from_numpy(np.stack([ground, current / total], 1)),
            edge_index=torch.from_numpy(index),
            edge_attr=torch.from_numpy(both)[:, None],
            target=torch.from_numpy(v)[:, None],
            weight=torch.from_numpy(1.0 - ground),
        )
