"""Test metrics: against direct formulas, and the same however the points fall to ranks."""

from __future__ import annotations

import copy

import pytest
import torch

from sciml.data.collocation import CollocationData
from sciml.modules.evaluation import solution_errors, training_law
from sciml.modules.evaluation.solution_errors import Report
from sciml.modules.evaluation.training_law import TrainingLaw
from sciml.physics.pde import Points
from sciml.physics.problems.biharmonic import Biharmonic
from sciml.physics.problems.poisson_box import PoissonBox
from sciml.physics.problems.unit_ball import SineGordon


def predict(p: Points) -> torch.Tensor:
    """A wrong solution: affine in x, times the envelope."""
    return (1 - p.x.square().sum(1)) * (0.3 + p.x[:, 0])


@pytest.fixture
def chunks() -> list[Points]:
    data = CollocationData(problem=SineGordon(dim=6), test_points=400)
    return [data.test_chunk(i) for i in range(16)]


def fill(report: Report, chunks: list[Points]) -> Report:
    for p in chunks:
        report.add(p, predict(p))
    return report


def test_metrics_follow_their_definitions(chunks: list[Points]) -> None:
    problem = SineGordon(dim=6)
    report = fill(Report(problem, 400), chunks)
    report.finish(predict)
    x = torch.cat([p.x for p in chunks])
    p = Points(x)
    u, v = problem.exact(x), predict(p)
    a = 1 - x.square().sum(1)
    constant = (u - a * (a @ u) / (a @ a)).norm() / u.norm()
    columns = a[:, None] * torch.cat([torch.ones(400, 1), x], 1)
    affine = (u - columns @ torch.linalg.lstsq(columns, u).solution).norm() / u.norm()
    metrics = report.metrics
    error = float((u - v).norm() / u.norm())
    assert metrics["test/rel_l2"] == pytest.approx(error, rel=1e-12)
    assert metrics["test/max_abs"] == pytest.approx(float((u - v).abs().max()), rel=1e-12)
    assert metrics["test/rel_l1"] == pytest.approx(float((u - v).abs().sum() / u.abs().sum()))
    # The library divides out the fitted unknowns: 1 of 400 and 7 of 400.
    assert metrics["test/skill"] == pytest.approx(error / float(constant), rel=3e-3)
    assert metrics["test/skill_affine"] == pytest.approx(error / float(affine), rel=2e-2)
    assert len(report.as_dict()["ray"]["s"]) == training_law.RAY


@pytest.mark.parametrize("split", [(8, 8), (16, 0), (0, 16), (3, 13)])
def test_ranks_join_to_the_metrics_of_one_process(monkeypatch, chunks, split) -> None:
    problem = SineGordon(dim=6)
    whole = fill(Report(problem, 400), chunks)
    whole.finish(predict)
    ranks = [fill(Report(problem, 400), chunks[: split[0]])]
    ranks.append(fill(Report(problem, 400), chunks[split[0] :]))
    owned = [
        None if r._sums is None else (r._sums, r._largest, copy.deepcopy(r._baselines))
        for r in ranks
    ]
    monkeypatch.setattr(solution_errors, "everyone", lambda own: owned)
    ranks[0].finish(predict)
    for name, value in whole.metrics.items():
        assert ranks[0].metrics[name] == pytest.approx(value, rel=1e-9), name


def box2d():
    return PoissonBox(dim=2)


def test_the_line_of_a_box_stays_in_the_box_and_says_where_training_was():
    """Half of the line x = s x0, s in [-1, 1], lies outside (0, 1)^2."""
    law = TrainingLaw(box2d())
    for through in torch.rand(
        20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ):
        s, (low, high) = law.ray(through)
        x = law.centre + s[:, None] * law.direction(through)
        assert float(x.min()) >= -1e-12 and float(x.max()) <= 1 + 1e-12
        assert float(s[0]) <= low < high <= float(s[-1])
        assert float((x - through).norm(dim=1).min()) < 0.02  # through the point


def test_the_line_through_an_annulus_leaves_out_its_hole():
    law = TrainingLaw(Biharmonic(dim=4))
    s, _ = law.ray(torch.ones(4))
    assert 1 <= float(s.min()) < 1.05 and 1.95 < float(s.max()) <= 2


def test_a_plane_shows_the_domain_and_its_axes():
    points, level, axes = TrainingLaw(box2d()).plane(box2d())
    x = points.x.view(*level.shape, 2)
    inside = ((x > 1e-9) & (x < 1 - 1e-9)).all(2)
    assert torch.equal(level < -1e-9, inside)
    # the first axis is drawn to the right: it changes along a row
    assert float(x[0, 0, 0]) == axes["extent"][0] and float(x[0, -1, 0]) == axes["extent"][1]
    assert float(x[0, 0, 1]) == axes["extent"][2] and float(x[-1, 0, 1]) == axes["extent"][3]
    assert (axes["xlabel"], axes["ylabel"]) == ("x1", "x2")
    assert TrainingLaw(PoissonBox(dim=3)).plane(PoissonBox(dim=3)) is None
