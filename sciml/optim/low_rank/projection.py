"""Low-rank bases of gradient matrices: choosing, applying and paying for them.

A tensor of more than two dimensions is treated as the matrix `shape[0] x rest`, which for
convolutions and spectral weights is output (or input) channels against everything else. Complex
matrices use conjugate transposes. A tensor is projected if it is a matrix in this sense and its
shorter side is longer than the rank; the others keep full-size Adam moments.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, did_you_mean

log = logging.getLogger("sciml")

SIDES = ("short", "long", "left", "right", "full")
BASES = ("svd", "random")


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return rows and columns of a tensor seen as a matrix; (size, 1) for vectors."""
    if len(shape) < 2:
        return (shape[0] if shape else 1), 1
    columns = 1
    for size in shape[1:]:
        columns *= size
    return shape[0], columns


def is_projected(shape: Sequence[int], rank: int) -> bool:
    """Return whether a tensor of that shape is projected to `rank`."""
    return len(shape) >= 2 and min(matrix_shape(shape)) > rank


def sides_of(shape: Sequence[int], side: str) -> tuple[str, ...]:
    """Return which of `left` and `right` are projected; a square matrix counts as wide.

    Raises:
        InvalidArgument: For an unknown side.
    """
    if side not in SIDES:
        raise InvalidArgument(f"optimizer.side={side}", hint=did_you_mean(side, SIDES))
    if side == "full":
        return ("left", "right")
    if side in ("left", "right"):
        return (side,)
    rows, columns = matrix_shape(shape)
    return ("left",) if (rows <= columns) == (side == "short") else ("right",)


def low_shape(shape: Sequence[int], rank: int, side: str) -> tuple[int, int]:
    """Return the shape of the projected gradient."""
    rows, columns = matrix_shape(shape)
    sides = sides_of(shape, side)
    return (rank if "left" in sides else rows), (rank if "right" in sides else columns)


# --- bases --------------------------------------------------------------------------------------
def singular_basis(matrix: Tensor, rank: int, sides: Iterable[str]) -> dict[str, Tensor]:
    """Return leading singular vectors as columns, keyed by side.

    Each column's largest entry is made real and positive, so the sign does not depend on the
    library that computed it. Columns are in the matrix's dtype, computed in float32 at least.
    """
    work = matrix
    if matrix.dtype in (torch.float16, torch.bfloat16):
        work = matrix.float()
    u, _, vh = torch.linalg.svd(work, full_matrices=False)
    columns = {"left": u[:, :rank], "right": vh[:rank].mH}
    return {side: _oriented(columns[side]).to(matrix.dtype) for side in sides}


