"""What one step of a data-driven method works on, and how the batches of ranks become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams

SHIFTED = ("edge_index",)  # inputs that hold node numbers, along their last axis
NUMBERED = ("batch",)  # inputs that hold graph numbers


@dataclass
class Batch:
    """Inputs and targets of this rank.

    Attributes:
        inputs: Keyword arguments of the network.
        target: Values `(n, ...)` or class numbers `(n,)`, one row per sample (an image, a field, a
            graph node).
        streams: Random streams of the step, for noise, dropout masks and probes.
        count: Number of rows of the global batch, all ranks together.
        index: Instance (graph) that each row belongs to `(n,)`; None where a row is an instance.
        extra: Further rows or masks by name; "weight" `(n,)` weighs rows in loss and scores.
        part: Set that a test batch belongs to: its metrics are called `<part>/rel_l2` and so on.
    """

    inputs: dict[str, Tensor]
    target: Tensor
    streams: Streams
    count: int
    index: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)
    part: str = "test"

    unit = "samples"  # what `count` counts

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Batch:
        """Return the batch on a device, floating-point tensors in a precision."""

        def move(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            return value.to(device, dtype) if value.is_floating_point() else value.to(device)

        return replace(
            self,
            inputs={key: move(value) for key, value in self.inputs.items()},
            target=move(self.target),
            index=move(self.index),
            extra={key: move(value) for key, value in self.extra.items()},
        )


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the batches of all ranks as the batch of one process.

    Rows are concatenated; node and graph numbers are shifted past those of the ranks before.
    """
    first = batches[0]
    nodes = graphs = 0
    parts: dict[str, list[Tensor]] = {key: [] for key in first.inputs}
    index = []
    for b in batches:
        for key, value in b.inputs.items():
            offset = nodes if key in SHIFTED else graphs if key in NUMBERED else None
            parts[key].append(value if offset is None else value + offset)
        if b.index is not None:
            index.append(b.index + graphs)
            graphs += int(b.index.max()) + 1 if len(b.index) else 0
        elif "batch" in b.inputs:
            graphs += int(b.inputs["batch"].max()) + 1
        nodes += len(next(v for k, v in b.inputs.items() if k not in SHIFTED))
    return Batch(
        {key: torch.cat(found, -1 if key in SHIFTED else 0) for key, found in parts.items()},
        torch.cat([b.target for b in batches]),
        replace(first.streams, rank=0, world=1),
        first.count,
        torch.cat(index) if index else None,
        {key: torch.cat([b.extra[key] for b in batches]) for key in first.extra},
        first.part,
    )
