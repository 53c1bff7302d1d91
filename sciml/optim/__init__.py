"""Optimizers and what a loss tells them: ordinary torch optimizers, usable without Lightning."""

from sciml.optim.engd import ENGD, SPRING
from sciml.optim.objective import Objective
from sciml.optim.terms import LossTerm

__all__ = ["ENGD", "SPRING", "LossTerm", "Objective"]
