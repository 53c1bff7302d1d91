"""Systems of equations against DeepXDE: same network, same number of points, same processor time.

    python -m venv peers && peers/bin/pip install deepxde        # an environment of its own
    python benchmarks/pinn_peers.py --peer peers/bin/python --seconds 30
    python benchmarks/pinn_peers.py --peer peers/bin/python --problems burgers --steps-only

Every cell is a process of its own, confined to `--threads` threads. What counts is the processor
time of that process from the first step on: imports and building are free for both. Problems are
those of DeepXDE's examples, with tanh networks of three hidden layers of twenty:

burgers     0.01 / pi, soft conditions, 2540 + 240 points; against Cole and Hopf
l_shape     -lap u = 1, u = 0, 1200 + 120 points; against finite differences, extrapolated
helmholtz   sin(pi x) sin(4 pi y), values built in, 2000 points; exact
allen_cahn  0.001 u_xx + 5 (u - u^3), values built in, 2500 points; against finite differences in
            space and an implicit solver in time
kovasznay   Reynolds number 20, velocity on the sides, pressure at the outflow, 1500 + 400 points;
            exact; error over u, v and p together

Sides: `sciml` is the default of `solve()`; `sciml adam` the same with Adam; `deepxde adam` and
`deepxde adam + l-bfgs`, half of the time each, in single precision, its default, and in double
precision, which its manual recommends for L-BFGS. Results are written to
`results/pinn_peers.json`, tables to `results/pinn_peers.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PROBLEMS = ("burgers", "l_shape", "helmholtz", "allen_cahn", "kovasznay")
OURS = ("sciml", "sciml adam", "sciml adam float64")
THEIRS = (
    "deepxde adam",
    "deepxde adam float64",
    "deepxde adam + l-bfgs",
    "deepxde adam + l-bfgs float64",
)
POINTS = {
    "burgers": (2540, {"start": 160, "ends": 80}),
    "l_shape": (1200, {"outside": 120}),
    "helmholtz": (2000, {}),
    "allen_cahn": (2500, {}),
    "kovasznay": (1500, {"sides": 320, "outflow": 80}),
}
WIDTH, DEPTH = 20, 4  # hidden layers of twenty; linear layers
RE = 20
DECAY = RE / 2 - (RE**2 / 4 + 4 * np.pi**2) ** 0.5


# --- references -----------------------------------------------------------------------------
def reference(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return points `(N, D)` and the solution `(N, K)`."""
    rng = np.random.default_rng(0)
    if name == "burgers":
        import torch

        from sciml.physics.suite import Burgers1D

        x = np.stack([rng.uniform(-1, 1, 5000), rng.uniform(0, 1, 5000)], 1)
        u = Burgers1D().exact(*torch.as_tensor(x).unbind(1)).numpy()
        return x, u[:, None]
    if name == "helmholtz":
        x = rng.uniform(-1, 1, (5000, 2))
        return x, (np.sin(np.pi * x[:, :1]) * np.sin(4 * np.pi * x[:, 1:]))
    if name == "kovasznay":
        x = np.stack([rng.uniform(-0.5, 1, 5000), rng.uniform(-0.5, 1.5, 5000)], 1)
        return x, np.stack(kovasznay(np, x[:, 0], x[:, 1]), 1)
    return l_shape() if name == "l_shape" else allen_cahn()


def kovasznay(lib, x, y) -> tuple:
    """Return u, v, p, by numpy or torch."""
    e, phase = lib.exp(DECAY * x), 2 * np.pi * y
    return (
        1 - e * lib.cos(phase),
        DECAY / (2 * np.pi) * e * lib.sin(phase),
        (1 - e**2) / 2,
    )


