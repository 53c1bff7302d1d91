"""Implicit problems with an explicit twin that ordinary autograd differentiates."""

import torch
from torch import Tensor

from sciml.solvers import (
    LBFGS,
    FixedPointIteration,
    Implicit,
    LevenbergMarquardt,
    Newton,
    fixed_point,
    least_squares,
    linear_solve,
    minimise,
    root,
)

P, D = 3, 4
TIGHT = 1e-14


def theta() -> tuple[Tensor, Tensor]:
    """Return parameters of all problems: a matrix `(D, D)` and a vector per problem `(P, D)`."""
    return 0.4 * torch.randn(D, D) / D**0.5, torch.randn(P, D)


def equilibrium(w: Tensor, b: Tensor, rule: Implicit) -> Tensor:
    """Return z = tanh(w z + b)."""
    return fixed_point(
        lambda z, w, b: torch.tanh(z @ w.mT + b),
        torch.zeros(P, D),
        (w, b),
        solver=FixedPointIteration(rtol=TIGHT),
        adjoint=rule,
        on_failure="raise",
    ).value


def equilibrium_unrolled(w: Tensor, b: Tensor) -> Tensor:
    z = torch.zeros(P, D)
    for _ in range(150):
        z = torch.tanh(z @ w.mT + b)
    return z


def cubic(w: Tensor, b: Tensor, rule: Implicit) -> Tensor:
    """Return the root of x + x^3 / 3 + w x = b."""
    return root(
        lambda x, w, b: x + x**3 / 3 + x @ w.mT - b,
        torch.zeros(P, D),
        (w, b),
        solver=Newton(rtol=TIGHT),
        adjoint=rule,
        on_failure="raise",
    ).value


def cubic_unrolled(w: Tensor, b: Tensor) -> Tensor:
    x = torch.zeros(P, D)
    for _ in range(12):  # Newton with autograd through the dense solve
        jacobian = torch.diag_embed(1 + x**2) + w
        x = x - torch.linalg.solve(jacobian, x + x**3 / 3 + x @ w.mT - b)
    return x


def bowl(w: Tensor, b: Tensor, rule: Implicit) -> Tensor:
    """Return the minimum of sum log cosh(x) + |x|^2 / 2 + |w x|^2 / 2 - b x."""

    def objective(x, w, b):
        y = x @ w.mT
        return (x.cosh().log() + 0.5 * x**2 + 0.5 * y**2 - b * x).sum(-1)

    return minimise(
        objective,
        torch.zeros(P, D),
        (w, b),
        solver=LBFGS(rtol=TIGHT),
        adjoint=rule,
        on_failure="raise",
        positive_definite=True,
    ).value


def bowl_unrolled(w: Tensor, b: Tensor) -> Tensor:
    x = torch.zeros(P, D)
    for _ in range(15):
        slope = x.tanh() + x + x @ (w.mT @ w) - b
        hessian = torch.diag_embed(2 - x.tanh() ** 2) + w.mT @ w
        x = x - torch.linalg.solve(hessian, slope)
    return x


def fit(w: Tensor, b: Tensor, rule: Implicit) -> Tensor:
    """Return the least-squares fit to (x + w x - b, (sin x - b / 2) / 2); residuals stay."""

    def rows(x, w, b):
        return torch.cat([x + x @ w.mT - b, 0.5 * (x.sin() - 0.5 * b)], -1)

    return least_squares(
        rows,
        0.5 * b.detach(),
        (w, b),
        solver=LevenbergMarquardt(rtol=1e-13),
        adjoint=rule,
        on_failure="raise",
    ).value


def fit_unrolled(w: Tensor, b: Tensor) -> Tensor:
    x, eye = 0.5 * b.detach(), torch.eye(D)
    for _ in range(25):
        m = eye + w
        slope = (x @ m.mT - b) @ m + 0.25 * (x.sin() - 0.5 * b) * x.cos()
        curved = 0.25 * (x.cos() ** 2 - (x.sin() - 0.5 * b) * x.sin())
        x = x - torch.linalg.solve(m.mT @ m + torch.diag_embed(curved), slope)
    return x


def linear(w: Tensor, b: Tensor, rule: Implicit) -> Tensor:
    """Return the solution of (1 + w) x = b."""
    return linear_solve(
        lambda x, w: x + x @ w.mT, b, (w,), linear=rule.linear, adjoint=rule, on_failure="raise"
    ).value


def linear_unrolled(w: Tensor, b: Tensor) -> Tensor:
    # not torch.linalg.solve: torch 2.13 has its Hessian wrong under vmap
    return b @ torch.linalg.inv(torch.eye(D) + w).mT


KINDS = {
    "fixed_point": (equilibrium, equilibrium_unrolled),
    "root": (cubic, cubic_unrolled),
    "minimise": (bowl, bowl_unrolled),
    "least_squares": (fit, fit_unrolled),
    "linear": (linear, linear_unrolled),
}
