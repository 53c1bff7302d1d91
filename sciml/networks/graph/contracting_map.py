"""Contracting affine maps on the nodes of a graph, written by an encoder.

Entries of A on the edges of row i, from logits l_e (`parametrisation`):

    degree_clip      clip(l, 0, 1) / degree       as published; no gradient outside (0, 1)
    degree_sigmoid   sigmoid(l) / degree
    degree_tanh      tanh(l) / degree             signed
    softmax          softmax over the row of l + W eps
    gated_softmax    s_i softmax over the row of l + W eps,  s_i = sigmoid(gate(x_i))

eps are the raw (standardised) edge features: with l = log k the softmax is the average weighted by
conductances k. A row whose gate is shut keeps its value b_i, as a Dirichlet node does. In all of
them sum_j |A[i, j]| <= 1, so h -> gamma A h + b contracts in the max-norm.

Reference: Park, Choo, Park, "Convergent Graph Solvers", ICLR 2022, arXiv 2106.01680. Departure: b
is multiplied by 1 - gamma s_i, so that h stays of order one as gamma goes to 1 (`source` adds a
part without the factor).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, did_you_mean
from sciml.networks.graph.graph_layers import Edges

PARAMETRISATIONS = ("degree_clip", "degree_sigmoid", "degree_tanh", "softmax", "gated_softmax")
# Gates have to go from open to shut within a run; the factor speeds them up.
GATE_SCALE = 8.0


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
