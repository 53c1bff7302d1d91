"""Parts that graph networks share: sorted edge lists, message passing.

A batch of graphs is one large graph whose nodes carry the number of their graph. `Edges` sorts the
edges once by the row they add to; sums over rows accumulate, so parallel edges count twice and
nodes without edges get zero.

Letters: N nodes, E edges, G graphs, n node features, k edge features, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, InvalidType, did_you_mean

Direction = Literal["in", "out"]
ACTIVATIONS = {
    "leaky_relu": partial(nn.LeakyReLU, inplace=True),  # what they act on is needed by nobody
    "silu": nn.SiLU,
    "relu": partial(nn.ReLU, inplace=True),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


@dataclass(frozen=True)
class Edges:
    """Edges of a batch of graphs, sorted by row.

    Attributes:
        row: `(E,)` node that edge e adds to.
        col: `(E,)` node it reads.
        order: `(E,)` position of the sorted edges in the caller's list; None if it was sorted.
        graph: `(N,)` graph of every node.
        graphs: Number of graphs G.
    """

    row: Tensor
    col: Tensor
    order: Tensor | None
    graph: Tensor
    graphs: int

    @classmethod
    def build(
        cls,
        edge_index: Tensor,
        nodes: int,
        batch: Tensor | None = None,
        *,
        direction: Direction = "in",
        graphs: int | None = None,
    ) -> Edges:
        """Check and sort an edge list.

        Args:
            edge_index: `(2, E)` integers, source above target; int32 is widened.
            nodes: Number of nodes N.
            batch: `(N,)` graph of every node; None for one graph.
            direction: Whether row i gathers the edges that enter node i (`in`) or leave it.
            graphs: Number of graphs; needed only if the last ones have no nodes.

        Raises:
            InvalidType: If an index is not a tensor of integers.
            InvalidArgument: If there are no nodes, shapes do not fit, an index is out of range, or
                an edge joins two graphs.
        """
        for name, index in (("edge_index", edge_index), ("batch", batch)):
            wrong = index is not None and (index.is_floating_point() or index.dtype == torch.bool)
            if wrong:
                raise InvalidType(f"{name} of dtype {index.dtype}", "integers", "Type .long()")
        if nodes < 1:
            raise InvalidArgument("a batch of graphs without nodes", "at least one node")
        if direction not in ("in", "out"):
            raise InvalidArgument(f"direction={direction!r}", "in or out")
        if edge_index.dim() != 2 or edge_index.shape[0] != 2:
            raise InvalidArgument(f"edge_index of shape {tuple(edge_index.shape)}", "(2, E)")
        if batch is not None and batch.shape != (nodes,):
            raise InvalidArgument(
                f"batch of shape {tuple(batch.shape)} for {nodes} nodes", f"({nodes},)"
            )
        source, target = edge_index.long()
        row, col = (target, source) if direction == "in" else (source, target)
        if batch is None:
            batch = torch.zeros(nodes, dtype=torch.long, device=row.device)
        batch = batch.long()
        # all that the host has to know, in one look at the device
        apart = batch[source.clamp(0, nodes - 1)] != batch[target.clamp(0, nodes - 1)]
        facts = [*_range(edge_index), *_range(batch), apart.any(), (row[1:] < row[:-1]).any()]
        low, high, first, last, apart, unsorted = torch.stack([f.long() for f in facts]).tolist()
        if low < 0 or high >= nodes:
            raise InvalidArgument(
                f"edges between nodes {low} and {high} of a graph with {nodes} nodes",
                f"indices from 0 to {nodes - 1}",
            )
        order = None
        if unsorted:
            order = torch.argsort(row, stable=True)
            row, col = row[order], col[order]
        graphs = last + 1 if graphs is None else graphs
        if first < 0 or last >= graphs:
            raise InvalidArgument(
                f"nodes of graphs {first} to {last} in a batch of {graphs}", f"0 to {graphs - 1}"
            )
        if apart:
            raise InvalidArgument(
                "an edge between two graphs of a batch",
                "edges within a graph",
                "Add the number of nodes before each graph to its edge_index",
            )
        return cls(row.contiguous(), col.contiguous(), order, batch, graphs)

    @property
    def nodes(self) -> int:
        """Return N."""
        return len(self.graph)

    def sorted(self, values: Tensor) -> Tensor:
        """Return values per edge `(E, ...)` of the caller in the order used here."""
        return values if self.order is None else values.index_select(0, self.order)

    def sum(self, values: Tensor) -> Tensor:
        """Return sums `(N, ...)` over the edges of every row; `(E, ...)` in."""
        out = values.new_zeros(self.nodes, *values.shape[1:])
        return out.index_add(0, self.row, values)

    def propagate(self, weights: Tensor, h: Tensor) -> Tensor:
        """Return `sum over e in row i of w_e h[col_e]`, `(N, H)`, for weights `(E, H)`."""
        return self.sum(weights * h.index_select(0, self.col))

    def degree(self, like: Tensor) -> Tensor:
        """Return the number of edges per row `(N, 1)`, in the dtype of `like`."""
        return self.sum(like.new_ones(len(self.row), 1))

    def softmax(self, logits: Tensor) -> Tensor:
        """Return weights `(E, H)` that are positive and sum to 1 over every row with edges."""
        with torch.no_grad():  # a constant per row; its derivative would cancel
            where = self.row[:, None].expand(logits.shape)
            top = logits.new_full((self.nodes, *logits.shape[1:]), -torch.inf)
            top = top.scatter_reduce(0, where, logits, "amax")
        share = (logits - top.index_select(0, self.row)).exp()
        return share / self.sum(share).index_select(0, self.row)

    def pool(self, values: Tensor, how: str) -> Tensor:
        """Return the sum, mean or max of node values `(N, F)` per graph, `(G, F)`.

        Graphs without nodes give zero.
        """
        zeros = values.new_zeros(self.graphs, values.shape[1])
        if how == "max":
            where = self.graph[:, None].expand(values.shape)
            return zeros.scatter_reduce(0, where, values, "amax", include_self=False)
        total = zeros.index_add(0, self.graph, values)
        if how == "sum":
            return total
        return total / self.sizes().clamp_min(1)[:, None].to(total.dtype)

    def sizes(self) -> Tensor:
        """Return the number of nodes per graph `(G,)`."""
        return torch.bincount(self.graph, minlength=self.graphs)


def _range(index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest entry; 0 and -1 of nothing."""
    if not index.numel():
        return index.new_zeros(()), index.new_full((), -1)
    return torch.aminmax(index)


