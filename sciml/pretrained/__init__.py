"""Trained models as folders of data: save, load, predict. Imports neither lightning nor hydra."""

from sciml.pretrained.checks.training_ranges import training_ranges as training_ranges
from sciml.pretrained.files.folder import list_pretrained as list_pretrained
from sciml.pretrained.files.folder import load_pretrained as load_pretrained
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator as PretrainedOperator
from sciml.pretrained.predictors.pretrained_pinn import PretrainedPINN as PretrainedPINN
from sciml.pretrained.saving.save import save_operator as save_operator
from sciml.pretrained.saving.save import save_pretrained as save_pretrained
