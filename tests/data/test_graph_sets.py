"""Given graph sets: folds, epochs, ranks, and the plain-text format of TU Dortmund."""

from types import SimpleNamespace

import pytest
import torch

from sciml.data.batch import joined
from sciml.data.graph.graph_sets import GraphFolds, GraphSet, _counted, stratified
from sciml.data.graph.tu import TUFolder
from sciml.errors import InvalidArgument
from sciml.physics.graphs.chains import Chains
from sciml.physics.graphs.motifs import MotifSet

FILES = {
    # a triangle, an isolated node, a path of two; classes -1, 1, 1
    "A": "1, 2\n2, 1\n2, 3\n3, 2\n3, 1\n1, 3\n5, 6\n6, 5\n",
    "graph_indicator": "1\n1\n1\n2\n3\n3\n",
    "graph_labels": "-1\n1\n1\n",
    "node_labels": "3\n5\n3\n3\n5\n3\n",
    "edge_labels": "0\n0\n1\n1\n0\n0\n1\n1\n",
    "node_attributes": "0.5, 1\n1.5, 2\n2.5, 3\n3.5, 4\n4.5, 5\n5.5, 6\n",
}


def write(folder, files, name="TINY"):
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in files.items():
        (folder / f"{name}_{part}.txt").write_text(text)
    return str(folder)


@pytest.mark.parametrize("inner", ["", "TINY", "TINY/raw"])
def test_tu_files(tmp_path, inner):
    write(tmp_path / inner, FILES)
    source = TUFolder(name="TINY", root=str(tmp_path))
    assert source.sizes == {"node_features": 4, "edge_features": 2, "outputs": 2}
    assert source.names == ("-1", "1")
    triangle, alone, path = source.graphs()
    assert triangle.edge_index.tolist() == [[0, 1, 1, 2, 2, 0], [1, 0, 2, 1, 0, 2]]
    assert triangle.x.tolist() == [[1, 0, 0.5, 1], [0, 1, 1.5, 2], [1, 0, 2.5, 3]]
    assert triangle.edge_attr.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1], [1, 0], [1, 0]]
    assert alone.edge_index.shape == (2, 0) and alone.x.tolist() == [[1, 0, 3.5, 4]]
    assert path.edge_index.tolist() == [[0, 1], [1, 0]] and path.edge_attr.tolist() == [[0, 1]] * 2
    assert [int(g.target) for g in (triangle, alone, path)] == [0, 1, 1]


def test_tu_edges_in_any_order_and_no_labels(tmp_path):
    lines = FILES["A"].splitlines()
    files = {**FILES, "A": "\n".join(reversed(lines))}
    files = {part: files[part] for part in ("A", "graph_indicator", "graph_labels")}
    source = TUFolder(name="TINY", root=write(tmp_path, files))
    triangle, alone, path = source.graphs()
    assert source.sizes["node_features"] == 1
    assert triangle.x.tolist() == [[2]] * 3 and alone.x.tolist() == [[0]]  # degrees
    assert path.edge_index.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        ("graph_labels", "1\n1\n", "one label per graph"),
        ("graph_indicator", "1\n2\n1\n2\n3\n3\n", "order of the graphs"),
        ("A", "1, 4\n", "between two graphs"),
        ("A", "1, 9\n", "node 9 of 6"),
        ("A", "1, x\n", "whole numbers"),
        ("node_labels", "1\n", "1 rows of node features"),
    ],
)
def test_damaged_tu_files_are_refused(tmp_path, part, text, message):
    with pytest.raises(InvalidArgument, match=message):
        TUFolder(name="TINY", root=write(tmp_path, {**FILES, part: text}))


def test_missing_tu_files_say_where_to_put_them(tmp_path):
    with pytest.raises(InvalidArgument, match="Download MUTAG.zip from www.graphlearning.io"):
        TUFolder(name="MUTAG", root=str(tmp_path))
    with pytest.raises(InvalidArgument, match="data.source.root=FOLDER"):
        TUFolder(name="MUTAG")


