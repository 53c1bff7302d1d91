"""Bandits against known best arms, and the figures of Khodak et al. (2024)."""

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.solvers.bandits import ChebyshevBandit, TsallisINF
from sciml.solvers.linear import Stencil, around
from sciml.solvers.linear.relaxation import best_omega, sor

INTERVAL = (-0.15, 0.45)
OMEGAS = torch.linspace(1, 1.95, 20)


def played(bandit, costs, contexts=None):
    """Return the mean cost of a bandit on a table `(T, trials, K)`."""
    total = 0.0
    for k, row in enumerate(costs):
        arm = bandit.choose(None if contexts is None else contexts[k])
        cost = row.gather(1, arm[:, None])[:, 0]
        bandit.update(cost)
        total += float(cost.mean())
    return total / len(costs)


def test_probabilities_solve_their_equation():
    """p = 4 / (eta (L - x))^2 for one x, and the sum is 1."""
    bandit = TsallisINF(5, trials=3)
    bandit.tables["losses"] = torch.rand(3, 1, 5, dtype=torch.float64) * 30
    bandit.tables["played"] += 10
    p = bandit.probabilities()
    torch.testing.assert_close(p.sum(1), torch.ones(3).double(), rtol=0, atol=1e-12)
    eta = 2 / 11**0.5
    x = bandit.tables["losses"][:, 0] - 2 / (eta * p.sqrt())
    torch.testing.assert_close(x, x[:, :1].expand(3, 5), rtol=1e-9, atol=1e-9)


def test_the_best_arm_wins():
    torch.manual_seed(0)
    costs = torch.tensor([3.0, 1.0, 2.0]).double() + 0.3 * torch.rand(600, 20, 3).double()
    found = played(TsallisINF(3, trials=20), costs)
    assert 1.15 < found < 1.35  # the best arm costs 1.15, a random one 2.15


def test_contexts_are_used():
    """Each arm is best at another context; the best fixed arm costs 0.25 in the mean."""
    torch.manual_seed(0)
    c = torch.rand(800, 10).double()
    costs = (c[..., None] - torch.linspace(0, 1, 5).double()).abs()
    fixed = float(costs.mean((0, 1)).min())
    assert played(ChebyshevBandit(5, trials=10), costs, c) < 0.5 * fixed
    assert played(TsallisINF(5, bins=5, trials=10), costs, c) < 0.7 * fixed
    assert played(TsallisINF(5, trials=10), costs) > 0.9 * fixed


@pytest.mark.parametrize("kind", [TsallisINF, ChebyshevBandit])
def test_a_bandit_goes_on_where_it_was(kind):
    torch.manual_seed(0)
    costs, c = torch.rand(40, 2, 3).double(), torch.rand(40, 2).double()
    whole, first, second = kind(3, trials=2), kind(3, trials=2), kind(3, trials=2, seed=7)
    played(whole, costs, c)
    played(first, costs[:25], c[:25])
    second.load({name: t.clone() for name, t in first.state().items()})
    played(second, costs[25:], c[25:])
    for name, table in whole.state().items():
        assert torch.equal(table, second.state()[name])


def test_wrong_costs_are_told():
    bandit = TsallisINF(2)
    bandit.choose()
    for cost in (torch.tensor([-1.0]), torch.tensor([torch.nan]), torch.ones(2)):
        with pytest.raises(InvalidArgument, match="finite numbers"):
            bandit.update(cost)
    with pytest.raises(InvalidArgument, match="no context"):
        ChebyshevBandit(2).choose()
    with pytest.raises(InvalidArgument, match="other|shape|state"):
        bandit.load(TsallisINF(3).state())


def paper_costs(alpha, beta, count, trials, seed=0):
    """Return contexts, SOR iterations for all omegas, and those for the asymptotic formula."""
    rng, n = np.random.default_rng(seed), count * trials
    c = torch.from_numpy(-0.15 + 0.6 * rng.beta(alpha, beta, n))
    b = torch.from_numpy(rng.standard_normal((n, 10, 10)))
    size = b.flatten(1).norm(dim=1)
    b = b * (10 / size).clamp(max=1)[:, None, None]  # truncated to radius sqrt(100)
    faces = torch.ones(n, 9, 10).double(), torch.ones(n, 10, 9).double()
    shift = 4 - around([f[:1] for f in faces]) + c[:, None, None]
    stencil = Stencil(faces, shift, torch.ones(n, 10, 10, dtype=torch.bool))
    costs = torch.stack([sor(stencil, b, w, rtol=1e-8).iterations for w in OMEGAS], 1)
    radius = 4 * torch.cos(torch.tensor(torch.pi / 11).double()) / (4 + c)
    formula = sor(stencil, b, best_omega(radius), rtol=1e-8).iterations
    return (
        c.reshape(count, trials),
        costs.double().reshape(count, trials, -1),
        float(formula.double().mean()),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape, fixed, formula",
    [((0.5, 1.5), [613, 406, 257, 152, 104], 56), ((2, 6), [273, 180, 111, 64, 86], 42)],
    ids=["high variance", "low variance"],
)
def test_the_table_of_learning_to_relax(shape, fixed, formula):
    """T = 5000; counts for omega = 1, 1.2, ..., 1.8 as found before by others, within 10 %."""
    c, costs, asymptotic = paper_costs(*shape, 5000, 1)
    means = costs.mean((0, 1))
    np.testing.assert_allclose(means[::4], fixed, rtol=0.1)
    assert asymptotic == pytest.approx(formula, rel=0.12)
    best = float(means.min())
    plain = played(TsallisINF(20), costs - 1) + 1
    context = played(ChebyshevBandit(20, interval=INTERVAL), costs - 1, c) + 1
    assert plain < 1.8 * best
    assert context < best


def test_few_rounds_of_learning_to_relax():
    """120 rounds: what is to be gained from the context, and what chance costs at first."""
    c, costs, _ = paper_costs(2, 6, 120, 1)
    best = float(costs.mean((0, 1)).min())
    assert float(costs.amin(-1).mean()) < 0.8 * best
    assert best < played(TsallisINF(20), costs - 1) + 1 < 3 * best
