"""Implicit layers against peers and against unrolling, in one run on one thread.

    pip install torchdeq torchopt optree jaxopt "jax<0.6"     # what is missing is listed as such
    python benchmarks/implicit.py                              # two minutes; results/implicit.json

* `deq`: forward and backward pass of z = tanh(z W + x), 64 samples of 128 unknowns, float32,
  spectral radius of W 0.97, relative tolerance 1e-5, this package and torchdeq (implicit gradient,
  its three solvers). Every row states the worst true residual and the error of the gradient
  against a converged unrolled pass in float64. `ratio` is the time over torchdeq's best.
  `matched` tightens this package's tolerance until its gradient is as good as that of torchdeq's
  fastest solver.
* `unrolled`: the same layer against autograd through the loop, time and bytes kept for backward.
* `hypergradient`: ridge regression with one decay, against torchopt and JAXopt (compiled).
* `attach`: 24 problems of 16 unknowns; the derivative's cost over that of one Newton step.

Times are processor times of the process, minima over interleaved repetitions. On a shared machine
the ratios still mean something, the milliseconds little.
"""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sciml.solvers import (
    CG,
    GMRES,
    Anderson,
    BiCGStab,
    Broyden,
    Dense,
    FixedPointIteration,
    Implicit,
    Newton,
    Rows,
    fixed_point,
    linear_solve,
    root,
)

REPEATS = 20


