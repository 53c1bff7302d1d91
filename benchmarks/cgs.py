"""Convergent graph solvers: edge lists against dense matrices and sparse factors, on one thread.

    python benchmarks/cgs.py                 # ten minutes; results/cgs.json, results/cgs.png
    python benchmarks/cgs.py step solve      # some parts only

* `step`: a training step on 32 graphs of 20 to 50 nodes with 5 to 10 edges each, 64 heads, width
  64, gamma 0.5, as in the published value-iteration experiment. `dense` holds one (H, N, N) matrix
  over the whole batch, as the published code does, with the same encoder, tolerance and implicit
  gradient; `dense, published stop` iterates like it, to 1e-6 over all systems together or 50 times.
* `solve`: 8 graphs of 128 nodes, 16 heads, six edges per node, gamma 0.99, float32: the forward
  solve and that of the adjoint. Plain iteration beside it.
* `growth`: one head on cubic lattices of 1000 to 1 000 000 nodes, conductances over two decades,
  gamma 0.99, float64 to 1e-8: this package's solve on edges, forward and backward; scipy's sparse
  LU; a dense solve. A method stops growing once a solve took half a minute or would not fit.

Times are processor times of the process, minima over interleaved repetitions (one for large
sizes). On a shared machine the ratios still mean something, the milliseconds little.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from sciml.networks.cgs import CGS
from sciml.networks.graph_layers import Edges
from sciml.networks.graph_solve import EdgeOperator, EdgeSolver, equilibrium
from sciml.solvers import Segments

PATIENCE = 30.0  # seconds after which a method stops growing
DENSE_UP_TO = 4096  # nodes; the matrix then has 134 MB
LU_UP_TO = 30_000  # nodes; the factor fills up as n^(4/3)
RESULTS = Path(__file__).parent / "results"


def fastest(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the smallest processor time of each run in milliseconds, taken in turns."""
    best = {name: float("inf") for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best


# --- a training step ------------------------------------------------------------------------------
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
    """Return times of a training step, edge list and dense."""
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
    forms = {"edges": CGS, "dense": DenseCGS, "dense, published stop": PublishedCGS}
    for name, cls in forms.items():
        torch.manual_seed(0)
        net = cls(**settings)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.0)

        def train(net: CGS = net, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            (net(**given) - target).square().mean().backward()
            optimizer.step()

        train()
        slopes[name] = torch.cat([p.grad.flatten() for p in net.parameters()])
        runs[name] = train
    gap = (slopes["edges"] - slopes["dense"]).norm() / slopes["dense"].norm()
    times = fastest(runs, 3)
    return {
        "nodes": n,
        "edges": e,
        "heads": 64,
        "ms": times,
        "ratio": {name: t / times["edges"] for name, t in times.items() if name != "edges"},
        "storage_of_A_over_dense": e / n**2,
        "gradient_distance": float(gap),
    }


# --- a solve --------------------------------------------------------------------------------------
def solve() -> dict:
    """Return times of solves at gamma = 0.99."""
    generator = torch.Generator().manual_seed(0)
    graphs, nodes, heads, degree, gamma = 8, 128, 16, 6, 0.99
    target = torch.arange(graphs * nodes).repeat_interleave(degree)
    source = torch.randint(0, nodes, (len(target),), generator=generator) + target // nodes * nodes
    batch = torch.arange(graphs * nodes) // nodes
    edges = Edges.build(torch.stack([source, target]), graphs * nodes, batch)
    m = gamma * edges.softmax(torch.randn(len(target), heads, generator=generator))
    b, g = torch.randn(2, graphs * nodes, heads, generator=generator)
    operator = EdgeOperator(edges, m, Segments(batch, graphs, per_column=True))
    found: dict = {"graphs": graphs, "nodes": nodes, "heads": heads, "gamma": gamma}
    runs, outcomes = {}, {}
    for method in ("bicgstab", "dense", "iterate"):
        solver = EdgeSolver(operator, method, factor=gamma, rtol=1e-5)

        def forward(solver: EdgeSolver = solver) -> object:
            operator.factors.clear()
            return solver(operator, b)

        runs[f"{method} forward"] = forward
        runs[f"{method} adjoint"] = lambda solver=solver: solver(operator.T, g)
        outcomes[method] = forward()
    exact = EdgeSolver(
        EdgeOperator(edges, m.double(), operator.layout), "bicgstab", factor=gamma, rtol=1e-12
    )
    want = exact(exact.operator, b.double()).value
    found["ms"] = fastest(runs, 10)
    found["adjoint_over_forward"] = (
        found["ms"]["bicgstab adjoint"] / found["ms"]["bicgstab forward"]
    )
    for method, out in outcomes.items():
        found[method] = {
            "iterations": int(out.iterations.max()),
            "solved": bool((out.status == 0).all()),
            "relative_error": float((out.value - want).abs().max() / want.abs().max()),
        }
    return found


# --- growth ---------------------------------------------------------------------------------------
def lattice(side: int) -> np.ndarray:
    """Return directed edges `(2, E)` of a cubic lattice, both ways."""
    number = np.arange(side**3).reshape(side, side, side)
    pairs = []
    for axis in range(3):
        low = np.delete(number, -1, axis).ravel()
        high = np.delete(number, 0, axis).ravel()
        pairs += [np.stack([low, high]), np.stack([high, low])]
    return np.concatenate(pairs, 1)


def growth(sides: tuple[int, ...] = (10, 16, 25, 40, 63, 100)) -> dict:
    """Return times of solves on lattices of growing size."""
    rows, skip, gamma = [], set(), 0.99
    for side in sides:
        generator = torch.Generator().manual_seed(side)
        n, index = side**3, torch.from_numpy(lattice(side))
        edges = Edges.build(index, n)
        logits = 2.3 * torch.randn(len(edges.row), 1, generator=generator, dtype=torch.float64)
        m = gamma * edges.softmax(logits)
        b = torch.randn(n, 1, generator=generator, dtype=torch.float64)
        row: dict = {"nodes": n, "edges": len(edges.row), "seconds": {}}
        if n > DENSE_UP_TO:
            skip.add("dense")
        if n > LU_UP_TO:
            skip.add("sparse LU")

        want, row["iterations"] = _on_edges(edges, m, b, gamma, row["seconds"])
        if "sparse LU" not in skip:
            a = sp.coo_matrix((m[:, 0].numpy(), (edges.row.numpy(), edges.col.numpy())), (n, n))
            a = (sp.eye(n) - a).tocsc()
            start = time.process_time()
            found = spla.splu(a).solve(b[:, 0].numpy())
            row["seconds"]["sparse LU"] = time.process_time() - start
            row["distance"] = float(np.abs(found - want[:, 0].numpy()).max())
        if "dense" not in skip:
            full = torch.zeros(n, n, dtype=torch.float64)
            full.index_put_((edges.row, edges.col), m[:, 0], accumulate=True)
            start = time.process_time()
            torch.linalg.solve(torch.eye(n, dtype=torch.float64) - full, b)
            row["seconds"]["dense"] = time.process_time() - start
        skip |= {name for name, seconds in row["seconds"].items() if seconds > PATIENCE}
        rows.append(row)
        print(json.dumps(row), flush=True)
    first, last = rows[-min(3, len(rows))], rows[-1]
    power = np.log(last["seconds"]["edges"] / first["seconds"]["edges"])
    power /= np.log(last["edges"] / first["edges"])
    return {"gamma": gamma, "rows": rows, "exponent_of_edges": float(power)}


def _on_edges(
    edges: Edges, m: Tensor, b: Tensor, gamma: float, seconds: dict[str, float]
) -> tuple[Tensor, int]:
    """Solve and differentiate; return the solution and the number of iterations."""
    m, b = m.clone().requires_grad_(), b.clone().requires_grad_()
    start = time.process_time()
    h = equilibrium(edges, m, b, factor=gamma, method="bicgstab", on_failure="raise", rtol=1e-8)
    middle = time.process_time()
    h.value.square().sum().backward()
    seconds["edges"], seconds["edges, backward"] = middle - start, time.process_time() - middle
    return h.value.detach(), int(h.iterations.max())


def plot(found: dict, path: Path) -> None:
    """Draw seconds over nodes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    names = sorted({name for row in found["rows"] for name in row["seconds"]})
    for name in names:
        points = [(r["nodes"], r["seconds"][name]) for r in found["rows"] if name in r["seconds"]]
        axes.loglog(*zip(*points, strict=True), "o-", label=name, markersize=4)
    axes.set(xlabel="nodes", ylabel="seconds, one core", title="Solve on a cubic lattice")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run the parts asked for, and keep what was found before of the others."""
    torch.set_num_threads(1)
    parts = {"step": step, "solve": solve, "growth": growth}
    file = RESULTS / "cgs.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    for name in sys.argv[1:] or parts:
        found[name] = parts[name]() | {"load": round(os.getloadavg()[0], 1)}
        print(name, json.dumps(found[name], indent=1))
    found["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "torch": torch.__version__,
        "scipy": scipy.__version__,
    }
    file.write_text(json.dumps(found, indent=1) + "\n")
    if "growth" in found:
        plot(found["growth"], RESULTS / "cgs.png")


if __name__ == "__main__":
    main()
