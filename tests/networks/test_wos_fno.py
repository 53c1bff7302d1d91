"""The operator on grids: its structure, exact cases, the spectral layer against FFTs."""

import itertools
import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.networks.spectral.spectral_convolution import SpectralMix

N = 33


def nodes(n=N, half=1.5, dim=2):
    axis = torch.linspace(-half, half, n, dtype=torch.float64)
    return torch.stack(torch.meshgrid([axis] * dim, indexing="ij"))


def disk(g, f=None, n=N, radius=1.0, dim=2):
    """Return inputs for a ball, by its own formulas."""
    x = nodes(n, dim=dim)
    r = x.square().sum(0).sqrt()
    on = x * (radius / r.clamp_min(1e-9))
    source = torch.zeros_like(r) if f is None else f(x)
    return {"sdf": (r - radius)[None], "boundary": g(on)[None], "source": source[None]}


def network(**options):
    torch.manual_seed(0)
    net = WosFNO(**{"width": 6, "modes": 5, "layers": 2, "hidden": 8, **options}).double()
    with torch.no_grad():  # gates of size 1, so that what is learned matters
        net.domain[-1].weight.normal_(0, 4)
    return net


def random_inputs(count=3, n=24):
    g = torch.Generator().manual_seed(1)
    x = nodes(n)
    angle = torch.atan2(x[1], x[0])
    r = x.square().sum(0).sqrt()
    bumps = torch.randn(count, 3, 1, 1, generator=g, dtype=torch.float64)
    sdf = r - 1 - 0.1 * bumps[:, 0].clamp(-1, 1) * torch.cos(3 * angle)
    return {
        "sdf": sdf,
        "boundary": bumps[:, 1] * torch.cos(angle) + bumps[:, 2],
        "source": bumps[:, 0] * torch.exp(-(x - 0.3).square().sum(0)),
    }


# --- structure ------------------------------------------------------------------------------------
def smooth_diffusion(sdf):
    x = nodes(sdf.shape[-1])
    return torch.exp(0.5 * torch.sin(1.5 * x[0] - x[1])).expand_as(sdf)


@pytest.mark.parametrize("coefficients", [(), ("diffusion",)])
def test_superposition(coefficients):
    net, a = network(coefficients=coefficients), random_inputs()
    fixed = {"sdf": a["sdf"]} | {name: smooth_diffusion(a["sdf"]) for name in coefficients}
    a = {**a, **fixed}
    b = {**fixed, "boundary": a["boundary"].flip(0) ** 2, "source": a["source"].flip(0)}
    mixed = {k: v if k in fixed else 2 * v - 3 * b[k] for k, v in a.items()}
    assert torch.allclose(net(**mixed), 2 * net(**a) - 3 * net(**b), atol=1e-11, rtol=1e-12)
    assert net.correction(net.lift(**a)).abs().max() > 0.05  # the learned part is in it


def test_constants_are_exact():
    inputs = random_inputs()
    constant = {
        **inputs,
        "boundary": torch.full_like(inputs["sdf"], 2.5),
        "source": 0 * inputs["sdf"],
    }
    assert torch.allclose(
        network()(**constant), torch.full_like(inputs["sdf"], 2.5), atol=1e-11, rtol=1e-12
    )
    constant["diffusion"] = smooth_diffusion(inputs["sdf"])
    found = network(coefficients=["diffusion"])(**constant)
    assert torch.allclose(found, torch.full_like(inputs["sdf"], 2.5), atol=1e-11, rtol=1e-12)


def test_boundary_values_hold_whatever_is_learned():
    def g(x):
        return x[0] ** 2 + x[1]

    t = torch.linspace(0, 6, 50, dtype=torch.float64)
    points = torch.stack([t.cos(), t.sin()], 1)[None]
    one, other = (
        net.at(points, torch.zeros(1, 50), **disk(g, n=97)) for net in (network(), network(width=8))
    )
    assert torch.allclose(one, other, atol=1e-12, rtol=1e-12)
    assert (one[0] - g(points[0].T)).abs().max() < 0.01


def test_values_at_nodes_are_those_of_the_grid():
    inputs = random_inputs()
    points = nodes(24).flatten(1).T.expand(3, -1, -1)
    net = network()
    found = net.at(points, inputs["sdf"].flatten(1), **inputs)
    assert torch.allclose(found, net(**inputs).flatten(1), atol=1e-11, rtol=1e-12)


def test_a_domain_may_lie_anywhere():
    """Moved by whole cells, the solution moves with it."""
    inputs, net = random_inputs(n=40), network()
    small = {k: v.clone() for k, v in inputs.items()}
    small["sdf"] = nodes(40).square().sum(0).sqrt()[None].expand(3, -1, -1) - 0.8
    small["boundary"] = 1 + 0.3 * inputs["boundary"]
    moved = {k: v.roll((4, -3), (1, 2)) for k, v in small.items()}
    one, other = net(**small).roll((4, -3), (1, 2)), net(**moved)
    inside = moved["sdf"] < 0
    # what was moved in from the other side is far from the boundary, but the gates see it
    error = (one - other)[inside].abs().max() / (one - net.first_guess(**moved))[inside].abs().max()
    assert error < 0.05


