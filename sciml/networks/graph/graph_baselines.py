"""Graph networks that convergent graph solvers are compared with: message passing and IGNN.

Both take and return what `sciml.networks.graph.convergent.CGS` does. `MessagePassing` sees as far
as it has layers. `IGNN` runs to the fixed point of

    Z = phi(mean over the row of Z_col W^T + b(x, eps)),

one propagation for all edges alike, where CGS learns one per edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.graph.graph_layers import Edges, MessageLayer, mlp
from sciml.networks.graph.graph_network import GraphNetwork
from sciml.solvers import Anderson, Implicit, Segments, Solution, fixed_point
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed


@typed
class MessagePassing(GraphNetwork):
    """Attention message passing of a fixed depth: the encoder of CGS, decoded.

    Args:
        width: Width of nodes and edges between layers.
        layers: Message-passing layers, and hops that a node sees.
        hidden: Hidden width of the networks within a layer.
        activation: Of all networks.
        aggregate: `sum` or `mean` of messages.
        decoder: Hidden widths of the decoder.
        settings: Other arguments of `GraphNetwork`.

    Example:
        >>> import torch
        >>> from sciml.networks import MessagePassing
        >>> network = MessagePassing(node_features=2, edge_features=1, width=4, layers=2, hidden=4)
        >>> ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
        >>> tuple(network(torch.rand(3, 2), ring, torch.rand(3, 1)).shape)
        (3, 1)
    """

    def __init__(
        self,
        *,
        node_features: int,
        edge_features: int,
        outputs: int = 1,
        width: int = 16,
        layers: int = 4,
        hidden: int = 16,
        activation: str = "leaky_relu",
        aggregate: Literal["sum", "mean"] = "sum",
        direction: Literal["in", "out"] = "in",
        readout: str = "node",
        decoder: Sequence[int] = (64, 32),
        node_log: Sequence[int] = (),
        node_center: Sequence[int] = (),
        edge_log: Sequence[int] = (),
        edge_center: Sequence[int] = (),
    ) -> None:
        if layers < 1:
            raise InvalidArgument(f"layers={layers}", "at least 1")
        super().__init__(
            node_features=node_features,
            edge_features=edge_features,
            outputs=outputs,
            direction=direction,
            readout=readout,
            node_log=node_log,
            node_center=node_center,
            edge_log=edge_log,
            edge_center=edge_center,
        )
        self.decoder = mlp([width, *decoder, outputs], activation)
        sizes = [(node_features, edge_features)] + [(width, width)] * layers
        self.layers = nn.ModuleList(
            MessageLayer(*a, *b, hidden=hidden, activation=activation, aggregate=aggregate)
            for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        """Return the prediction."""
        edges = Edges.build(edge_index, len(x), batch, direction=self.direction)
        nodes, links = self.features(x, edge_attr, edges)
        for layer in self.layers:
            nodes, links = layer(nodes, links, edges)
        return self.in_units(self.decoder(self.pooled(nodes, edges)))


@typed
class IGNN(GraphNetwork):
    """Implicit graph neural network.

    The mean over a row has norm 1 in the max-norm, so rows of |W| with sums at most kappa make the
    map a contraction by kappa. W is divided by what its largest row sum exceeds kappa by: unlike
    the projection after each step of the paper this is differentiable and suits any optimizer.
    b is one message-passing layer, since the fixed point itself does not see edge features.

    Args:
        width: Width of Z.
        hidden: Hidden width of the networks within the layer that makes b.
        kappa: Largest row sum of |W|, below 1.
        activation: Of the layer and the decoder; phi is relu.
        solver: Fixed-point solver of the core; `Anderson()` by default.
        adjoint: Derivative rule of the core.
        on_failure: What happens if a graph is not solved.
        decoder: Hidden widths of the decoder.
        settings: Other arguments of `GraphNetwork`.

    Reference: Gu et al., NeurIPS 2020, arXiv 2009.06211, equation (2) and theorem 4.1.

    Raises:
        InvalidArgument: If `kappa` is not between 0 and 1.

    Example:
        >>> import torch
        >>> from sciml.networks import IGNN
        >>> network = IGNN(node_features=2, edge_features=1, width=4, hidden=4, kappa=0.9)
        >>> bool(network.contracting_weight().abs().sum(1).max() <= 0.9 + 1e-6)
        True
        >>> ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
        >>> tuple(network(torch.rand(3, 2), ring, torch.rand(3, 1)).shape)
        (3, 1)
    """

    def __init__(
        self,
        *,
        node_features: int,
        edge_features: int,
        outputs: int = 1,
        width: int = 32,
        hidden: int = 16,
        kappa: float = 0.95,
        activation: str = "leaky_relu",
        direction: Literal["in", "out"] = "in",
        readout: str = "node",
        decoder: Sequence[int] = (64, 32),
        node_log: Sequence[int] = (),
        node_center: Sequence[int] = (),
        edge_log: Sequence[int] = (),
        edge_center: Sequence[int] = (),
        solver: Any = None,
        adjoint: Implicit | None = None,
        on_failure: Policy = "warn",
    ) -> None:
        if not 0 < kappa < 1:
            raise InvalidArgument(f"kappa={kappa}", "between 0 and 1")
        super().__init__(
            node_features=node_features,
            edge_features=edge_features,
            outputs=outputs,
            direction=direction,
            readout=readout,
            node_log=node_log,
            node_center=node_center,
            edge_log=edge_log,
            edge_center=edge_center,
        )
        self.decoder = mlp([width, *decoder, outputs], activation)
        self.bias = MessageLayer(
            node_features,
            edge_features,
            width,
            width,
            hidden=hidden,
            activation=activation,
            last=True,
        )
        self.weight = nn.Parameter(torch.empty(width, width))
        nn.init.xavier_uniform_(self.weight)
        self.kappa, self.solver, self.adjoint = kappa, solver or Anderson(), adjoint
        self.on_failure: Policy = on_failure

    def contracting_weight(self) -> Tensor:
        """Return W with row sums of |W| at most kappa."""
        size = self.weight.abs().sum(1).amax()
        return self.weight * (self.kappa / size.clamp_min(self.kappa))

    def solve(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None = None
    ) -> tuple[Tensor, Solution]:
        """Return the prediction and the solution it comes from, one problem per graph."""
        edges = Edges.build(edge_index, len(x), batch, direction=self.direction)
        b, _ = self.bias(*self.features(x, edge_attr, edges), edges)
        share = 1 / edges.degree(b).clamp_min(1)

        def update(z: Tensor, w: Tensor, b: Tensor) -> Tensor:
            mean = share * edges.sum(z.index_select(0, edges.col))
            return torch.relu(mean @ w.T + b)

        solution = fixed_point(
            update,
            torch.zeros_like(b),
            (self.contracting_weight(), b),
            solver=self.solver,
            adjoint=self.adjoint,
            on_failure=self.on_failure,
            layout=Segments(edges.graph, edges.graphs),
        )
        prediction = self.decoder(self.pooled(solution.value, edges))
        return self.in_units(prediction), solution

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        """Return the prediction."""
        return self.solve(x, edge_index, edge_attr, batch)[0]
