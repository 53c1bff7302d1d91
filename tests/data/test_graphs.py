"""Batches of random graphs: counts, seeds, sets, torch-geometric."""

import dataclasses

import pytest
import torch

from sciml.data.batch import joined
from sciml.data.graph.graphs import GraphData, batch_of, drawn, from_pyg, to_pyg, union
from sciml.errors import InvalidArgument
from sciml.physics.graphs.graph import Graph
from sciml.physics.graphs.porous import PorousNetwork


@dataclasses.dataclass(frozen=True)
class Ring:
    """Directed rings whose target is the feature of the node before."""

    level: str = "node"
    scale: float = 1.0
    kind = "regression"
    sizes = {"node_features": 1, "edge_features": 1, "outputs": 1}

    def draw(self, generator, size):
        x = self.scale * torch.randn(size, 1, generator=generator, dtype=torch.float64)
        nodes = torch.arange(size)
        index = torch.stack([nodes, (nodes + 1) % size])
        target = x.roll(1, 0) if self.level == "node" else x.sum(0, keepdim=True)
        return Graph(x, index, torch.ones(size, 1, dtype=torch.float64), target)


def rings(**more):
    return GraphData(**{"task": Ring(), "train_sizes": [3, 9], "graphs": 4} | more)


def test_a_batch_is_a_function_of_seed_rank_and_step():
    one, again = rings(seed=1).batch(5, 1, 2), rings(seed=1).batch(5, 1, 2)
    assert torch.equal(one.inputs["x"], again.inputs["x"])
    for other in (rings(seed=2).batch(5, 1, 2), rings(seed=1).batch(5, 0, 2)):
        assert not torch.equal(one.target[:3], other.target[:3])
    data = rings(seed=1)
    first = data.batch(5, 1, 2).inputs["x"]
    data.batch(6, 1, 2)
    assert torch.equal(first, data.batch(5, 1, 2).inputs["x"])


@pytest.mark.parametrize("level", ["node", "graph"])
def test_every_rank_knows_the_rows_of_the_global_batch(level):
    data = rings(task=Ring(level))
    parts = [data.batch(3, r, 3) for r in range(3)]
    rows = sum(len(p.target) for p in parts)
    assert {p.count for p in parts} == {rows}
    whole = joined(parts)
    x, (source, target) = whole.inputs["x"], whole.inputs["edge_index"]
    if level == "node":
        assert torch.equal(whole.target[target], x[source])
        assert torch.equal(whole.index, whole.inputs["batch"])
    else:
        sums = torch.zeros(12, 1, dtype=x.dtype).index_add_(0, whole.inputs["batch"], x)
        assert torch.allclose(whole.target, sums, rtol=1e-12, atol=1e-11)


def test_sizes_are_within_bounds_and_reach_them():
    data = rings(train_sizes=[3, 5])
    sizes = torch.cat([torch.bincount(data.batch(s).inputs["batch"]) for s in range(20)])
    assert sizes.unique().tolist() == [3, 4, 5]


def test_held_out_sets_do_not_depend_on_the_seed_or_on_chunks(monkeypatch):
    def whole(data):
        return torch.cat([data.test_chunk(i).inputs["x"] for i in range(data.test_chunks)])

    one = rings(seed=1, test_graphs=7)
    want, chunks = whole(one), one.test_chunks
    monkeypatch.setattr("sciml.data.graph.graphs.CHUNK_NODES", 20)
    other = rings(seed=2, test_graphs=7)
    assert other.test_chunks > chunks
    assert torch.equal(want, whole(other))
    assert torch.equal(one.val_chunk(0).inputs["x"][:5], other.val_chunk(0).inputs["x"][:5])
    assert not torch.equal(want[:3], one.val_chunk(0).inputs["x"][:3])


def test_further_test_sets():
    data = rings(
        test_sizes=[20, 100],
        test_sets={"test_wide": {"size": [4, 6], "graphs": 3, "scale": 100.0}},
        test_graphs=5,
        test_nodes=250,
    )
    found = {}
    for i in range(data.test_chunks):
        chunk = data.test_chunk(i)
        found.setdefault(chunk.part, []).append(chunk)
    assert list(found) == ["test", "test_20", "test_100", "test_wide"]
    nodes = {k: sum(len(c.target) for c in v) for k, v in found.items()}
    assert nodes["test_20"] == 100 and nodes["test_100"] == 200  # two at least, 250 nodes at most
    assert found["test_wide"][0].target.abs().mean() > 20


def test_tasks_may_draw_many_at_once():
    class Many(Ring):
        def draw_many(self, generator, sizes):
            self.calls.append(sizes)
            return union([self.draw(generator, n) for n in sizes])

    task = Many()
    object.__setattr__(task, "calls", [])
    batch = rings(task=task).batch(0)
    assert len(task.calls) == 1 and sum(task.calls[0]) == len(batch.target)
    plain = rings().batch(0)
    assert torch.equal(plain.inputs["edge_index"], batch.inputs["edge_index"])
    graph, index = drawn(Ring(), torch.Generator().manual_seed(0), [3, 4])
    assert index.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert graph.edge_index[0].tolist() == list(range(7))


def test_weights_and_extra_rows_arrive():
    data = GraphData(task=PorousNetwork(), train_sizes=[20, 30], graphs=2)
    batch = data.batch(0)
    assert batch.extra["weight"].shape == (len(batch.target),)
    given = batch.inputs["x"][:, 0] == 1
    assert torch.equal(batch.extra["weight"] == 0, given)
    graph = Ring().draw(torch.Generator(), 3)
    graph.extra["mark"] = torch.arange(3)
    index = torch.zeros(3, dtype=torch.long)
    made = batch_of(*union([graph, graph]), "node", batch.streams, 6)
    assert made.extra["mark"].tolist() == [0, 1, 2, 0, 1, 2]
    assert index.shape == (3,)


def test_torch_geometric_goes_in_and_out():
    from torch_geometric.data import Batch, Data

    graph = PorousNetwork().draw(torch.Generator().manual_seed(0), 12)
    data = to_pyg(graph)
    assert torch.equal(data.y, graph.target) and torch.equal(data.weight, graph.weight)
    two = from_pyg(Batch.from_data_list([data, data]))
    want, index = union([graph, graph])
    assert torch.equal(two["edge_index"], want.edge_index)
    assert torch.equal(two["batch"], index)
    bare = from_pyg(Data(edge_index=torch.tensor([[0], [1]]), num_nodes=3))
    assert bare["x"].shape == (3, 1) and bare["edge_attr"].shape == (1, 1)
    flat = from_pyg(Data(edge_index=torch.tensor([[0], [1]]), edge_attr=torch.ones(1), num_nodes=2))
    assert flat["edge_attr"].shape == (1, 1)
    with pytest.raises(InvalidArgument, match="edge_index"):
        from_pyg(Data(x=torch.ones(2, 1)))


def test_wrong_settings_are_refused():
    for wrong in (
        {"train_sizes": [5]},
        {"train_sizes": [9, 5]},
        {"graphs": 0},
        {"test_sets": {"a": {"graphs": 2}}},
        {"test_sets": {"a": {"size": 5, "width": 3}}},
    ):
        with pytest.raises(InvalidArgument):
            rings(**wrong)
