"""Weights that the linear layers of a network begin with."""

from __future__ import annotations

from torch import nn

from sciml.errors import InvalidArgument


def initialise(network: nn.Module, rule: str) -> None:
    """Leave the weights of a network as they are, or give its linear layers those of a rule.

    Args:
        network: Changed in place.
        rule: "given", or "glorot": normal with variance 2 / (inputs + outputs) and zero biases
            (Glorot and Bengio, 2010).

    Raises:
        InvalidArgument: For another rule.
    """
    if rule not in ("given", "glorot"):
        raise InvalidArgument(f"module.initial={rule}", "given or glorot")
    if rule == "glorot":
        network.apply(_glorot)


def _glorot(layer: nn.Module) -> None:
    """Give a linear layer weights of Glorot's variance, and no bias; frozen ones stay."""
    if isinstance(layer, nn.Linear) and layer.weight.requires_grad:
        nn.init.xavier_normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
