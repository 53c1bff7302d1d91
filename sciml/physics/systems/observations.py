"""Observations as a condition: measured values at points, from arrays or a file.

Observed("probes.csv", sigma=0.01)                   columns named like variables and outputs
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument, did_you_mean
from sciml.physics.systems.boundary_pieces import KIND
from sciml.shapes import as_array

if TYPE_CHECKING:
    from sciml.physics.systems.system import System
from sciml.physics.systems.conditions import Condition, PointSet, read
from sciml.typed_arguments import typed


@typed
class Observed(Condition):
    """Measured values, each divided by its error: residuals of size 1 where the model is right.

    Args:
        source: Arrays by name, or a file: .npz, or .csv with a line of names. Variables of the
            domain and one or more outputs; every row is one point.
        sigma: Standard deviation of the noise, one number or one per output.
        weight: Weight of each of its terms; 1 by default.
        points: Rows drawn per step; None for all of them.

    Raises:
        InvalidArgument: For a file or arrays of another kind.

    Example:
        >>> from sciml.physics.systems import Observed
        >>> readings = {"x": [0.1, 0.5, 0.9], "u": [1.0, 1.2, 0.9]}
        >>> observed = Observed(readings, sigma=0.05)
        >>> observed.points_of(("x",)).flatten().tolist()
        [0.1, 0.5, 0.9]
    """

    def __init__(
        self,
        source: str | Path | Mapping[str, Any],
        sigma: float | Mapping[str, float] = 1.0,
        *,
        weight: float = 1.0,
        points: int | None = None,
    ) -> None:
        super().__init__(weight, points, {})
        self.title = "the observations" if isinstance(source, Mapping) else str(source)
        columns = source if isinstance(source, Mapping) else columns_of(Path(source))
        self.columns = {
            name: as_array(f"{name} of {self.title}", v, dtype=KIND).reshape(-1)
            for name, v in columns.items()
        }
        sizes = {name: len(v) for name, v in self.columns.items()}
        if not sizes or len(set(sizes.values())) > 1 or not min(sizes.values()):
            raise InvalidArgument(
                f"{self.title} with columns of {sizes} rows", "one number of rows"
            )
        bad = [name for name, v in self.columns.items() if not bool(v.isfinite().all())]
        if bad:
            raise InvalidArgument(f"{self.title} with {bad[0]} that is not finite", "numbers")
        self.sigma = sigma

    def check(self, system: System, name: str) -> None:
        """Refuse other columns, and points outside the domain."""
        region = system.region
        title = f"{self.title} of condition '{name}'"
        for variable in region.variables:
            if variable not in self.columns:
                raise InvalidArgument(
                    f"{title} without a column {variable}",
                    f"columns {', '.join(region.variables)} and outputs",
                    did_you_mean(variable, self.columns),
                )
        self.seen = [key for key in self.columns if key not in region.variables]
        if not self.seen:
            raise InvalidArgument(f"{title} of coordinates alone", f"one of {system.outputs}, too")
        for key in self.seen:
            system.quantity(title, key)
        for key in self.seen if isinstance(self.sigma, Mapping) else ():
            if key not in self.sigma:
                raise InvalidArgument(f"{title} without a sigma of {key}", "one for every output")
        outside = ~region.contains(self.points_of(region.variables))
        if bool(outside.any()):
            first = int(outside.nonzero()[0])
            where = ", ".join(f"{v}={float(self.columns[v][first]):.4g}" for v in region.variables)
            raise InvalidArgument(
                f"{title}: {int(outside.sum())} of {len(outside)} points outside the domain, the "
                f"first at {where}",
                "points inside",
                "Look at units and at the order of the columns",
            )

    def points_of(self, variables: tuple[str, ...]) -> Tensor:
        """Return the points `(M, D)`."""
        return torch.stack([self.columns[v] for v in variables], 1)

    def sample(self, system: System, n: int, generator: torch.Generator) -> PointSet:
        """Return all rows, or as many as asked for."""
        x = self.points_of(system.region.variables)
        p = PointSet(x, None, {key: self.columns[key] for key in self.seen})
        if self.points is not None and self.points < len(x):
            p = p[
                torch.randperm(len(x), generator=generator, device=generator.device)[: self.points]
            ]
        return p.to(generator.device)

    def residuals(
        self, system: System, name: str, p: PointSet, known: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return misfits in units of the noise."""
        found = {}
        for key, value in p.data.items():
            sigma = self.sigma[key] if isinstance(self.sigma, Mapping) else self.sigma
            found[key] = (read(system, key, known, name) - value) / sigma
        return found


def columns_of(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of an .npz or .csv file.

    Raises:
        InvalidArgument: For a file that is missing, of another kind, or not numbers.
    """
    if path.suffix not in (".npz", ".csv") or not path.is_file():
        raise InvalidArgument(
            f"observations in {path}" + ("" if path.is_file() else ", which does not exist"),
            "an .npz file of arrays, or a .csv file with a line of names",
        )
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                return {key: file[key] for key in file.files}
        table = np.genfromtxt(path, delimiter=",", names=True, dtype=float)
        return {key: np.atleast_1d(table[key]) for key in table.dtype.names}
    except (ValueError, TypeError, OSError) as error:
        raise InvalidArgument(
            f"observations in {path}: {error}", "columns of numbers below a line of names"
        ) from error
