"""What training covered, and what lies outside of it: predictions there are extrapolated."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciml.arguments import maybe, takes, tensor
from sciml.errors import InvalidArgument
from sciml.pretrained.checks import distance_checks

RANGE_SLACK = 0.02  # of the width of a range: its ends were found by sampling


@takes(x=tensor, t=maybe(tensor))
def training_ranges(x: Tensor, t: Tensor | None = None) -> dict[str, tuple[float, float]]:
    """Return what a sample of training points covers.

    In high dimension points concentrate on a shell, so |x| says more than the coordinates do.

    Args:
        x: Points `(N, d)`.
        t: Times `(N, 1)` or None.

    Returns:
        `x.norm` and `x.coordinate`, and `t.value` where there is a time: (least, greatest).

    Example:
        >>> import torch
        >>> from sciml.pretrained import training_ranges
        >>> training_ranges(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        {'x.norm': (1.0, 5.0), 'x.coordinate': (0.0, 4.0)}
    """
    if x.dim() != 2 or not x.numel():
        raise InvalidArgument(f"x of shape {tuple(x.shape)}", "points (N, d), at least one")
    values = {"x.norm": torch.linalg.vector_norm(x, dim=1), "x.coordinate": x}
    if t is not None:
        values["t.value"] = t
    return {name: (float(v.min()), float(v.max())) for name, v in values.items()}


def outside(what: str, least: float, greatest: float, limits: tuple[float, float]) -> str:
    """Return a sentence if numbers reach beyond what training covered, else an empty string.

    Args:
        what: What the numbers are.
        least: The least of them.
        greatest: The greatest.
        limits: What training covered, (least, greatest).
    """
    low, high = limits
    slack = RANGE_SLACK * (high - low) + 1e-6 * max(abs(low), abs(high))
    if not (least < low - slack or greatest > high + slack):
        return ""
    return (
        f"{what} covers [{least:.4g}, {greatest:.4g}]; training covered "
        f"[{low:.4g}, {high:.4g}]. Values outside are extrapolated."
    )


def outside_inputs(
    entries: Mapping[str, Mapping], given: Mapping[str, Tensor], half: float | None
) -> list[str]:
    """Return which inputs of an operator lie outside the ranges that training covered.

    Args:
        entries: Its inputs as `model.json` describes them.
        given: Inputs by name; signed distances on the operator's grid show its domains.
        half: Half the side of that grid's box; None where there is none.
    """
    found = []
    for name, value in given.items():
        ranges = entries[name].get("ranges", {})
        more = ranges.keys() - {"value"}
        seen = distance_checks.described(name, value, half if more else None)
        for quantity, limits in ranges.items():
            if quantity in seen:
                what = name if quantity == "value" else distance_checks.WORDS[quantity]
                least, greatest = float(seen[quantity].min()), float(seen[quantity].max())
                found.append(outside(what, least, greatest, limits))
    return [sentence for sentence in found if sentence]
