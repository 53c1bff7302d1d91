"""Methods that search or evaluate many points take identical steps on any number of ranks."""

import os
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.flat import flatten
from sciml.optim.full.ssbroyden import SSBroyden
from sciml.optim.gradient_free.cbo import CBO
from sciml.optim.gradient_free.deepzero import DeepZero
from sciml.optim.gradient_free.polystep import PolyStep
from sciml.testing.ranks import run_ranks

ROWS = 8  # two ranks: 4 and 4 samples; three: 3, 3 and 2
MAKERS = {
    "ssbroyden": SSBroyden,
    "ssbroyden, fresh batches": SSBroyden,
    "deepzero": lambda p: DeepZero(p, sparsity=0.5, probes=8),
    "polystep": lambda p: PolyStep(p, subspace=5),
    "cbo": lambda p: CBO(p, particles=8),
}


def five_steps(name, rank=0, world=1):
    """Return the parameters after five steps on this rank's share of the batch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    optimizer = MAKERS[name](net.parameters())
    generator = torch.Generator().manual_seed(3)
    mine = None
    for i in range(5):
        if mine is None or name != "ssbroyden":
            x = torch.randn(ROWS, 3, generator=generator, dtype=torch.float64)
            mine = x.tensor_split(world)[rank]

        def terms(mine=mine):
            out = net(mine)
            return [
                LossTerm("a", out[:, 0] - mine.sum(1), 1.0, ROWS),
                LossTerm("b", torch.cat([out, out**2], 1), 0.5, ROWS),
            ]

        optimizer.update_curvature(Objective(terms, step=i))
        optimizer.step()
    return flatten(net.parameters())


def _worker(rank, world, folder):
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world
    )
    found = {name: five_steps(name, rank, world) for name in MAKERS}
    torch.save(found, Path(folder) / f"{world}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found():
    with tempfile.TemporaryDirectory() as folder:
        out = {}
        for world in (2, 3):
            run_ranks(_worker, (world, folder), world)
            for rank in range(world):
                out[world, rank] = torch.load(Path(folder) / f"{world}-{rank}.pt")
        yield out


@pytest.mark.parametrize("name", MAKERS)
def test_two_and_three_ranks_are_one_process_on_the_joined_batch(found, name):
    one = five_steps(name)
    for (world, rank), parameters in found.items():
        torch.testing.assert_close(parameters[name], one, rtol=1e-12, atol=1e-12)
        assert torch.equal(parameters[name], found[world, 0][name]), (world, rank)
