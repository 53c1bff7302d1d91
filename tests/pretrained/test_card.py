"""Cards: the program in them runs and prints the number that they state."""

import re
import subprocess
import sys

import pytest
import torch

from sciml.pretrained import list_pretrained, load_pretrained
from sciml.pretrained.files.folder import SHIPPED
from sciml.pretrained.files.model_description import read_spec
from sciml.pretrained.saving import card, example

SIGNS = {
    "wos_poisson2d": "Laplacian u = -f",
    "wos_poisson2d_gino": "Laplacian u = -f",
    "wos_poisson3d": "Laplacian u = -f",
    "wos_screened2d": "Laplacian u - sigma u = -f",
    "wos_varcoef2d": "div(alpha grad u) = -f",
}
LAWS = [name for name in list_pretrained() if read_spec(SHIPPED / name)["class"] == "EquiNO"]
SYSTEMS = [n for n in list_pretrained() if example.preconditions(read_spec(SHIPPED / n))]
IMPOSED = [n for n in list_pretrained() if example.imposed(read_spec(SHIPPED / n))]
ELLIPTIC = [name for name in list_pretrained() if name not in LAWS + SYSTEMS + IMPOSED]


def program_and_number(text):
    """Return what a reader copies, and the number that the card states below it."""
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    return program, float(re.search(r"This program prints `([^`]+)`", text)[1])


@pytest.mark.parametrize("name", ELLIPTIC)
def test_the_program_of_a_shipped_card_prints_what_the_card_says(name, tmp_path):
    text = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    program, number = program_and_number(text)
    assert f'load_pretrained("{name}")' in program
    assert float(example.run(program)) == pytest.approx(number, rel=2e-3)
    # the problem's signs are those of the operator, and the example is no better or worse than
    # what the card says of unseen problems: a stranger may expect this of his own
    typical = load_pretrained(name).metrics["test/rel_l2"]
    assert typical / 4 < number < 1.5 * typical
    assert f"unseen problems is `{typical:.4g}`" in text


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_program_of_a_preconditioner_prints_the_iterations_of_scipy(name):
    text = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    program, number = program_and_number(text)
    assert f'load_pretrained("{name}")' in program and "M=learned.to_scipy()" in program
    assert abs(int(example.run(program)) - number) <= 1


@pytest.mark.parametrize("name", ELLIPTIC)
def test_the_data_of_a_program_belong_to_its_solution(name):
    """The equation by automatic differentiation, at points anywhere in the box."""
    spec = read_spec(SHIPPED / name)
    _, value, data = example.FAMILIES[example.family_of(spec)]
    dim = 3 if "3d" in name else 2
    generator = torch.Generator().manual_seed(1)
    points = 2 * torch.rand(7, dim, generator=generator, dtype=torch.float64) - 1

    def at(point):
        x = point[:, None]
        names = {"x": x, "r2": x.square().sum(0), "torch": torch}
        exec("\n".join([f"u = {value}", *data]), names)
        return {k: v[0] for k, v in names.items() if k not in ("x", "torch", "__builtins__")}

    def flux(point):
        slope = torch.func.grad(lambda p: at(p)["u"])(point)
        return at(point).get("diffusion", 1.0) * slope

    for point in points:
        found = at(point)
        divergence = torch.func.jacrev(flux)(point).trace()
        residual = divergence - found.get("screening", 0.0) * found["u"] + found["source"]
        assert abs(float(residual)) < 1e-12


def test_a_program_runs_in_a_fresh_process(tmp_path):
    text = (SHIPPED / "wos_poisson2d" / "README.md").read_text(encoding="utf-8")
    program, number = program_and_number(text)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=100
    )
    assert float(done.stdout) == pytest.approx(number, rel=2e-3), done.stderr


@pytest.mark.parametrize("name", ELLIPTIC)
def test_a_shipped_card_tells_a_stranger_everything(name):
    text = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    assert SIGNS[name] in text and "u = g on its boundary" in text
    for said in ("negative inside", "closest", "[-1.5, 1.5]", "u / length^2", "mean over the"):
        assert said in text, said
    if "points" not in load_pretrained(name).spec["inputs"]:
        assert "the first axis is x" in text
    # written by the command, not by hand
    spec = read_spec(SHIPPED / name)
    printed = re.search(r"This program prints `([^`]+)`", text)[1]
    assert card.render(spec, printed, name) == text


@pytest.mark.parametrize("name", LAWS)
def test_the_card_of_a_law_tells_a_stranger_everything(name):
    text = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    program, number = program_and_number(text)
    assert f'load_pretrained("{name}")' in program
    assert float(example.run(program)) == pytest.approx(number, rel=2e-3)
    spec = read_spec(SHIPPED / name)
    said = ["gxy = 2 exy", "N/mm^2", "independent of training", "sciml.physics.solids."]
    said += [f"| {metric} |" for metric in spec["metrics"]]
    assert not [words for words in said if words not in text]
    # written by the command, not by hand
    assert card.render(spec, re.search(r"This program prints `([^`]+)`", text)[1], name) == text


@pytest.mark.parametrize("name", IMPOSED)
def test_the_card_of_a_constrained_operator_tells_a_stranger_everything(name):
    text = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    program, number = program_and_number(text)
    assert f'load_pretrained("{name}")' in program
    assert float(example.run(program)) == pytest.approx(number, rel=2e-2)
    spec = read_spec(SHIPPED / name)
    said = [
        "also when predicting. Look at `converged`",
        "without any solution",
        "first the initial",
    ]
    said += [f"| {metric} |" for metric in spec["metrics"]]
    assert not [words for words in said if words not in text]
    # written by the command, not by hand
    assert card.render(spec, re.search(r"This program prints `([^`]+)`", text)[1], name) == text


def test_the_card_of_a_trained_solution(saved):
    folder, _ = saved
    program, number = program_and_number((folder / "README.md").read_text())
    program = program.replace(example.PLACE, str(folder))
    assert float(example.run(program)) == pytest.approx(number, rel=2e-3)


def test_nothing_but_names_and_numbers_reach_the_program():
    spec = {"inputs": {"x); import os; (": {"shape": ["N"]}}, "outputs": {"u": {}}, "data": {}}
    assert example.program(spec) is None
    spec["inputs"] = {"x": {"shape": ["N"], "ranges": {"value": ["__import__('os')", 1]}}}
    with pytest.raises(ValueError, match="could not convert"):
        example.program(spec)
