"""Random streams that are a function of (seed, rank, step): nothing to save, nothing to drift."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Streams:
    """Names the random numbers of one training step.

    Attributes:
        seed: Seed of the run.
        step: Number of the batch since the start of the run.
        rank: Rank of this process; ranks draw different numbers.
        world: Number of ranks.
        device: Where `generator` lives; indices are always drawn on the CPU.
    """

    seed: int
    step: int
    rank: int = 0
    world: int = 1
    device: str | torch.device = "cpu"

    def generator(self, name: str, *, common: bool = False, cpu: bool = False) -> torch.Generator:
        """Return a fresh generator for the purpose `name`.

        Args:
            name: What is drawn; different names are independent streams.
            common: Whether all ranks draw the same numbers.
            cpu: Whether to draw on the CPU wherever the run is.
        """
        rank = 0 if common else self.rank + 1
        state = 0
        for part in (self.seed, rank, self.step, zlib.crc32(name.encode())):
            state = _mix(state ^ _mix(part & _MASK))
        return torch.Generator("cpu" if cpu else self.device).manual_seed(state >> 1)


def _mix(z: int) -> int:
    """Scramble 64 bits (the finaliser of splitmix64)."""
    z = (z + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
