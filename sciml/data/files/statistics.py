"""Means, standard deviations and ranges per channel, and what is wrong with the numbers.

Taken over the training part only, in float64, block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciml.errors import InvalidArgument

CONSTANT = 1e-10  # spread over size below which a channel is one


@dataclass
class Moments:
    """Sums per channel over samples and points.

    Attributes:
        low: Least value per channel.
        high: Greatest.
    """

    count: float = 0.0
    shift: Tensor | None = None
    first: Tensor = field(default_factory=lambda: torch.zeros(()))
    second: Tensor = field(default_factory=lambda: torch.zeros(()))
    raw: Tensor = field(default_factory=lambda: torch.zeros(()))
    low: Tensor | None = None
    high: Tensor | None = None

    def add(self, value: Tensor) -> None:
        """Add channels `(B, C, *space)`."""
        flat = value.double().movedim(1, 0).flatten(1)
        low, high = flat.amin(1), flat.amax(1)
        if self.shift is None:  # near the mean: no digits are lost where the mean is large
            self.shift, self.low, self.high = flat.mean(1), low, high
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        away = flat - self.shift[:, None]
        self.first = self.first + away.sum(1)
        self.second = self.second + away.square().sum(1)
        self.raw = self.raw + flat.square().sum(1)
        self.count += flat.shape[1]

    @property
    def mean(self) -> Tensor:
        """Return the means `(C,)`."""
        return self.shift + self.first / self.count

    @property
    def std(self) -> Tensor:
        """Return the standard deviations `(C,)`."""
        away = self.first / self.count
        return (self.second / self.count - away.square()).clamp_min(0).sqrt()

    @property
    def size(self) -> Tensor:
        """Return the roots of the mean squares `(C,)`."""
        return (self.raw / self.count).sqrt()

    def constant(self) -> list[int]:
        """Return the channels that are one number."""
        edge = CONSTANT * torch.maximum(self.low.abs(), self.high.abs())
        return [int(k) for k in (self.high - self.low <= edge).nonzero()[:, 0]]


def check_finite(
    name: str, value: Tensor, rows: Iterable[int], path: object, alone: bool = True
) -> None:
    """Refuse numbers that are none.

    Args:
        name: Of the array.
        value: `(B, ...)`.
        rows: Their row numbers in the file.
        path: Of the file.
        alone: Whether it is data.path, of which samples are skipped by their numbers.

    Raises:
        InvalidArgument: Naming array, sample and place.
    """
    if not value.is_floating_point():
        return
    bad = ~torch.isfinite(value)
    if not bool(bad.any()):
        return
    where = bad.nonzero()[0].tolist()
    row = list(rows)[where[0]]
    samples = int(bad.flatten(1).any(1).sum())
    place = ", ".join(map(str, where[1:]))
    raise InvalidArgument(
        f"{path}: {name}[{row}{', ' + place if place else ''}] is "
        f"{float(value[tuple(where)])}, as are {int(bad.sum())} numbers in {samples} of the "
        f"{len(value)} samples looked at",
        "finite numbers",
        f"Leave such samples out with data.skip=[{row}], or data.skip=nan for all of them"
        if alone
        else "Leave such samples out with data.skip=nan",
    )


def spread(moments: Moments, name: Callable[[int], str], notes: list[str]) -> list[float]:
    """Return standard deviations to divide by: 1 for channels that are constant, with a note."""
    std = moments.std.clone()
    for k in moments.constant():
        std[k] = 1.0
        notes.append(f"{name(k)} is {float(moments.low[k]):g} in all training samples")
    return std.tolist()
