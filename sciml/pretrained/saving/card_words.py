"""What the names of inputs, outputs, measures and sets mean on a card, for each kind of model."""

from __future__ import annotations

from collections.abc import Mapping

from sciml.pretrained.saving import example

# What the names of inputs mean, for operators on domains.
MEANING = {
    "sdf": "signed distance of every node to the boundary: negative inside, positive outside, a "
    "true distance (slope 1), not a mask",
    "boundary": "g at the boundary point closest to every node or point, inside and outside",
    "source": "f at every node or point, also outside",
    "screening": "sigma, the same number at every node of a domain",
    "diffusion": "alpha at every node",
    "points": "coordinates (x, y) of points inside and on the boundary, in any order; drawn at "
    "random in training, uniform in area and length: evenly spaced ones double the error",
    "distance": "minus the distance of every point to the boundary: negative inside, 0 on it",
    "value": "u; on grids g of the closest boundary point outside the domain",
}
# What was measured, by the end of its name.
MEASURES = {
    "rel_l2": "mean over the problems of the set of |u - exact|_2 / |exact|_2 at the nodes inside",
    "skill": "root mean square error over that of the best constant field, all problems together",
}
SETS = {
    "test": "unseen domains and data of the training law",
    "test_ellipse": "ellipses, which training never saw",
    "test_polygon": "polygons, which training never saw",
    "test_l_shape": "L-shapes, which training never saw",
    "test_ball": "balls, which training never saw",
}
# The same for laws of cells.
LAW_MEANING = {
    "strain": "macro strain (exx, eyy, gxy), with the engineering shear gxy = 2 exy",
    "stress": "homogenised stress (sxx, syy, sxy)",
    "tangent": "its exact derivative with respect to the strain",
}
LAW_MEASURES = {
    "rel_l2": "mean over strains of |shat - FE|_2 / |FE|_2, homogenised stress; _max the largest",
    "r2_xx": "and so on: coefficient of determination of a component of the homogenised stress",
    "stress_xx": "and so on: relative L2 error of a component of the local stress over all "
    "quadrature points, mean over strains; _median the median",
    "tangent": "relative error of the homogenised tangent, Frobenius norm",
}
LAW_SETS = {
    "test": "uniform strains in the box, independent of training",
    "test_small": "strains of at most a tenth of the box",
    "test_isochoric": "strains that keep at most a tenth of their change of volume",
}
# The same for preconditioners.
SYSTEM_MEANING = {
    "residual": "r, of any size; cells that are no unknowns are not looked at",
    "weights": "w of the face between a cell and its lower neighbour, per axis in the order of the "
    "grid; 0 where there is none (the first face of every axis) or nothing is joined",
    "shift": "s, what the diagonal holds beside the faces: w of faces to fixed values",
    "value": "M r; symmetric positive definite in r, whatever the weights of the network are",
}
SYSTEM_MEASURES = {
    "iterations": "of flexible CG in float64 to a true relative residual of 1e-6, mean; "
    "_multigrid: with the classical V-cycle in its place",
    "iterations_max": "the most",
    "unsolved": "share of the systems that were not solved in 300 iterations",
    "residual": "largest true relative residual",
    "loss": "share of the error's A-norm that one step leaves, squared, mean",
}
# The same for operators with a constraint.
IMPOSED_MEANING = {
    "field": "what an instance is given, one channel each, at the points of the problem's grid: "
    "first the initial state",
    "times": "times of the levels, the problem's own, fewer, or more that go on alike",
    "value": "u at times and points",
    "converged": "whether the solve of each expert met its tolerance",
    "status": "why it ended, see `sciml.solvers.Status`; 0 is converged",
    "iterations": "of each expert's solve",
    "rank": "numerical rank of each expert's rows; at most the number of functions",
    "expert_residual": "root mean square of each expert's rows of the equation",
    "residual": "root mean square of the equation over the assembled field",
    "jump": "root mean square of the jumps where experts meet",
}
IMPOSED_MEASURES = {
    "rel_l2": "mean over instances of |u - solver|_2 / |solver|_2, by the problem's own solver",
    "residual": "root mean square of the equation's rows over the assembled field, mean",
    "jump": "root mean square of the jumps where experts meet, mean",
    "fail_frac": "share of experts that did not meet their tolerance",
}
IMPOSED_SETS = {
    "test": "unseen instances of the training law, in the time of training",
    "test_beyond": "the same beyond the time of training",
}


def words_of(spec: Mapping) -> tuple[Mapping, Mapping, Mapping]:
    """Return what inputs and outputs, measures and sets of a model mean, where that is known."""
    if spec["class"] == "EquiNO":
        return LAW_MEANING, LAW_MEASURES, LAW_SETS
    if example.preconditions(spec):
        sizes = (spec["data"].get("recipe") or {}).get("test_sizes", [])
        sets = {f"test_{n}": f"unseen domains of {n} cells per axis" for n in sizes}
        sets["test"] = sets[f"test_{sizes[0]}"] if sizes else ""
        return SYSTEM_MEANING, SYSTEM_MEASURES, sets
    if example.imposed(spec):
        return IMPOSED_MEANING, IMPOSED_MEASURES, IMPOSED_SETS
    return (MEANING, MEASURES, SETS) if example.family_of(spec) else ({}, {}, {})
