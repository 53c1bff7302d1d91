"""Losses of an elliptic problem from its equation alone: baselines of walk supervision.

    div(alpha grad u) - sigma u = -f

On a grid central differences at the nodes whose neighbours lie inside the domain, too; on a cloud
of points automatic differentiation of the network in its query points.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sciml.data.batch import Batch
from sciml.optim.curvature.terms import LossTerm


def residual_term(u: Tensor, batch: Batch, half: float) -> LossTerm:
    """Return the mean squared residual of the equation, physics-informed.

    Args:
        u: Prediction `(N, n, ..., n)`.
        batch: Inputs of the network.
        half: Half the side of the grid's box.
    """
    fields = batch.inputs
    alpha = fields.get("diffusion", torch.ones_like(u))
    inside = fields["sdf"] < 0
    residual, whole = fields["source"].clone(), inside
    for axis in range(1, u.dim()):
        h = 2 * half / (u.shape[axis] - 1)
        ahead, behind = (u.roll(s, axis) for s in (-1, 1))
        up, down = ((alpha + alpha.roll(s, axis)) / 2 for s in (-1, 1))
        residual = residual + (up * (ahead - u) - down * (u - behind)) / h**2
        whole = whole & inside.roll(-1, axis) & inside.roll(1, axis)
    if "screening" in fields:
        residual = residual - fields["screening"] * u
    whole = whole.flatten(1).to(u)
    rows = residual.flatten(1) * whole / whole.sum(1, keepdim=True).clamp_min(1).sqrt()
    return LossTerm("residual", rows, 1.0, batch.count, "gaussian")


def cloud_terms(
    network: nn.Module, batch: Batch, objective: Literal["pino", "ritz"] = "pino"
) -> list[LossTerm]:
    """Return the equation of `Laplacian u = -f` in the interior points, and the boundary values.

    The weights are those of arXiv 2603.01193, beside 1 for the boundary: 0.01 for the squared
    residual, 1e-4 for the energy.

    Args:
        network: Called with the inputs and `query`, the points to be differentiated in.
        batch: A cloud with `points`, `boundary`, `distance`, `source`.
        objective: Squared residual (`pino`) or Dirichlet's energy (`ritz`).
    """
    fields = batch.inputs
    query = fields["points"].detach().requires_grad_()
    u = network(**fields, query=query)
    (slope,) = torch.autograd.grad(u.sum(), query, create_graph=True)
    edge = (fields["distance"] > -1e-6).to(u)
    inner = 1 - edge

    def term(name: str, value: Tensor, where: Tensor, weight: float) -> LossTerm:
        rows = value * where / where.sum(1, keepdim=True).clamp_min(1).sqrt()
        return LossTerm(name, rows, weight, batch.count, "gaussian")

    boundary = term("boundary", u - fields["boundary"], edge, 1.0)
    if objective == "ritz":
        density = (slope.square().sum(2) / 2 - fields["source"] * u) * inner
        value = density.sum(1) / inner.sum(1).clamp_min(1)
        return [_energy(value, 1e-4, batch), boundary]
    laplacian = sum(
        torch.autograd.grad(slope[..., k].sum(), query, create_graph=True)[0][..., k]
        for k in range(query.shape[2])
    )
    return [term("residual", laplacian + fields["source"], inner, 0.01), boundary]


def energy_term(u: Tensor, batch: Batch, half: float) -> LossTerm:
    """Return the mean of alpha |grad u|^2 / 2 + sigma u^2 / 2 - f u over the domain, Deep Ritz."""
    fields = batch.inputs
    alpha = fields.get("diffusion", torch.ones_like(u))
    inside = fields["sdf"] < 0
    energy = -fields["source"] * u
    if "screening" in fields:
        energy = energy + fields["screening"] * u.square() / 2
    energy = torch.where(inside, energy, 0.0)
    depth, g = fields["sdf"].abs(), fields["boundary"]
    for axis in range(1, u.dim()):
        h = 2 * half / (u.shape[axis] - 1)
        there, ahead = inside.roll(-1, axis), depth.roll(-1, axis)
        middle = (alpha + alpha.roll(-1, axis)) / 2
        slope = (u.roll(-1, axis) - u) / h
        energy = energy + torch.where(inside & there, middle * slope.square() / 2, 0.0)
        # an edge that the boundary cuts counts up to there, or a jump could hide in it
        share = torch.where(inside, depth, ahead) / (depth + ahead).clamp_min(1e-9)
        share = share.clamp(0.1, 1)
        wall = torch.lerp(g, g.roll(-1, axis), torch.where(inside, share, 1 - share))
        jump = (torch.where(inside, u, u.roll(-1, axis)) - wall) / h
        energy = energy + torch.where(inside ^ there, middle * jump.square() / share / 2, 0.0)
    count = inside.flatten(1).sum(1).clamp_min(1)
    return _energy(energy.flatten(1).sum(1) / count, 1.0, batch)


def _energy(value: Tensor, weight: float, batch: Batch) -> LossTerm:
    """Return the term of the energies `(N,)` of all problems.

    An energy is no sum of squares. The term has one row per problem, the root of 1 plus the change
    of its energy against the current value: its gradient is the energy's, its value says nothing.
    """
    row = (value - value.detach() + 1).sqrt()
    return LossTerm("energy", row, weight, batch.count, "residual")
