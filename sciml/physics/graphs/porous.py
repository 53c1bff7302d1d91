"""Flow through a random pore network: pressures from Hagen-Poiseuille throats.

Pores are points in a cube, throats the edges of their Delaunay tetrahedra. With the radius r of
the narrower pore and L the distance of the centres less both radii,

    k_ij = pi r^4 / (8 mu L),    sum_j k_ij (p_i - p_j) = 0    at interior pores,

p = 101 325 Pa at the pores near one face and 0 near the opposite one. The target is p over its
largest value. The permeability is kappa = Q mu L / (A dp) with the flow Q through the cube.

Source: the pore-network experiment of Park, Choo, Park, ICLR 2022, arXiv 2106.01680, which uses
OpenPNM; here only scipy is needed. Units are SI.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import Delaunay, cKDTree
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.graphs.conduction import outflow, potentials
from sciml.physics.graphs.graph import Graph, both_ways, check_size, numpy_generator
from sciml.typed_arguments import typed

PRESSURE = 101_325.0  # Pa, at the inlet
CLIP = 0.9  # largest diameter over the distance to the nearest pore


@dataclass(frozen=True)
class PoreNetwork:
    """Pores, throats and boundary.

    Attributes:
        points: `(N, 3)` centres, m.
        diameter: `(N,)` of pores, m.
        pairs: `(m, 2)` throats.
        radius: `(m,)` of throats, m.
        length: `(m,)` of throats, m.
        inlet: `(N,)` booleans.
        outlet: `(N,)` booleans.
        side: Of the cube, m.
        viscosity: Pa s.
    """

    points: np.ndarray
    diameter: np.ndarray
    pairs: np.ndarray
    radius: np.ndarray
    length: np.ndarray
    inlet: np.ndarray
    outlet: np.ndarray
    side: float = 1e-3
    viscosity: float = 1e-5

    @property
    def conductance(self) -> np.ndarray:
        """Return `(m,)` in m^3 / (Pa s)."""
        return hagen_poiseuille(self.radius, self.length, self.viscosity)

    def pressure(self) -> np.ndarray:
        """Return `(N,)` in Pa."""
        value = np.where(self.inlet, PRESSURE, 0.0)
        return potentials(self.pairs, self.conductance, self.inlet | self.outlet, value)

    def flow(self, pressure: np.ndarray) -> tuple[float, float]:
        """Return what enters at the inlet and leaves at the outlet, m^3 / s."""
        out = outflow(self.pairs, self.conductance, pressure)
        return float(out[self.inlet].sum()), float(-out[self.outlet].sum())

    def permeability(self, pressure: np.ndarray) -> float:
        """Return kappa = Q mu L / (A dp), m^2."""
        return self.flow(pressure)[0] * self.viscosity / (self.side * PRESSURE)


def hagen_poiseuille(radius: np.ndarray, length: np.ndarray, viscosity: float) -> np.ndarray:
    """Return the conductance of circular pipes, m^3 / (Pa s)."""
    return math.pi * radius**4 / (8 * viscosity * length)


def delaunay_pairs(points: np.ndarray) -> np.ndarray:
    """Return the edges `(m, 2)` of the Delaunay simplices of points `(N, d)`, each once."""
    simplices = Delaunay(points).simplices.astype(np.int64)  # scipy gives int32
    d = simplices.shape[1]
    corners = [(a, b) for a in range(d) for b in range(a + 1, d)]
    pairs = np.concatenate([simplices[:, list(corner)] for corner in corners])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def pore_network(
    rng: np.random.Generator, pores: int, *, sigma: float = 0.1, side: float = 1e-3
) -> PoreNetwork:
    """Return a random network.

    Args:
        rng: Random numbers.
        pores: Number of pores.
        sigma: Standard deviation of the logarithm of pore diameters, whose median is side / 100.
        side: Of the cube, m.

    Raises:
        InvalidArgument: If there are fewer than 8 pores.
    """
    check_size(pores, 8, "a pore network")
    points = rng.random((pores, 3))
    nearest = cKDTree(points).query(points, 2)[0][:, 1]
    diameter = 0.01 * np.exp(sigma * rng.standard_normal(pores))
    diameter = np.minimum(diameter, CLIP * nearest)
    pairs = delaunay_pairs(points)
    i, j = pairs.T
    distance = np.linalg.norm(points[i] - points[j], axis=1)
    radius = 0.5 * np.minimum(diameter[i], diameter[j])
    length = distance - 0.5 * (diameter[i] + diameter[j])
    # the layer of pores next to a face, half a mean distance thick; never empty
    margin, depth = 0.5 * pores ** (-1 / 3), points[:, 0]
    inlet, outlet = depth <= max(margin, depth.min()), depth >= min(1 - margin, depth.max())
    return PoreNetwork(
        side * points,
        side * diameter,
        pairs,
        side * radius,
        side * length,
        inlet,
        outlet,
        side,
    )


@typed
@dataclass(frozen=True)
class PorousNetwork:
    """Task: pressures of a pore network, in units of the inlet's.

    Node features: whether the pressure is given, the given pressure over the inlet's, with
    `coordinates` also the position over the side. Edge features: radius (m), length (m) and
    conductance (m^3 / (Pa s)) of the throat. Only interior pores count in loss and scores.

    Without coordinates a network has to transport the pressure through the graph; with them it
    can guess it from the position.

    Attributes:
        sigma: Standard deviation of the logarithm of pore diameters.
        coordinates: Whether positions are node features.
        side: Of the cube, m.

    Raises:
        InvalidArgument: If `sigma` is negative or `side` not positive.

    Example:
        >>> import torch
        >>> from sciml.physics.graphs import PorousNetwork
        >>> pores = PorousNetwork(sigma=0.3).draw(torch.Generator().manual_seed(0), 60)
        >>> tuple(pores.x.shape), pores.edge_attr.shape[1]
        ((60, 2), 3)
        >>> bool((pores.target >= 0).all() and (pores.target <= 1).all())  # outlet to inlet
        True
    """

    kind, level, unit = "regression", "node", "1"

    sigma: float = 0.5
    coordinates: bool = False
    side: float = 1e-3

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.sigma < 0 or self.side <= 0:
            raise InvalidArgument(
                f"sigma={self.sigma}, side={self.side}", "sigma >= 0 and side > 0"
            )

    @property
    def sizes(self) -> dict[str, Any]:
        """Return what a network is told; radii, lengths and conductances matter by ratios."""
        return {
            "node_features": 5 if self.coordinates else 2,
            "edge_features": 3,
            "outputs": 1,
            "edge_log": [0, 1, 2],
            "edge_center": [0, 1, 2],
        }

    def draw(self, generator: torch.Generator, size: int) -> Graph:
        """Return a network of `size` pores with its pressures."""
        rng = numpy_generator(generator)
        return self.graph(pore_network(rng, size, sigma=self.sigma, side=self.side))

    def graph(self, net: PoreNetwork) -> Graph:
        """Return the graph of a network."""
        fixed = net.inlet | net.outlet
        nodes = [fixed, net.inlet]
        if self.coordinates:
            nodes += list((net.points / net.side).T)
        edges = np.stack([net.radius, net.length, net.conductance], 1)
        return Graph(
            x=_tensor(np.stack(nodes, 1)),
            edge_index=torch.from_numpy(both_ways(net.pairs)),
            edge_attr=_tensor(np.concatenate([edges, edges])),
            target=_tensor(net.pressure() / PRESSURE)[:, None],
            weight=_tensor(~fixed),
        )


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
