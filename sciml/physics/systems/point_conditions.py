"""Conditions between the two ends of a variable, and at one point; see `conditions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.arguments import count, shown, takes, text
from sciml.errors import InvalidArgument, InvalidType, did_you_mean
from sciml.physics.systems.boundary_pieces import KIND
from sciml.physics.systems.conditions import Condition, PointSet, read

if TYPE_CHECKING:
    from sciml.physics.systems.system import System


class Same(Condition):
    """A periodic condition: outputs agree at both ends of a variable, with some derivatives.

    It relates two points each, so optimizers that need the Jacobian row by row take the general
    route. `System.periodic` builds periodicity into the network instead.

    Args:
        variable: The variable whose ends meet.
        weight: Weight of each of its terms.
        points: Pairs per step.
        orders: Output to the order of the highest derivative that has to agree.

    Example:
        >>> from sciml.physics.systems import Same
        >>> ring = Same("x", u=1)  # u and u_x agree at both ends of x
        >>> ring.orders
        {'u': 1}
    """

    @takes(variable=text)
    def __init__(
        self,
        variable: str,
        *,
        weight: float | None = None,
        points: int | None = None,
        **orders: int,
    ) -> None:
        super().__init__(weight, points, {})
        for output, order in orders.items():
            if count(order):
                raise InvalidType(
                    f"Same({variable!r}, {output}={shown(order)})",
                    "the order of the highest derivative that agrees at both ends",
                    f"Write Same({variable!r}, {output}=1)",
                )
        self.variable, self.orders = variable, orders

    def check(self, system: System, name: str) -> None:
        """Refuse variables and outputs that there are not."""
        if self.variable not in system.region.variables:
            raise InvalidArgument(
                f"condition '{name}' in {self.variable}",
                "a variable of the domain",
                did_you_mean(self.variable, system.region.variables),
            )
        for key in self.orders:
            system.quantity(f"condition '{name}'", key)

    def sample(self, system: System, n: int, generator: torch.Generator) -> PointSet:
        """Return points in pairs: those at the low end, then those at the high end."""
        region = system.region
        low = region.sample(n, generator)
        at, high = region.variables.index(self.variable), low.clone()
        low[:, at], high[:, at] = region.low[at], region.high[at]
        return PointSet(torch.cat([low, high]))

    def residuals(
        self, system: System, name: str, p: PointSet, known: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return differences `(N / 2,)`."""
        found = {}
        for output, order in self.orders.items():
            for k in range(order + 1):
                key = f"{output}_{self.variable * k}" if k else output
                low, high = read(system, key, known, name).chunk(2)
                found[key] = high - low
        return found


class At(Condition):
    """A condition at one point.

    Args:
        weight: Weight of each of its terms.
        values: All variables of the domain, and values of outputs.

    Example:
        >>> from sciml.physics.systems import At, Interval, System
        >>> class Decay(System):
        ...     domain = Interval(0, 1)
        ...     conditions = {"start": At(x=0, u=1)}
        ...     def residual(self, u):
        ...         return u.x + u
        >>> Decay().term_names
        ('residual', 'start')
    """

    def __init__(self, *, weight: float | None = None, **values: Any) -> None:
        super().__init__(weight, None, values)
        self._given = dict(values)

    def check(self, system: System, name: str) -> None:
        """Take the coordinates out of the values."""
        variables = system.region.variables
        missing = [v for v in variables if v not in self._given]
        if missing:
            raise InvalidArgument(
                f"condition '{name}' at a point without {missing[0]}",
                f"{', '.join(f'{v}=...' for v in variables)} and an output",
            )
        for v in variables:
            if callable(self._given[v]):
                raise InvalidType(f"condition '{name}' at {v} = a function", "a number")
        self.values = {k: v for k, v in self._given.items() if k not in variables}
        self.x = torch.tensor([[float(self._given[v]) for v in variables]], dtype=KIND)
        super().check(system, name)
        if not bool(system.region.contains(self.x)):
            raise InvalidArgument(f"condition '{name}' at {self._given}", "a point of the domain")

    def sample(self, system: System, n: int, generator: torch.Generator) -> PointSet:
        """Return the point."""
        return PointSet(self.x.to(generator.device))
