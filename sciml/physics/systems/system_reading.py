"""Reads a system once with stand-ins for its outputs: what its terms need, and what is wrong.

A stand-in answers every derivative with random numbers and notes which one was asked for. So what
each equation and condition touches is known before any network exists, one pass of Taylor
arithmetic computes these derivatives and no others, and mistakes are found before training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.arguments import real
from sciml.autodiff.multi_indices import MultiIndex
from sciml.errors import InvalidArgument, InvalidType, did_you_mean
from sciml.physics.systems.boundary_pieces import KIND
from sciml.physics.systems.conditions import PointSet
from sciml.physics.systems.corners import contradictions
from sciml.physics.systems.integrals import Reader
from sciml.physics.systems.missing_conditions import missing, warn
from sciml.physics.systems.named_arguments import known_values
from sciml.physics.systems.system_fields import random_rows
from sciml.shapes import no_outer_products

if TYPE_CHECKING:
    from sciml.physics.systems.system import System

EQUATIONS = "equations"  # name of the point set inside the domain
COUNT = 7  # points that a system is read at; odd, so that no shape fits by chance


@dataclass(frozen=True)
class Reading:
    """What reading a system told.

    Attributes:
        needs: Multi-indices that the equations and every condition read, by set of points.
        inner_needs: Multi-indices that every integral reads at its nodes, by name.
        term_names: Names of the loss terms, in their order.
        equation_count: How many of the loss terms are equations, which come first.
    """

    needs: Mapping[str, frozenset[MultiIndex]]
    inner_needs: Mapping[str, frozenset[MultiIndex]]
    term_names: tuple[str, ...]
    equation_count: int


def read_system(system: System) -> Reading:
    """Return what the terms of a system read.

    Raises:
        InvalidArgument, InvalidType: For what cannot be right.
    """
    generator = torch.Generator().manual_seed(0)
    touched: dict[str, set[tuple[str, MultiIndex]]] = {}
    inner: dict[str, set[tuple[str, MultiIndex]]] = {name: set() for name in system.integrals}
    equations = 0
    loss: list[Tensor] = []
    names: list[str] = []
    for name in (EQUATIONS, *system.terms):
        p = system.sample_of(name, COUNT, generator)
        seen = touched[name] = set()

        def read(k: str, p: PointSet = p, seen: set = seen) -> Callable[[MultiIndex], Tensor]:
            return _stand_in(k, len(p), seen, generator)

        def read_at(integral: str, nodes: PointSet, seen: set = seen) -> Reader:
            def read(k: str) -> Callable[[MultiIndex], Tensor]:
                answer = _stand_in(k, len(nodes), inner[integral], generator)

                def noted(index: MultiIndex) -> Tensor:
                    seen.add((k, system.names.zero))  # the output is used, if only here
                    return answer(index)

                return noted

            return read

        known = known_values(system, p, read, read_at)
        with torch.enable_grad(), no_outer_products(f"'{name}'", len(p)):
            found = system.residuals(name, p, known)
        loss += found.values()
        names += found
        equations = len(found) if name == EQUATIONS else equations
    _check_use(system, touched)
    if len(set(names)) < len(names):
        raise InvalidArgument(
            f"loss terms {names} of {type(system).__name__}",
            "distinct names of equations and conditions",
        )
    _check_unknowns(system, loss)
    system.transform  # noqa: B018 - refused now, if at all
    for text in contradictions(system):
        warn(
            system,
            f"{text}. No smooth solution has both: make them agree there, or expect the error "
            "to stay near that place",
        )
    for text in missing(system, touched):
        warn(system, text)

    def indices(found: Mapping[str, set]) -> dict[str, frozenset[MultiIndex]]:
        return {
            name: frozenset(index for _, index in seen) | {system.names.zero}
            for name, seen in found.items()
        }

    return Reading(indices(touched), indices(inner), tuple(names), equations)


def read_laplacians(system: System) -> Mapping[str, tuple[frozenset[MultiIndex], bool]]:
    """Return the multi-indices read by name, and whether a Laplacian is read, by set of points."""
    generator, needs = torch.Generator().manual_seed(0), {}
    for name in (EQUATIONS, *system.terms):
        p = system.sample_of(name, COUNT, generator)
        seen: set[tuple[str, MultiIndex]] = set()
        laps: list[str] = []

        def read(k: str, p: PointSet = p, seen: set = seen) -> Callable[[MultiIndex], Tensor]:
            return _stand_in(k, len(p), seen, generator)

        def lap(k: str, p: PointSet = p, laps: list = laps) -> Callable[[], Tensor]:
            return lambda: laps.append(k) or random_rows(len(p), generator)

        def read_at(_: str, nodes: PointSet) -> Reader:
            return lambda k: _stand_in(k, len(nodes), set(), generator)

        system.residuals(name, p, known_values(system, p, read, read_at, lap))
        needs[name] = (frozenset(i for _, i in seen) | {system.names.zero}, bool(laps))
    return needs


def check_names(system: System) -> None:
    """Refuse names of outputs, variables and terms that clash.

    Raises:
        InvalidArgument, InvalidType: With the name.
    """
    title = type(system).__name__
    if isinstance(system.outputs, str) or not system.outputs:
        raise InvalidType(f"outputs = {system.outputs!r} of {title}", 'names, such as ("u",)')
    names = [*system.outputs, *system.region.variables, *system.unknowns, *system.integrals]
    for integral in system.integrals.values():
        integral.check(system)
    for name in names:
        if names.count(name) > 1 or not name.isidentifier():
            raise InvalidArgument(
                f"the name {name!r} in {title}", "distinct names of outputs and variables"
            )
    for variable in system.periodic:
        if variable not in system.region.variables:
            raise InvalidArgument(
                f"periodic = {system.periodic} of {title}",
                "variables of the domain",
                did_you_mean(variable, system.region.variables),
            )
    for variable in system.waves:
        open_ = [v for v in system.region.variables if v not in system.periodic]
        if variable not in open_:
            raise InvalidArgument(
                f"waves of '{variable}' in {title}",
                "variables of the domain that are not periodic",
                did_you_mean(variable, open_),
            )
    for variable, parts in system.mirrored.items():
        plain = [v for v in system.region.space if v not in (*system.periodic, *system.waves)]
        if variable not in plain or not isinstance(parts, int) or parts < 1:
            raise InvalidArgument(
                f"mirrored = {dict(system.mirrored)} of {title}",
                "whole numbers from 1 for coordinates in space, neither periodic nor with waves",
                did_you_mean(variable, plain),
            )
    for output, pair in system.scales.items():
        pair = tuple(pair) if isinstance(pair, tuple | list) else ()
        numbers = [p for p in pair if not real(p) and math.isfinite(p)]
        if output not in system.outputs or len(pair) != 2 or len(numbers) != 2 or numbers[1] <= 0:
            raise InvalidArgument(
                f"scales = {dict(system.scales)} of {title}",
                "the middle of the values of an output and their size, above zero",
                f"Write scales = {{'{system.outputs[0]}': (middle, size)}}",
            )
    if EQUATIONS in system.every_condition:
        raise InvalidArgument(f"a condition called '{EQUATIONS}'", "another name")


def _check_use(system: System, touched: Mapping[str, set[tuple[str, MultiIndex]]]) -> None:
    read = {output for output, _ in touched[EQUATIONS]}
    for output in system.outputs:
        if output not in read:
            raise InvalidArgument(
                f"the output '{output}' of {type(system).__name__}, which no equation reads",
                "outputs that the equations tie to each other",
                f"Ask for it in residual(self, {', '.join(system.outputs)}), or leave it out",
            )


def _check_unknowns(system: System, loss: list[Tensor]) -> None:
    raws = {name: constant.raw for name, constant in system.unknowns.items()}
    if not raws:
        return
    total = sum(value.sum() for value in loss)
    found = [None] * len(raws)
    if total.requires_grad:
        found = torch.autograd.grad(total, list(raws.values()), allow_unused=True)
    for name, gradient in zip(raws, found, strict=True):
        if gradient is None:
            raise InvalidArgument(
                f"the unknown '{name}' of {type(system).__name__}, which no term depends on",
                "unknowns that an equation or a condition uses",
                f"Write system.{name}, without float(), item() or detach(), or make it a number",
            )


def _stand_in(
    output: str, n: int, seen: set[tuple[str, MultiIndex]], generator: torch.Generator
) -> Callable[[MultiIndex], Tensor]:
    """Return what notes which derivatives of an output are read, and answers with numbers."""
    known: dict[MultiIndex, Tensor] = {}

    def read(index: MultiIndex) -> Tensor:
        seen.add((output, index))
        if index not in known:
            # as in training, where a float() or NumPy in the way would stop the gradient
            known[index] = random_rows(n, generator).to(KIND).requires_grad_() * 1.0
        return known[index]

    return read
