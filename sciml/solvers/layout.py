"""How a tensor of unknowns splits into independent problems.

A solver sees one tensor and must never mix two problems: dots, norms and step sizes are per
problem. A layout supplies these reductions. `Rows` serves a dense batch `(B, n)` (or one problem,
`Rows(0)`); `Segments` serves the node vector `(N, F)` of a batch of graphs with its segment index.
Solvers use nothing else, so the same Anderson or GMRES runs on both.

Shapes: `x` is the unknown, P the shape of the problems (`(B,)`, `()`, `(G,)`, ...); a coefficient
has shape P; a history is `(m, *x.shape)` with the newest entries in any order.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from sciml.arguments import count as count_
from sciml.arguments import flag, integers, takes
from sciml.errors import InvalidArgument, InvalidType
from sciml.shapes import no_outer_products
from sciml.solvers.norms import in_range, norm_of


class Rows:
    """Problems along the leading axes: `x` is `(*P, *unknown)`.

    Args:
        ndim: Number of leading axes that count problems; 0 is one single problem.

    Example:
        >>> import torch
        >>> from sciml.solvers import Rows, root
        >>> a = torch.tensor([[2.0, 9.0], [16.0, 25.0]])
        >>> found = root(lambda x: x**2 - a, torch.ones(2, 2), layout=Rows(2), on_failure="raise")
        >>> tuple(found.status.shape)  # two leading axes: four problems of one unknown each
        (2, 2)
    """

    def __init__(self, ndim: int = 1) -> None:
        self.ndim = ndim

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"Rows({self.ndim})"

    def check(self, x: Tensor) -> None:
        """Refuse an unknown that does not fit.

        Raises:
            InvalidArgument: If `x` has fewer axes than problems.
        """
        if x.dim() < self.ndim:
            raise InvalidArgument(
                f"an unknown of shape {tuple(x.shape)} with layout {self!r}",
                f"at least {self.ndim} leading axes that count problems",
            )

    def problems(self, x: Tensor) -> torch.Size:
        """Return P."""
        return x.shape[: self.ndim]

    def pack(self, x: Tensor) -> Tensor:
        """Return `x` as `(*P, n)`."""
        lead = x.shape[: self.ndim]
        return x.reshape(*lead, math.prod(x.shape[self.ndim :]))

    def unpack(self, v: Tensor, like: Tensor) -> Tensor:
        """Return `(*P, n)` in the shape of `like`."""
        return v.reshape(like.shape)

    def padding(self, x: Tensor) -> Tensor | None:
        """Return which entries of `pack(x)` stand for no unknown, `(*P, n)`; None if none do."""
        return None

    def basis(self, x: Tensor) -> Tensor:
        """Return unit vectors `(n, *x.shape)`; entry k has a 1 at unknown k of every problem."""
        n = math.prod(x.shape[self.ndim :])
        eye = torch.eye(n, dtype=x.dtype, device=x.device)
        eye = eye.reshape(n, *(1,) * self.ndim, *x.shape[self.ndim :])
        return eye.expand(n, *x.shape)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the inner product per problem."""
        return (self.pack(x) * self.pack(y)).sum(-1)

    def norm(self, x: Tensor, p: float = 2.0) -> Tensor:
        """Return the p-norm per problem, of entries of any size; p may be inf."""
        v = self.pack(x)
        if p == 2:
            return norm_of(v)
        if v.shape[-1] == 0:
            return v.new_zeros(v.shape[:-1])
        return torch.linalg.vector_norm(v, p, dim=-1)

    def spread(self, c: Tensor, x: Tensor) -> Tensor:
        """Return a coefficient in a shape that multiplies `x`."""
        return c.reshape(c.shape + (1,) * (x.dim() - self.ndim))

    def dots(self, history: Tensor, x: Tensor) -> Tensor:
        """Return `(m, *P)`, the inner products of a history with `x`."""
        m = history.shape[0]
        packed = history.reshape(m, *x.shape[: self.ndim], -1) if x.numel() else history.flatten(1)
        if not x.numel():
            return history.new_zeros(m, *self.problems(x))
        if x.device.type == "cpu":  # einsum makes m B tiny matrix products of it, four times slower
            return torch.linalg.vecdot(packed, self.pack(x))
        return torch.einsum("m...n,...n->m...", packed, self.pack(x))

    def combine(self, c: Tensor, history: Tensor) -> Tensor:
        """Return the sum of `c_k history_k` for c `(m, *P)`."""
        if not history.numel():
            return history.sum(0)
        m, shape = history.shape[0], history.shape[1:]
        packed = history.reshape(m, *shape[: self.ndim], -1)
        return torch.einsum("m...,m...n->...n", c, packed).reshape(shape)

    def stacked(self) -> Rows:
        """Return the layout of unknowns with one more leading axis of problems."""
        return Rows(self.ndim + 1)


