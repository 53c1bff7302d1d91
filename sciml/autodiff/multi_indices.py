"""Multi-indices of the derivatives of functions of several variables, and what they combine to.

A `Lattice` holds every index below each of its members: for u_t, u_x and u_xx of u(x, t) these are
1, x, t, xx. Products and compositions of Taylor polynomials are sums over pairs of its members,
which are listed once per lattice.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, cached_property

from sciml.autodiff import elementwise
from sciml.errors import InvalidArgument

MultiIndex = tuple[int, ...]


class Lattice:
    """A set of multi-indices with everything below them, by rising degree; the first is zero.

    Args:
        wanted: Multi-indices of one length D.

    Raises:
        InvalidArgument: For derivatives beyond order four, which the rules do not have.
    """

    def __init__(self, wanted: Iterable[MultiIndex]) -> None:
        found: set[MultiIndex] = set()
        for index in wanted:
            if sum(index) > elementwise.MAX_ORDER:
                raise InvalidArgument(
                    f"a derivative of order {sum(index)}",
                    f"order {elementwise.MAX_ORDER} at most",
                    "Write the equation as a system: another output for an inner derivative",
                )
            found |= _below(index)
        self.indices: tuple[MultiIndex, ...] = tuple(sorted(found, key=lambda a: (sum(a), a)))
        self.position = {index: k for k, index in enumerate(self.indices)}
        self.degree = max(map(sum, self.indices))

    def __len__(self) -> int:
        """Return the number of coefficients C."""
        return len(self.indices)

    @cached_property
    def first(self) -> int:
        """Position behind the first derivatives, which follow the value."""
        return 1 + sum(sum(index) == 1 for index in self.indices)

    @cached_property
    def pairs(self) -> tuple[tuple[int, int, int], ...]:
        """Positions (a, b, a - b) of all b <= a: the terms of a product."""
        at = self.position
        return tuple((at[a], at[b], at[_minus(a, b)]) for a in self.indices for b in _below(a))

    @cached_property
    def crossed(self) -> tuple[tuple[tuple[int, int, float], ...], ...]:
        """For every a but zero the terms (b, a - b, weight) of a square without b = 0 and b = a."""
        at, found = self.position, []
        for a in self.indices[1:]:
            pairs = [(at[b], at[_minus(a, b)]) for b in _below(a)]
            inner = sorted((i, j) for i, j in pairs if 0 < i <= j)
            found.append(tuple((i, j, 1.0 if i == j else 2.0) for i, j in inner))
        return tuple(found)

    @cached_property
    def chain(self) -> tuple[tuple[tuple[float, int, int], ...], ...]:
        """For every a but zero the terms (b_i / a_i, b, a - b) of a function of a jet."""
        at, found = self.position, []
        for a in self.indices[1:]:
            # the variable of lowest degree in a: fewest terms
            i = min((i for i, k in enumerate(a) if k), key=lambda i: a[i])
            below = sorted((b for b in _below(a) if b[i]), key=lambda b: at[b])
            found.append(tuple((b[i] / a[i], at[b], at[_minus(a, b)]) for b in below))
        return tuple(found)


@cache
def lattice_of(wanted: frozenset[MultiIndex]) -> Lattice:
    """Return the lattice of some multi-indices, the same object for the same ones."""
    return Lattice(wanted)


def _below(a: MultiIndex) -> set[MultiIndex]:
    found = {()}
    for k in a:
        found = {(*b, j) for b in found for j in range(k + 1)}
    return found


def _minus(a: MultiIndex, b: MultiIndex) -> MultiIndex:
    return tuple(j - k for j, k in zip(a, b, strict=True))
