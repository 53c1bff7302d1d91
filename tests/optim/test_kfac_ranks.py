"""K-FAC and MKOR on two and three ranks against one process on the joined batch."""

import copy
import math
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from sciml.autodiff.estimators import Exact
from sciml.data.collocation import CollocationBatch, CollocationData
from sciml.modules.sdgd_pinn import SDGDPINN
from sciml.networks.pointwise.mlp import MLP
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.kronecker.factors import factor_sizes
from sciml.optim.kronecker.kfac import KFAC
from sciml.optim.kronecker.mkor import MKOR
from sciml.optim.placement import Placement
from sciml.physics.problems.poisson_box import PoissonBox
from sciml.testing.ranks import run_ranks

torch.set_num_threads(1)
F64 = torch.float64
STEPS, POINTS, BOUNDARY = 5, 11, 5  # neither divides by two or three


def share(n, rank, world):
    """Return this rank's slice of n samples; shares differ by one where they must."""
    size = math.ceil(n / world)
    return slice(rank * size, min((rank + 1) * size, n))


def physics(rank, world):
    torch.manual_seed(0)
    problem = PoissonBox(dim=2)
    module = SDGDPINN(
        problem=problem,
        network=MLP(dim=2, width=6, depth=3),
        estimator=Exact(),
        optimizer=torch.optim.SGD,
        inputs=("x",),
    ).double()
    b = CollocationData(problem=problem, points=POINTS, condition_points=BOUNDARY).batch(0, 0, 1)
    points = b.points.to(F64)[share(POINTS, rank, world)]
    conditions = {name: q.to(F64)[share(BOUNDARY, rank, world)] for name, q in b.conditions.items()}
    batch = CollocationBatch(points, conditions, b.streams, b.counts)
    return module.trial, lambda: module.loss_terms(batch)


def supervised(rank, world):
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, groups=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(20, 7),
        nn.Tanh(),
        nn.Linear(7, 3),
    ).double()
    mine = share(7, rank, world)
    x = torch.randn(7, 2, 5, dtype=F64)[mine]
    target = torch.tensor([0, 1, 2, 0, 1, 2, 2])[mine]
    return net, lambda: [LossTerm("class", net(x), 1.0, 7, "categorical", target)]


PLACES = ("comm", "hybrid", "mem")
CASES = {
    f"{name} {place}": (setup, lambda m, p=place, o=options: KFAC(m, grad_worker_fraction=p, **o))
    for place in PLACES
    for name, setup, options in (
        ("star", physics, {"step": "quadratic", "inverse": "same", "start": 1.0}),
        ("clip", supervised, {"curvature_every": 2, "inverse_every": 2, "kl_clip": 0.1}),
    )
}
CASES |= {
    "search": (physics, lambda m: KFAC(m, step="line_search", inverse="same", adapt_every=2)),
    "ekfac": (supervised, lambda m: KFAC(m, ekfac=True, sharing="trace")),
    "mkor": (physics, lambda m: MKOR(m, statistic="mean", curvature_every=2)),
}


def run(name, rank, world, steps=STEPS, state=None, save=None):
    """Return network and optimizer after some steps; call `save` with both after STEPS."""
    setup, make = CASES[name]
    net, terms = setup(rank, world)
    optimizer = make(net)
    if state is not None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
    for _ in range(steps):
        objective = Objective(terms, step=optimizer.steps)
        if optimizer.due():
            optimizer.update_curvature(objective)
        loss = sum(t.loss() for t in objective.terms())
        optimizer.zero_grad()
        loss.backward()
        for p, g in zip(
            optimizer.treated, objective.sum([p.grad for p in optimizer.treated]), strict=True
        ):
            p.grad = g
        optimizer.step()
        objective.forget()
        if save is not None and optimizer.steps == STEPS:
            save(net, optimizer)
    return net, optimizer


def _rank(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    out = {}
    for name in CASES:

        def save(net, optimizer, name=name):
            held = len(optimizer.memory.get("bases", {}))
            if isinstance(optimizer, KFAC):
                optimizer.consolidate_state_dict()
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
            numbers = optimizer.statistics()
            out[name] = copy.deepcopy({**state, "held": held, "numbers": numbers})

        net, _ = run(name, rank, world, STEPS + 3, save=save)
        out[name]["straight"] = net.state_dict()
        saved = [out[name]]  # on from what rank 0 saved
        dist.broadcast_object_list(saved, 0)
        out[name]["on"] = run(name, rank, world, 3, saved[0])[0].state_dict()
    torch.save(out, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request):
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(_rank, (request.param, folder), request.param)
        return [torch.load(Path(folder) / f"{r}.pt") for r in range(request.param)]


def close(a, b):
    for key in a:
        assert (a[key] - b[key]).norm() <= 1e-12 * b[key].norm(), key


def test_ranks_equal_one_process_on_the_joined_batch(ranks):
    for name in CASES:
        net, optimizer = run(name, 0, 1)
        whole = net.state_dict()
        for rank in ranks:
            close(rank[name]["net"], whole)
            for group, layers in optimizer.memory.get("factors", {}).items():
                for layer, pair in layers.items():
                    found = rank[name]["optimizer"]["memory"]["factors"][group][layer]
                    for m, expected in zip(found, pair, strict=True):
                        assert (m - expected).norm() <= 1e-12 * expected.norm()
        on = run(name, 0, 1, 3, ranks[0][name])[0].state_dict()  # a saved state on fewer ranks
        close(on, ranks[0][name]["straight"])


def test_ranks_end_with_the_same_numbers(ranks):
    for name in CASES:
        for rank in ranks[1:]:
            for key, value in rank[name]["net"].items():
                assert torch.equal(value, ranks[0][name]["net"][key])


def test_saved_states_continue_as_if_never_interrupted(ranks):
    for name in CASES:
        for rank in ranks:
            for key, value in rank[name]["straight"].items():
                assert torch.equal(value, rank[name]["on"][key])


def test_placements_keep_what_they_say_and_messages_have_the_size_of_the_formula(ranks):
    world = len(ranks)
    for name in ("star", "clip"):
        layers = run(f"{name} comm", 0, 1)[1].layers
        total = {p: sum(rank[f"{name} {p}"]["held"] for rank in ranks) for p in PLACES}
        assert total["comm"] == world * len(layers) and total["mem"] == len(layers)
        if world == 3:
            assert len(layers) < total["hybrid"] < 3 * len(layers)
        for p in PLACES:  # complete on rank 0
            assert len(ranks[0][f"{name} {p}"]["optimizer"]["memory"]["bases"]) == len(layers)
            size = 0
            for layer in layers.values():
                groups, o, k = factor_sizes(layer)
                size += groups * (o * (o + 1) // 2 + k * (k + 1) // 2 + 1)
            pairs = 2 if name == "star" else 1
            assert ranks[0][f"{name} {p}"]["numbers"]["traffic"] == pairs * size


def test_layers_are_dealt_out_by_cost():
    costs = {"a": 1.0, "b": 8.0, "c": 2.0, "d": 8.0, "e": 4.0}
    place = Placement(costs, 1.0, 0, 1)
    assert set(place.owner.values()) == {0} and place.holds("a") and place.columns == [[0]]
    assert place.owned() == list(costs)
