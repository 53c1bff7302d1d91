from .cloud import CloudOperator
from .cloud_network import CloudNetwork
from .cloud_unet import CloudUNet
from .deeponet import DeepONet
from .description import FieldSet
from .field_equilibrium import GridFNODEQ
from .field_network import FieldNetwork
from .fno import GridFNO
from .library import LibraryOperator
from .unet import UNet

__all__ = [
    "CloudNetwork",
    "CloudOperator",
    "CloudUNet",
    "DeepONet",
    "FieldNetwork",
    "FieldSet",
    "GridFNO",
    "GridFNODEQ",
    "LibraryOperator",
    "UNet",
]
