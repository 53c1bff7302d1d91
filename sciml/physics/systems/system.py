"""What a system of equations tells the rest of the library.

    class Burgers(System):
        domain = Interval(-1, 1) * Time(0, 1)
        conditions = {
            "start": Initial(u=lambda x: -torch.sin(torch.pi * x)),
            "ends": On(domain.boundary, u=0),
        }

        def residual(self, u):
            return u.t + u * u.x - 0.01 / torch.pi * u.xx

A `System` says outputs, equations, domain, conditions and unknowns; nothing in it knows about
networks. It is read once with stand-ins for all outputs (`System.needs`): what derivatives each
equation and condition touches is known before any is computed, so one pass of Taylor arithmetic
computes these and no others, and mistakes are found before training.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sciml.autodiff.multijet import Index, MultiJet
from sciml.errors import InvalidArgument, InvalidType, NumericalWarning, did_you_mean
from sciml.physics.systems.conditions import Condition, On, PointSet, named
from sciml.physics.systems.corners import contradictions
from sciml.physics.systems.integrals import Integral, Reader, integrals_of
from sciml.physics.systems.lifted import Lifted
from sciml.physics.systems.named_shapes import KIND, Piece
from sciml.physics.systems.region import Region
from sciml.physics.systems.system_fields import (
    Field,
    Known,
    Later,
    Names,
    call,
    coordinates,
    random_rows,
    rows,
)
from sciml.physics.systems.unknowns import Constant, Unknown
from sciml.shapes import no_outer_products

LOOK = 7  # points of the reading; odd, so that no shape fits by chance
EQUATIONS = "equations"  # name of the point set inside the domain


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
        periodic: Variables in which all outputs are periodic over the domain; built into the
            network's inputs.
        weights: Weights of equations by name; 1 where nothing is said.
        gauge: Outputs that the system determines up to a constant, a pressure say: errors are
            measured without their mean.
        reference_accuracy: Relative accuracy of `exact` or `reference`.
    """

    outputs: tuple[str, ...] = ("u",)
    domain: Any = None
    conditions: Mapping[str, Condition] | Callable[[], Mapping[str, Condition]] = MappingProxyType(
        {}
    )
    hard_conditions: tuple[str, ...] = ()
    periodic: tuple[str, ...] = ()
    weights: Mapping[str, float] = MappingProxyType({})
    gauge: tuple[str, ...] = ()
    reference_accuracy: float = 1e-12

    # --- what a subclass says ---------------------------------------------------------------
    def residual(self, *fields: Field) -> Tensor | Mapping[str, Tensor]:
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
    def names(self) -> Names:
        """What derivatives are called."""
        return Names(self.region.variables, self.region.space)

    @cached_property
    def terms(self) -> Mapping[str, Condition]:
        """The conditions by name.

        Raises:
            InvalidArgument, InvalidType: For what does not fit the system.
        """
        self._check_names()
        for name, condition in self.every_condition.items():
            condition.check(self, name)
        return {k: c for k, c in self.every_condition.items() if k not in self.hard_conditions}

    @cached_property
    def transform(self) -> Callable[[Mapping[str, Any]], Any] | None:
        """What makes the outputs from those of the network, given all there is by name; or None.

        Raises:
            InvalidArgument: For conditions that cannot be built in, or two ways of doing it.
        """
        if self.hard_conditions and self.hard is not None:
            raise InvalidArgument(
                f"hard() and hard_conditions of {type(self).__name__}", "one of the two"
            )
        if self.hard_conditions:
            return Lifted(self, tuple(self.hard_conditions))
        if self.hard is None:
            return None
        return lambda known: call(f"{type(self).__name__}.hard()", self.hard, known)

    @cached_property
    def every_condition(self) -> Mapping[str, Condition]:
        """The conditions by name as they were written, built in or not."""
        conditions = self.conditions() if callable(self.conditions) else self.conditions
        for name, condition in conditions.items():
            if not isinstance(condition, Condition):
                raise InvalidType(
                    f"condition '{name}' is a {type(condition).__name__}",
                    "On(...), Initial(...), At(...), Same(...) or Observed(...)",
                )
        return dict(conditions)

    @cached_property
    def unknowns(self) -> dict[str, Constant]:
        """The unknown constants by name."""
        found = {}
        for cls in reversed(type(self).__mro__):
            for name, value in vars(cls).items():
                if isinstance(value, Unknown):
                    found[name] = value.make()
        for name, value in vars(self).items():
            if isinstance(value, Unknown):
                raise InvalidArgument(
                    f"self.{name} = Unknown(...) of {type(self).__name__}",
                    "an attribute of the class",
                    f"Write {name} = Unknown(...) below `class {type(self).__name__}(System):`",
                )
        return found

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

    def known(
        self,
        p: PointSet,
        read: Reader,
        look: Callable[[str, PointSet], Reader] | None = None,
        lap: Callable[[str], Callable[[], Tensor]] | None = None,
    ) -> dict:
        """Return all that functions may ask for, by name.

        Args:
            p: The points.
            read: Returns, for an output, what returns its derivatives `(N,)`.
            look: Returns the same at the nodes of an integral, given its name and the nodes; None
                where no function asks for integrals.
            lap: Returns, for an output, what returns its Laplacian; None for the sum of its second
                derivatives.
        """

        def field(k: str) -> Field:
            return Field(k, read(k), self.names, p.normals, lap=lap and lap(k))

        fields = {k: field(k) for k in self.outputs}
        constants = {name: constant() for name, constant in self.unknowns.items()}
        found = Known({**coordinates(p.x, self.names, p.normals), **fields, **constants})
        for name, integral in self.integrals.items() if look else ():
            found[name] = Later(
                lambda integral=integral, name=name: integral.value(
                    self, p, lambda nodes: look(name, nodes)
                )
            )
        return found

    def fields(
        self,
        p: PointSet,
        jet: MultiJet,
        evaluate: Callable[[PointSet, frozenset[Index]], MultiJet] | None = None,
    ) -> dict:
        """Return the same, outputs being the columns of a jet `(N, K)`.

        Args:
            p: The points.
            jet: The outputs there.
            evaluate: Returns them elsewhere, with the derivatives asked for: where integrals look.
        """

        def reader(jet: MultiJet) -> Reader:
            return lambda output: lambda index: jet.entry(index, self.outputs.index(output))

        if evaluate is None:
            return self.known(p, reader(jet))
        return self.known(
            p, reader(jet), lambda name, nodes: reader(evaluate(nodes, self.inner_needs[name]))
        )

    def equations(self, p: PointSet, known: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the residuals of the equations `(N,)` by name; a single one is "residual"."""
        title = f"{type(self).__name__}.residual()"
        found = named(title, call(title, self.residual, known), p.x)
        return {name or "residual": value for name, value in found.items()}

    def condition(self, name: str, p: PointSet, known: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the residuals of a condition by term: its name, or name.quantity of several."""
        found = self.terms[name].residuals(self, name, p, known)
        if len(found) == 1:
            (value,) = found.values()
            return {name: value}
        return {f"{name}.{key}" if key else name: value for key, value in found.items()}

    def residuals(self, name: str, p: PointSet, known: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the residuals of one set of points: "equations", or a condition's name."""
        return self.equations(p, known) if name == EQUATIONS else self.condition(name, p, known)

    def ask(self, title: str, function: Callable, known: Mapping[str, Any]) -> Any:
        """Return a function of the arguments that it asks for by name."""
        return call(title, function, known)

    def sample(self, n: int, generator: torch.Generator) -> PointSet:
        """Return `n` uniform points inside, float64."""
        return PointSet(self.region.sample(n, generator))

    def solution(self, x: Tensor) -> dict[str, Tensor]:
        """Return `exact` at points `(N, D)`, `(N,)` by output."""
        title = f"{type(self).__name__}.exact()"
        found = call(title, self.exact, coordinates(x, self.names, None))
        if not isinstance(found, Mapping):
            found = {self.outputs[0]: found}
        return {name: rows(f"{title}, '{name}'", value, x) for name, value in found.items()}

    # --- reading ----------------------------------------------------------------------------
    @property
    def needs(self) -> Mapping[str, frozenset[Index]]:
        """Multi-indices that the equations and every condition read, by set of points.

        Raises:
            InvalidArgument, InvalidType: For what cannot be right.
        """
        return self._read[0]

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the loss terms, in their order."""
        return self._read[1]

    @property
    def equation_count(self) -> int:
        """How many of the loss terms are equations, which come first."""
        return self._read[3]

    @property
    def inner_needs(self) -> Mapping[str, frozenset[Index]]:
        """Multi-indices that every integral reads at its nodes, by name."""
        return self._read[2]

    @cached_property
    def _read(self) -> tuple[Mapping, tuple[str, ...], Mapping, int]:
        """What reading the system with stand-ins told."""
        generator = torch.Generator().manual_seed(0)
        touched: dict[str, set[tuple[str, Index]]] = {}
        inner: dict[str, set[tuple[str, Index]]] = {name: set() for name in self.integrals}
        equations = 0
        loss: list[Tensor] = []
        names: list[str] = []
        for name in (EQUATIONS, *self.terms):
            if name == EQUATIONS:
                p = self.sample(LOOK, generator)
            else:
                p = self.terms[name].sample(self, LOOK, generator)
            seen = touched[name] = set()

            def read(k: str, p: PointSet = p, seen: set = seen):
                return _stand_in(k, len(p), seen, generator)

            def look(integral: str, nodes: PointSet, seen: set = seen) -> Reader:
                def read(k: str) -> Callable[[Index], Tensor]:
                    answer = _stand_in(k, len(nodes), inner[integral], generator)

                    def noted(index: Index) -> Tensor:
                        seen.add((k, self.names.zero))  # the output is used, if only here
                        return answer(index)

                    return noted

                return read

            known = self.known(p, read, look)
            with torch.enable_grad(), no_outer_products(f"'{name}'", len(p)):
                found = self.residuals(name, p, known)
            loss += found.values()
            names += found
            equations = len(found) if name == EQUATIONS else equations
        self._check_use(touched)
        if len(set(names)) < len(names):
            raise InvalidArgument(
                f"loss terms {names} of {type(self).__name__}",
                "distinct names of equations and conditions",
            )
        self._check_unknowns(loss)
        self.transform  # noqa: B018 - refused now, if at all
        for text in contradictions(self):
            warnings.warn(
                f"{text}. No smooth solution has both: make them agree there, or expect the error "
                "to stay near that place",
                NumericalWarning,
                stacklevel=3,
            )

        def indices(found: Mapping[str, set]) -> dict[str, frozenset[Index]]:
            return {
                name: frozenset(index for _, index in seen) | {self.names.zero}
                for name, seen in found.items()
            }

        return indices(touched), tuple(names), indices(inner), equations

    @cached_property
    def sampled_needs(self) -> Mapping[str, tuple[frozenset[Index], bool]]:
        """Multi-indices read by name, and whether a Laplacian is read, by set of points."""
        generator, needs = torch.Generator().manual_seed(0), {}
        for name in (EQUATIONS, *self.terms):
            if name == EQUATIONS:
                p = self.sample(LOOK, generator)
            else:
                p = self.terms[name].sample(self, LOOK, generator)
            seen: set[tuple[str, Index]] = set()
            laps: list[str] = []

            def read(k: str, p: PointSet = p, seen: set = seen):
                return _stand_in(k, len(p), seen, generator)

            def lap(k: str, p: PointSet = p, laps: list = laps) -> Callable[[], Tensor]:
                return lambda: laps.append(k) or random_rows(len(p), generator)

            def look(_: str, nodes: PointSet) -> Reader:
                return lambda k: _stand_in(k, len(nodes), set(), generator)

            self.residuals(name, p, self.known(p, read, look, lap))
            needs[name] = (frozenset(i for _, i in seen) | {self.names.zero}, bool(laps))
        return needs

    def _check_names(self) -> None:
        title = type(self).__name__
        if isinstance(self.outputs, str) or not self.outputs:
            raise InvalidType(f"outputs = {self.outputs!r} of {title}", 'names, such as ("u",)')
        names = [*self.outputs, *self.region.variables, *self.unknowns, *self.integrals]
        for integral in self.integrals.values():
            integral.check(self)
        for name in names:
            if names.count(name) > 1 or not name.isidentifier():
                raise InvalidArgument(
                    f"the name {name!r} in {title}", "distinct names of outputs and variables"
                )
        for variable in self.periodic:
            if variable not in self.region.variables:
                raise InvalidArgument(
                    f"periodic = {self.periodic} of {title}",
                    "variables of the domain",
                    did_you_mean(variable, self.region.variables),
                )
        if EQUATIONS in self.every_condition:
            raise InvalidArgument(f"a condition called '{EQUATIONS}'", "another name")

    def _check_use(self, touched: Mapping[str, set[tuple[str, Index]]]) -> None:
        read = {output for output, _ in touched[EQUATIONS]}
        for output in self.outputs:
            if output not in read:
                raise InvalidArgument(
                    f"the output '{output}' of {type(self).__name__}, which no equation reads",
                    "outputs that the equations tie to each other",
                    f"Ask for it in residual(self, {', '.join(self.outputs)}), or leave it out",
                )

    def _check_unknowns(self, loss: list[Tensor]) -> None:
        raws = {name: constant.raw for name, constant in self.unknowns.items()}
        if not raws:
            return
        total = sum(value.sum() for value in loss)
        found = [None] * len(raws)
        if total.requires_grad:
            found = torch.autograd.grad(total, list(raws.values()), allow_unused=True)
        for name, gradient in zip(raws, found, strict=True):
            if gradient is None:
                raise InvalidArgument(
                    f"the unknown '{name}' of {type(self).__name__}, which no term depends on",
                    "unknowns that an equation or a condition uses",
                    f"Write self.{name}, without float(), item() or detach(), or make it a number",
                )

    def __str__(self) -> str:
        """Return what was understood: outputs, domain, what each term reads."""
        spell = self.names.variables
        lines = [f"{type(self).__name__}: {', '.join(self.outputs)} of {', '.join(spell)}"]
        for name, indices in self.needs.items():
            words = sorted("".join(v * k for v, k in zip(spell, a, strict=True)) for a in indices)
            lines.append(f"  {name}: derivatives {', '.join(w or '1' for w in words)}")
        lines += [f"  unknown {name}" for name in self.unknowns]
        return "\n".join(lines)


def _stand_in(
    output: str, n: int, seen: set[tuple[str, Index]], generator: torch.Generator
) -> Callable[[Index], Tensor]:
    """Return what notes which derivatives of an output are read, and answers with numbers."""
    known: dict[Index, Tensor] = {}

    def read(index: Index) -> Tensor:
        seen.add((output, index))
        if index not in known:
            known[index] = random_rows(n, generator).to(KIND)
        return known[index]

    return read
