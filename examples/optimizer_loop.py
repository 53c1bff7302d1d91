"""Every optimizer in a plain PyTorch loop: Poisson's equation, a network of one's own."""

import torch
from torch import nn

from sciml.autodiff import laplacian
from sciml.optim import ENGD, LossTerm, Objective
from sciml.optim.curvature.terms import total_loss

pi = torch.pi


def loss_terms(network, x, b):
    """Return the squared errors in the square and on its edge."""
    f = -2 * pi**2 * torch.sin(pi * x).prod(1)
    interior = (laplacian(network, x)[:, 0] - f) / 10
    return [LossTerm("interior", interior, 1.0, len(x)), LossTerm("edge", network(b), 1.0, len(b))]


def points(n):
    """Return n points in the square and n / 8 on its edge."""
    x, b, k = torch.rand(n, 2).double(), torch.rand(n // 8, 2).double(), torch.arange(n // 8)
    b[k, k % 2] = (k // 2 % 2).double()
    return x, b


def train(network, optimizer, steps=60, n=900):
    """Take the steps with any optimizer, ours or torch's."""
    for step in range(steps):
        x, b = points(n)
        objective = Objective(lambda: loss_terms(network, x, b), step=step)  # noqa: B023
        if hasattr(optimizer, "update_curvature"):  # ENGD, KFAC, SPRING, SophiaG, CBO, ...
            optimizer.update_curvature(objective)  # the gradient comes from here too
        else:  # GaLore, MFAC, torch.optim.Adam, ...: what looks at gradients alone
            optimizer.zero_grad()
            total_loss(objective.terms()).backward()
        optimizer.step()


if __name__ == "__main__":
    network = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 1)).double()
    train(network, ENGD(network))
    x = torch.rand(2000, 2).double()
    exact = torch.sin(pi * x).prod(1)
    error = (network(x)[:, 0].detach() - exact).norm() / exact.norm()
    print(f"relative error {float(error):.1e}")
