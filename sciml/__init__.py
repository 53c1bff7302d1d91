"""Scientific machine learning on PyTorch Lightning.

Importing `sciml` costs nothing: rooms are imported when a name in them is first used, so that
inference never pulls training code in and `sciml --help` answers at once. `__init__.pyi` lists the
names.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
