"""Image classifiers whose features are the state of an ODE: what they share, and the baselines.

    Neural ODE              dz/dt = F(z),  z(0) = x = encoder(image),  logits = head(z(1))
    augmented Neural ODE    the same with channels of zeros beside x
    explicit                z = x + F(x)

All networks here and in `sciml.networks.image.homoode_classifier` have the same layers, so equal
widths mean equal
sizes: encoder and head of `sciml.networks.image.image_layers`, and the field

    GN(drop(conv(phi(GN(conv(z))) + x))), both convolutions 3x3; no x in a Neural ODE

Sources: Neural ODE arXiv 1806.07366; augmented arXiv 1904.01681; layers arXiv 2310.09583.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument, did_you_mean
from sciml.networks.image.image_layers import image_encoder, image_head, image_schema, per_channel
from sciml.networks.sizes import check_sizes
from sciml.solvers.ode.initial_value import integrate, local_estimates
from sciml.solvers.ode.ode_method import ODE, check_gradient
from sciml.solvers.solution import Solution
from sciml.typed_arguments import typed

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}


@dataclass
class ImageFlow:
    """A forward pass with what led to it.

    Attributes:
        logits: `(N, classes)`.
        solution: Of the ODE or equilibrium; its value is z(1) `(N, C, h, w)`.
        x: Encoded image `(N, C, h, w)`.
        mask: Dropout mask of the solve, shape of the state; None without dropout.
    """

    logits: Tensor
    solution: Solution
    x: Tensor
    mask: Tensor | None


class ConvField(nn.Module):
    """`GN(drop(conv(phi(GN(conv(z))) + x)))`; a dropout mask is given, never drawn here.

    Args:
        channels: Channels C of the state.
        groups: Groups of both normalisations.
        activation: relu, silu, softplus or tanh; the adjoint wants a smooth one.
    """

    def __init__(self, channels: int, groups: int, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.activation = ACTIVATIONS[activation]

    def forward(self, z: Tensor, x: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the shape of z `(N, C, h, w)`."""
        y = self.activation(self.norm1(self.conv1(z)))
        y = self.conv2(y if x is None else y + x)
        return self.norm2(y if mask is None else y * mask)


