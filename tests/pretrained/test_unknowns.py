"""Unknowns of a problem come back from the file where the problem uses them."""

import pytest
import torch
from torch import nn

from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics.pde import PDE
from sciml.pretrained.files import weights

torch.set_num_threads(1)


class Growth(PDE):
    """u = n + k x + l(x) with an unknown number k and an unknown line l."""

    def __init__(self, dim):
        super().__init__(dim=dim)
        self.k, self.line = nn.Parameter(torch.tensor(0.5)), nn.Linear(dim, 1)

    def lift(self, x, t):
        return None, self.k * x[:, :1] + self.line(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_predictions_use_the_unknowns_of_the_file(tmp_path, dtype):
    trained, fresh = (
        TrialSolution(Growth(dim=2), MLP(dim=2, width=4, depth=2), ["x"]) for _ in range(2)
    )
    trained.to(dtype)
    with torch.no_grad():
        trained.problem.k.fill_(1.0 / 3.0)
    file = tmp_path / "weights.safetensors"
    paired = weights.write(file, trained.state_dict())
    weights.assign(fresh, weights.read(file, weights.sha256(file), paired))
    x = torch.rand(5, 2, dtype=dtype)
    assert fresh.problem.k is fresh.unknowns["k"] and fresh.problem.k.dtype == dtype
    assert torch.equal(fresh(x), trained(x))
