"""The operator on clouds of points: against loops, its structure, exact cases, derivatives."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.elliptic.wos_fno import FADE, RAMP
from sciml.networks.elliptic.wos_gino import CORE, POWERS, SPREAD, WosGINO


def network(**options):
    torch.manual_seed(0)
    net = WosGINO(
        **{"nodes": 12, "width": 5, "modes": 3, "layers": 2, "hidden": 7, **options}
    ).double()
    with torch.no_grad():  # gates of size 1, so that what is learned matters
        net.domain[-1].weight.normal_(0, 4)
    return net


def cloud(count=2, inner=40, outer=60, g=None, f=None, even=True):
    """Points in the unit disk and on its circle."""
    generator = torch.Generator().manual_seed(1)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    angle = 2 * math.pi * uniform(count, inner)
    r = uniform(count, inner).sqrt() * 0.98
    t = 2 * math.pi * (torch.arange(outer, dtype=torch.float64) / outer).expand(count, -1)
    t = t if even else t + 0.9 * torch.sin(t)
    points = torch.cat(
        [torch.stack([r * angle.cos(), r * angle.sin()], 2), torch.stack([t.cos(), t.sin()], 2)], 1
    )
    x, y = points.unbind(2)
    return {
        "points": points,
        "boundary": uniform(count, inner + outer) if g is None else g(x, y),
        "distance": (points.square().sum(2).sqrt() - 1).clamp_max(0),
        "source": uniform(count, inner + outer) if f is None else f(x, y),
    }


def spline(s):
    s = abs(s)
    return 2 / 3 - s**2 + s**3 / 2 if s < 1 else max(0.0, 2 - s) ** 3 / 6


@pytest.mark.parametrize("lift", [True, False])
def test_against_loops(lift):
    """Node by node and point by point, all of them looked at."""
    net, given = network(lift=lift, nodes=8), cloud(1, 20, 15)
    n, step = 8, 3 / 7
    x, g, f = given["points"][0], given["boundary"][0], given["source"][0]
    edge = [k for k in range(35) if given["distance"][0, k] > -1e-6]
    inner = [k for k in range(35) if k not in edge]
    assert len(edge) == 15
    axis = torch.linspace(-1.5, 1.5, n, dtype=torch.float64)
    nodes = [torch.stack([a, b]) for a in axis for b in axis]

    def weight(point, node):
        return spline(float(point[0] - node[0]) / step) * spline(float(point[1] - node[1]) / step)

    def at(values, point):
        return sum(weight(point, y) * value for y, value in zip(nodes, values, strict=True))

    amount = [sum(weight(x[k], y) for k in inner) for y in nodes]
    mean_f = [
        sum(weight(x[k], y) * f[k] for k in inner) / max(m, 1e-4)
        for y, m in zip(nodes, amount, strict=True)
    ]
    v, smooth = [torch.zeros(())] * n**2, None
    if lift:
        fine = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 - 0.5
        own = -torch.hypot(fine[:, None], fine).log().mean() - math.log(step)

        def potential(a, b):
            r = (a - b).norm()
            return (own if r < 1e-9 else -r.log()) * step**2 / (2 * math.pi)

        v = [sum(potential(a, b) * s for b, s in zip(nodes, mean_f, strict=True)) for a in nodes]
        grid = torch.stack(v).view(n, n)
        near = torch.arange(n)
        up, down = (near + 1).clamp_max(n - 1), (near - 1).clamp_min(0)
        bend = grid[up] + grid[down] + grid[:, up] + grid[:, down] - 4 * grid
        smooth = (grid - bend / 6).flatten()
    length = []
    for k in edge:
        near = sum(math.exp(-(float((x[k] - x[b]).norm() / SPREAD) ** 2)) for b in edge)
        length.append(SPREAD * math.sqrt(math.pi) / near)
    h = [g[k] - (at(smooth, x[k]) if lift else 0) for k in edge]
    c = sum(a * s for a, s in zip(h, length, strict=True)) / sum(length)
    h = [a - c for a in h]

    def total(point, p, values):
        return sum(
            value * s * ((point - x[k]).square().sum() + CORE**2) ** (-p / 2)
            for k, s, value in zip(edge, length, values, strict=True)
        )

    one = [1.0] * len(edge)
    z, gates = [], []
    level = sum(v) / len(v)
    for k, y in enumerate(nodes):
        around = [total(y, p, one) for p in POWERS]
        means = [total(y, p, h) / s for p, s in zip(POWERS, around, strict=True)]
        d = math.pi / around[1]
        normal = sum(
            s * (y - x[b]) * ((y - x[b]).square().sum() + CORE**2) ** -2
            for b, s in zip(edge, length, strict=True)
        )
        normal = (normal * 2 / math.pi * d**2).clamp(-2, 2)
        fade, inside = torch.exp(-d / FADE), amount[k] / (amount[k] + 1)
        room = [
            a.log() + (p - 1) * torch.log(d + step) for a, p in zip(around, POWERS, strict=True)
        ]
        known = [torch.exp(-d / RAMP), torch.exp(-d / 0.4), torch.tensor(inside)]
        known += [(normal.norm() - 1) * fade, *room, *(normal * fade)]
        gates.append(net.domain(torch.stack([a.double() for a in known])).view(4, 5))
        data = [mean_f[k] / 4]
        if lift:
            data += [means[0] - means[1], means[2] - means[1], means[1], v[k] - level]
        read = sum(
            weight(x[b], y) * a * s / step * net.read((x[b] - y) / step)
            for b, a, s in zip(edge, h, length, strict=True)
        )
        z.append(gates[-1][0] * (net.enter @ (torch.stack(data) * inside) + read))
    z = torch.stack(z)
    gates = torch.stack(gates)
    for k in range(2):
        moved = net.spectral[k](z.T.reshape(1, 5, n, n)).view(5, -1).T
        z = z + gates[:, k + 1] * (z @ net.mix[k].T + moved)
    z = z * gates[:, -1]
    exact, guess = [], []
    for point in x:
        base = c
        if lift:
            base = base + at(smooth, point) + total(point, 2, h) / total(point, 2, one)
        learned = sum(
            weight(point, y) * (net.write((point - y) / step) @ a)
            for y, a in zip(nodes, z, strict=True)
            if weight(point, y)
        ) / math.sqrt(5)
        t = 1 - torch.exp(-math.pi / total(point, 2, one) / RAMP) if lift else 1.0
        guess.append(base)
        exact.append(base + t * learned)
    assert torch.allclose(net.first_guess(**given)[0], torch.stack(guess), atol=1e-7, rtol=1e-7)
    assert torch.allclose(net(**given)[0], torch.stack(exact), atol=1e-5, rtol=1e-7)
    assert (net(**given)[0] - torch.stack(guess)).abs().max() > 0.01


def test_problems_of_a_batch_do_not_see_each_other():
    """Also with other numbers of boundary points."""
    net, given = network(), cloud()
    given["distance"][0, 45:60] = -0.5
    alone = net(**{k: v[1:] for k, v in given.items()})
    assert torch.allclose(net(**given)[1:], alone, atol=1e-10, rtol=1e-12)


def test_order_of_points_does_not_matter():
    net, given = network(), cloud()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    mixed = net(**{k: v[:, order] for k, v in given.items()})
    assert torch.allclose(net(**given)[:, order], mixed, atol=1e-10, rtol=1e-12)


@pytest.mark.parametrize("lift", [True, False])
def test_superposition_and_constants(lift):
    net, a = network(lift=lift), cloud()
    b = {**a, "boundary": a["boundary"].flip(0) ** 2, "source": a["source"].flip(0) - 0.5}
    mixed = {**a, **{k: 2 * a[k] - 3 * b[k] for k in ("boundary", "source")}}
    assert torch.allclose(net(**mixed), 2 * net(**a) - 3 * net(**b), atol=1e-10, rtol=1e-12)
    constant = {**a, "boundary": 0 * a["boundary"] + 2.5, "source": 0 * a["source"]}
    assert torch.allclose(
        net(**constant), torch.full_like(a["source"], 2.5), atol=1e-11, rtol=1e-12
    )


def test_boundary_values_hold_whatever_is_learned():
    net, given = network(), cloud(outer=200, g=lambda x, y: x**2 + y)
    error = (net(**given) - given["boundary"])[:, 40:].abs().max()
    assert error < 0.01


@pytest.mark.parametrize("even", [True, False])
def test_the_first_guess_in_a_disk(even):
    """Re z^k, and 1 - |x|^2 with source 4, also with points crowded on one side (19 to 1)."""
    net = network(nodes=32)
    for k in range(4):

        def power(x, y, k=k):
            return (torch.complex(x, y) ** k).real

        given = cloud(1, 60, 500, power, lambda x, y: 0 * x, even)
        error = (net.first_guess(**given) - given["boundary"]).abs().max()
        assert error < (0.02 if even else 0.06)
    given = cloud(1, 600, 500, lambda x, y: 0 * x, lambda x, y: 4 + 0 * x, even)
    exact = 1 - given["points"].square().sum(2)
    assert (net.first_guess(**given) - exact).abs().max() < (0.03 if even else 0.04)


def test_two_derivatives_in_the_query_points():
    net, given = network(), cloud()
    query = (0.8 * given["points"][:, :5]).clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(**given, query=query).sum(), query, create_graph=True)
    (second,) = torch.autograd.grad(slope[..., 0].sum(), query)
    h = 1e-4 * torch.tensor([1.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        u = [net(**given, query=query + k * h) for k in (-1, 0, 1)]
    assert torch.allclose((u[2] - u[0]) / 2e-4, slope[..., 0], atol=1e-5, rtol=1e-5)
    bend = (u[2] - 2 * u[1] + u[0]) / 1e-8
    assert torch.allclose(bend, second[..., 0], atol=1e-3, rtol=1e-3)


def test_refusals():
    with pytest.raises(InvalidArgument, match="from 8 to 4096"):
        network(nodes=6)
    given = cloud()
    given["distance"] = given["distance"] - 0.1
    with pytest.raises(InvalidArgument, match="without boundary points"):
        network()(**given)
