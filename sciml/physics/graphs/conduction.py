"""Linear conduction on networks: potentials where currents balance.

On edges with conductances k_ij > 0 and injected currents q_i,

    sum_j k_ij (v_i - v_j) = q_i    at free nodes,      v_i = g_i    at fixed nodes.

Pores and throats (v a pressure), resistors (a voltage) and finite elements with non-negative
couplings (a temperature) all are of this form. Every component needs a fixed node, else the
potential is defined up to a constant and the solve is refused.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from sciml.errors import ConvergenceError, InvalidArgument

DIRECT_UP_TO = 3000  # free nodes up to which a sparse factor is made


def laplacian(pairs: np.ndarray, conductance: np.ndarray, nodes: int) -> sp.csr_matrix:
    """Return the weighted graph Laplacian `(N, N)`; parallel edges add up.

    Args:
        pairs: Undirected edges `(m, 2)`.
        conductance: `(m,)`.
        nodes: N.
    """
    i, j = pairs.T
    k = sp.coo_matrix((np.r_[conductance, conductance], (np.r_[i, j], np.r_[j, i])), (nodes, nodes))
    k = k.tocsr()
    return (sp.diags(np.asarray(k.sum(1)).ravel()) - k).tocsr()


def potentials(
    pairs: np.ndarray,
    conductance: np.ndarray,
    fixed: np.ndarray,
    value: np.ndarray,
    current: np.ndarray | None = None,
) -> np.ndarray:
    """Return the potentials `(N,)` in float64.

    Small systems are factored; larger ones go to conjugate gradients, to a relative residual of
    1e-13.

    Args:
        pairs: Undirected edges `(m, 2)`.
        conductance: `(m,)` positive.
        fixed: `(N,)` booleans, nodes whose potential is given.
        value: `(N,)` potential of the fixed nodes; other entries are not used.
        current: `(N,)` injected current q; None for none.

    Raises:
        InvalidArgument: If a conductance is not positive, or free nodes are not connected to any
            fixed one: no unique potential.
        ConvergenceError: If conjugate gradients do not reach their tolerance.
    """
    nodes = len(fixed)
    if len(conductance) and not conductance.min() > 0:
        raise InvalidArgument(f"a conductance of {conductance.min()}", "positive conductances")
    matrix = laplacian(pairs, conductance, nodes)
    count, part = sp.csgraph.connected_components(matrix, directed=False)
    held = np.zeros(count, dtype=bool)
    held[part[fixed]] = True
    if not held.all():
        raise InvalidArgument(
            f"{int((~held[part]).sum())} nodes without a path to a node of known potential",
            "a fixed node in every component",
            "Their potential is defined up to a constant; fix one node or drop the component",
        )
    free = ~fixed
    out = np.where(fixed, value, 0.0).astype(np.float64)
    if not free.any():
        return out
    rhs = -(matrix[free][:, fixed] @ out[fixed])
    if current is not None:
        rhs = rhs + current[free]
    a = matrix[free][:, free]
    if len(rhs) <= DIRECT_UP_TO:
        out[free] = spla.spsolve(a.tocsc(), rhs)
        return out
    scale = 1 / a.diagonal()
    jacobi = spla.LinearOperator(a.shape, lambda r: scale * r)
    found, info = spla.cg(a, rhs, rtol=1e-13, atol=0.0, maxiter=20_000, M=jacobi)
    if info != 0:
        raise ConvergenceError(
            f"conjugate gradients on {len(rhs)} potentials stopped after {info} iterations",
            "a relative residual of 1e-13",
            "Conductances may differ by too many orders of magnitude",
        )
    out[free] = found
    return out


def outflow(pairs: np.ndarray, conductance: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the current `(N,)` that leaves every node through its edges."""
    i, j = pairs.T
    flow = conductance * (v[i] - v[j])
    n = len(v)
    return np.bincount(i, flow, minlength=n) - np.bincount(j, flow, minlength=n)


def effective_resistance(
    pairs: np.ndarray, conductance: np.ndarray, nodes: int, a: int, b: int
) -> float:
    """Return the voltage between nodes a and b when a unit current goes in at a and out at b."""
    fixed, current = np.zeros(nodes, dtype=bool), np.zeros(nodes)
    fixed[b], current[a] = True, 1.0
    v = potentials(pairs, conductance, fixed, np.zeros(nodes), current)
    return float(v[a] - v[b])
