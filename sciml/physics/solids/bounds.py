"""Bounds on the homogenised stiffness of linear phases, from their fractions alone."""

from __future__ import annotations

import numpy as np

from sciml.errors import InvalidArgument, InvalidType


def voigt_reuss(fractions: np.ndarray, tangents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper (Voigt) and lower (Reuss) bound `(3, 3)` of a homogenised stiffness.

    Equal strain in all phases gives <C>, equal stress <C^-1>^-1, and Reuss <= Chat <= Voigt in the
    Loewner order, whatever the shapes (Hill 1952).

    Args:
        fractions: `(P,)` area fractions that sum to 1.
        tangents: `(P, 3, 3)` stiffness of each phase, symmetric and positive definite.

    Raises:
        InvalidType: If they are no numbers.
        InvalidArgument: If the shapes disagree, or the fractions do not sum to 1.

    Example:
        >>> import numpy as np
        >>> from sciml.physics.solids import voigt_reuss
        >>> soft, stiff = np.eye(3), 3 * np.eye(3)
        >>> upper, lower = voigt_reuss(np.array([0.5, 0.5]), np.array([soft, stiff]))
        >>> float(upper[0, 0]), round(float(lower[0, 0]), 4)
        (2.0, 1.5)
    """
    try:
        fractions, tangents = np.asarray(fractions, float), np.asarray(tangents, float)
    except (TypeError, ValueError) as error:
        raise InvalidType(
            f"fractions or tangents that are no numbers ({error})", "arrays of them"
        ) from error
    if tangents.ndim != 3 or fractions.shape != tangents.shape[:1]:
        raise InvalidArgument(
            f"fractions of shape {fractions.shape} and tangents of shape {tangents.shape}",
            "(P,) and (P, 3, 3) for P phases",
        )
    if not ((fractions >= 0).all() and abs(fractions.sum() - 1) <= 1e-6):  # NaN is no share
        raise InvalidArgument(
            f"fractions={fractions.tolist()}", "shares of 0 and more that sum to 1"
        )
    finite = np.isfinite(tangents).all()
    if not finite or (np.linalg.eigvalsh((tangents + tangents.mT) / 2)[:, 0] <= 0).any():
        raise InvalidArgument(
            "a tangent that is not finite, or not positive definite", "stiffnesses of materials"
        )
    upper = np.einsum("p,pij->ij", fractions, tangents)
    lower = np.linalg.inv(np.einsum("p,pij->ij", fractions, np.linalg.inv(tangents)))
    return upper, lower
