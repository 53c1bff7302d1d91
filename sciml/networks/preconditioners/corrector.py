"""A convolutional corrector of a coarse solver's states.

    C(s, e) = correction_scale * F(s / scale, e / external_scale)

with F a 5x5 convolution, residual blocks of two 5x5 convolutions with leaky ReLU, and a 5x5
convolution. Corrections of one step are some fifty times smaller than states: with outputs in
units of states the noise of training was as large as what is to be learned.

Source: Um, Brand, Fei, Holl & Thuerey, NeurIPS 2020, arXiv 2007.00016 (five blocks of 32 channels;
fewer here, for a CPU). Departures: outputs are in units of corrections, not of states, and the last
layer starts ten times smaller, so training begins near the uncorrected solver.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed

KERNEL = 5
SMALL = 0.1  # factor on the last layer at the start


@typed
class Corrector(nn.Module):
    """Corrections of states from what the solver made and what acts from outside.

    Args:
        channels: Of a state.
        external: Channels of what acts from outside.
        width: Channels of the blocks.
        blocks: Residual blocks.
        periodic: Whether the grid repeats itself; zeros beyond it if not.
        scale: Standard deviation of states, per channel.
        external_scale: That of what acts from outside.
        correction_scale: That of the corrections of one step; None takes that of the states.

    Raises:
        InvalidArgument: For sizes below 1, or scales that do not fit.

    Example:
        >>> import torch
        >>> from sciml.networks import Corrector
        >>> network = Corrector(channels=2, external=2, width=4, blocks=1)
        >>> tuple(network(torch.rand(3, 2, 8, 8), torch.rand(3, 2, 8, 8)).shape)
        (3, 2, 8, 8)
    """

    def __init__(
        self,
        *,
        channels: int = 2,
        external: int = 2,
        width: int = 16,
        blocks: int = 3,
        periodic: bool = True,
        scale: list[float] | None = None,
        external_scale: list[float] | None = None,
        correction_scale: list[float] | None = None,
    ) -> None:
        super().__init__()
        if min(channels, external, width, blocks) < 1:
            raise InvalidArgument(
                f"channels={channels}, external={external}, width={width}, blocks={blocks}",
                "positive whole numbers",
            )
        scale, outer = scale or [1.0] * channels, external_scale or [1.0] * external
        small = correction_scale or scale
        lengths, wanted = [len(s) for s in (scale, outer, small)], [channels, external, channels]
        if lengths != wanted or min(*scale, *outer, *small) <= 0:
            raise InvalidArgument(
                f"scale={scale}, external_scale={outer}, correction_scale={small}",
                f"{channels}, {external} and {channels} positive numbers",
            )
        self.channels, self.external = channels, external
        mode = "circular" if periodic else "zeros"

        def conv(n: int, m: int) -> nn.Conv2d:
            return nn.Conv2d(n, m, KERNEL, padding=KERNEL // 2, padding_mode=mode)

        self.first = conv(channels + external, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(width, width), nn.LeakyReLU(), conv(width, width))
            for _ in range(blocks)
        )
        self.last = conv(width, channels)
        with torch.no_grad():
            self.last.weight.mul_(SMALL)
            self.last.bias.mul_(SMALL)
        self.register_buffer("scale", torch.tensor(scale).reshape(-1, 1, 1))
        self.register_buffer("external_scale", torch.tensor(outer).reshape(-1, 1, 1))
        self.register_buffer("correction_scale", torch.tensor(small).reshape(-1, 1, 1))
        self.act = nn.LeakyReLU()

    def forward(self, state: Tensor, external: Tensor) -> Tensor:
        """Return what is to be added to the states.

        Args:
            state: `(N, C, nx, ny)`, what the solver made.
            external: `(N, E, nx, ny)`.

        Raises:
            InvalidArgument: If the channels or the grids do not fit.
        """
        wanted = (len(state), self.external, *state.shape[2:])
        if state.dim() != 4 or state.shape[1] != self.channels or external.shape != wanted:
            raise InvalidArgument(
                f"state {tuple(state.shape)} and external {tuple(external.shape)}",
                f"(N, {self.channels}, nx, ny) and (N, {self.external}, nx, ny)",
            )
        x = self.act(self.first(torch.cat([state / self.scale, external / self.external_scale], 1)))
        for block in self.blocks:
            x = self.act(x + block(x))
        return self.correction_scale * self.last(x)

    def infer(self, state: Tensor, external: Tensor) -> dict[str, Tensor]:
        """Return the corrections as `value`."""
        return {"value": self(state, external)}

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return names, shapes and units of what goes in and out."""
        kind = {"unit": "1", "dtype": "float"}
        return {
            "inputs": {
                "state": {"shape": ["N", self.channels, "nx", "ny"], **kind},
                "external": {"shape": ["N", self.external, "nx", "ny"], **kind},
            },
            "outputs": {"value": {"shape": ["N", self.channels, "nx", "ny"], "unit": "1"}},
        }
