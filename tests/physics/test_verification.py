"""Verification by walks: unbiased, honest intervals, problems with known solutions."""

import math
from dataclasses import dataclass

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball, Domain
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.verification import correct, select, verify
from sciml.physics.walks.verified_errors import intervals

torch.set_num_threads(1)
FAST = WalkOnSpheres(walks=32, eps=1e-3)
NOISY = {"control": False, "worst": 0}  # planes are polynomials: with a control there is no noise


@dataclass
class Planes:
    """u = a . x + c with random a and c on disks of random size."""

    domain: Domain
    slope: torch.Tensor
    level: torch.Tensor

    @classmethod
    def draw(cls, count, generator):
        radius = 0.5 + torch.rand(count, generator=generator, dtype=torch.float64)
        slope = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        level = torch.randn(count, generator=generator, dtype=torch.float64)
        return cls(Ball(radius, torch.zeros(count, 2)), slope, level)

    @property
    def problem(self):
        def g(x, i):
            return (self.slope[i].T.to(x) * x).sum(0) + self.level[i].to(x)

        return Dirichlet(g)

    def exact(self, points):
        return torch.einsum("bpd,bd->bp", points, self.slope) + self.level[:, None]


def stream(step, name="verify"):
    return Streams(0, step).generator(name)


def wrong_by(size):
    """Return a model with the error size * x_0, and its error in closed form, given planes."""

    def predict(problems, points):
        return problems.exact(points) + size * points[..., 0]

    return predict


# E x_0^2 over a disk of radius r is r^2 / 4; E r^2 for r uniform on [1/2, 3/2] is 13 / 12.
def true_rms(size):
    return size * math.sqrt(13 / 48)


# u^2 has the mean |a|^2 r^2 / 4 + c^2: 2 * 13 / 48 + 1.
SIZE = math.sqrt(2 * 13 / 48 + 1)


def test_intervals_cover_the_true_error():
    """95 % intervals of 100 repetitions: at least 88 cover, which true coverage misses once in
    1000."""
    size, hits, relative = 0.3, 0, 0
    for k in range(100):
        problems = Planes.draw(64, stream(k, "problems"))
        found = verify(wrong_by(size), problems, stream(k), points=4, engine=FAST, **NOISY)
        hits += found.rms.low <= true_rms(size) <= found.rms.high
        relative += found.rel_l2.low <= true_rms(size) / SIZE <= found.rel_l2.high
    assert hits >= 88 and relative >= 88


def test_the_noise_of_the_walks_is_no_error():
    """Values without error: estimates scatter around zero although each walk is off by about 1."""
    squared = []
    for k in range(20):
        problems = Planes.draw(32, stream(k, "problems"))
        few = WalkOnSpheres(walks=4, eps=1e-4)
        found = verify(wrong_by(0.0), problems, stream(k), points=8, engine=few, **NOISY)
        squared.append(found.squared)
    squared = torch.stack(squared).flatten()
    error = float(squared.std()) / math.sqrt(len(squared))
    assert abs(float(squared.mean())) < 4 * error
    assert (squared < 0).any()  # an estimate that cannot be negative would be biased
    # the naive estimate counts the noise as error
    assert error < 0.1 * float(found.estimate.variance.mean())


def test_polynomials_take_noise_away_and_no_error():
    """Data that no polynomial is: less variance, the same error."""
    problems = Planes.draw(24, stream(0, "problems"))

    class Waves(Planes):
        @property
        def problem(self):
            return Dirichlet(lambda x, i: (2 * x[0]).exp() * (2 * x[1]).cos())

        def exact(self, points):
            return (2 * points[..., 0]).exp() * (2 * points[..., 1]).cos()

    waves = Waves(problems.domain, problems.slope, problems.level)
    runs = {
        control: verify(wrong_by(0.5), waves, stream(3), points=32, control=control, worst=3)
        for control in (False, True)
    }
    quiet, loud = (runs[c].estimate.variance.mean() for c in (True, False))
    assert quiet < 0.05 * loud
    exact = (0.5 * runs[True].points[..., 0]).square().mean().sqrt()
    assert runs[True].rms.value == pytest.approx(float(exact), rel=0.02)
    for w in runs[True].worst:
        point = torch.tensor(w.point, dtype=torch.float64)
        assert abs(w.estimate - float(waves.exact(point))) < 5 * w.standard_error + 1e-3


def test_a_spoiled_model_is_found_out():
    problems = Planes.draw(64, stream(0, "problems"))
    good = verify(wrong_by(0.01), problems, stream(1), engine=WalkOnSpheres(256, 2e-4))
    bad = verify(wrong_by(0.3), problems, stream(1), engine=WalkOnSpheres(256, 2e-4))
    assert good.verdict(0.05) == "within" and bad.verdict(0.05) == "beyond"
    assert good.verdict(good.rel_l2.value) == "undecided"


def test_the_worst_points_are_where_the_model_is_wrong():
    problems = Planes.draw(16, stream(0, "problems"))

    def predict(problems, points):
        value = problems.exact(points)
        value[5, 3] += 4.0
        value[5, 7] -= 3.0
        return value

    engine = WalkOnSpheres(64)
    found = verify(predict, problems, stream(1), points=8, engine=engine, worst=2, control=False)
    first, second = found.worst
    assert (first.problem, second.problem) == (5, 5)
    assert first.point == tuple(found.points[5, 3].tolist())
    for w, size in ((first, 4.0), (second, -3.0)):
        assert abs(w.predicted - w.estimate - size) < 5 * w.standard_error + 1e-3
        exact = problems.exact(torch.tensor(w.point)[None, None].double().expand(16, 1, 2))[5, 0]
        assert abs(w.estimate - float(exact)) < 5 * w.standard_error + 1e-3


