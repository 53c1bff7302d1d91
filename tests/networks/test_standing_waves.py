"""Standing waves: what the network says of time, its jets, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.modules.system_pinn import PINN
from sciml.networks import StandingWaves
from sciml.networks.solutions.ansatz import network_sizes
from sciml.physics.systems import Rectangle, System, Time

# networks alone are looked at: these systems need no conditions
pytestmark = pytest.mark.filterwarnings("ignore:.*no condition")


class Strings(System):
    outputs = ("u", "v")
    domain = Rectangle((0, 0), (1, 1)) * Time(0, 4)

    def residual(self, u, v):
        return u.tt, v.tt + v.xxy


def module_of(waves: int) -> PINN:
    torch.manual_seed(0)
    system = Strings()
    network = StandingWaves(**network_sizes(system), waves=waves, highest=12.0, width=6, depth=3)
    return PINN(problem=system, network=network, optimizer=torch.optim.Adam).double()


def test_a_single_wave_swings_with_its_frequency_in_every_output() -> None:
    module = module_of(1)
    assert module.network.network.phase.weight.item() == 0.5  # the middle of (0, 12)
    omega = 6.0 / 2  # half of the time is 2
    x = torch.rand(7, 3, generator=torch.Generator().manual_seed(0)).double() * 0.9
    later = x + torch.tensor([0, 0, 2 * math.pi / omega], dtype=torch.float64)
    half = x + torch.tensor([0, 0, math.pi / omega], dtype=torch.float64)
    here, there, opposite = (module.network(points) for points in (x, later, half))
    for name in "uv":
        torch.testing.assert_close(there[name], here[name], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(opposite[name], -here[name], rtol=1e-9, atol=1e-12)
        assert float(here[name].detach().std()) > 1e-3
    p = Strings().sample(7, torch.Generator().manual_seed(1))
    bend = module.residuals("equations", p)["0"]
    torch.testing.assert_close(bend, -(omega**2) * module.network(p.x)["u"], rtol=1e-8, atol=1e-10)


def test_jets_of_several_waves_equal_nested_gradients() -> None:
    module = module_of(3)
    starts = module.network.network.phase.weight.flatten().tolist()
    assert starts == pytest.approx([2 / 12, 6 / 12, 10 / 12])
    p = Strings().sample(6, torch.Generator().manual_seed(0))
    x = p.x.clone().requires_grad_()

    def d(f: torch.Tensor, i: int) -> torch.Tensor:
        return torch.autograd.grad(f.sum(), x, create_graph=True)[0][:, i]

    v = module.network(x)["v"]
    wanted = d(d(v, 2), 2) + d(d(d(v, 0), 0), 1)
    found = module.residuals("equations", p)["1"]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


def test_what_has_no_space_beside_time_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="standing waves of 1 features.*time last"):
        StandingWaves(features=1)
    with pytest.raises(InvalidArgument, match="standing waves of 2 features"):
        StandingWaves(dim=3)
    with pytest.raises(InvalidArgument, match="network.highest=0"):
        StandingWaves(features=2, highest=0.0)
