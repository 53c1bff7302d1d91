"""The U-Net on point clouds: its grid against loops by hand, and what does not matter to it."""

import math

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.fields import CloudUNet

NODES = 6


def made(dim=2, features=1, **sizes):
    clouds = {
        "points": "p", "features": ["a"][:features], "widths": [1] * features, "output": "u",
        "dim": dim, "channels": features, "out_channels": 2, "low": [-1.0] * dim,
        "high": [3.0] * dim, "mean": [0.5] * features, "std": [2.0] * features,
        "out_mean": [1.0, -1.0], "out_std": [3.0, 0.5],
    }  # fmt: skip
    torch.manual_seed(0)
    sizes = {"nodes": NODES, "width": 4, "levels": 2, "hidden": 8} | sizes
    return CloudUNet(clouds, **sizes).double()


def cloud(batch=2, points=20, dim=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    p = 4 * torch.rand(batch, points, dim, generator=draw, dtype=torch.float64) - 1
    return {"p": p, "a": torch.randn(batch, points, 1, generator=draw, dtype=torch.float64)}


def corners(at):
    """Return the nodes around a point in cells of the grid, and their weights, one by one."""
    first = [min(int(math.floor(v)), NODES - 2) for v in at]
    for number in range(2 ** len(at)):
        bits = [number >> k & 1 for k in range(len(at))]
        share = [v - f if b else 1 - (v - f) for v, f, b in zip(at, first, bits, strict=True)]
        yield tuple(f + b for f, b in zip(first, bits, strict=True)), math.prod(share)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_nodes_know_what_a_loop_over_points_says(dim):
    network, held = made(dim), cloud(1, 20, dim)
    seen = {}
    network.enter.register_forward_pre_hook(lambda module, given: seen.update(z=given[0][0]))
    network(**held)
    place = ((held["p"][0] + 1) / 4).numpy()
    at, a = 1 + place * (NODES - 3), ((held["a"][0, :, 0] - 0.5) / 2).numpy()
    mass, sums = np.zeros([NODES] * dim), np.zeros([NODES] * dim)
    for point, value in zip(at, a, strict=True):
        for node, weight in corners(point):
            mass[node] += weight
            sums[node] += weight * value
    np.testing.assert_allclose(seen["z"][0], sums / (mass + 1e-2), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(seen["z"][1], np.log1p(mass * NODES**dim / 20), rtol=1e-6, atol=1e-9)
    for node in np.ndindex(*[NODES] * dim):
        away = np.linalg.norm(at - np.array(node), axis=1)
        k = away.argmin()
        z = seen["z"][(slice(None), *node)].numpy()
        centre = 2 * np.array(node) / (NODES - 1) - 1
        np.testing.assert_allclose(z[2 : 2 + dim], centre, rtol=0, atol=1e-7)
        np.testing.assert_allclose(z[2 + dim], a[k], rtol=1e-6)
        np.testing.assert_allclose(z[3 + dim], away[k] / 4, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(z[4 + dim :], (at[k] - node) / 4, rtol=1e-5, atol=1e-7)


def test_points_take_the_grid_between_nodes():
    network, held = made(), cloud(1, 20)
    seen = {}
    network.up[-1].register_forward_hook(lambda module, given, found: seen.update(z=found[0]))
    network.leave.register_forward_pre_hook(lambda module, given: seen.update(rows=given[0][0]))
    network(**held)
    at = 1 + (held["p"][0] + 1) / 4 * (NODES - 3)
    for k, point in enumerate(at.tolist()):
        wanted = sum(weight * seen["z"][:, *node] for node, weight in corners(point))
        torch.testing.assert_close(seen["rows"][k, :4], wanted, rtol=1e-10, atol=1e-12)


def test_order_of_points_and_company_in_a_batch_do_not_matter():
    network, held = made(), cloud(3, 25)
    whole = network(**held)
    order = torch.randperm(25)
    turned = network(**{name: value[:, order] for name, value in held.items()})
    torch.testing.assert_close(turned, whole[:, order], rtol=1e-9, atol=1e-10)
    alone = network(**{name: value[1:2] for name, value in held.items()})
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-9, atol=1e-10)


def test_every_point_twice_is_the_same_cloud():
    network, held = made(), cloud(1, 25)
    twice = network(**{name: torch.cat([value, value], 1) for name, value in held.items()})
    # but for the floor under the weights
    torch.testing.assert_close(twice[:, :25], network(**held), rtol=0.05, atol=0.05)


def test_scales_are_those_of_the_training():
    network, held = made(), cloud(1, 25)
    for module in network.leave:
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    wanted = torch.tensor([1.0, -1.0], dtype=torch.float64).expand(1, 25, 2)
    torch.testing.assert_close(network(**held), wanted, rtol=0, atol=1e-12)


def test_gradients_of_features_and_weights_are_exact():
    network, held = made(levels=1), cloud(1, 6)
    held["a"].requires_grad_(True)
    assert torch.autograd.gradcheck(lambda a: network(p=held["p"], a=a), (held["a"],), atol=1e-6)


def test_points_far_out_are_finite_and_search_in_parts_is_the_search(monkeypatch):
    network, held = made(), cloud(2, 25)
    before = network(**held)
    monkeypatch.setattr("sciml.networks.fields.cloud_unet.AT_ONCE", 100)
    torch.testing.assert_close(network(**held), before, rtol=0, atol=0)
    held["p"] = held["p"] * 100
    assert torch.isfinite(network(**held)).all()


@pytest.mark.parametrize("wrong", [{"nodes": 3}, {"nodes": 7, "levels": 3}, {"width": 0}])
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(InvalidArgument, match="on the coarsest grid"):
        made(**wrong)