@typed
class FlowClassifier(nn.Module):
    """Encoder, head and reports of all networks here; a subclass says how x becomes z(1).

    Args:
        in_channels: Channels of the image.
        classes: Number of classes.
        image_size: Height and width of the image.
        mean: Mean intensity per channel, subtracted.
        std: Standard deviation per channel, divided by.
        width: Channels C of the encoder.
        augment: Channels of zeros beside the encoded image.
        head: Channels of the head.
        groups: Groups of the group normalisations.
        norm: Normalisation of encoder and head, `batch` or `group`.
        activation: Of the field: relu, silu, softplus or tanh.
        stride: Stride of the first convolution.
        dropout: Share of the field's outputs left out, one mask per image and solve.
        gradient: `backprop`, `checkpoint` or `adjoint`, see `sciml.solvers.ode.initial_value`.
        on_failure: As in `sciml.solvers`.
        solver: How the ODE is integrated.

    Raises:
        InvalidArgument: For names that are unknown or sizes that do not fit.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        classes: int = 10,
        image_size: int = 8,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        width: int = 32,
        augment: int = 0,
        head: int = 64,
        groups: int = 8,
        norm: Literal["batch", "group"] = "batch",
        activation: str = "relu",
        stride: int = 1,
        dropout: float = 0.0,
        gradient: str = "backprop",
        on_failure: str = "raise",
        solver: Any = None,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, classes=classes, image_size=image_size, stride=stride)
        check_sizes(width=width, head=head, groups=groups)
        channels = width + augment
        if activation not in ACTIVATIONS:
            raise InvalidArgument(
                f"network.activation={activation}", "", did_you_mean(activation, ACTIVATIONS)
            )
        if norm not in ("batch", "group"):
            raise InvalidArgument(f"network.norm={norm}", "batch or group")
        if not 0 <= dropout < 1:
            raise InvalidArgument(f"network.dropout={dropout}", "at least 0 and below 1")
        if augment < 0 or any(size % groups for size in (width, channels, head)):
            raise InvalidArgument(
                f"network.groups={groups} with width={width}, augment={augment}, head={head}",
                "a divisor of width, of width + augment and of head",
            )
        solver = solver or ODE()
        if gradient != "ift":
            if not isinstance(solver, ODE):
                raise InvalidArgument(
                    f"solver={type(solver).__name__} for a trajectory (gradient={gradient})",
                    "an integrator",
                    "Type solver=rk4 or solver=dopri5; with network=homoode network.kind=residual "
                    "any solver of fixed points",
                )
            check_gradient(solver, gradient)
        self.register_buffer("mean", per_channel(mean, in_channels, 0.0))
        self.register_buffer("std", per_channel(std, in_channels, 1.0))
        self.encoder = image_encoder(in_channels, width, stride, norm, groups)
        self.field = ConvField(channels, groups, activation)
        self.head = image_head(channels, head, norm, groups)
        self.out = nn.Linear(head, classes)
        self.sizes = {"in_channels": in_channels, "classes": classes, "image_size": image_size}
        self.channels, self.augment, self.dropout = channels, augment, dropout
        self.gradient, self.on_failure, self.solver = gradient, on_failure, solver

    # --- what a subclass says -----------------------------------------------------------------
    def velocity(self, t: Tensor, z: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return dz/dt, shape of z."""
        return self.field(z, None, mask)

    def initial(self, x: Tensor) -> Tensor:
        """Return z(0) for encoded images."""
        return F.pad(x, (0, 0, 0, 0, 0, self.augment))

    def rest_scale(self, z: Tensor, velocity: Tensor) -> Tensor:
        """Return what an equilibrium residual is relative to, shape of z."""
        return z

    def solve(self, x: Tensor, mask: Tensor | None, **options: Any) -> Solution:
        """Return z(1) with its report; `options` are those of `integrate`."""
        theta = (x, mask)
        settings = {"on_failure": self.on_failure, "ode": self.solver, "gradient": self.gradient}
        return integrate(self.velocity, self.initial(x), theta, **settings, **options)

    # --- one pass -------------------------------------------------------------------------------
    def flow(
        self, image: Tensor, generator: torch.Generator | None = None, **options: Any
    ) -> ImageFlow:
        """Return logits, solution and features.

        Args:
            image: Intensities `(N, in_channels, H, H)`.
            generator: Draws the dropout mask while training; None for the global generator.
            options: Of `integrate`: `times`, `estimates`.
        """
        x = self.encoder((image - self.mean) / self.std)
        mask = self._mask(x, generator) if self.training and self.dropout else None
        solution = self.solve(x, mask, **options)
        z = solution.value.to(x.dtype)
        logits = self.out(self.head(z).mean((2, 3)))
        return ImageFlow(logits, solution, x, mask)

    def _mask(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return a dropout mask for one solve, scaled to keep the mean."""
        shape = (len(x), self.channels, *x.shape[2:])
        keep = torch.rand(shape, generator=generator, device=x.device) >= self.dropout
        return keep.to(x.dtype) / (1 - self.dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(N, classes)` of intensities `(N, in_channels, H, H)`."""
        return self.flow(image).logits

    @torch.no_grad()
    def equilibrium_residual(self, flow: ImageFlow) -> Tensor:
        """Return `(N,)`: |dz/dt| at the end over |z|, or over |f| where dz/dt = f - z."""
        z = flow.solution.value.detach()
        speed = self.velocity(torch.ones((), device=z.device), z, flow.x, flow.mask)
        scale = self.rest_scale(z, speed).flatten(1).norm(dim=1)
        return speed.flatten(1).norm(dim=1) / scale.clamp_min(torch.finfo(z.dtype).tiny)

    def estimates(self, flow: ImageFlow, t: float, h: float, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return error times size, and stiffness, `(N,)`, of one step of the flow at (t, z)."""
        return local_estimates(self.velocity, t, h, z, (flow.x, flow.mask))

    # --- export ---------------------------------------------------------------------------------
    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out."""
        return image_schema(self.sizes, residual="float")

    def infer(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits as `value` and the equilibrium residual, both per image."""
        flow = self.flow(image)
        return {"value": flow.logits, "residual": self.equilibrium_residual(flow)}


class NeuralODE(FlowClassifier):
    """Flow from the encoded image; with `augment` channels of zeros an augmented Neural ODE.

    Arguments, shapes and errors as in `FlowClassifier`.

    Example:
        >>> import torch
        >>> from sciml.networks import NeuralODE
        >>> from sciml.solvers import ODE
        >>> network = NeuralODE(
        ...     image_size=8, classes=3, width=8, head=8, groups=2, solver=ODE("rk4", steps=2)
        ... )
        >>> tuple(network(torch.rand(2, 1, 8, 8)).shape)
        (2, 3)
    """


class ExplicitNetwork(FlowClassifier):
    """One residual block `z = x + F(x)` of the same size: what the ODE adds is the difference.

    Arguments, shapes and errors as in `FlowClassifier`; the solver is one Euler step.

    Example:
        >>> import torch
        >>> from sciml.networks import ExplicitNetwork
        >>> network = ExplicitNetwork(image_size=8, classes=3, width=8, head=8, groups=2)
        >>> tuple(network(torch.rand(2, 1, 8, 8)).shape)
        (2, 3)
    """

    def solve(self, x: Tensor, mask: Tensor | None, **options: Any) -> Solution:
        """Return z = x + F(x)."""
        one = {"on_failure": self.on_failure, "ode": ODE("euler", steps=1)}
        return integrate(self.velocity, self.initial(x), (x, mask), **one)