def test_points_keep_their_distance():
    problems = Planes.draw(8, stream(0, "problems"))
    found = verify(wrong_by(0.1), problems, stream(1), engine=FAST, margin=0.2, worst=0)
    away = -problems.domain.signed_distance(found.points)
    assert bool((away > 0.2 * problems.domain.scale()[:, None]).all())


def test_intervals_against_simulation_of_their_formula():
    """Ratio of means: the linearised deviation against the spread over many samples."""
    g = torch.Generator().manual_seed(0)
    draws = torch.rand(4000, 50, 2, generator=g, dtype=torch.float64)
    error, size = 0.1 * draws[..., 0], 1 + draws[..., 1]
    roots = (error.mean(1) / size.mean(1)).sqrt()
    _, rel = intervals(error[0], size[0], 0.95)
    width = (rel.high - rel.low) / 2
    assert width == pytest.approx(2.0 * float(roots.std()), rel=0.25)
    assert rel.value == pytest.approx(float(roots[0]))


def test_a_solution_of_no_size_has_no_relative_error():
    rms, rel = intervals(torch.ones(9), -torch.ones(9), 0.95)
    assert rms.value == 1 and math.isnan(rel.value) and rel.high == math.inf


def test_chosen_problems_keep_their_data():
    problems = Planes.draw(6, stream(0, "problems"))
    rows = torch.tensor([4, 1, 4])
    part = select(problems.problem, rows)
    x = torch.randn(2, 3, dtype=torch.float64)
    i = torch.arange(3)
    assert torch.equal(part.boundary(x, i), problems.problem.boundary(x, rows))
    constants = Dirichlet(part.boundary, screening=torch.arange(6.0), bound=2.0)
    chosen = select(constants, rows)
    assert chosen.screening.tolist() == [4, 1, 4] and chosen.bound == 2.0


def test_corrections_are_unbiased_and_sharper_than_walks_alone():
    problems = Planes.draw(8, stream(0, "problems"))
    points = problems.domain.sample_interior(16, stream(1), torch.float64)
    engine = WalkOnSpheres(walks=64, eps=1e-4)
    plain = engine(problems.domain, problems.problem, points, stream(2))
    found = correct(wrong_by(0.2), problems, points, stream(2), engine=engine, control=False)
    off = (found.mean - problems.exact(points)) / found.standard_error
    assert abs(float(off.mean())) < 4 / math.sqrt(off.numel())
    assert float(found.variance.mean()) < 0.8 * float(plain.variance.mean())


def test_corrections_with_a_polynomial_as_well():
    """Data that no polynomial is: model and polynomial together leave less than each alone."""
    problems = Planes.draw(8, stream(0, "problems"))

    class Waves(Planes):
        @property
        def problem(self):
            return Dirichlet(lambda x, i: (3 * x[0]).exp() * (3 * x[1]).cos())

        def exact(self, points):
            return (3 * points[..., 0]).exp() * (3 * points[..., 1]).cos()

    waves = Waves(problems.domain, problems.slope, problems.level)
    points = waves.domain.sample_interior(32, stream(1), torch.float64)
    engine = WalkOnSpheres(walks=64, eps=1e-4)
    found = {
        control: correct(wrong_by(0.2), waves, points, stream(2), engine=engine, control=control)
        for control in (False, True)
    }
    u = waves.exact(points)
    for one in found.values():  # the mean of skewed quotients is not zero, that of deviations is
        assert (one.mean - u).mean().abs() < 4 * one.variance.sum().sqrt() / u.numel()
    quiet, loud = (found[c].variance.mean() for c in (True, False))
    assert quiet < 0.2 * loud


def test_wrong_input_is_explained():
    problems = Planes.draw(8, stream(0, "problems"))
    with pytest.raises(InvalidArgument, match="at least 8"):
        verify(wrong_by(0.1), Planes.draw(4, stream(0)), stream(1))
    with pytest.raises(InvalidArgument, match=r"shape \(8,\)"):
        verify(lambda problems, points: points[:, 0, 0], problems, stream(1))
    with pytest.raises(InvalidArgument, match="128 not finite"):
        verify(lambda problems, points: points[..., 0] / 0, problems, stream(1))
    with pytest.raises(InvalidArgument, match="margin=0.9"):
        verify(wrong_by(0.1), problems, stream(1), margin=0.9)


def test_the_width_of_an_interval_is_that_of_student_and_of_the_ratio():
    """Figures by hand: t(0.975, 8) = 2.306004, times the spread over 3; nine problems."""
    error = torch.linspace(0.01, 0.09, 9, dtype=torch.float64)
    rms, rel = intervals(error, torch.ones(9, dtype=torch.float64), 0.95)
    assert (rms.high**2 - rms.low**2) / 2 == pytest.approx(0.0210508, rel=1e-5)
    assert rms.value == pytest.approx(math.sqrt(0.05), rel=1e-12)
    assert (rel.low, rel.high) == pytest.approx((rms.low, rms.high), rel=1e-12)
    # larger errors where solutions are larger: their ratio scatters less
    rms, rel = intervals(error, torch.linspace(0.5, 1.5, 9, dtype=torch.float64), 0.95)
    assert (rms.high**2 - rms.low**2) / 2 == pytest.approx(0.0210508, rel=1e-5)
    assert (rel.high**2 - rel.low**2) / 2 == pytest.approx(0.00789407, rel=1e-5)
