"""Batches of random graphs with exact answers, drawn while training.

    data = GraphData(task=PorousNetwork(), train_sizes=[50, 200], test_sizes=[1600])

A task (see `sciml.physics.graphs.graph`) draws one graph at a time; a batch is one large graph
whose nodes know which graph they belong to. Larger graphs make test sets of their own, scored as
`test_1600/r2` and so on. Objects of torch-geometric come in and go out by `from_pyg`, `to_pyg`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument
from sciml.physics.graphs.graph import Graph, GraphTask

if TYPE_CHECKING:
    from torch_geometric.data import Data

HELD_OUT = 20_231  # seed of validation and test sets, whatever the run's
CHUNK_NODES = 8000  # nodes of a validation or test batch


class GraphData(StepData):
    """Random graphs of a task: fresh ones for training, fixed ones for validation and test.

    Args:
        task: Draws graphs.
        train_sizes: Smallest and largest number of nodes in training, validation and `test`.
        graphs: Graphs per step and rank.
        val_graphs: Graphs of the validation set.
        test_graphs: Graphs of every test set; fewer where they would exceed `test_nodes`.
        test_sizes: Sizes of further test sets, `test_<size>`.
        test_sets: Further test sets by name: `{name: {size: 200, actions: 15}}`; what is not
            `size` (a number or a pair) or `graphs` replaces a field of the task.
        test_nodes: Nodes of a test set in all; at least two graphs are drawn.
        seed: Seed of the training graphs.
        fixed_for: Steps for which graphs are kept.

    Attributes:
        parts: Test sets by name: task, smallest size, largest size, number of graphs.

    Raises:
        InvalidArgument: For sizes that cannot be, or changes the task does not know.

    Example:
        >>> from sciml.data import GraphData
        >>> from sciml.physics.graphs import ResistorNetwork
        >>> data = GraphData(task=ResistorNetwork(), train_sizes=(10, 10), graphs=4)
        >>> batch = data.batch(0)
        >>> tuple(batch.inputs["x"].shape), tuple(batch.target.shape)  # four graphs of ten nodes
        ((40, 2), (40, 1))
    """

    def __init__(
        self,
        *,
        task: GraphTask,
        train_sizes: Sequence[int],
        graphs: int = 32,
        val_graphs: int = 32,
        test_graphs: int = 32,
        test_sizes: Sequence[int] = (),
        test_sets: Mapping[str, Mapping[str, Any]] | None = None,
        test_nodes: int = 40_000,
        seed: int = 0,
        fixed_for: int = 1,
    ) -> None:
        super().__init__(seed=seed, fixed_for=fixed_for)
        if len(train_sizes) != 2 or not 1 <= train_sizes[0] <= train_sizes[1]:
            raise InvalidArgument(
                f"data.train_sizes={list(train_sizes)}", "the smallest and the largest size"
            )
        for name, number in (("graphs", graphs), ("val_graphs", val_graphs)):
            if number < 1:
                raise InvalidArgument(f"data.{name}={number}", "at least 1")
        self.task, self.kind, self.sizes = task, task.kind, dict(task.sizes)
        self.unit, self.names = getattr(task, "unit", "1"), tuple(getattr(task, "names", ()))
        self.train_sizes = int(train_sizes[0]), int(train_sizes[1])
        self.graphs, self.val_graphs = graphs, val_graphs
        sets: dict[str, Mapping[str, Any]] = {"test": {"size": self.train_sizes}}
        sets |= {f"test_{size}": {"size": size} for size in test_sizes}
        sets |= test_sets or {}
        self.parts = {
            name: _test_set(task, dict(given), test_graphs, test_nodes)
            for name, given in sets.items()
        }
        self._kept: dict[str, tuple[Any, Batch]] = {}

    # --- training -------------------------------------------------------------------------------
    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the graphs of a step on a rank."""
        key = (self.seed, step, rank, world)
        if self._kept.get("train", (None,))[0] != key:
            streams = Streams(self.seed, step, rank, world)
            generator = streams.generator("graphs", cpu=True)
            found = drawn(self.task, generator, self._sizes_of(step, rank))
            rows = self.graphs * world
            if self.task.level == "node":
                rows = sum(sum(self._sizes_of(step, r)) for r in range(world))
            self._kept["train"] = key, batch_of(*found, self.task.level, streams, rows)
        made = self._kept["train"][1]
        # noise and probes of a step on the module's device
        return dataclasses.replace(
            made, streams=Streams(self.seed, step, rank, world, self.device())
        )

    def _sizes_of(self, step: int, rank: int) -> list[int]:
        """Return the sizes of a rank's graphs: every rank can work out those of the others."""
        generator = Streams(self.seed, step, rank).generator("sizes", cpu=True)
        return _sizes(self.train_sizes, self.graphs, generator)

    # --- validation and test --------------------------------------------------------------------
    @property
    def val_chunks(self) -> int:
        """Number of chunks of the validation set."""
        return -(-self.val_graphs // self._per_chunk(self.train_sizes[1]))

    def val_chunk(self, index: int) -> Batch:
        """Return a chunk of the validation set; kept, because it is asked for again."""
        name = f"val{index}"
        if name not in self._kept:
            every = self._per_chunk(self.train_sizes[1])
            numbers = range(index * every, min((index + 1) * every, self.val_graphs))
            made = self._fixed(self.task, self.train_sizes, "val", numbers)
            self._kept[name] = None, made
        return self._kept[name][1]

    @property
    def test_chunks(self) -> int:
        """Number of chunks of all test sets together."""
        return len(self._test_plan())

    def test_chunk(self, index: int) -> Batch:
        """Return a chunk of one of the test sets."""
        name, numbers = self._test_plan()[index]
        task, low, high, _ = self.parts[name]
        return self._fixed(task, (low, high), name, numbers)

    def _test_plan(self) -> list[tuple[str, range]]:
        plan = []
        for name, (_, _, high, count) in self.parts.items():
            every = self._per_chunk(high)
            plan += [(name, range(i, min(i + every, count))) for i in range(0, count, every)]
        return plan

    @staticmethod
    def _per_chunk(size: int) -> int:
        return max(1, CHUNK_NODES // size)

    def _fixed(self, task: GraphTask, sizes: tuple[int, int], name: str, numbers: range) -> Batch:
        """Return graphs of a fixed set; each has its own stream, so chunks do not matter."""
        found = []
        for i in numbers:
            generator = Streams(HELD_OUT, i).generator(name, cpu=True)
            found.append(drawn(task, generator, _sizes(sizes, 1, generator))[0])
        streams = Streams(HELD_OUT, numbers.start, device=self.device())
        whole, index = union(found)
        part = "test" if name == "val" else name
        return batch_of(whole, index, task.level, streams, len(whole.target), part)


def drawn(
    task: GraphTask, generator: torch.Generator, sizes: Sequence[int]
) -> tuple[Graph, Tensor]:
    """Return random graphs as one, and the graph of every node.

    A task may draw many at once, by a method `draw_many(generator, sizes)` that returns this pair.
    """
    if hasattr(task, "draw_many"):
        return task.draw_many(generator, sizes)
    return union([task.draw(generator, n) for n in sizes])


def union(graphs: Sequence[Graph]) -> tuple[Graph, Tensor]:
    """Return graphs as one, and the graph of every node `(N,)`."""
    sizes = torch.tensor([len(g.x) for g in graphs])
    shift = (sizes.cumsum(0) - sizes).tolist()
    first = graphs[0]
    whole = Graph(
        x=torch.cat([g.x for g in graphs]),
        edge_index=torch.cat([g.edge_index + s for g, s in zip(graphs, shift, strict=True)], 1),
        edge_attr=torch.cat([g.edge_attr for g in graphs]),
        target=torch.cat([g.target for g in graphs]),
        weight=None if first.weight is None else torch.cat([g.weight for g in graphs]),
        extra={key: torch.cat([g.extra[key] for g in graphs]) for key in first.extra},
    )
    return whole, torch.repeat_interleave(torch.arange(len(graphs)), sizes)


def batch_of(
    graph: Graph, index: Tensor, level: str, streams: Streams, count: int, part: str = "test"
) -> Batch:
    """Return a union of graphs as a batch.

    Args:
        graph: The union.
        index: Graph of every node `(N,)`.
        level: "node" or "graph", what has a target.
        streams: Random streams of the step.
        count: Rows of the global batch.
        part: Test set it belongs to.
    """
    inputs = {
        "x": graph.x,
        "edge_index": graph.edge_index,
        "edge_attr": graph.edge_attr,
        "batch": index,
    }
    extra = dict(graph.extra) if graph.weight is None else {**graph.extra, "weight": graph.weight}
    rows = index if level == "node" else None
    return Batch(inputs, graph.target, streams, count, rows, extra, part)


def _sizes(between: tuple[int, int], count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(between[0], between[1] + 1, (count,), generator=generator).tolist()


def _test_set(
    task: GraphTask, given: dict[str, Any], graphs: int, nodes: int
) -> tuple[GraphTask, int, int, int]:
    """Return task, smallest size, largest size and number of graphs of a test set."""
    size = given.pop("size", None)
    low, high = (size, size) if isinstance(size, int) else tuple(size or (0, 0))
    if not 1 <= low <= high:
        raise InvalidArgument(f"a test set with size={size}", "a number of nodes, or two")
    count = given.pop("graphs", None) or max(2, min(graphs, nodes // high))
    if given:
        try:
            task = dataclasses.replace(task, **given)
        except TypeError as error:
            raise InvalidArgument(
                f"a test set with {given}",
                f"size, graphs and fields of {type(task).__name__}, a dataclass",
            ) from error
    return task, low, high, count


# --- torch-geometric ----------------------------------------------------------------------------
def from_pyg(data: Data) -> dict[str, Tensor]:
    """Return the inputs of a graph network from a `Data` or `Batch` of torch-geometric.

    Nodes without features get ones, edges without features zeros.

    Raises:
        InvalidArgument: If there are no edges stored.
    """
    if data.edge_index is None:
        raise InvalidArgument("a graph without edge_index", "edges of shape (2, E)")
    n, e = data.num_nodes, data.edge_index.shape[1]
    x = data.x if data.x is not None else torch.ones(n, 1)
    attr = data.edge_attr if data.edge_attr is not None else x.new_zeros(e, 1)
    batch = getattr(data, "batch", None)
    return {
        "x": x,
        "edge_index": data.edge_index.long(),
        "edge_attr": attr[:, None] if attr.dim() == 1 else attr,
        "batch": torch.zeros(n, dtype=torch.long) if batch is None else batch,
    }


def to_pyg(graph: Graph) -> Data:
    """Return a graph as `Data` of torch-geometric, target as `y`, weight as `weight`."""
    from torch_geometric.data import Data  # takes seconds

    more = {} if graph.weight is None else {"weight": graph.weight}
    return Data(
        x=graph.x,
        edge_index=graph.edge_index,
        edge_attr=graph.edge_attr,
        y=graph.target,
        **graph.extra,
        **more,
    )
