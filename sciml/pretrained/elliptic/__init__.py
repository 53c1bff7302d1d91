"""Operators and solutions of elliptic problems: solving, placing, correcting by walks.

Loaded when it is used: what walks need takes longer to import than a model takes to load.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
