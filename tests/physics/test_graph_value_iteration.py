"""Values of decision processes against value iteration, one state at a time."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.graph.graph_layers import Edges
from sciml.networks.graph.graph_solve import equilibrium
from sciml.physics.graphs.value_iteration import Decisions, GraphValueIteration, random_decisions


def drawn(seed=0, states=(7, 30, 2), actions=(1, 8, 5), discount=0.9):
    generator = torch.Generator().manual_seed(seed)
    return random_decisions(generator, torch.tensor(states), torch.tensor(actions), discount)


def by_value_iteration(d):
    """The definition, edge by edge, until nothing moves."""
    actions = [[] for _ in d.batch]
    for (source, target), reward in zip(d.edge_index.T.tolist(), d.reward.tolist(), strict=True):
        actions[target].append((source, reward))
    value = [0.0] * len(actions)
    while True:
        new = [max((r + d.discount * value[s] for s, r in a), default=0.0) for a in actions]
        if max(abs(a - b) for a, b in zip(new, value, strict=True)) < 1e-13:
            return torch.tensor(new, dtype=torch.float64)
        value = new


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.9, 0.99])
def test_values_equal_value_iteration(discount):
    d = drawn(discount=discount)
    torch.testing.assert_close(d.optimal_values(), by_value_iteration(d), rtol=0, atol=1e-11)


def test_bellman_residual_is_round_off():
    generator = torch.Generator().manual_seed(1)
    graph, batch = GraphValueIteration().draw_many(generator, [20, 49, 200])
    d = Decisions(graph.edge_index, graph.edge_attr[:, 0], batch, 0.9)
    assert d.bellman_residual(graph.target[:, 0]).abs().max() < 1e-12


def test_states_without_actions_and_ties():
    # 2 can move to 1 or 0 for the same reward, 1 to 0, 0 nowhere; 3 only to itself
    edges = torch.tensor([[1, 0, 0, 0, 3], [2, 2, 1, 1, 3]])
    reward = torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0], dtype=torch.float64)
    d = Decisions(edges, reward, torch.zeros(4, dtype=torch.long), 0.5)
    expected = torch.tensor([0.0, -1.0, 1.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(d.optimal_values(), expected, rtol=0, atol=1e-12)


def test_policy_value_equals_a_dense_solve():
    d = drawn(2)
    edge = d.best(d.reward)[1]
    n = len(d.batch)
    p = torch.zeros(n, n, dtype=torch.float64)
    p[torch.arange(n), d.edge_index[0, edge]] = 1.0
    dense = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - 0.9 * p, d.reward[edge])
    torch.testing.assert_close(d.policy_value(edge), dense, rtol=0, atol=1e-12)


def test_optimal_policy_is_the_fixed_point_of_a_contracting_map():
    """One-hot rows on the optimal actions and gamma = 0.9: the values are h = gamma A h + A r."""
    d = drawn(3, states=(25, 40), actions=(6, 9))
    value = d.optimal_values()
    edge = d.best(d.returns(value))[1]
    one_hot = torch.zeros(len(d.reward), 1, dtype=torch.float64)
    one_hot[edge] = 1.0
    edges = Edges.build(d.edge_index, len(d.batch), d.batch)
    assert edges.order is None  # edges come sorted by target
    bias = edges.sum(one_hot * d.reward[:, None])
    for method in ("iterate", "bicgstab", "dense"):
        h = equilibrium(
            edges, 0.9 * one_hot, bias, factor=0.9, method=method, on_failure="raise", rtol=1e-11
        )
        torch.testing.assert_close(h.value[:, 0], value, rtol=0, atol=1e-9)


def test_graphs_are_as_described():
    d = drawn(4, states=(5, 50), actions=(3, 4))
    source, target = d.edge_index
    assert torch.bincount(target).tolist() == [3] * 5 + [4] * 50
    assert torch.equal(d.batch[source], d.batch[target]) and not (source == target).any()
    assert len(torch.unique(d.edge_index, dim=1).T) < len(d.reward)  # parallel edges occur
    # every other state is as likely
    many = drawn(5, states=(4,) * 500, actions=(9,) * 500)
    counts = torch.bincount(many.edge_index[0] % 4, minlength=4)
    assert (counts / counts.sum() - 0.25).abs().max() < 0.01
    assert abs(many.reward.mean()) < 0.02 and many.reward.abs().max() < 1


def test_a_union_is_as_good_as_its_parts():
    task = GraphValueIteration(actions=7)
    graph, batch = task.draw_many(torch.Generator().manual_seed(6), [30, 40])
    second = graph.edge_index[1] >= 30
    own = Decisions(
        graph.edge_index[:, second] - 30,
        graph.edge_attr[second, 0],
        torch.zeros(40, dtype=torch.long),
        0.9,
    )
    torch.testing.assert_close(own.optimal_values(), graph.target[30:, 0], rtol=0, atol=1e-12)


def test_measures():
    task = GraphValueIteration()
    graph, batch = task.draw_many(torch.Generator().manual_seed(7), [40] * 20)
    inputs = {"edge_index": graph.edge_index, "edge_attr": graph.edge_attr.float(), "batch": batch}
    found = task.measures(inputs, graph.target.float(), graph.target.float())
    assert found["policy_accuracy"].mean() == 1
    # a constant chooses by reward; the method sheet of this task measured 66 %
    constant = task.measures(inputs, torch.ones_like(graph.target), graph.target)
    share = float(constant["policy_accuracy"].mean())
    assert 0.6 < share < 0.75
    assert torch.equal(constant["policy_accuracy"], found["reward_policy_accuracy"])
    shifted = task.measures(inputs, graph.target + 3, graph.target)
    assert shifted["policy_accuracy"].mean() == 1  # a policy does not see a constant


def test_draws_depend_on_the_generator_alone():
    task = GraphValueIteration()
    a, b = (task.draw(torch.Generator().manual_seed(8), 25) for _ in range(2))
    assert torch.equal(a.edge_attr, b.edge_attr) and a.x.shape == (25, 1)
    assert not torch.equal(a.target, task.draw(torch.Generator().manual_seed(9), 25).target)


@pytest.mark.parametrize("wrong", [{"actions": 0}, {"actions": (6, 5)}, {"discount": 1.0}])
def test_refusals(wrong):
    with pytest.raises(InvalidArgument):
        GraphValueIteration(**wrong)
    with pytest.raises(InvalidArgument, match="at least 2"):
        GraphValueIteration().draw(torch.Generator(), 1)
