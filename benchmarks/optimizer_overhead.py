"""Cost of one optimizer step, in units of a step of torch's Adam.

    python benchmarks/optimizer_overhead.py
    python benchmarks/optimizer_overhead.py --only sophia_g "kfac 10/100" --blocks 9

Case: network 8-256-256-256-256-1 with tanh, 1024 points, mean squared error, float32, one thread.
A step is forward pass, backward pass and update, all written once; on steps where an optimizer is
due it looks at the terms and the graph of that same forward pass, as in a Lightning run.

An optimizer and Adam take turns of ten steps in one process. Turns add up to blocks that hold every
interval of the optimizer (200 steps where it does something every 200), and each block gives one
ratio of processor times. The table shows their median, and the cheapest block of each over Adam's
cheapest. Results are kept in benchmarks/results/optimizer_overhead.json; later calls add to them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sciml.optim.base import CurvatureOptimizer
from sciml.optim.construct import construct
from sciml.optim.curvature.capture import Capture
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.diagonal import adahessian, sophia
from sciml.optim.full import engd
from sciml.optim.kronecker import kfac, mkor
from sciml.optim.low_rank import galore, mfac

RESULTS = Path(__file__).parent / "results" / "optimizer_overhead.json"
INPUTS, WIDTH, DEPTH, POINTS = 8, 256, 4, 1024
TURN = 10


@dataclass(frozen=True)
class Contender:
    """One optimizer with its settings.

    Attributes:
        make: Returns the optimizer of a network.
        period: Steps after which its work repeats, a multiple of `TURN`.
        target: Largest ratio we accept, or None.
        graph_every: Steps between two that need a gradient with graph (optimizers that
            differentiate `.grad`); 0 for never.
    """

    make: Callable[[nn.Module], torch.optim.Optimizer]
    period: int = 2 * TURN
    target: float | None = None
    graph_every: int = 0


def peer(name: str, **settings) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Return what makes an optimizer of pytorch_optimizer, imported when it is needed."""

    def make(net: nn.Module) -> torch.optim.Optimizer:
        import functools

        import pytorch_optimizer

        return construct(functools.partial(getattr(pytorch_optimizer, name), **settings), net)

    return make


CONTENDERS = {
    "adam, fused": Contender(lambda n: torch.optim.Adam(n.parameters(), fused=True)),
    "sophia_g": Contender(lambda n: sophia.SophiaG(n.parameters()), target=1.2),
    "sophia_h": Contender(lambda n: sophia.SophiaH(n.parameters()), target=1.5),
    "kfac 10/100": Contender(
        lambda n: kfac.KFAC(n, curvature_every=10, inverse_every=100), 100, target=1.6
    ),
    "kfac 1/10": Contender(lambda n: kfac.KFAC(n, inverse_every=10), target=2.5),
    "natural_galore": Contender(
        lambda n: galore.NaturalGaLore(n.parameters(), rank=64, history=20), 200, target=1.4
    ),
    "galore": Contender(lambda n: galore.GaLore(n.parameters(), rank=64), 200),
    "adahessian": Contender(lambda n: adahessian.AdaHessian(n.parameters(), lr=1e-2)),
    "mkor": Contender(lambda n: mkor.MKOR(n)),
    "mfac, 100 gradients": Contender(lambda n: mfac.MFAC(n.parameters(), history=100)),
    "spring": Contender(lambda n: engd.SPRING(n)),
    "pytorch_optimizer SophiaH": Contender(peer("SophiaH", lr=1e-3), graph_every=10),
    "pytorch_optimizer AdaHessian": Contender(peer("AdaHessian", lr=1e-2), graph_every=1),
    "pytorch_optimizer SOAP": Contender(peer("SOAP")),
    "pytorch_optimizer Muon": Contender(peer("Muon", lr=1e-3)),
    "pytorch_optimizer Lion": Contender(peer("Lion")),
    "pytorch_optimizer Adan": Contender(peer("Adan")),
}


