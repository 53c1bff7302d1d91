"""The Fourier layer of neural operators on square grids.

    A z = W z + b + F^-1(R . F z),     R a matrix of channels per kept mode

Reference: Li et al. 2021, arXiv 2010.08895. Departures: mode weights are pairs of real numbers, so
that every optimizer, precision and process group treats them like all others; the kernel starts
short and smooth; |A| may be bounded.

`sciml.networks.spectral.spectral_convolution` has the convolution alone, in any dimension.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.sizes import check_sizes


class FourierLayer(nn.Module):
    """`A z = W z + b + F^-1(R . F z)` over the modes -m <= k_1 < m, 0 <= k_2 < m, on any grid.

    Only 2 m^2 modes are wanted, so the transforms are products with the few rows of the Fourier
    matrix that belong to them; up to a few hundred points per side that is faster than an FFT, and
    everything stays real: R_k is the real 2C x 2C matrix of (Re, Im).

    **Start.** R_k = M / (1 + |k|^2 / 4) with one random real matrix M for all modes: a smooth and
    short kernel, as solution operators of elliptic equations have. Independent random R_k are a
    rough kernel as long as the square, which training has to forget first.

    **Units.** Weights are stored times sqrt(C): steps of an optimizer that moves every entry alike,
    as Adam's, change A in proportion to the learning rate, whatever C.

    Args:
        channels: Channels in and out, C.
        modes: m.
        scale: Size of the initial weights; at 1 the norm of R_0 is about 2, that of W about 0.3.
        bound: Bound on the L2 norm of A; None for none. Every mode's matrix W + R_k, and W for the
            modes without R, is divided by what its norm exceeds the bound by. The norm is taken by
            its upper bound (tr (M^T M)^16)^(1/32), at most n^(1/32) times too large.
    """

    def __init__(
        self, channels: int, modes: int, scale: float = 1.0, bound: float | None = None
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, modes=modes)
        self.channels, self.modes, self.bound = channels, modes, bound
        k2 = torch.arange(modes)
        k1 = torch.cat([k2, k2 - modes])
        resolvent = 1 / (1 + (k1[:, None] ** 2 + k2**2) / 4)
        waves = torch.zeros(2 * modes**2, channels, channels, 2)
        waves[..., 0] = resolvent.reshape(-1, 1, 1) * torch.randn(channels, channels) * scale
        self.waves = nn.Parameter(waves)
        self.mix = nn.Parameter(torch.randn(channels, channels) * (0.15 * scale))
        self.bias = nn.Parameter(torch.zeros(channels))

    def kernel(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return W `(C, C)`, R `(2, 2 m^2, 2C, C)`, b `(C,)`; rows of W and R are outputs.

        R holds what every mode's real part adds to (Re, Im) of the output, then the imaginary part.
        """
        c = self.channels
        mix = self.mix / math.sqrt(c)
        re, im = (self.waves / math.sqrt(c)).unbind(-1)
        if self.bound is not None:
            both = torch.cat([torch.cat([re + mix, -im], -1), torch.cat([im, re + mix], -1)], 1)
            both = both * clipping(both, self.bound)
            mix = mix * clipping(mix, self.bound)
            re, im = both[:, :c, :c] - mix, both[:, c:, :c]
        waves = torch.stack([torch.cat([re, im], 1), torch.cat([-im, re], 1)])
        return mix, waves, self.bias

    def forward(self, z: Tensor) -> Tensor:
        """Return `A z`, shape of `z` `(N, C, n1, n2)`."""
        return self.product(z, *self.kernel())

    def product(self, z: Tensor, mix: Tensor, waves: Tensor, bias: Tensor) -> Tensor:
        """Return `A z` for a kernel."""
        mixed = torch.baddbmm(bias[:, None], mix.expand(len(z), -1, -1), z.flatten(2))
        return mixed.reshape(z.shape) + self.filtered(z, waves)

    def filtered(self, z: Tensor, waves: Tensor) -> Tensor:
        """Return `F^-1(R . F z)`."""
        count, c, n1, n2 = z.shape
        m, line = self.modes, count * c
        along2, back2, along1, back1 = self.transforms(n1, n2, z)
        h = (z.reshape(line * n1, n2) @ along2).reshape(count, c, n1, 2, m)
        # rows (part, point), columns (mode 2, channel, sample)
        h = along1 @ h.permute(3, 2, 4, 1, 0).reshape(2 * n1, m * line)
        re, im = h.reshape(2, 2 * m * m, c, count).unbind()
        y = torch.baddbmm(torch.bmm(waves[0], re), waves[1], im)
        y = y.reshape(2 * m, m, 2, c, count).permute(2, 0, 1, 3, 4).reshape(4 * m, m * line)
        y = (back1 @ y).reshape(2, n1, m, c, count).permute(4, 3, 1, 0, 2)
        return (y.reshape(line * n1, 2 * m) @ back2).reshape(z.shape)

    def transforms(self, n1: int, n2: int, like: Tensor) -> tuple[Tensor, ...]:
        """Return the real matrices of the four transforms: along axis 2, back, along 1, back.

        Raises:
            InvalidArgument: If the grid does not carry the modes.
        """
        m = self.modes
        if min(n1, n2) < 2 * m:
            raise InvalidArgument(
                f"a grid of {n1} x {n2} for network.modes={m}", f"at least {2 * m} points per side"
            )
        key = (n1, n2, like.dtype, like.device)
        if getattr(self, "_key", None) != key:
            with torch.inference_mode(False):  # kept for training steps too
                made = _transforms(n1, n2, m, like.device)
                self._transforms = tuple(t.to(like.dtype) for t in made)
            self._key = key
        return self._transforms


def _transforms(n1: int, n2: int, m: int, device: torch.device) -> tuple[Tensor, ...]:
    """Return `FourierLayer.transforms` in float64."""
    kind = {"dtype": torch.float64, "device": device}
    k2 = torch.arange(m, **kind)
    k1 = torch.cat([k2, k2 - m])
    phase2 = 2 * math.pi / n2 * torch.arange(n2, **kind)[:, None] * k2
    phase1 = 2 * math.pi / n1 * k1[:, None] * torch.arange(n1, **kind)
    along2 = torch.cat([phase2.cos(), -phase2.sin()], 1)
    # the modes -k_2 are the mirror image of those kept
    twice = torch.where(k2 == 0, torch.ones_like(k2), 2.0)[:, None] / (n1 * n2)
    back2 = torch.cat([phase2.T.cos() * twice, -phase2.T.sin() * twice])
    cos, sin = phase1.cos(), phase1.sin()
    along1 = torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)])
    return along2, back2, along1, along1.T


def clipping(matrix: Tensor, bound: float) -> Tensor:
    """Return factors `(..., 1, 1)`, at most 1, that bring matrices to a norm of at most `bound`.

    For matrices `(..., n, n)`, by the Schatten norm |M|_32 = (tr (M^T M)^16)^(1/32) >= |M|_2:
    smooth, and four products.
    """
    gram = matrix.transpose(-1, -2) @ matrix
    gram = gram + 1e-12 * torch.eye(matrix.shape[-1]).to(gram)  # zero has a derivative too
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    power = gram / size  # largest eigenvalue between 1/n and 1
    for _ in range(3):
        power = power @ power
    norm = size.sqrt() * power.square().sum((-2, -1), keepdim=True) ** (1 / 32)
    return bound / norm.clamp_min(bound)
