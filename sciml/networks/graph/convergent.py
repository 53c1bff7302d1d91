"""Convergent graph solvers: a graph network whose only layer runs to its fixed point.

An encoder reads the graph and writes, for each of H heads m, an affine map on node scalars,

    T_m(h) = gamma A_m h + b_m,      sum_j |A_m[i, j]| <= 1,    0 <= gamma < 1,

which contracts in the max-norm whatever the weights are. Its fixed points h*_1 ... h*_H are found
per graph and head, and a decoder maps them to the prediction. One layer thus sees the whole graph,
and the same weights serve graphs of any size; what happens at distance d counts at most
gamma^d / (1 - gamma), so problems like diffusion need gamma close to 1.

How A and b are made is in `sciml.networks.graph.contracting_map`.

Reference: Park, Choo, Park, "Convergent Graph Solvers", ICLR 2022, arXiv 2106.01680. Departures, as
well as those of the map: no activation after the encoder's last layer; the decoder has a linear
part; systems are solved and judged one by one, not as one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.graph.contracting_map import ContractingMap
from sciml.networks.graph.graph_layers import Edges, MessageLayer, mlp
from sciml.networks.graph.graph_network import GraphNetwork
from sciml.networks.graph.graph_solve import equilibrium
from sciml.solvers import Implicit, Solution
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed

PHI = {"relu": torch.relu, "tanh": torch.tanh, "softsign": nn.functional.softsign}


@typed
class CGS(GraphNetwork):
    """Convergent graph solver.

    Args:
        node_features: Node features n.
        edge_features: Edge features k.
        outputs: Width of the prediction, per node or per graph.
        heads: Number of fixed points H.
        width: Width of the hidden layers of the encoder, nodes and edges.
        layers: Message-passing layers of the encoder, the last one included.
        hidden: Hidden width of the networks within a layer.
        gamma: Contraction factor in [0, 1), one number or one per head; 0 leaves the encoder.
        learn_gamma: Whether gamma is trained.
        gamma_limit: Upper end of a trained gamma.
        parametrisation: Form of A, see the module's text.
        direction: Whether row i gathers the edges that enter node i (`in`) or leave it (`out`).
        edge_bias: Whether chosen edges add to b.
        source: Whether raw node features add to b unscaled.
        encoded_bias: Whether the encoder's node output is part of b. Without it (and with `source`)
            a node without features adds nothing, so a faint signal from far away stays readable.
        gate_bias: Value at which gates start, before the sigmoid.
        phi: `relu`, `tanh` or `softsign` around the affine map; None for none.
        readout: As in `GraphNetwork`.
        normalise: Decode h / |h| instead of h, for signals that come from far.
        decoder: Hidden widths of the decoder.
        activation: Of all networks, see `graph_layers.ACTIVATIONS`.
        aggregate: `sum` or `mean` of messages.
        node_log: As in `GraphNetwork`.
        node_center: As in `GraphNetwork`.
        edge_log: As in `GraphNetwork`.
        edge_center: As in `GraphNetwork`.
        double: Whether systems are solved in float64; wanted for gamma above 0.99 or so.
        linear: Linear solver: `auto`, `iterate`, `bicgstab`, `dense`.
        rtol: Relative tolerance of the solves; None takes 1e-5 in float32, 1e-10 in float64.
        on_failure: What happens if a system is not solved: `raise`, `warn`, `mask`, `best`.
        solver: Fixed-point solver of the core for a nonlinear `phi`, or to replace `linear`.
        adjoint: Derivative rule of the core.

    Shapes: x `(N, n)`, edge_index `(2, E)`, edge_attr `(E, k)`, batch `(N,)` to `(N, outputs)`, or
    `(G, outputs)` with a readout over graphs.

    Raises:
        InvalidArgument: For unknown names and impossible sizes.

    Example:
        >>> import torch
        >>> from sciml.networks import CGS
        >>> network = CGS(node_features=2, edge_features=1, heads=2, width=4, hidden=4)
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
        heads: int = 16,
        width: int = 64,
        layers: int = 1,
        hidden: int = 64,
        gamma: float | Sequence[float] = 0.9,
        learn_gamma: bool = False,
        gamma_limit: float = 0.999,
        parametrisation: str = "gated_softmax",
        direction: Literal["in", "out"] = "in",
        edge_bias: bool = False,
        source: bool = False,
        encoded_bias: bool = True,
        gate_bias: float = 4.0,
        phi: str | None = None,
        readout: str = "node",
        normalise: bool = False,
        decoder: Sequence[int] = (64, 32),
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
        solver: Any = None,
        adjoint: Implicit | None = None,
    ) -> None:
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
        if phi is not None and phi not in PHI:
            raise InvalidArgument(f"phi={phi!r}", f"one of {', '.join(PHI)}")
        for name, size in (("heads", heads), ("layers", layers), ("width", width)):
            if size < 1:
                raise InvalidArgument(f"{name}={size}", "at least 1")
        self.normalise, self.lifted, self.rtol = normalise, double, rtol
        self.phi = None if phi is None else PHI[phi]
        self.linear, self.solver, self.adjoint = linear, solver, adjoint
        self.on_failure: Policy = on_failure
        sizes = [(node_features, edge_features), *[(width, width)] * (layers - 1), (heads, heads)]
        self.encoder = nn.ModuleList(
            MessageLayer(
                *sizes[i],
                *sizes[i + 1],
                hidden=hidden,
                activation=activation,
                aggregate=aggregate,
                last=i == layers - 1,
            )
            for i in range(layers)
        )
        self.map = ContractingMap(
            node_features,
            edge_features,
            heads,
            gamma=gamma,
            learn_gamma=learn_gamma,
            gamma_limit=gamma_limit,
            parametrisation=parametrisation,
            edge_bias=edge_bias,
            source=source,
            gate_bias=gate_bias,
            encoded_bias=encoded_bias,
        )
        self.decoder = mlp([heads, *decoder, outputs], activation)
        self.direct = nn.Linear(heads, outputs)

    def affine_map(self, x: Tensor, edge_attr: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return M `(E, H)`, in the order of `edges`, and b `(N, H)`."""
        x, eps = self.features(x, edge_attr, edges)
        # the mean is put back: what is no source must stay none
        sources = x + self.node_input.mean / self.node_input.std
        return self.written(x, eps, edges, sources)

    def written(
        self, x: Tensor, eps: Tensor, edges: Edges, sources: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the M and b that the encoder writes from features of nodes and edges."""
        nodes, links = x, eps
        for layer in self.encoder:
            nodes, links = layer(nodes, links, edges)
        dtype = torch.float64 if self.lifted else nodes.dtype
        with torch.autocast(x.device.type, enabled=False):
            return self.map(x, eps, nodes, links, edges, dtype, sources)

    def fixed_points(
        self, edges: Edges, m: Tensor, b: Tensor, start: Tensor | None = None
    ) -> Solution:
        """Return the solution of `h = phi(M h + b)`, `(N, H)`; a start may have another dtype."""
        return equilibrium(
            edges,
            m,
            b,
            factor=self.map.factor,
            phi=self.phi,
            method=self.linear,
            solver=self.solver,
            adjoint=self.adjoint,
            on_failure=self.on_failure,
            rtol=self.rtol,
            start=None if start is None else start.to(b.dtype),
        )

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
        """Return the prediction and the solution it comes from.

        Args:
            x: Node features.
            edge_index: Edges, source above target.
            edge_attr: Edge features.
            batch: Graph of every node; None for one graph.
            start: `(N, H)` first guess of the fixed points, for example those of a similar graph.
            graphs: Number of graphs, needed only if the last ones have no nodes.
        """
        edges = Edges.build(edge_index, len(x), batch, direction=self.direction, graphs=graphs)
        m, b = self.affine_map(x, edge_attr, edges)
        solution = self.fixed_points(edges, m, b, start)
        return self.decode(solution.value.to(x.dtype), edges), solution

    def decode(self, h: Tensor, edges: Edges) -> Tensor:
        """Return the prediction from fixed points `(N, H)`."""
        if self.normalise:
            size = h.square().sum(-1, keepdim=True)
            h = h * (size + torch.finfo(h.dtype).tiny).rsqrt()
        h = self.pooled(h, edges)
        # the linear part carries problems that are linear in h; the rest starts small
        return self.in_units(self.direct(h) + 0.1 * self.decoder(h))

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        """Return the prediction."""
        return self.solve(x, edge_index, edge_attr, batch)[0]

    def infer(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return value, and per graph whether all heads were solved and the worst residual."""
        value, solution = self.solve(x, edge_index, edge_attr, batch)
        return {
            "value": value,
            "converged": solution.converged.all(-1),
            "residual": solution.stats["relative"].amax(-1),
        }

    def schema(self) -> dict[str, Any]:
        """Return names, shapes and units of inputs and outputs."""
        schema = super().schema()
        schema["outputs"] |= {
            "converged": {"shape": ["graphs"], "unit": "1", "dtype": "bool"},
            "residual": {"shape": ["graphs"], "unit": "1", "dtype": "float"},
        }
        return schema
