"""Points at which every expert imposes its equation, and the balance of their numbers.

An expert draws from the points of its block (of its window, with overlap) at which the equation has
weight; points that the equation shares (a wall, say) go to every expert besides. Both groups are
weighed so that each counts as the mean over its rows, whatever their number.

Numbers of points may differ between experts: rows are padded with weight zero.

**Balance without an auxiliary loss.** All experts are solved as one batch, so the one with the most
points times iterations sets the pace. Each expert has a bias that is added to the random scores by
which points are chosen, and to nothing else; after every solve it moves by a fixed step towards the
mean load, b_k <- b_k + rate sign(mean load - load_k). No gradient sees it.

Source: Wang et al. 2024, arXiv 2408.15664 (balance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.arguments import booleans, number, takes, whole
from sciml.errors import InvalidArgument
from sciml.physics.constraints.expert_split import Split
from sciml.typed_arguments import typed


@dataclass(frozen=True)
class ExpertPoints:
    """Points of every expert.

    Attributes:
        index: Flat numbers of grid points `(K, m)`.
        scale: Square roots of the weights of their rows `(K, m)`, zero for padding.
        counts: Points that count, of every expert.

    Example:
        >>> import torch
        >>> from sciml.physics.constraints import PointSampler, Split
        >>> split = Split((8, 16), (1, 2))
        >>> sampler = PointSampler(split, torch.ones(8, 16), torch.zeros(8, 16, dtype=torch.bool))
        >>> points = sampler.draw(10, torch.Generator().manual_seed(0))
        >>> tuple(points.index.shape), points.counts
        ((2, 10), (10, 10))
        >>> tuple(points.gather(torch.rand(3, 8, 16), dims=2).shape)
        (3, 2, 10)
    """

    index: Tensor
    scale: Tensor
    counts: tuple[int, ...]

    def gather(self, field: Tensor, dims: int) -> Tensor:
        """Return the values `(..., K, m)` of fields `(..., *grid)` with `dims` axes of the grid."""
        flat = field.flatten(-dims)
        where = self.index.to(field.device)
        return flat.index_select(-1, where.flatten()).unflatten(-1, where.shape)


@typed(shared=booleans)
class PointSampler:
    """Draws the points of all experts of a split.

    Args:
        split: The blocks.
        weight: Weight of the equation's rows at every point of the grid; none where it is zero.
        shared: Points that every expert imposes, booleans over the grid.

    Raises:
        InvalidArgument: If the equation has no weight anywhere in a block.

    Example:
        >>> import torch
        >>> from sciml.physics.constraints import PointSampler, Split
        >>> split = Split((8, 16), (1, 2))  # two blocks along the second axis
        >>> sampler = PointSampler(split, torch.ones(8, 16), torch.zeros(8, 16, dtype=torch.bool))
        >>> sampler.draw(None).counts  # None takes all points of a block
        (64, 64)
    """

    def __init__(self, split: Split, weight: Tensor, shared: Tensor) -> None:
        flat, common = weight.detach().double().cpu().flatten(), shared.cpu().flatten()
        self.split, self.weight = split, flat
        used = flat > 0
        self.common = (used & common).nonzero()[:, 0]
        self.own = [m[used[m] & ~common[m]] for m in split.members()]
        empty = [k for k, m in enumerate(self.own) if not len(m)]
        if empty:
            raise InvalidArgument(
                f"blocks {empty} of {split.experts}, in which the equation has no point",
                "points with weight in every block",
                "Take fewer blocks along this axis, or impose the equation from an earlier time",
            )

    def draw(
        self,
        count: int | None,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
    ) -> ExpertPoints:
        """Return the points of every expert.

        Args:
            count: Points per expert from its own block, at most; None takes all.
            generator: Source of the choice, on the CPU; needed where points are left out.
            bias: `(K,)`, see the top of this file; then K times `count` points are dealt out.
        """
        if count is not None and count < 1:
            raise InvalidArgument(
                f"{count} points per expert", "a positive number, or null for all"
            )
        if bias is not None and (bias.shape != (len(self.own),) or not bool(bias.isfinite().all())):
            raise InvalidArgument(
                f"a bias of shape {tuple(bias.shape)}"
                + ("" if bias.isfinite().all() else " with NaN"),
                f"({len(self.own)},) finite numbers, one per expert",
            )
        if count is None or (bias is None and all(len(m) <= count for m in self.own)):
            chosen = self.own
        elif bias is None:
            chosen = [m[torch.randperm(len(m), generator=generator)[:count]] for m in self.own]
        else:
            chosen = self._dealt(count, generator, bias.detach().cpu().double())
        return self._padded(chosen)

    def _dealt(self, count: int, generator: torch.Generator | None, bias: Tensor) -> list[Tensor]:
        owner = torch.cat([torch.full((len(m),), k) for k, m in enumerate(self.own)])
        every = torch.cat(self.own)
        score = torch.rand(len(every), generator=generator, dtype=torch.float64) + bias[owner]
        total = min(count * self.split.experts, len(every))
        best = torch.zeros(len(every), dtype=torch.bool)
        best[score.topk(total).indices] = True
        best |= (
            score
            == torch.full_like(bias, -torch.inf).scatter_reduce(0, owner, score, "amax")[owner]
        )  # at least one point each
        return [every[best & (owner == k)] for k in range(self.split.experts)]

    def _padded(self, chosen: Sequence[Tensor]) -> ExpertPoints:
        shared, most = len(self.common), max(len(m) for m in chosen)
        index = torch.zeros(len(chosen), most + shared, dtype=torch.long)
        scale = torch.zeros(len(chosen), most + shared, dtype=torch.float64)
        for k, m in enumerate(chosen):
            index[k, : len(m)], index[k, len(m) : most] = m, m[0]
            scale[k, : len(m)] = (self.weight[m] / len(m)).sqrt()
            index[k, most:] = self.common
            scale[k, most:] = (self.weight[self.common] / max(shared, 1)).sqrt()
        return ExpertPoints(index, scale, tuple(len(m) + shared for m in chosen))


class Balance:
    """Biases of the experts, see the top of this file.

    Args:
        experts: Number of experts, K.
        rate: Step of the biases; scores are uniform in [0, 1].

    Example:
        >>> import torch
        >>> from sciml.physics.constraints import Balance
        >>> balance = Balance(experts=2, rate=0.01)
        >>> balance.update([10, 10], torch.tensor([[3, 9]]))  # iterations of either
        >>> balance.bias.tolist()  # the second expert gets fewer points
        [[0.01, -0.01]]
    """

    @takes(experts=whole, rate=number)
    def __init__(self, experts: int, rate: float = 1e-3) -> None:
        if not rate > 0 or experts < 1:
            raise InvalidArgument(f"experts={experts}, rate={rate}", "positive numbers")
        self.rate, self.bias = rate, torch.zeros(experts, dtype=torch.float64)

    def update(self, counts: Sequence[int], iterations: Tensor) -> None:
        """Move the biases after a solve.

        Args:
            counts: Points of every expert.
            iterations: Mean iterations of their solves `(K,)`.
        """
        points = torch.tensor(counts, dtype=torch.float64, device=iterations.device)
        load = points * iterations.double().clamp_min(1)
        self.bias = self.bias + self.rate * torch.sign(load.mean() - load).to(self.bias)
