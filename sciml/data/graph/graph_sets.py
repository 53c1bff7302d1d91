"""Given sets of graphs as data: parts known in advance, or folds of a labelled set.

Every epoch is one permutation of the training graphs that all ranks share; with B graphs per rank,
rank r of w takes places `[(s w + r) B, (s w + r + 1) B)` of the endless sequence in step s.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.epochs import epoch_places
from sciml.data.graph.graphs import CHUNK_NODES, batch_of, union
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument
from sciml.physics.graphs.graph import Graph

FOLD_SEED = 20_231  # the folds are the same in every run


class GraphCollection(Protocol):
    """A labelled set of graphs."""

    kind: str
    level: str
    sizes: dict
    names: tuple[str, ...]


class GraphSet(StepData):
    """Batches from a set that knows its parts.

    Args:
        source: Has `parts()`: graphs by the names `train`, `val`, `test`. Where the parts hold the
            same graphs, their weights say which nodes count.
        batch_size: Graphs per step and rank; None for all.
        seed: Seed of the order.
        fixed_for: Steps for which a batch stays the same.

    Raises:
        InvalidArgument: For an impossible batch size or an empty part.

    Example:
        >>> from sciml.data import GraphSet
        >>> from sciml.physics.graphs import Chains
        >>> data = GraphSet(source=Chains(chains=3, length=10))
        >>> batch = data.batch(0)
        >>> {name: tuple(value.shape) for name, value in batch.inputs.items()}
        {'x': (60, 2), 'edge_index': (2, 54), 'edge_attr': (54, 1), 'batch': (60,)}
    """

    def __init__(
        self,
        *,
        source: GraphCollection,
        batch_size: int | None = None,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        self.kind, self.level, self.sizes = source.kind, source.level, dict(source.sizes)
        self.unit, self.names = getattr(source, "unit", "1"), tuple(source.names)
        self.parts = self._parts(source)
        for name, graphs in self.parts.items():
            if not graphs:
                raise InvalidArgument(f"no graphs in the part '{name}'", "at least one")
        self.batch_size = len(self.parts["train"]) if batch_size is None else batch_size
        if self.batch_size < 1:
            raise InvalidArgument(f"data.batch_size={batch_size}", "a positive integer")
        self._kept: tuple[list[int], Batch] | None = None

    def _parts(self, source: GraphCollection) -> dict[str, list[Graph]]:
        return source.parts()

    # --- training ---------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the training graphs of a step on a rank."""
        train = self.parts["train"]
        # those of all ranks together are one step of a single rank with as many times the samples
        every = epoch_places(self.seed, len(train), self.batch_size * world, step, 0, 1).tolist()
        rows = sum(_counted(train[k]) for k in every)
        streams = Streams(self.seed, step, rank, world, self.device())
        return batch_of(
            *union([train[k] for k in self.places(step, rank, world)]), self.level, streams, rows
        )

    def places(self, step: int, rank: int, world: int) -> list[int]:
        """Return which training graphs a rank sees in a step."""
        n = len(self.parts["train"])
        return epoch_places(self.seed, n, self.batch_size, step, rank, world).tolist()

    # --- fixed parts ------------------------------------------------------------------------
    @property
    def val_chunks(self) -> int:
        """Return the number of chunks of the validation part."""
        return len(self._chunks("val"))

    def val_chunk(self, index: int) -> Batch:
        """Return a chunk of the validation part."""
        return self._chunk("val", index)

    @property
    def test_chunks(self) -> int:
        """Return the number of chunks of the test part."""
        return len(self._chunks("test"))

    def test_chunk(self, index: int) -> Batch:
        """Return a chunk of the test part."""
        return self._chunk("test", index)

    def _chunks(self, part: str) -> list[range]:
        """Return places of graphs that together have about `CHUNK_NODES` nodes."""
        chunks, start, nodes = [], 0, 0
        for k, graph in enumerate(self.parts[part]):
            if nodes and nodes + len(graph.x) > CHUNK_NODES:
                chunks.append(range(start, k))
                start, nodes = k, 0
            nodes += len(graph.x)
        return [*chunks, range(start, len(self.parts[part]))]

    def _chunk(self, part: str, index: int) -> Batch:
        graphs = [self.parts[part][k] for k in self._chunks(part)[index]]
        streams = Streams(0, index, device=self.device())
        return batch_of(*union(graphs), self.level, streams, sum(map(_counted, self.parts[part])))

    def example(self) -> dict[str, Tensor]:
        """Return the first three validation graphs."""
        graphs = self.parts["val"][:3]
        return batch_of(*union(graphs), self.level, Streams(0, 0), 1).inputs


class GraphFolds(GraphSet):
    """One fold of a labelled set is tested, a share of the others validates, the rest trains.

    Folds are stratified and the same for every run: with `data.fold=0,1,...,9` a sweep tests every
    graph once. Choosing the step by the validation share is an honest protocol; choosing it by the
    accuracy on the tested fold, as published tables do, is optimistic. `callbacks.folds` reports
    both.

    Args:
        source: Has `graphs()`.
        folds: Number of folds.
        fold: The one that is tested.
        val_share: Share of the other folds held out for validation.
        batch_size: Graphs per step and rank; None for all.
        seed: Seed of the order.
        fixed_for: Steps for which a batch stays the same.

    Raises:
        InvalidArgument: For a fold or share that cannot be.

    Example:
        >>> from sciml.data import GraphFolds
        >>> from sciml.physics.graphs import MotifSet
        >>> data = GraphFolds(source=MotifSet(count=40), folds=4, fold=0, batch_size=8)
        >>> len(data.batch(0).target), data.names
        (8, ('ring', 'wheel', 'bipartite', 'prism'))
    """

    def __init__(
        self,
        *,
        source: GraphCollection,
        folds: int = 10,
        fold: int = 0,
        val_share: float = 0.1,
        batch_size: int | None = 32,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        if folds < 2 or not 0 <= fold < folds:
            raise InvalidArgument(f"data.fold={fold} of {folds}", "0 up to the number of folds - 1")
        if not 0 < val_share < 1:
            raise InvalidArgument(f"data.val_share={val_share}", "between 0 and 1")
        self.folds, self.fold, self.val_share = folds, fold, val_share
        super().__init__(source=source, batch_size=batch_size, seed=seed, fixed_for=fixed_for)

    def _parts(self, source: GraphCollection) -> dict[str, list[Graph]]:
        graphs = source.graphs()
        labels = torch.cat([g.target for g in graphs])
        fold = stratified(labels, self.folds, FOLD_SEED)
        rest = torch.nonzero(fold != self.fold)[:, 0]
        inner = stratified(labels[rest], max(2, round(1 / self.val_share)), FOLD_SEED + 1)
        chosen = {
            "train": rest[inner != 0],
            "val": rest[inner == 0],
            "test": torch.nonzero(fold == self.fold)[:, 0],
        }
        return {name: [graphs[k] for k in index.tolist()] for name, index in chosen.items()}


def stratified(labels: Tensor, folds: int, seed: int) -> Tensor:
    """Return a fold for every row `(n,)`: sizes differ by one at most, in all and per class.

    Rows in random order, sorted by class, are dealt out in turn.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[torch.argsort(labels[order], stable=True)]
    fold = torch.empty_like(labels)
    fold[order] = torch.arange(len(labels)) % folds
    return fold


def _counted(graph: Graph) -> int:
    """Return how many rows of a graph's target count."""
    weight = graph.weight
    return len(graph.target) if weight is None else int((weight > 0).sum())
