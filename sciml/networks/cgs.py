"""Convergent graph solvers: a graph network whose only layer runs to its fixed point.

An encoder reads the graph and writes, for each of H heads m, an affine map on node scalars,

    T_m(h) = gamma A_m h + b_m,      sum_j |A_m[i, j]| <= 1,    0 <= gamma < 1,

which contracts in the max-norm whatever the weights are. Its fixed points h*_1 ... h*_H are found
per graph and head, and a decoder maps them to the prediction. One layer thus sees the whole graph,
and the same weights serve graphs of any size; what happens at distance d counts at most
gamma^d / (1 - gamma), so problems like diffusion need gamma close to 1.

Entries of A on the edges of row i, from logits l_e (`parametrisation`):

    degree_clip      clip(l, 0, 1) / degree       as published; no gradient outside (0, 1)
    degree_sigmoid   sigmoid(l) / degree
    degree_tanh      tanh(l) / degree             signed
    softmax          softmax over the row of l + W eps
    gated_softmax    s_i softmax over the row of l + W eps,  s_i = sigmoid(gate(x_i))

eps are the raw (standardised) edge features: with l = log k the softmax is the average weighted by
conductances k. A row whose gate is shut keeps its value b_i, as a Dirichlet node does.

Reference: Park, Choo, Park, "Convergent Graph Solvers", ICLR 2022, arXiv 2106.01680. Departures:
b is multiplied by 1 - gamma s_i, so that h stays of order one as gamma goes to 1 (`source` adds
a part without the factor); no activation after the encoder's last layer; the decoder has a linear
part; systems are solved and judged one by one, not as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, did_you_mean
from sciml.networks.graph_layers import Edges, Features, MessageLayer, mlp
from sciml.networks.graph_solve import equilibrium
from sciml.solvers import Implicit, Solution
from sciml.solvers.solution import Policy

PARAMETRISATIONS = ("degree_clip", "degree_sigmoid", "degree_tanh", "softmax", "gated_softmax")
PHI = {"relu": torch.relu, "tanh": torch.tanh, "softsign": nn.functional.softsign}
# Gates have to go from open to shut within a run; the factor speeds them up.
GATE_SCALE = 8.0
READOUTS = ("node", "sum", "mean", "max")


def contracting_weights(logits: Tensor, edges: Edges, parametrisation: str) -> Tensor:
    """Return entries of A `(E, H)` whose absolute sums over every row are at most 1.

    Args:
        logits: `(E, H)`, in the order of `edges`.
        edges: Edge list.
        parametrisation: See the module's text; the gate of `gated_softmax` comes on top.
    """
    if parametrisation.endswith("softmax"):
        return edges.softmax(logits)
    bounded = {
        "degree_clip": lambda v: v.clamp(0, 1),
        "degree_sigmoid": torch.sigmoid,
        "degree_tanh": torch.tanh,
    }[parametrisation](logits)
    return bounded / edges.degree(logits).index_select(0, edges.row)


class ContractingMap(nn.Module):
    """From logits, node and edge features to M = gamma A and b of the affine maps.

    Args:
        node_features: Width of the raw node features.
        edge_features: Width of the raw edge features.
        heads: Number of maps H.
        gamma: Contraction factor, one number or one per head.
        learn_gamma: Whether gamma is trained, by a sigmoid below `gamma_limit`.
        gamma_limit: Upper end of a trained gamma.
        parametrisation: See the module's text.
        edge_bias: Add `sum over the row of A_e V eps_e` to b: what an edge pays, once chosen.
        source: Add `W x_i` to b without the factor 1 - gamma s_i: for sources inside.
        gate_bias: Value at which gates start, before the sigmoid.
        encoded_bias: Whether the encoder's node output is part of b.

    Raises:
        InvalidArgument: If nothing is part of b, for an unknown parametrisation, or a gamma outside
            [0, 1).
    """

    def __init__(
        self,
        node_features: int,
        edge_features: int,
        heads: int,
        *,
        gamma: float | Sequence[float],
        learn_gamma: bool,
        gamma_limit: float,
        parametrisation: str,
        edge_bias: bool,
        source: bool,
        gate_bias: float,
        encoded_bias: bool = True,
    ) -> None:
        super().__init__()
        if not (encoded_bias or edge_bias or source):
            raise InvalidArgument("no part of b", "encoded_bias, edge_bias or source")
        self.encoded_bias = encoded_bias
        if parametrisation not in PARAMETRISATIONS:
            raise InvalidArgument(
                f"parametrisation={parametrisation!r}",
                "a known one",
                did_you_mean(parametrisation, PARAMETRISATIONS),
            )
        values = torch.as_tensor(gamma, dtype=torch.float64).reshape(-1)
        fits = len(values) in (1, heads)
        if not fits or bool((values < 0).any()) or bool((values >= 1).any()):
            raise InvalidArgument(f"gamma={gamma}", f"one number, or {heads}, in [0, 1)")
        self.parametrisation, self.learn_gamma = parametrisation, learn_gamma
        self.gamma_limit = gamma_limit
        if learn_gamma:
            share = values / gamma_limit
            if not 0 < gamma_limit < 1 or bool((share <= 0).any() or (share >= 1).any()):
                raise InvalidArgument(
                    f"gamma={gamma} to be learned below gamma_limit={gamma_limit}",
                    "0 < gamma < gamma_limit < 1",
                )
            start = torch.logit(share).float().expand(heads).clone()
            self.gamma_logit = nn.Parameter(start)
        else:
            # a list of floats: a buffer would be rounded to the network's precision
            self.fixed_gamma = values.tolist()
        self.skip = self.gate = None
        if parametrisation.endswith("softmax"):
            self.skip = nn.Linear(edge_features, heads, bias=False)
        if parametrisation == "gated_softmax":
            self.gate = nn.Linear(node_features, heads)
            # A gate that starts wide open where it should be shut hardly moves: heads come in
            # pairs of opposite gates, so that for any rows half of them lean the right way.
            with torch.no_grad():
                half = heads // 2
                self.gate.weight[half : 2 * half] = -self.gate.weight[:half]
            nn.init.constant_(self.gate.bias, gate_bias / GATE_SCALE)
        self.edge_value = nn.Linear(edge_features, heads) if edge_bias else None
        self.source = nn.Linear(node_features, heads, bias=False) if source else None
        if source and encoded_bias:
            nn.init.zeros_(self.source.weight)

    @property
    def factor(self) -> float:
        """Return the largest contraction factor the map can have."""
        return self.gamma_limit if self.learn_gamma else max(self.fixed_gamma)

    def gamma(self, like: Tensor) -> Tensor:
        """Return the contraction factor per head, `(H,)` or `(1,)`."""
        if self.learn_gamma:
            return self.gamma_limit * torch.sigmoid(self.gamma_logit.to(like.dtype))
        return like.new_tensor(self.fixed_gamma)

    def forward(
        self,
        x: Tensor,
        eps: Tensor,
        bias: Tensor,
        logits: Tensor,
        edges: Edges,
        dtype: torch.dtype,
        sources: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return M `(E, H)` and b `(N, H)` in the dtype of the solve.

        Args:
            x: Raw node features `(N, n)`.
            eps: Raw edge features `(E, k)`.
            bias: The encoder's node output `(N, H)`.
            logits: The encoder's edge output `(E, H)`.
            edges: Edge list.
            dtype: Precision; 1 - gamma s_i cancels, so it is formed there.
            sources: Node features of which 0 means no source `(N, n)`; None for x.
        """
        if self.skip is not None:
            logits = logits + self.skip(eps)
        # float32 rows may sum to 1 + 1e-7: above 1 / gamma only if gamma is within 1e-7 of 1
        a = contracting_weights(logits.to(dtype), edges, self.parametrisation)
        gamma = self.gamma(a)
        if not self.encoded_bias:
            bias = 0.0 * bias  # not detached: several ranks wait for every gradient
        if self.edge_value is not None:
            value = edges.sum(a * self.edge_value(eps).to(dtype))
            bias = bias.to(dtype) + value
        if self.gate is None:
            b = (1 - gamma) * bias.to(dtype)
            m = gamma * a
        else:
            gate = GATE_SCALE * self.gate(x).to(dtype)
            share = gamma * torch.sigmoid(gate)
            # 1 - gamma s without cancellation
            b = (torch.sigmoid(-gate) + (1 - gamma) * torch.sigmoid(gate)) * bias.to(dtype)
            m = share.index_select(0, edges.row) * a
        if self.source is not None:
            b = b + self.source(x if sources is None else sources).to(dtype)
        return m, b


