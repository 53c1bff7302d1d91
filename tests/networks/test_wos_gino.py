"""The operator on clouds of points: sums over neighbours, invariances, derivatives."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.wos_gino import WosGINO


def network(**options):
    torch.manual_seed(0)
    return WosGINO(
        **{"nodes": 12, "width": 5, "modes": 3, "layers": 2, "hidden": 7, **options}
    ).double()


def cloud(count=2, points=30):
    g = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x = 0.5 * normal(count, points, 2)
    return {
        "points": x.clamp(-1.3, 1.3),
        "boundary": normal(count, points),
        "distance": -normal(count, points).abs(),
        "source": normal(count, points),
    }


def test_sums_over_neighbours_against_loops():
    """Grid nodes one by one, all points looked at; and back at the points."""
    net, given = network(), cloud(1, 20)
    axis = torch.linspace(-1.5, 1.5, 12, dtype=torch.float64)
    nodes = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    g, f = given["boundary"][0], given["source"][0]
    mean = g.mean()
    size = (g.var() + f.square().mean() / 16 + 1e-6).sqrt()
    rows = torch.stack([(g - mean) / size, given["distance"][0], f / size / 4], 1)

    def near(x, y):
        offset = (x - y) / net.radius
        return offset, (1 - offset.square().sum()).clamp_min(0) ** 3

    v = []
    for y in nodes:
        total, amount = torch.zeros(5, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for x, row in zip(given["points"][0], rows, strict=True):
            offset, w = near(x, y)
            total, amount = total + w * net.read(torch.cat([offset, row])), amount + w
        v.append(net.lift(torch.cat([total / amount.clamp_min(1e-3), amount.log1p()])))
    v = torch.stack(v).view(1, 12, 12, 5).movedim(-1, 1)
    for mix, spectral in zip(net.mix, net.spectral, strict=True):
        v = v + torch.nn.functional.gelu(mix(v) + spectral(v))
    v = v.movedim(1, -1).reshape(-1, 5)
    exact = []
    for x in given["points"][0]:
        total, amount = torch.zeros(5, dtype=torch.float64), 0.0
        for y, value in zip(nodes, v, strict=True):
            offset, w = near(x, y)
            total, amount = total + w * value * net.write(offset), amount + w
        exact.append(mean + size * net.decode(total / amount)[0])
    assert torch.allclose(net(**given)[0], torch.stack(exact), atol=1e-10)


def test_problems_of_a_batch_do_not_see_each_other():
    net, given = network(), cloud()
    alone = net(**{k: v[1:] for k, v in given.items()})
    assert torch.allclose(net(**given)[1:], alone, atol=1e-12)


def test_order_of_points_does_not_matter():
    net, given = network(), cloud()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    mixed = net(**{k: v[:, order] for k, v in given.items()})
    assert torch.allclose(net(**given)[:, order], mixed, atol=1e-12)


def test_scale_and_shift_of_the_data():
    net, given = network(), cloud()
    scaled = {**given, "boundary": 3 * given["boundary"] + 2, "source": 3 * given["source"]}
    assert torch.allclose(net(**scaled), 3 * net(**given) + 2, atol=1e-4)


def test_two_derivatives_in_the_query_points():
    net, given = network(), cloud()
    query = given["points"][:, :5].clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(**given, query=query).sum(), query, create_graph=True)
    (second,) = torch.autograd.grad(slope[..., 0].sum(), query)
    h = 1e-4 * torch.tensor([1.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        u = [net(**given, query=query + k * h) for k in (-1, 0, 1)]
    assert torch.allclose((u[2] - u[0]) / 2e-4, slope[..., 0], atol=1e-5)
    assert torch.allclose((u[2] - 2 * u[1] + u[0]) / 1e-8, second[..., 0], atol=1e-4, rtol=1e-3)


def test_refusals():
    with pytest.raises(InvalidArgument, match="at least 1 cell"):
        network(radius=0.5)
