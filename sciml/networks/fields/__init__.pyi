from .cloud import CloudOperator
from .deeponet import DeepONet
from .description import FieldSet
from .field_equilibrium import GridFNODEQ
from .field_network import FieldNetwork
from .fno import GridFNO
from .library import LibraryOperator
from .unet import UNet

__all__ = [
    "CloudOperator",
    "DeepONet",
    "FieldNetwork",
    "FieldSet",
    "GridFNO",
    "GridFNODEQ",
    "LibraryOperator",
    "UNet",
]
