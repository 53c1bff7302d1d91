"""Learning-rate schedules as plain functions of the step.

A schedule is a callable `factor(step, total) -> float` in [0, 1] that multiplies `optimizer.lr`.
It holds only numbers, so it needs no state in a checkpoint: the factor follows from the step.
`attach` makes an ordinary torch scheduler of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same learning rate throughout, after an optional linear warm-up.

    Attributes:
        warmup: Steps over which the factor rises linearly from 1/(warmup + 1) to 1.

    Example:
        >>> from sciml.optim import Constant
        >>> schedule = Constant(warmup=3)
        >>> [schedule(step, 100) for step in range(5)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    warmup: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidArgument: If the warm-up is negative, or `final` lies outside [0, 1].
        """
        if self.warmup < 0:
            raise InvalidArgument(f"schedule.warmup={self.warmup}", "0 or more steps")
        final = getattr(self, "final", 1.0)
        if not 0.0 <= final <= 1.0:
            raise InvalidArgument(f"schedule.final={final}", "a factor between 0 and 1")

    def __call__(self, step: int, total: int) -> float:
        """Return the factor for the update after `step` of `total` steps."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(total - self.warmup, 1)
        return self.decay(min(max(done, 0.0), 1.0))

    def decay(self, done: float) -> float:
        """Return the factor when a share `done` in [0, 1] of the steps after warm-up is over."""
        return 1.0


@typed
@dataclass(frozen=True, kw_only=True)
class Linear(Constant):
    """Linear decay to `final` times the learning rate.

    Example:
        >>> from sciml.optim import Linear
        >>> [Linear(final=0.5)(step, 100) for step in (0, 50, 100)]
        [1.0, 0.75, 0.5]
    """

    final: float = 0.0

    def decay(self, done: float) -> float:
        """Return `1 - (1 - final) done`."""
        return 1.0 - (1.0 - self.final) * done


@typed
@dataclass(frozen=True, kw_only=True)
class Cosine(Constant):
    """Half a cosine from the learning rate to `final` times it.

    Example:
        >>> from sciml.optim import Cosine
        >>> [round(Cosine()(step, 100), 3) for step in (0, 25, 50, 100)]
        [1.0, 0.854, 0.5, 0.0]
    """

    final: float = 0.0

    def decay(self, done: float) -> float:
        """Return `final + (1 - final) (1 + cos(pi done)) / 2`."""
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * done))


@typed
@dataclass(frozen=True, kw_only=True)
class Exponential(Constant):
    """Geometric decay that ends at `final` times the learning rate.

    Example:
        >>> from sciml.optim import Exponential
        >>> [round(Exponential(final=0.01)(step, 100), 3) for step in (0, 50, 100)]
        [1.0, 0.1, 0.01]
    """

    final: float = 0.01

    def decay(self, done: float) -> float:
        """Return `final ** done`."""
        return self.final**done


@typed
@dataclass(frozen=True, kw_only=True)
class Refined(Constant):
    """The schedule that the gradient norms G_t of an earlier, similar run call for.

    With the norms smoothed by a running median and `w_t = G_t^-2` (SGD) or `w_t = G_t^-1` (Adam),
    the learning rate is `w_t sum_{s>t} w_s`, scaled to a maximum of one: constant norms give the
    linear decay; norms that fall give a warm-up and a late drop by themselves.

    Reference: Defazio, Cutkosky, Mehta, Mishchenko, "Optimal Linear Decay Learning Rate Schedules
    and Further Refinements", arXiv 2310.07831, algorithm 1 and its form for Adam. Departures: long
    records are first reduced to medians over 2000 intervals; a run of another length is read at
    the same share of its steps; both ends are continued by their last value.

    Attributes:
        gradients: Run folder, or the `gradient_norm.npy` in it (type callbacks=gradient_norm in
            the earlier run).
        law: `adam`, for the 1-norm of optimizers that scale every coordinate, or `sgd`, for the
            2-norm.
        smoothing: Width of the running median as a share of the run.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from sciml.optim import Refined
        >>> with tempfile.TemporaryDirectory() as run:  # as callbacks=gradient_norm writes it
        ...     np.save(f"{run}/gradient_norm.npy", np.ones((100, 2)))
        ...     schedule = Refined(gradients=run)
        >>> [round(schedule(step, 100), 2) for step in (0, 50, 100)]  # constant norms: linear decay
        [1.0, 0.49, 0.0]
    """

    gradients: str | None = None
    law: Literal["adam", "sgd"] = "adam"
    smoothing: float = 0.1
    table: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Read the norms.

        Raises:
            InvalidArgument: For numbers out of range, or a file that is none.
        """
        super().__post_init__()
        if self.law not in ("adam", "sgd"):
            raise InvalidArgument(f"schedule.law={self.law}", "adam or sgd")
        if not 0 < self.smoothing < 1:
            raise InvalidArgument(f"schedule.smoothing={self.smoothing}", "a share of the run")
        path = Path(self.gradients or "")
        path = path / "gradient_norm.npy" if self.gradients and path.is_dir() else path
        try:
            norms = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            norms = np.zeros(0)
        if norms.ndim != 2 or norms.shape[1] != 2 or len(norms) < 2:
            raise InvalidArgument(
                f"schedule.gradients={self.gradients}",
                "the folder of a run that recorded its gradient norms",
                "Type callbacks=gradient_norm in that run",
            )
        table = refined(norms[:, int(self.law == "adam")], self.law, self.smoothing)
        object.__setattr__(self, "table", tuple(table.tolist()))

    def decay(self, done: float) -> float:
        """Return the refined factor, between two recorded steps on the line through them."""
        place = done * len(self.table)
        i = min(int(place), len(self.table) - 1)
        after = self.table[i + 1] if i + 1 < len(self.table) else 0.0
        return self.table[i] + (after - self.table[i]) * min(place - i, 1.0)


def refined(norms: np.ndarray, law: str, smoothing: float) -> np.ndarray:
    """Return the factor of every step, at most one, from gradient norms in order.

    Args:
        norms: One per step; those that are no positive number are left out.
        law: `adam` or `sgd`.
        smoothing: Width of the running median as a share of the run.
    """
    norms = norms[np.isfinite(norms) & (norms > 0)].astype(np.float64)
    if len(norms) > 2000:
        cuts = np.linspace(0, len(norms), 2001).astype(int)[1:-1]  # evenly, unlike array_split
        norms = np.array([np.median(part) for part in np.split(norms, cuts)])
    half = int(smoothing * len(norms)) // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(norms, half, "edge"), 2 * half + 1)
    smooth = np.median(windows, axis=1)
    weights = (smooth / smooth.min()) ** (-1.0 if law == "adam" else -2.0)
    left = np.cumsum(weights[::-1])[::-1] - weights
    factor = weights * left
    return factor / factor.max()


def attach(optimizer: Optimizer, schedule: Constant, total: int) -> LambdaLR:
    """Return a torch scheduler, to be stepped after every optimizer step.

    Args:
        optimizer: Whose learning rates are multiplied.
        schedule: Factor of the step.
        total: Steps of the run; 0 or less if unknown, which only a constant schedule accepts.

    Raises:
        InvalidArgument: If the schedule needs to know the end and there is none.
    """
    if total <= 0 and type(schedule) is not Constant:
        raise InvalidArgument(
            f"a {type(schedule).__name__.lower()} schedule for a run without a number of steps",
            "a run that ends",
            "Type trainer.max_steps=N, or schedule=constant",
        )
    return LambdaLR(optimizer, lambda step: schedule(step, total))
