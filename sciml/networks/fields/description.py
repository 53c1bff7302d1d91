"""What a network knows of its data: names, axes, units, grid, statistics; and how arrays are laid.

An array of a file has samples first, then axes in any order, of

    x, y, z   directions of space          t   times          c   channels

A network works on channels `(B, C, *space)`: times and channels of an array are one axis, times
slower, directions of space stand in the order x, y, z, and the arrays of a side follow each other.
An input without directions of space is a set of numbers, the same at every point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed

SPACE = ("x", "y", "z")
LETTERS = {"x": "H", "y": "W", "z": "D"}  # of free sizes, as in other operators on grids


def to_channels(value: Tensor, axes: Sequence[str]) -> Tensor:
    """Return `(B, C, *space)` from `(B, *axes)`.

    They lie in memory in this order whatever the file's was: sums run through the same numbers in
    the same order, so the same data in another layout train the same network to the last digit.
    """
    order = [a for a in ("t", "c", *SPACE) if a in axes]
    value = value.permute(0, *(1 + axes.index(a) for a in order))
    inner = sum(a in ("t", "c") for a in order)
    rest = value.shape[1 + inner :]
    flat = value.reshape(len(value), math.prod(value.shape[1 : 1 + inner]), *rest)
    return flat.contiguous()


def from_channels(value: Tensor, axes: Sequence[str], sizes: Mapping[str, int]) -> Tensor:
    """Return `(B, *axes)` from `(B, C, *space)`, the inverse of `to_channels`.

    Args:
        value: The channels of one array.
        axes: Of the array, samples left out.
        sizes: Of its times and channels.
    """
    order = [a for a in ("t", "c", *SPACE) if a in axes]
    inner = [sizes[a] for a in order if a in ("t", "c")]
    value = value.reshape(len(value), *inner, *value.shape[2:])
    return value.permute(0, *(1 + order.index(a) for a in axes))


@dataclass(frozen=True)
class FieldSpec:
    """One array of a side.

    Attributes:
        name: Its key in files.
        axes: Behind the samples.
        sizes: Of "t" and "c", where it has them.
        unit: "1" where it has none.
        names: Of its channels, where they have any.
        trajectory: Axes of the whole array in the file, where this is a part of its times.
        named: Whether its axes were told, by the file or by the user, not found by their lengths.
        unit_of_file: Of the training file, where the user said another one.
    """

    name: str
    axes: tuple[str, ...]
    sizes: Mapping[str, int]
    unit: str = "1"
    names: tuple[str, ...] = ()
    trajectory: tuple[str, ...] = ()
    named: bool = False
    unit_of_file: str = ""

    @property
    def channels(self) -> int:
        """Return times times channels."""
        return self.sizes.get("t", 1) * self.sizes.get("c", 1)

    @property
    def whole(self) -> tuple[str, ...]:
        """Return the axes of a trajectory of it, times where the file has them, else first."""
        return self.trajectory or (self.axes if "t" in self.axes else ("t", *self.axes))

    @property
    def space(self) -> tuple[str, ...]:
        """Return its directions of space."""
        return tuple(a for a in self.axes if a in SPACE)

    def shape(self) -> list[Any]:
        """Return its shape for a schema: letters where sizes are free."""
        return ["N", *(self.sizes.get(a, LETTERS.get(a)) for a in self.axes)]


@typed
class FieldSet:
    """The description of all arrays, around the plain dictionary that files and cards hold.

    Args:
        plain: `inputs` and `outputs`, lists of `name, axes, sizes, unit, names` and what else
            `FieldSpec` has; `size`, points per direction in training; `thinned`, which of the
            file's points and times were kept, by axis; `time_step` between two of these times,
            where the file says it; `grid`, per direction "left" (nodes, the left end included),
            "both" (both ends) or "cells"; `periodic`; `mean`, `std` per input channel, `out_mean`,
            `out_std`, `scale` per output channel; `base`, per output channel the input channel that
            it is an increment of, -1 for none; `solved`, channels of a coarse solve, which `mean`
            and `std` have behind those of the inputs; `history` and `bundle`, states that go in and
            come out of one step of a roll-out, 0 where there are no roll-outs.

    Example:
        >>> import torch
        >>> from sciml.networks.fields import FieldSet
        >>> field = {"axes": ["x", "y"], "sizes": {}}
        >>> fields = FieldSet({
        ...     "inputs": [{"name": "a"} | field], "outputs": [{"name": "u"} | field],
        ...     "size": [16, 16], "grid": ["left", "left"], "periodic": True,
        ...     "mean": [0.0], "std": [1.0], "out_mean": [0.0], "out_std": [1.0], "scale": [1.0],
        ... })
        >>> packed = fields.pack({"a": torch.rand(3, 16, 16)})
        >>> fields.dim, tuple(packed.shape), sorted(fields.unpack(packed))
        (2, (3, 1, 16, 16), ['u'])
    """

    def __init__(self, plain: Mapping[str, Any]) -> None:
        def fields(side: str) -> tuple[FieldSpec, ...]:
            try:
                return tuple(
                    FieldSpec(
                        str(f["name"]),
                        tuple(f["axes"]),
                        dict(f["sizes"]),
                        str(f.get("unit") or "1"),
                        tuple(f.get("names", ())),
                        tuple(f.get("trajectory", ())),
                        bool(f.get("named", False)),
                        str(f.get("unit_of_file") or ""),
                    )
                    for f in plain[side]
                )
            except (KeyError, TypeError, AttributeError) as error:
                raise InvalidArgument(
                    f"fields.{side} is {str(plain.get(side))[:60]}", "a list of descriptions"
                ) from error

        self.plain = plain
        self.inputs, self.outputs = fields("inputs"), fields("outputs")
        self.size = [int(n) for n in plain["size"]]
        self.grid = [str(g) for g in plain["grid"]]
        self.periodic = bool(plain["periodic"])
        self.base = [int(i) for i in plain.get("base", ())]
        self.history, self.bundle = int(plain.get("history", 0)), int(plain.get("bundle", 0))
        self.in_channels = sum(f.channels for f in self.inputs)
        self.out_channels = sum(f.channels for f in self.outputs)
        self.solved = int(plain.get("solved", 0))
        self.thinned = {str(a): int(k) for a, k in dict(plain.get("thinned", {})).items()}
        self.time_step = plain.get("time_step")
        given = {f.name for f in self.inputs}
        self.moving = tuple(f.name for f in self.outputs if f.name in given)
        before = self.in_channels + self.solved
        for key, wanted in (("mean", before), ("std", before)) + tuple(
            (k, self.out_channels) for k in ("out_mean", "out_std", "scale")
        ):
            if len(plain[key]) != wanted:
                raise InvalidArgument(
                    f"fields.{key} with {len(plain[key])} entries", f"one per channel, {wanted}"
                )

    @property
    def dim(self) -> int:
        """Return the number of directions of space."""
        return len(self.size)

    # --- layout -----------------------------------------------------------------------------
    def pack(self, given: Mapping[str, Tensor]) -> Tensor:
        """Return the inputs `(B, C, *space)`; numbers are spread over the grid.

        Raises:
            InvalidArgument: If inputs stand on different grids.
        """
        parts = [to_channels(given[f.name], f.axes) for f in self.inputs]
        grids = {tuple(p.shape[2:]) for p in parts if p.dim() > 2}
        if len(grids) > 1:
            shown = ", ".join(f"{f.name} {tuple(given[f.name].shape)}" for f in self.inputs)
            raise InvalidArgument(f"inputs on different grids: {shown}", "one grid for all inputs")
        grid = grids.pop() if grids else tuple(self.size)
        parts = [
            p if p.dim() > 2 else p.reshape(*p.shape, *[1] * len(grid)).expand(-1, -1, *grid)
            for p in parts
        ]
        return torch.cat(parts, 1)

    def inputs_of(self, packed: Tensor) -> dict[str, Tensor]:
        """Return the inputs by name, in the layout of the files, the inverse of `pack`."""
        parts = packed.split([f.channels for f in self.inputs], 1)
        return {
            f.name: from_channels(p, f.axes, f.sizes)
            for f, p in zip(self.inputs, parts, strict=True)
        }

    def target(self, given: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs `(B, C, *space)` of arrays by name."""
        return torch.cat([to_channels(given[f.name], f.axes) for f in self.outputs], 1)

    def unpack(self, value: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name, in the layout of the files, from `(B, C, *space)`."""
        parts = value.split([f.channels for f in self.outputs], 1)
        return {
            f.name: from_channels(p, f.axes, f.sizes)
            for f, p in zip(self.outputs, parts, strict=True)
        }

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out, see `sciml.pretrained.predictors.pretrained_operator`."""
        real = {"dtype": "float", "cast": True}
        return {
            "inputs": {f.name: {"shape": f.shape(), "unit": f.unit, **real} for f in self.inputs},
            "outputs": {
                f.name: {"shape": f.shape(), "unit": f.unit, "dtype": "float"} for f in self.outputs
            },
        }

    # --- roll-outs --------------------------------------------------------------------------
    def advanced(self, packed: Tensor, found: Tensor) -> Tensor:
        """Return the inputs of the next step of a roll-out.

        Args:
            packed: Inputs of this step `(B, C, *space)`.
            found: Its outputs, `bundle` states.
        """
        new = dict(
            zip(
                (f.name for f in self.outputs),
                found.split([f.channels for f in self.outputs], 1),
                strict=True,
            )
        )
        parts = []
        for f, old in zip(
            self.inputs, packed.split([f.channels for f in self.inputs], 1), strict=True
        ):
            if f.name in new:  # the last `history` states of what was known and what is new
                old = torch.cat([old, new[f.name]], 1)[:, -f.channels :]
            parts.append(old)
        return torch.cat(parts, 1)
