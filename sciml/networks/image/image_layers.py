"""Layers that all image classifiers here share, so that equal widths mean equal sizes.

    encoder    conv 3x3, norm, relu, conv 3x3 stride 2, norm, relu
    head       GN, relu, conv 1x1, norm, relu; then the mean over the image and a linear layer

Source of the sizes: arXiv 2310.09583.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def normalisation(kind: str, channels: int, groups: int) -> nn.Module:
    """Return batch or group normalisation of `(N, C, h, w)`."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(groups, channels)


def per_channel(values: Sequence[float] | None, channels: int, default: float) -> Tensor:
    """Return numbers per channel `(C, 1, 1)`, all `default` if there are none."""
    return torch.tensor(values or [default] * channels).reshape(-1, 1, 1)


def image_encoder(
    in_channels: int, width: int, stride: int, norm: str, groups: int
) -> nn.Sequential:
    """Return `(N, in_channels, H, H)` to `(N, width, h, h)`."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, stride=stride, padding=1),
        normalisation(norm, width, groups),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1),
        normalisation(norm, width, groups),
        nn.ReLU(),
    )


def image_head(channels: int, head: int, norm: str, groups: int) -> nn.Sequential:
    """Return `(N, channels, h, h)` to `(N, head, h, h)`."""
    return nn.Sequential(
        nn.GroupNorm(groups, channels),
        nn.ReLU(),
        nn.Conv2d(channels, head, 1),
        normalisation(norm, head, groups),
        nn.ReLU(),
    )


def image_schema(sizes: Mapping[str, int], **outputs: str) -> dict[str, dict[str, Any]]:
    """Return the schema of a classifier.

    Args:
        sizes: `in_channels`, `classes`, `image_size`.
        outputs: Further outputs, one number per image, by name: "float" or "int".
    """
    shape = ["N", sizes["in_channels"], sizes["image_size"], sizes["image_size"]]
    logits = {"shape": ["N", sizes["classes"]], "unit": "1", "dtype": "float"}
    more = {name: {"shape": ["N"], "unit": "1", "dtype": kind} for name, kind in outputs.items()}
    return {
        "inputs": {"image": {"shape": shape, "unit": "1", "dtype": "float"}},
        "outputs": {"value": logits, **more},
    }
