"""What people's own systems leave: pictures without a reference, folders that can be read again."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sciml
from sciml.cli import train
from sciml.errors import InvalidArgument, PretrainedError
from sciml.modules.evaluation import own_pictures
from sciml.networks import MLP
from sciml.networks.solutions.ansatz import Ansatz, network_sizes
from sciml.pinn import (
    Disk,
    Initial,
    Interval,
    Observed,
    On,
    Range,
    Rectangle,
    System,
    Time,
    load,
    solve,
)

OWN = """
import torch
from sciml.pinn import Initial, Interval, Observed, On, System, Time, Unknown


class Rod(System):
    domain = Interval(0, 1) * Time(0, 1)
    k = Unknown(0.5, positive=True)
    conditions = {
        "start": Initial(u=lambda x: torch.sin(torch.pi * x)),
        "ends": On(domain.boundary, u=0),
        "data": Observed({"x": [0.3, 0.5], "t": [0.1, 0.2], "u": [0.3, 0.14]}, sigma=0.1),
    }

    def residual(self, u):
        return u.t - self.k * u.xx
"""
space: dict = {}
exec(OWN, space)
Rod = space["Rod"]


def test_an_unknown_constant_goes_through_a_run_with_a_folder(tmp_path) -> None:
    """Trainers test without gradients, which standard errors need."""
    folder = tmp_path / "run"
    solution = solve(Rod(), steps=5, points=60, condition_points=20, run_dir=folder)
    value, error = solution.unknowns["k"]
    assert value > 0 and 0 < error < 10
    assert {"fields.png", "losses.png", "unknowns.png"} <= {p.name for p in folder.glob("plots/*")}
    again = load(folder, Rod())
    x = torch.rand(9, 2).double()
    assert torch.equal(again(x)["u"], solution(x)["u"])
    assert again.unknowns["k"] == solution.unknowns["k"]
    with pytest.raises(PretrainedError, match=r"Write sciml.pinn.load\("):
        sciml.load_pretrained(folder)
    with pytest.raises(PretrainedError, match="or that of a run of one's own problem"):
        load(tmp_path, Rod())


def test_a_run_of_the_command_line_can_be_read_again(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rod.py").write_text(OWN)
    words = ["model=pinn_system", "problem=rod.py:Rod", "optimizer=lm", "trainer.max_steps=5"]
    assert train.main([*words, "data.points=60", "hydra.run.dir=run"]) == 0
    again = load("run", Rod())
    assert float(again(x=0.5, t=0.5)["u"]) == float(again(x=0.5, t=0.5)["u"])
    assert "test/unknown/k" in again.metrics
    assert {"fields.png", "unknowns.png"} <= {p.name for p in Path("run/plots").glob("*")}


class Plane(System):
    outputs = ("u", "v")
    domain = (Rectangle((0, 0), (2, 1)) - Disk((1, 0.5), 0.25)) * Time(0, 3) * Range("k", 4, 6)

    def residual(self, u, v):
        return u.t - v, v.t + u


class Swing(System):
    outputs = ("a", "b")
    domain = Time(1, 3)
    conditions = {"start": Initial(a=1, b=0)}

    def residual(self, a, b):
        return a.t - b, b.t + a


class Front(System):
    domain = Interval(-1, 1) * Time(0, 2)

    def residual(self, u):
        return u.t + u.x


def known(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Numbers that tell where they come from."""
    weights = torch.tensor([1, 10, 100, 1000], dtype=torch.float64)[: x.shape[1]]
    value = (x * weights).sum(1)
    return {"u": value, "v": -value, "a": value, "b": 2 * value}


def test_maps_are_in_the_middle_of_parameters_at_three_times_and_empty_in_holes() -> None:
    u, v = own_pictures.pictures(Plane(), known)["maps"]
    assert (u["xlabel"], u["ylabel"], u["extent"]) == ("x", "y", [0.0, 2.0, 0.0, 1.0])
    assert [title for title, _ in u["panels"]] == [
        f"t = {t}, k = 5" for t in ("0", "1.5", "3")
    ] or [title for title, _ in u["panels"]] == [f"k = 5, t = {t}" for t in ("0", "1.5", "3")]
    for time, (_, field) in zip((0, 1.5, 3), u["panels"], strict=True):
        assert field.shape == (121, 121)
        assert field[0, 0] == pytest.approx(100 * time + 5000)
        assert field[-1, -1] == pytest.approx(2 + 10 + 100 * time + 5000)  # rows go up
        assert np.isnan(field[60, 60])
        assert np.isnan(field).mean() == pytest.approx(np.pi * 0.25**2 / 2, rel=0.05)
    assert v["panels"][0][1][0, 0] == pytest.approx(-5000)


