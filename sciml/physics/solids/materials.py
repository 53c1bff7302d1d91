"""Small-strain materials in plane strain: energy, stress and tangent from one set of formulas.

Strain is e = (exx, eyy, gxy) with the engineering shear gxy = 2 exy, stress s = (sxx, syy, sxy).
Every law here has the form

    psi = K tr^2 / 2 + w(n),     s = K tr (1, 1, 0) + g(n) d,     g = w' / n,
    ds/de = K 1 x 1 + g P + (g' / n) d x d,

d the *three-dimensional* deviator of the strain (ezz = 0, so dzz = -tr/3), n its norm with dzz and
P = dd/de. Without dzz in n there is no energy and the homogenised tangent is unsymmetric. A
material supplies w, g and g'/n; plasticity has this form too, d then being the deviator less the
plastic strain of the last step, and psi the incremental energy whose derivative is the stress.

The formulas are written once, in torch: training differentiates through them, on any device and in
any precision, while the finite elements hand over NumPy arrays, whose memory torch reads in place
(`torch.from_numpy`) and gives back. A second copy in NumPy could disagree with the first one.

Sources: Eivazi et al., arXiv 2504.07976 (the matrix law); Simo and Hughes, Computational
Inelasticity, 1998, sections 3.2-3.4 (return mapping and consistent tangent); Ortiz and Stainier,
Comput. Methods Appl. Mech. Eng. 171, 1999 (incremental energy).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from sciml.arguments import typed
from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.checks import check_number, check_positive

Array = TypeVar("Array", Tensor, np.ndarray)

# Under the root of the norm: its derivative at zero strain is then 0 instead of NaN.
TINY = 1e-30
SERIES_BELOW = 1e-3  # n / a2 below which n - a2 log(1 + n / a2) would cancel


class Radial(NamedTuple):
    """Deviatoric part of a law at points of norm n, each `(...)`."""

    energy: Tensor  # w(n)
    ratio: Tensor  # g = w'(n) / n
    curvature: Tensor  # g'(n) / n


class Response(NamedTuple):
    """What a material answers to a strain.

    Attributes:
        stress: `(..., 3)`.
        tangent: `(..., 3, 3)`, the exact derivative of `stress` with respect to the strain.
        state: `(..., internal)` internal variables at the end of the step.
    """

    stress: Tensor
    tangent: Tensor
    state: Tensor


def as_tensor(name: str, value: Tensor | np.ndarray, width: int) -> Tensor:
    """Return `value` as a tensor that shares its memory where it can, with `width` components."""
    if isinstance(value, np.ndarray):
        value = value if value.dtype.kind == "f" else value.astype(np.float64)
        whole = value.flags.writeable and min(value.strides, default=0) >= 0
        value = torch.from_numpy(value if whole else value.copy())
    if not isinstance(value, Tensor):
        raise InvalidType(
            f"{name} of type {type(value).__name__}",
            "a torch tensor or a NumPy array",
            f"Type np.asarray({name})",
        )
    if not value.dim() or value.shape[-1] != width:
        raise InvalidArgument(
            f"{name} of shape {tuple(value.shape)}", f"a last axis of {width} components"
        )
    return value


def shares_arrays(method: Callable) -> Callable:
    """Let a method written for tensors answer NumPy arrays in NumPy arrays, without a copy."""

    @wraps(method)
    def call(self: Material, strain: Array, state: Array | None = None):
        arrays = isinstance(strain, np.ndarray)
        strain = as_tensor("strain", strain, 3)
        if state is None:
            state = strain.new_zeros((*strain.shape[:-1], self.internal))
        out = method(self, strain, as_tensor("state", state, self.internal))
        if not arrays:
            return out
        return out.numpy() if isinstance(out, Tensor) else type(out)(*(v.numpy() for v in out))

    return call


def volume_and_deviator(strain: Tensor) -> tuple[Tensor, Tensor]:
    """Return tr(e) `(...)` and the tensor components (dxx, dyy, dxy) `(..., 3)`; dzz = -dxx-dyy."""
    xx, yy, shear = strain.unbind(-1)
    trace = xx + yy
    return trace, torch.stack([xx - trace / 3, yy - trace / 3, shear / 2], -1)


def deviator_norm(deviator: Tensor) -> Tensor:
    """Return the norm `(...)` over all three dimensions of a deviator, never below 1e-15."""
    xx, yy, xy = deviator.unbind(-1)
    return torch.sqrt(xx**2 + yy**2 + (xx + yy) ** 2 + 2 * xy**2 + TINY)


class Material(ABC):
    """A law s(e) in plane strain with bulk modulus K and a radial deviatoric part.

    Tensors give tensors that carry gradients, NumPy arrays give NumPy arrays.

    Attributes:
        bulk: K, in the unit of the stress.
        internal: Internal variables per point; 0 for elastic laws.
    """

    bulk: float
    internal: ClassVar[int] = 0

    @abstractmethod
    def radial(self, n: Tensor, state: Tensor) -> Radial:
        """Return w, w'/n and (w'/n)'/n at norms n `(...)`."""

    def elastic_deviator(self, deviator: Tensor, state: Tensor) -> Tensor:
        """Return the deviator `(..., 3)` that stores energy; elastic laws take the whole."""
        return deviator

    def advance(self, deviator: Tensor, n: Tensor, state: Tensor) -> Tensor:
        """Return the internal variables `(..., internal)` at the end of the step."""
        return state

    @shares_arrays
    def energy(self, strain: Array, state: Array | None = None) -> Array:
        """Return psi `(...)`, stress times strain; for plasticity that of the step.

        Args:
            strain: `(..., 3)`, (exx, eyy, gxy).
            state: `(..., internal)` internal variables before the step; None for a virgin material.
        """
        trace, deviator = volume_and_deviator(strain)
        n = deviator_norm(self.elastic_deviator(deviator, state))
        return self.bulk * trace**2 / 2 + self.radial(n, state).energy

    @shares_arrays
    def stress(self, strain: Array, state: Array | None = None) -> Array:
        """Return s = d psi / d e `(..., 3)`; arguments as in `energy`."""
        trace, deviator = volume_and_deviator(strain)
        deviator = self.elastic_deviator(deviator, state)
        ratio = self.radial(deviator_norm(deviator), state).ratio
        return self._stress(trace, ratio, deviator)

    @shares_arrays
    def response(self, strain: Array, state: Array | None = None) -> Response:
        """Return stress, tangent and the new internal variables; arguments as in `energy`.

        Raises:
            InvalidArgument: If the last axis of `strain` or `state` has the wrong length.
            InvalidType: If `strain` is neither a tensor nor an array.
        """
        trace, deviator = volume_and_deviator(strain)
        deviator = self.elastic_deviator(deviator, state)
        n = deviator_norm(deviator)
        _, ratio, curvature = self.radial(n, state)
        projection = strain.new_tensor([[2.0, -1.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 1.5]]) / 3
        volume = strain.new_tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]) * self.bulk
        tangent = torch.addcmul(volume, ratio[..., None, None], projection)
        pull = curvature[..., None] * deviator
        tangent = torch.addcmul(tangent, pull[..., :, None], deviator[..., None, :])
        stress = self._stress(trace, ratio, deviator)
        return Response(stress, tangent, self.advance(deviator, n, state))

    def _stress(self, trace: Tensor, ratio: Tensor, deviator: Tensor) -> Tensor:
        pressure = self.bulk * trace
        zero = torch.zeros_like(pressure)
        return torch.stack([pressure, pressure, zero], -1) + ratio[..., None] * deviator


