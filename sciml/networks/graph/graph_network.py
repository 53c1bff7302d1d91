"""What graph networks share: features in, readout and units out, and the description of both.

x `(N, n)`, edge_index `(2, E)`, edge_attr `(E, k)` and batch `(N,)` go in, for N nodes, E edges and
G graphs; `(N, outputs)` comes out, or `(G, outputs)` with a readout over graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.graph.graph_layers import Edges
from sciml.networks.sizes import check_sizes

READOUTS = ("node", "sum", "mean", "max")


class Features(nn.Module):
    """Turns quantities with units into inputs of order one; the statistics are buffers.

    In this order: logarithm of some columns, mean over the graph taken off some columns (what is
    left no longer depends on the unit, or on the mean size in a larger graph), standardisation.

    Args:
        columns: Number of features.
        log: Columns whose logarithm is used; they must be positive.
        center: Columns from which the mean over the graph is taken off.

    Raises:
        InvalidArgument: If a column does not exist.
    """

    def __init__(self, columns: int, log: Sequence[int] = (), center: Sequence[int] = ()) -> None:
        super().__init__()
        if columns < 0:
            raise InvalidArgument(f"{columns} features of nodes or edges", "zero or more")
        for name, chosen in (("log", log), ("center", center)):
            if any(not 0 <= c < columns for c in chosen):
                raise InvalidArgument(
                    f"{name}={list(chosen)} for {columns} features", f"0 to {columns - 1}"
                )
        mask = torch.zeros(2, columns, dtype=torch.bool)
        mask[0, list(log)], mask[1, list(center)] = True, True
        self.register_buffer("logged", mask[0], persistent=False)
        self.register_buffer("centered", mask[1], persistent=False)
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("std", torch.ones(columns))
        self.any_center = bool(mask[1].any())

    def transformed(self, values: Tensor, graph: Tensor, graphs: int) -> Tensor:
        """Return the features before standardisation; `graph` `(rows,)` numbers the graphs."""
        positive = torch.where(self.logged, values, torch.ones_like(values))
        floor = torch.finfo(values.dtype).tiny
        values = torch.where(self.logged, positive.clamp_min(floor).log(), values)
        if not self.any_center:
            return values
        total = values.new_zeros(graphs, values.shape[1]).index_add(0, graph, values)
        count = torch.bincount(graph, minlength=graphs).clamp_min(1)[:, None].to(values.dtype)
        return values - torch.where(self.centered, (total / count)[graph], 0.0)

    @torch.no_grad()
    def fit(self, values: Tensor, graph: Tensor, graphs: int) -> None:
        """Set the statistics from a sample; constant columns stay as they are.

        Raises:
            InvalidArgument: If a column to be logged is not positive.
        """
        if bool((values[:, self.logged] <= 0).any()):
            raise InvalidArgument(
                "a feature <= 0 whose logarithm is asked for",
                "positive values",
                "Leave the column out of log, or add an offset to it",
            )
        # in float64: a variance far below a large mean would be lost
        v = self.transformed(values.double(), graph, graphs)
        if len(v) > 1:
            mean, std = v.mean(0), v.std(0)
            flat = std <= 1e-6 * v.abs().amax(0).clamp_min(1e-300)
            self.mean.copy_(torch.where(flat, torch.zeros_like(mean), mean))
            self.std.copy_(torch.where(flat, torch.ones_like(std), std))

    def forward(self, values: Tensor, graph: Tensor, graphs: int) -> Tensor:
        """Return `(rows, columns)` of order one."""
        return (self.transformed(values, graph, graphs) - self.mean) / self.std


class GraphNetwork(nn.Module):
    """Statistics and units; a subclass says what happens on the nodes.

    Args:
        node_features: Node features n.
        edge_features: Edge features k.
        outputs: Width of the prediction.
        direction: Whether row i gathers the edges that enter node i (`in`) or leave it (`out`).
        readout: `node`, or `sum`, `mean`, `max` over the nodes of a graph. A sum grows with the
            graph: not for intensive targets.
        node_log: Node features whose logarithm is used.
        node_center: Node features from which the graph's mean is taken off.
        edge_log: Edge features whose logarithm is used.
        edge_center: Edge features from which the graph's mean is taken off.

    Raises:
        InvalidArgument: For an unknown readout.
    """

    def __init__(
        self,
        *,
        node_features: int,
        edge_features: int,
        outputs: int,
        direction: Literal["in", "out"],
        readout: str,
        node_log: Sequence[int] = (),
        node_center: Sequence[int] = (),
        edge_log: Sequence[int] = (),
        edge_center: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_sizes(node_features=node_features, outputs=outputs)
        if readout not in READOUTS:
            raise InvalidArgument(f"readout={readout!r}", f"one of {', '.join(READOUTS)}")
        self.direction, self.readout, self.outputs = direction, readout, outputs
        self.node_input = Features(node_features, node_log, node_center)
        self.edge_input = Features(edge_features, edge_log, edge_center)
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

    def features(self, x: Tensor, edge_attr: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return node features, and edge features in the order of `edges`, all of order one."""
        per_edge = edges.graph.index_select(0, edges.row)
        eps = self.edge_input(edges.sorted(edge_attr), per_edge, edges.graphs)
        return self.node_input(x, edges.graph, edges.graphs), eps

    def pooled(self, values: Tensor, edges: Edges) -> Tensor:
        """Return node values `(N, F)`, or what the readout makes of them `(G, F)`."""
        return values if self.readout == "node" else edges.pool(values, self.readout)

    def in_units(self, values: Tensor) -> Tensor:
        """Return predictions of order one in the units of the target."""
        return self.shift + self.scale * values

    def infer(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the prediction in physical units."""
        return {"value": self(**inputs)}

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
            },
        }
