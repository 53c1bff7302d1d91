"""Two ranks: residuals that mix samples on one of them, unequal numbers of condition points."""

import os
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from sciml.data.collocation import CollocationData
from sciml.errors import InvalidArgument, PerformanceWarning
from sciml.optim import ENGD
from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.curvature.uses import mixing_terms
from sciml.physics.pde import PDE, Points
from sciml.testing.ranks import run_ranks

torch.set_num_threads(1)
N, WORLD = 4, 2


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def residual(net, rank):
    """Only the second rank mixes: its batch holds the pairs."""
    x = torch.rand(N, 2, generator=torch.Generator().manual_seed(rank)).double()
    u = net(x)[:, 0]
    return u if rank == 0 else u - u.flip(0).square()


class Rejected(PDE):
    """A condition of which rank r finds r + 1 points."""

    conditions = {"wall": 1.0, "fixed": 1.0}

    def sample(self, n, generator):
        return Points(torch.rand(n, self.dim, generator=generator))

    def sample_condition(self, name, n, generator):
        count = 3 if name == "fixed" else 1 + (dist.get_rank() if dist.is_initialized() else 0)
        return Points(torch.zeros(count, self.dim))


def _worker(rank, folder):
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD
    )
    net = network()
    optimizer = ENGD(net, damping=1e-3, relative=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        optimizer.update_curvature(
            Objective(lambda: [LossTerm("pairs", residual(net, rank), 0.7, WORLD * N)])
        )
    found = {"direction": [optimizer.state[p]["direction"] for p in net.parameters()]}
    found["told"] = any(issubclass(w.category, PerformanceWarning) for w in told)
    data = CollocationData(problem=Rejected(dim=2), points=5, condition_points=9)
    found["counts"] = data.batch(0, rank, WORLD).counts

    def elsewhere():
        out = net(torch.ones(N, 2).double())[:, 0]
        return [LossTerm("bias", out + (net[2].bias if rank else 0), 1.0, WORLD * N)]

    try:
        mixing_terms(Objective(elsewhere), affine_layers(net))
    except InvalidArgument as error:
        found["refused"] = str(error)
    torch.save(found, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found():
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(_worker, (folder,), WORLD)
        return [torch.load(Path(folder) / f"rank{r}.pt") for r in range(WORLD)]


def test_both_ranks_take_the_exact_jacobian_of_all_rows(found):
    net, rows, values = network(), [], []
    for rank in range(WORLD):
        for r in (2 * 0.7 / (WORLD * N)) ** 0.5 * residual(net, rank):
            grads = torch.autograd.grad(r, list(net.parameters()), retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
            values.append(r.detach())
    j, r = torch.stack(rows), torch.stack(values)
    system = j @ j.t() + 1e-3 * torch.eye(len(j), dtype=torch.float64)
    wanted = -j.t() @ torch.linalg.solve(system, r)
    for one in found:
        got = torch.cat([d.flatten() for d in one["direction"]])
        assert torch.allclose(got, wanted, rtol=1e-8, atol=1e-10)
        assert one["told"]


def test_means_are_over_the_points_of_all_ranks(found):
    for one in found:
        assert one["counts"] == {"interior": 10, "wall": 3, "fixed": 6}
    alone = CollocationData(problem=Rejected(dim=2), points=5, condition_points=9).batch(0)
    assert alone.counts == {"interior": 5, "wall": 1, "fixed": 3}


def test_a_refusal_reaches_every_rank(found):
    assert all("layer '2', whose weight or bias" in one["refused"] for one in found)
