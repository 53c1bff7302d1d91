"""Bounded domains, B at once: signed distance, projection, inside test and sampling."""

from sciml.physics.geometry.boolean import Boolean, difference, intersection, union
from sciml.physics.geometry.curves import Ellipse
from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.given_shapes import mask_domain, triangulated_domain
from sciml.physics.geometry.grid import SDFGrid
from sciml.physics.geometry.inscribed import inscribed
from sciml.physics.geometry.mesh import Mesh, load_mesh
from sciml.physics.geometry.mixed import MixedPolygon
from sciml.physics.geometry.mixed_box import MixedBox
from sciml.physics.geometry.polygon import Polygon, l_shape
from sciml.physics.geometry.primitives import Annulus, Ball, Box
from sciml.physics.geometry.reflecting import Reflecting
from sciml.physics.geometry.similar import Similar
from sciml.physics.geometry.star_domain import Star, star_family
from sciml.physics.geometry.tabulated import Tabulated

__all__ = [
    "Annulus",
    "Ball",
    "Boolean",
    "Boundary",
    "Box",
    "Domain",
    "Ellipse",
    "Mesh",
    "MixedBox",
    "MixedPolygon",
    "Polygon",
    "Reflecting",
    "SDFGrid",
    "Similar",
    "Star",
    "Tabulated",
    "difference",
    "intersection",
    "inscribed",
    "l_shape",
    "load_mesh",
    "mask_domain",
    "star_family",
    "triangulated_domain",
    "union",
]
