"""Results of macro solves: converged states and steps, the whole solution, reasons of failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sciml.errors import InvalidArgument
from sciml.simulate.state_files import HINT, check_arrays, read_arrays


@dataclass(frozen=True)
class MacroState:
    """A converged state; N nodes, E x Q quadrature points, P = E Q.

    Attributes:
        load: Share of the full load.
        displacement: `(N, 2)`.
        strain: `(P, 3)` macro strains.
        stress: `(P, 3)`.
        tangent: `(P, 3, 3)`.
        micro: Arrays `(P, ...)` of the micro state by name.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sciml.physics.solids import EQUINO_MATRIX, plate
        >>> from sciml.simulate import MacroSolver, MacroState, MaterialMicro
        >>> state = MacroSolver(plate(), MaterialMicro(EQUINO_MATRIX)).solve().state
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     state.save(Path(folder, "state.npz"))
        ...     again = MacroState.load_file(Path(folder, "state.npz"))
        >>> state.load, bool((again.displacement == state.displacement).all())
        (1.0, True)
    """

    load: float
    displacement: np.ndarray
    strain: np.ndarray
    stress: np.ndarray
    tangent: np.ndarray
    micro: Mapping[str, np.ndarray]

    def save(self, file: Path) -> None:
        """Write an npz file that is there only when it is whole."""
        arrays = {f"micro.{name}": value for name, value in self.micro.items()}
        names = ("displacement", "strain", "stress", "tangent")
        arrays |= {name: getattr(self, name) for name in names} | {"load": np.array(self.load)}
        partial = file.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, **arrays)
        partial.replace(file)

    @classmethod
    def load_file(cls, file: Path) -> MacroState:
        """Read a file written by `save`.

        Raises:
            InvalidArgument: If it is none.
        """
        arrays = read_arrays(file)
        names = ("displacement", "strain", "stress", "tangent", "load")
        # their shapes are those of a structure, which `MacroSolver.solve` looks at
        micro = [name for name in arrays if name.startswith("micro.")]
        check_arrays(file, arrays, {name: arrays.get(name) for name in (*names, *micro)})
        if arrays["load"].shape != () or arrays["load"].dtype != np.float64:
            raise InvalidArgument(f"the state file {file} holds no load", "one number", HINT)
        own, load = {name: arrays[name] for name in names[:-1]}, float(arrays["load"])
        micro = {n.removeprefix("micro."): v for n, v in arrays.items() if n.startswith("micro.")}
        return cls(load, **own, micro=micro)


class Failure(NamedTuple):
    """Why a step failed.

    Attributes:
        step: Number of the step, from 1.
        load: Load that was tried.
        iteration: Newton iteration.
        reason: In words.
        element: Element of the first point that failed; None where Newton's method did.
        point: Quadrature point in that element.
        strain: Macro strain at that point.
    """

    step: int
    load: float
    iteration: int
    reason: str
    element: int | None = None
    point: int | None = None
    strain: tuple[float, ...] = ()

    def __str__(self) -> str:
        """Return a sentence."""
        where = ""
        if self.element is not None:
            at = ", ".join(f"{v:.4g}" for v in self.strain)
            where = f" in element {self.element}, point {self.point}, at strain ({at})"
        return (
            f"step {self.step} (load {self.load:.4g}) failed in iteration {self.iteration}"
            f"{where}: {self.reason}"
        )


class Step(NamedTuple):
    """A converged step.

    Attributes:
        load: Share of the full load.
        residuals: Of all iterations, relative.
        outside: Points whose strain lies outside the box of the micro law.
        largest: Largest absolute component of all strains.
        where: Element and quadrature point of it.
        reaction: Sum of the reactions `(2,)` of nodes that are held at another value than zero, or
            of the applied forces.
    """

    load: float
    residuals: tuple[float, ...]
    outside: int
    largest: float
    where: tuple[int, int]
    reaction: tuple[float, float]

    @property
    def iterations(self) -> int:
        """Return the number of Newton steps."""
        return len(self.residuals)


@dataclass
class MacroSolution:
    """What a macro solve came to.

    Attributes:
        state: The last converged state.
        steps: Converged steps.
        failures: Steps that failed, and were cut or ended the run.
        complete: Whether the load that was asked for was reached.
        seconds: Time of the whole, and of the micro calls.
        calls: Micro calls.

    Example:
        >>> from sciml.physics.solids import EQUINO_MATRIX, plate
        >>> from sciml.simulate import MacroSolver, MaterialMicro
        >>> solution = MacroSolver(plate(), MaterialMicro(EQUINO_MATRIX), steps=2).solve()
        >>> solution.complete, [step.load for step in solution.steps], solution.failures
        (True, [0.5, 1.0], [])
    """

    state: MacroState
    steps: list[Step] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    complete: bool = False
    seconds: dict[str, float] = field(default_factory=lambda: {"all": 0.0, "micro": 0.0})
    calls: int = 0
