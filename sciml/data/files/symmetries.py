"""Symmetries of a problem (`sciml.networks.fields.views`) as random views of training samples.

A symmetry that data do not have does harm. So each is tried before: a kernel regression learns from
half of some samples, and again from these and their mirror images, and must not become worse on the
other half by that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.regression import kernel_ridge, relative
from sciml.errors import InvalidArgument, did_you_mean
from sciml.networks.fields.description import FieldSet, from_channels, to_channels
from sciml.networks.fields.views import NAMES, direction, view

WORSE = 1.05  # times the error without a symmetry, from which on it is refused


class Symmetries:
    """Views of samples.

    Args:
        names: Of `NAMES`, or one of them.
        fields: The data's description.

    Raises:
        InvalidArgument: For an unknown name, or one that grid or data cannot have.
    """

    def __init__(self, names: str | Sequence[str], fields: FieldSet) -> None:
        self.names = (names,) if isinstance(names, str) else tuple(names)
        self.fields = fields
        for name in self.names:
            if name not in NAMES:
                raise InvalidArgument(
                    f"data.symmetries with {name}", "known symmetries", did_you_mean(name, NAMES)
                )
            if name == "transpose" and (fields.dim < 2 or len(set(fields.size)) > 1):
                raise InvalidArgument("data.symmetries with transpose", "a square grid")
            if name[:4] == "flip" and direction(name) >= fields.dim:
                raise InvalidArgument(f"data.symmetries with {name}", f"{fields.dim} directions")
            if name == "shift" and not fields.periodic:
                raise InvalidArgument(
                    "data.symmetries with shift", "a periodic domain", "Type data.periodic=true"
                )

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.names)

    def drawn(
        self, given: Mapping[str, Tensor], target: Tensor, streams: Streams
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return a batch of which each half, by chance, is seen through each symmetry.

        Args:
            given: Inputs by name.
            target: `(B, C, *space)`.
            streams: Of the step.
        """
        draw = streams.generator("views", cpu=True)
        parts = {f.name: to_channels(given[f.name], f.axes) for f in self.fields.inputs}
        for name in self.names:
            by = int(torch.randint(1, max(self.fields.size[0], 2), (1,), generator=draw))
            coin = torch.rand(len(target), generator=draw) < 0.5
            target = _mixed(coin, target, view(target, name, self.fields, True, by))
            for f in self.fields.inputs:
                seen = view(parts[f.name], name, self.fields, False, by)
                parts[f.name] = _mixed(coin, parts[f.name], seen)
        back = {f.name: from_channels(parts[f.name], f.axes, f.sizes) for f in self.fields.inputs}
        return back, target

    def check(self, given: Mapping[str, Tensor], target: Tensor) -> list[str]:
        """Refuse symmetries that samples do not have, and say what was found.

        Args:
            given: Inputs of some training samples.
            target: Their outputs.

        Raises:
            InvalidArgument: With the two errors.
        """
        half = len(target) // 2
        if half < 8:
            raise InvalidArgument(f"data.symmetries with {len(target)} samples", "at least 16")
        x, y = self.fields.pack(given).double(), target.double()
        plain = relative(kernel_ridge(x[:half], y[:half])(x[half:]), y[half:])
        said = []
        for name in self.names:  # the samples themselves last: a fifth of these chooses the kernel
            more = torch.cat([view(x[:half], name, self.fields, False), x[:half]])
            seen = torch.cat([view(y[:half], name, self.fields, True), y[:half]])
            error = relative(kernel_ridge(more, seen)(x[half:]), y[half:])
            if error > WORSE * plain + 1e-4:
                raise InvalidArgument(
                    f"data.symmetries with {name}, which these data do not have: a regression errs "
                    f"by {error:.1%} when it learns from mirrored samples too, by {plain:.1%} "
                    "without",
                    f"at most {WORSE} times that",
                    "Leave it out",
                )
            said.append(f"symmetry {name}: regression errs by {error:.1%}, {plain:.1%} without")
        return said


def _mixed(coin: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    return torch.where(coin.reshape(-1, *[1] * (value.dim() - 1)), seen, value)