class CGS(nn.Module):
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
        readout: `node`, or `sum`, `mean`, `max` over the nodes of a graph. A sum grows with the
            graph: not for intensive targets.
        normalise: Decode h / |h| instead of h, for signals that come from far.
        decoder: Hidden widths of the decoder.
        activation: Of all networks, see `graph_layers.ACTIVATIONS`.
        aggregate: `sum` or `mean` of messages.
        node_log: Node features whose logarithm is used.
        node_center: Node features from which the graph's mean is taken off.
        edge_log: Edge features whose logarithm is used.
        edge_center: Edge features from which the graph's mean is taken off.
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
        linear: str = "auto",
        rtol: float | None = None,
        on_failure: Policy = "warn",
        solver: Any = None,
        adjoint: Implicit | None = None,
    ) -> None:
        super().__init__()
        for name, given, known in (("phi", phi, PHI), ("readout", readout, READOUTS)):
            if given is not None and given not in known:
                raise InvalidArgument(f"{name}={given!r}", f"one of {', '.join(known)}")
        for name, size in (("heads", heads), ("layers", layers), ("width", width)):
            if size < 1:
                raise InvalidArgument(f"{name}={size}", "at least 1")
        self.outputs, self.readout, self.normalise = outputs, readout, normalise
        self.direction, self.lifted, self.rtol = direction, double, rtol
        self.phi = None if phi is None else PHI[phi]
        self.linear, self.solver, self.adjoint = linear, solver, adjoint
        self.on_failure: Policy = on_failure
        self.node_input = Features(node_features, node_log, node_center)
        self.edge_input = Features(edge_features, edge_log, edge_center)
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
        self.register_buffer("shift", torch.zeros(outputs))
        self.register_buffer("scale", torch.ones(outputs))

    @torch.no_grad()
    def standardise(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor,
        batch: Tensor | None = None,
        target: Tensor | None = None,
    ) -> None:
        """Set the statistics of features, and of the target if one is given, from a sample."""
        edges = Edges.build(edge_index, len(x), batch, direction=self.direction)
        self.node_input.fit(x, edges.graph, edges.graphs)
        per_edge = edges.graph.index_select(0, edges.row)
        self.edge_input.fit(edges.sorted(edge_attr), per_edge, edges.graphs)
        if target is not None:
            self.shift.copy_(target.double().mean(0))
            self.scale.copy_(target.double().std(0).clamp_min(1e-30))

    def affine_map(self, x: Tensor, edge_attr: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return M `(E, H)`, in the order of `edges`, and b `(N, H)`."""
        x = self.node_input(x, edges.graph, edges.graphs)
        per_edge = edges.graph.index_select(0, edges.row)
        eps = self.edge_input(edges.sorted(edge_attr), per_edge, edges.graphs)
        nodes, links = x, eps
        for layer in self.encoder:
            nodes, links = layer(nodes, links, edges)
        dtype = torch.float64 if self.lifted else nodes.dtype
        with torch.autocast(x.device.type, enabled=False):
            # the mean is put back: what is no source must stay none
            sources = x + self.node_input.mean / self.node_input.std
            return self.map(x, eps, nodes, links, edges, dtype, sources)

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
        solution = equilibrium(
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
        return self.decode(solution.value.to(x.dtype), edges), solution

    def decode(self, h: Tensor, edges: Edges) -> Tensor:
        """Return the prediction from fixed points `(N, H)`."""
        if self.normalise:
            size = h.square().sum(-1, keepdim=True)
            h = h * (size + torch.finfo(h.dtype).tiny).rsqrt()
        if self.readout != "node":
            h = edges.pool(h, self.readout)
        # the linear part carries problems that are linear in h; the rest starts small
        return self.shift + self.scale * (self.direct(h) + 0.1 * self.decoder(h))

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
        n, k = self.node_input.mean.numel(), self.edge_input.mean.numel()
        rows = "nodes" if self.readout == "node" else "graphs"
        return {
            "inputs": {
                "x": {"shape": ["nodes", n], "unit": "1", "dtype": "float"},
                "edge_index": {"shape": [2, "edges"], "unit": "1", "dtype": "int"},
                "edge_attr": {"shape": ["edges", k], "unit": "1", "dtype": "float"},
                "batch": {"shape": ["nodes"], "unit": "1", "dtype": "int"},
            },
            "outputs": {
                "value": {"shape": [rows, self.outputs], "unit": "1", "dtype": "float"},
                "converged": {"shape": ["graphs"], "unit": "1", "dtype": "bool"},
                "residual": {"shape": ["graphs"], "unit": "1", "dtype": "float"},
            },
        }
