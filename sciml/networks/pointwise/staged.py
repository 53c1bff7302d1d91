"""Networks trained one after the other, each on what the sum of those before it leaves over.

    n(x) = sum_{k <= s} c_k n_k(x),   c_1 = 1,

with the networks before the present one, s, frozen. Two numbers make a later stage work: its size
c_s, so that it says something of the size of the error with weights of size one, and a frequency
for every input, by which its first layer is multiplied, so that it begins as rough as the residual
is. `sciml.modules.stages` measures both.

References: Emami and Martinez-Munoz 2019, arXiv 1909.12098 (sequential training on residuals);
Wang and Lai 2023, arXiv 2307.08934 (size and frequency of a stage).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.pointwise.mlp import MLP
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


@typed
class Staged(nn.Module):
    """A sum of perceptrons, of which the newest one is trained.

    Args:
        dim: Number of coordinates, 0 if the network does not see x.
        time: Whether the network sees t.
        features: Number of known features.
        outputs: Number of outputs K.
        stages: Perceptrons in the sum at the end, at least 2.
        width: Hidden width of each.
        depth: Linear layers of each, at least 2.
        activation: tanh, sin, gelu or silu.

    Attributes:
        live: The perceptron that is trained.
        past: Frozen ones of the stages before; those of stages to come hold their first weights.

    Shapes: x `(N, d)`, t `(N, 1)`, f `(N, m)` to `(N, K)`.

    Raises:
        InvalidArgument: For fewer than two stages.

    Example:
        >>> import torch
        >>> from sciml.networks import Staged
        >>> network, x = Staged(dim=2, stages=2, width=8, depth=2), torch.rand(5, 2)
        >>> before = network(x)
        >>> network.advance(size=0.0, frequencies=torch.ones(2))  # of no size yet
        >>> network.index, torch.equal(network(x), before)
        (1, True)
    """

    def __init__(
        self,
        *,
        dim: int,
        time: bool = False,
        features: int = 0,
        outputs: int = 1,
        stages: int = 2,
        width: int = 32,
        depth: int = 4,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        if stages < 2:
            raise InvalidArgument(
                f"network.stages={stages}", "an integer of at least 2", "Type network=mlp for one"
            )
        sizes: dict[str, Any] = {"dim": dim, "time": time, "features": features, "width": width}
        sizes |= {"outputs": outputs, "depth": depth, "activation": activation}
        self.stages = stages
        self.live = MLP(**sizes)
        self.past = nn.ModuleList(MLP(**sizes) for _ in range(stages - 1)).requires_grad_(False)
        self.register_buffer("sizes", torch.ones(stages))
        self.register_buffer("factor", torch.ones((), dtype=torch.float64))
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))
        self._number: int | None = None  # the same on the host, where training looks
        self._factor: float | None = None

    @property
    def index(self) -> int:
        """Number of the present stage, from 0."""
        if self._number is None or not self.training:  # whoever loads weights may have changed it
            self._number = int(self.number)
        return self._number

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, K)`."""
        total = self.sizes[self.index] * self.live(x, t, f)
        for k, network in enumerate(self.past[: self.index]):
            total = total + self.sizes[k] * network(x, t, f)
        return total

    @torch.no_grad()
    def advance(self, *, size: float, frequencies: Tensor) -> None:
        """Freeze the present perceptron and begin the next one, whose weights are new.

        Args:
            size: c of the next stage.
            frequencies: Factors of its first layer, one per input: coordinates, time, features.

        Raises:
            InvalidArgument: After the last stage.
        """
        k = self.index
        if k + 1 >= self.stages:
            raise InvalidArgument(f"Staged.advance() in stage {k + 1}", f"{self.stages} stages")
        new = {name: value.clone() for name, value in self.past[k].state_dict().items()}
        self.past[k].load_state_dict(self.live.state_dict())
        self.live.load_state_dict(new)
        layer, left = self.live.input, frequencies.to(self.sizes)
        middle = left.log().mean().exp()
        for part in (layer.x, layer.t, layer.f):
            if part is not None:
                own, left = left[: part.in_features], left[part.in_features :]
                part.weight.mul_(own)
                if part.bias is not None:
                    part.bias.mul_(middle)  # so that kinks still lie all over the domain
        self.number += 1
        self._number = k + 1
        self.sizes[k + 1] = size

    @torch.no_grad()
    def set_size(self, size: float) -> None:
        """Set c of the present stage."""
        self.sizes[self.index] = size

    def loss_factor(self) -> float:
        """Return the number by which the loss of the present stage is multiplied."""
        if self._factor is None:
            self._factor = float(self.factor)
        return self._factor

    def set_loss_factor(self, factor: float) -> None:
        """Set the number by which the loss of the present stage is multiplied."""
        self.factor.fill_(factor)
        self._factor = factor

    def _load_from_state_dict(self, *args: Any) -> None:
        """Read the number of the stage and the factor of its loss again."""
        self._number = self._factor = None
        super()._load_from_state_dict(*args)