class MessageLayer(nn.Module):
    """Attention message passing with one hidden layer in every network.

    With c_e = [eps_e, x_row, x_col]:

        eps'_e = MLP_e(c_e),    alpha_e = softmax of MLP_a(c_e) over the edges of a row,
        x'_i   = MLP_n([sum or mean over the row of alpha_e eps'_e, x_i]).

    The first layers of MLP_e and MLP_a are applied to nodes before they are gathered, which is the
    same sum at a cost per node instead of per edge.

    Args:
        nodes_in: Width of x.
        edges_in: Width of eps.
        nodes_out: Width of x'.
        edges_out: Width of eps'.
        hidden: Hidden width of the three networks.
        activation: One of `ACTIVATIONS`.
        aggregate: `sum` or `mean` over the row.
        last: Leave out the activation after the output layers.

    Reference: Convergent Graph Solvers, ICLR 2022, arXiv 2106.01680, encoder.
    """

    def __init__(
        self,
        nodes_in: int,
        edges_in: int,
        nodes_out: int,
        edges_out: int,
        *,
        hidden: int = 64,
        activation: str = "leaky_relu",
        aggregate: Literal["sum", "mean"] = "sum",
        last: bool = False,
    ) -> None:
        super().__init__()
        if aggregate not in ("sum", "mean"):
            raise InvalidArgument(f"aggregate={aggregate!r}", "sum or mean")
        if min(hidden, nodes_in, nodes_out, edges_out) < 1:
            said = f"hidden={hidden} with {nodes_in}, {nodes_out} and {edges_out} channels"
            raise InvalidArgument(said, "positive integers")
        self.hidden, self.aggregate = hidden, aggregate
        self.act = activation_layer(activation)
        self.end = nn.Identity() if last else activation_layer(activation)
        self.edge_in = nn.Linear(edges_in, 2 * hidden)
        self.row_in = nn.Linear(nodes_in, 2 * hidden, bias=False)
        self.col_in = nn.Linear(nodes_in, 2 * hidden, bias=False)
        self.message = nn.Linear(hidden, edges_out)
        self.score = nn.Linear(hidden, 1, bias=False)  # softmax does not see a constant
        self.node = mlp([edges_out + nodes_in, hidden, nodes_out], activation)

    def forward(self, x: Tensor, eps: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return x' `(N, nodes_out)` and eps' `(E, edges_out)`; edges in sorted order."""
        # in place: the widest tensors here, and fresh memory costs more than the sums
        c = self.edge_in(eps)
        c = c.add_(self.row_in(x).index_select(0, edges.row))
        c = self.act(c.add_(self.col_in(x).index_select(0, edges.col)))
        for_message, for_score = c.chunk(2, -1)
        message = self.end(self.message(for_message))
        alpha = edges.softmax(self.score(for_score))
        total = edges.sum(alpha * message)
        if self.aggregate == "mean":
            total = total / edges.degree(total).clamp_min(1)
        return self.end(self.node(torch.cat([total, x], -1))), message


def activation_layer(name: str) -> nn.Module:
    """Return an activation by name.

    Raises:
        InvalidArgument: If there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise InvalidArgument(
            f"activation={name!r}", "a known activation", did_you_mean(name, ACTIVATIONS)
        )
    return ACTIVATIONS[name]()


def mlp(sizes: Sequence[int], activation: str) -> nn.Sequential:
    """Return linear layers of the given sizes with activations between them.

    Raises:
        InvalidArgument: For a size that is not positive.
    """
    if min(sizes) < 1:
        raise InvalidArgument(f"layers of sizes {list(sizes)}", "positive integers")
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        layers += [activation_layer(activation)] if i else []
        layers.append(nn.Linear(a, b))
    return nn.Sequential(*layers)
