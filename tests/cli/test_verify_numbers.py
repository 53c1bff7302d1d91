"""What `sciml verify` prints and draws, against numbers made by hand; documented defaults."""

import argparse
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from sciml.cli.main import main
from sciml.cli.verification import verify_constrained, verify_fields, verify_law
from sciml.cli.verification.verify import picture, recorded, report
from sciml.physics.walks import Estimate
from sciml.physics.walks.verified_errors import ErrorInterval, Verification, WorstPoint
from sciml.pretrained.judging.field_operator import FieldVerification
from sciml.pretrained.judging.trained_constraint import ConstrainedVerification, Horizon
from sciml.pretrained.judging.trained_law import LawVerification


@pytest.fixture
def saved(monkeypatch):
    """Figures that were saved, with their resolution."""
    found = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: found.append(self))
    return found


@pytest.fixture
def parsers(monkeypatch):
    """Parsers that were asked to read a command line."""
    found = []
    original = argparse.ArgumentParser.parse_args

    def look(self, *given, **named):
        found.append(self)
        return original(self, *given, **named)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", look)
    return found


@pytest.mark.parametrize("verb", ["verify", "predict", "export-data", "list"])
def test_numbers_in_the_help_are_the_defaults(verb, parsers, capsys):
    main([verb, "--help"])
    capsys.readouterr()
    for action in parsers[-1]._actions if parsers else ():
        said = re.search(r"\(([0-9.e+-]+)\)$", action.help or "")
        if said is not None:
            assert float(action.default) == float(said[1]), action.option_strings
    if verb == "verify":
        known = {action.dest: action.default for action in parsers[-1]._actions}
        assert (known["problems"], known["points"], known["walks"]) == (128, 16, 256)
        assert (known["eps"], known["margin"], known["confidence"]) == (2e-4, 0.0, 0.95)
        assert (known["worst"], known["seed"], known["workers"]) == (5, 0, 1)
        assert known["tolerance"] is None


# --- walks --------------------------------------------------------------------------------------
def walked():
    """Two problems with three points: walks found u, the model says u + 0.1 k."""
    u = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    off = 0.1 * torch.arange(6.0, dtype=torch.float64).view(2, 3)
    estimate = estimate_of(u, 0.01 * (1 + off))
    worst = [
        WorstPoint(1, (0.25, -0.5, 0.125, 0.75), 6.5, 6.0, 0.03),
        WorstPoint(0, (0.1,), -1.0, 2.0, 0.5),
    ]
    return Verification(
        ErrorInterval(0.05, 0.04, 0.07), ErrorInterval(0.3, 0.2, 0.4), 0.9,
        torch.zeros(2, 3, 1), u + off, estimate, torch.zeros(2), worst,
    )  # fmt: skip


def estimate_of(mean, error):
    """Return an estimate from ten walks with this standard error."""
    zero = torch.zeros_like(mean)
    halves, inside = torch.stack([mean, mean]), torch.ones_like(mean, dtype=torch.bool)
    return Estimate(mean, 10 * 9 * error.square(), halves, 10, 10, zero, zero, inside, 1.0, 1.0)


def test_the_report_of_walks_line_by_line():
    spec = {"name": "m", "metrics": {"family/rel_l2_pooled": 0.0512, "test/rel_l2": 0.0623}}
    lines = report(walked(), spec, 0.06).splitlines()
    assert lines[0] == "m: 2 problems, 3 points each"
    assert lines[1].split() == "relative L2 error 0.05 (0.04 to 0.07) 90 % confidence".split()
    assert lines[3].split() == "root mean square 0.3 (0.2 to 0.4)".split()
    assert lines[4].split()[:2] == ["recorded", "0.0512"]
    assert lines[5].split()[:3] == ["another", "definition", "0.0623"]
    assert lines[6] == "worst points, walked to again:"
    assert lines[7].split() == (
        "problem 1 (0.250, -0.500, 0.125, …) model +6.5000 walks +6.0000 ± 0.0300".split()
    )
    assert lines[8].split() == "problem 0 (0.100) model -1.0000 walks +2.0000 ± 0.5000".split()
    assert lines[9].startswith("verdict: undecided: the interval contains 0.06")
    assert len(lines) == 10
    said = {t: report(walked(), spec, t).splitlines()[-1].split()[1] for t in (0.07, 0.06, 0.039)}
    assert said == {0.07: "within", 0.06: "undecided:", 0.039: "beyond"}
    assert "verdict" not in report(walked(), spec, None)
    assert recorded({"metrics": {}}) == []


