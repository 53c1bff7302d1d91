"""Learned directions and preconditioners for stencil matrices."""

from sciml.networks.preconditioners.base import LearnedPreconditioner, PreconditionerNetwork
from sciml.networks.preconditioners.dcdm import DCDM
from sciml.networks.preconditioners.learned_multigrid import LearnedMultigrid

__all__ = ["DCDM", "LearnedMultigrid", "LearnedPreconditioner", "PreconditionerNetwork"]
