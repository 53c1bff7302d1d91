"""Signed distances on a grid: whether they are ones, and what domains they show.

An operator on a grid sees a domain as the signed distance of every node, negative inside, and its
data as their values at the closest boundary point of every node. Arrays of the same shape that are
something else (a mask, a level set, a distance of the other sign, data near the boundary only)
give smooth answers that are wrong, so they are looked at before they are used.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sciml.errors import InvalidArgument

# Distances of nodes at most this many spacings apart from the boundary are "near" it.
BAND = 2.0
# Distances have slope 1: differences of neighbours above, and medians near the boundary outside
# these, belong to something else. Medians are of central differences, lower where domains are thin.
STEEPEST, SLOPES = 1.25, (0.7, 1.2)
# Share of the nodes that may be flat: where distances have kinks differences are short.
FLATTEST, FLAT = 0.5, 0.25
# Of the spread of boundary data: how far data at a node may be from those at its closest point.
MOVED = 0.8
# A part of a domain is thin where no ball of so many spacings in radius reaches.
THIN = 2.0
ON = -1e-6  # points of clouds less far inside are boundary points
# What the entries of `features` are called in sentences.
WORDS = {
    "variation": "The share by which the screening of a domain varies",
    "inradius": "The radius of the largest ball inside a domain",
    "size": "Half the longest side of a domain",
    "slender": "The size of a domain over the radius of the largest ball inside",
    "components": "The number of components of a domain",
    "holes": "The number of holes of a domain",
    "thin": f"The share of a domain that is thinner than {2 * THIN:g} grid nodes",
}
ADVICE = (
    "Build it from a domain: sciml.physics.elliptic.elliptic_grid.grid_inputs("
    "domain, problem, Grid()), or use solve(domain, problem, points)"
)


def check_distance(sdf: Tensor, half: float) -> None:
    """Refuse arrays that are no signed distance of a domain inside the grid.

    Args:
        sdf: `(N, n, ..., n)`.
        half: Half the side of the grid's box.

    Raises:
        InvalidArgument: Naming the first sample and what is wrong with it.
    """
    dim, axes = sdf.ndim - 1, tuple(range(1, sdf.ndim))
    h = _spacing(sdf, half)
    inner = sdf[(slice(None), *[slice(1, -1)] * dim)]
    inside, edge = (sdf < 0).sum(axes), (sdf <= 0).sum(axes) - (inner <= 0).sum(axes)
    _refuse(
        (inside == 0) | (edge == inside + (sdf == 0).sum(axes)) & (edge > 0),
        "sdf is nowhere negative in the inside of the grid",
        "a signed distance, negative inside the domain",
        "A distance of the other sign wants -sdf, a mask a distance transform",
    )
    _refuse(
        edge > 0,
        "sdf is not positive at the edge of the grid",
        f"a domain inside the box of half side {half:g}, negative inside",
        "If positive means inside, pass -sdf; otherwise use solve(domain, problem, points), which "
        "moves and scales the domain into the box",
    )
    steep = torch.stack([sdf.diff(dim=a).abs().flatten(1).amax(1) for a in axes]).amax(0) / h
    _refuse(
        steep > STEEPEST,
        f"sdf changes by up to {float(steep.max()):.3g} spacings from node to node",
        "at most 1: a distance in the grid's unit of length",
        f"A mask or a level set is no distance. {ADVICE}",
    )
    slope = torch.stack(torch.gradient(sdf, spacing=h, dim=axes)).square().sum(0).sqrt()
    near = sdf.abs() <= BAND * h
    median = slope.where(near, torch.nan).flatten(1).nanmedian(1).values
    flat = (slope < FLATTEST).flatten(1).double().mean(1)
    _refuse(
        ~((median >= SLOPES[0]) & (median <= SLOPES[1])) | (flat > FLAT),
        "sdf does not grow by one spacing from node to node away from the boundary",
        "a distance in the grid's unit of length, right far from the boundary, too",
        f"A mask, a level set or a distance cut off at some value is none. {ADVICE}",
    )


def check_boundary(sdf: Tensor, boundary: Tensor, half: float) -> None:
    """Refuse boundary data that are not those of the closest boundary point, at nodes inside.

    Args:
        sdf: `(N, n, ..., n)`, a signed distance.
        boundary: `(N, n, ..., n)`, g at the closest boundary point of every node.
        half: Half the side of the grid's box.

    Raises:
        InvalidArgument: Where they change along the normals of the boundary.
    """
    dim, h = sdf.ndim - 1, _spacing(sdf, half)
    axes = tuple(range(1, sdf.ndim))
    slope = torch.stack(torch.gradient(sdf, spacing=h, dim=axes), -1)
    length = slope.norm(dim=-1, keepdim=True).clamp_min(FLATTEST)
    axis = torch.linspace(-half, half, sdf.shape[1], dtype=sdf.dtype, device=sdf.device)
    nodes = torch.stack(torch.meshgrid([axis] * dim, indexing="ij"), -1)
    closest = nodes - sdf[..., None] * slope / length
    there = F.grid_sample(
        boundary[:, None], (closest / half).flip(-1), "bilinear", "border", align_corners=True
    )[:, 0]
    # nodes at kinks have no one closest point
    deep = (sdf < -h) & (slope.norm(dim=-1) > 0.9)
    near = (sdf.abs() <= h).to(boundary)
    count = near.flatten(1).sum(1).clamp_min(1)
    mean = (near * boundary).flatten(1).sum(1) / count
    spread = (near * (boundary - mean.view(-1, *[1] * dim)).square()).flatten(1).sum(1) / count
    off = ((there - boundary).square() * deep).flatten(1).sum(1)
    off = off / deep.flatten(1).sum(1).clamp_min(1)
    size = spread + (1e-3 * mean) ** 2  # constant data: only their rounding moves
    _refuse(
        off > MOVED**2 * size,
        f"boundary differs by up to {float((off / size.clamp_min(1e-30)).max().sqrt()):.2g} times "
        "its spread between nodes inside and their closest boundary points",
        "at every node of the grid the value of g at the closest boundary point",
        "Values on a band near the boundary, or g at the nodes themselves, are not that. " + ADVICE,
    )


def check_cloud(points: Tensor, distance: Tensor) -> None:
    """Refuse numbers that are no signed distances of a cloud's points from its boundary.

    Args:
        points: `(N, P, d)`.
        distance: `(N, P)`, 0 at boundary points, negative inside.

    Raises:
        InvalidArgument: For positive ones, clouds without boundary points, and points farther from
            the boundary than the closest boundary point.
    """
    on = distance >= ON
    _refuse(
        (distance > -ON).any(1),
        f"distance up to {float(distance.max()):.3g}",
        "0 at boundary points and negative numbers inside",
        "If positive means inside, pass -distance; leave out points outside",
    )
    _refuse(~on.any(1), "a cloud without boundary points", "points at distance 0", "")
    closest = torch.full_like(distance, torch.inf)
    for row, (x, own) in enumerate(zip(points, on, strict=True)):
        # a matrix product would round small distances
        exact = "donot_use_mm_for_euclid_dist"
        closest[row] = torch.cdist(x, x[own], compute_mode=exact).amin(1)
    _refuse(
        (-distance > 1.01 * closest - ON).any(1),
        "a point farther from the boundary, by its distance, than from a boundary point",
        "its distance to the boundary, in the unit of length of points",
        "A mask is no distance",
    )


def described(name: str, value: Tensor, half: float | None) -> dict[str, Tensor]:
    """Return what the range of an input is described by: its values, and what they show.

    Args:
        name: Of the input.
        value: `(N, ...)`, as the operator takes it, or signed distances on its grid.
        half: Half the side of its box, None for an operator without one.
    """
    found = {"value": value}
    if half is None:
        return found
    if name in ("sdf", "distance") and value.ndim > 2:
        found |= {"value": value.clamp_max(0) if name == "distance" else value}
        found |= features(value, half)
    elif name == "distance":
        found["inradius"] = -value.amin(1)
    elif name == "points":
        found["size"] = (value.amax(1) - value.amin(1)).amax(1) / 2
    elif name == "screening":
        low, high = value.flatten(1).amin(1), value.flatten(1).amax(1)
        found["variation"] = (high - low) / high.abs().clamp_min(1e-30)
    return found


def features(sdf: Tensor, half: float) -> dict[str, Tensor]:
    """Return what an operator's range of domains is described by, each `(N,)`.

    Args:
        sdf: `(N, n, ..., n)`, a signed distance.
        half: Half the side of the grid's box.

    Returns:
        `inradius`, the radius of the largest ball inside; `size`, half the longest side of the
        bounding box, and `slender`, their ratio; `components` and `holes`, their numbers; `thin`,
        the share of the domain that no ball inside of `THIN` spacings in radius reaches.
    """
    from scipy import ndimage  # a tenth of a second, which loading a model does not need

    h, values = _spacing(sdf, half), sdf.detach().cpu().double().numpy()
    inside = values < 0
    count, dim = len(values), values.ndim - 1
    extent = [
        np.ptp(np.where(any_, np.arange(any_.shape[1]), _middle(any_)), axis=1)
        for any_ in (
            inside.any(tuple(a for a in range(1, dim + 1) if a != axis))
            for axis in range(1, dim + 1)
        )
    ]
    # connected along the axes, within a sample
    join = np.zeros((3,) * (dim + 1), dtype=int)
    join[1] = ndimage.generate_binary_structure(dim, 1)
    core = values < -THIN * h
    reach = ndimage.distance_transform_edt(~core, sampling=[1e6, *[1.0] * dim])
    thin = inside & (reach > THIN + 0.5)
    total = inside.reshape(count, -1).sum(1)
    lowest = values.reshape(count, -1).min(1)
    found = {
        "inradius": -lowest,
        "size": (np.max(extent, 0) + 1) * h / 2,
        "components": _components(inside, join),
        "holes": _components(~inside, join) - 1,
        "slender": (np.max(extent, 0) + 1) * h / 2 / np.maximum(-lowest, 1e-3 * h),
        "thin": thin.reshape(count, -1).sum(1) / np.maximum(total, 1),
    }
    return {name: torch.from_numpy(np.asarray(v, dtype=float)) for name, v in found.items()}


def _components(mask: np.ndarray, join: np.ndarray) -> np.ndarray:
    """Return the number of components of every sample: labels are given in order."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, join)
    last = np.maximum.accumulate(labels.reshape(len(mask), -1).max(1))
    return np.diff(last, prepend=0)


def _middle(any_: np.ndarray) -> np.ndarray:
    """Return one index per row that lies in its range, `(N, 1)`."""
    return any_.argmax(1)[:, None]


def _spacing(sdf: Tensor, half: float) -> float:
    return 2 * half / (sdf.shape[1] - 1)


def _refuse(wrong: Tensor, found: str, wanted: str, hint: str) -> None:
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0, 0])
        where = f" (sample {first})" if len(wrong) > 1 else ""
        raise InvalidArgument(found + where, wanted, hint)
