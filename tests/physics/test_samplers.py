"""Samplers: law, domain, dtype and reproducibility."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics import samplers


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_ball_radius_is_uniform_and_direction_isotropic():
    x = samplers.ball(20_000, 6, generator(), radius=2.0, dtype=torch.float64)
    r = torch.linalg.vector_norm(x, dim=1)
    quantiles = torch.quantile(r, torch.tensor([0.1, 0.5, 0.9], dtype=r.dtype))
    assert torch.allclose(
        quantiles, torch.tensor([0.2, 1.0, 1.8], dtype=r.dtype), atol=0.03, rtol=0
    )
    moment = (x / r[:, None]).T @ (x / r[:, None]) / len(x)
    assert torch.allclose(moment, torch.eye(6, dtype=r.dtype) / 6, atol=6e-3, rtol=0)


@pytest.mark.parametrize("inner", [0.0, 1.0])
def test_volume_law_is_uniform_in_space(inner):
    x = samplers.annulus(20_000, 3, inner, 2.0, generator(), law="volume")
    r = torch.linalg.vector_norm(x, dim=1).double()
    share = (r**3 - inner**3) / (8 - inner**3)
    assert share.min() >= -1e-6 and share.max() <= 1 + 1e-6
    assert abs(share.mean() - 0.5) < 0.01


def test_annulus_stays_inside():
    x = samplers.annulus(1000, 50, 1.0, 2.0, generator())
    r = torch.linalg.vector_norm(x, dim=1)
    assert x.dtype == torch.float32
    assert r.min() > 1 - 1e-5 and r.max() < 2 + 1e-5


def test_annulus_names_what_is_wrong():
    with pytest.raises(InvalidArgument, match="inner < outer"):
        samplers.annulus(3, 2, 2.0, 1.0, generator())
    with pytest.raises(InvalidArgument, match="'radius' or 'volume'"):
        samplers.ball(3, 2, generator(), law="area")


def test_box_and_its_boundary():
    x = samplers.box(5000, 4, generator(), -5.0, 5.0)
    assert x.min() >= -5 and x.max() <= 5 and abs(x.mean()) < 0.1
    b = samplers.box_boundary(8000, 4, generator(), -5.0, 5.0)
    on_face = (b.abs() == 5).sum(1)
    assert (on_face >= 1).all()
    faces = torch.stack([b == -5, b == 5]).sum(1).double() / 8000
    assert torch.allclose(faces, torch.full_like(faces, 1 / 8), atol=0.02, rtol=0)


def test_brownian_variance_grows_with_time():
    t = samplers.uniform(40_000, generator(), 0.0, 0.3)
    x = samplers.brownian(1.0, t, 3, generator(1))
    ratio = ((x - 1) ** 2 / (2 * t)).mean()
    assert abs(ratio - 1) < 0.03


def test_brownian_paths_have_independent_increments():
    x, t = samplers.brownian_paths(4000, 8, 2, 0.3, generator())
    assert x.shape == (4000, 9, 2) and torch.equal(x[:, 0], torch.zeros(4000, 2))
    assert math.isclose(float(t[-1]), 0.3, rel_tol=1e-6)
    assert abs(float(x[:, -1].var()) - 0.6) < 0.04
    step = x[:, 1:] - x[:, :-1]
    correlation = (step[:, 0] * step[:, 1]).mean() / step.var()
    assert abs(correlation) < 0.05


def test_same_seed_same_points_and_global_state_untouched():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = (samplers.ball(10, 7, generator(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, samplers.ball(10, 7, generator(6)))
    assert torch.equal(before, torch.random.get_rng_state())
