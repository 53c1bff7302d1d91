"""Steady heat conduction on triangulated domains, by linear finite elements.

    -div grad u = f in D,      u = g on its boundary.

The graph is the mesh: nodes, and edges in both directions. Linear elements give on interior nodes

    sum_j w_ij (u_i - u_j) = F_i,      w_ij = (cot alpha + cot beta) / 2,

with the angles opposite to the edge and the lumped load F_i = f(x_i) times a third of the area
around node i. A Delaunay triangulation makes every w_ij of an inner edge non-negative, so that the
maximum principle holds and the row of the system is a weighted mean.

Domains are discs with a wavy rim, r(t) = 1 + sum_k a_k cos(k t + phase), and boundary values are
random trigonometric polynomials of the angle; lengths in metres, u in kelvin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import Delaunay

from sciml.errors import InvalidArgument
from sciml.physics.graphs.conduction import potentials
from sciml.physics.graphs.graph import Graph, both_ways, check_size, numpy_generator
from sciml.typed_arguments import typed

FLOOR = 1e-6  # smallest coupling kept: four nodes on one circle have none


@dataclass(frozen=True)
class DiscMesh:
    """A triangulation.

    Attributes:
        points: `(N, 2)`, boundary nodes first.
        triangles: `(T, 3)` node numbers.
        boundary: `(N,)` booleans.
    """

    points: np.ndarray
    triangles: np.ndarray
    boundary: np.ndarray


def wavy_disc(rng: np.random.Generator, nodes: int, waves: float = 0.2) -> DiscMesh:
    """Return a mesh of a star-shaped domain with exactly `nodes` nodes.

    Args:
        rng: Random numbers.
        nodes: N, at least 20.
        waves: Size of the waves of the rim, below 0.5.
    """
    check_size(nodes, 20, "a mesh")
    k = np.arange(2, 5)
    size, phase = waves * rng.random(3) / k, 2 * math.pi * rng.random(3)

    def rim(t: np.ndarray) -> np.ndarray:
        return 1 + (size * np.cos(k * t[:, None] + phase)).sum(1)

    # spacing s: about area / s^2 nodes inside and perimeter / s on the rim
    on_rim = int(round(math.sqrt(4 * math.pi * nodes)))
    on_rim = min(on_rim, nodes - 4)
    angle = 2 * math.pi * np.arange(on_rim) / on_rim
    edge = rim(angle)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    inside = nodes - on_rim
    # sunflower spiral, jittered: even spacing without a grid; kept clear of the rim
    spacing = math.sqrt(math.pi / nodes)
    radius = np.sqrt((np.arange(inside) + 0.5) / inside) * (1 - 0.7 * spacing)
    turn = math.pi * (3 - math.sqrt(5)) * np.arange(inside)
    jitter = 0.15 * spacing * rng.standard_normal((inside, 2)).clip(-2, 2)
    middle = radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    middle = middle + jitter * (1 - radius[:, None])
    middle = middle * rim(np.arctan2(middle[:, 1], middle[:, 0]))[:, None]
    points = np.concatenate([edge, middle])
    triangles = Delaunay(points).simplices.astype(np.int64)
    # hollows of the rim: triangles that join three nodes of it
    boundary = np.arange(nodes) < on_rim
    triangles = triangles[~boundary[triangles].all(1)]
    return DiscMesh(points, triangles, boundary)


def couplings(mesh: DiscMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return edges `(m, 2)`, their couplings w `(m,)`, and lumped areas `(N,)`."""
    p, t = mesh.points, mesh.triangles
    pairs, weights = [], []
    area = np.zeros(len(p))
    for a in range(3):
        i, j, opposite = t[:, (a + 1) % 3], t[:, (a + 2) % 3], t[:, a]
        u, v = p[i] - p[opposite], p[j] - p[opposite]
        cross = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
        pairs.append(np.sort(np.stack([i, j], 1), axis=1))
        weights.append(0.5 * (u * v).sum(1) / cross)  # cot of the angle, halved
        area += np.bincount(opposite, cross / 6, minlength=len(p))
    unique, where = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
    total = np.bincount(where.ravel(), np.concatenate(weights), minlength=len(unique))
    return unique, total, area


