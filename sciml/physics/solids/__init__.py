"""Small-strain solids on two scales: materials, periodic cells, homogenisation, reduced bases.

Names are imported when they are first used; `__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
