"""Standing waves: networks of space times sines and cosines of time, whose frequencies are trained.

    u(x, t) = sum_{k=1..m} a_k(x) cos(w_k s) + b_k(x) sin(w_k s),      s = t + 1

with a and b the outputs of one network of x, and t, the last input, scaled to [-1, 1]. For a linear
equation with coefficients that do not depend on time, such as a wave's, the mean square of the
residual over many periods is the sum of those of the terms: it has no minima between two
frequencies, as a fit of an oscillation has, and the length of the time costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from sciml.errors import InvalidArgument
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.sizes import check_sizes
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


@typed
class StandingWaves(nn.Module):
    """A sum of products of functions of space and oscillations in time.

    Args:
        dim: Has to be 0; there for the signature all networks share.
        time: Has to be False; likewise.
        features: Number of inputs, time the last of them.
        outputs: Number of outputs K.
        width: Hidden width of the network of space.
        depth: Its linear layers, at least 2.
        waves: Number m of frequencies.
        highest: Frequencies at the start are spread evenly from 0 to this one, per half of the
            time.
        activation: tanh, sin, gelu or silu.

    Raises:
        InvalidArgument: For no space beside time, inputs that are no features, or no frequency.

    Example:
        >>> import torch
        >>> from sciml.networks import StandingWaves
        >>> network = StandingWaves(features=3, waves=4, highest=20.0, width=16, depth=3)
        >>> tuple(network(None, None, torch.rand(5, 3)).shape)
        (5, 1)
    """

    def __init__(
        self,
        *,
        dim: int = 0,
        time: bool = False,
        features: int = 2,
        outputs: int = 1,
        width: int = 24,
        depth: int = 3,
        waves: int = 4,
        highest: float = 10.0,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        check_sizes(width=width, depth=depth, outputs=outputs, waves=waves)
        if dim or time or features < 2:
            raise InvalidArgument(
                f"standing waves of {features} features", "space and time as features, time last"
            )
        if not highest > 0:
            raise InvalidArgument(f"network.highest={highest}", "a positive frequency")
        self.space = MLP(
            dim=0,
            features=features - 1,
            outputs=2 * waves * outputs,
            width=width,
            depth=depth,
            activation=activation,
        )
        self.phase = nn.Linear(1, waves, bias=False)
        with torch.no_grad():
            self.phase.weight.copy_((torch.arange(1, waves + 1)[:, None] - 0.5) / waves)
        self.outputs, self.waves, self.highest = outputs, waves, highest

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, K)`."""
        # the weights are shares of the highest: steps that damp all weights alike can move them
        phase = self.phase((f[..., -1:] + 1) * self.highest)
        swing = torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)
        shapes = self.space(None, None, f[..., :-1])
        m = 2 * self.waves
        parts = [
            (shapes[..., k * m : (k + 1) * m] * swing).sum(-1, keepdim=True)
            for k in range(self.outputs)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
