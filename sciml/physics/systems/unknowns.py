"""Constants that an equation does not know and data tell: trained with the network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.physics.systems.system import System


class TrainedConstant(nn.Module):
    """One trained number, kept in its bounds by a change of variable.

    Args:
        start: Where it starts, inside the bounds.
        low: Least value, or None.
        high: Greatest value, or None; needs `low`.

    Shapes: `forward()` returns a tensor `()`.
    """

    def __init__(self, start: float, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low, self.high = low, high
        if low is None:
            raw = start
        elif high is None:
            raw = math.log(start - low)
        else:
            share = (start - low) / (high - low)
            raw = math.log(share / (1 - share))
        # one entry, no scalar: some optimizers count dimensions
        self.raw = nn.Parameter(torch.tensor([raw], dtype=torch.float64))

    def forward(self) -> Tensor:
        """Return the value."""
        raw = self.raw[0]
        if self.low is None:
            return raw
        if self.high is None:
            return self.low + raw.exp()
        return self.low + (self.high - self.low) * raw.sigmoid()


@typed
class Unknown:
    """An unknown constant of a `System`, written as an attribute of its class.

        class Flow(System):
            nu = Unknown(0.1, positive=True)

    In equations and conditions `self.nu` is its present value, a tensor `()`.

    Args:
        start: Where it starts.
        positive: Whether it is positive.
        low: Least value.
        high: Greatest value.

    Raises:
        InvalidArgument: If it does not start between its bounds.

    Example:
        >>> from sciml.physics.systems import Interval, Observed, System, Time, Unknown
        >>> class Rod(System):  # which diffusivity explains the readings?
        ...     domain = Interval(0, 1) * Time(0, 1)
        ...     kappa = Unknown(0.5, positive=True)
        ...     conditions = {"seen": Observed({"x": [0.5], "t": [0.1], "u": [0.3]}, sigma=0.01)}
        ...     def residual(self, u):
        ...         return u.t - self.kappa * u.xx
        >>> round(Rod().unknowns["kappa"]().item(), 3)
        0.5
    """

    def __init__(
        self,
        start: float,
        *,
        positive: bool = False,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        if positive and low is None:
            low = 0.0
        if high is not None and low is None:
            raise InvalidArgument(f"an Unknown with high={high} alone", "low and high")
        inside = low is None or (start > low and (high is None or start < high))
        if not math.isfinite(start) or not inside:
            raise InvalidArgument(
                f"Unknown({start}, low={low}, high={high})", "a start between the bounds"
            )
        self.start, self.low, self.high = float(start), low, high
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the name of the attribute."""
        self.name = name

    @overload
    def __get__(self, system: None, owner: type) -> Unknown: ...

    @overload
    def __get__(self, system: System, owner: type) -> Tensor: ...

    def __get__(self, system: System | None, owner: type) -> Unknown | Tensor:
        """Return the present value in a system."""
        return self if system is None else system.unknowns[self.name]()

    def make(self) -> TrainedConstant:
        """Return the trained number."""
        return TrainedConstant(self.start, self.low, self.high)


def unknowns_of(system: System) -> dict[str, TrainedConstant]:
    """Return the unknown constants of a system's class by name.

    Raises:
        InvalidArgument: For one that was given to the instance.
    """
    found = {}
    for cls in reversed(type(system).__mro__):
        for name, value in vars(cls).items():
            if isinstance(value, Unknown):
                found[name] = value.make()
    for name, value in vars(system).items():
        if isinstance(value, Unknown):
            raise InvalidArgument(
                f"self.{name} = Unknown(...) of {type(system).__name__}",
                "an attribute of the class",
                f"Write {name} = Unknown(...) below `class {type(system).__name__}(System):`",
            )
    return found
