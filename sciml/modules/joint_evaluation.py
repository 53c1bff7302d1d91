"""Residuals of several conditions from one pass through the network."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from sciml.autodiff.multi_indices import lattice_of
from sciml.autodiff.multijet import MultiJet
from sciml.data.collocation import CollocationBatch
from sciml.networks.solutions.ansatz import Ansatz
from sciml.physics.systems import PointSet, System


def values_together(
    network: Ansatz,
    problem: System,
    names: Sequence[str],
    needs: Collection[tuple[int, ...]],
    batch: CollocationBatch,
) -> dict[str, dict[str, Tensor]]:
    """Return the residuals of conditions that read values alone, by condition and term.

    Args:
        network: What is trained.
        problem: The system.
        names: The conditions, at least one.
        needs: The derivatives that they read: u itself.
        batch: Points by condition; keeps the joined ones as long as they are the same.
    """
    points = [batch.conditions[name] for name in names]
    whole = points[0].cache.get("together")
    if whole is None or whole[0] is not points[-1]:
        whole = points[-1], PointSet(torch.cat([p.x for p in points]))
        points[0].cache["together"] = whole
    packed = network.jet(whole[1], needs).packed
    parts = packed.split([len(p) for p in points], 1)
    lattice, found = lattice_of(needs), {}
    for name, p, part in zip(names, points, parts, strict=True):
        known = problem.fields(p, MultiJet(part, lattice), network.jet)
        found[name] = problem.residuals(name, p, known)
    return found
