"""A curvature optimizer in a plain PyTorch loop: Poisson's equation, a network of one's own."""

import torch
from torch import nn

from sciml.autodiff import laplacian
from sciml.optim import ENGD, LossTerm, Objective

torch.set_default_dtype(torch.float64)
network = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = ENGD(network, damping=1e-10)  # KFAC, SPRING, SophiaG, ... are used the same way
pi = torch.pi


def loss_terms(x, b):
    """Return the squared errors in the square and on its edge."""
    f = -2 * pi**2 * torch.sin(pi * x).prod(1)
    interior = (laplacian(network, x)[:, 0] - f) / 10
    return [LossTerm("interior", interior, 1.0, len(x)), LossTerm("edge", network(b), 1.0, len(b))]


for step in range(60):
    x, b = torch.rand(900, 2), torch.rand(120, 2)
    b[torch.arange(120), torch.arange(120) % 2] = (torch.arange(120) // 2 % 2).double()
    optimizer.update_curvature(Objective(lambda: loss_terms(x, b), step=step))  # noqa: B023
    optimizer.step()
exact = torch.sin(pi * x).prod(1)
error = (network(x)[:, 0].detach() - exact).norm() / exact.norm()
print(f"relative error {float(error):.1e}")
