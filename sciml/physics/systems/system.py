"""Systems of equations as their authors write them: outputs, equations, domain, conditions.

    class Burgers(System):
        domain = Interval(-1, 1) * Time(0, 1)
        conditions = {
            "start": Initial(u=lambda x: -torch.sin(torch.pi * x)),
            "ends": On(domain.boundary, u=0),
        }

        def residual(self, u):
            return u.t + u * u.x - 0.01 / torch.pi * u.xx

A `System` says outputs, equations, domain, conditions and unknowns; nothing in it knows about
networks. It is read once with stand-ins for all outputs (`System.needs`): mistakes are found before
training, and one pass of Taylor arithmetic computes the derivatives that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sciml.autodiff.multi_indices import MultiIndex
from sciml.autodiff.multijet import MultiJet
from sciml.errors import InvalidArgument, did_you_mean
from sciml.physics.systems.boundary_pieces import Piece
from sciml.physics.systems.conditions import Condition, On, PointSet, named
from sciml.physics.systems.integrals import Integral, Reader, integrals_of
from sciml.physics.systems.lifted import Lifted
from sciml.physics.systems.missing_conditions import check_spelling, conditions_of
from sciml.physics.systems.named_arguments import call, coordinates, known_values
from sciml.physics.systems.region import Region
from sciml.physics.systems.system_fields import DerivativeNames, Field, rows
from sciml.physics.systems.system_reading import (
    EQUATIONS,
    Reading,
    check_names,
    read_laplacians,
    read_system,
)
from sciml.physics.systems.unknowns import TrainedConstant, unknowns_of

# one, several, or by name
Residuals: TypeAlias = Field | Tensor | Sequence[Field | Tensor] | Mapping[str, Field | Tensor]


class System:
    """Base class of systems of equations; subclasses say what differs.

    Functions ask for what they need by the names of their arguments: outputs, coordinates,
    normals nx, ny, nz, unknowns.

    Attributes:
        outputs: Names of the unknown functions.
        domain: A shape, `Time(start, end)`, or a product.
        conditions: Conditions by name, or a method that returns them.
        hard_conditions: Names of conditions to build into the ansatz from the shape, see
            `sciml.physics.systems.lifted`; the others are terms of the loss.
        periodic: Variables in which all outputs are periodic; built into the network's inputs.
        mirrored: Numbers m by variable: the network sees cos(m pi s), s in [0, 1] along it, and so
            is even about the ends of m equal parts; with m = 1 its normal derivative is zero there.
        waves: Angular frequencies by variable: their sines and cosines are inputs beside it.
        scales: Middle and size of values by output: {"T": (350, 50)} for 300 to 400 kelvin. The
            network says (T - 350) / 50.
        weights: Weights of equations by name; 1 where nothing is said.
        gauge: Outputs known up to a constant, a pressure say: errors are without their mean.
        reference_accuracy: Relative accuracy of `exact` or `reference`.

    Example:
        >>> import torch
        >>> from sciml.physics.systems import On, Rectangle, System
        >>> class Membrane(System):
        ...     domain = Rectangle((0, 0), (1, 1))
        ...     conditions = {"rim": On(domain.boundary, u=0)}
        ...     def residual(self, u):
        ...         return u.xx + u.yy + 1
        >>> membrane = Membrane()
        >>> membrane.term_names, sorted(membrane.needs["equations"])
        (('residual', 'rim'), [(0, 0), (0, 2), (2, 0)])
    """

    outputs: tuple[str, ...] = ("u",)
    domain: Any = None
    conditions: Mapping[str, Condition] | Callable[[], Mapping[str, Condition]] = MappingProxyType(
        {}
    )
    hard_conditions: tuple[str, ...] = ()
    periodic: tuple[str, ...] = ()
    mirrored: Mapping[str, int] = MappingProxyType({})
    waves: Mapping[str, tuple[float, ...]] = MappingProxyType({})
    scales: Mapping[str, tuple[float, float]] = MappingProxyType({})
    weights: Mapping[str, float] = MappingProxyType({})
    gauge: tuple[str, ...] = ()
    reference_accuracy: float = 1e-12

    # --- what a subclass says ---------------------------------------------------------------
    def residual(self, *fields: Any, **values: Any) -> Residuals:
        """Return the residuals `(N,)`, zero for the solution: one, a tuple, or by name."""
        raise InvalidArgument(
            f"{type(self).__name__} does not define residual()",
            "its equations",
            "Write def residual(self, u): return u.xx + u.yy",
        )

    hard: Callable | None = None
    """`hard(self, u, x, ...)` returns the outputs made from those of the network, all `(N, 1)`, so
    that conditions hold whatever the network does: `return x * (1 - x) * u`. Several outputs come
    as a dictionary; those left out stay as they are. None for soft conditions only."""

    inputs: Callable | None = None
    """`inputs(self, x, ...)` returns more inputs of the network `(N, m)`, which come first."""

    exact: Callable | None = None
    """`exact(self, x, ...)` returns the solution `(N,)`, or a dictionary by output."""

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]] | None:
        """Return test points `(N, D)` and the solution there `(N,)` by output, float64.

        By default 20 000 uniform points and `exact`; None where there is none.
        """
        if self.exact is None:
            return None
        x = self.region.sample(20_000, generator)
        return x, self.solution(x)

    # --- what follows -----------------------------------------------------------------------
    @cached_property
    def region(self) -> Region:
        """The domain as a product of factors."""
        if self.domain is None:
            raise InvalidArgument(
                f"{type(self).__name__} without domain",
                "where it lives",
                "Write domain = Interval(0, 1), or Rectangle((0, 0), (1, 1)) * Time(0, 1)",
            )
        return Region.of(self.domain)

    @cached_property
    def names(self) -> DerivativeNames:
        """What derivatives are called."""
        return DerivativeNames(self.region.variables, self.region.space)

    @cached_property
    def terms(self) -> Mapping[str, Condition]:
        """The conditions by name.

        Raises:
            InvalidArgument, InvalidType: For what does not fit the system.
        """
        check_spelling(self)
        check_names(self)
        for name, condition in self.every_condition.items():
            condition.check(self, name)
        return {k: c for k, c in self.every_condition.items() if k not in self.hard_conditions}

    @cached_property
    def transform(self) -> Callable[[Mapping[str, Any]], Any] | None:
        """What makes the outputs from those of the network, given all there is by name; or None.

        Raises:
            InvalidArgument: For conditions that cannot be built in, or two ways of doing it.
        """
        title = type(self).__name__
        if self.hard_conditions and self.hard is not None:
            raise InvalidArgument(f"hard() and hard_conditions of {title}", "one of the two")
        if self.hard_conditions:
            return Lifted(self, tuple(self.hard_conditions))
        if self.hard is None:
            return None
        return lambda known: call(f"{title}.hard()", self.hard, known)

    def known_inputs(self, places: Mapping[str, Any]) -> Any:
        """Return `inputs` of coordinates by name, columns `(N, 1)`, tensors or jets."""
        return call(f"{type(self).__name__}.inputs()", self.inputs, places)

    @cached_property
    def every_condition(self) -> Mapping[str, Condition]:
        """The conditions by name as they were written, built in or not."""
        return conditions_of(self)

    @cached_property
    def unknowns(self) -> dict[str, TrainedConstant]:
        """The unknown constants by name."""
        return unknowns_of(self)

    def pieces(self, on: On) -> list[Piece]:
        """Return the pieces of the boundary that a condition is about."""
        others = [c.labels() for c in self.every_condition.values() if c is not on]
        return self.region.pieces(on.where, frozenset().union(*others))

    def quantity(self, title: str, key: str) -> tuple[str, str]:
        """Return output and derivative, which may be empty, of a key such as u or u_xx.

        Raises:
            InvalidArgument: For anything else.
        """
        if key in self.outputs:
            return key, ""
        output, _, derivative = key.rpartition("_")
        known = derivative in ("n", "lap") or self.names.index(derivative) is not None
        if output in self.outputs and derivative and known:
            return output, derivative
        raise InvalidArgument(
            f"{title} about {key}",
            f"an output, or output_derivative such as {self.outputs[0]}_{self.region.variables[0]}",
            did_you_mean(key, self.outputs),
        )

    @cached_property
    def integrals(self) -> Mapping[str, Integral]:
        """The integrals by name."""
        return integrals_of(self)

    def fields(
        self,
        p: PointSet,
        jet: MultiJet,
        evaluate: Callable[[PointSet, frozenset[MultiIndex]], MultiJet] | None = None,
    ) -> dict:
        """Return the same, outputs being the columns of a jet `(N, K)`.

        Args:
            p: The points.
            jet: The outputs there.
            evaluate: Returns them elsewhere, with the derivatives asked for: where integrals look.
        """

        def reader(jet: MultiJet) -> Reader:
            return lambda output: lambda index: jet.entry(index, self.outputs.index(output))

        def inner(name: str, nodes: PointSet) -> Reader:
            return reader(evaluate(nodes, self.inner_needs[name]))

        return known_values(self, p, reader(jet), inner if evaluate else None)

    def equations(self, p: PointSet, known: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the residuals of the equations `(N,)` by name; a single one is "residual"."""
        title = f"{type(self).__name__}.residual()"
        found = named(title, call(title, self.residual, known), p.x)
        return {name or "residual": value for name, value in found.items()}

    def condition(self, name: str, p: PointSet, known: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the residuals of a condition by term: its name, or name.quantity of several."""
        found = self.terms[name].residuals(self, name, p, known)
        one = len(found) == 1
        return {name if one or not k else f"{name}.{k}": value for k, value in found.items()}

    def residuals(self, name: str, p: PointSet, known: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the residuals of one set of points: "equations", or a condition's name."""
        return self.equations(p, known) if name == EQUATIONS else self.condition(name, p, known)

    def sample(self, n: int, generator: torch.Generator) -> PointSet:
        """Return `n` uniform points inside, float64."""
        return PointSet(self.region.sample(n, generator))

    def sample_of(self, name: str, n: int, generator: torch.Generator) -> PointSet:
        """Return about `n` points of the equations or of a condition."""
        if name == EQUATIONS:
            return self.sample(n, generator)
        return self.terms[name].sample(self, n, generator)

    def solution(self, x: Tensor) -> dict[str, Tensor]:
        """Return `exact` at points `(N, D)`, `(N,)` by output."""
        title = f"{type(self).__name__}.exact()"
        found = call(title, self.exact, coordinates(x, self.names, None))
        if not isinstance(found, Mapping):
            found = {self.outputs[0]: found}
        return {name: rows(f"{title}, '{name}'", value, x) for name, value in found.items()}

    # --- reading ----------------------------------------------------------------------------
    @cached_property
    def reading(self) -> Reading:
        """What reading the system with stand-ins told, see `sciml.physics.systems.system_reading`.

        Raises:
            InvalidArgument, InvalidType: For what cannot be right.
        """
        return read_system(self)

    @property
    def needs(self) -> Mapping[str, frozenset[MultiIndex]]:
        """Multi-indices that the equations and every condition read, by set of points."""
        return self.reading.needs

    @property
    def inner_needs(self) -> Mapping[str, frozenset[MultiIndex]]:
        """Multi-indices that every integral reads at its nodes, by name."""
        return self.reading.inner_needs

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the loss terms, in their order."""
        return self.reading.term_names

    @property
    def equation_count(self) -> int:
        """How many of the loss terms are equations, which come first."""
        return self.reading.equation_count

    @cached_property
    def sampled_needs(self) -> Mapping[str, tuple[frozenset[MultiIndex], bool]]:
        """Multi-indices read by name, and whether a Laplacian is read, by set of points."""
        return read_laplacians(self)

    def __str__(self) -> str:
        """Return what was understood: outputs, domain, what each term reads."""
        spell = self.names.variables
        lines = [f"{type(self).__name__}: {', '.join(self.outputs)} of {', '.join(spell)}"]
        for name, indices in self.needs.items():
            words = sorted("".join(v * k for v, k in zip(spell, a, strict=True)) for a in indices)
            lines.append(f"  {name}: derivatives {', '.join(w or '1' for w in words)}")
        lines += [f"  unknown {name}" for name in self.unknowns]
        return "\n".join(lines)
