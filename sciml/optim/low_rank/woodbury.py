"""The last s gradients as a low-rank Fisher matrix, and its inverse by the Woodbury identity.

With the columns of Gamma the kept vectors, K = Gamma^T Gamma and a weight w,

    F = lambda I + w Gamma Gamma^T ,
    F^-1 x = (x - w Gamma (lambda I + w K)^-1 Gamma^T x) / lambda ,

so only an s x s system is solved. For lambda much smaller than |x|^2 the two terms are large and
nearly cancel. For a vector that is itself a column, x = Gamma e_j, as the newest gradient is, the
same inverse needs no difference:

    F^-1 Gamma e_j = Gamma (lambda I + w K)^-1 e_j ,

because F Gamma = Gamma (lambda I + w K). `newest` uses this form; `solve`, for other vectors, the
general one with one step of iterative refinement.

K is kept beside the vectors, so that a new vector costs one row of inner products. Sums are formed
in float64 from the vectors as they are stored: with a bfloat16 history F is the Fisher matrix of
the rounded gradients, and `newest` is its inverse on the rounded newest one; rounding is never
amplified by 1/lambda. Blocks of columns bound the float64 copies.

References: M-FAC, Frantar, Kurtic and Alistarh 2021, arXiv 2107.03356; Natural GaLore, Das 2024,
arXiv 2410.16029, algorithm 1 (w = 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Numbers converted to float64 at a time: what stays in a cache; on accelerators, 128 MB.
BLOCK = 1 << 18
BLOCK_ACCELERATOR = 1 << 24


@dataclass
class Ring:
    """The last s vectors, the oldest being overwritten first.

    A vector may come in pieces, one per parameter, which are stored apart; inner products are those
    of the whole. Slots not yet written are zero vectors and change nothing.

    Attributes:
        pieces: One matrix per piece, `s x size`, rows are vectors.
        gram: Inner products of the vectors, `s x s`, float64.
        written: Vectors pushed so far.
    """

    pieces: list[Tensor]
    gram: Tensor
    written: int = 0

    @property
    def length(self) -> int:
        """The number s of slots."""
        return len(self.gram)

    @property
    def last(self) -> int:
        """Slot of the newest vector."""
        return (self.written - 1) % self.length

    def order(self) -> list[int]:
        """Return the slots in use, oldest vector first."""
        kept = min(self.written, self.length)
        return [(self.written - kept + i) % self.length for i in range(kept)]

    def push(self, pieces: Sequence[Tensor]) -> None:
        """Write a vector over the oldest one."""
        self.written += 1
        slot = self.last
        row = torch.zeros_like(self.gram[slot])
        for history, piece in zip(self.pieces, pieces, strict=True):
            history[slot] = piece
            row += _times(history, history[slot])
        self.gram[slot] = row
        self.gram[:, slot] = row

    def rebuild(self) -> None:
        """Compute all inner products again, after the stored vectors have changed."""
        self.gram.zero_()
        for history in self.pieces:
            for block in _blocks(history):
                self.gram += block @ block.t()

    def newest(
        self, damping: float, *, weight: float = 1.0, relative: bool = False
    ) -> list[Tensor]:
        """Return `F^-1` times the newest vector, in pieces, float64.

        Args:
            damping: lambda, in units of the mean squared length of the vectors if `relative`.
            weight: w.
            relative: See `damping`.
        """
        unit = torch.zeros_like(self.gram[0])
        unit[self.last] = 1.0
        factor, _ = self._factor(damping, weight, relative)
        c = torch.cholesky_solve(unit[:, None], factor)[:, 0]
        return [_combine(history, c) for history in self.pieces]

    def solve(
        self,
        pieces: Sequence[Tensor],
        damping: float,
        *,
        weight: float = 1.0,
        relative: bool = False,
    ) -> list[Tensor]:
        """Return `F^-1` times any vector, in pieces, float64; arguments as in `newest`."""
        factor, shift = self._factor(damping, weight, relative)
        target = [piece.double() for piece in pieces]
        x = [torch.zeros_like(t) for t in target]
        rest = target
        for _ in range(2):
            z = weight * torch.cholesky_solve(self._products(rest)[:, None], factor)[:, 0]
            for solved, r, history in zip(x, rest, self.pieces, strict=True):
                solved += (r - _combine(history, z)) / shift
            y = weight * self._products(x)
            rest = [
                t - shift * solved - _combine(history, y)
                for t, solved, history in zip(target, x, self.pieces, strict=True)
            ]
        return x

    def _products(self, pieces: Sequence[Tensor]) -> Tensor:
        total = torch.zeros_like(self.gram[0])
        for history, piece in zip(self.pieces, pieces, strict=True):
            total += _times(history, piece)
        return total

    def _factor(self, damping: float, weight: float, relative: bool) -> tuple[Tensor, Tensor]:
        """Return the Cholesky factor of `lambda I + w K`, and lambda."""
        squares = self.gram.diagonal()
        shift = squares.new_tensor(damping)
        if relative:
            shift = shift * squares.sum() / max(1, min(self.written, self.length))
        # Below the rounding of K the factorisation could fail: that much damping is always there.
        floor = 4 * torch.finfo(squares.dtype).eps * weight * squares.sum()
        shift = torch.maximum(shift, floor.clamp_min(torch.finfo(squares.dtype).tiny ** 0.5))
        system = weight * self.gram
        system.diagonal().add_(shift)
        return torch.linalg.cholesky_ex(system)[0], shift


def _blocks(history: Tensor) -> Iterator[Tensor]:
    for block in history.split(_width(history), dim=1):
        yield block.double()


def _width(history: Tensor) -> int:
    size = BLOCK if history.device.type == "cpu" else BLOCK_ACCELERATOR
    return max(1, size // max(1, len(history)))


def _times(history: Tensor, vector: Tensor) -> Tensor:
    total = history.new_zeros(len(history), dtype=torch.float64)
    for block, part in zip(_blocks(history), vector.split(_width(history)), strict=True):
        total += block @ part.double()
    return total


def _combine(history: Tensor, coefficients: Tensor) -> Tensor:
    return torch.cat([coefficients @ block for block in _blocks(history)])