def test_the_picture_of_walks_shows_deviations_with_two_standard_errors(saved, tmp_path):
    found = walked()
    picture(found, tmp_path / "new" / "p.png", 0.06, "name")
    left, right = saved[-1].axes
    (bars,) = left.containers
    points, _, (segments,) = bars
    np.testing.assert_allclose(points.get_xdata(), [1, 2, 3, 4, 5, 6], rtol=1e-12)
    np.testing.assert_allclose(points.get_ydata(), 0.1 * np.arange(6), rtol=0, atol=1e-12)
    error = 0.01 * (1 + 0.1 * np.arange(6))
    lengths = [np.ptp(segment[:, 1]) for segment in segments.get_segments()]
    np.testing.assert_allclose(lengths, 4 * error, rtol=1e-9)  # two to either side
    (rel,) = right.containers
    (low, high), = [s[:, 1] for s in rel[2][0].get_segments()]  # fmt: skip
    assert (low, rel[0].get_ydata()[0], high) == pytest.approx((0.04, 0.05, 0.07))
    assert list(right.lines[-1].get_ydata()) == [0.06, 0.06]
    assert right.get_title() == "90 % confidence" and left.get_title() == "name"
    bottom, top = right.get_ylim()
    assert bottom == 0.0 and 0.07 < top < 0.14
    picture(found, tmp_path / "p.png", 0.5, "name")
    assert saved[-1].axes[1].get_ylim()[1] > 0.5  # the tolerance is in the picture
    picture(found, tmp_path / "p.png", None, "name")
    assert saved[-1].axes[1].get_legend() is None


def test_many_points_are_thinned_in_the_picture(saved, tmp_path):
    u = torch.arange(6000.0, dtype=torch.float64).view(100, 60)
    found = replace(walked(), predicted=u, estimate=estimate_of(u, torch.ones_like(u)))
    picture(found, tmp_path / "p.png", None, "name")
    shown = saved[-1].axes[0].containers[0][0].get_xdata()
    assert len(shown) == 1500 and set(np.diff(shown)) == {4.0}


# --- the law of a cell --------------------------------------------------------------------------
def law(bound=(0.3, 0.4, np.inf)):
    strain = np.array([[0.03, 0.0, 0.04], [0.0, 0.12, 0.05], [0.1, 0.0, 0.0]])
    return LawVerification(strain, np.array(bound), np.array([3.0, 4.0, 1.0]), "disk")


def test_the_report_of_a_law():
    spec = {"name": "law", "metrics": {"test/rel_l2": 0.05, "other": 1.0, "a/rel_l2": None}}
    lines = verify_law.report(law(), spec, 0.2, 1).splitlines()
    # sqrt(0.3^2 + 0.4^2) / sqrt(3^2 + 4^2), of the strains that have a bound
    assert "at most 1.000e-01" in lines[1]
    assert (
        lines[3].split() == "single strains at most 1.000e-01 (median), 1.000e-01 (largest)".split()
    )
    assert "at 1 strains" in lines[4]
    assert lines[5].split() == "recorded test/rel_l2 = 5.000e-02".split()
    assert lines[6:8] == ["largest bounds:", "  strain (+0.1000, +0.0000, +0.0000)  inf"]
    assert lines[8].startswith("verdict: undecided")  # a strain without a bound decides
    bounded = law((0.3, 0.8, 0.1))
    assert bounded.pooled == pytest.approx(math.sqrt(0.74 / 26), rel=1e-12)
    lines = verify_law.report(bounded, spec, 0.2, 0).splitlines()
    assert lines[-1] == "verdict: within 0.2: the bound lies below it"
    assert lines[3].split()[4::2] == ["1.000e-01", "2.000e-01"]
    assert not any("strain (" in line or "no bound" in line for line in lines)
    assert bounded.within(bounded.pooled) and not bounded.within(0.99 * bounded.pooled)
    assert not law().within(0.2)


def test_the_picture_of_a_law(saved, tmp_path):
    verify_law.picture(law(), tmp_path / "a" / "p.png", 0.2, "law")
    (axis,) = saved[-1].axes
    points, level, tolerance = axis.lines
    np.testing.assert_allclose(points.get_xdata(), [0.05, 0.13], rtol=1e-12)
    np.testing.assert_allclose(points.get_ydata(), [0.1, 0.1], rtol=1e-12)
    assert list(level.get_ydata()) == pytest.approx([0.1, 0.1])
    assert list(tolerance.get_ydata()) == [0.2, 0.2] and axis.get_yscale() == "log"
    verify_law.picture(law(), tmp_path / "p.png", None, "law")
    assert len(saved[-1].axes[0].lines) == 2


def test_random_strains_of_a_law_fill_its_box(saved, tmp_path, monkeypatch, capsys):
    """`run` draws three strains per problem, evenly from -box to box, and says what it took."""
    drawn = {}

    def judge(model, strain, workers):
        drawn.update(strain=strain, workers=workers)
        return replace(law(), strain=strain[:3])

    clock = iter([100.0, 102.5])
    monkeypatch.setattr(verify_law, "verify_law", judge)
    monkeypatch.setattr(verify_law, "time", argparse.Namespace(perf_counter=lambda: next(clock)))
    spec = {"name": "law", "metrics": {}}
    model = argparse.Namespace(network=argparse.Namespace(box=torch.tensor(0.02)), spec=spec)
    given = {"seed": 7, "problems": 2000, "workers": 3, "worst": 0, "tolerance": None}
    assert verify_law.run(model, argparse.Namespace(**given), tmp_path / "p.png") == 0
    said = capsys.readouterr().out
    assert f"2000 strains, 2.5 s; picture: {tmp_path / 'p.png'}" in said and drawn["workers"] == 3
    share = np.random.Generator(np.random.PCG64(7)).random((2000, 3))
    np.testing.assert_allclose(drawn["strain"], 0.02 * (2 * share - 1), rtol=1e-6, atol=1e-9)
    assert np.allclose(drawn["strain"].min(0), -0.02, rtol=0.01, atol=0)
    assert np.allclose(drawn["strain"].max(0), 0.02, rtol=0.01, atol=0)


