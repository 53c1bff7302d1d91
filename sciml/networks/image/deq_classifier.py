"""Image classifiers whose features are an equilibrium: deep equilibrium networks (DEQ).

    z* = f(z*; x),   x = encoder(image),   logits = head(z*)

The cells are in `sciml.networks.image.deq_cells`; the default is a contraction by construction.
`UnrolledNetwork` applies the same cell a few times, weight-tied or not: what the equilibrium adds
is the difference. Encoder and head are those of `sciml.networks.image.image_layers`.

Sources: Bai, Kolter & Koltun 2019, arXiv 1909.01377; 2020, arXiv 2006.08656 (images).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.image.deq_cells import ContractionCell, NormalisedCell
from sciml.networks.image.image_layers import image_encoder, image_head, image_schema, per_channel
from sciml.networks.sizes import check_sizes
from sciml.solvers import GMRES, Anderson, Implicit, Solution, fixed_point
from sciml.typed_arguments import typed


@dataclass
class Equilibrium:
    """A forward pass with what led to it.

    Attributes:
        logits: `(N, classes)`.
        solution: Of the equilibrium; its value is z* `(N, C, h, w)`.
        theta: What the cell was given beside z.
    """

    logits: Tensor
    solution: Solution
    theta: tuple[Tensor, ...]


class CellClassifier(nn.Module):
    """Encoder, cell and head; a subclass says how often the cell is applied.

    Args:
        in_channels: Channels of the image.
        classes: Number of classes.
        image_size: Height and width of the image.
        mean: Mean intensity per channel, subtracted.
        std: Standard deviation per channel, divided by.
        width: Channels C of encoder and state.
        head: Channels of the head.
        groups: Groups of the group normalisations.
        cell: `contraction` or `normalised`.
        bound: c of the cell, in (0, 1).
        stride: Stride of the first convolution.
        dropout: Share of the injected features left out while training, one mask per image and
            solve.

    Raises:
        InvalidArgument: For sizes that do not fit.
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
        head: int = 64,
        groups: int = 8,
        cell: Literal["contraction", "normalised"] = "contraction",
        bound: float = 0.9,
        stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, classes=classes, image_size=image_size, stride=stride)
        check_sizes(width=width, head=head, groups=groups)
        if cell not in ("contraction", "normalised"):
            raise InvalidArgument(f"network.cell={cell}", "contraction or normalised")
        if not 0 < bound < 1:
            raise InvalidArgument(f"network.bound={bound}", "strictly between 0 and 1")
        if not 0 <= dropout < 1:
            raise InvalidArgument(f"network.dropout={dropout}", "at least 0 and below 1")
        if width % groups or head % groups:
            raise InvalidArgument(
                f"network.groups={groups} with width={width}, head={head}", "a divisor of both"
            )
        self.register_buffer("mean", per_channel(mean, in_channels, 0.0))
        self.register_buffer("std", per_channel(std, in_channels, 1.0))
        self.encoder = image_encoder(in_channels, width, stride, "group", groups)
        kind = ContractionCell if cell == "contraction" else NormalisedCell
        self.cell = kind(width, bound, groups)
        self.head = image_head(width, head, "group", groups)
        self.out = nn.Linear(head, classes)
        self.sizes = {"in_channels": in_channels, "classes": classes, "image_size": image_size}
        self.dropout = dropout

    # --- one pass -----------------------------------------------------------------------------
    def encode(self, image: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return what is injected `(N, C, h, w)`.

        Args:
            image: Intensities `(N, in_channels, H, H)`.
            generator: Draws the dropout mask while training; None for the global generator.
        """
        x = self.encoder((image - self.mean) / self.std)
        if self.training and self.dropout:
            shape = (*x.shape[:2], 1, 1)  # whole channels, frozen while the solver runs
            keep = torch.rand(shape, generator=generator, device=x.device) >= self.dropout
            x = x * keep / (1 - self.dropout)
        return x

    def read(self, z: Tensor) -> Tensor:
        """Return logits `(N, classes)` of a state `(N, C, h, w)`."""
        return self.out(self.head(z).mean((2, 3)))

    # --- export -------------------------------------------------------------------------------
    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out."""
        return image_schema(self.sizes)

    def infer(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits as `value`."""
        return {"value": self(image)}


@typed
class DEQ(CellClassifier):
    """Classifier with the equilibrium of the cell between encoder and head.

    Further arguments, shapes and errors as in `CellClassifier`.

    Args:
        on_failure: As in `sciml.solvers.root`.
        solver: Forward solver; None for Anderson acceleration to 1e-4.
        adjoint: Derivative rule; None for the implicit function theorem to 1e-4.

    Raises:
        InvalidArgument: For an integrator in place of a solver.

    Example:
        >>> import torch
        >>> from sciml.networks import DEQ
        >>> network = DEQ(image_size=8, classes=3, width=8, head=8, groups=2)
        >>> found = network.infer(torch.rand(2, 1, 8, 8))
        >>> sorted(found), tuple(found["value"].shape)
        (['converged', 'residual', 'value'], (2, 3))
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
        head: int = 64,
        groups: int = 8,
        cell: Literal["contraction", "normalised"] = "contraction",
        bound: float = 0.9,
        stride: int = 1,
        dropout: float = 0.0,
        on_failure: Literal["raise", "warn", "mask", "best"] = "best",
        solver: Any = None,
        adjoint: Any = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            classes=classes,
            image_size=image_size,
            mean=mean,
            std=std,
            width=width,
            head=head,
            groups=groups,
            cell=cell,
            bound=bound,
            stride=stride,
            dropout=dropout,
        )
        if solver is not None and not callable(solver):
            raise InvalidArgument(
                f"network.solver={type(solver).__name__}, which integrates",
                "a solver of equations",
                "Type solver=anderson, or solver=residual_flow for an integration to rest",
            )
        self.on_failure = on_failure
        self.solver = solver or Anderson(rtol=1e-4, max_iter=100)
        self.adjoint = adjoint or Implicit(GMRES(rtol=1e-4))

    def solve(
        self,
        image: Tensor,
        generator: torch.Generator | None = None,
        *,
        start: Tensor | None = None,
        solver: Any = None,
    ) -> Equilibrium:
        """Return logits and the equilibrium they are read from.

        Args:
            image: Intensities `(N, in_channels, H, H)`.
            generator: As in `encode`.
            start: First iterate `(N, C, h, w)`; zeros by default.
            solver: In place of the network's own.
        """
        theta = self.cell.prepare(self.encode(image, generator))
        zero = torch.zeros_like(theta[0], dtype=torch.promote_types(theta[0].dtype, torch.float32))
        solution = fixed_point(
            self.cell,
            zero if start is None else start,
            theta,
            solver=solver or self.solver,
            adjoint=self.adjoint,
            on_failure=self.on_failure,
        )
        return Equilibrium(self.read(solution.value), solution, theta)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(N, classes)` of intensities `(N, in_channels, H, H)`."""
        return self.solve(image).logits

    # --- export -------------------------------------------------------------------------------
    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out."""
        return image_schema(self.sizes, converged="int", residual="float")

    def infer(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits, and per image whether its equilibrium was found and how well."""
        found = self.solve(image)
        return {
            "value": found.logits,
            "converged": found.solution.converged.long(),
            "residual": found.solution.stats["relative"],
        }


@typed
class UnrolledNetwork(CellClassifier):
    """The same layers without an equilibrium: the cell applied `layers` times from zero.

    Further arguments, shapes and errors as in `CellClassifier`.

    Args:
        layers: Number of applications.
        tied: Whether all use the same weights; untied ones have `layers` cells, so a smaller
            `width` for an equal number of weights.

    Example:
        >>> import torch
        >>> from sciml.networks import UnrolledNetwork
        >>> network = UnrolledNetwork(image_size=8, classes=3, width=8, head=8, groups=2, layers=3)
        >>> tuple(network(torch.rand(2, 1, 8, 8)).shape)
        (2, 3)
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
        head: int = 64,
        groups: int = 8,
        cell: Literal["contraction", "normalised"] = "contraction",
        bound: float = 0.9,
        stride: int = 1,
        dropout: float = 0.0,
        layers: int = 1,
        tied: bool = True,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            classes=classes,
            image_size=image_size,
            mean=mean,
            std=std,
            width=width,
            head=head,
            groups=groups,
            cell=cell,
            bound=bound,
            stride=stride,
            dropout=dropout,
        )
        if layers < 1:
            raise InvalidArgument(f"network.layers={layers}", "a positive integer")
        count = 0 if tied else layers - 1
        kind = type(self.cell)
        self.more = nn.ModuleList(kind(width, bound, groups) for _ in range(count))
        self.layers = layers

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(N, classes)` of intensities `(N, in_channels, H, H)`."""
        x = self.encode(image)
        z = torch.zeros_like(x)
        cells = [self.cell, *self.more] if self.more else [self.cell] * self.layers
        prepared = {id(cell): cell.prepare(x) for cell in cells}
        for cell in cells:
            z = cell(z, *prepared[id(cell)])
        return self.read(z)
