"""Conditions built into the ansatz from the shape: u = B + A n with A zero where they hold.

For every output, each condition c that prescribes it has a function phi_c that vanishes on its part
with unit slope and is positive elsewhere: distances of its pieces joined by 1 / sum_i 1/phi_i, or
1 - e^-t at the start of time. With values g_c,

    B = sum_c g_c w_c / sum_c w_c,  w_c = prod_{k != c} phi_k,       A = 1 / sum_c 1/phi_c .

Where all pieces are whole sides of one box, A is the product over the axes instead, which is smooth
in the corners. Distances are those to whole lines, planes and spheres; where such a function
vanishes inside the domain as well (a re-entrant corner, a notch), the condition is refused.

Reference: Rvachev and Sheiko 1995, "R-functions in boundary value problems in mechanics"; Sukumar
and Srivastava 2022, arXiv 2104.08426, whose normalised distances these are.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.autodiff.multi_indices import lattice_of
from sciml.autodiff.multijet import variables
from sciml.errors import InvalidArgument, did_you_mean
from sciml.physics.systems.boundary_pieces import Face, Piece, Segment, Sphere
from sciml.physics.systems.conditions import Initial, On
from sciml.physics.systems.named_arguments import call
from sciml.physics.systems.named_shapes import Cut

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.autodiff.multijet import MultiJet
    from sciml.physics.systems.system import System

LOOK, NEAR = 2000, 1e-9


def meet(*distances: Any) -> Any:
    """Return `1 / sum_i 1/phi_i`, without poles where some are zero; tensors or jets."""
    if len(distances) == 1:
        return distances[0]
    rest = [_product(distances[:k] + distances[k + 1 :]) for k in range(len(distances))]
    return _product(distances) / (_sum(rest) + _tiny(distances[0]))


def _tiny(like: Differentiable) -> float:
    """Return what keeps 0 / 0 from corners, where two distances vanish; elsewhere it is lost."""
    return torch.finfo(like.dtype).tiny


def _product(factors: Sequence[Any]) -> Any:
    return functools.reduce(operator.mul, factors)


def distance(piece: Piece, space: Mapping[str, Any], inside: bool = True) -> Any:
    """Return a function that is zero on a piece with unit slope; tensors or jets.

    Args:
        piece: Of a shape's boundary.
        space: Coordinates by name.
        inside: Of a sphere: whether the domain lies inside it.
    """
    x = list(space.values())
    piece = piece.piece if isinstance(piece, Cut) else piece
    if isinstance(piece, Face):
        low = float(piece.low[piece.axis])
        high = low + float(piece.side[piece.axis])
        return high - x[piece.axis] if piece.upper else x[piece.axis] - low
    if isinstance(piece, Segment):
        (a, b), (u, v) = piece.start.tolist(), piece.normal.tolist()
        return -u * (x[0] - a) - v * (x[1] - b)
    if isinstance(piece, Sphere):
        square = _sum([(c - m) ** 2 for c, m in zip(x, piece.center.tolist(), strict=True)])
        signed = (square - piece.radius**2) * (0.5 / piece.radius)
        return -signed if inside else signed
    raise InvalidArgument(f"a {type(piece).__name__} in a hard condition", "sides and spheres")


def _sum(parts: Sequence[Any]) -> Any:
    return functools.reduce(operator.add, parts)


class Lifted:
    """The trial functions of a system with some conditions built in.

    Args:
        system: The system.
        names: Conditions that prescribe values of outputs on parts of the boundary, or initially.

    Raises:
        InvalidArgument: For conditions that cannot be built in.
    """

    def __init__(self, system: System, names: tuple[str, ...]) -> None:
        self.system = system
        self.conditions: dict[str, On] = {}
        for name in names:
            on = system.every_condition.get(name)
            if on is None:
                raise InvalidArgument(
                    f"hard_conditions = {names} of {type(system).__name__}",
                    "names of its conditions",
                    did_you_mean(name, system.every_condition),
                )
            plain = isinstance(on, On) and on.operator is None
            if not plain or any(key not in system.outputs for key in on.values):
                raise InvalidArgument(
                    f"condition '{name}' in hard_conditions",
                    "On(part, output=value) or Initial(output=value), values of outputs alone",
                    "Leave it out: it is then a term of the loss",
                )
            self.conditions[name] = on
            self._check(name, on)

    def __call__(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs.

        Args:
            known: Coordinates, outputs of the network and unknowns by name, `(N, 1)`.
        """
        made = {}
        for output in self.system.outputs:
            named = {n: on for n, on in self.conditions.items() if output in on.values}
            if not named:
                continue
            phi = {name: self._distance(on, known) for name, on in named.items()}
            values = {n: self._value(n, on.values[output], known) for n, on in named.items()}
            if len(named) == 1:
                (lift,) = values.values()
            else:
                # where two conditions meet all weights vanish: the mean of their values
                tiny = _tiny(next(iter(phi.values())))
                weights = {n: _product([p for m, p in phi.items() if m != n]) + tiny for n in named}
                total = _sum([values[n] * weights[n] for n in named])
                lift = total / _sum(list(weights.values()))
            made[output] = self._mask(named, phi, known) * known[output] + lift
        return made

    def _value(self, name: str, wanted: Any, known: Mapping[str, Any]) -> Any:
        if not callable(wanted):
            return float(wanted)
        return call(f"a value of condition '{name}'", wanted, known)

    def _pieces(self, on: On) -> list[Piece]:
        return [] if isinstance(on, Initial) else self.system.pieces(on)

    def _distance(self, on: On, known: Mapping[str, Any]) -> Any:
        if isinstance(on, Initial):
            return 1 - torch.exp(self.system.region.time.low - known["t"])
        space = {v: known[v] for v in self.system.region.space}
        every = [distance(p, space, self._is_outer(p)) for p in self._pieces(on)]
        return meet(*every)

    def _is_outer(self, piece: Piece) -> bool:
        """Return whether the domain lies inside the sphere that a piece is part of."""
        x = self._inside[:, : len(self.system.region.space)]
        primitive = piece.piece if isinstance(piece, Cut) else piece
        if not isinstance(primitive, Sphere):
            return True
        return bool(((x - primitive.center).norm(dim=1) < primitive.radius).all())

    @functools.cached_property
    def _inside(self) -> Tensor:
        return self.system.region.sample(LOOK, torch.Generator().manual_seed(0))

    def _mask(
        self, named: Mapping[str, On], phi: Mapping[str, Any], known: Mapping[str, Any]
    ) -> Any:
        pieces = [p for on in named.values() for p in self._pieces(on)]
        boundary = [phi[n] for n, on in named.items() if not isinstance(on, Initial)]
        start = [phi[n] for n, on in named.items() if isinstance(on, Initial)]
        if pieces and all(isinstance(p, Face) for p in pieces):
            space = {v: known[v] for v in self.system.region.space}
            axes: dict[int, list] = {}
            for p in pieces:
                axes.setdefault(p.axis, []).append(distance(p, space))
            return _product([meet(*found) for found in axes.values()] + start)
        return _product(([meet(*boundary)] if boundary else []) + start)

    def _check(self, name: str, on: On) -> None:
        """Refuse parts whose function vanishes inside the domain."""
        if isinstance(on, Initial):
            return
        if on.where.labels & {"initial", "final"}:
            raise InvalidArgument(f"condition '{name}' in hard_conditions", "Initial(u=...)")
        columns = self._inside.unbind(1)
        known = dict(zip(self.system.region.variables, columns, strict=True))
        if not bool((self._distance(on, known) > 0).all()):
            raise InvalidArgument(
                f"condition '{name}' in hard_conditions on {on.where}, whose lines or spheres "
                "cross the domain",
                "sides that the whole domain lies on one side of",
                "Leave it out: it is then a term of the loss",
            )

    def curvature(self) -> dict[str, tuple[float, float]]:
        """Return the largest |Laplacian| of lift and mask over random points, by output.

        Large numbers, 1e4 say, tell that the ansatz is harder to train than the condition is.
        """
        region, found = self.system.region, {}
        second = frozenset(
            tuple(2 * (v == w) for w in region.variables) for v in region.space
        )  # fmt: skip
        x = variables(self._inside[:, :], lattice_of(second))
        known = {v: x[:, k : k + 1] for k, v in enumerate(region.variables)}
        zero = 0.0 * x[:, :1]
        outputs = dict.fromkeys(self.system.outputs, zero)
        lifts = self({**known, **outputs})
        ones = self({**known, **{name: zero + 1.0 for name in outputs}})

        def largest(jet: MultiJet) -> float:
            return float(sum(jet.derivative(a) for a in second).abs().max())

        for name, lift in lifts.items():
            found[name] = (largest(lift), largest(ones[name] - lift))
        return found
