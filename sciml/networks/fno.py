"""Fourier neural operators on square grids: the explicit one, and its equilibrium.

With a the input field, g = P(a) (pointwise lift), sigma = GELU, Q a pointwise decoder, and the
Fourier layer

    A z = W z + b + F^-1(R . F z),     R a matrix of channels per kept mode,

    FNO        z_0 = g,  z_{i+1} = z_i + sigma(A_i z_i),  i < blocks,        u = Q(z_blocks)
    tied       z_0 = g,  z_{i+1} = g + sigma(A z_i),      i < blocks,        u = Q(z_blocks)
    FNO-DEQ    z* = g + sigma(A z*),                                         u = Q(z*)

A steady PDE is a fixed point itself, u = K_a(u), and the tied network with input injection is its
analogue: the equilibrium iterates until the state stands still, for as long as an input needs. Its
derivative is the implicit one.

References: Li et al. 2021, arXiv 2010.08895 (FNO); Marwah et al. 2023, arXiv 2312.00234 (FNO-DEQ).
Departures: mode weights are pairs of real numbers, so that every optimizer, precision and process
group treats them like all others; the explicit network has residual connections; |A| may be bounded
(`contraction`), which makes the equilibrium unique.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.solvers import GMRES, Anderson, Implicit, Solution, fixed_point

SLOPE = 1.1290  # largest slope of GELU, at sqrt(2)


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
        h = (z.reshape(-1, n2) @ along2).reshape(count, c, n1, 2, m)
        # rows (part, point), columns (mode 2, channel, sample)
        h = along1 @ h.permute(3, 2, 4, 1, 0).reshape(2 * n1, m * line)
        re, im = h.reshape(2, 2 * m * m, c, count).unbind()
        y = torch.baddbmm(torch.bmm(waves[0], re), waves[1], im)
        y = y.reshape(2 * m, m, 2, c, count).permute(2, 0, 1, 3, 4).reshape(4 * m, m * line)
        y = (back1 @ y).reshape(2, n1, m, c, count).permute(4, 3, 1, 0, 2)
        return (y.reshape(-1, 2 * m) @ back2).reshape(z.shape)

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


class Pointwise(nn.Linear):
    """A linear layer over the channels of `(N, C, n1, n2)`, the same at every point.

    A convolution of kernel size one is four times slower on a processor for batches above 16.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return `(N, D, n1, n2)`."""
        # nn.Linear's own forward is what optimizers with curvature know how to follow
        out = super().forward(input.flatten(2).transpose(1, 2))
        return out.transpose(1, 2).reshape(len(input), -1, *input.shape[2:])


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


class FieldOperator(nn.Module):
    """Normalisation, lift and decoder around what a subclass does with the state.

    Args:
        in_channels: Channels of the input field.
        width: Channels of the state, C.
        hidden: Hidden width of lift and decoder.
        positions: Whether the lift sees the coordinates: for squares that are not periodic.
        mean: Mean of the input per channel.
        std: Its standard deviation.
        out_mean: Mean of the output.
        out_std: Its standard deviation.

    Raises:
        InvalidArgument: If statistics do not fit the channels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        hidden: int = 32,
        positions: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        out_mean: float = 0.0,
        out_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_channels, self.positions = in_channels, positions
        for name, value, default in (("mean", mean, 0.0), ("std", std, 1.0)):
            value = [default] * in_channels if value is None else list(value)
            if len(value) != in_channels:
                raise InvalidArgument(
                    f"network.{name} with {len(value)} entries", f"one per channel, {in_channels}"
                )
            self.register_buffer(name, torch.tensor(value).reshape(-1, 1, 1))
        self.register_buffer("out_mean", torch.tensor(float(out_mean)))
        self.register_buffer("out_std", torch.tensor(float(out_std)))
        channels = in_channels + 2 * positions
        self.lift = nn.Sequential(Pointwise(channels, hidden), nn.GELU(), Pointwise(hidden, width))
        self.decode = nn.Sequential(Pointwise(width, hidden), nn.GELU(), Pointwise(hidden, 1))

    def lifted(self, field: Tensor) -> Tensor:
        """Return g = P(a) `(N, C, n1, n2)` of a field `(N, in_channels, n1, n2)`."""
        x = (field - self.mean) / self.std
        if self.positions:
            sides = [
                (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) * (2 / n) - 1
                for n in x.shape[-2:]
            ]
            place = torch.stack(torch.meshgrid(*sides, indexing="ij"))
            x = torch.cat([x, place.expand(len(x), -1, -1, -1)], 1)
        return self.lift(x)

    def decoded(self, z: Tensor) -> Tensor:
        """Return Q(z) `(N, 1, n1, n2)` in the units of the target."""
        return self.out_mean + self.out_std * self.decode(z)

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out; any grid that carries the modes."""
        real = {"unit": "1", "dtype": "float"}
        return {
            "inputs": {"field": {"shape": ["N", self.in_channels, "H", "W"], **real}},
            "outputs": {"value": {"shape": ["N", 1, "H", "W"], **real}},
        }

    def infer(self, field: Tensor) -> dict[str, Tensor]:
        """Return the solution as `value`."""
        return {"value": self(field)}


class FNO(FieldOperator):
    """Explicit Fourier neural operator; further arguments as in `FieldOperator`.

    Args:
        modes: Modes kept per direction, m.
        blocks: Fourier layers.
        tied: Whether all layers are one, with the input injected every time: the equilibrium's
            iteration, cut off.

    Raises:
        InvalidArgument: If there are no blocks.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        hidden: int = 32,
        modes: int = 8,
        blocks: int = 4,
        tied: bool = False,
        positions: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        out_mean: float = 0.0,
        out_std: float = 1.0,
    ) -> None:
        super().__init__(in_channels, width, hidden, positions, mean, std, out_mean, out_std)
        if blocks < 1:
            raise InvalidArgument(f"network.blocks={blocks}", "a positive integer")
        self.tied, self.blocks = tied, blocks
        layers = 1 if tied else blocks
        self.layers = nn.ModuleList(FourierLayer(width, modes) for _ in range(layers))

    def forward(self, field: Tensor) -> Tensor:
        """Return u `(N, 1, n1, n2)` from a `(N, in_channels, n1, n2)`."""
        g = z = self.lifted(field)
        if self.tied:
            kernel = self.layers[0].kernel()
            for _ in range(self.blocks):
                z = g + F.gelu(self.layers[0].product(z, *kernel))
        else:
            for layer in self.layers:
                z = z + F.gelu(layer(z))
        return self.decoded(z)


