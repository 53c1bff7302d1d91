"""How good a trained solution is: errors against the reference, and against doing nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from sciml.physics.baselines import affine_error, constant_error
from sciml.physics.pde import PDE, Points


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows `(n, ...)` of all ranks, joined; n may differ between ranks."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    gathered: list = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, rows.cpu())
    return torch.cat(gathered).to(rows.device)


def relative_l2(prediction: Tensor, reference: Tensor) -> Tensor:
    """Return |prediction - reference| / |reference| over all points."""
    return (prediction - reference).norm() / reference.norm()
