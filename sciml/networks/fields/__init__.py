"""Operators between fields of any number of directions and channels, told by what data say.

Every network here is given `fields`, a dictionary of plain data that a data module derives from
files (`sciml.networks.fields.description`): names, axes and units of inputs and outputs, the grid,
and statistics of the training part. It takes and returns arrays by the names and in the layout of
the files, in physical units.
"""

from sciml.networks.fields.base import FieldNetwork as FieldNetwork
from sciml.networks.fields.description import Fields as Fields
