"""Derivatives of many fields at once on one space-time grid, each a linear map of the field.

Fields are `(..., nt, n_1, ..., n_d)`; basis functions are further leading axes. Nothing here knows
blocks: derivatives are taken on the whole grid, so they are right across the borders of blocks.

In time a scheme is a pair of maps, the derivative D and the value V that goes with it, so that the
equation u_t = F(u) is imposed as D u = F(V u):

    central     D over two steps at the inner levels, one-sided of second order at both ends; V = 1
    backward    D u = (u^n - u^(n-1)) / dt, V = 1: implicit Euler, first order
    midpoint    the same D, V u = (u^n + u^(n-1)) / 2: implicit midpoint rule, second order
    bdf2        D u = (3 u^n - 4 u^(n-1) + u^(n-2)) / (2 dt), V = 1, second order

Level 0 has no equation in the last three, level 1 none in the last; `first_level` says where the
rows begin, and what stands before is zero.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_choice

TimeScheme = Literal["central", "backward", "midpoint", "bdf2"]
SCHEMES = ("central", "backward", "midpoint", "bdf2")
LEVELS = {"central": 3, "backward": 2, "midpoint": 2, "bdf2": 3}  # needed at least
_FIRST = {"central": 0, "backward": 1, "midpoint": 1, "bdf2": 2}


def first_level(scheme: TimeScheme) -> int:
    """Return the first time level at which a scheme has an equation."""
    return _FIRST[scheme]


def uniform_step(points: Tensor, name: str) -> float:
    """Return the spacing of equally spaced points.

    Raises:
        InvalidArgument: If there are fewer than two, or they are not equally spaced and growing.
    """
    steps = points.double().diff()
    if len(steps) < 1 or not bool(steps.min() > 0):
        raise InvalidArgument(f"{name} of {len(points)} points", "at least two, growing")
    step = float(steps.mean())
    if float((steps - step).abs().max()) > 1e-6 * step:
        raise InvalidArgument(
            f"{name} with steps from {float(steps.min()):.4g} to {float(steps.max()):.4g}",
            "equally spaced points",
        )
    return step


def grading_of(times: Tensor) -> float:
    """Return the power p of times T (i / n)^p from 0 to T, 1 where they are equally spaced.

    Raises:
        InvalidArgument: If they are no such times.
    """
    times = times.double()
    n = len(times) - 1
    if n < 1 or not bool(times.diff().min() > 0):
        raise InvalidArgument(f"times of {n + 1} levels", "at least two, growing")
    share = times / times[-1]
    power = 1.0 if n == 1 else float(share[1].log()) / -math.log(n)
    level = torch.arange(n + 1, dtype=torch.float64) / n
    if times[0] != 0 or float((share - level**power).abs().max()) > 1e-6 / n:
        steps = times.diff()
        raise InvalidArgument(
            f"times from {float(times[0]):.4g} with steps of {float(steps.min()):.4g} to "
            f"{float(steps.max()):.4g}",
            "times from 0 that are equally spaced or graded by a power of the level",
        )
    return power


def in_time(
    u: Tensor, step: float | Tensor, scheme: TimeScheme, axis: int
) -> tuple[Tensor, Tensor]:
    """Return D u and V u, shape of `u`.

    Args:
        u: Fields.
        step: Time between two levels; the two-level schemes, `backward` and `midpoint`, also take
            one for each interval, of shape `(nt - 1, 1, ...)` with an axis for each behind time.
        scheme: See the top of this file.
        axis: Axis of time, negative.

    Raises:
        InvalidArgument: For an unknown scheme or too few levels.
    """
    check_choice("time_scheme", scheme, SCHEMES)
    n = u.shape[axis]
    if n < LEVELS[scheme]:
        raise InvalidArgument(
            f"{n} time levels for the {scheme} scheme", f"at least {LEVELS[scheme]}"
        )

    def at(start: int, length: int) -> Tensor:
        return u.narrow(axis, start, length)

    if scheme == "central":
        inner = (at(2, n - 2) - at(0, n - 2)) / (2 * step)
        first = (4 * at(1, 1) - 3 * at(0, 1) - at(2, 1)) / (2 * step)
        last = (3 * at(n - 1, 1) - 4 * at(n - 2, 1) + at(n - 3, 1)) / (2 * step)
        return torch.cat([first, inner, last], axis), u
    if scheme == "bdf2":
        slope = (3 * at(2, n - 2) - 4 * at(1, n - 2) + at(0, n - 2)) / (2 * step)
        return torch.cat([torch.zeros_like(at(0, 2)), slope], axis), u
    slope = torch.cat([torch.zeros_like(at(0, 1)), u.diff(dim=axis) / step], axis)
    if scheme == "backward":
        return slope, u
    return slope, averaged(u, axis)


def averaged(u: Tensor, axis: int) -> Tensor:
    """Return the mean of every level and the one before, zero at the first."""
    n = u.shape[axis]
    mean = (u.narrow(axis, 1, n - 1) + u.narrow(axis, 0, n - 1)) / 2
    return torch.cat([torch.zeros_like(u.narrow(axis, 0, 1)), mean], axis)


def second(u: Tensor, step: float, left: Tensor, right: Tensor) -> Tensor:
    """Return the second difference along the last axis, with given ghost values `(..., 1)`."""
    wide = torch.cat([left, u, right], -1)
    return (wide[..., 2:] - 2 * wide[..., 1:-1] + wide[..., :-2]) / step**2


def periodic_first(u: Tensor, step: float) -> Tensor:
    """Return the central first difference along the last, periodic axis."""
    return (u.roll(-1, -1) - u.roll(1, -1)) / (2 * step)


def periodic_second(u: Tensor, step: float) -> Tensor:
    """Return the second difference along the last, periodic axis."""
    return (u.roll(-1, -1) - 2 * u + u.roll(1, -1)) / step**2


def spectral(u: Tensor, length: float, orders: tuple[int, ...]) -> list[Tensor]:
    """Return derivatives along the last, periodic axis by the Fourier series, one per order.

    Odd derivatives leave out the Nyquist mode, whose derivative is not on the grid.
    """
    n = u.shape[-1]
    k = 2 * math.pi / length * torch.fft.rfftfreq(n, 1 / n, dtype=u.dtype, device=u.device)
    hat = torch.fft.rfft(u)
    found = []
    for order in orders:
        symbol = (1j * k) ** order
        if order % 2 and n % 2 == 0:
            symbol = torch.cat([symbol[:-1], torch.zeros_like(symbol[-1:])])
        found.append(torch.fft.irfft(symbol * hat, n=n))
    return found
