"""The energy of a grid against sums over its nodes and edges, one after the other."""

import numpy as np
import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.modules.grid_energy import energy_term
from sciml.optim.curvature.terms import total_loss

HALF = 1.5


def energy(u, f):
    """Return the energy of a sample, from `(n, n)` fields: sums by hand over its domain's nodes.

    Between two nodes inside, the slope is that of both; where the boundary cuts an edge, it is the
    one up to there, over the cut off share of the edge, of which at least a tenth counts.
    """
    n = u.shape[0]
    h = 2 * HALF / (n - 1)
    inside, total = f["sdf"] < 0, 0.0
    for i in range(n):
        for j in range(n):
            if inside[i, j]:
                total = total - f["source"][i, j] * u[i, j]
                if "screening" in f:
                    total = total + f["screening"][i, j] * u[i, j] ** 2 / 2
            for k, m in ((i + 1, j), (i, j + 1)):
                if k == n or m == n or not (inside[i, j] or inside[k, m]):
                    continue
                alpha = (f["diffusion"][i, j] + f["diffusion"][k, m]) / 2
                if inside[i, j] and inside[k, m]:
                    total = total + alpha * ((u[k, m] - u[i, j]) / h) ** 2 / 2
                    continue
                one, two = ((i, j), (k, m)) if inside[i, j] else ((k, m), (i, j))
                deep, off = -f["sdf"][one], f["sdf"][two]
                share = max(float(deep / (deep + off)), 0.1)
                g = (1 - share) * f["boundary"][one] + share * f["boundary"][two]
                total = total + alpha * ((u[one] - g) / h) ** 2 / share / 2
    return total / inside.sum()


@pytest.mark.parametrize("screened", [False, True])
def test_energy_term_has_the_slope_of_sums_by_hand(screened):
    draw = torch.Generator().manual_seed(0)
    x = torch.linspace(-HALF, HALF, 9, dtype=torch.float64)

    def field():
        return torch.randn(2, 9, 9, generator=draw, dtype=torch.float64)

    sdf = torch.stack([x.hypot(x[:, None] - 0.1) - 1.0, (x + 0.2).hypot(1.3 * x[:, None]) - 0.9])
    fields = {"sdf": sdf, "boundary": field(), "source": field(), "diffusion": field().exp()}
    if screened:
        fields["screening"] = field().square()
    u = field().requires_grad_()
    loss = total_loss([energy_term(u, Batch(fields, sdf, Streams(0, 0), 2), HALF)])
    (found,) = torch.autograd.grad(loss, u)
    by_hand = [energy(u[k], {name: v[k] for name, v in fields.items()}) for k in range(2)]
    (wanted,) = torch.autograd.grad(sum(by_hand) / 2, u)
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)
