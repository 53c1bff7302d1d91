"""GINO and FNOGNO of the neuraloperator library on point clouds of people's own files.

Clouds of a batch run one after the other, since neighbours differ.

Reference: Li et al. 2023, arXiv 2309.00583 (GINO); Kossaifi et al., arXiv 2412.10354. FNOGNO reads
a grid: every node takes the features of the closest point, and how far away that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.networks.fields.cloud_network import CloudNetwork
from sciml.networks.neuraloperator_library import make, summed_at_once, tensors_only
from sciml.typed_arguments import typed

MODELS = ("GINO", "FNOGNO")


@typed
class CloudOperator(CloudNetwork):
    """Maps features at the points of a cloud to fields at these points.

    Args:
        clouds: As in `CloudNetwork`.
        model: GINO or FNOGNO.
        nodes: Nodes of the latent grid per axis.
        radius: In which points and nodes see each other, of the box.
        width: Channels on the latent grid.
        modes: Fourier modes along each axis, of both signs.
        layers: Fourier layers.

    Raises:
        InvalidArgument: For sizes that cannot be, or what the library refuses.
        MissingPackage: Without the library.

    Example:
        >>> import torch
        >>> from sciml.networks.fields import CloudOperator
        >>> clouds = {
        ...     "points": "x", "features": [], "widths": [], "output": "y", "dim": 2, "channels": 0,
        ...     "out_channels": 1, "low": [0.0, 0.0], "high": [1.0, 1.0], "mean": [], "std": [],
        ...     "out_mean": [0.0], "out_std": [1.0],
        ... }
        >>> network = CloudOperator(clouds, nodes=8, radius=0.3, width=4, modes=4, layers=1)
        >>> tuple(network.infer(x=torch.rand(2, 30, 2))["y"].shape)
        (2, 30, 1)
    """

    def __init__(
        self,
        clouds: Mapping[str, Any],
        model: Literal["GINO", "FNOGNO"] = "GINO",
        nodes: int = 12,
        radius: float = 0.15,
        width: int = 16,
        modes: int = 8,
        layers: int = 3,
    ) -> None:
        if model not in MODELS:
            raise InvalidArgument(f"network.model={model}", " or ".join(MODELS))
        if min(nodes, width, modes, layers) < 1 or not 0 < radius < 2:
            raise InvalidArgument(
                f"network.nodes={nodes}, width={width}, modes={modes}, layers={layers}, "
                f"radius={radius}",
                "positive integers, and a radius below 2",
            )
        super().__init__(clouds)
        self.name, dim, seen = model, self.dim, self.seen_channels
        axis = torch.linspace(0, 1, nodes)
        grid = torch.stack(torch.meshgrid(*[axis] * dim, indexing="ij"), -1)
        self.register_buffer("grid", grid, persistent=False)
        own = {
            "out_channels": int(clouds["out_channels"]),
            "gno_coord_dim": dim,
            "gno_use_open3d": False,
            "gno_use_torch_scatter": False,
            "fno_n_modes": [modes] * dim,
            "fno_hidden_channels": width,
            "fno_n_layers": layers,
        }
        if model == "GINO":
            own |= {"in_channels": seen + dim, "fno_in_channels": seen + dim,
                    "latent_feature_channels": None, "in_gno_radius": radius,
                    "out_gno_radius": radius, "in_gno_channel_mlp_hidden_layers": [32],
                    "out_gno_channel_mlp_hidden_layers": [32]}  # fmt: skip
        else:
            own |= {"in_channels": seen + dim + 1, "gno_radius": radius, "gno_batched": True,
                    "gno_channel_mlp_hidden_layers": [32]}  # fmt: skip
        self.model = make(model, MODELS, {}, own)
        self.register_state_dict_post_hook(tensors_only)

    def body(self, place: Tensor, features: Tensor) -> Tensor:
        """Return normalised outputs `(B, P, C)`."""
        if place.dtype == torch.float64:
            raise InvalidArgument(
                "points in float64", "float32: spectral weights of neuraloperator are in no other",
                "Type trainer.precision=32-true",
            )  # fmt: skip
        features = torch.cat([features, 2 * place - 1], -1)
        solve = self._gino if self.name == "GINO" else self._fnogno
        with summed_at_once():
            return torch.stack([solve(p, f) for p, f in zip(place, features, strict=True)])

    def _gino(self, points: Tensor, features: Tensor) -> Tensor:
        return self.model(points[None], self.grid[None], points[None], x=features[None])[0]

    def _fnogno(self, points: Tensor, features: Tensor) -> Tensor:
        gap, index = torch.cdist(self.grid.flatten(0, -2), points).min(1)
        nodes = torch.cat([features[index], gap[:, None]], 1).view(*self.grid.shape[:-1], -1)
        return self.model(in_p=self.grid, out_p=points, f=nodes[None])[0]