class FNODEQ(FieldOperator):
    """Equilibrium of one Fourier layer; further arguments as in `FieldOperator`.

    Args:
        modes: Modes kept per direction, m.
        contraction: Bound c on the Lipschitz constant of the map, by |A| <= c / 1.129 (the largest
            slope of GELU); below 1 the equilibrium exists, is unique, and every solver finds it.
            None leaves A free.
        solver: Forward solver while training; None for Anderson acceleration to 1e-3.
        adjoint: Derivative rule; None for the implicit function theorem to 1e-2.
        patience: Factor on the solver's iterations, and divisor of its tolerance, outside training.
        on_failure: As in `sciml.solvers.root`.

    Raises:
        InvalidArgument: For a bound or a patience that cannot be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        hidden: int = 32,
        modes: int = 8,
        contraction: float | None = None,
        positions: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        out_mean: float = 0.0,
        out_std: float = 1.0,
        solver: Any = None,
        adjoint: Any = None,
        patience: float = 10.0,
        on_failure: Literal["raise", "warn", "mask", "best"] = "best",
    ) -> None:
        super().__init__(in_channels, width, hidden, positions, mean, std, out_mean, out_std)
        if contraction is not None and not contraction > 0:
            raise InvalidArgument(f"network.contraction={contraction}", "a positive number or null")
        if not patience >= 1:
            raise InvalidArgument(f"network.patience={patience}", "at least 1")
        bound = None if contraction is None else contraction / SLOPE
        self.layer = FourierLayer(width, modes, 0.5, bound)
        self.solver = solver or Anderson(rtol=1e-3, max_iter=16, window=5)
        self.adjoint = adjoint or Implicit(GMRES(rtol=1e-2, max_iter=10))
        self.patience, self.on_failure = patience, on_failure

    def map(self, z: Tensor, g: Tensor, *kernel: Tensor) -> Tensor:
        """Return g + sigma(A z), shape of z `(N, C, n1, n2)`."""
        return g + F.gelu(self.layer.product(z, *kernel))

    def solve(self, field: Tensor, solver: Any = None) -> tuple[Tensor, Solution]:
        """Return u `(N, 1, n1, n2)` and the solution that holds z*.

        Args:
            field: a `(N, in_channels, n1, n2)`.
            solver: In place of the network's own.
        """
        g = self.lifted(field)
        if solver is None:
            solver = self.solver if self.training else stretched(self.solver, self.patience)
        solution = fixed_point(
            self.map,
            g.detach(),
            (g, *self.layer.kernel()),
            on_failure=self.on_failure,
            solver=solver,
            adjoint=self.adjoint,
        )
        return self.decoded(solution.value), solution

    def forward(self, field: Tensor) -> Tensor:
        """Return u `(N, 1, n1, n2)` from a `(N, in_channels, n1, n2)`."""
        return self.solve(field)[0]

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out: also whether each sample's equilibrium was found."""
        out = super().schema()
        per_sample = {"shape": ["N"], "unit": "1"}
        out["outputs"]["converged"] = {**per_sample, "dtype": "bool"}
        out["outputs"]["residual"] = {**per_sample, "dtype": "float"}
        return out

    def infer(self, field: Tensor) -> dict[str, Tensor]:
        """Return the solution as `value`, and `converged` and relative `residual` per sample."""
        value, solution = self.solve(field)
        relative = solution.stats["relative"]
        return {"value": value, "converged": solution.converged, "residual": relative}


def stretched(solver: Any, factor: float) -> Any:
    """Return a solver with `factor` times the iterations and a tolerance as much smaller.

    Solvers without `max_iter` come back as they are. In single precision tolerances stop at 1e-5.
    """
    if not hasattr(solver, "max_iter"):
        return solver
    rtol = getattr(solver, "rtol", None)
    tight = {} if rtol is None else {"rtol": max(rtol / factor, min(rtol, 1e-5))}
    return replace(solver, max_iter=round(factor * solver.max_iter), **tight)
