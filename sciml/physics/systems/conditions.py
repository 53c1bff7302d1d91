"""Conditions of a system: on parts of the boundary, at the start, at points, from observations.

    On(domain.left, u=1, v=lambda y: 4 * y * (1 - y))    values, per output
    On(domain.right, u_n=0)                              a derivative: Neumann
    On(domain.top, lambda u: u.n + 2 * (u - 5))          anything: zero where it holds
    Initial(u=lambda x: torch.sin(x), u_t=0)             at the start of time
    Same("x", u=1)                                       periodic: u and u.x agree at both ends
    At(x=0, y=0, p=0)                                    at one point
    Observed("probes.csv", sigma=0.01)                   columns named like variables and outputs

Each makes one loss term per value, the mean of its squared residuals times `weight`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciml.arguments import function, maybe, number, shown, takes
from sciml.errors import InvalidArgument, InvalidType, did_you_mean
from sciml.physics.systems.boundary_pieces import Part, part
from sciml.physics.systems.named_arguments import call
from sciml.physics.systems.system_fields import Field, rows
from sciml.physics.systems.unknowns import Unknown

if TYPE_CHECKING:
    from sciml.physics.systems.system import System

CONDITION_WEIGHT = 10.0  # of conditions that do not say: an equation weighs 1


@dataclass
class PointSet:
    """Points at which an equation or a condition is asked.

    Attributes:
        x: All variables `(N, D)`.
        normals: Unit outward normals in space `(N, d)`, or None.
        data: Observed values `(N,)` by the name of what was observed.

    Example:
        >>> import torch
        >>> from sciml.physics.systems import PointSet
        >>> points = PointSet(torch.rand(5, 2)).to(torch.float64)
        >>> points.x.dtype, tuple(points.x.shape)
        (torch.float64, (5, 2))
    """

    x: Tensor
    normals: Tensor | None = None
    data: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make room for what depends on the points alone."""
        self.cache: dict = {}

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.x)

    def map(self, function: Callable[[Tensor], Tensor]) -> PointSet:
        """Return points with `function` applied to every tensor."""
        normals = None if self.normals is None else function(self.normals)
        data = {name: function(value) for name, value in self.data.items()}
        return PointSet(function(self.x), normals, data)

    def to(self, *target: torch.device | torch.dtype | str) -> PointSet:
        """Return points moved to a device and/or cast to a dtype."""
        return self.map(lambda value: value.to(*target))

    def __getitem__(self, index: slice | Tensor) -> PointSet:
        """Return the selected points."""
        return self.map(lambda value: value[index])


