"""Random features and inputs of a system: what is trained, jets, one step for a linear law."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.data.collocation import CollocationBatch
from sciml.errors import InvalidArgument
from sciml.modules.system_pinn import PINN
from sciml.networks import MLP, RandomFeatures
from sciml.networks.solutions.ansatz import network_sizes
from sciml.optim import LevenbergMarquardt, Objective
from sciml.physics.systems import Initial, Interval, On, Rectangle, System, Time


class Rod(System):
    """u = exp(-pi^2 t) sin(pi x), linear in u."""

    domain = Interval(0, 1) * Time(0, 0.2)
    conditions = {
        "start": Initial(u=lambda x: torch.sin(math.pi * x), weight=100),
        "ends": On(domain.boundary, u=0, weight=100),
    }

    def residual(self, u):
        return u.t - u.xx

    def exact(self, x, t):
        return torch.exp(-(math.pi**2) * t) * torch.sin(math.pi * x)


class Bent(System):
    domain = Rectangle((0, 0), (1, 1)) * Time(0, 1)

    def inputs(self, x, t):
        return torch.cat([torch.sin(3 * x) * t, torch.cos(x)], -1)

    def residual(self, u):
        return u.tt - u.xx - u.xy


def test_only_the_outputs_are_trained_and_the_rest_is_saved() -> None:
    network = RandomFeatures(features=3, width=7, outputs=2, scale=[1.0, 2.0, 3.0])
    assert {n for n, p in network.named_parameters() if p.requires_grad} == {
        "output.weight", "output.bias",
    }  # fmt: skip
    assert {"weight", "bias"} <= set(network.state_dict())
    f = torch.rand(5, 3)
    with torch.no_grad():
        network.output.weight.normal_()
        wanted = torch.tanh(f @ network.weight.T + network.bias) @ network.output.weight.T
        found = network(None, None, f)
        torch.testing.assert_close(found, wanted + network.output.bias, rtol=1e-5, atol=1e-6)


def test_units_bend_inside_and_are_as_steep_as_asked() -> None:
    network = RandomFeatures(features=2, width=20_000, scale=[0.5, 4.0])
    spread = network.weight.std(0)
    torch.testing.assert_close(spread, torch.tensor([0.5, 4.0]), rtol=0.05, atol=0)
    nearest = network.bias.abs() / network.weight.norm(dim=1)
    assert float(nearest.max()) <= math.sqrt(2)  # of the plane w z + b = 0 to the middle


def test_one_step_without_damping_solves_a_linear_equation() -> None:
    torch.manual_seed(0)
    system = Rod()
    network = RandomFeatures(**network_sizes(system), width=120, scale=2.0)
    module = PINN(problem=system, network=network, optimizer=torch.optim.Adam).double()
    optimizer = LevenbergMarquardt(module, damping=1e-13, least=1e-13, acceleration=0)
    sets = {"start": 60, "ends": 60}
    points = {k: system.sample_of(k, n, torch.Generator().manual_seed(1)) for k, n in sets.items()}
    inside = system.sample(400, torch.Generator().manual_seed(2))
    counts = {"interior": 400} | {name: len(p) for name, p in points.items()}
    batch = CollocationBatch(inside, points, Streams(0, 0, 0, 1, torch.device("cpu")), counts)
    fit = Objective(lambda: module.loss_terms(batch))
    optimizer.update_curvature(fit)
    optimizer.step()
    x = system.sample(500, torch.Generator().manual_seed(3)).x
    error = (module(x)["u"] - system.solution(x)["u"]).detach()
    assert float(error.norm() / system.solution(x)["u"].norm()) < 1e-3


def test_functions_are_kept_for_points_that_come_again_and_let_go_in_evaluation() -> None:
    torch.manual_seed(0)
    system = Rod()
    network = RandomFeatures(**network_sizes(system), width=9)
    module = PINN(problem=system, network=network, optimizer=torch.optim.Adam).double()
    p = system.sample(4, torch.Generator().manual_seed(0))
    first = module.residuals("equations", p)["residual"]
    assert len(network._known) == 1
    again = module.residuals("equations", p)["residual"]
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    with torch.no_grad():
        network.output.weight.normal_()
    second = module.residuals("equations", p)["residual"].detach()
    assert float((second - first.detach()).abs().max()) > 1e-3
    other = system.sample(4, torch.Generator().manual_seed(1))
    assert not torch.equal(module.residuals("equations", other)["residual"], first)
    module.eval()
    module(p.x)
    assert not network._known


@pytest.mark.filterwarnings("ignore:.*no condition")
def test_inputs_of_a_system_come_first_with_all_derivatives() -> None:
    torch.manual_seed(0)
    system = Bent()
    assert network_sizes(system)["features"] == 5
    network = MLP(**network_sizes(system), width=6, depth=3)
    module = PINN(problem=system, network=network, optimizer=torch.optim.Adam).double()
    p = system.sample(6, torch.Generator().manual_seed(0))
    at = p.x.clone().requires_grad_()
    x, t = at[:, 0], at[:, 2]
    columns = [torch.sin(3 * x) * t, torch.cos(x), *(2 * at - 1).unbind(1)]
    u = network(None, None, torch.stack(columns, 1))
    torch.testing.assert_close(module(p.x)["u"], u[:, 0], rtol=1e-12, atol=1e-12)
    (first,) = torch.autograd.grad(u.sum(), at, create_graph=True)
    (by_x,) = torch.autograd.grad(first[:, 0].sum(), at, retain_graph=True)
    (by_t,) = torch.autograd.grad(first[:, 2].sum(), at)
    wanted = by_t[:, 2] - by_x[:, 0] - by_x[:, 1]
    found = module.residuals("equations", p)["residual"]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


BAD = {
    "scales": ({"features": 2, "scale": [1.0]}, "network.scale"),
    "no scale": ({"features": 2, "scale": 0.0}, "network.scale"),
    "coordinates": ({"dim": 2, "features": 2}, "coordinates and time"),
    "no inputs": ({}, "coordinates and time"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_sense_is_refused(case) -> None:
    words, message = BAD[case]
    with pytest.raises(InvalidArgument, match=message):
        RandomFeatures(**words)


def test_inputs_without_rows_are_refused() -> None:
    class Flat(Bent):
        def inputs(self, x):
            return x[:, 0]

    with pytest.raises(InvalidArgument, match=r"Flat\.inputs\(\)"):
        network_sizes(Flat())