# --- the first guess ------------------------------------------------------------------------------
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_the_first_guess_solves_laplaces_equation_in_a_disk(k):
    """Re z^k. The boundary is a layer blurred by 0.055: as if it were that much farther away."""
    x = nodes(97)
    z = torch.complex(x[0], x[1])
    found = network().first_guess(**disk(lambda on: (torch.complex(on[0], on[1]) ** k).real, n=97))
    inside = x.square().sum(0) < 0.9
    error = (found[0] - (z**k).real)[inside].abs().max()
    assert error < 0.035 * k + 0.001


def test_the_first_guess_has_the_right_source():
    """Lap u = -4 in the unit disk with u = 0 outside: 1 - |x|^2."""
    found = network().first_guess(
        **disk(lambda on: 0 * on[0], lambda x: torch.full_like(x[0], 4.0), n=97)
    )
    x = nodes(97)
    r2 = x.square().sum(0)
    assert (found[0] - (1 - r2))[r2 < 0.9].abs().max() < 0.04


def test_the_first_guess_with_diffusion():
    """Where sqrt(alpha) is harmonic, so is sqrt(alpha) u."""

    def root(x):
        return torch.exp(0.8 * x[0]) * torch.cos(0.8 * x[1])

    def u(x):
        return x[0] / root(x)

    x = nodes(97)
    inputs = {**disk(u, n=97), "diffusion": root(x)[None] ** 2}
    inside = x.square().sum(0) < 0.9
    found, ignored = (
        ((net.first_guess(**inputs)[0] - u(x)) * root(x))[inside].abs().max()
        for net in (network(coefficients=["diffusion"]), network())
    )
    assert found < 0.08
    assert ignored > 5 * found


def test_the_first_guess_in_three_dimensions():
    """Lap u = -6 in the unit ball: 1 - |x|^2, and a linear function."""
    net = network(dim=3, modes=3)
    found = net.first_guess(
        **disk(lambda on: on[2], lambda x: torch.full_like(x[0], 6.0), n=41, dim=3)
    )
    x = nodes(41, dim=3)
    r2 = x.square().sum(0)
    assert (found[0] - (1 - r2 + x[2]))[r2 < 0.8].abs().max() < 0.08


# --- the spectral layer ---------------------------------------------------------------------------
@pytest.mark.parametrize("sizes", [(12, 15), (8, 9, 10)])
def test_spectral_layer_against_a_full_fft(sizes):
    d, m = len(sizes), 3
    torch.manual_seed(0)
    layer = SpectralMix(2, m, d).double()
    z = torch.randn(3, 2, *sizes, dtype=torch.float64)
    axes = tuple(range(2, 2 + d))
    whole = torch.fft.rfftn(z, dim=axes)
    kept = torch.zeros_like(whole)
    weight = torch.view_as_complex(layer.weight).view(*[2 * m] * (d - 1), m, 2, 2)
    wave = [*range(m), *range(-m, 0)]
    for index in itertools.product(range(2 * m), repeat=d - 1):
        for last in range(m):
            at = (..., *(wave[i] for i in index), last)
            kept[at] = whole[at] @ weight[(*index, last)]
    assert torch.allclose(
        layer(z), torch.fft.irfftn(kept, s=sizes, dim=axes), atol=1e-12, rtol=1e-12
    )


def test_spectral_layer_does_not_depend_on_the_grid():
    layer = SpectralMix(1, 3).double()

    def field(n):
        t = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
        return (t.cos()[:, None] + torch.sin(2 * t)[None, :] + t.sin()[:, None] * t.cos())[
            None, None
        ]

    assert torch.allclose(layer(field(24))[..., ::2, ::2], layer(field(12)), atol=1e-12, rtol=1e-12)


def test_refusals():
    with pytest.raises(InvalidArgument, match="at least 10 points"):
        SpectralMix(1, 5)(torch.zeros(1, 1, 8, 12))
    with pytest.raises(InvalidArgument, match="2 or 3"):
        WosFNO(dim=4)
    with pytest.raises(InvalidArgument, match="conductivity"):
        WosFNO(coefficients=["conductivity"])
    with pytest.raises(InvalidArgument, match="no diffusion"):
        network(coefficients=["diffusion"])(**random_inputs())


@pytest.mark.parametrize("dim", [2, 3])
def test_the_first_guess_with_screening_against_radial_solutions(dim):
    """Lap u = 9 u with u = 1 on the unit sphere, I_0(3 r) / I_0(3) or sinh(3 r) / (r sinh 3)."""
    n = {2: 97, 3: 41}[dim]
    net = network(dim=dim, modes=3, coefficients=["screening"])
    inputs = disk(lambda on: 1 + 0 * on[0], n=n, dim=dim)
    inputs["screening"] = torch.full_like(inputs["sdf"], 9.0)
    r = nodes(n, dim=dim).square().sum(0).sqrt().clamp_min(1e-6)
    three = torch.tensor(3.0, dtype=torch.float64)
    exact = (
        torch.special.i0(3 * r) / torch.special.i0(three)
        if dim == 2
        else torch.sinh(3 * r) / (r * torch.sinh(three))
    )
    inside = r < 0.9
    found = net.first_guess(**inputs)[0]
    assert (found - exact)[inside].abs().max() < 0.16  # exact in a half-space, not in a ball
    # constant source, no boundary values far away: u = f / sigma in the middle of a large domain
    wide = disk(lambda on: 0 * on[0], lambda x: torch.full_like(x[0], 18.0), n, 1.3, dim)
    wide["screening"] = torch.full_like(wide["sdf"], 36.0)
    middle = net.first_guess(**wide)[0][(n // 2,) * dim]
    assert middle == pytest.approx(0.5, abs=0.02)
