"""`sciml verify` on solutions with known errors."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.cli.main import main
from sciml.cli.verbs.point_files import _read_csv
from sciml.cli.verification import verify as verb
from sciml.cli.verification.verify_law import report
from sciml.errors import InvalidArgument
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.networks.elliptic.wos_gino import WosGINO
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics.problems.poisson_box import PoissonBox
from sciml.physics.problems.unit_ball import AllenCahn, Poisson
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.verification import verify
from sciml.pretrained import load_pretrained, save_operator, save_pretrained, training_ranges
from sciml.pretrained.judging.trained_elliptic import judged
from sciml.pretrained.judging.trained_law import LawVerification

PROBLEMS = {"Poisson": Poisson, "PoissonBox": PoissonBox, "AllenCahn": AllenCahn}
SMALL = ["--problems", "32", "--points", "8", "--walks", "32", "--eps", "1e-3"]


def save(folder, name="Poisson", dim=3, **options):
    torch.manual_seed(0)
    arguments = {"dim": dim, "width": 8, "depth": 2}
    problem = PROBLEMS[name](dim=dim, **options)
    solution = TrialSolution(problem, MLP(**arguments), ["x"])
    x = problem.sample(64, torch.Generator().manual_seed(0)).x
    return save_pretrained(
        folder,
        solution,
        problem={"class": name, "arguments": {"dim": dim, **options}},
        network={"class": "MLP", "arguments": arguments},
        ranges=training_ranges(x),
        name="untrained",
    )


@pytest.mark.parametrize(
    ("name", "options"), [("Poisson", {}), ("PoissonBox", {"solution": "pair_products"})]
)
def test_the_interval_covers_the_error_of_a_solution(tmp_path, name, options):
    """An untrained network in a ball and in a box, against its error at many random points."""
    dim = 3 if name == "Poisson" else 4
    model = load_pretrained(save(tmp_path / "m", name, dim, **options))
    draw, predict = judged(model)
    problems = draw(256, torch.Generator().manual_seed(0))
    x = problems.domain.sample_interior(400, torch.Generator().manual_seed(1), torch.float64)
    u = model.solution.problem.exact(x.reshape(-1, dim)).view(x.shape[:2])
    true = float((predict(problems, x) - u).norm() / u.norm())
    generator = Streams(0, 0).generator("walks")
    engine = WalkOnSpheres(walks=64, eps=2e-4)
    found = verify(predict, problems, generator, points=8, engine=engine, confidence=0.999)
    assert found.rel_l2.low < true < found.rel_l2.high
    assert found.rel_l2.high / found.rel_l2.low < 1.5


def test_the_verb_reports_and_decides(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = str(save(tmp_path / "m"))
    clock = iter([100.0, 102.5])
    with monkeypatch.context() as patch:
        patch.setattr(verb, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        assert main(["verify", folder, *SMALL, "--tolerance", "10"]) == 0
    out = capsys.readouterr().out
    assert "walks, 2.5 s; picture: verification.png" in out
    value, low, high = map(
        float, re.search(r"relative L2 error +(\S+) \((\S+) to (\S+)\)", out).groups()
    )
    assert low < value < high and math.isfinite(high)
    assert "verdict: within 10" in out and out.count("walks +") + out.count("walks -") == 5
    assert (tmp_path / "verification.png").stat().st_size > 10_000
    assert main(["verify", folder, *SMALL, "--tolerance", "0.001", "-o", "x/p.pdf"]) == 1
    assert "verdict: beyond 0.001" in capsys.readouterr().out and (tmp_path / "x/p.pdf").exists()
    middle = [*SMALL, "--worst", "0", "--tolerance", str(value)]
    assert main(["verify", folder, *middle]) == 1
    said = capsys.readouterr().out
    assert "verdict: undecided" in said and "worst" not in said


def test_the_same_seed_says_the_same(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = str(save(tmp_path / "m"))
    said = []
    for seed in ("1", "1", "2"):
        assert main(["verify", folder, *SMALL, "--seed", seed]) == 0
        said.append(capsys.readouterr().out.rsplit("\n", 2)[0])
    assert said[0] == said[1] != said[2]


def test_models_that_walks_cannot_judge_are_refused(tmp_path, capsys):
    folder = save(tmp_path / "m", "AllenCahn")
    with pytest.raises(InvalidArgument, match="AllenCahn.*linear elliptic"):
        judged(load_pretrained(folder))
    assert main(["verify", str(folder)]) == 2
    assert "sciml verify: a model of AllenCahn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tolerance", "-1"], "--tolerance: -1 is not usable"),
        (["--output", "a.jpg.exe"], "--output a.jpg.exe"),
        (["--problems", "4"], "4 problems"),
        (["--walks", "0"], "--walks: 0 is not usable"),
        (["--walks", "1"], "--walks: 1 is not usable. Expected a whole number from 2"),
        (["--worst", "-1"], "--worst: -1 is not usable"),
        (["--points", "0"], "--points: 0 is not usable"),
        (["--confidence", "95"], "--confidence: 95 is not usable"),
        (["--margin", "0.9"], "margin=0.9. Expected a number from 0 to 0.5"),
        (["--device", "nowhere"], "--device nowhere"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, capsys, words, message):
    assert main(["verify", str(save(tmp_path / "m")), *words]) == 2
    assert message in capsys.readouterr().err


# --- operators ---------------------------------------------------------------------------------
ARGUMENTS = {
    WosFNO: {"nodes": 32, "width": 4, "modes": 4, "layers": 1, "hidden": 8},
    WosGINO: {"nodes": 24, "width": 4, "modes": 4, "layers": 1, "hidden": 8},
}


def save_walk_operator(folder, kind=WosFNO, spoil=0.0, family="StarPoisson"):
    torch.manual_seed(0)
    network = kind(**ARGUMENTS[kind])
    with torch.no_grad():
        network.domain[-1].bias.add_(spoil)  # gates that let the untrained layers through
    node = {"_target_": f"sciml.physics.elliptic.elliptic_families.{family}", "spread": 0.2}
    return save_operator(
        folder,
        network,
        arguments=ARGUMENTS[kind],
        ranges={},
        name="walks",
        data={"recipe": {"family": node}},
    )


@pytest.mark.parametrize("kind", [WosFNO, WosGINO])
def test_an_operator_is_judged_on_its_family(kind, tmp_path, capsys, monkeypatch):
    """Against the exact solutions of the very problems drawn, and of many more points in them."""
    monkeypatch.chdir(tmp_path)
    folder = save_walk_operator(tmp_path / "m", kind)
    draw, predict = judged(load_pretrained(folder))
    problems = draw(48, torch.Generator().manual_seed(0))
    x = problems.domain.sample_interior(60, torch.Generator().manual_seed(1), torch.float64)
    u = problems.solution(x)
    with torch.no_grad():
        true = float((predict(problems, x).double() - u).norm() / u.norm())
        generator = torch.Generator().manual_seed(2)
        found = verify(predict, problems, generator, points=12, confidence=0.99)
    assert 0.5 * true < found.rel_l2.low < true < found.rel_l2.high < 2 * true
    few = ["--problems", "24", "--points", "6", "--walks", "64", "--worst", "2"]
    assert main(["verify", str(folder), *few, "--tolerance", str(3 * true)]) == 0
    spoiled = save_walk_operator(tmp_path / "bad", kind, spoil=3.0)
    assert main(["verify", str(spoiled), *few, "--tolerance", str(3 * true)]) == 1
    assert "beyond" in capsys.readouterr().out


def test_families_outside_the_table_are_not_built(tmp_path, capsys):
    folder = save_walk_operator(tmp_path / "m", family="../evil.Family")
    assert main(["verify", str(folder)]) == 2
    assert "Known families" in capsys.readouterr().err


def test_the_largest_bounds_of_a_law_come_first():
    strain = np.arange(12.0).reshape(4, 3) / 100
    found = LawVerification(strain, np.array([0.1, 0.4, np.inf, 0.2]), np.ones(4), "disk")
    spec = {"name": "law", "metrics": {"test/rel_l2": 0.05, "test/other": None}}
    lines = report(found, spec, None, 2).splitlines()
    assert "4 random strains" in lines[0]
    assert any("1 strains" in line for line in lines if line.startswith("no bound"))
    shown = [line for line in lines if line.startswith("  strain")]
    assert [line.split()[-1] for line in shown] == ["inf", "4.000e-01"]
    assert "(+0.0600, +0.0700, +0.0800)" in shown[0]


def test_a_table_without_names_has_its_time_last(tmp_path):
    (tmp_path / "p.csv").write_text("1,2,9\n3,4,8\n")
    found = _read_csv(tmp_path / "p.csv", timed=True, dim=2)
    np.testing.assert_array_equal(found["x"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found["t"], [[9], [8]])
    assert _read_csv(tmp_path / "p.csv", timed=False, dim=3)["x"].shape == (2, 3)
