"""Walk on spheres: walks per second, training against equation and energy, GINO's forward time.

    python benchmarks/wos.py                      # twenty minutes; results/wos.json
    python benchmarks/wos.py walks gino           # some parts only: walks, cost, training, gino
    python benchmarks/wos.py training --groups cloud --objectives walks pino

One thread and processor time, so that a busy machine disturbs little. `cost` and `training` are
described in `wos_training.py`, `gino` in `wos_gino.py`; parts that are not run keep their last
results. `walks`: the best of several repetitions, taken in turns. Every row also states the root
mean square error of the walks against the exact solution, beside the standard error that they
report themselves.

| row | domains | problem |
|---|---|---|
| disk | unit disk | Laplace |
| disk, source | unit disk | Poisson, a Gaussian source |
| star, table | 16 of the star family, distances from a 129^2 table | Poisson, two Gaussians |
| star, bound | the same, distances from the closed-form bound | the same |
| ball | unit ball in 3D | Laplace |
| ball, source | unit ball in 3D | Poisson, constant source |
| disk, screened | unit disk | sigma = 4 |
| disk, delta tracking | unit disk | sigma = 1 + x^2, with source |

`loop` is the processor time per million walks of a hand-written loop for one such problem, measured
before this package had an engine, on another day of a shared machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import wos_gino
import wos_training
from scipy.special import iv
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.elliptic.star_reference import Gaussians, star_reference
from sciml.physics.geometry import Ball, Domain, Star, Tabulated, star_family
from sciml.physics.walks.spheres import WalkOnSpheres

RESULTS = Path(__file__).parent / "results"
PICTURE = RESULTS.parent.parent / "docs" / "pictures" / "wos.png"
REPEATS = 5
WALKS = 2**19


def stream(name: str, step: int = 0) -> torch.Generator:
    """Return the random numbers of one purpose."""
    return Streams(0, step).generator(name)


def saddle(x: Tensor, i: Tensor) -> Tensor:
    """Return a harmonic function."""
    return x[0] ** 2 - x[1] ** 2


def bowl(x: Tensor, i: Tensor) -> Tensor:
    """Return 1 + |x|^2."""
    return 1 + x.square().sum(0)


def rows() -> dict[str, tuple[Domain, Dirichlet, Tensor, Tensor, float, float | None]]:
    """Return domain, problem, points, exact values, eps and the time to beat of every row."""
    disk, ball = Ball(), Ball(center=(0.0, 0.0, 0.0))
    star = star_family(16, stream("family"))
    sources = torch.randn(16, 2, 3, generator=stream("sources"), dtype=torch.float64)
    gaussians = Gaussians(sources[..., 0], sources[..., 1:])
    inner = disk.sample_interior(32, stream("points"), torch.float64) * 0.9
    inner3 = ball.sample_interior(32, stream("points"), torch.float64) * 0.9
    points = star.sample_interior(64, stream("points"), torch.float64)
    u = star_reference(star, saddle, points, gaussians)
    one = star_reference(Star([0.0, 0.0]), saddle, inner, Gaussians([1.0], [[0.3, -0.2]]))
    r2, r3 = inner.square().sum(2), inner3.square().sum(2)
    poisson = Dirichlet(saddle, gaussians)
    return {
        "disk": (disk, Dirichlet(saddle), inner, _at(saddle, inner), 1e-3, 0.14),
        "disk, source": (
            disk,
            Dirichlet(saddle, Gaussians([1.0], [[0.3, -0.2]])),
            inner,
            one,
            1e-3,
            0.27,
        ),
        "star, table": (Tabulated(star, 129), poisson, points, u, 2e-3, 1.05),
        "star, bound": (star, poisson, points, u, 2e-3, None),
        "ball": (ball, Dirichlet(saddle), inner3, _at(saddle, inner3), 1e-3, 0.9),
        "ball, source": (
            ball,
            Dirichlet(lambda x, i: torch.zeros_like(x[0]), lambda x, i: torch.full_like(x[0], 6.0)),
            inner3,
            1 - r3,
            1e-3,
            None,
        ),
        "disk, screened": (
            disk,
            Dirichlet(lambda x, i: torch.ones_like(x[0]), screening=4.0),
            inner,
            torch.from_numpy(iv(0, 2 * r2.sqrt().numpy()) / iv(0, 2.0)),
            1e-3,
            None,
        ),
        "disk, delta tracking": (
            disk,
            Dirichlet(
                bowl,
                lambda x, i: (1 + x[0] ** 2) * bowl(x, i) - 4,
                screening=lambda x, i: 1 + x[0] ** 2,
            ),
            inner,
            1 + r2,
            1e-3,
            None,
        ),
    }


def _at(field, points: Tensor) -> Tensor:
    x = points[0].T
    return field(x, torch.zeros(x.shape[1], dtype=torch.int64))[None]


def walks_per_second() -> list[dict]:
    """Measure all rows."""
    cases = rows()
    best = dict.fromkeys(cases, float("inf"))
    found = {}
    for repeat in range(REPEATS):
        for name, (domain, problem, points, _, eps, _) in cases.items():
            walks = WALKS // (points.shape[0] * points.shape[1])
            engine = WalkOnSpheres(walks, eps)
            start = time.process_time()
            found[name] = engine(domain, problem, points, stream(name, repeat))
            seconds = time.process_time() - start
            best[name] = min(best[name], seconds * 1e6 / (walks * points[..., 0].numel()))
    table = []
    for name, (_, _, _, exact, eps, loop) in cases.items():
        e = found[name]
        error = (e.mean - exact).abs()
        table.append(
            {
                "row": name,
                "cpu_seconds_per_million": round(best[name], 3),
                "walks_per_second": round(1e6 / best[name]),
                "steps": round(float(e.steps.mean()), 2),
                "eps": eps,
                "truncated": float(e.truncated.mean()),
                "rms_error": float(error.square().mean().sqrt()),
                "rms_standard_error": float(e.variance.mean().sqrt()),
                "loop": loop,
            }
        )
        print(
            f"{name:22s} {table[-1]['walks_per_second'] / 1e6:6.2f} M walks/s"
            f" {best[name]:7.3f} CPU-s/M  {table[-1]['steps']:6.2f} steps"
            f"  rms error {table[-1]['rms_error']:.1e} of {table[-1]['rms_standard_error']:.1e}"
        )
    return table


def main() -> None:
    """Measure the parts asked for and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("walks", "cost", "training", "gino")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all by default")
    parser.add_argument("--groups", nargs="+", default=wos_training.GROUPS, help="of training")
    parser.add_argument("--objectives", nargs="+", default=wos_training.OBJECTIVES)
    chosen = parser.parse_args()
    asked = chosen.parts or parts
    known = {*parts, *wos_training.GROUPS, *wos_training.OBJECTIVES}
    if unknown := {*asked, *chosen.groups, *chosen.objectives} - known:
        parser.error(f"unknown: {', '.join(unknown)}")
    torch.set_num_threads(1)
    path = RESULTS / "wos.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    environment = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "threads": 1,
    }

    def keep(part: str, found: object) -> None:
        # parts may be measured on different days
        result[part] = found
        seen = environment | {"load": round(os.getloadavg()[0], 2)}
        result["environment"] = {**result.get("environment", {}), part: seen}
        path.write_text(json.dumps(result, indent=1) + "\n")

    if "walks" in asked:
        keep("rows", walks_per_second())
    for part, measure in (("cost", wos_training.cost_alone), ("training", wos_training.curve)):
        if part in asked:
            for group, objective in itertools.product(chosen.groups, chosen.objectives):
                row = {f"{group}: {objective}": measure(group, objective)}
                keep(part, result.get(part, {}) | row)
    if "gino" in asked:
        keep("gino", wos_gino.forward_times())
    if "training" in result:
        keep("comparison", wos_training.compare(result["training"], result.get("cost", {})))
        wos_training.picture(result["training"], PICTURE)
        print(f"claimed by the paper against pino: {wos_training.PAPER}")
        for row in result["comparison"]:
            print({k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    main()
