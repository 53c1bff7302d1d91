"""Networks against their formulas written a second time, and the ends of what they take."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sciml.errors import InvalidArgument
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.networks.fields import CloudOperator
from sciml.networks.graph.contracting_map import ContractingMap
from sciml.networks.graph.convergent import CGS
from sciml.networks.graph.graph_layers import Edges
from sciml.networks.spectral.basis_fno import BasisFNO
from sciml.networks.spectral.constrained_fno import ConstrainedFNO
from sciml.physics.constraints import BurgersConstraint, HardConstraint
from sciml.physics.evolution import Burgers


# --- BasisFNO -------------------------------------------------------------------------------------
def pointwise(linear: nn.Linear, z: np.ndarray) -> np.ndarray:
    """Return the layer over the channels of `(C, n, m)`."""
    weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    return np.einsum("dc,cnm->dnm", weight, z) + bias[:, None, None]


def gelu(z: np.ndarray) -> np.ndarray:
    return F.gelu(torch.from_numpy(z)).numpy()


def wave(weight: np.ndarray, z: np.ndarray, m: int) -> np.ndarray:
    """Return F^-1(R . F z) of `(C, n1, n2)` by numpy's FFT; modes 0..m-1, -m..-1 by 0..m-1."""
    n1, n2 = z.shape[1:]
    spectrum = np.fft.rfft2(z)
    rows = [*range(m), *range(n1 - m, n1)]
    matrices = (weight[..., 0] + 1j * weight[..., 1]).reshape(2 * m, m, *weight.shape[1:3])
    kept = np.zeros_like(spectrum)
    for i, row in enumerate(rows):
        for k in range(m):
            kept[:, row, k] = matrices[i, k].T @ spectrum[:, row, k]
    # the operator returns the real part of the modes kept, twice but for the zeroth column
    full = np.zeros((len(z), n1, n2), dtype=complex)
    full[:, :, : kept.shape[2]] = kept * np.where(np.arange(kept.shape[2]) == 0, 1, 2)
    return np.fft.ifft2(full).real


@pytest.mark.parametrize("times", [4, 6, 9])
def test_basis_fno_is_its_formula(times):
    """First axis time, known to 6 levels; the second one with zeros behind, or periodic."""
    torch.manual_seed(0)
    for periodic in ([False, False], [False, True]):
        sizes = {"in_channels": 2, "functions": 3, "width": 4, "hidden": 5, "modes": 2, "blocks": 3}
        network = BasisFNO((6, 8), **sizes, periodic=periodic, time=True, padding=0.3,
                           mean=[0.5, -1.0], std=[2.0, 0.25]).double()  # fmt: skip
        a = torch.randn(1, 2, times, 8, dtype=torch.float64)
        x = (a[0].numpy() - [[[0.5]], [[-1.0]]]) / [[[2.0]], [[0.25]]]
        t = np.broadcast_to(((np.arange(times) + 0.5) / 6)[:, None], (times, 8))
        s = np.broadcast_to((np.arange(8) + 0.5) / 8, (times, 8))
        places = [t] if periodic[1] else [t, s]
        z = pointwise(network.lift[2], gelu(pointwise(network.lift[0], np.stack([*x, *places]))))
        # 6 levels and a third more, rounded up; 8 points and 2.4, or none where periodic
        rows, columns = max(times, 6 + 2), 8 if periodic[1] else 8 + 3
        z = np.pad(z, [(0, 0), (0, rows - times), (0, columns - 8)])
        for layer, mix in zip(network.waves, network.mixes, strict=True):
            z = z + gelu(pointwise(mix, z) + wave(layer.weight.detach().numpy(), z, 2))
        z = z[:, :times, :8]
        wanted = pointwise(network.decode[2], gelu(pointwise(network.decode[0], z)))
        found = network(a)[0].detach().numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


# --- ConstrainedFNO -------------------------------------------------------------------------------
def test_constrained_fno_takes_the_times_of_its_training_and_those_behind():
    problem = Burgers(points=24, time_count=4)
    layer = HardConstraint(BurgersConstraint(problem), experts=1)
    network = ConstrainedFNO(layer, functions=4, width=4, hidden=4, modes=2, blocks=1)
    own = layer.equation.level_times(6)
    seen = []
    network.solve = lambda field, levels: seen.append(levels) or 1 / 0
    field = torch.zeros(1, 1, 24)

    def infer(times):
        with pytest.raises(ZeroDivisionError):
            network.infer(field, times)

    for count in (2, 4, 6):
        infer(own[:count])
        infer(own[:count].float() * (1 + 1e-5))
        infer(own[:count] + 0.99e-3 * own[1])
    assert seen == [2] * 3 + [4] * 3 + [6] * 3
    for wrong in (own[1:3], 2 * own[:4], own[:4] + 1.01e-3 * own[1], own[:1], own[1:2]):
        with pytest.raises(InvalidArgument, match="the times that the operator was trained with"):
            network.infer(field, wrong)