@typed
@dataclass(frozen=True)
class LinearElastic(Material):
    """Hooke's law, w = G n^2.

    Args:
        bulk: K.
        shear: G.

    Example:
        >>> LinearElastic.from_young(73000.0, 0.22).shear.__round__(4)
        29918.0328
    """

    bulk: float
    shear: float

    def __post_init__(self) -> None:
        """Check the moduli."""
        check_positive("bulk", self.bulk)
        check_positive("shear", self.shear)

    @classmethod
    def from_young(cls, young: float, poisson: float) -> LinearElastic:
        """Return the law of Young's modulus E and Poisson's ratio nu, -1 < nu < 1/2."""
        check_positive("young", young)
        if not -1 < poisson < 0.5:
            raise InvalidArgument(
                f"poisson={poisson}", "a number between -1 and 0.5, both left out"
            )
        return cls(young / (3 * (1 - 2 * poisson)), young / (2 * (1 + poisson)))

    def radial(self, n: Tensor, state: Tensor) -> Radial:
        """Return G n^2, 2G and 0."""
        ratio = torch.full_like(n, 2 * self.shear)
        # the floor under the norm is no strain
        return Radial(self.shear * (n**2 - TINY), ratio, torch.zeros_like(n))


@typed
@dataclass(frozen=True)
class SofteningElastic(Material):
    """Nonlinear elastic law whose shear stiffness falls with the strain, 2G = a1 / (a2 + n).

    Args:
        bulk: K.
        a1: Deviatoric stress that is approached, in the unit of the stress.
        a2: Strain at which half of it is reached.
    """

    bulk: float
    a1: float
    a2: float

    def __post_init__(self) -> None:
        """Check the parameters."""
        for parameter in fields(self):
            check_positive(parameter.name, getattr(self, parameter.name))

    def radial(self, n: Tensor, state: Tensor) -> Radial:
        """Return a1 (n - a2 log(1 + n / a2)), a1 / (a2 + n) and -a1 / (a2 + n)^2 / n."""
        x = n / self.a2
        square = (n**2 - TINY) / self.a2**2  # the floor under the norm is no strain
        series = square * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x * (1 / 5 - x / 6))))
        energy = torch.where(x < SERIES_BELOW, series, x - torch.log1p(x))
        ratio = self.a1 / (self.a2 + n)
        return Radial(self.a1 * self.a2 * energy, ratio, -ratio / (self.a2 + n) / n)


