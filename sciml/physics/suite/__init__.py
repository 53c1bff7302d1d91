"""Systems of equations with references of known accuracy: the public suite, and what all try first.

Definitions follow PINNacle (Hao et al. 2023, arXiv 2306.08827; code under the MIT licence). Where
it contradicts itself the class says so and takes the consistent form.

Names are imported when they are first used; `__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
