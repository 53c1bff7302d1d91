"""Adam then L-BFGS against torch's Adam, a dense inverse and torch's L-BFGS."""

import io

import pytest
import torch
from torch import nn

from sciml.errors import InvalidArgument, NumericalWarning
from sciml.optim import AdamLBFGS, LossTerm, Objective
from sciml.optim.flat import flatten

torch.set_num_threads(1)


def setup(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.sin(2 * x.sum(1)) + 0.3 * x[:, 0] ** 3  # no exact fit with 25 weights

    def terms():
        return [LossTerm("data", net(x)[:, 0] - target, 1.0, 20)]

    return net, terms


def run(optimizer, terms, steps):
    objective = Objective(terms)
    for _ in range(steps):
        optimizer.update_curvature(objective)
        optimizer.step()


def loss_of(terms):
    return float(terms()[0].loss().detach())


def test_first_phase_is_adam():
    (ours, terms), (theirs, other) = setup(), setup()
    run(AdamLBFGS(ours, lr=2e-2, adam_steps=10), terms, 10)
    adam = torch.optim.Adam(theirs.parameters(), lr=2e-2)
    for _ in range(10):
        adam.zero_grad()
        other()[0].loss().backward()
        adam.step()
    torch.testing.assert_close(
        flatten(ours.parameters()), flatten(theirs.parameters()), rtol=1e-12, atol=1e-14
    )


def test_direction_is_that_of_the_dense_inverse():
    """The two loops against the recursion of the whole matrix, algorithm 7.4 against (6.17)."""
    net, terms = setup()
    optimizer = AdamLBFGS(net, adam_steps=0, history=4)
    run(optimizer, terms, 9)
    pairs = optimizer.memory["pairs"]
    assert len(pairs) == 4
    n = len(pairs[0][0])
    eye = torch.eye(n, dtype=torch.float64)
    s, y = pairs[-1]
    inverse = (s @ y) / (y @ y) * eye
    for s, y in pairs:
        left = eye - torch.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + torch.outer(s, s) / (s @ y)
    g = torch.randn(n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(optimizer._direction(g), -inverse @ g, rtol=1e-9, atol=1e-10)


def test_second_phase_goes_where_adam_does_not():
    net, terms = setup()
    run(AdamLBFGS(net, lr=1e-2, adam_steps=100), terms, 100)
    after_adam = loss_of(terms)
    net, terms = setup()
    optimizer = AdamLBFGS(net, lr=1e-2, adam_steps=100)
    run(optimizer, terms, 250)
    assert loss_of(terms) < 1e-2 * after_adam
    assert optimizer.statistics()["failures"] == 0


def test_a_state_that_is_loaded_goes_on_the_same():
    net, terms = setup()
    whole = AdamLBFGS(net, adam_steps=5)
    run(whole, terms, 5)
    for more in (0, 6):  # between the phases, and amid the second
        run(whole, terms, more)
        buffer = io.BytesIO()
        torch.save([net.state_dict(), whole.state_dict()], buffer)
        buffer.seek(0)
        weights, state = torch.load(buffer, weights_only=True)
        other, other_terms = setup(seed=3)
        other.load_state_dict(weights)
        again = AdamLBFGS(other, adam_steps=5)
        again.load_state_dict(state)
        run(whole, terms, 3)
        run(again, other_terms, 3)
        assert torch.equal(flatten(net.parameters()), flatten(other.parameters()))


def test_the_end_of_what_can_be_reached_is_said_once():
    line = nn.Linear(1, 1, bias=False).double()
    x = torch.ones(1, 1, dtype=torch.float64)
    optimizer = AdamLBFGS(line, adam_steps=0)
    with pytest.warns(NumericalWarning, match="no lower loss"):
        run(optimizer, lambda: [LossTerm("r", line(x)[:, 0] - 2.0, 1.0, 1)], 12)
    assert torch.allclose(line.weight, torch.full_like(line.weight, 2.0), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "wrong", [{"history": 0}, {"adam_steps": -1}, {"c1": 0.95}, {"lr": 0.0}, {"betas": (1.0, 0.9)}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(InvalidArgument):
        AdamLBFGS(nn.Linear(1, 1), **wrong)
