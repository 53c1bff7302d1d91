"""Optimal values of deterministic decision processes on random graphs, by policy iteration.

State i can move along the edges e that enter it, from itself to the edge's source, for a reward:

    V(i) = max over e with target i of ( r_e + gamma V(source of e) ).

Labels are exact. A policy picks one edge per state, so the states form chains of successors s, and
its value is the discounted sum along the chain, found by doubling the length of the part summed:

    v <- v + g v[s],    s <- s[s],    g <- g^2      from    v = r, g = gamma,

which is exact to round-off after log2 of the horizon steps, for all graphs at once and without a
matrix. Policies improve until none of their edges can (Howard 1960): a handful of times.

Source: graph value iteration of Park, Choo, Park, "Convergent Graph Solvers", ICLR 2022, arXiv
2106.01680. There values are iterated to an absolute change of 1e-3, which leaves errors of 1e-2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.graphs.graph import Graph, check_size
from sciml.typed_arguments import typed

IMPROVEMENT = 1e-12  # an edge must be better by this much; ties would swap for ever


@dataclass(frozen=True)
class Decisions:
    """A batch of decision processes as one multigraph, edges sorted by target.

    Attributes:
        edge_index: `(2, E)`, where an action leads above the state it is taken in.
        reward: `(E,)`.
        batch: `(N,)` graph of every state.
        discount: gamma.
    """

    edge_index: Tensor
    reward: Tensor
    batch: Tensor
    discount: float

    def returns(self, value: Tensor) -> Tensor:
        """Return r_e + gamma V of the source `(E,)` for values `(N,)`."""
        return self.reward + self.discount * value[self.edge_index[0]]

    def best(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest return `(N,)` of every state and the first edge that has it.

        A state without actions is worth nothing; its edge is E, one past the last.
        """
        state, edges = self.edge_index[1], len(self.reward)
        n = len(self.batch)
        top = returns.new_full((n,), -torch.inf).scatter_reduce(0, state, returns, "amax")
        number = torch.arange(edges, device=state.device)
        number = torch.where(returns == top[state], number, edges)
        edge = torch.full_like(self.batch, edges).scatter_reduce(0, state, number, "amin")
        return torch.where(edge < edges, top, 0.0), edge

    def policy_value(self, edge: Tensor) -> Tensor:
        """Return the value `(N,)` of the policy that takes edge `(N,)` in every state."""
        ends = edge == len(self.reward)  # no action: stay there, for nothing
        pick = edge.masked_fill(ends, 0)
        value = self.reward[pick].masked_fill(ends, 0.0)
        place = torch.arange(len(edge), device=edge.device)
        successor = torch.where(ends, place, self.edge_index[0][pick])
        weight, eps = self.discount, torch.finfo(value.dtype).eps
        while weight > 0.01 * eps * (1 - self.discount):
            value = value + weight * value[successor]
            successor, weight = successor[successor], weight**2
        return value

    def optimal_values(self) -> Tensor:
        """Return V `(N,)`; the Bellman residual is at the level of round-off."""
        value, edge = self.best(self.reward)
        while True:
            value = self.policy_value(edge)
            returns = self.returns(value)
            top, better = self.best(returns)
            improves = top > value + IMPROVEMENT * (1 + value.abs())
            if not bool(improves.any()):
                return value
            edge = torch.where(improves, better, edge)

    def bellman_residual(self, value: Tensor) -> Tensor:
        """Return max over actions of the returns, less the value, `(N,)`."""
        return self.best(self.returns(value))[0] - value

    def optimal_actions(self, guess: Tensor, value: Tensor) -> Tensor:
        """Return where `(N,)` booleans the policy that is greedy for a guess of V is optimal.

        Args:
            guess: `(N,)`, what the policy believes the values are.
            value: `(N,)`, what they are.
        """
        returns = self.returns(value)
        top, _ = self.best(returns)
        chosen = self.best(self.returns(guess))[1]
        none = chosen == len(self.reward)
        gained = returns[chosen.masked_fill(none, 0)]
        return none | (gained >= top - 1e-6 * (1 + top.abs()))


