"""Optimizers and what a loss tells them: ordinary torch optimizers, usable without Lightning."""

from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.diagonal.adahessian import AdaHessian
from sciml.optim.diagonal.complex_adamw import ComplexAdamW
from sciml.optim.diagonal.sophia import SophiaG, SophiaH
from sciml.optim.full.adam_lbfgs import AdamLBFGS
from sciml.optim.full.damped_gauss_newton import LevenbergMarquardt
from sciml.optim.full.engd import ENGD
from sciml.optim.full.spring import SPRING
from sciml.optim.full.ssbroyden import SSBroyden
from sciml.optim.gradient_free.cbo import CBO
from sciml.optim.gradient_free.deepzero import DeepZero
from sciml.optim.gradient_free.polystep import PolyStep
from sciml.optim.kronecker.kfac import KFAC
from sciml.optim.kronecker.mkor import MKOR
from sciml.optim.low_rank.galore import GaLore
from sciml.optim.low_rank.mfac import MFAC
from sciml.optim.low_rank.natural_galore import NaturalGaLore
from sciml.optim.schedules import Constant, Cosine, Exponential, Linear, Refined

__all__ = [
    "CBO",
    "ENGD",
    "KFAC",
    "MFAC",
    "MKOR",
    "SPRING",
    "AdaHessian",
    "AdamLBFGS",
    "ComplexAdamW",
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
