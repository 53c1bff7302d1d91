"""Potentials on grids against sums over all pairs of nodes, closed forms and SciPy."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import k0, k1

from sciml.networks.elliptic.free_space import INVERSE_MEAN, LOG_MEAN, FreeSpace, convolve
from sciml.networks.spectral.spectral_convolution import SpectralMix

SIZES = {2: (7, 10), 3: (4, 5, 6)}


def field(dim):
    generator = torch.Generator().manual_seed(dim)
    return torch.randn(2, *SIZES[dim], generator=generator, dtype=torch.float64)


def pairs(dim, half):
    """Distances between all nodes `(n, n)`, and the spacing."""
    axes = [torch.linspace(-half, half, n, dtype=torch.float64) for n in SIZES[dim]]
    nodes = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dim)
    return torch.cdist(nodes, nodes, compute_mode="donot_use_mm_for_euclid_dist"), [
        float(axis[1] - axis[0]) for axis in axes
    ]


def test_means_over_the_cell_around_zero():
    """By their closed forms."""
    assert pytest.approx(math.pi / 4 - 1.5 - math.log(2) / 2, abs=1e-7) == LOG_MEAN
    assert pytest.approx(3 * math.log(2 + math.sqrt(3)) - math.pi / 2, abs=1e-7) == INVERSE_MEAN


@pytest.mark.parametrize("dim", [2, 3])
def test_potential_is_the_sum_over_all_cells(dim):
    f, space = field(dim), FreeSpace(dim, 1.5, [1])
    found = convolve(f, space.kernels(f)[0], dim)
    r, spacing = pairs(dim, 1.5)
    cell, own = math.prod(spacing), torch.eye(len(r), dtype=torch.bool)
    edge = cell ** (1 / dim)
    if dim == 2:
        green = torch.where(own, -math.log(edge) - LOG_MEAN, -r.log()) / (2 * math.pi)
    else:
        green = torch.where(own, INVERSE_MEAN / edge, 1 / r) / (4 * math.pi)
    assert torch.allclose(found.flatten(1), f.flatten(1) @ green * cell, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_screened_potential_and_half_space_kernel(dim):
    """One rate per field; the own cell has the mean of G, here nearly that over a ball."""
    f, space, rates = field(dim), FreeSpace(dim, 0.3, [dim]), [1.0, 2.0]
    newton, _, flat = space.kernels(f, torch.tensor(rates, dtype=torch.float64))
    r, spacing = pairs(dim, 0.3)
    cell, width, own = math.prod(spacing), space.layer(f), torch.eye(len(r), dtype=torch.bool)
    far, blurred = r[~own].numpy(), (r**2 + width**2 / 4).sqrt().numpy()
    for i, q in enumerate(rates):
        green = torch.zeros_like(r)
        values = k0(q * far) / 2 if dim == 2 else np.exp(-q * far) / (4 * far)
        green[~own] = torch.as_tensor(values / math.pi)
        own_share = convolve(f, newton, dim)[i].flatten() - green @ f[i].flatten() * cell
        at_zero = own_share / (f[i].flatten() * cell)
        assert at_zero.std() < 1e-7 * at_zero.mean()  # the same in every cell
        assert at_zero.mean() == pytest.approx(mean_over_a_ball(q, cell, dim), rel=0.05)
        z = q * blurred
        kernel = z * k1(z) / blurred**2 if dim == 2 else (1 + z) * np.exp(-z) / blurred**3
        expected = torch.as_tensor(kernel) @ f[i].flatten() * (cell / width)
        assert torch.allclose(convolve(f, flat, dim)[i].flatten(), expected, atol=1e-10, rtol=1e-12)


def mean_over_a_ball(q, cell, dim):
    """Return the mean of G over a ball of a cell's volume, in closed form."""
    if dim == 2:
        a = math.sqrt(cell / math.pi)
        return (1 - q * a * k1(q * a)) / (q * q) / cell
    a = (3 * cell / (4 * math.pi)) ** (1 / 3)
    return (1 - (1 + q * a) * math.exp(-q * a)) / (q * q) / cell


def test_powers_are_sums_over_a_blurred_layer():
    f, space = field(2), FreeSpace(2, 1.5, [1, 4])
    found = convolve(f[:, None], space.kernels(f)[1], 2)
    r, spacing = pairs(2, 1.5)
    width = max(0.11, 1.6 * max(spacing))
    for i, p in enumerate([1, 4]):
        kernel = (r**2 + width**2 / 4) ** (-p / 2) * (math.prod(spacing) / width)
        assert torch.allclose(found[:, i].flatten(1), f.flatten(1) @ kernel, atol=1e-11, rtol=1e-12)


def test_kernels_follow_the_grid_and_survive_copies():
    space, fine, coarse = FreeSpace(2, 1.5, [1]), torch.zeros(1, 12, 12), torch.zeros(1, 8, 8)
    first = space.kernels(fine)[0]
    assert space.kernels(fine)[0] is first
    assert space.kernels(coarse)[0].shape == (16, 9)
    assert space.kernels(fine.double())[0].dtype == torch.complex128
    assert torch.equal(copy.deepcopy(space).kernels(fine)[0], first)


def test_training_goes_on_after_inference_mode():
    space, layer = FreeSpace(2, 1.5, [1]), SpectralMix(1, 2)
    f = torch.randn(1, 8, 8)
    with torch.inference_mode():
        space.kernels(f)
        layer(f[None])
    f.requires_grad_()
    (convolve(f, space.kernels(f)[0], 2) + layer(f[None])[0]).sum().backward()
    assert f.grad.isfinite().all()
