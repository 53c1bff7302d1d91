"""Networks: plain modules whose forward accepts tensors or jets."""

from sciml.networks.mlp import MLP, FourierMLP, ModifiedMLP, ResidualMLP
from sciml.networks.pairs import PairNetwork
from sciml.networks.trial import TrialSolution

__all__ = ["MLP", "FourierMLP", "ModifiedMLP", "PairNetwork", "ResidualMLP", "TrialSolution"]