def fastest(runs: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Return the smallest processor time of each run in milliseconds, taken in turns."""
    best = {name: float("inf") for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best


# --- equilibrium layer ---------------------------------------------------------------------------
class Layer:
    """z = tanh(z W + x) and a linear functional of its solution."""

    def __init__(self, dtype: torch.dtype = torch.float32, batch: int = 64, n: int = 128) -> None:
        torch.manual_seed(0)
        a = torch.randn(n, n, dtype=torch.float64)
        a = a + a.mT
        a = 0.97 * a / torch.linalg.eigvalsh(a).abs().max()
        x = 0.1 * torch.randn(batch, n, dtype=torch.float64)
        self.w, self.x = (t.to(dtype).requires_grad_() for t in (a, x))
        self.c = torch.randn(batch, n, dtype=torch.float64).to(dtype)
        self.zero = torch.zeros(batch, n, dtype=dtype)

    def map(self, z: Tensor) -> Tensor:
        """Return the right-hand side."""
        return torch.tanh(z @ self.w + self.x)

    def unrolled(self, steps: int) -> Tensor:
        """Return the state after plain steps, with their graph."""
        z = self.zero
        for _ in range(steps):
            z = self.map(z)
        return z

    def gradient(self, z: Tensor) -> list[Tensor]:
        """Return the functional's gradient in W and x."""
        return list(torch.autograd.grad((z * self.c).sum(), (self.w, self.x)))

    def residual(self, z: Tensor) -> float:
        """Return the worst relative residual of a sample."""
        with torch.no_grad():
            f = self.map(z)
            return float(((z - f).norm(dim=1) / f.norm(dim=1)).max())


def distance(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Return the relative distance of the gradients in W."""
    return float((found[0].double() - wanted[0]).norm() / wanted[0].norm())


def deq() -> dict:
    """Compare equilibrium layers."""
    layer, exact = Layer(), Layer(torch.float64)
    wanted = exact.gradient(exact.unrolled(2000))
    tolerance = 1e-5

    def ours(solver: object, linear: object) -> Callable[[], Tensor]:
        rule = Implicit(linear, on_failure="best")
        return lambda: (
            fixed_point(layer.map, layer.zero, solver=solver, adjoint=rule, on_failure="best").value
        )

    forward: dict[str, Callable[[], Tensor]] = {}
    for name, solver in (
        ("plain", FixedPointIteration),
        ("Anderson", Anderson),
        ("Broyden", Broyden),
    ):
        for linear in (GMRES, BiCGStab):
            forward[f"sciml {name}, {linear.__name__}"] = ours(
                solver(rtol=tolerance), linear(rtol=tolerance)
            )
    for tight in (3e-6, 1e-6, 5e-7):
        forward[f"sciml Anderson, BiCGStab, rtol {tight:g}"] = ours(
            Anderson(rtol=tight), BiCGStab(rtol=tight)
        )
    try:
        from torchdeq import get_deq
    except ImportError:
        print("torchdeq is not installed: no peers for the equilibrium layer")
    else:
        for name in ("fixed_point_iter", "anderson", "broyden"):
            peer = get_deq(
                ift=True,
                f_solver=name,
                b_solver=name,
                f_max_iter=600,
                b_max_iter=600,
                f_tol=tolerance,
                b_tol=tolerance,
                f_stop_mode="rel",
                b_stop_mode="rel",
            )
            forward[f"torchdeq {name}"] = lambda peer=peer: peer(layer.map, layer.zero)[0][-1]
    total = fastest({name: lambda f=f: layer.gradient(f()) for name, f in forward.items()})
    with torch.no_grad():
        bare = fastest({"bare": lambda: layer.unrolled(200)})["bare"] / 200
    rows = {}
    for name, run in forward.items():
        z = run()
        rows[name] = {
            "ms": total[name],
            "residual": layer.residual(z.detach()),
            "gradient_error": distance(layer.gradient(z), wanted),
        }
    peers = {name: row for name, row in rows.items() if name.startswith("torchdeq")}
    if peers:
        rival = min(peers, key=lambda name: peers[name]["ms"])
        for row in rows.values():
            row["ratio"] = row["ms"] / peers[rival]["ms"]
        good = [
            row["ratio"]
            for name, row in rows.items()
            if name.startswith("sciml") and row["gradient_error"] <= peers[rival]["gradient_error"]
        ]
        rows["matched"] = {"rival": rival, "ratio": min(good) if good else None}
    rows["bare map"] = {"ms": bare}
    return rows


class Kept:
    """Bytes autograd keeps for the backward pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def pack(self, t: Tensor) -> Tensor:
        """Count and keep."""
        self.bytes += t.numel() * t.element_size()
        return t


def unrolled() -> dict:
    """Compare with autograd through the loop, to the same tolerance."""
    layer = Layer()
    solution = fixed_point(
        layer.map, layer.zero, solver=FixedPointIteration(rtol=1e-5), on_failure="raise"
    )
    steps = int(solution.iterations.max())
    rule = Implicit(GMRES(rtol=1e-5))
    runs = {
        "unrolled": lambda: layer.unrolled(steps),
        "sciml Anderson, GMRES": lambda: (
            fixed_point(
                layer.map, layer.zero, solver=Anderson(rtol=1e-5), adjoint=rule, on_failure="raise"
            ).value
        ),
    }
    times = fastest({name: lambda f=f: layer.gradient(f()) for name, f in runs.items()})
    rows = {}
    for name, run in runs.items():
        kept = Kept()
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda t: t):
            run()
        rows[name] = {"ms": times[name], "bytes_kept": kept.bytes}
    rows["steps"] = steps
    return rows


# --- hyper-gradient ------------------------------------------------------------------------------
def hypergradient() -> dict:
    """Compare hyper-gradients of ridge regression, 500 samples and 200 features, float64."""
    torch.manual_seed(0)
    x, y = torch.randn(500, 200).double(), torch.randn(500).double()
    v = torch.randn(200).double()
    t = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    gram = x.mT @ x + t.detach().exp() * torch.eye(200).double()
    w = torch.linalg.solve(gram, x.mT @ y)
    exact = float(-t.detach().exp() * (torch.linalg.solve(gram, v) @ w))

    def ours(linear: object) -> Callable[[], float]:
        def run() -> float:
            out = linear_solve(
                lambda w, t: x.mT @ (x @ w) + t.exp() * w,
                x.mT @ y,
                (t,),
                linear=linear,
                layout=Rows(0),
                positive_definite=True,
                on_failure="raise",
            )
            return float(torch.autograd.grad(out.value @ v, t)[0])

        return run

    runs: dict[str, Callable[[], float]] = {"sciml, CG": ours(CG(rtol=1e-10))}
    try:
        import torchopt

        def optimality(w: Tensor, t: Tensor) -> Tensor:
            return x.mT @ (x @ w - y) + t.exp() * w

        @torchopt.diff.implicit.custom_root(
            optimality,
            argnums=1,
            solve=torchopt.linear_solve.solve_cg(maxiter=1000, rtol=1e-10, atol=0.0),
        )
        def solver(w: Tensor, t: Tensor) -> Tensor:
            with torch.no_grad():
                return torchopt.linear_solve.solve_cg(maxiter=1000, rtol=1e-10, atol=0.0)(
                    lambda u: x.mT @ (x @ u) + t.exp() * u, x.mT @ y
                )

        start = torch.zeros(200, dtype=torch.float64, requires_grad=True)
        runs["torchopt, CG"] = lambda: float(torch.autograd.grad(solver(start, t) @ v, t)[0])
        runs["torchopt, CG"]()
    except Exception as error:  # any: a peer that does not run is part of the result
        runs.pop("torchopt, CG", None)
        print(f"torchopt did not run: {type(error).__name__}: {error}")
    try:
        runs["JAXopt, CG, compiled"] = _jaxopt(x, y, v)
    except Exception as error:
        print(f"JAXopt did not run: {type(error).__name__}: {error}")
    errors = {name: abs(run() - exact) / abs(exact) for name, run in runs.items()}
    times = fastest(runs)
    ours_time = times["sciml, CG"]
    return {
        name: {"ms": times[name], "error": errors[name], "ratio": ours_time / times[name]}
        for name in runs
    }


def _jaxopt(x: Tensor, y: Tensor, v: Tensor) -> Callable[[], float]:
    import jax
    import jaxopt

    jax.config.update("jax_enable_x64", True)
    jx, jy, jv = (jax.numpy.asarray(a.numpy()) for a in (x, y, v))

    def optimality(w, t):
        return jx.T @ (jx @ w - jy) + jax.numpy.exp(t) * w

    def solve(matvec, b, ridge=None, init=None, **_):
        return jaxopt.linear_solve.solve_cg(matvec, b, tol=1e-10, maxiter=1000)

    @jaxopt.implicit_diff.custom_root(optimality, solve=solve)
    def solver(w, t):
        return solve(lambda u: jx.T @ (jx @ u) + jax.numpy.exp(t) * u, jx.T @ jy)

    run = jax.jit(jax.grad(lambda t: solver(jax.numpy.zeros(200), t) @ jv))
    run(1.0)
    return lambda: float(run(1.0))


def attach() -> dict:
    """Measure what the derivative of small dense problems costs."""
    torch.manual_seed(0)
    w = (torch.randn(24, 16, 16).double() / 8).requires_grad_()

    def equation(x: Tensor, w: Tensor) -> Tensor:
        return x + x**3 + (w @ x[..., None])[..., 0] - 1

    def solve(steps: int, order: int = 1) -> Tensor:
        return root(
            equation,
            torch.zeros(24, 16).double(),
            (w,),
            solver=Newton(max_iter=steps),
            adjoint=Implicit(Dense(), order=order, on_failure="best"),
            on_failure="best",
        ).value

    def forward(steps: int) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.no_grad():
                return solve(steps)

        return run

    times = fastest(
        {
            "one step": forward(1),
            "three steps": forward(3),
            "with gradient": lambda: torch.autograd.grad(solve(3).sum(), w),
            "with gradient, order 2": lambda: torch.autograd.grad(solve(3, 2).sum(), w),
        },
        repeats=60,
    )
    step = 0.5 * (times["three steps"] - times["one step"])
    return {
        "newton_step_ms": step,
        "attach_and_gradient_over_newton_step": (times["with gradient"] - times["three steps"])
        / step,
        "order_2_over_newton_step": (times["with gradient, order 2"] - times["three steps"]) / step,
    }


def main() -> None:
    """Run everything and write the result."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts = {f.__name__: f() for f in (deq, unrolled, hypergradient, attach)}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    environment = {
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "threads": 1,
        "load_average": load,
    }
    for part, rows in parts.items():
        print(part)
        for name, row in rows.items():
            values = row.items() if isinstance(row, dict) else [("", row)]
            print(f"  {name:40s}", "  ".join(f"{k} {_short(v)}" for k, v in values))
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    out = {"environment": environment, **parts}
    (folder / "implicit.json").write_text(json.dumps(out, indent=1) + "\n")


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
