"""Compaction and gradients of walk on spheres, and where the sixteen numerical tests are.

The method's sheet asks for sixteen tests. They are in tests/physics/test_walk_on_spheres, or in its
neighbour test_walk_on_spheres_laws, or where it says.

     1  radius sampler              ..._laws: test_harmonic_radius
     2  mean-value property         ..._laws: test_mean_value_property
     3  Laplace                     test_laplace
     4  variance of a single walk   test_variance_of_a_single_walk
     5  constant source, sign       test_poisson_sign_and_factor
     6  slope -1/2 in the walks     test_error_falls_with_the_root_of_the_walks
     7  bias and steps in eps       test_bias_is_linear_in_eps_and_steps_grow_with_its_logarithm
     8  screening, coefficients     test_screened, test_variable_screening, test_variable_diffusion
     9  scaling, turning, linear    test_scaling_translation_and_rotation,
                                    test_linear_in_the_data_under_common_numbers
    10  maximum principle           test_maximum_principle_for_every_walk
    11  bounds of the distance      test_bounds_of_the_distance_cost_steps_not_accuracy
    12  compaction, chunks, ids     here; test_results_do_not_depend_on_the_chunk,
                                    test_instances_are_never_mixed
    13  truncation                  test_truncated_walks_are_projected_and_reported
    14  determinism, ranks, resume  test_streams_repeat_and_ranks_differ;
                                    tests/data/test_walks: test_a_cache_is_resumed;
                                    tests/modules/test_contract_wos_operator
    15  unbiased gradients          here; tests/modules/test_wos_operator
    16  two halves                  test_halves_estimate_the_squared_error;
                                    tests/modules/test_wos_operator
"""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sciml.autodiff.streams import Streams
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball, star_family
from sciml.physics.walks import loop
from sciml.physics.walks.spheres import WalkOnSpheres


def stream(step=0):
    return Streams(0, step).generator("walks")


def wave(x, i):
    return x[0].exp() * x[1].cos()


def values(field, domain, points):
    return field(*domain.columns(points.double())).view(points.shape[:2])


@pytest.mark.parametrize("share", [0.0, 1.1], ids=["never", "every step"])
def test_compaction_changes_nothing_but_the_numbers_drawn(share, monkeypatch):
    star = star_family(3, stream())
    points = star.sample_interior(8, stream(1), torch.float64)
    problem = Dirichlet(wave, source=lambda x, i: 1 + i.to(x))
    plain = WalkOnSpheres(2000)(star, problem, points, stream(2))
    monkeypatch.setattr(loop, "COMPACT", share)
    other = WalkOnSpheres(2000)(star, problem, points, stream(3))
    gap = (plain.mean - other.mean).abs()
    assert (gap < 4 * (plain.variance + other.variance).sqrt()).all()
    steps = plain.steps.mean(), other.steps.mean()
    assert abs(float(steps[0] / steps[1]) - 1) < 0.02
    # constants of their own in every domain: exact, whatever is moved where
    own = WalkOnSpheres(50)(star, Dirichlet(lambda x, i: i.to(x)), points, stream(4))
    assert torch.equal(own.mean, torch.arange(3.0).double()[:, None].expand(3, 8))


def test_counting_seldom_as_on_accelerators_changes_nothing(monkeypatch):
    disk, points = Ball(), Ball().sample_interior(8, stream(1), torch.float64)
    plain = WalkOnSpheres(2000)(disk, Dirichlet(wave), points, stream(2))
    monkeypatch.setattr(loop, "CHECK_CPU", loop.CHECK_DEVICE)
    other = WalkOnSpheres(2000)(disk, Dirichlet(wave), points, stream(2))
    gap = (plain.mean - other.mean).abs()
    assert (gap < 4 * (plain.variance + other.variance).sqrt() + 1e-9).all()
    assert (other.truncated == 0).all() and other.farthest <= 1.001


@pytest.mark.parametrize("walks", [1, 4])
def test_gradients_of_a_regression_on_walks_are_unbiased(walks):
    """Mean gradient over 200 draws of the labels against the gradient with exact labels."""
    disk = Ball()
    points = disk.sample_interior(40, stream(1), torch.float64)
    exact = values(wave, disk, points).float()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 12), torch.nn.Tanh(), torch.nn.Linear(12, 1))

    def gradient(target):
        loss = (net(points.float())[..., 0] - target).square().mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, net.parameters())])

    wanted = gradient(exact)
    engine, problem = WalkOnSpheres(walks, eps=5e-4), Dirichlet(wave)
    found = torch.stack(
        [gradient(engine(disk, problem, points, stream(k)).mean.float()) for k in range(200)]
    )
    mean, error = found.mean(0), found.std(0) / math.sqrt(200)
    assert torch.nn.functional.cosine_similarity(mean, wanted, dim=0) > 0.99
    # the norm, within 3 standard errors of its projection on the gradient
    along = found @ wanted / wanted.norm()
    assert abs(float(along.mean() - wanted.norm())) < 3 * float(along.std()) / math.sqrt(200)
    assert (mean - wanted).square().sum() < 2 * error.square().sum()
    # and not because labels are exact: single draws point elsewhere
    assert (found - wanted).norm(dim=1).median() > 3 * error.norm()


class Count(TorchDispatchMode):
    """Counts the tensor operations made."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:.*stopped after max_steps")
def test_operations_do_not_grow_with_walks_points_or_domains():
    """Acceptance point A2: nothing loops over walks. Four steps of each, in one chunk."""
    found = {}
    for count, points, walks in ((1, 4, 8), (1, 4, 800), (1, 400, 8), (2, 4, 8), (40, 4, 8)):
        star = star_family(count, stream())
        problem = Dirichlet(wave, source=lambda x, i: 1 + x[0])
        at = 0.2 * star.sample_interior(points, stream(1), torch.float64)
        engine = WalkOnSpheres(walks, eps=1e-6, max_steps=4)
        with Count() as counted:
            engine(star, problem, at, stream(2))
        found[count, points, walks] = counted.operations
    one, many = found[1, 4, 8], found[2, 4, 8]  # one domain needs no look-up of its parameters
    assert found[1, 4, 800] == found[1, 400, 8] == one > 50
    assert found[40, 4, 8] == many