class Segments:
    """Problems are graphs: row i of `x` `(N, *F)` belongs to problem `index[i]`.

    Args:
        index: `(N,)` integers in `[0, count)`, as `Batch.batch` of torch-geometric; any order.
        count: Number of graphs G; graphs without nodes are allowed and count as solved.
        per_column: Whether the columns of `x` `(N, H)` are independent too; then P is `(G, H)`.

    Raises:
        InvalidType: If `index` is not a vector of integers.
        InvalidArgument: If an entry lies outside `[0, count)`.

    Example:
        >>> import torch
        >>> from sciml.solvers import Segments, root
        >>> graph = torch.tensor([0, 0, 1])  # nodes 0 and 1 belong to graph 0, node 2 to graph 1
        >>> a = torch.tensor([[1.0], [4.0], [9.0]])
        >>> found = root(
        ...     lambda x: x**2 - a, torch.ones(3, 1), layout=Segments(graph, 2), on_failure="raise"
        ... )
        >>> [round(v, 3) for v in found.value[:, 0].tolist()], tuple(found.status.shape)
        ([1.0, 2.0, 3.0], (2,))
    """

    @takes(index=integers, count=count_, per_column=flag)
    def __init__(self, index: Tensor, count: int, *, per_column: bool = False) -> None:
        if index.dim() != 1:
            raise InvalidType(
                f"a segment index of dtype {index.dtype} and shape {tuple(index.shape)}",
                "a vector of integers, one per node",
            )
        low, high = torch.stack(torch.aminmax(index)).tolist() if index.numel() else (0, -1)
        if low < 0 or high >= count:
            raise InvalidArgument(
                f"a segment index from {low} to {high} with count={count}",
                f"entries from 0 to {count - 1}",
            )
        self.index, self.count, self.per_column = index.long(), int(count), per_column
        self.ndim = 0  # leading axes in front of the nodes, added by `stacked`
        self._slots: tuple[Tensor, int] | None = None

    def __repr__(self) -> str:
        """Return what it is, without the index."""
        return f"Segments({len(self.index)} nodes in {self.count} graphs)"

    def check(self, x: Tensor) -> None:
        """Refuse an unknown that does not fit.

        Raises:
            InvalidArgument: If the rows of `x` are not the nodes, or `per_column` meets `(N,)`.
        """
        need = 2 if self.per_column else 1
        tail = x.shape[self.ndim :]
        if len(tail) < need or tail[0] != len(self.index) or (self.per_column and len(tail) != 2):
            raise InvalidArgument(
                f"an unknown of shape {tuple(x.shape)} with {self!r}",
                f"shape ({len(self.index)}, {'H' if self.per_column else '...'})",
            )

    def problems(self, x: Tensor) -> torch.Size:
        """Return P."""
        columns = x.shape[-1:] if self.per_column else ()
        return torch.Size((*x.shape[: self.ndim], self.count, *columns))

    def _rows(self, x: Tensor, ndim: int) -> Tensor:
        """Return the sum over what is not a problem: `(..., N)` or `(..., N, H)`."""
        if self.per_column or x.dim() == ndim + 1:
            return x
        return x.flatten(ndim + 1).sum(-1)

    def _sum(self, x: Tensor, ndim: int) -> Tensor:
        x = self._rows(x, ndim)
        if self.count == 1:  # one large graph: here and below nothing is sorted into segments
            return x.sum(ndim, keepdim=True)
        shape = (*x.shape[:ndim], self.count, *x.shape[ndim + 1 :])
        return x.new_zeros(shape).index_add_(ndim, self.index, x)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the inner product per problem."""
        return self._sum(x * y, self.ndim)

    def norm(self, x: Tensor, p: float = 2.0) -> Tensor:
        """Return the p-norm per problem, of entries of any size; p is 1, 2 or inf."""
        if p == 2:

            def again(unit: Tensor) -> Tensor:
                scaled = x * self.spread(unit, x)
                return self.dot(scaled, scaled).sqrt()

            return in_range(self.dot(x, x).sqrt(), lambda: self.norm(x, torch.inf), again)
        if p == 1:
            return self._sum(x.abs(), self.ndim)
        rows = x.abs()
        if not self.per_column and x.dim() > self.ndim + 1:
            rows = rows.flatten(self.ndim + 1)
            rows = rows.amax(-1) if rows.shape[-1] else rows.sum(-1)
        shape = (*rows.shape[: self.ndim], self.count, *rows.shape[self.ndim + 1 :])
        if self.count == 1 and len(self.index):
            return rows.amax(self.ndim, keepdim=True)
        where = self.index.reshape(-1, *(1,) * (rows.dim() - self.ndim - 1)).expand(rows.shape)
        return rows.new_zeros(shape).scatter_reduce(self.ndim, where, rows, "amax")

    def spread(self, c: Tensor, x: Tensor) -> Tensor:
        """Return a coefficient in a shape that multiplies `x`."""
        rows = c if self.count == 1 else c.index_select(self.ndim, self.index)
        return rows.reshape(rows.shape + (1,) * (x.dim() - rows.dim()))

    def dots(self, history: Tensor, x: Tensor) -> Tensor:
        """Return `(m, *P)`, the inner products of a history with `x`."""
        return self._sum(history * x, self.ndim + 1)

    def combine(self, c: Tensor, history: Tensor) -> Tensor:
        """Return the sum of `c_k history_k` for c `(m, *P)`."""
        rows = c if self.count == 1 else c.index_select(self.ndim + 1, self.index)
        rows = rows.reshape(rows.shape + (1,) * (history.dim() - rows.dim()))
        return (rows * history).sum(0)

    def slots(self) -> tuple[Tensor, int]:
        """Return the place of every node within its graph `(N,)`, and the largest graph's size."""
        if self._slots is None:
            order = torch.argsort(self.index, stable=True)
            sizes = torch.bincount(self.index, minlength=self.count)
            starts = sizes.cumsum(0) - sizes
            place = torch.empty_like(self.index)
            place[order] = torch.arange(len(order), device=order.device) - starts[self.index[order]]
            self._slots = place, int(sizes.max()) if self.count else 0
        return self._slots

    def pack(self, x: Tensor) -> Tensor:
        """Return `x` padded to the largest graph, `(*P, n)`."""
        place, size = self.slots()
        lead, rest = x.shape[: self.ndim], x.shape[self.ndim + 1 :]
        where = self.index * size + place
        out = x.new_zeros(*lead, self.count * size, *rest).index_copy(self.ndim, where, x)
        out = out.reshape(*lead, self.count, size, *rest)
        return out.transpose(-1, -2) if self.per_column else out.flatten(self.ndim + 1)

    def unpack(self, v: Tensor, like: Tensor) -> Tensor:
        """Return `(*P, n)` in the shape of `like`."""
        place, size = self.slots()
        lead, rest = like.shape[: self.ndim], like.shape[self.ndim + 1 :]
        v = v.transpose(-1, -2) if self.per_column else v
        v = v.reshape(*lead, self.count * size, *rest)
        return v.index_select(self.ndim, self.index * size + place)

    def padding(self, x: Tensor) -> Tensor | None:
        """Return which entries of `pack(x)` stand for no unknown, `(*P, n)`."""
        return self.pack(torch.ones_like(x)) == 0

    def basis(self, x: Tensor) -> Tensor:
        """Return unit vectors `(n, *x.shape)`; entry k has a 1 at unknown k of every problem."""
        place, size = self.slots()
        rest = x.shape[self.ndim + 1 :]
        width = 1 if self.per_column else math.prod(rest)
        number = place[:, None] * width + torch.arange(width, device=place.device)
        number = number.expand(len(place), rest[0]) if self.per_column else number
        number = number.reshape(len(place), *rest)
        units = torch.arange(size * width, device=place.device)
        units = units.reshape(-1, *(1,) * number.dim()) == number
        units = units.reshape(len(units), *(1,) * self.ndim, *number.shape)
        return units.to(x.dtype).expand(len(units), *x.shape)

    def stacked(self) -> Segments:
        """Return the layout of unknowns with one more leading axis of problems."""
        out = object.__new__(Segments)
        out.__dict__.update(self.__dict__)
        out.ndim = self.ndim + 1
        return out


Layout = Rows | Segments


def without_mixing(name: str, x: Tensor, layout: Layout) -> AbstractContextManager:
    """Return a context in which problems `(B, ...)` of x must not be paired by broadcasting.

    Entering it costs microseconds per operation: for the first call of a user's function.
    """
    if not isinstance(layout, Rows) or layout.ndim != 1 or len(x) < 2:
        return nullcontext()
    return no_outer_products(name, len(x), of=x)
