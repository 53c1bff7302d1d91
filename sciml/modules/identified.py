"""Standard errors of identified constants, from the Gauss-Newton matrix at the solution.

Training minimises `sum_i s_i |r_i|^2 / 2` over weights and constants theta, with observations
r_d = (prediction - data) / sigma among the residuals. Data with independent errors of size sigma
give r_d a random part of unit variance, and to first order

    theta - theta_0 = -H^-1 s_d J_d^T e,   H = sum_i s_i J_i^T J_i,
    Cov(theta) = H^-1 (sum_d s_d^2 J_d^T J_d) H^-1 .

Directions that nothing determines are left out (eigenvalues of H below `CUT` of the largest).

Reference: Seber and Wild 2003, "Nonlinear Regression", section 2.1; the sandwich is White's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.jacobian import jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.physics.systems import Observed

if TYPE_CHECKING:
    from sciml.modules.system_pinn import PINN
    from sciml.optim.curvature.terms import LossTerm

CUT = 1e-12
LARGEST = 6000  # parameters; the matrix is dense
POINTS = 2000  # inside


@torch.enable_grad()  # a trainer tests without
def standard_errors(module: PINN) -> dict[str, float]:
    """Return the standard error of every unknown constant of a trained module.

    Args:
        module: The trained module, whose problem has unknowns.

    Returns:
        Standard errors by name; empty where there are no observations, or too many parameters.
    """
    problem, network = module.problem, module.network
    parameters = [p for p in network.parameters() if p.requires_grad]
    observed = [name for name, c in problem.terms.items() if isinstance(c, Observed)]
    if not observed or sum(p.numel() for p in parameters) > LARGEST:
        return {}
    from sciml.data.point_sets import PointData

    data = PointData(problem=problem, points=POINTS, condition_points=400, modes=network.modes)
    batch = data.batch(0)
    kind = (module.device, network.dtype)
    batch.points = batch.points.to(*kind)
    batch.conditions = {name: p.to(*kind) for name, p in batch.conditions.items()}
    alone = _Alone(lambda: module.loss_terms(batch))
    jacobian = jacobian_of(alone, affine_layers(network), parameters, everywhere=False)
    rows = jacobian.dense()  # scaled by sqrt(s_i)
    values, vectors = torch.linalg.eigh(rows.t() @ rows)
    keep = values > CUT * values[-1]
    vectors, values = vectors[:, keep], values[keep]
    start, noisy = 0, []
    for term in alone.terms():
        stop = start + len(term.residual)
        if term.name.partition(".")[0] in observed:
            noisy.append(term.scale**0.5 * rows[start:stop])
        start = stop
    influence = (torch.cat(noisy) @ vectors) / values  # (M, kept)
    place, places = 0, {}
    for p in parameters:
        places[id(p)] = place
        place += p.numel()
    found = {}
    for name, constant in problem.unknowns.items():
        spread = (influence @ vectors[places[id(constant.raw)]]).norm()
        (slope,) = torch.autograd.grad(constant(), constant.raw)
        found[name] = float(spread * slope.abs()[0])
    return found


class _Alone(Objective):
    """An objective of this process alone: every rank computes the same."""

    def __init__(self, evaluate: Callable[[], Sequence[LossTerm]]) -> None:
        super().__init__(evaluate)
        self.world, self.rank = 1, 0

    def sum(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return the values themselves."""
        return list(values)
