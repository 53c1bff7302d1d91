"""Losses of an elliptic problem on a grid, from its equation alone: baselines of walk supervision.

    div(alpha grad u) - sigma u = -f

Central differences at the nodes of a grid whose neighbours lie inside the domain, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.optim.terms import LossTerm


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


def energy_term(u: Tensor, batch: Batch, half: float) -> LossTerm:
    """Return the mean of alpha |grad u|^2 / 2 + sigma u^2 / 2 - f u over the domain, Deep Ritz.

    An energy is no sum of squares. The term has one row per problem, the root of 1 plus the change
    of its energy against the current value: its gradient is the energy's, its value says nothing.
    """
    fields = batch.inputs
    alpha = fields.get("diffusion", torch.ones_like(u))
    inside = fields["sdf"] < 0
    energy = -fields["source"] * u
    if "screening" in fields:
        energy = energy + fields["screening"] * u.square() / 2
    energy = torch.where(inside, energy, 0.0)
    for axis in range(1, u.dim()):
        h = 2 * half / (u.shape[axis] - 1)
        edge = inside & inside.roll(-1, axis)
        slope = (u.roll(-1, axis) - u) / h
        middle = (alpha + alpha.roll(-1, axis)) / 2
        energy = energy + torch.where(edge, middle * slope.square() / 2, 0.0)
    count = inside.flatten(1).sum(1).clamp_min(1)
    value = energy.flatten(1).sum(1) / count
    row = (value - value.detach() + 1).sqrt()
    return LossTerm("energy", row, 1.0, batch.count, "residual")
