"""Inputs and outputs out of whole samples: all of a pair, a window of a trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.data.layouts.field_layout import Layout
from sciml.errors import InvalidArgument
from sciml.networks.fields.description import FieldSet


@dataclass(frozen=True)
class Windows:
    """How samples are cut.

    Attributes:
        layout: What was recognised.
        history: States of trajectories that go in.
        bundle: States that come out of a call.
    """

    layout: Layout
    history: int
    bundle: int

    def cut(
        self, held: Mapping[str, Tensor], start: int, calls: int
    ) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        """Return inputs by name, and outputs by name for every call of the network.

        Args:
            held: Whole arrays.
            start: First state.
            calls: Of the network; 1 for what does not move.
        """
        layout = self.layout
        given = {a.name: _real(held[a.name]) for a in layout.inputs}
        wanted = {a.name: _real(held[a.name]) for a in layout.outputs}
        if not layout.moving:
            return given, [wanted]
        answers = []
        for call in range(calls):
            first = start + self.history + call * self.bundle
            answers.append(
                {a.name: _times(wanted[a.name], a.axes, first, self.bundle) for a in layout.outputs}
            )
        for a in layout.inputs:
            if a.name in layout.moving:
                given[a.name] = _times(given[a.name], a.axes, start, self.history)
        return given, answers

    def made(
        self, fields: FieldSet, held: Mapping[str, Tensor], start: int, calls: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return inputs by name and the target `(B, calls * C, *space)`."""
        given, answers = self.cut(held, start, calls)
        return given, torch.cat([fields.target(answer) for answer in answers], 1)


def rolls_out(layout: Layout, task: str) -> bool:
    """Return whether a step is learned that is repeated.

    Raises:
        InvalidArgument: For a roll-out of what does not move.
    """
    if task == "rollout" and not layout.moving:
        raise InvalidArgument(
            "data.task=rollout without a trajectory",
            "an array that is input and output",
            "Type data.inputs=[NAME] data.outputs=[NAME] with the same name",
        )
    return bool(layout.moving) and task != "map"


def most_calls(states: int, history: int, bundle: int, least: int, horizon: int | None) -> int:
    """Return the calls of the network that evaluations make on trajectories.

    Args:
        states: Of a trajectory.
        history: Of these that are given.
        bundle: That a call answers with.
        least: Calls that training makes.
        horizon: Calls at most; None for whole trajectories.

    Raises:
        InvalidArgument: If trajectories are too short for training.
    """
    most = (states - history) // bundle
    if most < least:
        raise InvalidArgument(
            f"data.history={history}, data.bundle={bundle} and data.steps={least} with {states} "
            "times",
            "history + bundle * steps times at most",
        )
    return most if horizon is None else min(horizon, most)


def times_of(layout: Layout, known: np.ndarray | None, every: int) -> np.ndarray | None:
    """Return the times of trajectories, None where nothing moves.

    Args:
        layout: What was recognised.
        known: Times in the file; without fitting ones, states are counted.
        every: Which of them are kept.
    """
    first = next((a for a in layout.outputs if "t" in a.axes), None)
    if first is None:
        return None
    count = -(-first.shape[1 + first.axes.index("t")] // every)
    fitting = _fitting(known, count, every)
    return np.arange(float(count)) if fitting is None else fitting


def known_times(layout: Layout, every: int = 1) -> np.ndarray | None:
    """Return the times of trajectories that a file says, None where it does not or they do not fit.

    Args:
        layout: What was recognised in the file.
        every: Which of them are kept.
    """
    first = next((a for a in layout.outputs if "t" in a.axes), None)
    if first is None:
        return None
    return _fitting(layout.times, -(-first.shape[1 + first.axes.index("t")] // every), every)


def _fitting(known: np.ndarray | None, count: int, every: int) -> np.ndarray | None:
    kept = None if known is None else known[::every][:count]
    return kept if kept is not None and len(kept) == count else None


def time_step(times: np.ndarray | None) -> float | None:
    """Return the step between times that are evenly spaced, None for others."""
    if times is None or len(times) < 2 or not np.isfinite(times).all():
        return None
    steps = np.diff(times)
    even = np.allclose(steps, steps.mean(), rtol=1e-3, atol=1e-6 * float(np.abs(times).max()))
    return float(steps.mean()) if even and steps.mean() else None


def _real(value: Tensor) -> Tensor:
    """Return numbers that are added and multiplied: booleans and integers as float32."""
    return value if value.is_floating_point() else value.to(torch.float32)


def _times(value: Tensor, axes: Sequence[str], start: int, count: int) -> Tensor:
    """Return some times of an array; a single one without its axis."""
    axis = 1 + list(axes).index("t")
    value = value.narrow(axis, start, count)
    return value.squeeze(axis) if count == 1 else value
