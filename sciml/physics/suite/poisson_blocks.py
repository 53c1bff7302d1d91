"""Poisson's equation in a square of 25 blocks, each with its own coefficient and source.

    a Lap u + f = 0  in [-10, 10]^2,   du/dn = -u  on the boundary,
    f = c + d sin(pi r) sin(pi s),  r and s from 0 to 1 across each block

a, c and d are constants of each block: a from 0.1 to 100, uniform in its logarithm, c and d from -1
to 1. The benchmark reads a and f from tables (f of four numbers a block, of which its formula
multiplies two by sin 0): `tables` is a folder with these, poisson_a_coef.dat and
poisson_f_coef.dat; without it the numbers are drawn by `seed`.

The solution has continuous first derivatives and second ones that jump between blocks. The
reference is quadratic finite elements whose cells end where blocks do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_seed
from sciml.physics.suite.reference_elements import GradedGrid
from sciml.physics.systems import On, Rectangle, System
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.physics.systems.system_fields import Field

BLOCKS, SIDE = 5, 4.0
CELLS = 10  # of the reference, along a block


@typed
class Poisson2DBlocks(System):
    """Poisson's equation with a coefficient and a source that jump between 25 blocks.

    Args:
        seed: Seed of the coefficients.
        tables: Folder with the benchmark's tables instead.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import Poisson2DBlocks
        >>> blocks = Poisson2DBlocks(seed=0)
        >>> blocks.term_names, tuple(blocks.source(torch.rand(5), torch.rand(5)).shape)
        (('residual', 'boundary'), (5,))
    """

    domain = Rectangle((-10, -10), (10, 10))
    conditions = {"boundary": On(domain.boundary, lambda u: u.n + u)}
    reference_accuracy = 3e-5

    def __init__(self, *, seed: int = 0, tables: str | None = None) -> None:
        shape = (BLOCKS, BLOCKS)
        if tables is None:
            random = np.random.default_rng(check_seed("problem.seed", seed))
            a = 10 ** random.uniform(-1, 2, shape)
            c, d = random.uniform(-1, 1, (2, *shape))
        else:
            try:
                a = np.loadtxt(Path(tables) / "poisson_a_coef.dat").reshape(shape)
                four = np.loadtxt(Path(tables) / "poisson_f_coef.dat").reshape(*shape, 2, 2)
            except (OSError, ValueError) as error:
                raise InvalidArgument(
                    f"problem.tables={tables}: {error}",
                    "a folder with poisson_a_coef.dat (25 numbers) and poisson_f_coef.dat (100)",
                ) from error
            c, d = four[..., 0, 0], four[..., 1, 1]
        self.coefficients = torch.from_numpy(np.stack([c / a, d / a]))
        self.size = float(self.coefficients.square().mean().sqrt())

    def source(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f / a at points `(N,)`."""
        places = [(v + 10) / SIDE for v in (x, y)]
        blocks = [p.floor().clamp(0, BLOCKS - 1) for p in places]
        c, d = self.coefficients.to(x)[:, blocks[0].long(), blocks[1].long()]
        r, s = (p - b for p, b in zip(places, blocks, strict=True))
        return c + d * torch.sin(np.pi * r) * torch.sin(np.pi * s)

    def residual(self, u: Field, x: Tensor, y: Tensor) -> Tensor:
        """Return Lap u + f / a over the size of f / a."""
        return (u.lap + self.source(x, y)) / self.size

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the finite element solution at 20 000 points."""
        x = self.region.sample(20_000, generator)
        grid, values = self.solved()
        return x, {"u": torch.from_numpy(grid.at_points(x.numpy()) @ values)}

    def solved(self, cells: int = CELLS) -> tuple[GradedGrid, np.ndarray]:
        """Return the grid of the reference and values at its nodes.

        Args:
            cells: Along a block.
        """
        breaks = np.linspace(-10, 10, BLOCKS * cells + 1)
        grid = GradedGrid(breaks, breaks)
        matrix = grid.stiffness()
        for axis in (0, 1):
            for end in (0, -1):
                value, weight, _ = grid.edge(axis, end)
                matrix = matrix + value.T @ value.multiply(weight[:, None])
        source = self.source(*torch.from_numpy(grid.at).unbind(1)).numpy()
        return grid, splu(matrix.tocsc()).solve(grid.value.T @ (grid.weight * source))
