"""Newton's method for one cell problem, and its condensed tangent.

Factors are nearly all of the cost: they are kept while the residual still falls fast, and refined
for the three right-hand sides of the homogenised tangent.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import SuperLU

from sciml.physics.solids.assembly import factorised
from sciml.physics.solids.discrete_cell import DiscreteCell
from sciml.solvers.solution import Status

HALVINGS = 8  # of a Newton step before the residual counts as stalled
KEPT = 0.1  # factors are kept while a step lowers the residual to this share
REFINEMENTS = 8  # of X = K^-1 L with factors of a matrix close to K, before K is factorised
REFINED = 1e-9  # relative residual of X, whose square is the error of Chat


def solve_strain(
    cell: DiscreteCell,
    strain: np.ndarray,
    state: np.ndarray,
    start: np.ndarray,
    *,
    rtol: float,
    max_iter: int,
    tangent: bool,
) -> tuple:
    """Return the parts of an `RVESolution` for one macro strain, by Newton with backtracking.

    Args:
        cell: The equations.
        strain: Macro strain `(3,)`.
        state: Internal variables before the step `(E, Q, V)`.
        start: Fluctuation to start from `(N, 2)`; zero starts from the linear answer at rest.
        rtol: Forces out of balance over forces that should balance, at which Newton stops.
        max_iter: Newton steps.
        tangent: Whether to form the homogenised tangent.
    """
    w, factor = cell.unknowns(start), None
    if not w.any():
        slope, factor = cell.at_rest
        w = -slope @ strain
    fresh = False  # whether the factors are those at w
    fields, force, norm, scale = _evaluate(cell, strain, w, state)
    status, iterations = Status.RUNNING, 0
    with np.errstate(invalid="ignore", over="ignore"):  # ends as NONFINITE
        while status == Status.RUNNING:
            if not np.isfinite(norm):
                status = Status.NONFINITE
            elif norm <= rtol * scale:
                status = Status.CONVERGED
            elif iterations == max_iter:
                status = Status.MAX_ITER
            else:
                iterations += 1
                found = None
                if factor is not None and not fresh:
                    trial = w - factor.solve(force)
                    new = _evaluate(cell, strain, trial, state)
                    found = (trial, new) if new[2] < KEPT * norm else None
                if found is None:
                    factor, fresh = factorised(cell.stiffness(fields[2])), True
                    if factor is None:
                        status = Status.SINGULAR
                        continue
                    step = factor.solve(force)
                    for halving in range(HALVINGS + 1):
                        trial = w - step / 2**halving
                        new = _evaluate(cell, strain, trial, state)
                        if new[2] < norm:
                            found = trial, new
                            break
                if found is None:
                    status = Status.STALLED
                    continue
                w, (fields, force, norm, scale) = found
                fresh = False
    local, stress, moduli, new_state = fields
    macro, slope = np.full((3, 3), np.nan), np.full((len(w), 3), np.nan)
    if tangent and status == Status.CONVERGED:
        condensed = _condensed(cell, moduli, factor)
        if condensed is None:
            status = Status.SINGULAR
        else:
            macro, slope = condensed
    relative = norm / scale if scale > 0 else norm
    return (
        np.einsum("eq,eqi->i", cell.mesh.weights, stress),
        macro,
        cell.displacement(w),
        local,
        stress,
        new_state,
        np.int64(status),
        np.int64(iterations),
        np.float64(norm),
        np.float64(relative),
        slope,
    )


def _condensed(
    cell: DiscreteCell, moduli: np.ndarray, factor: SuperLU | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return Chat and X = K^-1 L `(dofs, 3)`, None if K is singular.

    Factors of a matrix close to K are refined; from an X that is off by d the form
    int c - 2 L^T X + X^T K X is off by d^T K d only.
    """
    matrix, load = cell.stiffness(moduli), cell.loads(moduli)
    size = np.linalg.norm(load)
    x = np.zeros_like(load)
    for _ in range(REFINEMENTS if factor is not None else 0):
        x = x + factor.solve(load - matrix @ x)
        if np.linalg.norm(load - matrix @ x) <= REFINED * size:
            break
    else:
        factor = factorised(matrix)
        if factor is None:
            return None
        x = factor.solve(load)
    mean = np.einsum("eq,eqij->ij", cell.mesh.weights, moduli)
    cross = load.T @ x
    return mean - cross - cross.T + x.T @ (matrix @ x), x


def _evaluate(cell: DiscreteCell, strain: np.ndarray, w: np.ndarray, state: np.ndarray) -> tuple:
    """Return (strain, stress, tangent, state), forces, their norm and the norm they balance."""
    local = cell.local_strain(strain, w)
    stress, moduli, new_state = cell.response(local, state)
    force, scale = cell.balance(stress)
    return (local, stress, moduli, new_state), force, float(np.linalg.norm(force)), scale
