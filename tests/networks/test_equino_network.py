"""Branches: tangent, zero strain, linear skip; the periodic trunk."""

import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.networks.cells.equino_law import Branch, EquiNO
from sciml.networks.cells.vpionet_law import PeriodicFeatures, VPIONet

F64 = {"dtype": torch.float64}


def strains(count=6, seed=0):
    return 0.02 * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), **F64)


def made(**options):
    torch.manual_seed(0)
    network = EquiNO(modes=5, width=12, depth=3, **options).double()
    network.means.copy_(torch.randn(5, 3, **F64))
    network.branch.skip.copy_(torch.randn(5, 3, **F64))
    network.branch.scale.copy_(torch.rand(5, **F64))
    return network


@pytest.mark.parametrize("options", [{}, {"odd": True}, {"linear": False}, {"anchor": False}])
def test_tangent_is_the_derivative_of_the_stress(options):
    network, e = made(**options), strains()
    stress, tangent = network.stress_and_tangent(e)
    assert torch.allclose(stress, network(e), rtol=1e-12, atol=1e-13)
    by_torch = torch.stack([torch.autograd.functional.jacobian(network, row) for row in e])
    assert torch.allclose(tangent, by_torch, rtol=1e-10, atol=1e-11)
    for j in range(3):
        step = 1e-6 * torch.eye(3, **F64)[j]
        slope = (network(e + step) - network(e - step)) / 2e-6
        assert torch.allclose(tangent[:, :, j], slope, rtol=1e-6, atol=1e-7)


def test_zero_strain_has_no_stress_and_a_finite_tangent():
    network = made()
    stress, tangent = network.stress_and_tangent(torch.zeros(2, 3, **F64))
    assert (stress == 0).all()
    assert tangent.isfinite().all()
    zero = torch.zeros(1, 3, requires_grad=True, **F64)
    network(zero).sum().backward()
    assert zero.grad.isfinite().all()
    # without anchoring it does not vanish
    free = EquiNO(modes=5, width=12, depth=3, anchor=False).double()
    assert (free(torch.zeros(1, 3, **F64)) != 0).any()


def test_odd_laws_are_odd_to_the_last_bit():
    network, e = made(odd=True), strains()
    stress, tangent = network.stress_and_tangent(e)
    other, same = network.stress_and_tangent(-e)
    assert torch.equal(stress, -other) and torch.equal(tangent, same)
    assert (network(torch.zeros(1, 3, **F64)) == 0).all()
    even = made()
    assert not torch.allclose(even(e), -even(-e), rtol=1e-2)


def test_symmetric_part_is_asked_for():
    network, e = made(), strains()
    exact = network.stress_and_tangent(e)[1]
    symmetric = network.stress_and_tangent(e, symmetric=True)[1]
    assert torch.equal(symmetric, symmetric.mT)
    assert torch.allclose(symmetric, (exact + exact.mT) / 2, rtol=1e-14, atol=0)


def test_the_skip_is_the_linear_law():
    """Coefficients that are linear are learned before the first step."""
    torch.manual_seed(0)
    branch = Branch(modes=4, width=8, depth=1).double()
    law = torch.randn(3, 4, **F64)
    e = strains(30)
    branch.standardise(e, e @ law)
    assert torch.allclose(branch.skip, law.T, rtol=1e-9, atol=1e-9)
    assert torch.allclose(branch(e), e @ law, rtol=1e-6, atol=1e-8)


def test_published_scaling_is_one_mean_and_one_spread():
    branch = Branch(modes=4, width=8, depth=1, linear=False, anchor=False).double()
    values = torch.randn(30, 4, generator=torch.Generator().manual_seed(1), **F64)
    branch.standardise(strains(30), values)
    assert torch.allclose(branch.scale, values.std().expand(4), rtol=1e-12, atol=0)
    assert torch.allclose(branch.shift, values.mean().expand(4), rtol=1e-12, atol=0)


def test_published_size():
    assert sum(p.numel() for p in Branch().parameters()) == 13776


def test_features_repeat_with_the_cell():
    torch.manual_seed(0)
    features = PeriodicFeatures(7).double()
    points, material = torch.rand(5, 2, **F64) - 0.5, torch.ones(5, **F64)
    for shift in ([1.0, 0.0], [0.0, 1.0]):
        moved = features(points + torch.tensor(shift, **F64), material)
        assert torch.allclose(moved, features(points, material), rtol=0, atol=1e-12)


def test_features_tell_a_point_from_its_mirror_images():
    """With one phase for all features, points across a line would have the same displacement."""
    torch.manual_seed(0)
    features = PeriodicFeatures(7).double()
    x = torch.linspace(-0.5, 0.49, 34, **F64)
    for axis in range(2):
        points = torch.zeros(34, 2, **F64)
        points[:, axis] = x
        apart = torch.pdist(features(points, torch.ones(34, **F64)))
        assert apart.min() > 1e-2


def test_displacement_is_affine_plus_a_periodic_part():
    torch.manual_seed(0)
    network = VPIONet(nodes=4, modes=3, width=8, depth=2).double()
    corners = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], **F64)
    network.place(corners, -torch.ones(4, **F64))
    u = network(torch.tensor([[0.02, -0.01, 0.03]], **F64))[0]
    gradient = torch.tensor([[0.02, 0.015], [0.015, -0.01]], **F64)
    # jumps over the cell are those of the macro strain
    assert torch.allclose(u[1] - u[0], gradient[0], rtol=0, atol=1e-12)
    assert torch.allclose(u[3] - u[0], gradient[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("wrong", [{"box": 0.0}, {"depth": 0}, {"modes": 0}, {"width": 2.5}])
def test_sizes_are_checked(wrong):
    with pytest.raises((InvalidArgument, InvalidType), match="network"):
        EquiNO(**wrong)


def test_the_linear_part_is_the_same_to_the_last_bit_whatever_memory_held():
    e, wanted = strains(12), torch.randn(12, 5, **F64)
    found = []
    for k in range(40):  # what is freed here is what a solver that sets nothing would start from
        dirty = [torch.full((n,), k % 5 - 1, dtype=torch.int32) for n in range(1, 60)]
        del dirty
        branch = made().branch
        branch.standardise(e, wanted)
        found.append(branch.skip)
    assert all(torch.equal(f, found[0]) for f in found)
