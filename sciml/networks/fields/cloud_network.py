"""Networks on point clouds of people's own files: names, units and scales around a network.

    u(p) = m_u + s_u N[(a - m_a) / s_a, p](p)        at the points p of a cloud

Points are moved and scaled by one box, that of all training clouds, to [0, 1]^d.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class CloudNetwork(nn.Module, ABC):
    """Maps features at the points of a cloud to fields at these points.

    Args:
        clouds: What the data module says: `points`, `features` and `output` (names), `dim`,
            `channels` in and out, `low`, `high` of the box, `mean`, `std`, `out_mean`, `out_std`,
            `unit`.

    Example:
        >>> import torch
        >>> from sciml.networks.fields import CloudNetwork
        >>> class Distance(CloudNetwork):
        ...     def body(self, place, features):
        ...         return place.norm(dim=-1, keepdim=True)
        >>> clouds = {
        ...     "points": "x", "features": [], "widths": [], "output": "y", "dim": 2, "channels": 0,
        ...     "out_channels": 1, "low": [0.0, 0.0], "high": [1.0, 1.0], "mean": [], "std": [],
        ...     "out_mean": [0.0], "out_std": [2.0],
        ... }
        >>> Distance(clouds).infer(x=torch.tensor([[[0.3, 0.4]]]))["y"].item()
        1.0
    """

    def __init__(self, clouds: Mapping[str, Any]) -> None:
        super().__init__()
        self.clouds = dict(clouds)
        self.dim, self.seen_channels = int(clouds["dim"]), int(clouds["channels"])
        for key in ("low", "high", "mean", "std", "out_mean", "out_std"):
            self.register_buffer(key, torch.tensor(list(map(float, clouds[key]))))

    @abstractmethod
    def body(self, place: Tensor, features: Tensor) -> Tensor:
        """Return normalised outputs `(B, P, C)`.

        Args:
            place: Points in the unit box `(B, P, d)`.
            features: Normalised `(B, P, C_in)`; no channels where the points are all that is given.
        """

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the outputs at the points `(B, P, C)`.

        Args:
            inputs: Points `(B, P, d)` and features `(B, P, C_in)` by the names of the file.
        """
        points, names = inputs[self.clouds["points"]], self.clouds["features"]
        place = (points - self.low) / (self.high - self.low)
        features = place[..., :0]
        if names:
            features = (torch.cat([inputs[n] for n in names], -1) - self.mean) / self.std
        return self.out_mean + self.out_std * self.body(place, features)

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out."""
        c, real = self.clouds, {"dtype": "float", "cast": True}
        inputs = {c["points"]: {"shape": ["N", "points", int(c["dim"])], "unit": "1", **real}}
        for name, width in zip(c["features"], c["widths"], strict=True):
            inputs[name] = {"shape": ["N", "points", int(width)], "unit": "1", **real}
        out = {"shape": ["N", "points", int(c["out_channels"])], "unit": str(c.get("unit", "1"))}
        return {"inputs": inputs, "outputs": {c["output"]: {**out, "dtype": "float"}}}

    def infer(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the output by its name."""
        return {self.clouds["output"]: self(**inputs)}
