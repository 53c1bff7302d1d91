"""Convergent graph solvers in rounds: solve, look at the solution, solve again.

A contracting map that is linear in h cannot choose by what it finds: in a decision process the best
action depends on the values, and the values on the actions. Here the encoder writes a map, the map
is solved, and the same encoder looks at the solution and writes the next map:

    A_k, b_k = encoder(x, [eps_e, h_k(source) - h_k(target)]),   h_{k+1} = gamma A_k h_{k+1} + b_k,

from h_0 = 0. With A_k a sharp softmax of r_e + gamma h_k(source) and b_k what the chosen edges pay,
a round is one step of policy iteration (Howard 1960), which is exact after a handful of rounds
however large the graph is. Every round is a contraction with the implicit derivative; training
compares the predictions of all rounds with the target.

Edges see differences of h: a softmax over the edges of a row does not feel what they share, and
differences do not grow with the graph. The linear part of the logits has a factor exp(tau) per
head, trained, because a policy needs sharp choices and weights near one give a mean.

Not in the paper of `sciml.networks.graph.convergent`; its single solve is `rounds=1`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.graph.convergent import CGS
from sciml.networks.graph.graph_layers import Edges
from sciml.networks.graph.graph_network import Features
from sciml.solvers import Implicit, Solution
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed


class SharpLinear(nn.Linear):
    """A linear layer without bias whose outputs are multiplied by trained factors.

    Args:
        inputs: Width of the input.
        outputs: Width of the output.
        sharpness: Logarithm of the factors at the start.
    """

    def __init__(self, inputs: int, outputs: int, sharpness: float) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.sharpness = nn.Parameter(torch.full((outputs,), float(sharpness)))

    def forward(self, values: Tensor) -> Tensor:
        """Return `(..., outputs)`."""
        return super().forward(values) * self.sharpness.exp()


@typed
class RefinedCGS(CGS):
    """Convergent graph solver that sees its own solution and solves again.

    Args:
        node_features: Node features n.
        edge_features: Edge features k.
        outputs: Width of the prediction.
        heads: Number of fixed points H.
        rounds: How often the map is written and solved. Trained weights may be used with another
            number, by setting the attribute.
        sharpness: Logarithm of the factors on the linear part of the logits at the start.
        width: Width of the hidden layers of the encoder.
        layers: Message-passing layers of the encoder, the last one included.
        hidden: Hidden width of the networks within a layer.
        gamma: Contraction factor.
        parametrisation: `softmax` or `gated_softmax`.
        direction: Whether row i gathers the edges that enter node i (`in`) or leave it (`out`).
        edge_bias: Whether chosen edges add to b.
        gate_bias: Value at which gates start.
        readout: `node`, or `sum`, `mean`, `max` over the nodes of a graph.
        decoder: Hidden widths of the decoder; none for a linear one, which goes further beyond
            the values met in training.
        activation: Of all networks.
        aggregate: `sum` or `mean` of messages.
        node_log: Node features whose logarithm is used.
        node_center: Node features from which the graph's mean is taken off.
        edge_log: Edge features whose logarithm is used.
        edge_center: Edge features from which the graph's mean is taken off.
        double: Whether systems are solved in float64.
        linear: Linear solver: `auto`, `iterate`, `bicgstab`, `dense`.
        rtol: Relative tolerance of the solves.
        on_failure: What happens if a system is not solved.
        adjoint: Derivative rule of the core.

    Raises:
        InvalidArgument: For fewer rounds than one or another parametrisation.

    Example:
        >>> import torch
        >>> from sciml.networks import RefinedCGS
        >>> network = RefinedCGS(node_features=2, edge_features=1, heads=2, rounds=2, width=4)
        >>> ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
        >>> x, edge_attr = torch.rand(3, 2), torch.rand(3, 1)
        >>> len(network.all_rounds(x=x, edge_index=ring, edge_attr=edge_attr))
        2
    """

    def __init__(
        self,
        *,
        node_features: int,
        edge_features: int,
        outputs: int = 1,
        heads: int = 4,
        rounds: int = 4,
        sharpness: float = 3.0,
        width: int = 16,
        layers: int = 2,
        hidden: int = 32,
        gamma: float | Sequence[float] = 0.9,
        parametrisation: str = "softmax",
        direction: Literal["in", "out"] = "in",
        edge_bias: bool = True,
        gate_bias: float = 4.0,
        readout: str = "node",
        decoder: Sequence[int] = (),
        activation: str = "leaky_relu",
        aggregate: Literal["sum", "mean"] = "sum",
        node_log: Sequence[int] = (),
        node_center: Sequence[int] = (),
        edge_log: Sequence[int] = (),
        edge_center: Sequence[int] = (),
        double: bool = False,
        linear: str | Callable = "auto",
        rtol: float | None = None,
        on_failure: Policy = "warn",
        adjoint: Implicit | None = None,
    ) -> None:
        if rounds < 1:
            raise InvalidArgument(f"rounds={rounds}", "at least 1")
        if parametrisation not in ("softmax", "gated_softmax"):
            raise InvalidArgument(
                f"parametrisation={parametrisation!r} in rounds", "softmax or gated_softmax"
            )
        super().__init__(
            node_features=node_features,
            edge_features=edge_features + heads,  # the solution is seen on the edges
            outputs=outputs,
            heads=heads,
            width=width,
            layers=layers,
            hidden=hidden,
            gamma=gamma,
            parametrisation=parametrisation,
            direction=direction,
            edge_bias=edge_bias,
            gate_bias=gate_bias,
            readout=readout,
            decoder=decoder,
            activation=activation,
            aggregate=aggregate,
            node_log=node_log,
            node_center=node_center,
            double=double,
            linear=linear,
            rtol=rtol,
            on_failure=on_failure,
            adjoint=adjoint,
        )
        self.rounds, self.heads = rounds, heads
        self.edge_input = Features(edge_features, edge_log, edge_center)
        self.map.skip = SharpLinear(edge_features + heads, heads, sharpness)

    def each_round(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor,
        batch: Tensor | None = None,
        *,
        graphs: int | None = None,
    ) -> list[tuple[Tensor, Solution]]:
        """Return prediction and solution of every round; arguments as in `solve`."""
        edges = Edges.build(edge_index, len(x), batch, direction=self.direction, graphs=graphs)
        x, given = self.features(x, edge_attr, edges)
        h, found = x.new_zeros(len(x), self.heads), []
        for _ in range(self.rounds):
            seen = h.index_select(0, edges.col) - h.index_select(0, edges.row)
            m, b = self.written(x, torch.cat([given, seen], 1), edges)
            solution = self.fixed_points(edges, m, b, h.detach() if found else None)
            h = solution.value.to(x.dtype)
            found.append((self.decode(h, edges), solution))
        return found

    def all_rounds(self, **inputs: Tensor) -> list[Tensor]:
        """Return the predictions of all rounds, for a loss on each."""
        return [prediction for prediction, _ in self.each_round(**inputs)]

    def solve(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor,
        batch: Tensor | None = None,
        *,
        start: Tensor | None = None,
        graphs: int | None = None,
    ) -> tuple[Tensor, Solution]:
        """Return prediction and solution of the last round.

        Raises:
            InvalidArgument: If a start is given: every round has its own map.
        """
        if start is not None:
            raise InvalidArgument("a start for a solver in rounds", "none: it starts from zero")
        return self.each_round(x, edge_index, edge_attr, batch, graphs=graphs)[-1]