# --- graphs ---------------------------------------------------------------------------------------
MAP = {"parametrisation": "degree_tanh", "edge_bias": False, "source": False, "gate_bias": 0.0}


@pytest.mark.parametrize(
    ("gamma", "learned", "fits"),
    [
        ([0.0, 0.99], False, True),
        ([0.5, 1.0], False, False),
        ([1.0, 0.5], False, False),
        ([0.5, -0.1], False, False),
        ([0.5, 0.5, 0.5], False, False),
        ([0.1, 0.8], True, True),
        ([0.5, 0.9], True, False),
        ([0.95, 0.5], True, False),
        ([0.0, 0.5], True, False),
        ([0.5, 0.0], True, False),
    ],
)
def test_contracting_map_takes_every_gamma_within_its_limits(gamma, learned, fits):
    def made():
        return ContractingMap(
            2, 1, 2, gamma=gamma, learn_gamma=learned, gamma_limit=0.9, **MAP
        )  # fmt: skip

    if not fits:
        with pytest.raises(InvalidArgument, match="gamma="):
            made()
        return
    like = torch.zeros(2, dtype=torch.float64)
    found = made().gamma(like).detach().numpy()
    np.testing.assert_allclose(found, gamma, rtol=1e-6, atol=0)
    assert made().factor == (0.9 if learned else max(gamma))


@pytest.mark.parametrize("layers", [1, 3])
def test_cgs_activates_all_but_the_last_layer_of_its_encoder(layers):
    torch.manual_seed(0)
    sizes = {"heads": 6, "width": 6, "hidden": 8, "layers": layers, "activation": "relu"}
    network = CGS(node_features=2, edge_features=1, **sizes)
    ring = torch.arange(20)
    edges = Edges.build(torch.stack([ring, (ring + 1) % 20]), 20, None, direction="in")
    x, eps = torch.randn(20, 2), torch.randn(20, 1)
    for k, layer in enumerate(network.encoder):
        x, eps = layer(x, eps, edges)
        negative = bool((x < 0).any()), bool((eps < 0).any())
        assert negative == ((True, True) if k == layers - 1 else (False, False))


# --- fields ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "words",
    [{"radius": 2.0}, {"radius": 2.5}, {"radius": 0.0}, {"radius": -0.1}, {"nodes": 0},
     {"width": 0}, {"modes": 0}, {"layers": 0}],
)  # fmt: skip
def test_cloud_operator_refuses_sizes_that_cannot_be(words):
    with pytest.raises(InvalidArgument, match="positive integers, and a radius below 2"):
        CloudOperator({}, **words)


def test_wos_fno_takes_the_mean_screening_of_each_domain():
    """The kernels of all layers belong to its root; without screening they are those of 1e-3."""
    network, seen = WosFNO(nodes=24, width=4, modes=4, hidden=8, coefficients=["screening"]), []
    kernels = network.space.kernels
    network.space.kernels = lambda sdf, rate: seen.append(rate) or kernels(sdf, rate)
    axis = np.linspace(-1.5, 1.5, 24)
    r = np.hypot(axis[:, None], axis)
    sdf = np.stack([r - 1.0, r - 0.8, r - 0.6, r - 0.5])
    level = np.array([4.0, 1e-4, 2e-6, 0.0])[:, None, None] * np.tile(1 + axis / 1.5, (24, 1))
    level[:, 0, 0] = 1e6  # outside of all domains
    inputs = {"sdf": sdf, "boundary": 0 * sdf, "source": 1 + 0 * sdf, "screening": level}
    network.double()(**{name: torch.from_numpy(v) for name, v in inputs.items()})
    means = [v[s < 0].mean() for v, s in zip(level, sdf, strict=True)]
    wanted = np.sqrt(np.maximum(means, 1e-6))
    np.testing.assert_allclose(seen[0], wanted, rtol=1e-12)