# --- operators with a constraint ----------------------------------------------------------------
def horizons():
    t = torch.tensor
    early = Horizon(
        (0.0, 2.5), t([0.1, 0.3]), t([1.0, 3.0]), t([0.5, 0.25]),
        t([[True, True, False], [True, False, False]]), t([[4, 6, 9], [5, 7, 8]]), t([0.02, 0.04]),
    )  # fmt: skip
    whole = torch.ones(2, 3, dtype=torch.bool)
    late = replace(early, times=(3.0, 5.0), error=t([0.5, 0.7]), converged=whole)
    return ConstrainedVerification("Column", (early, late), (0.012, 0.345))


def test_the_report_of_a_constrained_operator():
    spec = {"name": "moe", "metrics": {"test/rel_l2": 0.2, "test_beyond/rel_l2": 0.6}}
    lines = verify_constrained.report(horizons(), spec, 0.201).splitlines()
    assert lines[0] == "moe: 2 random instances of Column, 3 experts"
    assert lines[2].split() == "as trained mean 2.000e-01, largest 3.000e-01 0 <= t <= 2.5".split()
    assert "mean 2.000e+00 of the equation" in lines[3] and lines[3].endswith("own 3.750e-01")
    assert "50.0% converged, in 6.5 iterations (mean), 9 (most)" in lines[4]
    assert lines[4].endswith("jump between them 3.0e-02; 2 experts failed somewhere")
    assert lines[5].startswith("beyond training") and "mean 6.000e-01" in lines[5]
    assert "100.0% converged" in lines[7] and "failed" not in lines[7]
    assert lines[8].endswith("test/rel_l2 = 2.000e-01")
    assert lines[9].endswith("test_beyond/rel_l2 = 6.000e-01")
    assert "12 ms an instance, the solver 345 ms" in lines[10]
    assert lines[11].startswith("verdict: within 0.201:")  # of the time of training alone
    assert "verdict: beyond 0.19" in verify_constrained.report(horizons(), spec, 0.19)


def test_the_picture_of_a_constrained_operator(saved, tmp_path):
    verify_constrained.picture(horizons(), tmp_path / "a" / "p.png", 0.2, "moe")
    early, late, tolerance = saved[-1].axes[0].lines
    np.testing.assert_allclose(early.get_xdata(), [1.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(early.get_ydata(), [0.1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(late.get_ydata(), [0.5, 0.7], rtol=1e-6)
    assert list(tolerance.get_ydata()) == [0.2, 0.2]


# --- operators on people's own files ------------------------------------------------------------
def fields(coarse=False, data=True):
    t = torch.tensor
    known = (t([0.6, 0.2]), t([0.05, 0.07])) if data else (None, None)
    return FieldVerification("Darcy", coarse, t([0.3, 0.1]), *known, t([2.0, 4.0]), t([0.5, 1.5]))


def test_the_report_of_an_operator_on_files():
    spec = {"name": "fno", "metrics": {"test/rel_l2": 0.4}}
    lines = verify_fields.report(fields(), spec, "test samples of f.h5", 0.25).splitlines()
    assert lines[0] == "fno: 2 test samples of f.h5"
    assert lines[2].split() == "model to solver 2.000e-01, 3.000e-01 by Darcy".split()
    assert lines[3].split() == "model to data 4.000e-01, 6.000e-01".split()
    assert lines[4].split() == "solver to data 6.000e-02, 7.000e-02".split()
    assert lines[5].split() == "residual mean 3.000e+00; the solver's own 1.000e+00".split()
    assert lines[6].split() == "recorded test/rel_l2 = 4.000e-01, against the data".split()
    assert lines[7] == "verdict: within 0.25: the mean error against the solver"
    lines = verify_fields.report(fields(coarse=True), spec, "", 0.25).splitlines()
    assert lines[-1] == "verdict: beyond 0.25: the mean error against the data"
    lines = verify_fields.report(fields(coarse=True, data=False), spec, "", 0.25).splitlines()
    assert lines[-1] == "verdict: within 0.25: the mean error against the solver"
    assert len(lines) == 6


def test_the_picture_of_an_operator_on_files(saved, tmp_path):
    verify_fields.picture(fields(), tmp_path / "a" / "p.png", 0.25, "fno")
    lines = {line.get_label(): list(line.get_ydata()) for line in saved[-1].axes[0].lines}
    assert list(lines) == ["model to solver", "model to data", "solver to data", "tolerance 0.25"]
    assert lines["model to solver"] == pytest.approx([0.1, 0.3])
    assert lines["model to data"] == pytest.approx([0.2, 0.6])
    verify_fields.picture(fields(data=False), tmp_path / "p.png", None, "fno")
    assert len(saved[-1].axes[0].lines) == 1
