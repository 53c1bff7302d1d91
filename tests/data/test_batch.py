"""Batches of data: conversion, and the union of ranks' batches with node and graph numbers."""

import torch

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch, joined


def graph_batch(rank, nodes, edges, graphs):
    return Batch(
        {
            "x": torch.full((nodes, 2), float(rank), dtype=torch.float64),
            "edge_index": torch.tensor(edges).T,
            "edge_attr": torch.full((len(edges), 1), float(rank), dtype=torch.float64),
            "batch": torch.tensor(graphs),
        },
        torch.arange(nodes, dtype=torch.float64),
        Streams(0, 3, rank, 2),
        5,
        torch.tensor(graphs),
        {"weight": torch.ones(nodes)},
    )


def test_joined_graphs_keep_their_edges():
    a = graph_batch(0, 3, [(0, 1), (2, 1)], [0, 0, 1])
    b = graph_batch(1, 2, [(1, 0)], [0, 0])
    one = joined([a, b])
    assert one.inputs["edge_index"].tolist() == [[0, 2, 4], [1, 1, 3]]
    assert one.inputs["batch"].tolist() == one.index.tolist() == [0, 0, 1, 2, 2]
    assert one.inputs["x"][:, 0].tolist() == [0, 0, 0, 1, 1]
    assert one.count == 5 and (one.streams.rank, one.streams.world) == (0, 1)
    # every edge still joins two nodes of one graph
    source, target = one.inputs["batch"][one.inputs["edge_index"]]
    assert torch.equal(source[[0, 2]], target[[0, 2]])


def test_numbers_of_graphs_are_shifted_also_where_rows_are_graphs():
    def batch(rank):
        b = graph_batch(rank, 2, [(0, 1)], [0, 1])
        b.index, b.target = None, torch.tensor([rank, rank])
        return b

    one = joined([batch(0), batch(1)])
    assert one.inputs["batch"].tolist() == [0, 1, 2, 3] and one.index is None


def test_conversion_leaves_whole_numbers_alone():
    b = graph_batch(0, 2, [(0, 1)], [0, 0]).to("cpu", torch.float32)
    assert b.inputs["x"].dtype == b.target.dtype == b.extra["weight"].dtype == torch.float32
    assert b.inputs["edge_index"].dtype == b.index.dtype == torch.int64
