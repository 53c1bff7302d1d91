"""The named inputs of operators on varying domains, from a domain anywhere and functions.

An operator knows one box. A domain elsewhere, or of another size, is moved there by

    x = centre + size y,

y in the box: then div(alpha grad u) - sigma u = -f turns into the same equation in y with size^2 f
for f and size^2 sigma for sigma, and boundary values, alpha and u stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import flag, made, maybe, takes, whole
from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_grid import Grid
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Domain
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator

CLOUD = {"interior": 512, "boundary": 256}  # points of a cloud where the card says no others
REACH = 1.0  # half the longest side of a moved domain's bounding box, as in the shipped families


@dataclass(frozen=True)
class OperatorInputs:
    """What an operator is shown of B problems, and where its answers belong.

    Attributes:
        inputs: By name, as the operator's card lists them: `operator.predict(**inputs)`.
        centre: `(B, d)`.
        size: `(B,)`.
        points: `(B, P, d)` where the values belong, in the domain's own coordinates: the nodes of
            the grid, the last axis fastest, or the points of the cloud.
    """

    inputs: dict[str, Tensor]
    centre: Tensor
    size: Tensor
    points: Tensor

    def to_box(self, x: Tensor) -> Tensor:
        """Return where points `(B, P, d)` of the domain are in the operator's box."""
        return (x - self.centre[:, None]) / self.size[:, None, None]


@takes(
    operator=made("spec", "network", what="an operator of load_pretrained"),
    domain=made("bounds", "nearest", what="a domain of sciml.physics.geometry"),
    problem=made("boundary", "source", what="an equation, as Dirichlet(boundary, source)"),
    move=flag,
    nodes=maybe(whole),
)
def operator_inputs(
    operator: PretrainedOperator,
    domain: Domain,
    problem: Dirichlet,
    *,
    move: bool = True,
    nodes: int | None = None,
) -> OperatorInputs:
    """Return the inputs of an operator for B problems in domains of any place and size.

    Args:
        operator: On a grid (`sdf`) or a cloud (`points`).
        domain: Of `sciml.physics.geometry`: `Polygon(vertices)`, `mask_domain(mask, low, high)`,
            `triangulated_domain(vertices, faces)`, `load_mesh(file)`, ...
        problem: The equation in the domain's own coordinates.
        move: Whether the middle of the domain's bounding box is moved to the origin and half its
            longest side to 1; False for domains that are in the box already.
        nodes: Nodes of the grid along every axis; by default those of the operator's training.

    Raises:
        InvalidArgument: If the operator is not one on domains, has another dimension or equation,
            or the domain does not lie inside its box.

    Example:
        >>> import sciml
        >>> from sciml.physics import Dirichlet
        >>> from sciml.physics.geometry import Ellipse
        >>> from sciml.pretrained.inputs import operator_inputs
        >>> operator = sciml.load_pretrained("wos_poisson2d")
        >>> far = Ellipse((4.0, 3.6), center=(10.0, 0.0))  # is moved and scaled
        >>> found = operator_inputs(operator, far, Dirichlet(boundary=lambda x, i: x[0] / 10 - 1))
        >>> u = operator.predict(**found.inputs)["value"]  # at found.points
        >>> tuple(u.shape), tuple(found.points.shape)
        ((1, 44, 44), (1, 1936, 2))
    """
    known, arguments = operator.spec["inputs"], operator.spec["arguments"]
    cloud, dim = "points" in known, int(arguments.get("dim", 2))
    if not cloud and "sdf" not in known:
        raise InvalidArgument(f"an operator that takes {', '.join(known)}", "one that takes sdf")
    if domain.dim != dim:
        raise InvalidArgument(f"a domain in {domain.dim}D", f"one in {dim}D, as the operator")
    for name in ("screening", "diffusion"):
        if (getattr(problem, name) is not None) != (name in known):
            has = "has" if name in known else "has no"
            raise InvalidArgument(
                f"a problem {'with' if name not in known else 'without'} {name}",
                f"one for this operator, whose equation {has} {name}",
            )
    half = float(getattr(operator.network, "half", arguments.get("half", 1.5)))
    low, high = domain.bounds()
    if move:
        centre, size = (low + high) / 2, domain.scale() / REACH
    else:
        centre, size = torch.zeros_like(low), torch.ones_like(low[:, 0])
    reach = float(((torch.maximum(low.abs(), high.abs()) if not move else high - centre)
                   / size[:, None]).max())  # fmt: skip
    if reach >= half:
        raise InvalidArgument(
            f"a domain that reaches to {reach:.3g}", f"one inside the box, below {half:g}",
            "Leave move=True",
        )  # fmt: skip
    if cloud:
        recipe = operator.spec["data"].get("recipe") or {}
        generator = Streams(0, 0, device=low.device).generator("cloud")
        sizes = {name: int(recipe.get(name, count)) for name, count in CLOUD.items()}
        inner = domain.sample_interior(sizes["interior"], generator, torch.float64)
        outer = domain.sample_boundary(sizes["boundary"], generator, torch.float64).points
        points, shape = torch.cat([inner, outer], 1), (domain.count, -1)
    else:
        grid = Grid(int(nodes or arguments.get("nodes", 44)), half, dim)
        y = grid.points(domain.count, low.device)
        points = centre[:, None] + size[:, None, None] * y
        shape = (domain.count, *grid.shape)
    closest = domain.project(points)
    distance = torch.linalg.vector_norm(points - closest, dim=2) / size[:, None]

    def values(field: Any, at: Tensor, factor: Tensor | None = None) -> Tensor:
        x, i = domain.columns(at)
        if field is None:
            found = x.new_zeros(at.shape[:2])
        elif callable(field):
            found = torch.as_tensor(field(x, i))
            if found.shape != i.shape:
                raise InvalidArgument(
                    f"a function of the problem that returns shape {tuple(found.shape)}",
                    f"one number for every column of x, shape {tuple(i.shape)}",
                )
            found = found.view(at.shape[:2])
        else:
            constant = torch.as_tensor(field, dtype=x.dtype, device=x.device)
            found = constant.reshape(-1, 1).expand(at.shape[:2])
        return (found if factor is None else found * factor[:, None]).reshape(shape).float()

    square = size**2
    inputs = {"boundary": values(problem.boundary, closest)}
    inputs["source"] = values(problem.source, points, square)
    if cloud:
        inputs["points"] = ((points - centre[:, None]) / size[:, None, None]).float()
        inputs["distance"] = -distance.float()
    else:
        inside = domain.inside(points)
        inputs["sdf"] = torch.where(inside, -distance, distance).reshape(shape).float()
    if "screening" in known:
        inputs["screening"] = values(problem.screening, points, square)
    if "diffusion" in known:
        inputs["diffusion"] = values(problem.diffusion, points)
    return OperatorInputs({name: inputs[name] for name in known}, centre, size, points)
