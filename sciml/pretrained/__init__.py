"""Trained models as folders of data: save, load, predict. Imports neither lightning nor hydra."""

from sciml.pretrained.folder import list_pretrained as list_pretrained
from sciml.pretrained.folder import load_pretrained as load_pretrained
from sciml.pretrained.operator import PretrainedOperator as PretrainedOperator
from sciml.pretrained.predictor import PretrainedPINN as PretrainedPINN
from sciml.pretrained.predictor import training_ranges as training_ranges
from sciml.pretrained.save import save_operator as save_operator
from sciml.pretrained.save import save_pretrained as save_pretrained
