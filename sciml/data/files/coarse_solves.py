"""Coarse solves of training samples: made once, and kept where the samples are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.networks.fields.coarse_input import coarse_solve
from sciml.networks.fields.description import FieldSet


class CoarseSolves:
    """A solver's answers by row number.

    Args:
        solver: See `sciml.networks.fields.coarse_input`.
        fields: The data's description.
        count: Samples of the file whose answers are kept; 0 to solve every time.
    """

    def __init__(self, solver: Any, fields: FieldSet, count: int) -> None:
        self.solver, self.fields = solver, fields
        self.known = np.zeros(count, dtype=bool)
        self.kept: Tensor | None = None

    def __call__(self, rows: np.ndarray, given: Mapping[str, Tensor]) -> Tensor:
        """Return the answers `(B, C_out, *space)` for samples with these row numbers.

        Args:
            rows: `(B,)`.
            given: Their inputs by name.
        """
        if len(self.known) and self.known[rows].all():
            return self.kept[torch.from_numpy(rows)]
        solved = coarse_solve(self.solver, self.fields, self.fields.pack(given))
        if len(self.known):
            if self.kept is None:
                self.kept = solved.new_empty(len(self.known), *solved.shape[1:])
            self.kept[torch.from_numpy(rows)] = solved
            self.known[rows] = True
        return solved


def prepared(solver: Any, grid: str, given: Tensor, target: Tensor, notes: list[str]) -> Any:
    """Return a coarse solver for fields on a grid, fitted to samples where it has free numbers.

    Args:
        solver: See `sciml.networks.fields.coarse_input`.
        grid: Name of the grid that the fields stand on.
        given: Inputs `(B, C, *space)`.
        target: Outputs, likewise.
        notes: Gets a sentence on fitted numbers.

    Raises:
        InvalidArgument: For a solver on another grid.
    """
    if getattr(solver, "grid", grid) != grid:
        raise InvalidArgument(
            f"data.coarse with grid={solver.grid} for fields on a grid called {grid}",
            "one grid",
            f"Set grid: {grid} in data.coarse, or type data.grid={solver.grid}",
        )
    if not hasattr(solver, "fitted"):
        return solver
    solver = solver.fitted(given, target)
    found = [f"{k} = {v:.4g}" for k, v in solver.node().items() if isinstance(v, float)]
    notes.append(f"coarse solve fitted: {', '.join(found)}")
    return solver
