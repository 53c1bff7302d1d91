"""What a user's function is given: the arguments that it asks for by their names.

Outputs are `Field`, coordinates and normals tensors `(N,)`, unknown constants numbers in a tensor,
integrals tensors `(N,)` that are computed only where somebody asks for them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sciml.errors import InvalidArgument, did_you_mean
from sciml.physics.systems.system_fields import DerivativeNames, Field
from sciml.physics.systems.user_errors import explained

if TYPE_CHECKING:
    from sciml.physics.systems.conditions import PointSet
    from sciml.physics.systems.integrals import Reader
    from sciml.physics.systems.system import System


class Known(dict):
    """What functions may ask for, by name; a `Later` is computed when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        """Return what has this name."""
        value = super().__getitem__(name)
        if isinstance(value, Later):
            value = self[name] = value.compute()
        return value


class Later:
    """A value that is computed if somebody asks for it.

    Args:
        compute: Returns it.
    """

    def __init__(self, compute: Callable[[], Any]) -> None:
        self.compute = compute


@functools.cache
def asked(function: Callable) -> tuple[tuple[str, bool], ...]:
    """Return the names of a function's arguments, and whether each may be left out."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(
        (p.name, p.default is not p.empty)
        for p in inspect.signature(function).parameters.values()
        if p.kind not in kinds
    )


def call(title: str, function: Callable, known: Mapping[str, Any]) -> Any:
    """Return a user's function of the arguments it asks for by name.

    Args:
        title: The function as its author knows it.
        function: What he wrote.
        known: What there is, by name.

    Raises:
        InvalidArgument: For a name that there is not.
        InvalidArgument, InvalidType: For what Python said less clearly, see `user_errors`.
    """
    # bound methods are new objects at every access: their functions are the key
    names = asked(getattr(function, "__func__", function))
    names = names[1:] if hasattr(function, "__self__") else names
    given = {}
    for name, optional in names:
        if name in known:
            given[name] = known[name]
        elif not optional:
            raise InvalidArgument(
                f"{title} asks for an argument '{name}'",
                "names of coordinates, outputs, normals or unknowns",
                did_you_mean(name, known),
            )
    try:
        return function(**given)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        said = explained(title, function, error, given)
        if said is None:
            raise
        raise said from error


def coordinates(x: Tensor, names: DerivativeNames, normals: Tensor | None) -> dict[str, Tensor]:
    """Return the columns of points by name, all of space as `position` `(N, d)`, normals nx, ny."""
    found = dict(zip(names.variables, x.unbind(1), strict=True))
    found["position"] = x[:, : len(names.space)]
    if normals is not None:
        pairs = zip(names.space, normals.unbind(1), strict=True)
        found |= {f"n{v}": column for v, column in pairs}
    return found


def known_values(
    system: System,
    p: PointSet,
    read: Reader,
    read_at: Callable[[str, PointSet], Reader] | None = None,
    lap: Callable[[str], Callable[[], Tensor]] | None = None,
) -> dict:
    """Return all that functions may ask for, by name.

    Args:
        system: The system.
        p: The points.
        read: Returns, for an output, what returns its derivatives `(N,)`.
        read_at: Returns the same at the nodes of an integral, given its name and the nodes; None
            where no function asks for integrals.
        lap: Returns, for an output, what returns its Laplacian; None for the sum of its second
            derivatives.
    """

    def field(k: str) -> Field:
        return Field(k, read(k), system.names, p.normals, lap=lap and lap(k))

    fields = {k: field(k) for k in system.outputs}
    constants = {name: constant() for name, constant in system.unknowns.items()}
    found = Known({**coordinates(p.x, system.names, p.normals), **fields, **constants})
    for name, integral in system.integrals.items() if read_at else ():
        found[name] = Later(
            lambda integral=integral, name=name: integral.value(
                system, p, lambda nodes: read_at(name, nodes)
            )
        )
    return found
