"""Operators between fields of any number of directions and channels, told by what data say.

Every network here is given `fields`, a dictionary of plain data that a data module derives from
files (`sciml.networks.fields.description`): names, axes and units of inputs and outputs, the grid,
and statistics of the training part. It takes and returns arrays by the names and in the layout of
the files, in physical units. `CloudUNet` and `CloudOperator` do the
same for point clouds.

Names are imported when they are first used; `__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
