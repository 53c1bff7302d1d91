from .modules.solve_pde import solve
from .pretrained import list_pretrained, load_pretrained, save_operator, save_pretrained

__version__: str

__all__ = [
    "list_pretrained",
    "load_pretrained",
    "save_operator",
    "save_pretrained",
    "solve",
]
