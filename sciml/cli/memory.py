"""What Python, NumPy and torch say of arrays that do not fit."""

from __future__ import annotations

SAID = (  # torch, on the CPU and on devices; sizes beyond 64 bits
    "can't allocate memory",
    "out of memory",
    "Overflow when unpacking long",
    "Storage size calculation overflowed",
    "array is too big",
    "Maximum allowed dimension exceeded",
    "Maximum allowed size exceeded",
)


def beyond_memory(error: BaseException) -> bool:
    """Return whether an error says that there was not enough memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in SAID)
