"""What simulations of incompressible flow share: the loop, its table, its state, its pictures.

Files: `metrics.json`, `steps.csv` (per step: solver, iterations, true relative residual, divergence
after the projection over that before, CPU seconds), `steps.png`, `frames/*.png`, `animation.gif`
and `state.npz`. From the last, `resume=true` goes on after a run that was ended or killed, to the
same state to the last bit (but for `solver=auto`, whose choices depend on measured times).
"""

from __future__ import annotations

import csv
import json
import os
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_positive
from sciml.physics.fluids import Flow, FlowState
from sciml.physics.solids.block_cells import check_count
from sciml.simulate import frames
from sciml.simulate.pressure_solvers import NAMES, PressureSolvers
from sciml.simulate.simulation import Simulation, setting
from sciml.simulate.state_files import HINT, check_arrays, read_arrays

STATE = "state.npz"
COLUMNS = ("step", "time", "solver", "iterations", "residual", "divergence", "fell_back")
SECONDS = ("setup_s", "solve_s", "step_s")  # CPU
FREE = ("steps", "every", "save_every", "resume", "solver", "model", "rtol")  # may change on resume


@dataclass(frozen=True)
class FlowSimulation(Simulation):
    """Base of the flows; a subclass says which flow and what is drawn.

    Raises:
        InvalidArgument: For settings that cannot be.

    Example:
        >>> from sciml.simulate import FlowSimulation, Wake
        >>> isinstance(Wake(), FlowSimulation), Wake(grid=16).flow().shape
        (True, (48, 16))
    """

    solver: str = setting("multigrid", "pressure solver", NAMES)
    model: str | None = setting(
        None, "solver=learned, dcdm: name, run or pretrained folder; null for the shipped one"
    )
    grid: int = setting(128, "cells per unit of length")
    dim: int = setting(2, "axes")
    steps: int = setting(200, "time steps")
    dt: float | None = setting(None, "time step; null for the scene's")
    rtol: float = setting(1e-6, "true residual of the pressure over its right-hand side")
    every: int = setting(4, "steps between frames")
    save_every: int = setting(20, "steps between saved states")
    resume: bool = setting(False, "go on from the state that the folder holds")

    def __post_init__(self) -> None:
        """Check numbers."""
        for name in ("steps", "every", "save_every"):
            check_count(name, getattr(self, name))
        check_count("grid", self.grid, 8)
        check_positive("rtol", self.rtol)
        if self.dim not in (2, 3):
            raise InvalidArgument(f"dim={self.dim}", "2 or 3")
        if self.dt is not None:
            check_positive("dt", self.dt)

    # --- what a scene says ------------------------------------------------------------------
    @abstractmethod
    def flow(self) -> Flow:
        """Return the flow."""

    @property
    @abstractmethod
    def own_dt(self) -> float:
        """Return the time step of the scene."""

    @abstractmethod
    def picture(self, flow: Flow, state: FlowState) -> frames.Picture:
        """Return what a frame shows."""

    def measured(self, state: FlowState) -> dict[str, float]:
        """Return figures of the scene's own."""
        return {}

    # --- the loop ---------------------------------------------------------------------------
    def run(self, folder: Path, say: Callable[[str], None] = print) -> dict[str, float]:
        """Simulate, write the files and return the metrics.

        Args:
            folder: Where files go.
            say: Takes a line every tenth part.

        Raises:
            InvalidArgument: If there is nothing to resume, or another simulation's state.
            PretrainedError: If there is no such model.
            ConvergenceError: If a pressure was not found; the last saved state can be resumed.
        """
        solvers = PressureSolvers(self.solver, self.dim, rtol=self.rtol, model=self.model)
        flow, dt = self.flow(), self.dt or self.own_dt
        state, rows = flow.start(), []
        if self.resume:
            state, rows = self._loaded(folder / STATE, state, solvers)
            say(f"continued from step {len(rows)}")
        elif self.solver == "auto":
            say(f"auto chooses from {', '.join(solvers.arms)}")
        (folder / "frames").mkdir(parents=True, exist_ok=True)
        say(f"{type(self).__name__}: {' x '.join(map(str, flow.shape))} cells, dt={dt:g}")
        with torch.no_grad():
            for step in range(len(rows) + 1, self.steps + 1):
                state, row = advanced(flow, state, dt, solvers)
                rows.append({"step": step, **row})
                if step % self.every == 0 or step == self.steps:
                    frames.save(folder / "frames" / f"{step:06d}.png", self.picture(flow, state))
                if step % self.save_every == 0 or step == self.steps:
                    self._save(folder, state, rows, solvers)
                if step % max(1, self.steps // 10) == 0 or step == self.steps:
                    say(line(rows[-1], self.steps))
        if not (folder / "steps.csv").exists():  # somebody took it away; the state holds it
            self._write_table(folder, rows)
        metrics = summary(rows) | solvers.shares() | self.measured(state)
        frames.animate(sorted((folder / "frames").glob("*.png")), folder / "animation.gif")
        frames.curves(folder / "steps.png", rows)
        record = {"status": "completed", "settings": asdict(self), "metrics": metrics}
        (folder / "metrics.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return metrics

    # --- saved and continued ----------------------------------------------------------------
    def _identity(self) -> str:
        """Return the settings that a state depends on."""
        kept = {k: v for k, v in asdict(self).items() if k not in FREE}
        return json.dumps({"simulation": type(self).__name__, **kept}, sort_keys=True)

    @staticmethod
    def _arrays(state: FlowState) -> dict[str, Any]:
        """Return the arrays of a state by the names they are saved by."""
        arrays: dict[str, Any] = {f"velocity_{a}": u.numpy() for a, u in enumerate(state.velocity)}
        arrays |= {f"field_{name}": f.numpy() for name, f in state.fields.items()}
        return arrays | {"pressure": state.pressure.numpy(), "time": state.time}

    def _save(
        self, folder: Path, state: FlowState, rows: list[dict], solvers: PressureSolvers
    ) -> None:
        """Write table and state; the state last, in one piece."""
        self._write_table(folder, rows)
        arrays: dict[str, Any] = self._arrays(state)
        arrays |= {"identity": self._identity(), "rows": json.dumps(rows)}
        if solvers.bandit is not None:
            arrays |= {f"bandit_{name}": t.numpy() for name, t in solvers.bandit.state().items()}
        whole = folder / f"{STATE}.tmp"
        with whole.open("wb") as stream:
            np.savez(stream, **arrays)
        os.replace(whole, folder / STATE)

    @staticmethod
    def _write_table(folder: Path, rows: list[dict]) -> None:
        with (folder / "steps.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, (*COLUMNS, *SECONDS))
            table.writeheader()
            table.writerows(rows)

    def _loaded(
        self, file: Path, like: FlowState, solvers: PressureSolvers
    ) -> tuple[FlowState, list[dict]]:
        if not file.exists():
            raise InvalidArgument(f"resume=true for {file.parent}", f"a folder with a {STATE}")
        arrays = read_arrays(file)
        try:
            identity, rows = str(arrays["identity"]), json.loads(str(arrays["rows"]))
            old, new = dict(json.loads(identity)), json.loads(self._identity())
            rows = [dict(row) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(
                f"the state file {file} says nothing of its run", "settings and a table", HINT
            ) from error
        if identity != self._identity():
            other = [k for k in new if old.get(k) != new[k]]
            raise InvalidArgument(
                f"resume=true with {', '.join(f'{k}={new[k]}' for k in other)}",
                ", ".join(f"{k}={old.get(k)}" for k in other) + " as in the state",
            )
        check_arrays(file, arrays, self._arrays(like))
        bandit = {
            name.removeprefix("bandit_"): torch.from_numpy(values)
            for name, values in arrays.items()
            if name.startswith("bandit_")
        }
        if solvers.bandit is not None and bandit:
            solvers.bandit.load(bandit)

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(arrays[name])

        state = FlowState(
            tuple(tensor(f"velocity_{a}") for a in range(len(like.velocity))),
            tensor("pressure"),
            {name: tensor(f"field_{name}") for name in like.fields},
            float(arrays["time"]),
        )
        return state, rows


def advanced(
    flow: Flow, state: FlowState, dt: float, solvers: PressureSolvers
) -> tuple[FlowState, dict[str, Any]]:
    """Return the state a step later and the row of the table, without its number."""
    name = solvers.choose()
    clock = _Clock(solvers)
    began = time.process_time()
    state, done = flow.step(state, dt, clock)
    step_s = time.process_time() - began
    solve_s = clock.solve
    solvers.paid(solvers.setup + solve_s)
    stage = done.solution.stats.get("stage")
    return state, {
        "time": state.time,
        "solver": name,
        "iterations": int(done.solution.iterations.max()),
        "residual": float(done.solution.stats["relative"].max()),
        "divergence": float(done.left().max()),
        "fell_back": int(stage is not None and bool((stage > 0).any())),
        "setup_s": solvers.setup,
        "solve_s": solve_s,
        "step_s": step_s,
    }


class _Clock:
    """Takes the CPU time of the solve of a step."""

    def __init__(self, solvers: PressureSolvers) -> None:
        self.solvers, self.solve = solvers, 0.0

    def __call__(self, stencil: Any) -> Any:
        return _Timed(self.solvers(stencil), self)


class _Timed:
    """A linear solver that is timed."""

    def __init__(self, solver: Any, clock: _Clock) -> None:
        self.solver, self.clock = solver, clock
        self.approximate = solver.approximate

    def __call__(self, operator: Any, b: Tensor, x0: Tensor | None = None) -> Any:
        began = time.process_time()
        found = self.solver(operator, b, x0)
        self.clock.solve += time.process_time() - began
        return found


def summary(rows: list[dict]) -> dict[str, float]:
    """Return means and extremes over the steps."""
    if not rows:
        return {"steps": 0.0}
    column = {name: np.array([row[name] for row in rows]) for name in (*COLUMNS, *SECONDS)}
    out = {
        "steps": float(len(rows)),
        "iterations": float(column["iterations"].mean()),
        "iterations_max": float(column["iterations"].max()),
        "residual_max": float(column["residual"].max()),
        "divergence_max": float(column["divergence"].max()),
        "fell_back": float(column["fell_back"].sum()),
    }
    return out | {f"cpu/{name}": float(column[name].mean()) for name in SECONDS}


def line(row: dict, steps: int) -> str:
    """Return a line on how it goes."""
    return (
        f"step {row['step']}/{steps}  t={row['time']:.3g}  {row['solver']}: "
        f"{row['iterations']} iterations, residual {row['residual']:.1e}, "
        f"{row['step_s']:.2f} CPU s"
    )
