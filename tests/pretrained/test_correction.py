"""Solving with a loaded operator on domains of one's own, and corrections by walks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sciml.autodiff.streams import Streams
from sciml.cli.main import main
from sciml.errors import InvalidArgument, InvalidType
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics.elliptic.elliptic_families import StarDiffusion, StarPoisson, StarScreened
from sciml.physics.elliptic.elliptic_grid import Grid, grid_inputs
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.elliptic.grid_problem import Sampled, lagrange, sampled_problem
from sciml.physics.geometry import Ball, Ellipse
from sciml.physics.problems.unit_ball import AllenCahn, Poisson
from sciml.pretrained import (
    PretrainedOperator,
    PretrainedPINN,
    load_pretrained,
    save_operator,
    save_pretrained,
    training_ranges,
)


def stream(name, step=0):
    return Streams(0, step).generator(name)


def wave(x, i):
    return x[0].exp() * x[1].cos() + 1


def spoiled(coefficients=()):
    """Return an untrained operator whose layers say anything, as loaded from a folder."""
    torch.manual_seed(0)
    network = WosFNO(nodes=40, width=4, modes=4, layers=1, hidden=8, coefficients=coefficients)
    with torch.no_grad():
        network.domain[-1].bias.add_(3.0)
    names = ["sdf", "boundary", "source", *coefficients]
    return PretrainedOperator(network, {"inputs": network.schema()["inputs"], "data": {}}), names


def scores(found, u):
    """Return the deviations in standard errors, and the errors of the walks and of the model."""
    z = (found["value"] - u) / found["standard_error"]
    errors = [float((found[k] - u).norm() / u.norm()) for k in ("value", "model")]
    return z, *errors


# --- at points of one's own domains ---------------------------------------------------------------
@pytest.mark.parametrize("name", ["wos_poisson2d", "wos_poisson2d_gino"])
def test_a_shipped_operator_solves_on_ellipses(name):
    operator = load_pretrained(name)
    domain = Ellipse([[1.2, 0.7], [0.9, 1.1]])
    points = domain.sample_interior(200, stream("points"), torch.float64)
    u = wave(points.movedim(2, 0), None)
    plain = operator.solve(domain, Dirichlet(wave), points)
    assert plain.keys() == {"value"}
    assert (plain["value"] - u).norm() < 0.02 * u.norm()
    found = operator.solve(domain, Dirichlet(wave), points, walks=64, seed=1)
    assert torch.equal(found["model"], plain["value"])
    z, walked, _ = scores(found, u)
    assert abs(float(z.mean())) < 4 / 400**0.5 and walked < 0.01
    again = operator.solve(domain, Dirichlet(wave), points, walks=64, seed=1)
    assert torch.equal(again["value"], found["value"])
    other = operator.solve(domain, Dirichlet(wave), points, walks=64, seed=2)
    assert not torch.equal(other["value"], found["value"])


def test_the_error_of_the_model_does_not_matter():
    operator, _ = spoiled()
    domain = Ball([1.0, 0.6], [[0.1, 0.0], [0.0, -0.3]])
    points = domain.sample_interior(150, stream("points"), torch.float64)
    u = wave(points.movedim(2, 0), None)
    z, walked, model = scores(operator.solve(domain, Dirichlet(wave), points, walks=256), u)
    assert model > 0.05 and walked < model / 10
    assert abs(float(z.mean())) < 4 / 300**0.5 and 0.7 < float(z.std()) < 1.5


# --- at the nodes of a grid -----------------------------------------------------------------------
FAMILIES = [
    (StarPoisson(), ()),
    (StarScreened(), ("screening",)),
    (StarDiffusion(), ("diffusion",)),
]


@pytest.mark.parametrize(("family", "coefficients"), FAMILIES, ids=["poisson", "screened", "alpha"])
def test_grids_are_corrected_whatever_the_operator_says(family, coefficients, tmp_path):
    operator, names = spoiled(coefficients)
    problems = family.draw(2, stream("problems"))
    grid = Grid(40)
    inputs = grid_inputs(problems.domain, problems.problem, grid)
    found = operator.predict(**inputs, correct=64, chunk=1)
    assert found.keys() == {"value", "standard_error", "model"} and list(inputs) == names
    assert torch.equal(found["model"], operator.predict(**inputs, chunk=1)["value"])
    inside = inputs["sdf"] < -0.03
    points = torch.where(inside.flatten(1)[..., None], grid.points(2), 0.0)
    u = problems.solution(points).view(inside.shape)[inside]
    z, walked, model = scores({k: v[inside] for k, v in found.items()}, u)
    assert model > 0.05 and walked < model / 4
    # the grid shows the problem to about a thousandth; more noise than that is the walks'
    noise = found["standard_error"][inside].square().mean().sqrt()
    bias = (found["value"][inside] - u).mean().abs()
    assert bias < 4 * noise / len(u) ** 0.5 + 1e-3 * u.square().mean().sqrt()
    assert 0.7 < float(z.std()) < (2.5 if coefficients == ("diffusion",) else 1.5)
    outside = inputs["sdf"] > 0.01
    assert torch.equal(found["value"][outside], found["model"][outside])
    assert found["standard_error"][outside].isnan().all()


def test_the_verb_corrects(tmp_path, capsys):
    operator, _ = spoiled()
    network = operator.network
    arguments = {"nodes": 40, "width": 4, "modes": 4, "layers": 1, "hidden": 8}
    folder = save_operator(tmp_path / "m", network, arguments=arguments, ranges={}, name="walks")
    problems = StarPoisson().draw(1, stream("problems"))
    inputs = grid_inputs(problems.domain, problems.problem, Grid(40))
    np.savez(tmp_path / "in.npz", **{k: v.numpy() for k, v in inputs.items()})
    words = ["predict", str(folder), str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz")]
    assert main([*words, "--correct", "8", "--seed", "3"]) == 0
    assert "standard_error (1, 40, 40)" in capsys.readouterr().out
    found = np.load(tmp_path / "out.npz")
    wanted = load_pretrained(folder).predict(**inputs, correct=8, seed=3)
    for name, value in wanted.items():
        assert np.array_equal(found[name], value.numpy(), equal_nan=True)
    for wrong, said in (("1", "at least 2 walks"), ("-2", "--correct: -2 is not usable")):
        assert main([*words, "--correct", wrong]) == 2
        assert said in capsys.readouterr().err


# --- solutions of one equation --------------------------------------------------------------------
def solution(folder, kind=Poisson):
    torch.manual_seed(0)
    arguments = {"dim": 3, "width": 8, "depth": 2}
    model = TrialSolution(kind(dim=3), MLP(**arguments), ["x"])
    x = model.problem.sample(64, torch.Generator().manual_seed(0)).x
    return save_pretrained(
        folder,
        model,
        problem={"class": kind.__name__, "arguments": {"dim": 3}},
        network={"class": "MLP", "arguments": arguments},
        ranges=training_ranges(x),
        name="untrained",
    )


def test_an_untrained_solution_is_corrected(tmp_path):
    model = load_pretrained(solution(tmp_path / "m"))
    assert isinstance(model, PretrainedPINN)
    x = 0.9 * Ball(1.0, (0.0,) * 3).sample_interior(200, stream("points"), torch.float32)[0]
    u = model.solution.problem.exact(x)
    found = model.predict(x, correct=64)
    z, walked, off = scores(found, u)
    assert off > 0.1 and walked < off / 3 and abs(float(z.mean())) < 4 / 200**0.5
    np.savez(tmp_path / "x.npz", x=x.numpy())
    words = ["predict", str(tmp_path / "m"), str(tmp_path / "x.npz"), "-o", str(tmp_path / "o.csv")]
    assert main([*words, "--correct", "64"]) == 0
    header, *_ = (tmp_path / "o.csv").read_text().splitlines()
    assert header == "value,du_dx1,du_dx2,du_dx3,standard_error,model"
    table = np.loadtxt(tmp_path / "o.csv", delimiter=",", skiprows=1)
    assert np.allclose(table[:, 0], found["value"], rtol=1e-6)
    refused = load_pretrained(solution(tmp_path / "n", AllenCahn))
    with pytest.raises(InvalidArgument, match="linear elliptic"):
        refused.predict(x, correct=64)


# --- what is refused ------------------------------------------------------------------------------
def test_wrong_input_is_explained():
    operator, _ = spoiled()
    disk, points = Ball(), torch.zeros(1, 3, 2)
    with pytest.raises(InvalidArgument, match="1 walks.*at least 2"):
        operator.solve(disk, Dirichlet(wave), points, walks=1)
    with pytest.raises(InvalidArgument, match="3 of 3 points outside"):
        operator.solve(disk, Dirichlet(wave), points + 2)
    with pytest.raises(InvalidArgument, match=r"\(B, P, d\)"):
        operator.solve(disk, Dirichlet(wave), points[0])
    with pytest.raises(InvalidType, match="sdf is a Ball.*solve"):
        operator.predict(disk, torch.zeros(1, 40, 40), torch.zeros(1, 40, 40))
    nowhere = torch.ones(1, 40, 40)
    with pytest.raises(InvalidArgument, match="nowhere negative"):
        operator.predict(nowhere, nowhere, nowhere, correct=4)
    cloud = load_pretrained("wos_poisson2d_gino")
    row = torch.zeros(1, 9)
    with pytest.raises(InvalidArgument, match="Use solve"):
        cloud.predict(torch.rand(1, 9, 2), row, row, row, correct=4)


# --- fields between the nodes ---------------------------------------------------------------------
@pytest.mark.parametrize(("count", "derivative"), [(4, 0), (6, 1), (6, 2)])
def test_polynomials_between_the_nodes_are_exact(count, derivative):
    x, fine = np.arange(12.0), np.arange(11 * 5 + 1) / 5
    p = np.polynomial.Polynomial(np.random.default_rng(0).normal(size=count)) - 1.0
    matrix = lagrange(12, 5, count, derivative).numpy()
    wanted = p.deriv(derivative)(fine) if derivative else p(fine)
    assert np.allclose(matrix @ p(x), wanted, atol=1e-8 * np.abs(wanted).max(), rtol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_fields_are_interpolated_as_torch_does(dim):
    values = torch.randn(3, *[9] * dim, generator=torch.Generator().manual_seed(0)).double()
    points = 4 * torch.rand(3, 20, dim, generator=torch.Generator().manual_seed(1)).double() - 2
    x, i = points.permute(2, 0, 1).reshape(dim, -1), torch.arange(3).repeat_interleave(20)
    place = (points / 1.5).flip(-1).view(3, 20, *[1] * (dim - 1), dim)
    wanted = F.grid_sample(values[:, None], place, padding_mode="border", align_corners=True)
    assert torch.allclose(
        Sampled(values, 1.5)(x, i).view(3, 20), wanted.view(3, 20), rtol=1e-12, atol=1e-11
    )


def test_coefficients_of_a_grid_are_those_it_was_made_from():
    problems = StarDiffusion().draw(2, stream("problems"))
    domain, found = sampled_problem(grid_inputs(problems.domain, problems.problem, Grid(44)), 1.5)
    points = problems.domain.sample_interior(300, stream("points"), torch.float64)
    x, i = problems.domain.columns(points)
    wanted = problems.problem
    for name, tolerance in (("source", 3e-3), ("diffusion", 1e-3), ("reduced", 5e-3)):
        exact = getattr(wanted, name)(x, i)
        off = (getattr(found, name)(x, i) - exact).abs().max()
        assert off < tolerance * exact.abs().max(), (name, float(off))
    slope = found.diffusion.log_gradient(x, i) - wanted.diffusion.log_gradient(x, i)
    assert slope.abs().max() < 2e-3
    on = problems.domain.sample_boundary(400, stream("boundary"), torch.float64).points
    off = domain.interpolate(*domain.columns(on)).abs()
    assert off.mean() < 5e-4 and off.max() < 0.01  # the largest at the sharpest tips