def random_basis(
    matrix: Tensor, rank: int, sides: Iterable[str], numbers: Sequence[int]
) -> dict[str, Tensor]:
    """Return orthonormal columns that depend on `numbers` and on nothing else."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % (1 << 62)
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if matrix.is_complex() else torch.float64
    out = {}
    for side in sides:
        size = matrix.shape[0 if side == "left" else 1]
        normal = torch.randn(size, rank, generator=generator, dtype=dtype)
        out[side] = _oriented(torch.linalg.qr(normal)[0]).to(matrix)
    return out


def _oriented(columns: Tensor) -> Tensor:
    top = columns.gather(0, columns.abs().argmax(dim=0, keepdim=True))
    return (columns * top.conj().sgn()).contiguous()


def project(matrix: Tensor, basis: Mapping[str, Tensor]) -> Tensor:
    """Return the matrix in coordinates of the basis."""
    low = matrix
    if "left" in basis:
        low = basis["left"].mH @ low
    if "right" in basis:
        low = low @ basis["right"]
    return low


def lift(low: Tensor, basis: Mapping[str, Tensor]) -> Tensor:
    """Return the full-size matrix with these coordinates."""
    matrix = low
    if "left" in basis:
        matrix = basis["left"] @ matrix
    if "right" in basis:
        matrix = matrix @ basis["right"].mH
    return matrix


def rotate(low: Tensor, old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> Tensor:
    """Return coordinates in the new basis of what had coordinates in the old one."""
    if "left" in old:
        low = (new["left"].mH @ old["left"]) @ low
    if "right" in old:
        low = low @ (old["right"].mH @ new["right"])
    return low


# --- memory -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Account:
    """Bytes of optimizer state for one tensor, or added up for many.

    Attributes:
        moments: First and second moments.
        basis: Projection matrices.
        history: Past gradients and their inner products.
        adam: What plain Adam's moments would take.
    """

    moments: int = 0
    basis: int = 0
    history: int = 0
    adam: int = 0

    @property
    def total(self) -> int:
        """All bytes of the state."""
        return self.moments + self.basis + self.history

    def __add__(self, other: Account) -> Account:
        """Return the sum of two accounts."""
        return Account(
            self.moments + other.moments,
            self.basis + other.basis,
            self.history + other.history,
            self.adam + other.adam,
        )

    def __str__(self) -> str:
        """Return one line for a log."""
        parts = f"moments {_mb(self.moments)}, bases {_mb(self.basis)}"
        parts += f", history {_mb(self.history)}" if self.history else ""
        share = self.total / max(1, self.adam)
        return f"{_mb(self.total)} of state ({parts}), {share:.2f} of plain Adam's {_mb(self.adam)}"


def _mb(size: int) -> str:
    return f"{size / 1e6:.3g} MB"


def account_of(
    parameter: Tensor,
    rank: int,
    side: str,
    history: int = 0,
    history_dtype: torch.dtype | None = None,
) -> Account:
    """Return the state bytes of one parameter.

    For a matrix with shorter side a and longer side b: moments 2rb, basis ar, history s r b values
    (projection of the shorter side), beside 2ab of Adam.

    Args:
        parameter: The parameter.
        rank: r.
        side: Which side is projected.
        history: s.
        history_dtype: Real dtype of the kept gradients; None for the parameter's.
    """
    item, numbers = parameter.element_size(), 2 if parameter.is_complex() else 1
    adam = 2 * parameter.numel() * item
    if not is_projected(parameter.shape, rank):
        return Account(moments=adam, adam=adam)
    rows, columns = low_shape(parameter.shape, rank, side)
    low = rows * columns
    kept = item // numbers if history_dtype is None else history_dtype.itemsize
    sizes = dict(zip(("left", "right"), matrix_shape(parameter.shape), strict=True))
    return Account(
        moments=low * (item + item // numbers),  # |R|^2 is real
        basis=sum(sizes[s] for s in sides_of(parameter.shape, side)) * rank * item,
        history=history * low * numbers * kept + 8 * history**2,
        adam=adam,
    )


def total_account(
    parameters: Iterable[Tensor],
    rank: int,
    side: str,
    history: int = 0,
    history_dtype: torch.dtype | None = None,
) -> Account:
    """Return the state bytes of all parameters; arguments as in `account_of`."""
    accounts = (account_of(p, rank, side, history, history_dtype) for p in parameters)
    return sum(accounts, Account())


def fit_budget(
    parameters: Sequence[Tensor],
    budget: int,
    rank: int,
    side: str,
    history: int = 0,
    history_dtype: torch.dtype | None = None,
) -> tuple[int, int]:
    """Return the largest rank and history within a budget of bytes.

    Both shrink together, from the given limits, in the same proportion; bytes that are left over
    go to the history.

    Raises:
        InvalidArgument: If not even rank 1 without history fits.
    """
    alike: dict[tuple, list[Tensor]] = {}
    for p in parameters:
        alike.setdefault((p.shape, p.dtype), []).append(p)

    def size(r: int, s: int) -> int:
        accounts = (
            (len(same), account_of(same[0], r, side, s, history_dtype)) for same in alike.values()
        )
        return sum(number * account.total for number, account in accounts)

    for r in range(rank, 0, -1):
        s = history * r // rank
        if size(r, s) <= budget:
            while s < history and size(r, s + 1) <= budget:
                s += 1
            return r, s
    if size(1, 0) <= budget:
        return 1, 0
    raise InvalidArgument(
        f"optimizer.budget={budget:,} bytes",
        f"at least {size(1, 0):,} bytes, which rank 1 without history takes",
        "Type a larger optimizer.budget, or optimizer=sgd",
    )
