"""Stages of a network: what is measured between two of them, what is frozen, what they gain."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.autodiff import SDGD, Exact
from sciml.cli import train
from sciml.data.collocation import CollocationData
from sciml.data.point_sets import PointData
from sciml.errors import InvalidArgument
from sciml.modules import SDGDPINN, stages
from sciml.modules.system_pinn import PINN
from sciml.networks import Staged
from sciml.networks.solutions.ansatz import network_sizes
from sciml.physics import Points, PoissonBox
from sciml.physics.systems import Interval, On, Rectangle, System
from sciml.pinn import solve


class Wavy(System):
    """Residual -sin(7 x) sin(3 y), whatever the network says."""

    domain = Rectangle((0, -1), (3, 1))

    def residual(self, u, x, y):
        return 0 * u - torch.sin(7 * x) * torch.sin(3 * y)


class Membrane(System):
    domain = Rectangle((-1, -1), (1, 1))
    conditions = {"rim": On(domain.boundary, u=0)}

    def residual(self, u, x, y):
        return u.lap - torch.sin(3 * x) * torch.exp(y)


class Curve(System):
    """The function that the method sheet fits."""

    domain = Interval(-1, 1)

    def residual(self, u, x):
        return u - self.exact(x)

    def exact(self, x):
        return torch.sin(2 * x + 1) + 0.2 * torch.exp(1.3 * x) * torch.cos(3 * x)


def staged_module(system: System, modes: int = 1, points: int = 4000):
    torch.manual_seed(0)
    network = Staged(**network_sizes(system, modes), stages=3, width=9, depth=3)
    data = PointData(problem=system, points=points, condition_points=60, modes=modes)
    made = PINN(problem=system, network=network, optimizer=torch.optim.Adam, data=data)
    module = made.double()
    batch = data.batch(0)
    batch.points = batch.points.to(torch.float64)
    for name, p in batch.conditions.items():
        batch.conditions[name] = p.to(torch.float64)
    return module, network, batch


def test_frequencies_are_sign_changes_per_unit_of_every_input() -> None:
    module, _, batch = staged_module(Wavy())
    found = stages.residual_frequencies(module, batch)
    # sin w x changes its sign w / pi times per unit; an input spans a half of its side per unit.
    # Over whole waves the ratio of root mean squares is w; these are cut, so within some percent.
    assert found.tolist() == pytest.approx([7 / math.pi * 1.5, 3 / math.pi], rel=0.1, abs=0.06)


def test_a_harmonic_that_is_an_input_has_the_frequency_left_above_it() -> None:
    class Ring(Wavy):
        domain = Rectangle((0, 0), (2 * math.pi, math.pi))
        periodic = ("x",)

    module, _, batch = staged_module(Ring(), modes=2)
    x1, y1, x2, y2, slow = stages.residual_frequencies(module, batch).tolist()
    assert x1 == pytest.approx(7 / math.pi * math.sqrt(2), rel=0.02)  # |d cos s| is 1 / sqrt 2
    assert x2 == pytest.approx(x1 / 2, rel=1e-2) and y1 == pytest.approx(x1, rel=2e-2)
    assert y2 == pytest.approx(x2, rel=2e-2)
    assert slow == pytest.approx(3 / math.pi * math.pi / 2, rel=0.02)


def test_a_stage_begins_with_what_is_left_and_what_came_before_stays() -> None:
    module, network, batch = staged_module(Membrane(), points=300)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in network.live.parameters():
            p.add_(0.1 * torch.randn_like(p))
    x = batch.points.x[:7]
    before, loss = module(x)["u"], sum(t.loss() for t in module.loss_terms(batch)).item()
    fresh = {k: v.clone() for k, v in network.past[0].state_dict().items()}
    old = {k: v.clone() for k, v in network.live.state_dict().items()}
    frequencies = stages.residual_frequencies(module, batch)
    stages.begin_stage(module, network, batch)
    assert network.index == 1
    for key, value in network.past[0].state_dict().items():
        assert torch.equal(value, old[key])
    for key, value in network.live.state_dict().items():
        factor = 1.0
        if key == "input.f.weight":
            factor = frequencies
        elif key == "input.f.bias":
            factor = frequencies.log().mean().exp()
        torch.testing.assert_close(value, fresh[key] * factor, rtol=1e-12, atol=0.0)
    # the equations are linear: the new part alone changes the residuals by as much as there is
    c = float(network.sizes[1])
    now = [t.residual * (t.weight / t.count) ** 0.5 for t in module.loss_terms(batch)]
    network.set_size(0.0)
    torch.testing.assert_close(module(x)["u"], before, rtol=1e-12, atol=1e-14)
    was = [t.residual * (t.weight / t.count) ** 0.5 for t in module.loss_terms(batch)]
    change = torch.cat([a - b for a, b in zip(now, was, strict=True)])
    assert c > 0 and float(change.detach().norm()) == pytest.approx(1.0, rel=1e-6)
    # and the loss is one where the new part says nothing
    assert float(torch.cat(was).detach().norm()) == pytest.approx(1.0, rel=1e-9)
    assert network.loss_factor() == pytest.approx(1 / loss, rel=1e-9)
    network.set_size(c)
    for p in network.past.parameters():
        assert not p.requires_grad
    stages.begin_stage(module, network, batch)
    with pytest.raises(InvalidArgument, match="3 stages"):
        network.advance(size=1.0, frequencies=torch.ones(2))


def test_what_was_measured_is_saved_with_the_weights() -> None:
    module, network, batch = staged_module(Membrane(), points=50)
    stages.begin_stage(module, network, batch)
    other, same, _ = staged_module(Membrane(), points=50)
    assert same.loss_factor() == 1.0 and same.index == 0
    other.load_state_dict(module.state_dict())
    assert same.index == 1 and same.loss_factor() == network.loss_factor()
    x = batch.points.x
    assert torch.equal(other(x)["u"], module(x)["u"])


def test_a_second_stage_gains_on_the_first_and_on_one_network_of_as_many_steps() -> None:
    sizes = ("network.width=20", "network.depth=3", "data.fixed_for=100000")
    one = solve(Curve(), *sizes, steps=100, points=200)  # the first stage of the other, by itself
    two = solve(Curve(), *sizes, "network.stages=2", network="staged", steps=200, points=200)
    first = solve(Curve(), *sizes, steps=200, points=200)
    x = torch.linspace(-1, 1, 801).double()
    errors = [float((s(x=x)["u"] - Curve().exact(x)).norm()) for s in (one, two, first)]
    # 4.1e-5, 5.3e-7 and 5.2e-6 with this seed
    assert errors[1] < errors[0] / 40 and errors[1] < errors[2] / 5, errors


@pytest.mark.parametrize("optimizer", ["adam", "kfac", "ssbroyden", "muon"])
def test_every_kind_of_optimizer_goes_through_stages(optimizer) -> None:
    words = ("network.width=8", "network.depth=3", "network.stages=3", "data.fixed_for=100000")
    solution = solve(Curve(), *words, optimizer=optimizer, network="staged", steps=30, points=40)
    starts = [row["train/loss"] for row in solution.history if row["step"] in (11, 21)]
    assert all(0 < value < 20 for value in starts)  # two, if the new part is of the right size
    network = solution.module.network.network
    assert network.index == 2 and bool((network.sizes[1:] != 1).all())


def test_scalar_equations_have_stages_where_their_operator_is_exact() -> None:
    problem = PoissonBox(dim=2)
    given = {"problem": problem, "optimizer": torch.optim.Adam, "inputs": ["x"]}
    network = Staged(dim=2, stages=2, width=8, depth=2)
    module = SDGDPINN(**given, network=network, estimator=Exact()).double()
    assert module.parts == 2
    batch = CollocationData(problem=problem, points=200).batch(0)
    x = batch.points.x.double()
    batch.points = Points(x, source=problem.source(x))
    for name, p in batch.conditions.items():
        batch.conditions[name] = p.to(torch.float64)
    (term,) = [t for t in module.loss_terms(batch) if t.name == "residual"]
    rows = module.equation_residuals(batch.points.x)
    torch.testing.assert_close(rows[:, 0], term.residual, rtol=1e-10, atol=1e-12)
    stages.begin_stage(module, network, batch)
    assert network.index == 1
    with pytest.raises(InvalidArgument, match="estimator=exact"):
        SDGDPINN(**given, network=network, estimator=SDGD(num_dims=1))
    with pytest.raises(InvalidArgument, match=r"module.inputs=\[x\]"):
        SDGDPINN(**given | {"inputs": []}, network=network, estimator=Exact())


def test_what_makes_no_sense_in_stages_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="network=mlp for one"):
        Staged(dim=1, stages=1)
    with pytest.raises(InvalidArgument, match="network=staged with the optimizers"):
        solve(Curve(), network="staged", optimizer=("adam", "lm"), steps=4)


def test_averages_over_several_stages_are_refused(tmp_path, capsys) -> None:
    words = ["model=pinn_kovasznay", "network=staged", "callbacks=ema", "trainer.max_steps=4"]
    assert train.main([*words, f"hydra.run.dir={tmp_path}/run"]) == 2
    assert "callbacks=ema in a run of 2 parts" in capsys.readouterr().err
