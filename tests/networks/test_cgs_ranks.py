"""Five steps on two ranks, which iterate differently often, against one process."""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from sciml.data.batch import joined
from sciml.data.graph.graphs import GraphData
from sciml.networks.graph.convergent import CGS
from sciml.physics.graphs.resistors import ResistorNetwork
from sciml.testing.ranks import run_ranks

STEPS = 5
SIZES = ((6, 8), (40, 60))  # of the networks of each rank


def model():
    torch.manual_seed(0)
    settings = {"node_features": 2, "edge_features": 1, "heads": 3, "hidden": 8, "width": 8}
    return CGS(**settings, gamma=0.9, source=True, linear="iterate", decoder=(8,)).double()


def graphs(rank, step):
    """Return the batch of a rank, in float64."""
    low, high = SIZES[rank]
    data = GraphData(task=ResistorNetwork(), train_sizes=[low, high], graphs=2, seed=7 + rank)
    return data.batch(step).to("cpu", torch.float64)


def loss(network, batch, rows):
    return (network(**batch.inputs) - batch.target).square().sum() / rows


def rows_of(step):
    return sum(len(graphs(rank, step).target) for rank in range(2))


def _rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    network = DistributedDataParallel(model())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(STEPS):
        optimizer.zero_grad()
        # ranks are averaged, so each counts its rows twice
        (2 * loss(network, graphs(rank, step), rows_of(step))).backward()
        optimizer.step()
    torch.save(list(network.parameters()), f"{folder}/weights{rank}")
    del network, optimizer  # what waits for the group ends before it
    dist.destroy_process_group()


def test_two_ranks_make_the_steps_of_one_process_on_the_union(tmp_path):
    counts = [model().solve(**graphs(rank, 0).inputs)[1].iterations.max() for rank in range(2)]
    assert counts[0] != counts[1]
    run_ranks(_rank, (tmp_path,), 2)
    network = model()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    start = [p.detach().clone() for p in network.parameters()]
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(network, joined([graphs(rank, step) for rank in range(2)]), rows_of(step)).backward()
        optimizer.step()
    found = [torch.load(tmp_path / f"weights{rank}") for rank in range(2)]
    for before, p, *others in zip(start, network.parameters(), *found, strict=True):
        assert (p - before).abs().max() > 1e-2
        for other in others:
            assert (p - other).abs().max() < 1e-8
