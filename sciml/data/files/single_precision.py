"""Numbers whose digits float32, in which networks compute, does not hold."""

from __future__ import annotations

from sciml.data.files.describe import Statistics, labels
from sciml.errors import InvalidArgument
from sciml.networks.fields.description import FieldSet

DIGITS = 1e-5  # spread over size below which float32 leaves two digits or fewer
LARGEST, LEAST = 1e30, 1e-30  # squares of sizes within are numbers of float32, if only just


def check_digits(fields: FieldSet, found: Statistics) -> list[str]:
    """Return sentences on channels that vary by little of their size.

    Args:
        fields: The arrays.
        found: Of the training part.

    Raises:
        InvalidArgument: For numbers that float32 has no room for.
    """
    said = []
    outs = [f.name for f in fields.outputs for _ in range(f.channels)]
    ins = labels(fields)
    inputs = set(ins)
    for names, moments in ((ins, found.inputs), (outs, found.outputs)):
        constant = set(moments.constant())
        for k, name in enumerate(names):
            low, high = float(moments.low[k]), float(moments.high[k])
            size, std = max(abs(low), abs(high)), float(moments.std[k])
            if size > LARGEST or 0 < size < LEAST:
                raise InvalidArgument(
                    f"{name} with numbers from {low:.4g} to {high:.4g}",
                    f"sizes between {LEAST:g} and {LARGEST:g}, which float32 computes with",
                    "Write it in another unit",
                )
            if k not in constant and std < DIGITS * size and name not in said:
                said.append(name)
    return [
        f"{name} varies by less than {DIGITS:g} of its size, and networks compute in float32, of "
        "7 digits: subtract a constant from it in the file"
        + ("" if name in inputs else "; errors are relative to the whole, with that constant")
        for name in said
    ]