def l_shape() -> tuple[np.ndarray, np.ndarray]:
    """Return -lap u = 1 in the square without its upper right quarter, on a grid."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    def solved(n: int) -> np.ndarray:
        h, line = 2 / n, np.linspace(-1, 1, n + 1)
        x, y = np.meshgrid(line, line, indexing="ij")
        inside = (abs(x) < 1 - h / 2) & (abs(y) < 1 - h / 2) & ~((x > -h / 2) & (y > -h / 2))
        number = np.full(inside.shape, -1)
        number[inside] = np.arange(inside.sum())
        rows, columns, values = [], [], []
        for step in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            there = np.roll(number, (-step[0], -step[1]), (0, 1))[inside]
            keep = there >= 0
            rows.append(number[inside][keep])
            columns.append(there[keep])
            values.append(np.full(keep.sum(), 4.0 if step == (0, 0) else -1.0) / h**2)
        parts = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        u = np.zeros(inside.shape)
        u[inside] = spsolve(coo_matrix(parts).tocsc(), np.ones(inside.sum()))
        return u

    coarse, fine = solved(128)[::4, ::4], solved(256)[::8, ::8]
    order = 4 / 3  # of the corner
    u = fine + (fine - coarse) / (2**order - 1)
    line = np.linspace(-1, 1, len(u))
    x, y = np.meshgrid(line, line, indexing="ij")
    keep = ~((x > 0) & (y > 0))
    return np.stack([x[keep], y[keep]], 1), u[keep][:, None]


def allen_cahn() -> tuple[np.ndarray, np.ndarray]:
    """Return u_t = 0.001 u_xx + 5 (u - u^3), u = -1 at both ends, on a grid."""
    from scipy.integrate import solve_ivp

    times = np.linspace(0, 1, 21)

    def solved(n: int) -> np.ndarray:
        x, h = np.linspace(-1, 1, n + 1), 2 / n

        def slope(_, v):
            u = np.concatenate([[-1.0], v, [-1.0]])
            return 1e-3 * (u[2:] - 2 * v + u[:-2]) / h**2 + 5 * (v - v**3)

        found = solve_ivp(
            slope, (0, 1), (x**2 * np.cos(np.pi * x))[1:-1], method="LSODA", t_eval=times,
            lband=1, uband=1, rtol=1e-9, atol=1e-10,
        ).y  # fmt: skip
        return np.pad(found, ((1, 1), (0, 0)), constant_values=-1.0)

    coarse, fine = solved(800)[::8], solved(1600)[::16]
    u = fine + (fine - coarse) / 3
    x, t = np.meshgrid(np.linspace(-1, 1, len(u)), times, indexing="ij")
    return np.stack([x.ravel(), t.ravel()], 1), u.reshape(-1, 1)


# --- sciml ------------------------------------------------------------------------------------
def our_system(name: str):
    """Return the system, its conditions with their numbers of points."""
    from sciml.pinn import Initial, Interval, On, Rectangle, System, Time, torch

    inside, given = POINTS[name]
    if name == "burgers":

        class Burgers(System):
            domain = Interval(-1, 1) * Time(0, 1)
            conditions = {
                "start": Initial(u=lambda x: -torch.sin(torch.pi * x), points=given["start"]),
                "ends": On(domain.boundary, u=0, points=given["ends"]),
            }

            def residual(self, u):
                return u.t + u * u.x - 0.01 / torch.pi * u.xx

        return Burgers()
    if name == "l_shape":

        class LShape(System):
            domain = Rectangle((-1, -1), (1, 1)) - Rectangle((0, 0), (1, 1), name="notch")
            conditions = {"outside": On(domain.boundary, u=0, points=given["outside"])}

            def residual(self, u):
                return u.lap + 1

        return LShape()
    if name == "helmholtz":

        class Helmholtz(System):
            domain = Rectangle((-1, -1), (1, 1))

            def residual(self, u, x, y):
                wave = torch.sin(torch.pi * x) * torch.sin(4 * torch.pi * y)
                return u.lap + u - (1 - 17 * torch.pi**2) * wave

            def hard(self, u, x, y):
                return (1 - x**2) * (1 - y**2) * u

        return Helmholtz()
    if name == "allen_cahn":

        class AllenCahn(System):
            domain = Interval(-1, 1) * Time(0, 1)

            def residual(self, u):
                return u.t - 1e-3 * u.xx - 5 * (u - u**3)

            def hard(self, u, x, t):
                return x**2 * torch.cos(torch.pi * x) + t * (1 - x**2) * u

        return AllenCahn()

    class Kovasznay(System):
        outputs = ("u", "v", "p")
        domain = Rectangle((-0.5, -0.5), (1, 1.5))
        conditions = {
            "sides": On(
                domain.boundary,
                u=lambda x, y: kovasznay(torch, x, y)[0],
                v=lambda x, y: kovasznay(torch, x, y)[1],
                points=given["sides"],
            ),
            "outflow": On(
                domain.right, p=lambda x, y: kovasznay(torch, x, y)[2], points=given["outflow"]
            ),
        }

        def residual(self, u, v, p):
            return {
                "x-momentum": u * u.x + v * u.y + p.x - u.lap / RE,
                "y-momentum": u * v.x + v * v.y + p.y - v.lap / RE,
                "continuity": u.x + v.y,
            }

    return Kovasznay()


def ours(name: str, side: str, seconds: float, steps: int | None, seed: int) -> dict:
    """Train with this package."""
    from sciml import pinn

    system = our_system(name)
    clock = {"began": None, "steps": 0, "spent": 0.0}

    class Limit(pinn.History):
        """Ends the run when its processor time is up; the steps before `warm` do not count."""

        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            if clock["began"] is None and trainer.global_step >= (20 if steps else 0):
                clock["began"] = time.process_time()
                clock["steps"] = -trainer.global_step

        def on_train_batch_end(self, trainer, *given) -> None:
            super().on_train_batch_end(trainer, *given)
            if clock["began"] is not None:
                clock["spent"] = time.process_time() - clock["began"]
                trainer.should_stop = not steps and clock["spent"] > seconds
                clock["total"] = trainer.global_step + clock["steps"]

    pinn.History = Limit
    words = ["schedule=constant"] if "adam" in side else []
    if "float64" in side:
        words.append("trainer.precision=64-true")
    solution = pinn.solve(
        system,
        *words,
        optimizer="adam" if "adam" in side else "lm",
        steps=steps + 20 if steps else 10**8,
        points=POINTS[name][0],
        width=WIDTH,
        depth=DEPTH,
        seed=seed,
    )

    def predict(x: np.ndarray) -> np.ndarray:
        found = solution(x)
        return np.stack([found[k].numpy() for k in system.outputs], 1)

    return {"seconds": clock["spent"], "steps": clock["total"], "predict": predict}


# --- DeepXDE ----------------------------------------------------------------------------------
def their_data(dde, torch, name: str):
    """Return data, number of outputs, and what is built in."""
    inside, given = POINTS[name]
    pi, hess, jac = np.pi, dde.grad.hessian, dde.grad.jacobian
    if name == "burgers":
        domain = dde.geometry.GeometryXTime(
            dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 1)
        )

        def pde(x, y):
            return jac(y, x, i=0, j=1) + y * jac(y, x, i=0, j=0) - 0.01 / pi * hess(y, x, i=0, j=0)

        conditions = [
            dde.icbc.DirichletBC(domain, lambda x: 0, lambda _, on: on),
            dde.icbc.IC(domain, lambda x: -np.sin(pi * x[:, 0:1]), lambda _, on: on),
        ]
        sizes = {"num_boundary": given["ends"], "num_initial": given["start"]}
        return dde.data.TimePDE(domain, pde, conditions, num_domain=inside, **sizes), 1, None
    if name == "l_shape":
        domain = dde.geometry.Polygon([[-1, -1], [1, -1], [1, 0], [0, 0], [0, 1], [-1, 1]])
        # its points are in double precision whatever the network is in, which ends in an error
        for sample in ("random_points", "random_boundary_points"):
            drawn = getattr(domain, sample)
            setattr(
                domain,
                sample,
                lambda *given, drawn=drawn, **rest: drawn(*given, **rest).astype(
                    dde.config.real(np)
                ),
            )

        def pde(x, y):
            return -hess(y, x, i=0, j=0) - hess(y, x, i=1, j=1) - 1

        conditions = dde.icbc.DirichletBC(domain, lambda x: 0, lambda _, on: on)
        return dde.data.PDE(
            domain, pde, conditions, num_domain=inside, num_boundary=given["outside"]
        ), 1, None  # fmt: skip
    if name == "helmholtz":
        domain = dde.geometry.Rectangle([-1, -1], [1, 1])

        def pde(x, y):
            wave = torch.sin(pi * x[:, 0:1]) * torch.sin(4 * pi * x[:, 1:2])
            lap = hess(y, x, i=0, j=0) + hess(y, x, i=1, j=1)
            return lap + y - (1 - 17 * pi**2) * wave

        def built_in(x, y):
            return (1 - x[:, 0:1] ** 2) * (1 - x[:, 1:2] ** 2) * y

        return dde.data.PDE(domain, pde, [], num_domain=inside), 1, built_in
    if name == "allen_cahn":
        domain = dde.geometry.GeometryXTime(
            dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 1)
        )

        def pde(x, y):
            return jac(y, x, i=0, j=1) - 1e-3 * hess(y, x, i=0, j=0) - 5 * (y - y**3)

        def built_in(x, y):
            place, t = x[:, 0:1], x[:, 1:2]
            return place**2 * torch.cos(pi * place) + t * (1 - place**2) * y

        return dde.data.TimePDE(domain, pde, [], num_domain=inside), 1, built_in
    domain = dde.geometry.Rectangle([-0.5, -0.5], [1, 1.5])

    def pde(x, y):
        u, v = y[:, 0:1], y[:, 1:2]

        def momentum(i, j):
            lap = hess(y, x, component=i, i=0, j=0) + hess(y, x, component=i, i=1, j=1)
            convection = u * jac(y, x, i=i, j=0) + v * jac(y, x, i=i, j=1)
            return convection + jac(y, x, i=2, j=j) - lap / RE

        return [momentum(0, 0), momentum(1, 1), jac(y, x, i=0, j=0) + jac(y, x, i=1, j=1)]

    def value(k):
        return lambda x: kovasznay(np, x[:, 0:1], x[:, 1:2])[k]

    conditions = [
        dde.icbc.DirichletBC(domain, value(k), lambda _, on: on, component=k) for k in (0, 1)
    ]
    outflow = dde.icbc.DirichletBC(
        domain, value(2), lambda x, on: on and np.isclose(x[0], 1), component=2
    )
    return dde.data.PDE(
        domain, pde, [*conditions, outflow], num_domain=inside,
        num_boundary=given["sides"] + given["outflow"],
    ), 3, None  # fmt: skip


def theirs(name: str, side: str, seconds: float, steps: int | None, seed: int) -> dict:
    """Train with DeepXDE."""
    os.environ["DDE_BACKEND"] = "pytorch"
    import deepxde as dde
    import torch

    if "float64" in side:
        dde.config.set_default_float("float64")
    dde.config.set_random_seed(seed)
    data, outputs, built_in = their_data(dde, torch, name)
    net = dde.nn.FNN([2, *[WIDTH] * (DEPTH - 1), outputs], "tanh", "Glorot normal")
    if built_in is not None:
        net.apply_output_transform(built_in)
    model = dde.Model(data, net)

    class Limit(dde.callbacks.Callback):
        def __init__(self, until: float, warm: int = 0) -> None:
            super().__init__()
            self.until, self.warm, self.began, self.count = until, warm, None, 0

        def on_epoch_begin(self) -> None:
            if self.began is None and self.count >= self.warm:
                self.began, self.start = time.process_time(), self.count

        spent = 0.0

        def on_epoch_end(self) -> None:
            self.count += 1
            if self.began is not None:
                self.spent = time.process_time() - self.began
                if not steps and self.spent > self.until:
                    self.model.stop_training = True

    two = "l-bfgs" in side
    model.compile("adam", lr=1e-3)
    limit = Limit(seconds / 2 if two else seconds, 20 if steps else 0)
    model.train(
        iterations=steps + 20 if steps else 10**8, display_every=10**8, callbacks=[limit], verbose=0
    )
    spent, taken = limit.spent, limit.count - limit.start
    if two:
        from deepxde.optimizers.config import LBFGS_options

        # Adam's share is over: what it left unused goes to L-BFGS
        dde.optimizers.set_LBFGS_options(maxiter=10**8)
        LBFGS_options |= {"iter_per_step": 20, "fun_per_step": 25}
        model.compile("L-BFGS")
        model.stop_training = False
        limit = Limit(seconds - spent)
        before = model.train_state.iteration
        model.train(display_every=10**8, callbacks=[limit], verbose=0)
        spent, taken = spent + limit.spent, taken + model.train_state.iteration - before
    return {"seconds": spent, "steps": taken, "predict": model.predict}


# --- the benchmark ------------------------------------------------------------------------------
def worker(asked: argparse.Namespace) -> None:
    """Measure one cell and print it."""
    import torch

    torch.set_num_threads(asked.threads)
    run = ours if asked.side in OURS else theirs
    found = run(asked.problems[0], asked.side, asked.seconds, asked.steps, asked.seed)
    predict = found.pop("predict")
    with np.load(asked.answer) as file:
        x, wanted = file["x"], file["u"]
    got = np.asarray(predict(x), dtype=np.float64).reshape(wanted.shape)
    found["rel_l2"] = float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))
    found["ms_per_step"] = 1e3 * found["seconds"] / max(found["steps"], 1)
    print("RESULT " + json.dumps(found))


def measured(asked: argparse.Namespace, name: str, side: str, answer: Path) -> dict:
    """Return one row, from a process of its own."""
    python = sys.executable if side in OURS else asked.peer
    row = {"problem": name, "side": side, "seed": asked.seed, "threads": asked.threads}
    if python is None:
        return row | {"error": "no --peer"}
    words = [python, str(Path(__file__).resolve()), "--side", side, "--problems", name]
    words += ["--answer", str(answer), "--seconds", str(asked.seconds), "--seed", str(asked.seed)]
    words += ["--threads", str(asked.threads)]
    words += ["--steps", str(asked.steps)] if asked.steps else []
    env = {
        **os.environ,
        "OMP_NUM_THREADS": str(asked.threads),
        "MKL_NUM_THREADS": str(asked.threads),
    }
    done = subprocess.run(words, env=env, capture_output=True, text=True, cwd=HERE.parent)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        return row | {"error": (done.stdout + done.stderr)[-400:]}
    return row | json.loads(lines[-1].removeprefix("RESULT "))


def table(rows: list[dict]) -> str:
    """Return errors by problem and side, with the steps taken and their time."""
    sides = [s for s in (*OURS, *THEIRS) if any(r["side"] == s for r in rows)]
    lines = ["| problem | " + " | ".join(sides) + " |", "|---" * (len(sides) + 1) + "|"]
    for name in PROBLEMS:
        cells = []
        for side in sides:
            found = [r for r in rows if (r["problem"], r["side"]) == (name, side) and "rel_l2" in r]
            cells.append(
                f"{found[-1]['rel_l2']:.1e} ({found[-1]['steps']}, {found[-1]['ms_per_step']:.1f})"
                if found else "-"
            )  # fmt: skip
        if any(c != "-" for c in cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what was asked for and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="Python with DeepXDE")
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--sides", nargs="*", default=[*OURS, *THEIRS], choices=[*OURS, *THEIRS])
    parser.add_argument("--seconds", type=float, default=30.0, help="processor time per cell")
    parser.add_argument("--steps", type=int, help="this many steps instead, for their time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        worker(asked)
        return
    RESULTS.mkdir(exist_ok=True)
    kind = "steps" if asked.steps else "errors"
    path = RESULTS / "pinn_peers.json"
    kept = json.loads(path.read_text()) if path.exists() else {"steps": [], "errors": []}
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.problems:
            x, u = reference(name)
            answer = Path(folder) / f"{name}.npz"
            np.savez(answer, x=x, u=u)
            for side in asked.sides:
                row = measured(asked, name, side, answer)
                print(json.dumps(row), flush=True)
                key = ("problem", "side", "seed", "threads")
                rest = [r for r in kept[kind] if any(r.get(k) != row[k] for k in key)]
                kept[kind] = [*rest, row]
                path.write_text(json.dumps(kept, indent=1) + "\n")
    text = f"{kind}: relative L2 error (steps, ms per step)\n\n{table(kept[kind])}"
    (RESULTS / f"pinn_peers_{kind}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
