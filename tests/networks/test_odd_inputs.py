"""Empty batches, samples that are no numbers, other default dtypes, other memory layouts."""

import math

import pytest
import torch

from sciml.errors import NumericalWarning
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.networks.elliptic.wos_gino import WosGINO
from sciml.networks.graph.convergent import CGS
from sciml.networks.graph.graph_baselines import IGNN
from sciml.networks.image.deq_classifier import DEQ
from sciml.networks.pointwise.mlp import MLP, FourierMLP, ModifiedMLP, ResidualMLP
from sciml.networks.pointwise.pairs import PairNetwork
from sciml.networks.pointwise.tensor import TensorNetwork
from sciml.networks.spectral.fourier_equilibrium import FNODEQ
from sciml.networks.spectral.square_fno import FNO


def points(n):
    return (torch.randn(n, 3),)


def field(n):
    return (torch.randn(n, 1, 12, 12),)


def grids(n):
    axis = torch.linspace(-1.5, 1.5, 16)
    sdf = (axis[:, None].square() + axis.square()).sqrt() - 1
    return sdf.expand(n, 16, 16).clone(), torch.randn(n, 16, 16), torch.randn(n, 16, 16)


def clouds(n):
    angle, r = 2 * math.pi * torch.rand(n, 40), torch.rand(n, 40).sqrt()
    r[:, 15:] = 1
    place = torch.stack([r * angle.cos(), r * angle.sin()], 2)
    return place, torch.randn(n, 40), r - 1, torch.randn(n, 40)


# Network, its inputs, and which of them may be nan.
NETWORKS = {
    "mlp": (lambda: MLP(dim=3, width=16), points, [0]),
    "residual": (lambda: ResidualMLP(dim=3, width=16), points, [0]),
    "shared": (lambda: ResidualMLP(dim=3, width=16, share=2), points, [0]),
    "modified": (lambda: ModifiedMLP(dim=3, width=16), points, [0]),
    "fourier": (lambda: FourierMLP(dim=3, width=16), points, [0]),
    "pairs": (lambda: PairNetwork(dim=3, width=8), points, [0]),
    "tensor": (lambda: TensorNetwork(dim=3, rank=2), points, [0]),
    "fno": (lambda: FNO(modes=3), field, [0]),
    "fno_positions": (lambda: FNO(modes=3, positions=True, tied=True), field, [0]),
    "fno_deq": (lambda: FNODEQ(modes=3, contraction=0.9), field, [0]),
    "wos_fno": (lambda: WosFNO(width=5, modes=3, layers=2, hidden=7), grids, [1, 2]),
    "wos_gino": (lambda: WosGINO(nodes=12, width=5, modes=3, layers=2, hidden=7), clouds, [1, 3]),
}


def made(name):
    torch.manual_seed(0)
    make, data, may_be_nan = NETWORKS[name]
    return make().eval(), data, may_be_nan


@pytest.mark.parametrize("name", NETWORKS)
def test_no_samples_give_no_answers_and_no_gradient(name):
    net, data, _ = made(name)
    for mode in (net.eval(), net.train()):
        out = mode(*data(0))
        assert out.shape == (0, *mode(*data(2)).shape[1:])
    out.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_sample_that_is_no_number_leaves_the_others_bit_for_bit(name):
    net, data, may_be_nan = made(name)
    given = data(5)
    good = net(*given)
    spoilt = [x.clone() for x in given]
    for i in may_be_nan:
        spoilt[i][2] = torch.nan
    bad = net(*spoilt)
    keep = torch.tensor([0, 1, 3, 4])
    assert torch.equal(bad[keep], good[keep])
    assert not bad[2].isfinite().any() or name == "wos_fno"  # g itself where the distance is 0
    assert not bad[2].isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_default_dtype_and_layout_do_not_matter(name):
    net, data, _ = made(name)
    given = data(4)
    expected = net(*given)
    strided = [torch.stack([x, -x], -1)[..., 0] for x in given]
    assert not any(x.is_contiguous() for x in strided)
    torch.testing.assert_close(net(*strided), expected, rtol=1e-5, atol=1e-6)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = net(*given)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_an_image_that_is_no_number_has_no_class():
    torch.manual_seed(0)
    net, image = DEQ(classes=3, width=8, head=8).eval(), torch.rand(3, 1, 8, 8)
    image[1, 0, 2, 2] = math.nan
    assert net(image).isfinite().all(1).tolist() == [True, False, True]


@pytest.mark.parametrize("method", [CGS, IGNN])
@pytest.mark.parametrize("spoilt", ["x", "edge_attr"])
def test_a_graph_that_is_no_number_has_no_answer(method, spoilt):
    torch.manual_seed(0)
    net = method(node_features=2, edge_features=1).eval()
    index = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    given = {"x": torch.randn(4, 2), "edge_attr": torch.rand(4, 1)}
    given[spoilt][-1, 0] = math.nan
    with pytest.warns(NumericalWarning, match="unsolved"):
        found = net(given["x"], index, given["edge_attr"], torch.tensor([0, 0, 1, 1]))
    assert found[:2].isfinite().all() and not found[2:].isfinite().any()
