"""What all operators between fields share: layout, normalisation, positions, increments, grids.

    u(x) = base + m_u + s_u N[(a - m_a) / s_a, x](x)

with the means m and standard deviations s of the training part, channel by channel, and `base` the
input channel that an output is an increment of (0 for most). N is what a subclass adds as `body`.
Positions enter where the domain is not periodic. With `coarse_solver`, a classical solve of the
same problem, u_c(a), is a further input of N, and `base`. With `views`, what is predicted outside
training is the mean over all views through the symmetries that the data were trained with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.fields.coarse_input import coarse_solve
from sciml.networks.fields.description import FieldSet, from_channels
from sciml.networks.fields.field_interpolation import interpolated
from sciml.networks.fields.views import back, combinations, view


class FieldNetwork(nn.Module, ABC):
    """Layout and units around a network on channels.

    Args:
        fields: See `sciml.networks.fields.description.FieldSet`; the data module's.
        resolution: On another grid than that of training, "free" evaluates the network there, and
            "trained" on its own grid, between which and the other fields are interpolated.
        views: Whether predictions are means over the views through `fields.symmetries`.
        coarse_solver: Classical one, see `sciml.networks.fields.coarse_input`; None for none.

    Raises:
        InvalidArgument: If the description does not fit itself.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from sciml.data import FieldFiles
        >>> from sciml.networks.fields import FieldNetwork
        >>> class Pointwise(FieldNetwork):
        ...     def __init__(self, fields):
        ...         super().__init__(fields)
        ...         self.mix = torch.nn.Conv2d(self.seen_channels, self.fields.out_channels, 1)
        ...     def body(self, z):
        ...         return self.mix(z)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     x, y = np.random.rand(2, 20, 8, 8)
        ...     np.savez(f"{folder}/pairs.npz", x=x, y=y)
        ...     data = FieldFiles(path=f"{folder}/pairs.npz")
        >>> tuple(Pointwise(data.sizes["fields"]).infer(x=torch.rand(3, 8, 8))["y"].shape)
        (3, 8, 8)
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        resolution: Literal["free", "trained"] = "free",
        views: bool = False,
        coarse_solver: Any = None,
    ) -> None:
        super().__init__()
        if resolution not in ("free", "trained"):
            raise InvalidArgument(f"network.resolution={resolution}", "free or trained")
        self.fields, self.resolution = FieldSet(fields), resolution
        names = tuple(str(n) for n in fields.get("symmetries", ()) if n != "shift")
        if views and not names:
            raise InvalidArgument(
                "network.views=true without symmetries that can be averaged over",
                "data.symmetries with transpose, flip_x, flip_y or odd",
                "Type network.views=false",
            )
        self.views = combinations(names) if views else [()]
        if (coarse_solver is None) != (self.fields.solved == 0):
            raise InvalidArgument(
                f"a description with {self.fields.solved} channels of a coarse solve, and "
                f"network.coarse_solver={type(coarse_solver).__name__}",
                "the solver of data.coarse",
            )
        self.coarse = coarse_solver
        ones = [1] * self.fields.dim
        for name in ("mean", "std", "out_mean", "out_std"):
            value = torch.tensor(list(map(float, fields[name]))).reshape(-1, *ones)
            self.register_buffer(name, value)
        base = torch.tensor(self.fields.base or [-1] * self.fields.out_channels)
        self.incremental = bool((base >= 0).any())
        self.register_buffer("base", base.clamp_min(0), persistent=False)
        self.register_buffer("based", (base >= 0).float().reshape(-1, *ones), persistent=False)

    @property
    def seen_channels(self) -> int:
        """Return the channels that `body` is given."""
        own = self.fields.in_channels + self.fields.solved
        return own + (0 if self.fields.periodic else self.fields.dim)

    @abstractmethod
    def body(self, z: Tensor) -> Tensor:
        """Return normalised outputs `(B, C_out, *space)` from `(B, seen_channels, *space)`."""

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the outputs as channels `(B, C_out, *space)`, in their units."""
        return self.step(self.fields.pack(inputs))

    def step(self, packed: Tensor, solved: Tensor | None = None) -> Tensor:
        """Return the outputs of packed inputs `(B, C_in, *space)`, the mean over all views.

        Args:
            packed: Inputs as channels.
            solved: Their coarse solve on the grid of training, where it is known already.
        """
        if self.training or len(self.views) == 1:
            return self.seen(packed, solved)
        found = []
        for names in self.views:
            there = packed
            for name in names:
                there = view(there, name, self.fields, False)
            there = self.seen(there)
            for name in reversed(names):
                there = back(there, name, self.fields)
            found.append(there)
        return torch.stack(found).mean(0)

    def seen(self, packed: Tensor, solved: Tensor | None = None) -> Tensor:
        """Return the outputs of packed inputs in one view."""
        grid, own = list(packed.shape[2:]), self.fields.size
        there = packed
        if self.resolution == "trained" and grid != own:
            there = interpolated(there, own, self.fields.grid, self.fields.periodic)
        if self.coarse is not None:
            solved = self.solve(there) if solved is None else solved
            there = torch.cat([there, solved], 1)
        there = (there - self.mean) / self.std
        if not self.fields.periodic:
            there = torch.cat([there, self.positions(there)], 1)
        found = self.out_mean + self.out_std * self.body(there)
        if self.coarse is not None:
            found = found + solved
        if list(found.shape[2:]) != grid:
            found = interpolated(found, grid, self.fields.grid, True)
        if self.incremental:
            found = found + self.based * packed[:, self.base]
        return found

    def solve(self, packed: Tensor) -> Tensor:
        """Return the coarse solve of packed inputs `(B, C_out, *space)`."""
        return coarse_solve(self.coarse, self.fields, packed)

    def remainder(self, packed: Tensor, target: Tensor) -> Tensor:
        """Return what `body` has to give for a target, in float64.

        Args:
            packed: Inputs `(B, C_in, *space)`.
            target: Outputs `(B, C_out, *space)` on the same grid.
        """
        rest = target.double() - self.based.double() * packed.double()[:, self.base]
        if self.coarse is not None:
            rest = rest - self.solve(packed).double()
        return (rest - self.out_mean.double()) / self.out_std.double()

    def positions(self, z: Tensor) -> Tensor:
        """Return the coordinates of all points `(B, dim, *space)`, from -1 to 1."""
        sides = []
        for n, kind in zip(z.shape[2:], self.fields.grid, strict=True):
            i = torch.arange(n, device=z.device, dtype=z.dtype)
            x = i / max(n - 1, 1) if kind == "both" else (i + 0.5 * (kind == "cells")) / n
            sides.append(2 * x - 1)
        place = torch.stack(torch.meshgrid(*sides, indexing="ij"))
        return place.expand(len(z), *place.shape)

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out, by the names of the files."""
        return self.fields.schema()

    def infer(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name, laid out as in the files."""
        return self.fields.unpack(self(**inputs))

    def unrolled(self, packed: Tensor, calls: int) -> Tensor:
        """Return `calls` steps after each other `(B, calls, C_out, *space)`."""
        found = []
        for k in range(calls):
            found.append(self.step(packed))
            if k + 1 < calls:
                packed = self.fields.advanced(packed, found[-1])
        return torch.stack(found, 1)

    def rollout(self, steps: int, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the next `steps` states by name, times where the files have them.

        Args:
            steps: States wanted.
            inputs: As for `infer`: what is known at first.

        Raises:
            InvalidArgument: If this network maps fields to fields and knows no time.
        """
        bundle = self.fields.bundle
        if not bundle:
            raise InvalidArgument(
                "a roll-out of a network that maps inputs to outputs once",
                "one trained on trajectories",
                "Use predict",
            )
        calls = -(-steps // bundle)
        found = self.unrolled(self.fields.pack(inputs), calls)
        parts = found.split([f.channels for f in self.fields.outputs], 2)
        answer = {}
        for f, part in zip(self.fields.outputs, parts, strict=True):
            part = part.reshape(len(part), calls * bundle, -1, *part.shape[3:])[:, :steps]
            answer[f.name] = from_channels(part.flatten(1, 2), f.whole, {**f.sizes, "t": steps})
        return answer