def test_one_variable_has_curves_and_space_and_time_a_map() -> None:
    curve = own_pictures.pictures(Swing(), known)["curves"]["solution"]
    assert curve["xlabel"] == "t" and curve["x"][0] == 1 and curve["x"][-1] == 3
    np.testing.assert_allclose(curve["y"]["b"], 2 * curve["x"], rtol=1e-12)
    (row,) = own_pictures.pictures(Front(), known)["maps"]
    ((title, field),) = row["panels"]
    assert (title, row["xlabel"], row["ylabel"]) == ("", "x", "t")
    assert field[0, 0] == -1 and field[-1, 0] == 19


def test_pictures_are_drawn(tmp_path) -> None:
    solution = solve(Swing(), steps=2, points=20, run_dir=tmp_path / "run")
    assert (tmp_path / "run/plots/solution.png").exists()
    written = {path.name for path in solution.plot(tmp_path / "again")}
    assert "solution.png" in written
    with Image.open(tmp_path / "again/plots/solution.png") as image:
        assert len(set(image.convert("RGB").resize((64, 64)).getdata())) > 20


def plate(side: float, low: float, high: float) -> System:
    class Plate(System):
        outputs = ("T",)
        domain = Rectangle((0, 0), (side, side))
        conditions = {
            "left": On(domain.left, T=low),
            "right": On(domain.right, T=high),
            "rest": On(domain.rest, T_n=0),
        }

        def residual(self, T):  # noqa: N803 - as physicists write it
            return T.lap

    return Plate()


@pytest.mark.parametrize(("side", "low", "high"), [(1, 300, 400), (1e-3, 0, 1), (1000, 0, 1)])
def test_physical_units_are_warned_of_and_balanced_terms_solve_them(side, low, high) -> None:
    with pytest.warns(UserWarning, match="balance='gradnorm'"):
        solve(plate(side, low, high), steps=1, points=100)
    if low == 300:  # values far from zero take long, whatever the weights
        scaled = plate(side, low, high)
        scaled.scales = {"T": (350, 50)}
        found = solve(scaled, steps=60, points=200)(x=[0.25, 0.5, 0.75], y=0.5)["T"]
        assert found.tolist() == pytest.approx([325, 350, 375], abs=0.01)
        return
    words = ("module.balance_every=10",)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        solution = solve(plate(side, low, high), *words, steps=60, points=200, balance="gradnorm")
    x = [side / 4, side / 2, 3 * side / 4]
    wanted = [low + (high - low) * share for share in (0.25, 0.5, 0.75)]
    found = solution(x=x, y=side / 2)["T"].tolist()
    assert found == pytest.approx(wanted, abs=2e-3 * (high - low))


def test_usual_units_are_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        solve(plate(1, 0, 1), steps=1, points=100)


class Level(System):
    """A constant, read a hundred times."""

    domain = Interval(0, 1)
    conditions = {}

    def __init__(self, sigma: float) -> None:
        noise = torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
        x = torch.linspace(0, 1, 100).double()
        read = {"x": x, "u": 0.3 + 0.1 * noise}
        self.conditions = {"data": Observed(read, sigma=sigma)}

    def residual(self, u):
        return u.x


@pytest.mark.parametrize(
    ("sigma", "said"), [(1.0, "far below the noise"), (0.01, "above the noise"), (0.1, None)]
)
def test_a_misfit_that_is_not_about_one_is_told(sigma, said) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = solve(Level(sigma), steps=20, points=50)
    told = [str(w.message) for w in caught if "misfit of 'data'" in str(w.message)]
    assert bool(told) is (said is not None)
    assert said is None or said in told[0]
    assert solution.metrics["test/misfit/data"] == pytest.approx(0.1 / sigma, rel=0.2)


def test_scales_are_the_units_of_values_and_derivatives() -> None:
    class Two(Plane):
        scales = {"v": (350.0, 50.0)}

        def hard(self, u, v, x):
            return {"v": x * v}

    torch.manual_seed(0)
    ours, plain = Two(), Plane()
    network = MLP(**network_sizes(ours), width=6, depth=3)
    ansatz, bare = Ansatz(ours, network).double(), Ansatz(plain, network).double()
    p = ours.sample(7, torch.Generator().manual_seed(0))
    x, raw = p.x[:, 0], bare(p.x)
    found = ansatz(p.x)
    torch.testing.assert_close(found["u"], raw["u"], rtol=1e-12, atol=0.0)
    torch.testing.assert_close(found["v"], x * (350 + 50 * raw["v"]), rtol=1e-12, atol=0.0)
    across = frozenset([(0, 0, 0, 0), (1, 0, 0, 0)])
    jet, other = ansatz.jet(p, across), bare.jet(p, across)
    slope, value = (other.derivative(i).detach() for i in ((1, 0, 0, 0), (0, 0, 0, 0)))
    wanted = 350 + 50 * value[:, 1] + x * 50 * slope[:, 1]
    torch.testing.assert_close(
        jet.derivative((1, 0, 0, 0)).detach()[:, 1], wanted, rtol=1e-10, atol=0.0
    )


