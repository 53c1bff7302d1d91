"""Learned directions and preconditioners for stencil matrices."""

from sciml.networks.preconditioners.dcdm import DCDM
from sciml.networks.preconditioners.learned_multigrid import LearnedMultigrid
from sciml.networks.preconditioners.learned_preconditioner import (
    LearnedPreconditioner,
    PreconditionerNetwork,
)

__all__ = ["DCDM", "LearnedMultigrid", "LearnedPreconditioner", "PreconditionerNetwork"]
