"""Several materials at quadrature points of a cell, and their Fenchel residual.

For a strain e and a stress s at the same point, Fenchel's inequality says

    psi(e) + psi*(s) - s : e >= 0,      psi*(s) = sup_e s : e - psi(e),

with equality where s = d psi / d e. Integrated over a cell with a compatible strain of mean ehat
and a stress in equilibrium of mean shat, it is the constitutive-relation error; for convex psi

    eta = int psi(e) + psi*(s) dV - shat . ehat  >=  W(ehat) + W*(shat) - shat . ehat
        >=  1/2 (shat - W'(ehat))^T Chat0^-1 (shat - W'(ehat)):

W is the homogenised energy, W'(ehat) the exact stress, and the last step holds with the stiffness
Chat0 at small strain for laws that soften, whose stiffness nowhere exceeds it. So sqrt(2 eta)
bounds the error of the homogenised stress, with no reference at hand.

Sources: Ladeveze and Leguillon, SIAM J. Numer. Anal. 20, 1983 (constitutive-relation error); Ponte
Castaneda and Suquet, Adv. Appl. Mech. 34, 1998 (effective energies and their duals).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.arguments import integers, shown, takes
from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.solids.materials import Material, Response
from sciml.typed_arguments import typed

LARGEST_NORM = 1e3  # of a deviator: a stress that asks for more has no strain
BISECTIONS = 60


class Composite:
    """Materials at Q points, one of them at each.

    Args:
        materials: One per phase, elastic.
        phase: `(Q,)` phase of every point, in ascending order.

    Raises:
        InvalidArgument: If phases are not sorted or have no material, or a material has a history.

    Example:
        >>> import torch
        >>> from sciml.physics.solids import EQUINO_FIBRE, EQUINO_MATRIX, Composite
        >>> points = Composite([EQUINO_MATRIX, EQUINO_FIBRE], torch.tensor([0, 0, 1]))
        >>> tuple(points.stress(torch.full((3, 3), 0.01)).shape), tuple(points.moduli()[0].shape)
        ((3, 3), (3,))
    """

    @takes(phase=integers)
    def __init__(self, materials: Sequence[Material], phase: Tensor) -> None:
        self.materials = tuple(materials) if isinstance(materials, Sequence) else ()
        if not self.materials or not all(isinstance(m, Material) for m in self.materials):
            raise InvalidType(f"materials is {shown(materials)}", "a list of materials")
        counts = torch.bincount(phase, minlength=len(self.materials)).tolist()
        if len(counts) > len(self.materials) or bool((phase.diff() < 0).any()):
            raise InvalidArgument(
                f"phases up to {len(counts) - 1} at points for {len(self.materials)} materials",
                "phases 0, 1, ... in ascending order, one material each",
            )
        if any(material.internal for material in self.materials):
            raise InvalidArgument(
                "a material with internal variables", "elastic materials, which have one energy"
            )
        self.counts = counts

    def _each(self, name: str, values: Tensor) -> list:
        parts = values.split(self.counts, -2)
        return [getattr(m, name)(part) for m, part in zip(self.materials, parts, strict=True)]

    def stress(self, strain: Tensor) -> Tensor:
        """Return `(..., Q, 3)` for strains `(..., Q, 3)`."""
        return torch.cat(self._each("stress", strain), -2)

    def energy(self, strain: Tensor) -> Tensor:
        """Return psi `(..., Q)`."""
        return torch.cat(self._each("energy", strain), -1)

    def response(self, strain: Tensor) -> Response:
        """Return stress `(..., Q, 3)` and tangent `(..., Q, 3, 3)`; there is no state."""
        parts = self._each("response", strain)
        stress, tangent = (torch.cat([p[i] for p in parts], -2 - i) for i in range(2))
        return Response(stress, tangent, strain.new_zeros(*strain.shape[:-1], 0))

    def moduli(self) -> tuple[Tensor, Tensor]:
        """Return K and the small-strain 2G at every point, `(Q,)` each, float64."""
        zero = torch.zeros(1, dtype=torch.float64)
        none = torch.zeros(1, 0, dtype=torch.float64)
        shear = [float(m.radial(zero, none).ratio) for m in self.materials]
        counts = torch.tensor(self.counts)
        values = torch.tensor([[m.bulk for m in self.materials], shear], dtype=torch.float64)
        return tuple(values.repeat_interleave(counts, 1))

    def dual_energy(self, stress: Tensor) -> Tensor:
        """Return psi* `(..., Q)`; infinite where no strain has as much stress."""
        parts = stress.split(self.counts, -2)
        return torch.cat(
            [dual_energy(m, part) for m, part in zip(self.materials, parts, strict=True)], -1
        )


@typed
def dual_energy(material: Material, stress: Tensor) -> Tensor:
    """Return psi*(s) = sup_e s : e - psi(e) over strains in the plane `(...)`.

    With p = (sxx + syy)/2 and tau the norm of the in-plane deviator of the stress, the supremum is
    at the trace t and the in-plane deviator of norm m for which

        t = p / (K + g(n) / 6),     m = tau / g(n),     n^2 = t^2 / 6 + m^2,

    one equation for n, solved by bisection.

    Args:
        material: Elastic.
        stress: `(..., 3)`.

    Example:
        >>> import torch
        >>> from sciml.physics.solids import LinearElastic
        >>> from sciml.physics.solids.composite import dual_energy
        >>> material = LinearElastic.from_young(1000.0, 0.3)
        >>> strain = torch.tensor([[0.01, 0.0, 0.02]], dtype=torch.float64)
        >>> stress = material.stress(strain)
        >>> both = material.energy(strain) + dual_energy(material, stress)
        >>> work = (stress * strain).sum(-1)
        >>> bool((both - work).abs() < 1e-12)  # for any other stress it is more
        True
    """
    xx, yy, xy = stress.unbind(-1)
    mean, tau = (xx + yy) / 2, torch.sqrt((xx - yy) ** 2 / 2 + 2 * xy**2)
    state = stress.new_zeros(*mean.shape, 0)

    def parts(n: Tensor) -> tuple[Tensor, Tensor]:
        ratio = material.radial(n, state).ratio
        return mean / (material.bulk + ratio / 6), tau / ratio

    low, high = torch.zeros_like(mean), torch.full_like(mean, LARGEST_NORM)
    trace, deviator = parts(high)
    lost = trace**2 / 6 + deviator**2 > high**2
    # halvings of the exponent first: the norm may be anything from 1e-15 on
    for step in range(BISECTIONS):
        middle = (low * high).clamp_min(1e-32).sqrt() if step < 12 else (low + high) / 2
        trace, deviator = parts(middle)
        below = trace**2 / 6 + deviator**2 > middle**2
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    trace, deviator = parts((low + high) / 2)
    n = torch.sqrt(trace**2 / 6 + deviator**2 + 1e-30)
    value = mean * trace + tau * deviator
    value = value - material.bulk * trace**2 / 2 - material.radial(n, state).energy
    return torch.where(lost, torch.inf, value)
