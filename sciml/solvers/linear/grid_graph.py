"""Regular grids as graphs: cells are nodes, interior faces are edges with weights.

Weights of the faces of an axis have the shape of the grid with one entry less along that axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import pad

from sciml.errors import InvalidArgument


def low(x: Tensor, axis: int) -> Tensor:
    """Return the cells below the interior faces of an axis, a view.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import low
        >>> low(torch.tensor([[1.0, 4.0, 9.0]]), -1)
        tensor([[1., 4.]])
    """
    return x.narrow(axis, 0, x.shape[axis] - 1)


def high(x: Tensor, axis: int) -> Tensor:
    """Return the cells above the interior faces of an axis, a view.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import high, low
        >>> x = torch.tensor([[1.0, 4.0, 9.0]])
        >>> high(x, -1) - low(x, -1)
        tensor([[3., 5.]])
    """
    return x.narrow(axis, 1, x.shape[axis] - 1)


def around(faces: Sequence[Tensor]) -> Tensor:
    """Return the sum over the faces of every cell, `(*P, *grid)`.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear.grid_graph import around
        >>> around([torch.ones(1, 2)])  # three cells in a row
        tensor([[1., 2., 1.]])
    """
    d = len(faces)
    total: Tensor | float = 0.0
    for a, w in enumerate(faces):
        width = [0, 0] * (d - 1 - a)
        total = total + pad(w, [*width, 1, 0]) + pad(w, [*width, 0, 1])
    return total


def add_neighbours_(out: Tensor, faces: Sequence[Tensor], x: Tensor, sign: int) -> Tensor:
    """Add to every cell `sign` times the weighted values of its neighbours, in place.

    Args:
        out: Fresh memory `(..., *P, *grid)`: two passes per axis, and nothing is allocated.
        faces: Per axis the weights.
        x: `(..., *P, *grid)`.
        sign: 1 or -1.
    """
    for a, w in enumerate(faces):
        axis = a - len(faces)
        high(out, axis).addcmul_(w, low(x, axis), value=sign)
        low(out, axis).addcmul_(w, high(x, axis), value=sign)
    return out


def add_flows(out: Tensor, faces: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return `out` and the weighted differences of every cell to its neighbours, differentiable."""
    d = len(faces)
    for a, w in enumerate(faces):
        axis = a - d
        flow = w * (high(x, axis) - low(x, axis))
        width = [0, 0] * (d - 1 - a)
        out = out - pad(flow, [*width, 0, 1]) + pad(flow, [*width, 1, 0])
    return out


def check_graph(faces: Sequence[Tensor], shift: Tensor, unknown: Tensor) -> None:
    """Refuse weights that make no stencil; looks at their values.

    Raises:
        InvalidArgument: For weights that are negative or not finite, for a face or a shift at a
            cell that is no unknown, or for an unknown with a zero row.
    """
    weights = {f"faces[{a}]": w for a, w in enumerate(faces)} | {"shift": shift}
    for name, w in weights.items():
        bad = ~((w >= 0) & w.isfinite())
        if bool(bad.any()):
            raise InvalidArgument(
                f"{name} with {int(bad.sum())} weights that are negative or not finite",
                "weights >= 0: open face over density, and distances to surfaces above zero",
            )
    total = around(faces) + shift
    loose, empty = (total > 0) & ~unknown, unknown & (total == 0)
    if bool(loose.any()) or bool(empty.any()):
        raise InvalidArgument(
            f"{int(loose.sum())} cells that are joined and no unknowns, "
            f"{int(empty.sum())} unknowns joined to nothing",
            "faces between unknowns only, and no unknown without a face",
            "Type build_stencil(...), which drops both",
        )


def singular_components(
    faces: Sequence[Tensor], shift: Tensor, unknown: Tensor
) -> tuple[Tensor, Tensor]:
    """Return labels `(*P, *grid)` of connected components without a shift, and their sizes.

    Such a component makes a matrix singular, with the constant as null vector. Labels count from 1;
    cells of all others have label 0.

    Args:
        faces: Per axis `(*P, *grid)`, zero where nothing is joined.
        shift: `(*P, *grid)`.
        unknown: `(*P, *grid)` booleans.
    """
    d = len(faces)
    number = torch.arange(shift.numel()).reshape(shift.shape)
    ends = [
        (low(number, a - d)[w > 0], high(number, a - d)[w > 0])
        for a, w in enumerate(w.detach().cpu() for w in faces)
    ]
    rows, columns = (torch.cat([e[k] for e in ends]).numpy() for k in (0, 1))
    graph = sparse.coo_array(
        (np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(shift.numel(),) * 2
    )
    found, label = sparse.csgraph.connected_components(graph, directed=False)
    label = torch.from_numpy(label).long()
    fixed = torch.zeros(found, dtype=torch.bool)
    fixed[label[(shift.detach().cpu().flatten() > 0) | ~unknown.detach().cpu().flatten()]] = True
    new = torch.where(fixed, 0, (~fixed).cumsum(0))
    label = new[label]
    sizes = torch.bincount(label, minlength=int(new.max()) + 1 if found else 1)
    return label.reshape(shift.shape).to(shift.device), sizes.to(shift.device)


def without_means(v: Tensor, label: Tensor, sizes: Tensor) -> Tensor:
    """Return vectors `(..., n)` less their means over every component of `singular_components`.

    Args:
        v: `(..., n)`.
        label: Components `(n,)`, 0 for cells that keep their values.
        sizes: Cells per label.
    """
    sums = v.new_zeros(*v.shape[:-1], len(sizes)).index_add(-1, label, v)
    means = sums / sizes.clamp_min(1)
    means = torch.where(torch.arange(len(sizes), device=v.device) == 0, 0.0, means)
    return v - means[..., label]


def sparse_matrix(
    faces: Sequence[np.ndarray], diagonal: np.ndarray, unknown: np.ndarray
) -> sparse.csr_array:
    """Return one matrix over its unknowns, in the order of `x[unknown]`.

    Args:
        faces: Per axis the weights of the interior faces.
        diagonal: Over the grid.
        unknown: Over the grid, booleans.
    """
    n = int(unknown.sum())
    number = np.full(unknown.shape, -1, dtype=np.int64)
    number[unknown] = np.arange(n)
    rows, columns, values = [np.arange(n)], [np.arange(n)], [diagonal[unknown]]
    for a, w in enumerate(faces):
        one = np.moveaxis(np.moveaxis(number, a, 0)[:-1], 0, a)
        two = np.moveaxis(np.moveaxis(number, a, 0)[1:], 0, a)
        joined = w != 0
        i, j, w = one[joined], two[joined], w[joined]
        rows += [i, j]
        columns += [j, i]
        values += [-w, -w]
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.coo_array(entries, shape=(n, n)).tocsr()
