"""Variational physics-informed operator network (VPIONet): displacement of a cell by coordinates.

    w(x; ehat) = X(x) ehat + scale * sum_k b_k(ehat) t_k(x, m),      u = D^T ehat + w,

X ehat the fluctuation of the linear cell at rest (one linear system, three right-hand sides), b the
branch, t a trunk on periodic features of the coordinates and on m, the material at x (-1 in
the matrix, 1 in the fibre, 0 between),

    tanh(A1 cos(2 pi x + p1) + c1) + tanh(A2 cos(2 pi y + p2) + c2) + tanh(A3 m + c3),

A, p and c one number per feature, so that w is periodic whatever the weights are. The nodes of the
mesh are part of the network.

Source: Eivazi et al., arXiv 2504.07976. Departures: the linear part X, without which network and
search have to find a nearly rigid fibre in a soft matrix first (`network.linear`), the odd part of
the branch (`network.odd`), and its vanishing at zero strain (`network.anchor`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sciml.networks.cells.equino_law import Branch
from sciml.networks.sizes import check_sizes
from sciml.typed_arguments import typed


class PeriodicFeatures(nn.Module):
    """Features of points that repeat with period 1, and of the material there.

    Args:
        width: Number of features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.slope, self.shift = (nn.Parameter(2 * torch.rand(2, width) - 1) for _ in range(2))
        # a phase per feature: with one for all, x and its mirror image would have the same features
        self.phase = nn.Parameter(2 * math.pi * torch.rand(2, width))
        self.material = nn.Linear(1, width)

    def forward(self, points: Tensor, material: Tensor) -> Tensor:
        """Return features `(P, width)` of points `(P, 2)` and materials `(P,)`."""
        wave = torch.cos(2 * math.pi * points[..., None] + self.phase)
        along = torch.tanh(self.slope * wave + self.shift).sum(1)
        return along + torch.tanh(self.material(material[:, None]))


@typed
class VPIONet(nn.Module):
    """Displacement fluctuation at the nodes of a cell.

    Args:
        nodes: Number of nodes N.
        modes: Products of branch and trunk.
        width: Hidden width of both.
        depth: Their hidden layers.
        box: Strains of training lie in [-box, box]^3.
        anchor: No fluctuation at zero strain.
        scale: Factor on the sum; 1e-4 as published.
        linear: Whether there is a linear part, which `place` takes.
        odd: Minus the fluctuation at minus the strain, which includes `anchor`.

    Shapes: strain `(n, 3)` to displacement `(n, N, 2)`.

    Example:
        >>> import torch
        >>> from sciml.networks import VPIONet
        >>> network = VPIONet(nodes=9, modes=4, width=8, depth=2)
        >>> network.place(torch.rand(9, 2), torch.zeros(9))
        >>> tuple(network(torch.zeros(5, 3)).shape)  # displacements at the nodes of 5 cells
        (5, 9, 2)
    """

    def __init__(
        self,
        nodes: int,
        modes: int = 16,
        width: int = 64,
        depth: int = 4,
        box: float = 0.04,
        anchor: bool = True,
        scale: float = 1e-3,
        linear: bool = False,
        odd: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(nodes=nodes, width=width)
        self.branch = Branch(modes, width, depth, box, linear=False, anchor=anchor, odd=odd)
        self.features = PeriodicFeatures(width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.output = nn.Linear(width, 2 * modes)
        self.box, self.factor = float(box), float(scale)
        self.register_buffer("points", torch.zeros(nodes, 2))
        self.register_buffer("material", torch.zeros(nodes))
        self.register_buffer("skip", torch.zeros(3, nodes, 2) if linear else None)

    def place(self, points: Tensor, material: Tensor, skip: Tensor | None = None) -> None:
        """Set the nodes `(N, 2)`, the material `(N,)` there and, with `linear`, X `(3, N, 2)`."""
        self.points, self.material = points, material
        if self.skip is not None and skip is not None:
            self.skip = skip

    def trunk(self) -> Tensor:
        """Return the modes at the nodes `(r, N, 2)`; constant parts are taken out."""
        z = self.features(self.points, self.material)
        for layer in self.hidden:
            z = torch.tanh(layer(z))
        t = self.factor * self.output(z).view(len(z), -1, 2).transpose(0, 1)
        return t - t.mean(1, keepdim=True)

    def fluctuation(self, strain: Tensor) -> Tensor:
        """Return w `(n, N, 2)`."""
        w = torch.tensordot(self.branch(strain), self.trunk(), 1)
        return w if self.skip is None else w + torch.tensordot(strain, self.skip, 1)

    def forward(self, strain: Tensor) -> Tensor:
        """Return the displacement u `(n, N, 2)`."""
        xx, yy, shear = strain.T
        rows = torch.stack([torch.stack([xx, shear / 2], 1), torch.stack([shear / 2, yy], 1)], 1)
        return self.points @ rows + self.fluctuation(strain)

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what the operator takes and returns."""
        shape = ["N", len(self.points), 2]
        return {
            "inputs": {"strain": {"shape": ["N", 3], "unit": "1", "dtype": "float"}},
            "outputs": {"displacement": {"shape": shape, "unit": "cell size"}},
        }

    def infer(self, strain: Tensor) -> dict[str, Tensor]:
        """Return the displacement."""
        return {"displacement": self(strain)}