class Training:
    """A network, its optimizer, and steps on the clock."""

    def __init__(
        self, make: Callable[[nn.Module], torch.optim.Optimizer], graph_every: int = 0
    ) -> None:
        torch.manual_seed(0)
        sizes = [INPUTS] + DEPTH * [WIDTH]
        hidden = [
            m for i, o in zip(sizes, sizes[1:], strict=False) for m in (nn.Linear(i, o), nn.Tanh())
        ]
        self.net = nn.Sequential(*hidden, nn.Linear(WIDTH, 1))
        self.x = torch.randn(POINTS, INPUTS)
        self.y = self.x.square().sum(1, keepdim=True).sin()
        self.optimizer, self.graph_every = make(self.net), graph_every
        self.steps = 0

    def terms(self) -> list[LossTerm]:
        """Return the loss as curvature needs it."""
        return [LossTerm("data", self.net(self.x) - self.y, 1.0, POINTS)]

    def step(self) -> torch.Tensor:
        """Take one step as the trainer and the curvature callback do."""
        optimizer = self.optimizer
        looks = isinstance(optimizer, CurvatureOptimizer) and optimizer.due()
        capture = Capture(optimizer.layers) if looks and optimizer.layers is not None else None
        with capture or contextlib.nullcontext():
            terms = self.terms()
        loss = sum(term.loss() for term in terms)
        objective = None
        if looks:
            uses = capture.uses if capture is not None else None
            objective = Objective(self.terms, step=self.steps, given=terms, uses=uses)
            optimizer.update_curvature(objective)
        optimizer.zero_grad()
        if not getattr(optimizer, "own_gradient", False):
            graph = self.graph_every > 0 and self.steps % self.graph_every == 0
            loss.backward(create_graph=graph)
        optimizer.step()
        self.steps += 1
        if objective is not None:
            objective.forget()
        return loss.detach()

    def turn(self) -> float:
        """Return the processor seconds of `TURN` steps."""
        start = time.process_time()
        for _ in range(TURN):
            loss = self.step()
        spent = time.process_time() - start
        if not loss.isfinite():
            raise FloatingPointError(f"loss {float(loss)} after {self.steps} steps")
        return spent


def measure(contender: Contender, blocks: int) -> dict:
    """Return the ratios of one optimizer to Adam."""
    ours = Training(contender.make, contender.graph_every)
    adam = Training(lambda net: torch.optim.Adam(net.parameters()))
    ours.turn()
    adam.turn()
    times = []
    for _ in range(blocks):
        block = [0.0, 0.0]
        for _ in range(contender.period // TURN):
            block[0] += ours.turn()
            block[1] += adam.turn()
        times.append([seconds / contender.period for seconds in block])
    ratios = [mine / its for mine, its in times]
    least = [min(column) for column in zip(*times, strict=True)]
    return {
        "median": round(median(ratios), 3),
        "least": round(least[0] / least[1], 3),
        "ratios": [round(r, 3) for r in ratios],
        "step_ms": round(1e3 * median([mine for mine, _ in times]), 3),
        "adam_ms": round(1e3 * median([its for _, its in times]), 3),
        "target": contender.target,
        "load": round(os.getloadavg()[0], 1),
    }


def median(values: list[float]) -> float:
    """Return the lower median."""
    return sorted(values)[(len(values) - 1) // 2]


def table(rows: dict[str, dict]) -> str:
    """Return a Markdown table."""
    lines = ["| optimizer | median | cheapest | target | step | Adam's |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for name in CONTENDERS:
        row = rows.get(name)
        if row is None:
            continue
        if "error" in row:
            lines.append(f"| {name} | {row['error'][:60]} | | | | |")
            continue
        target = ""
        if row["target"] is not None:
            target = f"{row['target']:g}, {'met' if row['median'] <= row['target'] else 'missed'}"
        times = f"{row['step_ms']:.1f} ms | {row['adam_ms']:.1f} ms"
        lines.append(f"| {name} | {row['median']:.2f} | {row['least']:.2f} | {target} | {times} |")
    return "\n".join(lines)


def main() -> int:
    """Measure what is asked for, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--blocks", type=int, default=7, help="blocks per optimizer")
    parser.add_argument("--report", action="store_true", help="table of stored results only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    for name in [] if args.report else args.only:
        contender = CONTENDERS[name]
        try:
            row = measure(contender, args.blocks)
        except (ImportError, RuntimeError, FloatingPointError) as error:
            row = {"error": f"{type(error).__name__}: {error}"}
        stored["rows"][name] = row
        stored["machine"] = {"processor": platform.machine(), "torch": torch.__version__}
        stored["machine"] |= {"threads": 1}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
        print(name, row.get("error") or row["ratios"], flush=True)
    print(table(stored["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
