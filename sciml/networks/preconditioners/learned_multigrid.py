"""A multigrid V-cycle whose smoothers, transfers and coarse matrices are learned; SPD always.

It is the V-cycle of `sciml.solvers.linear.multigrid` with factors from a small network that sees
the matrix, never the residual, so that the map r -> M r is linear, needs no normalisation, and its
nonlinear part is evaluated once per matrix. On every level, from channels that describe each cell
(unknown or not, how much of its diagonal goes to surfaces and to each side, and how the diagonal
compares with its neighbours'), the network returns

    g in (1/4, 1)      factor of the smoother G D^-1 A; the interval of its polynomial is learned as
                       well, one number for all levels
    p in (1/2, 2)      factor of the interpolation into the cell
    k in (1/8, 8)      factors of the faces of coarse matrices, per axis, the mean of two cells'

Each keeps the V-cycle symmetric positive definite, as the multigrid module proves: G D^-1 A has
its eigenvalues in (0, 2), interpolations may be any, and a coarse matrix with positive faces is
positive (semi-)definite. So conjugate gradients cannot fail by it, whatever the weights are; they
can only be slow. Weights near zero give the classical cycle: training starts from there.

Related: Lan et al. 2024, arXiv 2310.00177 (linear in r, gates from the geometry; not definite);
Greenfeld et al. 2019, arXiv 1902.10248 (learned interpolation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from sciml.errors import InvalidArgument
from sciml.networks.preconditioners.learned_preconditioner import PreconditionerNetwork
from sciml.solvers.linear import Stencil, high, low
from sciml.solvers.linear.coarsening import Transfer
from sciml.solvers.linear.v_cycle import Cycle, Level, cycles_of_slice, group_cycles, v_cycles
from sciml.typed_arguments import typed

LEAST, GATE = 0.25, 3.0  # smallest g, and its logit at zero weights, which give 0.96
NARROW, WIDE = 0.05, 0.95  # range of the lower end of the smoother's interval over the upper one
SHIFT, FACE = math.log(2.0), math.log(8.0)  # largest logarithms of p and of k
LEVELS = 8.0  # scale of the channel that tells levels apart


@typed
class LearnedMultigrid(PreconditionerNetwork):
    """Learned symmetric positive definite V-cycle.

    Args:
        dim: Axes of the grid, 2 or 3.
        hidden: Channels of the network that sees the matrix.
        degree: Smoothing steps before and after the correction.

    Raises:
        InvalidArgument: For counts below 1.

    Example:
        >>> import torch
        >>> from sciml.networks import LearnedMultigrid
        >>> from sciml.solvers.linear import Stencil
        >>> faces = torch.ones(1, 15, 16), torch.ones(1, 16, 15)
        >>> stencil = Stencil(faces, torch.ones(1, 16, 16), torch.ones(1, 16, 16) > 0)
        >>> network = LearnedMultigrid(dim=2, hidden=4)
        >>> tuple(network.directions(network.prepare(stencil), torch.rand(1, 16, 16)).shape)
        (1, 16, 16)
    """

    def __init__(self, dim: int = 2, hidden: int = 8, degree: int = 2) -> None:
        super().__init__(dim)
        if hidden < 1 or degree < 1:
            raise InvalidArgument(
                f"network.hidden={hidden}, network.degree={degree}", "one or more of each"
            )
        conv = nn.Conv2d if dim == 2 else nn.Conv3d
        self.degree = degree
        self.see = conv(2 * dim + 4, hidden, 3, padding=1)
        self.mix = conv(hidden, hidden, 1)
        self.say = conv(hidden, 2 + dim, 1)
        # logit of the lower end of the smoother's interval, 1/4 of the upper one
        self.interval = nn.Parameter(torch.tensor(-1.25))
        with torch.no_grad():
            self.say.weight.mul_(0.1)
            self.say.bias.zero_()

    def prepare(self, stencil: Stencil) -> tuple[Stencil, list[Cycle]]:
        """Return the matrices and their V-cycles with learned factors."""
        return stencil, group_cycles(stencil, self._levels)

    def part(
        self, prepared: tuple[Stencil, list[Cycle]], places: slice, count: int
    ) -> tuple[Stencil, list[Cycle]]:
        """Return the matrices of a slice and their V-cycles."""
        stencil, cycles = prepared
        return stencil.part(places), cycles_of_slice(cycles, places, count)

    def _levels(
        self, stencils: Sequence[Stencil], transfers: Sequence[Transfer | None]
    ) -> list[Level]:
        """Return the levels of problems that are coarsened alike."""
        steps = self._steps()
        levels = []
        for depth, (matrix, transfer) in enumerate(zip(stencils, transfers, strict=True)):
            if transfer is None:
                levels.append(Level(matrix, matrix.unknown / matrix.diagonal, steps, None))
                continue
            said = self._say(matrix, depth)
            if depth > 0:
                matrix = _stiffened(matrix, said[:, 2:])
            gate = LEAST + (1 - LEAST) * torch.sigmoid(GATE + said[:, 0])
            damp = transfer.damp * torch.exp(SHIFT * torch.tanh(said[:, 1]))
            moved = Transfer(transfer.axes, transfer.sizes, transfer.below, transfer.above, damp)
            levels.append(Level(matrix, gate * matrix.unknown / matrix.diagonal, steps, moved))
        return levels

    def directions(self, prepared: tuple[Stencil, list[Cycle]], residual: Tensor) -> Tensor:
        """Return M r `(..., N, *grid)`."""
        stencil, cycles = prepared
        return v_cycles(cycles, stencil, residual)

    def _steps(self) -> list[Tensor]:
        """Return the steps of the Chebyshev polynomial on the learned interval."""
        most = 2.0
        # at zero the polynomial would be 1 at the upper end
        least = most * (NARROW + (WIDE - NARROW) * torch.sigmoid(self.interval))
        roots = (math.cos(math.pi * (2 * k + 1) / (2 * self.degree)) for k in range(self.degree))
        return [2 / (most + least + (most - least) * root) for root in roots]

    def _say(self, stencil: Stencil, depth: int) -> Tensor:
        """Return what the network says about every cell, `(N, 2 + d, *grid)`."""
        x = channels(stencil, depth)
        if self.dim == 3:  # convolutions of few channels are 1.7 times as fast so; not in 2-D
            x = x.contiguous(memory_format=torch.channels_last_3d)
        x = self.see(x)
        return self.say(relu(self.mix(relu(x))))


def channels(stencil: Stencil, depth: int) -> Tensor:
    """Return what describes every cell, `(N, 2 d + 4, *grid)`, all in [-1, 1]."""
    d, diagonal = stencil.ndim, stencil.diagonal
    known = stencil.unknown.to(diagonal.dtype)
    found = [known, stencil.shift / diagonal, torch.full_like(known, min(depth / LEVELS, 1.0))]
    size = torch.log(diagonal) * known
    around_size, count = torch.zeros_like(size), torch.zeros_like(size)
    for a, w in enumerate(stencil.faces):
        axis = a - d
        below, above = torch.zeros_like(diagonal), torch.zeros_like(diagonal)
        high(below, axis).copy_(w)
        low(above, axis).copy_(w)
        found += [(below + above) / diagonal, (below - above) / diagonal]
        for one, two in ((high, low), (low, high)):
            one(around_size, axis).add_(two(size, axis))
            one(count, axis).add_(two(known, axis))
    jump = known * (size - around_size / count.clamp_min(1))
    return torch.stack([*found, torch.tanh(0.3 * jump)], 1)


def _stiffened(stencil: Stencil, said: Tensor) -> Stencil:
    """Return coarse matrices with their faces multiplied by learned factors."""
    faces = []
    for a, w in enumerate(stencil.faces):
        axis = a - stencil.ndim
        mean = (low(said[:, a], axis) + high(said[:, a], axis)) / 2
        faces.append(w * torch.exp(FACE * torch.tanh(mean)))
    return Stencil(tuple(faces), stencil.shift, stencil.unknown)
