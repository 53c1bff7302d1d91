"""Estimators of the bilaplacian against the dense fourth derivative."""

import itertools

import pytest
import torch
from dense_references import bilaplacians, error, fourth_derivatives

from sciml.autodiff import push, squared_norm
from sciml.autodiff.estimators import SDGD, DifferentialOperator, Exact, Hutchinson
from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.networks import MLP

D, N = 3, 2
DRAWS = 4000
OPERATOR = DifferentialOperator(D, 4)


class Clamped(torch.nn.Module):
    """A network times the factor of the annulus: sums over coordinates and products of jets."""

    def __init__(self, dim=D):
        super().__init__()
        self.net = MLP(dim=dim, width=6, depth=3)

    def forward(self, x):
        rho = squared_norm(x)
        return (1 - rho) * (4 - rho) * self.net(x) + torch.sin(x).sum(-1, keepdim=True)


def top(f, x, draw):
    return push(f, x, None, [draw.part], draw.weights, 4).top[:, 0]


def contracted(draw, tensor):
    """Return sum_k w_k D4[v, v, v, v] `(N,)` for fourth derivatives `(N, d, d, d, d)`."""
    v = draw.part.dense(torch.zeros(1, D))[:, 0]
    pairs = (v[:, :, None] * v[:, None, :]).flatten(1)
    return ((tensor.reshape(N, D * D, D * D) @ pairs.t()) * pairs.t()).sum(1) @ draw.weights


def symmetric():
    """Return a random symmetric tensor and its double trace."""
    t = torch.randn(N, D, D, D, D)
    orders = itertools.permutations(range(1, 5))
    t = sum(t.permute(0, *order) for order in orders) / 24
    return t, torch.einsum("niijj->n", t)


@pytest.mark.parametrize("chunk", [None, 5])
def test_exact_equals_nested_autodiff(chunk):
    f, x = Clamped(), torch.randn(N, D)
    draw = Exact().draw(OPERATOR, x, Streams(0, 0), "dims")
    found = sum(top(f, x, piece) for piece in draw.chunk(chunk))
    assert error(found, bilaplacians(f, x)) < 1e-11


def test_known_bilaplacians():
    x = torch.randn(N, D)
    draw = OPERATOR.exact(x)
    # Lap |x|^4 = 4 (d + 2) |x|^2, and Lap |x|^2 = 2 d
    found = top(lambda z: squared_norm(z) ** 2, x, draw)
    assert error(found, torch.full((N,), 8.0 * D * (D + 2))) < 1e-12
    found = top(lambda z: torch.sin(z).sum(-1, keepdim=True), x, draw)
    assert error(found, torch.sin(x).sum(1)) < 1e-12


@pytest.mark.parametrize(
    "estimator",
    [SDGD(num_dims=4), Hutchinson(probes=3, law="gaussian"), Hutchinson(probes=2, law="pair")],
    ids=["pairs of dimensions", "gaussian", "pair"],
)
def test_jets_of_a_draw_are_its_contraction(estimator):
    f, x = Clamped(), torch.randn(N, D)
    tensor = fourth_derivatives(f, x)
    for step in range(5):
        draw = estimator.draw(OPERATOR, x, Streams(1, step), "dims")
        assert error(top(f, x, draw), contracted(draw, tensor)) < 1e-11


def sampled(estimator, tensor):
    x = torch.zeros(N, D)
    draws = (estimator.draw(OPERATOR, x, Streams(5, step), "dims") for step in range(DRAWS))
    return torch.stack([contracted(draw, tensor) for draw in draws])


def test_means_and_variances_over_draws():
    """All three laws are unbiased; pairs of Rademacher probes spread less than Gaussian ones."""
    tensor, wanted = symmetric()
    estimators = {
        "sdgd": SDGD(num_dims=2),
        "gaussian": Hutchinson(probes=4, law="gaussian"),
        "pair": Hutchinson(probes=4, law="pair"),
    }
    spread = {}
    for name, estimator in estimators.items():
        found = sampled(estimator, tensor)
        spread[name] = found.var(0)
        standard_error = found.std(0) / DRAWS**0.5
        assert ((found.mean(0) - wanted).abs() < 4 * standard_error).all(), name
    assert (spread["pair"] < 0.7 * spread["gaussian"]).all()


def test_rademacher_would_miss_the_pure_fourth_derivatives():
    """All sign vectors at once: 3 Lap^2 u - 2 sum_i d_i^4 u, why the law is refused."""
    tensor, wanted = symmetric()
    v = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=D)))
    mean = torch.einsum("nijkl,ai,aj,ak,al->an", tensor, v, v, v, v).mean(0)
    pure = torch.einsum("niiii->n", tensor)
    assert error(mean, 3 * wanted - 2 * pure) < 1e-12
    with pytest.raises(InvalidArgument, match="estimator.law=gaussian or estimator.law=pair"):
        Hutchinson(law="rademacher").draw(OPERATOR, torch.zeros(N, D), Streams(0, 0), "dims")
    with pytest.raises(InvalidArgument, match="single coordinates"):
        OPERATOR.along(torch.tensor([0]), 1.0, torch.zeros(N, D))


@pytest.mark.parametrize(
    "options", [{"dims": "per_point"}, {"selection": "swept"}, {"ranks": "disjoint"}]
)
def test_options_that_pairs_do_not_have_are_refused(options):
    estimator = SDGD(num_dims=2, **options)
    with pytest.raises(InvalidArgument, match="for pairs of dimensions"):
        estimator.draw(OPERATOR, torch.zeros(N, D), Streams(0, 0), "dims")
