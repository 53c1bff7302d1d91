"""Mirrored variables: what the network sees of them, their derivatives, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.modules.system_pinn import PINN
from sciml.networks import MLP
from sciml.networks.solutions.ansatz import network_sizes
from sciml.physics.systems import Rectangle, System, Time

# networks alone are looked at: these systems need no conditions
pytestmark = pytest.mark.filterwarnings("ignore:.*no condition")


class Plate(System):
    domain = Rectangle((1, -1), (3, 2)) * Time(0, 4)
    mirrored = {"x": 1, "y": 3}

    def residual(self, u):
        return u.t - u.xx - u.xy


def module_of(system: System) -> PINN:
    torch.manual_seed(0)
    network = MLP(**network_sizes(system), width=6, depth=3)
    return PINN(problem=system, network=network, optimizer=torch.optim.Adam).double()


def test_values_mirror_at_the_ends_of_every_part_and_slopes_vanish_there() -> None:
    module = module_of(Plate())
    assert network_sizes(Plate())["features"] == 3  # one number each, as without mirrors
    p = Plate().sample(9, torch.Generator().manual_seed(0)).x
    value = module.network(p)["u"]
    for column, mirrors in ((0, (1.0, 3.0)), (1, (-1.0, 0.0, 1.0, 2.0))):
        for mirror in mirrors:
            other = p.clone()
            other[:, column] = 2 * mirror - other[:, column]
            torch.testing.assert_close(module.network(other)["u"], value, rtol=1e-9, atol=1e-12)
            other[:, column] = mirror
            other.requires_grad_()
            (slope,) = torch.autograd.grad(module.network(other)["u"].sum(), other)
            assert float(slope[:, column].abs().max()) < 1e-12
    assert float(value.detach().std()) > 1e-3  # it does depend on where


def test_jets_equal_nested_gradients() -> None:
    module = module_of(Plate())
    p = Plate().sample(5, torch.Generator().manual_seed(1))
    at = p.x.clone().requires_grad_()
    columns = [torch.cos(math.pi * (at[:, 0] - 1) / 2), torch.cos(math.pi * (at[:, 1] + 1))]
    columns.append(at[:, 2] / 2 - 1)
    u = module.network.network(None, None, torch.stack(columns, 1))
    (first,) = torch.autograd.grad(u.sum(), at, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), at)
    found = module.residuals("equations", p)["residual"]
    wanted = first[:, 2] - second[:, 0] - second[:, 1]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


BAD = {
    "of no variable": ({"mirrored": {"z": 1}}, "mirrored = .*coordinates in space"),
    "of time": ({"mirrored": {"t": 1}}, "mirrored = .*coordinates in space"),
    "no part": ({"mirrored": {"x": 0}}, "whole numbers from 1"),
    "half a part": ({"mirrored": {"x": 1.5}}, "whole numbers from 1"),
    "periodic, too": ({"periodic": ("x",)}, "neither periodic"),
    "with waves": ({"waves": {"y": (1.0,)}}, "nor with waves"),
}


@pytest.mark.parametrize("case", BAD)
def test_mirrors_that_make_no_sense_are_refused(case) -> None:
    attributes, message = BAD[case]
    with pytest.raises(InvalidArgument, match=message):
        type("Bent", (Plate,), attributes)().needs  # noqa: B018
