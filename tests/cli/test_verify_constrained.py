"""`sciml verify` on operators with a constraint: against errors and residuals computed here."""

import re

import pytest
import torch

from sciml.cli.main import main
from sciml.errors import InvalidArgument
from sciml.physics.evolution.evolution_problem import training_levels
from sciml.pretrained import load_pretrained
from sciml.pretrained.judging.trained_constraint import is_constrained, verify_constrained
from sciml.testing import runs

SMALL = ("network.width=6", "network.hidden=8", "network.modes=2", "network.blocks=2")
SMALL += ("network.functions=4", "data.train=6", "data.val=2", "data.test=2", "data.references=0")
SMALL += ("trainer.precision=64-true", "solver.rtol=1e-8", "solver.max_iter=40")
COLUMN = ("data.problem.cells=12", "data.problem.time_count=8", "network.constraint.points=20")
COLUMN += ("network.constraint.overlap=1",)


@pytest.fixture(scope="module")
def column(tmp_path_factory):
    folder = tmp_path_factory.mktemp("column")
    _made(["model=moe_diffusion_sorption", "experts=2", *SMALL, *COLUMN], folder)
    return folder


def _made(words, folder):
    trainer = {"max_steps": 1, "limit_val_batches": 0}
    run = runs.fit(runs.prepare(words, folder, callbacks=["export"], trainer=trainer))
    run.trainer.test(run.module, run.data, verbose=False)


def test_errors_and_residuals_of_fresh_instances(column):
    model = load_pretrained(column)
    assert is_constrained(model)
    found = verify_constrained(model, 3, torch.Generator().manual_seed(5))
    problem = model.network.equation.problem
    field = problem.sample(3, torch.Generator().manual_seed(5))
    exact = problem.solve(field).value
    first, beyond = found.horizons
    levels = 7  # of graded times, the nearest to 0.8 of the horizon: (6 / 7)^2 = 0.73
    assert training_levels(problem.times, 0.8) == levels
    assert first.times == (0.0, float(problem.times[6]))
    assert beyond.times == (float(problem.times[7]), 500.0)
    layer, early = model.network.constraint, exact[:, :levels]
    value = model.predict(field=field, times=problem.times[:levels])["value"].double()
    error = (value - early).flatten(1).norm(dim=1) / early.flatten(1).norm(dim=1)
    torch.testing.assert_close(first.error, error, rtol=1e-12, atol=0)
    for u, size in ((value, first.residual), (early, first.own)):
        wanted = layer.residual(u, field).flatten(1).square().mean(1).sqrt()
        torch.testing.assert_close(size, wanted, rtol=1e-6, atol=0)
    value = model.predict(field=field)["value"].double()
    error = (value - exact)[:, 7].norm(dim=1) / exact[:, 7].norm(dim=1)
    torch.testing.assert_close(beyond.error, error, rtol=1e-12, atol=0)
    assert float(first.own.max()) < float(first.residual.min())


def test_the_command_prints_them_and_judges(column, tmp_path, capsys):
    picture = tmp_path / "seen.png"
    words = ["verify", str(column), "--problems", "3", "--seed", "5", "-o", str(picture)]
    assert main([*words, "--tolerance", "1e-6"]) == 1
    said = capsys.readouterr().out
    found = verify_constrained(load_pretrained(column), 3, torch.Generator().manual_seed(5))
    mean = re.search(r"as trained +mean (\S+), largest (\S+)  0 <= t <= 367", said)
    assert float(mean[1]) == pytest.approx(float(found.horizons[0].error.mean()), rel=1e-3)
    assert "3 random instances of DiffusionSorption, 2 experts" in said
    assert "beyond training" in said and "verdict: beyond 1e-06" in said
    assert picture.stat().st_size > 10_000
    assert main([*words, "--tolerance", "1e6"]) == 0
    assert "verdict: within 1e+06" in capsys.readouterr().out


def test_an_equation_without_time_has_one_horizon(tmp_path, capsys):
    _made(["model=moe_darcy", *SMALL[:-2], "data.problem.cells=8"], tmp_path)
    assert main(["verify", str(tmp_path), "--problems", "2", "-o", str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr().out
    assert "beyond training" not in said and "t <=" not in said


def test_other_models_are_refused():
    law = load_pretrained("equino_disk")
    assert not is_constrained(law)
    with pytest.raises(InvalidArgument, match="for EquiNO"):
        verify_constrained(law, 1, torch.Generator())
