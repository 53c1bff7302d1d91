"""Systems of equations with named outputs: shapes, conditions, unknowns.

system          equations, domain, conditions: what a user writes
named_shapes    interval, box, disk, polygon and their combinations, with named parts
region          products of shapes with time and parameters
conditions      on parts of the boundary, at the start, at points
observations    conditions from measured values
system_fields   outputs by name and their derivatives
integrals       terms with an integral of outputs, by quadrature
unknowns        constants that data tell
"""

from sciml.physics.systems.conditions import Condition, Initial, On, PointSet
from sciml.physics.systems.integrals import Integral
from sciml.physics.systems.named_shapes import Ball, Box, Disk, Interval, Polygon, Rectangle, Shape
from sciml.physics.systems.observations import Observed
from sciml.physics.systems.point_conditions import At, Same
from sciml.physics.systems.region import Range, Region, Time
from sciml.physics.systems.system import System
from sciml.physics.systems.system_fields import Field
from sciml.physics.systems.unknowns import Unknown

__all__ = [
    "At",
    "Ball",
    "Box",
    "Condition",
    "Disk",
    "Field",
    "Initial",
    "Integral",
    "Interval",
    "Observed",
    "On",
    "PointSet",
    "Polygon",
    "Range",
    "Rectangle",
    "Region",
    "Same",
    "Shape",
    "System",
    "Time",
    "Unknown",
]
