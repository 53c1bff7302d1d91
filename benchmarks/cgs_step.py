"""A training step of a convergent graph solver on edges, and with dense matrices.

32 graphs of 20 to 50 nodes with 5 to 10 edges each, 64 heads, width 64, gamma 0.5, as in the
published value-iteration experiment; run by `benchmarks/cgs.py`.

* `dense` holds one (H, N, N) matrix over the whole batch, as the published code does, with the same
  encoder, tolerance and implicit gradient.
* `dense, published stop` iterates like it, to 1e-6 over all systems together or 50 times.
* `encoder alone` leaves the solve out: what no form of the solve can go below, so that `dense` over
  it is the largest ratio there could be.

Every form takes a step that is not timed before the timed ones: memory is then as in a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.networks.graph.convergent import CGS
from sciml.networks.graph.graph_layers import Edges
from sciml.networks.graph.graph_solve import equilibrium

REPEATS = 3


def fastest(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the smallest processor time of each run in milliseconds, taken in turns.

    A turn of a run is one that is not timed and two that are.
    """
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            run()
            for _ in range(2):
                start = time.process_time()
                run()
                best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best


class DenseEquilibrium(torch.autograd.Function):
    """Plain iteration on `(H, N, N)`, forward and transposed; the gradient of A is dense too."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, published: bool) -> Tensor:
        """Return the fixed points `(H, N, 1)`."""
        h = _iterate(a, b, published)
        ctx.save_for_backward(a, h)
        ctx.published = published
        return h

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple:
        """Return the slopes in A and b."""
        a, h = ctx.saved_tensors
        u = _iterate(a.mT, g, ctx.published)
        return u @ h.mT, u, None


def _iterate(a: Tensor, b: Tensor, published: bool) -> Tensor:
    x, goal = b, 1e-6 if published else 1e-5 * b.norm()
    for _ in range(50):
        new = a @ x + b
        if (new - x).norm() <= goal:
            return new
        x = new
    return x


class DenseCGS(CGS):
    """The same network with one dense matrix per head over the whole batch."""

    published = False

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        """Return the prediction."""
        edges = Edges.build(edge_index, len(x), batch, direction=self.direction)
        m, b = self.affine_map(x, edge_attr, edges)
        n, flat = len(x), edges.row * len(x) + edges.col
        a = m.new_zeros(n * n, m.shape[1]).index_add(0, flat, m)
        a = a.T.contiguous().reshape(-1, n, n)
        h = DenseEquilibrium.apply(a, b.T[..., None].contiguous(), self.published)[..., 0].T
        return self.decode(h, edges)


class PublishedCGS(DenseCGS):
    """The same with the published stop."""

    published = True


class EncoderAlone(CGS):
    """The same without a solve: one propagation, so that all weights still get a gradient."""

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        """Return the prediction."""
        edges = Edges.build(edge_index, len(x), batch, direction=self.direction)
        m, b = self.affine_map(x, edge_attr, edges)
        return self.decode(b + edges.propagate(m, b), edges)


def value_graphs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return edge_index and batch of random decision processes."""
    index, batch, shift = [], [], 0
    for k in range(count):
        n, degree = (int(torch.randint(*r, (), generator=generator)) for r in ((20, 50), (5, 10)))
        target = torch.arange(n).repeat_interleave(degree)
        source = torch.randint(0, n, (n * degree,), generator=generator)
        index.append(torch.stack([source, target]) + shift)
        batch.append(torch.full((n,), k))
        shift += n
    return torch.cat(index, 1), torch.cat(batch)


def step() -> dict:
    """Return times of a training step, edge list and dense, and of its parts on edges."""
    generator = torch.Generator().manual_seed(0)
    edge_index, batch = value_graphs(32, generator)
    n, e = len(batch), edge_index.shape[1]
    given = {
        "x": torch.ones(n, 1),
        "edge_index": edge_index,
        "edge_attr": torch.rand(e, 1, generator=generator),
        "batch": batch,
    }
    settings = {"node_features": 1, "edge_features": 1, "heads": 64, "width": 64, "layers": 4}
    settings |= {"hidden": 128, "gamma": 0.5, "parametrisation": "degree_sigmoid"}
    target = torch.randn(n, 1, generator=generator)
    runs, slopes = {}, {}
    forms = {"edges": CGS, "encoder alone": EncoderAlone, "dense": DenseCGS}
    for name, cls in (forms | {"dense, published stop": PublishedCGS}).items():
        torch.manual_seed(0)
        net = cls(**settings)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.0, fused=True)

        def train(net: CGS = net, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            (net(**given) - target).square().mean().backward()
            optimizer.step()

        train()
        slopes[name] = torch.cat([p.grad.flatten() for p in net.parameters()])
        runs[name] = train
    gap = (slopes["edges"] - slopes["dense"]).norm() / slopes["dense"].norm()
    times = fastest(runs, REPEATS)
    times |= fastest({"solve on edges, forward and backward": _solve_of(net, given)}, REPEATS)
    return {
        "nodes": n,
        "edges": e,
        "heads": 64,
        "ms": times,
        "ratio": {name: times[name] / times["edges"] for name in times if "dense" in name},
        "largest_possible_ratio": times["dense"] / times["encoder alone"],
        "storage_of_A_over_dense": e / n**2,
        "gradient_distance": float(gap),
    }


def _solve_of(net: CGS, given: dict[str, Tensor]) -> Callable[[], None]:
    """Return the solve of a step, without what comes before and after."""
    edges = Edges.build(given["edge_index"], len(given["x"]), given["batch"])
    with torch.no_grad():
        m, b = net.affine_map(given["x"], given["edge_attr"], edges)
    m, b = m.requires_grad_(), b.requires_grad_()

    def run() -> None:
        solution = equilibrium(edges, m, b, factor=net.map.factor, on_failure="raise")
        solution.value.sum().backward()

    return run
