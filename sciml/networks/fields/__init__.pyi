from .cloud import CloudOperator
from .deeponet import DeepONet
from .description import Fields
from .field_equilibrium import GridFNODEQ
from .field_network import FieldNetwork
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
