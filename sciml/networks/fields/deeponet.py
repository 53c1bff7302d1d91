"""DeepONet and POD-DeepONet between fields of files.

    u_c(x; a) = sum_k b_ck(a) t_k(x)         b: branch, of all inputs at all points; t: trunk

The trunk of DeepONet is a perceptron of the coordinates; that of POD-DeepONet is the leading modes
of the training outputs by proper orthogonal decomposition, interpolated, which the branch is told
the weights of. The branch sees a fixed number of points: inputs on other grids are interpolated to
those of training, and outputs are given on the grid of the input.

Reference: Lu et al. 2021, arXiv 1910.03193; Lu et al. 2022, arXiv 2111.05512 (POD-DeepONet).
Departure: the normalised fields are learned; a bias per channel is their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.fields.field_interpolation import interpolated
from sciml.networks.fields.field_network import FieldNetwork
from sciml.typed_arguments import typed


@typed
class DeepONet(FieldNetwork):
    """Branch and trunk.

    Args:
        fields: The data module's description.
        width: Of the hidden layers.
        depth: Hidden layers of branch and trunk.
        functions: Terms of the sum.
        pod: Whether the trunk is the modes of the training outputs, `fields.modes`.
        views: As in `FieldNetwork`.
        coarse_solver: As in `FieldNetwork`.

    Raises:
        InvalidArgument: For sizes that cannot be.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from sciml.data import FieldFiles
        >>> from sciml.networks.fields import DeepONet
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     x, y = np.random.rand(2, 20, 8, 8)
        ...     np.savez(f"{folder}/pairs.npz", x=x, y=y)
        ...     data = FieldFiles(path=f"{folder}/pairs.npz")
        >>> network = DeepONet(data.sizes["fields"], width=8, depth=1, functions=4)
        >>> tuple(network.infer(x=torch.rand(3, 8, 8))["y"].shape)
        (3, 8, 8)
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        width: int = 128,
        depth: int = 3,
        functions: int = 64,
        pod: bool = False,
        views: bool = False,
        coarse_solver: Any = None,
    ) -> None:
        super().__init__(fields, "free", views, coarse_solver)
        for name, value in (("width", width), ("depth", depth), ("functions", functions)):
            if value < 1:
                raise InvalidArgument(f"network.{name}={value}", "a positive integer")
        f = self.fields
        points = 1
        for n in f.size:
            points *= n
        self.pod = pod
        if pod:
            functions = min(functions, int(fields.get("samples", functions)))
            modes = torch.zeros(functions, f.out_channels, *f.size)
            self.register_buffer("modes", modes)
            self.register_buffer("middle", torch.zeros(f.out_channels, *f.size))
        else:
            self.trunk = _layers(f.dim, width, depth, functions)
        answers = functions if pod else functions * f.out_channels
        self.branch = _layers((f.in_channels + f.solved) * points, width, depth, answers)
        self.functions = functions

    def learn_modes(self, outputs: Tensor) -> None:
        """Take the modes of training outputs `(N, C_out, *space)`, already normalised.

        Args:
            outputs: At least as many as there are functions.
        """
        flat = outputs.flatten(1).double()
        middle = flat.mean(0)
        size = len(flat) ** 0.5
        _, spread, vh = torch.linalg.svd(flat - middle, full_matrices=False)
        count = min(self.functions, len(vh))
        self.modes.zero_()
        scaled = vh[:count] * spread[:count, None] / size  # weights of order one
        self.modes[:count] = scaled.reshape(count, *outputs.shape[1:]).to(self.modes)
        self.middle.copy_(middle.reshape(outputs.shape[1:]).to(self.middle))

    def body(self, z: Tensor) -> Tensor:
        """Return normalised outputs `(B, C_out, *space)`."""
        f, grid = self.fields, list(z.shape[2:])
        seen = z[:, : f.in_channels + f.solved]
        if grid != f.size:
            seen = interpolated(seen, f.size, f.grid, f.periodic)
        weights = self.branch(seen.flatten(1))
        if self.pod:
            modes, middle = self.modes, self.middle[None]
            if grid != f.size:
                modes, middle = (interpolated(v, grid, f.grid, True) for v in (modes, middle))
            return middle + torch.einsum("bk,kc...->bc...", weights, modes)
        place = self.positions(z)[0].flatten(1).T
        functions = self.trunk(place).T  # (K, points)
        weights = weights.reshape(len(z) * f.out_channels, self.functions) / self.functions**0.5
        return (weights @ functions).reshape(len(z), f.out_channels, *grid)


def _layers(before: int, width: int, depth: int, after: int) -> nn.Sequential:
    sizes = [before, *[width] * depth]
    rows: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:], strict=False):
        rows += [nn.Linear(a, b), nn.GELU()]
    return nn.Sequential(*rows, nn.Linear(width, after))
