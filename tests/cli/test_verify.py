"""`sciml verify` on solutions with known errors."""

import math
import re

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.cli.main import main
from sciml.errors import InvalidArgument
from sciml.networks.mlp import MLP
from sciml.networks.trial import TrialSolution
from sciml.physics.ball import AllenCahn, Poisson
from sciml.physics.elliptic import PoissonBox
from sciml.physics.verification import verify
from sciml.physics.walk_on_spheres import WalkOnSpheres
from sciml.pretrained import load_pretrained, save_pretrained, training_ranges
from sciml.pretrained.elliptic import judged

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
    assert main(["verify", folder, *SMALL, "--tolerance", "10"]) == 0
    out = capsys.readouterr().out
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
        (["--tolerance", "-1"], "--tolerance -1.0"),
        (["--output", "a.jpg.exe"], "--output a.jpg.exe"),
        (["--problems", "4"], "4 problems"),
        (["--walks", "0"], "walks=0"),
        (["--device", "nowhere"], "--device nowhere"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, capsys, words, message):
    assert main(["verify", str(save(tmp_path / "m")), *words]) == 2
    assert message in capsys.readouterr().err
