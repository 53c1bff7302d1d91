from .base import FieldNetwork
from .cloud import CloudOperator
from .deeponet import DeepONet
from .deq import GridFNODEQ
from .description import Fields
from .fno import GridFNO
from .library import LibraryOperator
from .unet import UNet

__all__ = [
    "CloudOperator",
    "DeepONet",
    "FieldNetwork",
    "Fields",
    "GridFNO",
    "GridFNODEQ",
    "LibraryOperator",
    "UNet",
]
