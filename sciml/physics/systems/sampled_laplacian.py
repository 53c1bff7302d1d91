"""Sampled Laplacians in many dimensions (SDGD), for systems.

    lap u  ~  d / |I| sum_{i in I} u_ii,      I drawn without replacement among the d dimensions

is unbiased, and a pass of Taylor arithmetic carries 1 + 2 |I| channels for it instead of 1 + 2 d.
All points and outputs of a step share I. The mean of the squared residual over I is the squared
residual plus the variance of the estimate: small where second derivatives are much alike along all
axes, and an error that stays where they are not. Derivatives that are asked for by name are exact.

Reference: Hu, Shukla, Karniadakis and Kawaguchi 2024, "Tackling the curse of dimensionality with
physics-informed neural networks", Neural Networks 176, arXiv 2307.12306.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.autodiff.multi_indices import MultiIndex
from sciml.autodiff.multijet import MultiJet
from sciml.errors import InvalidArgument
from sciml.physics.systems.named_arguments import known_values

if TYPE_CHECKING:
    from sciml.physics.systems.conditions import PointSet
    from sciml.physics.systems.integrals import Reader
    from sciml.physics.systems.system import System


def check(system: System, count: int) -> None:
    """Refuse numbers of dimensions that there are not, and systems without Laplacians.

    Raises:
        InvalidArgument: With the reason.
    """
    d = len(system.region.space)
    if not isinstance(count, int) or not 1 <= count <= max(d, 1):
        raise InvalidArgument(
            f"module.sampled={count} for {type(system).__name__} in {d} dimensions",
            f"an integer from 1 to {d}",
        )
    if not any(laps for _, laps in system.sampled_needs.values()):
        raise InvalidArgument(
            f"module.sampled={count} for {type(system).__name__}, which reads no Laplacian",
            "an equation with u.lap",
            "Write u.lap for the sum of second derivatives, or type module.sampled=null",
        )


def draw(system: System, count: int, generator: torch.Generator) -> tuple[int, ...]:
    """Return `count` different dimensions in space, rising."""
    d = len(system.region.space)
    return tuple(sorted(torch.randperm(d, generator=generator)[:count].tolist()))


def fields(
    system: System,
    name: str,
    p: PointSet,
    dimensions: tuple[int, ...],
    evaluate: Callable[..., MultiJet],
) -> dict:
    """Return all that functions may ask for at a set of points, Laplacians sampled.

    Args:
        system: The system.
        name: The set of points: "equations", or a condition.
        p: The points.
        dimensions: I.
        evaluate: Returns the outputs `(N, K)` with derivatives, see `Ansatz.jet`.
    """
    named, laps = system.sampled_needs[name]
    used = sorted({k for index in named for k, times in enumerate(index) if times})
    drawn = dimensions if laps else ()
    size = len(used) + len(drawn)

    def place(index: MultiIndex) -> MultiIndex:
        return (*(index[k] for k in used), *(0,) * len(drawn))

    twice = [tuple(2 * (i == len(used) + j) for i in range(size)) for j in range(len(drawn))]
    wanted = frozenset([*map(place, named), *twice])
    jet = evaluate(p, wanted, (*used, *drawn))
    factor = len(system.region.space) / max(len(drawn), 1)

    def read(output: str) -> Callable[[MultiIndex], Tensor]:
        column = system.outputs.index(output)
        return lambda index: jet.entry(place(index), column)

    def lap(output: str) -> Callable[[], Tensor]:
        column = system.outputs.index(output)
        return lambda: factor * sum(jet.entry(index, column) for index in twice)

    return known_values(system, p, read, lambda n, q: _inside(system, n, q, evaluate), lap)


def _inside(
    system: System, name: str, nodes: PointSet, evaluate: Callable[..., MultiJet]
) -> Reader:
    """Return the outputs at the nodes of an integral, where nothing is sampled."""
    jet = evaluate(nodes, system.inner_needs[name])
    return lambda output: lambda i: jet.entry(i, system.outputs.index(output))
