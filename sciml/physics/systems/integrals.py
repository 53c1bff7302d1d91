"""Integrals in equations and conditions: Volterra and Fredholm terms, totals, by quadrature.

    class Volterra(System):
        domain = Interval(0, 5)
        memory = Integral(lambda u, s, x: torch.exp(s - x) * u, "x", 0, lambda x: x)

        def residual(self, u, memory):
            return u.x + u - memory

At every row with coordinates x the integral

    int_{low(x)}^{high(x)} g(u(s), s, x) ds  ~  sum_k w_k g(u(s_k), s_k, x)

runs over one variable; the others stay as they are in the row. Nodes are those of Gauss and
Legendre on equal panels, exact for polynomials of degree 2 `nodes` - 1 on each. The network is
asked at all of them, so a row depends on more samples than its own: optimizers that need the
Jacobian row by row notice and take the exact, slower route.

Reference: Lu et al. 2021, "DeepXDE", SIAM Review 63, section 2.6 (integro-differential equations).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciml.autodiff.multi_indices import MultiIndex
from sciml.errors import InvalidArgument, InvalidType, did_you_mean
from sciml.physics.systems.conditions import PointSet
from sciml.physics.systems.named_arguments import call, coordinates
from sciml.physics.systems.system_fields import Field, rows
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.physics.systems.system import System

Reader = Callable[[str], Callable[[MultiIndex], Tensor]]  # output -> multi-index -> rows


@typed
class Integral:
    """An integral over one variable of the domain, written as an attribute of a system's class.

    Args:
        integrand: Function g of what it asks for by name: outputs, taken at the node with all their
            derivatives; the node itself, called `node`; coordinates and unknowns of the row.
        variable: The variable that is integrated over.
        low: Lower end: a number, or a function of coordinates of the row.
        high: Upper end.
        node: Name of the integrated variable in g.
        nodes: Nodes per panel.
        panels: Equal parts of the way from low to high.

    Raises:
        InvalidArgument, InvalidType: For an integrand that is no function, or sizes below one.

    Example:
        >>> from sciml.physics.systems import At, Integral, Interval, System
        >>> class Volterra(System):  # u' = - integral of u from 0 to x
        ...     domain = Interval(0, 1)
        ...     conditions = {"start": At(x=0, u=1)}
        ...     memory = Integral(lambda u: u, "x", 0.0, lambda x: x)
        ...     def residual(self, u, memory):
        ...         return u.x + memory
        >>> sorted(Volterra().integrals)
        ['memory']
    """

    def __init__(
        self,
        integrand: Callable,
        variable: str,
        low: float | Callable,
        high: float | Callable,
        *,
        node: str = "s",
        nodes: int = 16,
        panels: int = 1,
    ) -> None:
        if not callable(integrand):
            raise InvalidType(
                f"Integral({type(integrand).__name__}, ...)",
                "a function of outputs at the node",
                "Write Integral(lambda u: u**2, 'x', 0, 1)",
            )
        for name, value in {"nodes": nodes, "panels": panels}.items():
            if not isinstance(value, int) or value < 1:
                raise InvalidArgument(f"an Integral with {name}={value}", "a positive integer")
        self.integrand, self.variable, self.low, self.high = integrand, variable, low, high
        self.node, self.name = node, ""
        z, w = np.polynomial.legendre.leggauss(nodes)
        start = np.arange(panels)[:, None]
        self._at = torch.as_tensor(((start + (1 + z) / 2) / panels).reshape(-1))  # in [0, 1]
        self._weights = torch.as_tensor(np.tile(w / 2 / panels, panels))

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the name of the attribute."""
        self.name = name

    def __get__(self, system: object, owner: type) -> Integral:
        """Return the integral; its value is what functions that ask for its name are given.

        Raises:
            InvalidArgument: Where it is read from the instance, which has no points.
        """
        if system is None:
            return self
        raise InvalidArgument(
            f"self.{self.name} of {owner.__name__}",
            "an integral asked for by its name",
            f"Write def residual(self, u, {self.name}): and use {self.name}",
        )

    def check(self, system: System) -> None:
        """Refuse what does not fit the system."""
        names = system.region.variables
        if self.variable not in names:
            raise InvalidArgument(
                f"the integral '{self.name}' over {self.variable}",
                "a variable of the domain",
                did_you_mean(self.variable, names),
            )
        if self.node in (*names, *system.outputs, *system.unknowns):
            raise InvalidArgument(
                f"the integral '{self.name}' with node={self.node!r}, which is taken",
                "a name of its own for the variable under the integral",
            )

    def value(self, system: System, p: PointSet, read_at: Callable[[PointSet], Reader]) -> Tensor:
        """Return the integral at every row `(N,)`.

        Args:
            system: The system.
            p: The rows.
            read_at: Returns the outputs at the nodes, a set of points `(M, D)`.
        """
        places = self._places(system, p)
        n, q = len(p), len(self._at)
        at = places.x.shape[0] // q  # n, or 1 where all rows share their nodes
        reader, where = read_at(places), system.region.variables.index(self.variable)

        def spread(output: str) -> Callable[[MultiIndex], Tensor]:
            read = reader(output)
            if at == n:
                return read
            return lambda index: read(index).expand(n, q).reshape(-1)

        x = p.x.repeat_interleave(q, 0)
        nodes = places.x[:, where]
        known: dict[str, Any] = coordinates(x, system.names, None)
        known[self.node] = nodes if at == n else nodes.expand(n, q).reshape(-1)
        known |= {k: Field(k, spread(k), system.names) for k in system.outputs}
        known |= {name: constant() for name, constant in system.unknowns.items()}
        title = f"the integrand of '{self.name}'"
        g = rows(title, call(title, self.integrand, known), x).view(n, q)
        low, high = self._ends(system, p)
        return (g @ self._weights.to(g)) * (high - low)

    def _ends(self, system: System, p: PointSet) -> tuple[Tensor, Tensor]:
        found = []
        for label, end in (("low", self.low), ("high", self.high)):
            title = f"{label} of the integral '{self.name}'"
            if callable(end):
                end = call(title, end, coordinates(p.x, system.names, None))
            found.append(rows(title, end, p.x))
        return found[0], found[1]

    def _places(self, system: System, p: PointSet) -> PointSet:
        """Return the nodes of all rows, row by row; those of one row where all have the same."""
        key = ("integral", self.name)
        if key in p.cache:
            return p.cache[key]
        low, high = self._ends(system, p)
        alone = len(system.region.variables) == 1
        m = 1 if alone and not callable(self.low) and not callable(self.high) else len(p)
        at = self._at.to(p.x)
        x = p.x[:m].repeat_interleave(len(at), 0)
        where = system.region.variables.index(self.variable)
        nodes = low[:m, None] + (high - low)[:m, None] * at
        columns = list(x.unbind(1))
        columns[where] = nodes.reshape(-1)
        x = torch.stack(columns, 1)
        outside = ~system.region.contains(x)
        if bool(outside.any()):
            first = float(x[int(outside.nonzero()[0]), where])
            raise InvalidArgument(
                f"the integral '{self.name}' asks for {self.variable}={first:.4g}, outside the "
                "domain",
                "ends between which the network is trained",
            )
        p.cache[key] = PointSet(x)
        return p.cache[key]


def integrals_of(system: System) -> Mapping[str, Integral]:
    """Return the integrals of a system's class by name."""
    found = {}
    for cls in reversed(type(system).__mro__):
        found |= {k: v for k, v in vars(cls).items() if isinstance(v, Integral)}
    return found