@typed
@dataclass(frozen=True)
class J2Plasticity(Material):
    """Von Mises plasticity with linear isotropic hardening, integrated by backward Euler.

    The radial return is closed: with the trial norm n and the radius
    R = sqrt(2/3) (yield_stress + hardening alpha), the plastic step is
    (2G n - R)_+ / (2G + 2/3 hardening) along the trial deviator.

    The internal variables are the plastic strain (pxx, pyy, pxy) as tensor components
    (pzz = -pxx - pyy) and the equivalent plastic strain alpha.

    Args:
        bulk: K.
        shear: G.
        yield_stress: Initial yield stress under uniaxial load.
        hardening: Slope of the yield stress over alpha; 0 is perfect plasticity.
    """

    bulk: float
    shear: float
    yield_stress: float
    hardening: float = 0.0
    internal: ClassVar[int] = 4

    def __post_init__(self) -> None:
        """Check the parameters."""
        for name in ("bulk", "shear", "yield_stress"):
            check_positive(name, getattr(self, name))
        check_number("hardening", self.hardening, 0.0)

    def elastic_deviator(self, deviator: Tensor, state: Tensor) -> Tensor:
        """Return the trial deviator: the plastic strain stays what it was."""
        return deviator - state[..., :3]

    def _step(self, n: Tensor, state: Tensor) -> Tensor:
        radius = math.sqrt(2 / 3) * (self.yield_stress + self.hardening * state[..., 3])
        excess = (2 * self.shear * n - radius).clamp_min(0)
        return excess / (2 * self.shear + 2 / 3 * self.hardening)

    def radial(self, n: Tensor, state: Tensor) -> Radial:
        """Return the incremental energy at trial norms n, and its derivatives.

        It is the elastic energy behind the step plus the plastic work of the step; its
        derivative is the stress because the step minimises it.
        """
        step, alpha = self._step(n, state), state[..., 3]
        grown = math.sqrt(2 / 3) * step
        work = grown * (self.yield_stress + self.hardening * (alpha + grown / 2))
        energy = self.shear * ((n - step) ** 2 - TINY) + work
        double = 2 * self.shear
        ratio = double * (1 - step / n)
        lost = double**2 / (double + 2 / 3 * self.hardening)
        # no torch.where of two plain numbers: it would answer in single precision
        slope = double - lost * (step > 0).to(n.dtype)
        return Radial(energy, ratio, (slope - ratio) / n**2)

    def advance(self, deviator: Tensor, n: Tensor, state: Tensor) -> Tensor:
        """Return the plastic strain and alpha after the return."""
        step = self._step(n, state)
        flow = (step / n)[..., None] * deviator
        return state + torch.cat([flow, (math.sqrt(2 / 3) * step)[..., None]], -1)


# The phases of arXiv 2504.07976, in N/mm^2.
EQUINO_MATRIX = SofteningElastic(bulk=4780.0, a1=50.0, a2=0.06)
EQUINO_FIBRE = LinearElastic(bulk=43452.381, shear=29918.0328)
