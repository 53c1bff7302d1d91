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

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType

TensorOrArray = TypeVar("TensorOrArray", Tensor, np.ndarray)

# Under the root of the norm: its derivative at zero strain is then 0 instead of NaN.
TINY = 1e-30


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

    Example:
        >>> import torch
        >>> from sciml.physics.solids import EQUINO_MATRIX
        >>> response = EQUINO_MATRIX.response(torch.tensor([[0.02, 0.0, 0.0]]))
        >>> tuple(response.stress.shape), tuple(response.tangent.shape), tuple(response.state.shape)
        ((1, 3), (1, 3, 3), (1, 0))
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
    def call(self: Material, strain: TensorOrArray, state: TensorOrArray | None = None) -> Any:
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

    Example:
        >>> import torch
        >>> from sciml.physics.solids import LinearElastic, Material
        >>> steel = LinearElastic.from_young(210e3, 0.3)
        >>> isinstance(steel, Material), steel.internal
        (True, 0)
        >>> [round(s) for s in steel.stress(torch.tensor([0.001, 0.0, 0.0]).double()).tolist()]
        [283, 121, 0]
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
    def energy(self, strain: TensorOrArray, state: TensorOrArray | None = None) -> TensorOrArray:
        """Return psi `(...)`, stress times strain; for plasticity that of the step.

        Args:
            strain: `(..., 3)`, (exx, eyy, gxy).
            state: `(..., internal)` internal variables before the step; None for a virgin material.
        """
        trace, deviator = volume_and_deviator(strain)
        n = deviator_norm(self.elastic_deviator(deviator, state))
        return self.bulk * trace**2 / 2 + self.radial(n, state).energy

    @shares_arrays
    def stress(self, strain: TensorOrArray, state: TensorOrArray | None = None) -> TensorOrArray:
        """Return s = d psi / d e `(..., 3)`; arguments as in `energy`."""
        trace, deviator = volume_and_deviator(strain)
        deviator = self.elastic_deviator(deviator, state)
        ratio = self.radial(deviator_norm(deviator), state).ratio
        return self._stress(trace, ratio, deviator)

    @shares_arrays
    def response(self, strain: TensorOrArray, state: TensorOrArray | None = None) -> Response:
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
