"""A domain cut into overlapping windows, with a small network in each (FBPINN).

    u(z) = sum_j  w_j(z) N_j((z - c_j) / h_j),      sum_j w_j = 1

Windows form a grid over the inputs, which an `Ansatz` scales to [-1, 1]. Along an axis with n parts
window j is flat over its part and fades over the overlap to both sides,

    w_j(z) ~ S((z - c_j + h) / d) S((c_j + h - z) / d),      S the logistic function,

without the factors at the ends of the domain; divided by their sum they are a smooth partition of
unity, with all derivatives. Each network sees coordinates of its own window, where a fine structure
is a coarse one: high frequencies are learned as fast as low ones. All networks see all points: the
cost is that of the sum of them, which is little for the small networks this is for.

Reference: Moseley, Markham and Nissen-Meyer 2023, "Finite basis physics-informed neural networks
(FBPINNs)", Adv. Comput. Math. 49, arXiv 2107.07871. Departures: windows are normalised; they have
no compact support.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sciml.errors import InvalidArgument
from sciml.networks.pointwise.mlp import MLP
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable

FADE = 10.0  # widths of the logistic function from 0.7 % to 99.3 %
REMEMBERED = 8  # sets of points whose windows are kept


@typed
class FBPINN(nn.Module):
    """A sum of perceptrons, one per window.

    Args:
        dim: Zero: inputs come as features.
        time: Whether the network sees t; false, for the same reason.
        features: Number of inputs m, in [-1, 1].
        outputs: Number of outputs K.
        parts: Windows along every input, one number or one per input; 1 for the harmonics of a
            periodic variable.
        overlap: Share of a part over which neighbours fade into each other.
        width: Hidden width of each network.
        depth: Linear layers of each, at least 2.
        activation: tanh, sin, gelu or silu.

    Shapes: f `(N, m)` to `(N, K)`; x and t are None.

    Raises:
        InvalidArgument: For other inputs, or numbers out of range.

    Example:
        >>> import torch
        >>> from sciml.networks import FBPINN
        >>> network = FBPINN(features=2, parts=[3, 2], width=4, depth=2)
        >>> f = 2 * torch.rand(5, 2) - 1
        >>> tuple(network(None, None, f).shape), len(network.windows(f))
        ((5, 1), 6)
        >>> round(sum(network.windows(f)).mean().item(), 4)  # the windows add up to one
        1.0
    """

    def __init__(
        self,
        *,
        dim: int = 0,
        time: bool = False,
        features: int = 0,
        outputs: int = 1,
        parts: int | list[int] = 4,
        overlap: float = 0.5,
        width: int = 16,
        depth: int = 3,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        if dim or time or not features:
            raise InvalidArgument(
                "network=fbpinn on coordinates and time",
                "a system of equations (model=pinn_system)",
            )
        several = [parts] * features if isinstance(parts, int) else list(parts)
        if len(several) != features or not all(isinstance(n, int) and n > 0 for n in several):
            raise InvalidArgument(
                f"network.parts={parts} for {features} inputs",
                "a positive integer, or one per input",
                "A variable that is periodic has two inputs per harmonic, each with 1 part",
            )
        if not 0 < overlap <= 2:
            raise InvalidArgument(f"network.overlap={overlap}", "a number in (0, 2]")
        self.parts, self.overlap = several, float(overlap)
        self.cells = list(itertools.product(*(range(n) for n in several)))
        sizes = {"width": width, "depth": depth, "activation": activation}
        self.networks = nn.ModuleList(
            MLP(dim=0, features=features, outputs=outputs, **sizes) for _ in self.cells
        )
        centers = [
            [(2 * j + 1) / n - 1 for j, n in zip(c, several, strict=True)] for c in self.cells
        ]
        self.register_buffer("centers", torch.tensor(centers))
        self.register_buffer("scale", torch.tensor([n / (1 + overlap) for n in several]))
        self._known: list[tuple[Any, list]] = []

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, K)`."""
        total = None
        for k, window in enumerate(self.windows(f)):
            part = self.networks[k](None, None, (f - self.centers[k]) * self.scale)
            part = part if window is None else window * part
            total = part if total is None else total + part
        return total

    def windows(self, f: Differentiable) -> list:
        """Return the windows `(N, 1)` at the inputs, tensors or jets; None for a single one."""
        for seen, windows in self._known:
            if seen is f:
                return windows
        axes = [self._along(f[:, i : i + 1], n) for i, n in enumerate(self.parts)]
        made = []
        for cell in self.cells:
            factors = [axes[i][j] for i, j in enumerate(cell) if axes[i] is not None]
            product = None
            for factor in factors:
                product = factor if product is None else product * factor
            made.append(product)
        if not getattr(f, "packed", f).requires_grad:  # the same points come again
            self._known = [(f, made), *self._known[: REMEMBERED - 1]]
        return made

    def _along(self, z: Differentiable, n: int) -> list | None:
        """Return the normalised windows along one input."""
        if n == 1:
            return None
        width = self.overlap * 2 / n / FADE
        edges = [2 * j / n - 1 for j in range(1, n)]
        rising = [torch.sigmoid((z - e) * (1 / width)) for e in edges]
        found = []
        for j in range(n):
            left = rising[j - 1] if j else None
            right = 1 - rising[j] if j < n - 1 else None
            found.append(left if right is None else right if left is None else left * right)
        total = found[0]
        for window in found[1:]:
            total = total + window
        return [window / total for window in found]

    def __getstate__(self) -> dict[str, Any]:
        """Leave remembered windows out of copies."""
        return {**self.__dict__, "_known": []}