@typed
@dataclass(frozen=True)
class HeatMesh:
    """Task: temperatures of a plate whose rim is held at given ones.

    Node features: whether the temperature is given, the given temperature (K), and the heat
    source's share F_i / sum_j w_ij (K). Edge features: length (m) and coupling (1). Rim nodes do
    not count in loss and scores.

    Attributes:
        waves: Size of the waves of the rim.
        source: Largest heat source f (K / m^2); 0 for none.
        modes: Largest wave number of the rim's temperature.

    Raises:
        InvalidArgument: For numbers that cannot be.

    Example:
        >>> import torch
        >>> from sciml.physics.graphs import HeatMesh
        >>> plate = HeatMesh()
        >>> mesh = plate.draw(torch.Generator().manual_seed(0), 60)
        >>> tuple(mesh.x.shape), tuple(mesh.target.shape), plate.sizes["edge_features"]
        ((60, 3), (60, 1), 2)
    """

    kind, level, unit = "regression", "node", "K"

    waves: float = 0.2
    source: float = 0.0
    modes: int = 4

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.waves < 0.5 or self.source < 0 or self.modes < 1:
            raise InvalidArgument(
                f"waves={self.waves}, source={self.source}, modes={self.modes}",
                "0 <= waves < 0.5, source >= 0, modes >= 1",
            )

    @property
    def sizes(self) -> dict[str, Any]:
        """Return what a network is told."""
        return {
            "node_features": 3,
            "edge_features": 2,
            "outputs": 1,
            "edge_log": [0, 1],
            "edge_center": [0],
        }

    def draw(self, generator: torch.Generator, size: int) -> Graph:
        """Return a mesh of `size` nodes with its temperatures."""
        rng = numpy_generator(generator)
        mesh = wavy_disc(rng, size, self.waves)
        k = np.arange(1, self.modes + 1)
        a, b = rng.standard_normal((2, self.modes)) / k
        angle = k * np.arctan2(mesh.points[:, 1], mesh.points[:, 0])[:, None]
        rim = (a * np.cos(angle) + b * np.sin(angle)).sum(1)
        f = self.source * rng.random() * np.ones(size)
        return heat_graph(mesh, rim, f)


def heat_graph(mesh: DiscMesh, rim: np.ndarray, f: np.ndarray) -> Graph:
    """Return the graph of a mesh with its temperatures.

    Args:
        mesh: The mesh.
        rim: `(N,)` temperatures; those of the boundary are used.
        f: `(N,)` heat source at the nodes.
    """
    pairs, w, area = couplings(mesh)
    # edges between two rim nodes carry nothing that matters; inner ones are positive by Delaunay
    w = np.maximum(w, FLOOR)
    load = np.where(mesh.boundary, 0.0, f * area)
    u = potentials(pairs, w, mesh.boundary, rim, load)
    index, both = both_ways(pairs), np.concatenate([w, w])
    total = np.bincount(index[1], both, minlength=len(rim))
    length = np.linalg.norm(mesh.points[pairs[:, 0]] - mesh.points[pairs[:, 1]], axis=1)
    edges = np.stack([np.concatenate([length, length]), both], 1)
    nodes = [mesh.boundary, np.where(mesh.boundary, rim, 0.0), load / total]
    return Graph(
        x=torch.from_numpy(np.stack(nodes, 1)),
        edge_index=torch.from_numpy(index),
        edge_attr=torch.from_numpy(edges),
        target=torch.from_numpy(u)[:, None],
        weight=torch.from_numpy(1.0 - mesh.boundary),
    )