def random_decisions(
    generator: torch.Generator, states: Tensor, actions: Tensor, discount: float
) -> Decisions:
    """Return processes whose actions lead to random other states for rewards uniform in (-1, 1).

    Several actions may lead to the same state: those are parallel edges.

    Args:
        generator: Random numbers, on the CPU.
        states: `(G,)` numbers of states, at least 2.
        actions: `(G,)` numbers of actions per state.
        discount: gamma.
    """
    batch = torch.repeat_interleave(torch.arange(len(states)), states)
    first = (states.cumsum(0) - states)[batch]
    own = torch.arange(len(batch)) - first
    count = actions[batch]
    state = torch.repeat_interleave(torch.arange(len(batch)), count)
    u = torch.rand(len(state), generator=generator, dtype=torch.float64)
    others = (states - 1)[batch][state]
    other = torch.minimum((u * others).long(), others - 1)
    other = other + (other >= own[state]).long()  # not the state itself
    reward = 2 * torch.rand(len(state), generator=generator, dtype=torch.float64) - 1
    return Decisions(torch.stack([first[state] + other, state]), reward, batch, discount)


@typed
@dataclass(frozen=True)
class GraphValueIteration:
    """Task: optimal values of random decision processes.

    Node features: a constant. Edge features: the reward. Values concentrate as graphs grow, so
    errors are reported as R2 and as the share of states whose greedy action is optimal, beside
    what a constant and the greed for the next reward reach.

    Args:
        actions: Actions per state: a number, or the smallest and the largest.
        discount: gamma in [0, 1).

    Raises:
        InvalidArgument: For an impossible discount or number of actions.

    Example:
        >>> import torch
        >>> from sciml.physics.graphs import GraphValueIteration
        >>> process = GraphValueIteration(actions=3).draw(torch.Generator().manual_seed(0), 20)
        >>> tuple(process.edge_index.shape), tuple(process.target.shape)  # 3 actions in 20 states
        ((2, 60), (20, 1))
    """

    actions: int | Sequence[int] = (5, 9)
    discount: float = 0.9

    kind = "regression"
    level = "node"
    unit = "1"
    sizes = {"node_features": 1, "edge_features": 1, "outputs": 1}

    def __post_init__(self) -> None:
        """Check the numbers."""
        between = self._between
        if len(between) != 2 or not 1 <= between[0] <= between[1]:
            raise InvalidArgument(f"actions={self.actions}", "a positive number, or two in order")
        if not 0 <= self.discount < 1:
            raise InvalidArgument(f"discount={self.discount}", "at least 0 and below 1")

    @property
    def _between(self) -> Sequence[int]:
        return (self.actions,) * 2 if isinstance(self.actions, int) else self.actions

    def draw(self, generator: torch.Generator, size: int) -> Graph:
        """Return a process with `size` states and its values."""
        return self.draw_many(generator, [size])[0]

    def draw_many(self, generator: torch.Generator, sizes: Sequence[int]) -> tuple[Graph, Tensor]:
        """Return the union of processes with these numbers of states, and the graph of each state.

        Raises:
            InvalidArgument: If there are fewer than two states.
        """
        check_size(min(sizes), 2, "a decision process")
        low, high = self._between
        actions = torch.randint(low, high + 1, (len(sizes),), generator=generator)
        d = random_decisions(generator, torch.tensor(sizes), actions, self.discount)
        return self.graph(d), d.batch

    def graph(self, d: Decisions) -> Graph:
        """Return processes with their values."""
        x = torch.ones(len(d.batch), 1, dtype=torch.float64)
        return Graph(x, d.edge_index, d.reward[:, None], d.optimal_values()[:, None])

    def measures(
        self, inputs: dict[str, Tensor], prediction: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Return per state whether its greedy action is optimal, `(N,)` zeros and ones.

        `policy_accuracy` is that of the prediction, `reward_policy_accuracy` that of the action
        with the largest reward, which is the greedy one for constant values.
        """
        reward = inputs["edge_attr"][:, 0].double()
        d = Decisions(inputs["edge_index"], reward, inputs["batch"], self.discount)
        value = target[:, 0].double()
        return {
            "policy_accuracy": d.optimal_actions(prediction[:, 0].double(), value).double(),
            "reward_policy_accuracy": d.optimal_actions(torch.zeros_like(value), value).double(),
        }