def test_stratified_folds():
    labels = torch.tensor([0] * 33 + [1] * 70 + [2] * 4)
    fold = stratified(labels, 10, 0)
    assert torch.bincount(fold).max() - torch.bincount(fold).min() <= 1
    for label in range(3):
        counts = torch.bincount(fold[labels == label], minlength=10)
        assert counts.max() - counts.min() <= 1
    assert not torch.equal(fold, stratified(labels, 10, 1))


def test_folds_test_every_graph_once():
    source = MotifSet(count=50)
    edges = [tuple(g.edge_index.flatten().tolist()) for g in source.graphs()]
    tested = []
    for fold in range(10):
        data = GraphFolds(source=source, fold=fold)
        parts = {
            name: [tuple(g.edge_index.flatten().tolist()) for g in graphs]
            for name, graphs in data.parts.items()
        }
        assert sorted(sum(parts.values(), [])) == sorted(edges)  # each graph in one part
        tested += parts["test"]
    assert sorted(tested) == sorted(edges)
    assert len(parts["val"]) in (4, 5)


def test_an_epoch_shows_every_training_graph_once_whatever_the_ranks():
    data = GraphFolds(source=MotifSet(count=30), batch_size=4, seed=3)
    n = len(data.parts["train"])
    one = [data.places(step, 0, 1) for step in range(n)]
    assert sorted(sum(one, [])[:n]) == list(range(n))
    assert sorted(sum(one, [])[n : 2 * n]) == list(range(n))
    assert sum(one, [])[:n] != sum(one, [])[n : 2 * n]
    two = [data.places(step, rank, 2) for step in range(2) for rank in range(2)]
    assert two == one[:4]


def test_ranks_join_to_the_batch_of_one_process():
    data = GraphFolds(source=MotifSet(count=30), batch_size=3)
    whole = joined([data.batch(1, rank, 2) for rank in range(2)])
    places = data.places(1, 0, 2) + data.places(1, 1, 2)
    assert whole.count == 6 == len(whole.target)
    assert whole.target.tolist() == [int(data.parts["train"][k].target) for k in places]
    sizes = [len(data.parts["train"][k].x) for k in places]
    assert torch.bincount(whole.inputs["batch"]).tolist() == sizes
    source, target = whole.inputs["edge_index"]
    assert torch.equal(whole.inputs["batch"][source], whole.inputs["batch"][target])


def test_labelled_nodes_are_counted():
    data = GraphSet(source=Chains(chains=2, length=50))
    batch = data.batch(0)
    assert batch.count == 10 == int((batch.extra["weight"] > 0).sum())
    assert data.batch(0, 1, 2).count == 20
    assert sorted(batch.target.tolist()) == [0] * 100 + [1] * 100
    assert data.val_chunk(0).count == 20 and data.test_chunk(0).count == 170
    assert len(data.example()["x"]) == 150


def test_chunks_cover_a_part(monkeypatch):
    monkeypatch.setattr("sciml.data.graph.graph_sets.CHUNK_NODES", 60)
    data = GraphFolds(source=MotifSet(count=40))
    chunks = [data.val_chunk(k) for k in range(data.val_chunks)]
    assert data.val_chunks > 1 and max(len(b.inputs["x"]) for b in chunks) <= 60
    labels = torch.cat([b.target for b in chunks]).tolist()
    assert labels == [int(g.target) for g in data.parts["val"]]


@pytest.mark.parametrize(
    "wrong", [{"fold": 10}, {"folds": 1}, {"val_share": 0}, {"batch_size": 0}, {"fixed_for": 0}]
)
def test_refusals(wrong):
    with pytest.raises(InvalidArgument):
        GraphFolds(source=MotifSet(count=20), **wrong)


def test_rows_without_weight_do_not_count():
    graph = SimpleNamespace(target=torch.zeros(5, 2), weight=None)
    assert _counted(graph) == 5
    graph.weight = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.5])
    assert _counted(graph) == 3
