"""FNO, TFNO, UNO and CODANO of the neuraloperator library between fields of files.

The networks and their options are the library's; layout and normalisation are ours. Spectral
weights are complex, so optimizers with curvature refuse them (`model=fno` has real ones), and in
single precision whatever is asked for.

CODANO takes every channel for a variable, with attention between these, and answers with as many: a
linear map from these to the outputs follows.

Reference: Kossaifi et al. 2024, arXiv 2412.10354; Rahman et al. 2024, arXiv 2403.12553 (CODANO).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.fields.field_network import FieldNetwork
from sciml.networks.neuraloperator_library import make, tensors_only
from sciml.typed_arguments import typed

MODELS = ("FNO", "TFNO", "UNO", "CODANO")


@typed
class LibraryOperator(FieldNetwork):
    """A network of neuraloperator between fields.

    Args:
        fields: The data module's description.
        model: Which network.
        width: Channels of the state.
        modes: Modes per direction, of both signs together as the library counts them; None for 24,
            or as many as there are points.
        layers: Fourier layers; UNO has one more below each other where this is odd.
        options: Further arguments of the library's class.
        resolution: As in `FieldNetwork`.
        views: As in `FieldNetwork`.
        coarse_solver: As in `FieldNetwork`.

    Raises:
        InvalidArgument: For a model or option that the library does not have, or refuses.
        MissingPackage: Without the library.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from sciml.data import FieldFiles
        >>> from sciml.networks.fields import LibraryOperator
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     x, y = np.random.rand(2, 20, 8, 8)
        ...     np.savez(f"{folder}/pairs.npz", x=x, y=y)
        ...     data = FieldFiles(path=f"{folder}/pairs.npz")
        >>> network = LibraryOperator(data.sizes["fields"], width=4, modes=4, layers=1)
        >>> tuple(network.infer(x=torch.rand(3, 8, 8))["y"].shape)
        (3, 8, 8)
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        model: Literal["FNO", "TFNO", "UNO", "CODANO"] = "TFNO",
        width: int = 32,
        modes: int | None = None,
        layers: int = 4,
        options: Mapping[str, Any] | None = None,
        resolution: Literal["free", "trained"] = "free",
        views: bool = False,
        coarse_solver: Any = None,
    ) -> None:
        super().__init__(fields, resolution, views, coarse_solver)
        dim, least = self.fields.dim, min(self.fields.size)
        modes = min(24, least) if modes is None else modes
        if width < 1 or layers < 1 or modes < 1:
            raise InvalidArgument(
                f"network.width={width}, network.layers={layers}, network.modes={modes}",
                "positive integers",
            )
        self.mix: nn.Module = nn.Identity()
        if model == "CODANO":
            self._codano(width, modes, layers, dict(options or {}))
            return
        own: dict[str, Any] = {
            "in_channels": self.seen_channels,
            "out_channels": self.fields.out_channels,
            "positional_embedding": None,
            "hidden_channels": width,
            "n_layers": layers,
        }
        options = dict(options or {})
        if model == "UNO":
            own |= _u_shape(width, modes, layers, dim) if "uno_n_modes" not in options else {}
        else:
            own["n_modes"] = [modes] * dim
        self.model = make(model, MODELS, options, own)
        self.register_state_dict_post_hook(tensors_only)

    def _codano(self, width: int, modes: int, layers: int, options: dict[str, Any]) -> None:
        dim = self.fields.dim
        if dim == 1:
            raise InvalidArgument(
                "network.model=CODANO in one direction", "fields in two or three", "Type model=fno"
            )
        own = {
            "output_variable_codimension": 1,
            "hidden_variable_codimension": width,
            "lifting_channels": 2 * width,
            "projection_channels": 2 * width,
            "n_layers": layers,
            "n_modes": [[modes] * dim] * layers,
            "per_layer_scaling_factors": [[1.0] * dim] * layers,
            "attention_scaling_factors": [1.0] * layers,
        }
        options.setdefault("n_heads", [1] * layers)
        self.model = make("CODANO", MODELS, options, own)
        self.register_state_dict_post_hook(tensors_only)
        layer = nn.Conv2d if dim == 2 else nn.Conv3d
        self.mix = layer(self.seen_channels, self.fields.out_channels, 1)

    def body(self, z: Tensor) -> Tensor:
        """Return normalised outputs `(B, C_out, *space)`."""
        if z.dtype == torch.float64:
            raise InvalidArgument(
                "inputs in float64",
                "float32: spectral weights of neuraloperator are never anything else",
                "Type trainer.precision=32-true, or network=field_fno",
            )
        return self.mix(self.model(z))


def _u_shape(width: int, modes: int, layers: int, dim: int) -> dict[str, Any]:
    """Return UNO's lists: the middle third of the layers at half the resolution."""
    down = max(layers // 3, 1)
    scale = [1.0] * layers
    if layers >= 3:
        scale[down], scale[layers - down] = 0.5, 2.0
    coarse = [down <= k < layers - down for k in range(layers)] if layers >= 3 else [False] * layers
    return {
        "uno_out_channels": [width] * layers,
        "uno_n_modes": [[max(modes // 2, 1) if c else modes] * dim for c in coarse],
        "uno_scalings": [[s] * dim for s in scale],
        "lifting_channels": 2 * width,
        "projection_channels": 2 * width,
        "channel_mlp_skip": "linear",
    }
