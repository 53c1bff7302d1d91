"""Problems of any place, size and unit in the coordinates that an operator was trained in.

With y = (x - c) / s, v(y) = u(x) / A and constants A, k > 0 for every problem,

    div(alpha grad u) - sigma u = -f,  u = g
    div(alpha / k grad v) - (s^2 sigma / k) v = -s^2 f / (A k),  v = g / A

is the same problem: c brings a domain into the operator's box, s to a size that training covered,
with the screening too where there is one, k a diffusion and A the data. What is in range already
stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Domain, Similar
from sciml.pretrained.elliptic.moved_fields import MovedDiffusion, MovedField

# Nodes per axis that the place and size of a domain are read from, by dimension.
NODES = {2: 41, 3: 21}
TIGHT = 0.85  # a bounding box is taken as it is if the domain fills so much of its longest side
MIDDLE = 0.75  # of the largest size in training: where a domain goes that has to be scaled
BOX = (0.4, 0.93)  # sizes in units of the box, for models that do not say what they have seen
ALIKE = 1e-6  # a coefficient that varies by less is constant
FAR = 16.0  # domains farther from the origin, in units of their size, need float64
SMALLEST = 1e-6  # of the largest data in training: smaller ones are scaled up


@dataclass(frozen=True)
class Placed:
    """B problems in an operator's coordinates.

    Attributes:
        domain: The domains.
        problem: Their equation.
        points: `(B, P, d)`.
        unit: `(B, 1)` A, what 1 stands for in values.
    """

    domain: Domain
    problem: Dirichlet
    points: Tensor
    unit: Tensor


def place(
    inputs: Mapping,
    box: float,
    spacing: float,
    domain: Domain,
    problem: Dirichlet,
    points: Tensor,
) -> Placed:
    """Return problems in the coordinates of an operator; see the top of this file.

    Args:
        inputs: The operator's schema, with the ranges it has seen.
        box: Half the side of its grid's box.
        spacing: Of its grid.
        domain: B domains.
        problem: Their equation, from `check_problem`.
        points: `(B, P, d)` in float64.

    Raises:
        InvalidArgument: For a diffusion that varies and an operator that knows none.
    """
    ranges = _ranges(inputs)
    low, high, inradius = extents(domain)
    half, middle = (high - low).amax(1) / 2, (low + high) / 2
    least, most = ranges.get("size", tuple(share * box for share in BOX))
    reach = box - 1.4 * spacing
    fits = (low > -reach).all(1) & (high < reach).all(1)
    fits &= (half > 0.98 * least) & (half < 1.02 * most)
    sigma = _levels(problem.screening, domain)
    if sigma is not None:
        fits &= _within(sigma, inputs["screening"])
    target = torch.full_like(half, MIDDLE * most)
    if "inradius" in ranges:  # as large as a thin domain has to be
        wanted = 1.05 * ranges["inradius"][0] + spacing / 2  # between nodes the grid sees less
        target = torch.maximum(target, wanted * half / inradius)
    if sigma is not None and "value" in inputs["screening"].get("ranges", {}):
        small, large = inputs["screening"]["ranges"]["value"]
        square = sigma.amax(0) * half**2
        target = torch.minimum(target, (sigma.amin(0) * half**2 / small).sqrt())
        target = torch.maximum(target, (square / large).sqrt())
    target = target.clamp(least, most)
    size = torch.where(fits, 1.0, half / target)
    center = torch.where(fits[:, None], 0.0, middle)
    alpha = _levels(problem.diffusion, domain)
    k = torch.ones_like(size)
    if alpha is not None:
        mean = alpha.log().mean(0).exp()
        if "diffusion" not in inputs:
            _refuse_variation(alpha)
            k = mean
        elif not bool(_within(alpha, inputs["diffusion"]).all()):
            k = torch.where(_within(alpha, inputs["diffusion"]), 1.0, mean)
    unit = _unit(inputs, domain, problem, size**2 / k, (center, size * box))
    if all(bool((v == 1).all()) for v in (size, k, unit)) and bool((center == 0).all()):
        return Placed(domain, problem, points, unit[:, None])
    frame = Similar(domain, center, size)
    far = bool((center.abs().amax(1) > FAR * half).any())

    def moved(field: object, factor: Tensor, kind: type = MovedField) -> object:
        if callable(field):
            return kind(field, frame, factor, far)
        if field is None:
            return None
        # a number in float64 at once: as a tensor of its own it would be rounded to float32
        value = torch.as_tensor(field, dtype=factor.dtype, device=factor.device)
        return value.expand_as(factor) * factor

    square = size**2
    alpha = problem.diffusion if "diffusion" in inputs else None
    kind = MovedDiffusion if hasattr(alpha, "log_gradient") else MovedField
    return Placed(
        frame,
        Dirichlet(
            moved(problem.boundary, 1 / unit),
            moved(problem.source, square / (unit * k)),
            moved(problem.screening, square / k),
            moved(alpha, 1 / k, kind),
            moved(problem.reduced if alpha is not None else None, square),
            moved(problem.bound if alpha is not None else None, square),
        ),
        frame.to_local(points),
        unit[:, None],
    )


def extents(domain: Domain) -> tuple[Tensor, Tensor, Tensor]:
    """Return the corners `(B, d)` of boxes around domains, and radii `(B,)` of balls inside.

    A bounding box that a domain does not nearly fill is replaced by that of the nodes of a grid
    which lie inside, and one cell more.
    """
    low, high = domain.bounds()
    nodes = NODES[domain.dim]
    axis = torch.linspace(0, 1, nodes, dtype=torch.float64, device=low.device)
    unit = torch.stack(torch.meshgrid([axis] * domain.dim, indexing="ij"), -1).flatten(0, -2)
    with torch.no_grad():
        places = low[:, None] + unit * (high - low)[:, None]
        distance = domain.signed_distance(places)
        inside = (distance < 0)[..., None]
        cell = (high - low) / (nodes - 1)
        least = torch.where(inside, places, torch.inf).amin(1) - cell
        greatest = torch.where(inside, places, -torch.inf).amax(1) + cell
        full = (greatest - least).amax(1) >= TIGHT * (high - low).amax(1)
        keep = (full | ~inside.any(1)[:, 0])[:, None]
        inradius = (-distance).amax(1).clamp_min(1e-3 * (high - low).amax(1))
    low = torch.where(keep, low, torch.maximum(low, least))
    high = torch.where(keep, high, torch.minimum(high, greatest))
    return low, high, inradius


def _ranges(inputs: Mapping) -> Mapping:
    """Return what an operator has seen of domains."""
    found: dict = {}
    for name in ("points", "distance", "sdf"):
        found |= inputs.get(name, {}).get("ranges", {})
    return found


def _levels(field: object, domain: Domain) -> Tensor | None:
    """Return values `(M, B)` of a coefficient at M points of every domain, None without one."""
    if field is None:
        return None
    if not callable(field):
        return torch.as_tensor(field, dtype=torch.float64).expand(domain.count)[None]
    device = domain.bounds()[0].device
    generator = torch.Generator(device=device).manual_seed(0)
    points = domain.sample_interior(64, generator, torch.float64)
    found = field(*domain.columns(points.float()))
    return found.double().reshape(domain.count, -1).T


def _within(values: Tensor, entry: Mapping) -> Tensor:
    """Return whether all values `(M, B)` lie in the range of an input, `(B,)`."""
    low, high = entry.get("ranges", {}).get("value", (-torch.inf, torch.inf))
    return (values.amin(0) >= low) & (values.amax(0) <= high)


def _refuse_variation(alpha: Tensor) -> None:
    if not bool((alpha > 0).all()):
        raise InvalidArgument(f"diffusion with minimum {float(alpha.min()):g}", "positive numbers")
    spread = float(((alpha.amax(0) - alpha.amin(0)) / alpha.amax(0)).max())
    if spread > ALIKE:
        raise InvalidArgument(
            f"a diffusion that varies by {100 * spread:.2g} %",
            "a constant one: the operator does not know it",
            "Use wos_varcoef2d",
        )


def _unit(
    inputs: Mapping,
    domain: Domain,
    problem: Dirichlet,
    factor: Tensor,
    box: tuple[Tensor, Tensor],
) -> Tensor:
    """Return A `(B,)`: 1 where the data lie in the ranges, else what brings the largest there.

    Args:
        inputs: The operator's schema.
        domain: B domains.
        problem: Their equation.
        factor: Of the source, `(B,)`.
        box: Middle `(B, d)` and half side `(B,)` of the operator's box in the domains' coordinates.
    """
    device = domain.bounds()[0].device
    generator = torch.Generator(device=device).manual_seed(0)
    on = domain.sample_boundary(128, generator, torch.float64).points
    shape = (domain.count, 256, domain.dim)
    middle, half = (part.detach() for part in box)
    share = 2 * torch.rand(shape, generator=generator, device=device, dtype=torch.float64) - 1
    around = middle[:, None] + half[:, None, None] * share  # the operator sees the source there too
    ratio = torch.zeros_like(factor)
    for name, at, scale in (("boundary", on, torch.ones_like(factor)), ("source", around, factor)):
        field, limits = getattr(problem, name), inputs[name].get("ranges", {}).get("value")
        if field is None or limits is None:
            continue
        with torch.no_grad():
            values = field(*domain.columns(at.float())).double().reshape(domain.count, -1)
        values = values.nan_to_num(0.0, 0.0, 0.0) * scale.detach()[:, None]
        tiny = 1e-3 * max(abs(limits[0]), abs(limits[1]))
        for sign, limit in ((-1, -limits[0]), (1, limits[1])):
            ratio = torch.maximum(ratio, (sign * values).amax(1) / max(limit, tiny))
    # a power of two: data are scaled without rounding
    unit = torch.exp2(torch.ceil(torch.log2(ratio.clamp_min(1e-300))))
    return torch.where((ratio > 1) | ((ratio > 0) & (ratio < SMALLEST)), unit, 1.0)