class Condition:
    """Something that a solution satisfies at some points.

    Args:
        weight: Weight of each of its terms; `CONDITION_WEIGHT` by default.
        points: Points per step; None for the number that all conditions have by default.
        values: What is prescribed: a number or a function, by output or `output_derivative`.

    Raises:
        InvalidArgument: For a weight that is negative or infinite.

    Example:
        >>> from sciml.physics.systems import Condition, Disk, On
        >>> disk = Disk((0.0, 0.0), 1.0)
        >>> wall = On(disk.boundary, u=0, weight=10.0)
        >>> isinstance(wall, Condition), sorted(wall.labels())
        (True, ['boundary'])
    """

    def __init__(self, weight: float | None, points: int | None, values: Mapping[str, Any]) -> None:
        weight = CONDITION_WEIGHT if weight is None else weight
        if not (isinstance(weight, int | float) and 0 <= weight < float("inf")):
            raise InvalidArgument(f"a condition with weight={weight}", "a number of at least 0")
        if points is not None and (not isinstance(points, int) or not 1 <= points < 2**31):
            raise InvalidArgument(f"a condition with points={points}", "a positive integer")
        for key, value in values.items():
            _check_value(type(self).__name__, key, value)
        self.weight, self.points, self.values = float(weight), points, dict(values)

    def labels(self) -> frozenset[str]:
        """Return the labels of the boundary that it names."""
        return frozenset()

    def check(self, system: System, name: str) -> None:
        """Refuse what does not fit the system."""
        for key in self.values:
            system.quantity(f"condition '{name}'", key)

    def sample(self, system: System, n: int, generator: torch.Generator) -> PointSet:
        """Return about `n` points, or the fixed ones it has."""
        raise NotImplementedError

    def residuals(
        self, system: System, name: str, p: PointSet, known: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return residuals `(N,)` by what they are about.

        Args:
            system: The system.
            name: Name of the condition, for messages.
            p: From `sample`.
            known: Coordinates, outputs, unknowns by name.
        """
        found = {}
        for key, wanted in self.values.items():
            got = read(system, key, known, name)
            if callable(wanted):
                title = f"{key} of condition '{name}'"
                wanted = rows(title, call(title, wanted, known), p.x)
            found[key] = got - wanted
        return found


def _check_value(title: str, key: str, value: Any) -> None:
    """Refuse what no condition can prescribe."""
    if isinstance(value, Unknown):
        raise InvalidType(
            f"{title}({key}=...) with an Unknown",
            "a number or a function of coordinates and unknowns",
            f"With c = Unknown(...) in the class, write {title}({key}=lambda c: c)",
        )
    if callable(value) and not isinstance(value, type):
        return
    one = isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.size == 1
    if not one and number(value):
        raise InvalidType(
            f"{title}({key}={shown(value)})",
            "a number or a function of coordinates, one value per point",
            f"Write {key}=0, or {key}=lambda x: torch.sin(x)",
        )
    if not math.isfinite(float(value)):
        raise InvalidArgument(f"{title}({key}={float(value)})", "a finite number")


def read(system: System, key: str, known: Mapping[str, Any], name: str) -> Tensor:
    """Return the values `(N,)` of an output or `output_derivative`."""
    output, derivative = system.quantity(f"condition '{name}'", key)
    quantity = known[output]
    if derivative:
        quantity = getattr(quantity, derivative)
    return quantity.value if isinstance(quantity, Field) else quantity


class On(Condition):
    """A condition on a part of the boundary.

    Args:
        where: Part of the domain, such as `domain.left`, `domain.left | domain.top`,
            `domain.boundary`, `domain.rest`, `domain.initial`.
        operator: Function of outputs and coordinates that is zero where the condition holds; may
            return a dictionary of several.
        weight: Weight of each of its terms.
        points: Points per step.
        values: See the top of this file.

    Example:
        >>> from sciml.physics.systems import On, Rectangle, System
        >>> class Plate(System):
        ...     domain = Rectangle((0, 0), (1, 1))
        ...     conditions = {
        ...         "hot": On(domain.left, u=lambda y: y * (1 - y)),
        ...         "insulated": On(domain.rest, u_n=0),
        ...     }
        ...     def residual(self, u):
        ...         return u.xx + u.yy
        >>> Plate().term_names
        ('residual', 'hot', 'insulated')
    """

    @takes(operator=maybe(function))
    def __init__(
        self,
        where: Part,
        operator: Callable | None = None,
        *,
        weight: float | None = None,
        points: int | None = None,
        **values: Any,
    ) -> None:
        super().__init__(weight, points, values)
        if not isinstance(where, Part):
            raise InvalidArgument(
                f"On({type(where).__name__}, ...)",
                "a part of the domain's boundary",
                "Write On(domain.left, u=0), or On(domain.boundary, u=0)",
            )
        if operator is None and not values:
            raise InvalidArgument(
                f"On({where}) of nothing", "an output or an operator", "On(.., u=0)"
            )
        self.where, self.operator = where, operator

    def labels(self) -> frozenset[str]:
        """Return the labels of its part."""
        return self.where.labels

    def check(self, system: System, name: str) -> None:
        """Refuse a part that the domain does not have."""
        super().check(system, name)
        known = (*system.region.labels, "boundary", "rest")
        for label in self.where.labels:
            if label not in known:
                raise InvalidArgument(
                    f"condition '{name}' on the part '{label}'",
                    f"a part of the domain of {type(system).__name__}",
                    did_you_mean(label, known),
                )
        ends = self.where.labels & {"initial", "final"}
        if ends and self.where.labels - ends:
            raise InvalidArgument(
                f"condition '{name}' on {self.where}", "ends of time or parts of the boundary alone"
            )
        if not ends and not system.pieces(self):
            raise InvalidArgument(
                f"condition '{name}' on {self.where}, which is empty",
                "a part of the boundary that no other condition has taken",
            )

    def sample(self, system: System, n: int, generator: torch.Generator) -> PointSet:
        """Return points of the part."""
        ends = sorted(self.where.labels & {"initial", "final"})
        if ends:
            found = [system.region.sample_end(end, n, generator) for end in ends]
            return PointSet(torch.cat(found))
        return PointSet(*system.region.sample_part(system.pieces(self), n, generator))

    def residuals(
        self, system: System, name: str, p: PointSet, known: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return what is prescribed and what the operator says."""
        found = super().residuals(system, name, p, known)
        if self.operator is not None:
            title = f"condition '{name}'"
            found |= named(title, call(title, self.operator, known), p.x)
        return found


class Initial(On):
    """A condition at the start of time; `u_t=...` prescribes a velocity.

    Example:
        >>> from sciml.physics.systems import Initial, Interval, On, System, Time
        >>> class String(System):
        ...     domain = Interval(0, 1) * Time(0, 1)
        ...     conditions = {
        ...         "start": Initial(u=lambda x: x * (1 - x), u_t=0),
        ...         "ends": On(domain.boundary, u=0),
        ...     }
        ...     def residual(self, u):
        ...         return u.tt - u.xx
        >>> String().term_names
        ('residual', 'start.u', 'start.u_t', 'ends')
    """

    def __init__(
        self, *, weight: float | None = None, points: int | None = None, **values: Any
    ) -> None:
        super().__init__(part("initial"), weight=weight, points=points, **values)


def named(title: str, result: Any, x: Tensor) -> dict[str, Tensor]:
    """Return what an equation or operator returned as residuals `(N,)` by name.

    One tensor has the empty name; tuples are numbered.
    """
    if isinstance(result, tuple | list):
        result = {str(k): part for k, part in enumerate(result)}
    if not isinstance(result, Mapping):
        return {"": rows(title, result, x)}
    return {key: rows(f"{title}, '{key}'", value, x) for key, value in result.items()}
