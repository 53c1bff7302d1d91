"""Optimizers and what a loss tells them: ordinary torch optimizers, usable without Lightning."""

from sciml.optim.adahessian import AdaHessian
from sciml.optim.adam_lbfgs import AdamLBFGS
from sciml.optim.cbo import CBO
from sciml.optim.deepzero import DeepZero
from sciml.optim.engd import ENGD, SPRING
from sciml.optim.galore import GaLore
from sciml.optim.kfac import KFAC
from sciml.optim.levenberg_marquardt import LevenbergMarquardt
from sciml.optim.mfac import MFAC
from sciml.optim.mkor import MKOR
from sciml.optim.natural_galore import NaturalGaLore
from sciml.optim.objective import Objective
from sciml.optim.polystep import PolyStep
from sciml.optim.schedules import Constant, Cosine, Exponential, Linear, Refined
from sciml.optim.sophia import SophiaG, SophiaH
from sciml.optim.ssbroyden import SSBroyden
from sciml.optim.terms import LossTerm

__all__ = [
    "CBO",
    "ENGD",
    "KFAC",
    "MFAC",
    "MKOR",
    "SPRING",
    "AdaHessian",
    "AdamLBFGS",
    "Constant",
    "Cosine",
    "DeepZero",
    "Exponential",
    "GaLore",
    "LevenbergMarquardt",
    "Linear",
    "LossTerm",
    "NaturalGaLore",
    "Objective",
    "PolyStep",
    "Refined",
    "SSBroyden",
    "SophiaG",
    "SophiaH",
]
