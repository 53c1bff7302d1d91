"""Material laws: Hooke's law, an elastic law that softens, and von Mises plasticity.

Each supplies the radial functions of `sciml.physics.solids.materials.Material`, which forms energy,
stress and tangent from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_number, check_positive
from sciml.physics.solids.materials import TINY, Material, Radial
from sciml.typed_arguments import typed

SERIES_BELOW = 1e-3  # n / a2 below which n - a2 log(1 + n / a2) would cancel


@typed
@dataclass(frozen=True)
class LinearElastic(Material):
    """Hooke's law, w = G n^2.

    Args:
        bulk: K.
        shear: G.

    Example:
        >>> from sciml.physics.solids import LinearElastic
        >>> round(LinearElastic.from_young(73000.0, 0.22).shear, 4)
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

    Example:
        >>> import torch
        >>> from sciml.physics.solids import SofteningElastic
        >>> matrix = SofteningElastic(bulk=5000.0, a1=80.0, a2=0.02)
        >>> shear = torch.tensor([[0.0, 0.0, 0.01], [0.0, 0.0, 0.1]], dtype=torch.float64)
        >>> [round(s, 2) for s in matrix.stress(shear)[:, 2].tolist()]  # not ten times as much
        [14.78, 44.1]
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

    Example:
        >>> import torch
        >>> from sciml.physics.solids import J2Plasticity
        >>> metal = J2Plasticity(bulk=160e3, shear=80e3, yield_stress=200.0, hardening=1000.0)
        >>> step = metal.response(torch.tensor([[0.0, 0.0, 0.01]], dtype=torch.float64))
        >>> round(step.stress[0, 2].item(), 1), round(step.state[0, 3].item(), 5)
        (118.3, 0.00492)
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