@pytest.mark.parametrize(
    "given", [{"w": (0, 1)}, {"u": 3}, {"u": (1, 0)}, {"u": (0, float("nan"))}]
)
def test_scales_that_are_none_are_refused(given) -> None:
    wrong = plate(1, 0, 1)
    wrong.outputs = ("T",)
    wrong.scales = {"T" if key == "u" else key: value for key, value in given.items()}
    with pytest.raises(InvalidArgument, match=r"Write scales = \{'T': \(middle, size\)\}"):
        solve(wrong, steps=1)


def test_a_solution_is_read_for_the_problem_it_was_trained_on_alone(tmp_path) -> None:
    solution = solve(plate(1, 0, 1), steps=1, points=40, width=8, depth=2)
    solution.save(tmp_path)
    other, scaled = plate(2, 0, 1), plate(1, 0, 1)
    scaled.scales = {"T": (350, 50)}
    with pytest.raises(PretrainedError, match=r"with domain .*'x': \[0.0, 1.0\]"):
        load(tmp_path, other)
    with pytest.raises(PretrainedError, match="with scales"):
        load(tmp_path, scaled)


DAMAGE = {
    "network": [{}, [], {"class": "MLP"}, {"class": "MLP", "arguments": []}],
    "sha256": [None],
    "complex128": [5],
    "modes": [0, 10**9, "1"],
    "windows": [0, None],
    "outputs": [3],
}


def test_damaged_cards_are_one_message(tmp_path) -> None:
    solve(plate(1, 0, 1), steps=1, points=40, width=8, depth=2).save(tmp_path)
    card = tmp_path / "solution.json"
    whole = json.loads(card.read_text())
    for key, values in DAMAGE.items():
        for value in [*values, "left out"]:
            spoilt = {k: v for k, v in whole.items() if k != key or value != "left out"}
            card.write_text(json.dumps(spoilt if value == "left out" else whole | {key: value}))
            with pytest.raises(PretrainedError):
                load(tmp_path, plate(1, 0, 1))
    card.write_text(json.dumps(whole))
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(PretrainedError, match="weights.safetensors is missing"):
        load(tmp_path, plate(1, 0, 1))


def test_values_are_not_changed_in_place() -> None:
    class Wrong(System):
        domain = Interval(0, 1)
        conditions = {"ends": On(domain.boundary, u=0)}

        def residual(self, u, x):
            w = 1 * u
            w.mul_(x)
            return w.xx

    with pytest.raises(InvalidArgument, match=r"mul_\(\.\.\.\), which changes values"):
        solve(Wrong(), steps=1)


def test_sensible_problems_are_not_asked_for_more() -> None:
    class Layer(System):  # u.xx is not there: nothing is to be said at the outflow
        domain = Rectangle((0, 0), (1, 1))
        conditions = {
            "inflow": On(domain.left, u=lambda y: y * (1 - y)),
            "walls": On(domain.top | domain.bottom, u=0),
        }

        def residual(self, u):
            return u.x - 0.01 * u.yy

    class FirstOrder(System):  # both of one output
        outputs = ("u", "w")
        domain = Interval(0, 1) * Time(0, 1)
        conditions = {"start": Initial(u=0, u_t=1), "ends": On(domain.boundary, u=0)}

        def residual(self, u, w):
            return w - u.t, w.t - u.xx

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for system in (Layer(), FirstOrder()):
            assert system.needs


@pytest.mark.parametrize("words", [["module.attention=true"], ["data.candidates=3"]])
def test_what_training_fills_is_taken_from_a_checkpoint(words, tmp_path) -> None:
    line = ["model=pinn_kovasznay", *words, "data.fixed_for=100000", "data.points=20"]
    line += [
        "network.width=8",
        "network.depth=3",
        "callbacks.checkpoint.every_steps=2",
        "schedule=constant",
    ]
    ends = []
    for name, steps in (("whole", [6]), ("cut", [4, 6])):
        for k, most in enumerate(steps):
            more = ["ckpt_path=last"] if k else []
            run = [*line, f"trainer.max_steps={most}", f"hydra.run.dir={tmp_path}/{name}", *more]
            assert train.main(run) == 0
        ends.append(json.loads((tmp_path / name / "metrics.json").read_text())["metrics"])
    assert ends[0]["test/rel_l2"] == ends[1]["test/rel_l2"]


def test_parts_without_an_end_are_refused(tmp_path, capsys) -> None:
    line = ["model=pinn_kovasznay", "network=staged", "trainer.max_steps=-1"]
    assert train.main([*line, f"hydra.run.dir={tmp_path}/run"]) == 2
    assert capsys.readouterr().err
