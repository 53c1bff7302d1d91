"""Experts spread over the ranks of a group: one all-to-all takes rows out, one brings weights back.

Every rank of a group of G has made the rows of all K experts for its own samples. Rank g receives
the rows of experts g K / G ... (g + 1) K / G - 1 for the samples of all ranks, solves them, and
returns the weights, N numbers per problem. What is sent are rows at an expert's points, never whole
blocks. All-to-all is a permutation of numbers: its derivative is the reverse exchange, without any
factor, so gradients averaged over ranks are those of one process.

Each rank iterates on its own; ranks meet before and after the solve only, so they make the same
calls however many iterations each needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed


@typed
class ExpertParallel:
    """Solves the problems of a layer on the ranks of a group.

    All ranks of a group must hand over equally many samples.

    Args:
        ranks: Size of the groups, G; neighbouring ranks form one. 1 solves where the rows are, as
            every group does while no process group has been made.
        experts: Number of experts, K.

    Raises:
        InvalidArgument: If the experts do not divide among the ranks; from the call, if the ranks
            do not divide into groups.

    Example:
        >>> from sciml.physics.constraints import ExpertParallel
        >>> parallel = ExpertParallel(ranks=1, experts=4)
        >>> parallel.spread  # without a process group experts are solved where their rows are
        False
    """

    def __init__(self, ranks: int, experts: int) -> None:
        if ranks < 1 or experts % ranks:
            raise InvalidArgument(
                f"constraint.expert_ranks={ranks} for {experts} experts",
                "a divisor of the number of experts",
                f"Type constraint.expert_ranks=1, or experts={ranks} or a multiple",
            )
        self.ranks, self.experts = ranks, experts
        self._group: Any = None

    @property
    def spread(self) -> bool:
        """Return whether experts are solved on other ranks than their samples'."""
        return self.ranks > 1 and dist.is_initialized()

    def __call__(
        self,
        solve: Callable[[Tensor, Any], tuple[Any, ...]],
        weights: Tensor,
        rows: tuple[Any, ...],
        count: int,
    ) -> tuple[Any, ...]:
        """Return what `solve(weights, rows)` returns for this rank's own problems.

        Args:
            solve: `sciml.physics.constraints.expert_solve.solve_experts`.
            weights: Starts `(B K, N)`.
            rows: Of `PointwiseRows`, `(B K, ...)` each.
            count: Samples of this rank, B.
        """
        if not self.spread:
            return solve(weights, rows)
        group = self._own_group()
        leaves, sizes = _leaves(rows), [len(part) for part in rows[:3]]
        shapes = [t.shape[1:] for t in (weights, *leaves)]
        packed = torch.cat([t.flatten(1) for t in (weights, *leaves)], 1)
        sent = packed.unflatten(0, (count, self.ranks, -1)).movedim(1, 0).contiguous()
        got = _AllToAll.apply(sent, group)  # (source, sample, expert, numbers)
        lead = got.shape[:3]
        parts = got.flatten(0, 2).split([s.numel() for s in shapes], 1)
        start, *parts = (p.reshape(-1, *s) for p, s in zip(parts, shapes, strict=True))
        value, *reports, adjoint = solve(start.detach(), _rows(parts, sizes))
        back = _AllToAll.apply(value.unflatten(0, lead).contiguous(), group)
        own = [back.movedim(0, 1).flatten(0, 2)]
        kinds = [None if r is None else r.dtype for r in reports]
        known = torch.stack([r.to(value.dtype) for r in reports if r is not None], -1)
        told = _AllToAll.apply(known.unflatten(0, lead).contiguous(), group)
        told = iter(told.movedim(0, 1).flatten(0, 2).unbind(-1))
        return *own, *(None if k is None else next(told).to(k) for k in kinds), adjoint

    def _own_group(self) -> Any:
        """Return the group of this rank, made at the first call on every rank."""
        if self._group is None:
            world = dist.get_world_size()
            if world % self.ranks:
                raise InvalidArgument(
                    f"constraint.expert_ranks={self.ranks} of {world} ranks",
                    "a divisor of the number of ranks",
                )
            self._group, _ = dist.new_subgroups(group_size=self.ranks)
        return self._group


class _AllToAll(torch.autograd.Function):
    """Equal pieces along the first axis change places: piece g goes to rank g."""

    @staticmethod
    def forward(ctx: Any, sent: Tensor, group: Any) -> Tensor:
        ctx.group = group
        got = torch.empty_like(sent)
        dist.all_to_all_single(got, sent, group=group)
        return got

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _AllToAll.apply(grad.contiguous(), ctx.group), None


def _leaves(rows: Sequence[Any]) -> list[Tensor]:
    return [t for part in rows[:3] for t in part] + list(rows[3:])


def _rows(leaves: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Any, ...]:
    """Return the rows with these tensors; `sizes` of the three lists in front."""
    leaves, parts = list(leaves), []
    for size in sizes:
        parts.append(leaves[:size])
        leaves = leaves[size:]
    return *parts, *leaves
