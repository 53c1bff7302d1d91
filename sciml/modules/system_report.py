"""How good a trained system is: errors by output, identified constants, misfit of the data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.data.point_sets import test_points
from sciml.modules.evaluation.own_pictures import pictures
from sciml.modules.identified import standard_errors
from sciml.physics.systems import Observed, PointSet

if TYPE_CHECKING:
    from sciml.modules.system_pinn import PINN

SHOWN = 2000  # test points kept for the picture of predicted against reference values
FEW, LOW, HIGH = 20, 0.5, 1.5  # readings that tell, and misfits that are still about one
GRID = 121  # nodes of pictures along each axis


class SystemReport:
    """Metrics of a trained module against the reference of its system.

    Args:
        module: The trained module.

    Attributes:
        metrics: `test/rel_l2`, over all outputs together, and `test/rel_l2/<output>` of several;
            `test/max_abs`, `test/skill` (error over that of the best constants);
            `test/unknown/<name>`, `test/standard_error/<name>`, `test/misfit/<condition>` in units
            of the noise.
    """

    def __init__(self, module: PINN) -> None:
        self.problem = module.problem
        self.metrics: dict[str, float] = {}
        self.shown: dict[str, Tensor] = {}
        self.fields = []
        self.own: dict = {}
        found = test_points(self.problem)
        if found is not None:
            x, reference = found
            prediction = self._on_cpu(module.predict_points(x.to(module.device)))
            self._compare(prediction, reference)
            self.fields = self._pictures(module, x, reference, prediction)
        if not self.fields:
            device = module.device
            self.own = pictures(self.problem, lambda x: module.predict_points(x.to(device)))
        self.metrics |= {f"test/{name}": value for name, value in identified(module).items()}

    @staticmethod
    def _on_cpu(found: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.cpu() for name, value in found.items()}

    def _compare(self, prediction: dict[str, Tensor], reference: dict[str, Tensor]) -> None:
        error2 = size2 = flat2 = largest = 0.0
        parts = {}
        for name, wanted in reference.items():
            difference = prediction[name] - wanted
            if name in self.problem.gauge:
                difference = difference - difference.mean()
                wanted = wanted - wanted.mean()
            e, s = float(difference.square().sum()), float(wanted.square().sum())
            parts[name] = (e / s) ** 0.5 if s else float("nan")
            error2, size2 = error2 + e, size2 + s
            flat2 += float((wanted - wanted.mean()).square().sum())
            largest = max(largest, float(difference.abs().max()))
        self.metrics["test/rel_l2"] = (error2 / size2) ** 0.5
        if len(parts) > 1:
            self.metrics |= {f"test/rel_l2/{name}": value for name, value in parts.items()}
        self.metrics["test/max_abs"] = largest
        if flat2:
            self.metrics["test/skill"] = (error2 / flat2) ** 0.5
            self.flat = (flat2 / size2) ** 0.5
        first = next(iter(reference))
        self.shown = {"reference": reference[first], "prediction": prediction[first]}

    def _pictures(
        self,
        module: PINN,
        x: Tensor,
        reference: Mapping[str, Tensor],
        prediction: Mapping[str, Tensor],
    ) -> list[dict]:
        """Return every output over a region of two variables, or in space at the last time."""
        region = self.problem.region
        if len(region.variables) not in (2, 3):
            return []
        flat = len(region.variables) == 2
        labels = {"xlabel": region.variables[0], "ylabel": region.variables[1]}
        if self.problem.exact is None:
            if not flat:
                return []
            if region.time is not None:
                labels = {"xlabel": region.variables[0], "ylabel": "t"}
            rows = [self._row(name, reference[name], prediction[name]) for name in reference]
            return [{"title": "", "points": x.numpy(), **labels, **row} for row in rows]
        low, high = region.low, region.high
        a, b = (torch.linspace(float(low[k]), float(high[k]), GRID, dtype=x.dtype) for k in (0, 1))
        grid = torch.stack(torch.meshgrid(a, b, indexing="xy"), -1).reshape(-1, 2)
        if not flat:
            grid = torch.cat([grid, high[2].expand(len(grid), 1)], 1)
        found = self._on_cpu(module.predict_points(grid.to(module.device)))
        wanted = self.problem.solution(grid)
        outside = ~region.contains(grid)
        extent = [float(v) for v in (low[0], high[0], low[1], high[1])]
        when = "" if flat else f"{region.variables[2]} = {float(high[2]):g}"

        def on_grid(value: Tensor) -> Tensor:
            return value.masked_fill(outside, torch.nan).view(GRID, GRID)

        rows = [self._row(name, on_grid(wanted[name]), on_grid(found[name])) for name in wanted]
        return [{"title": when, "extent": extent, **labels, **row} for row in rows]

    def _row(self, name: str, reference: Tensor, prediction: Tensor) -> dict:
        """Return both fields of an output, with equal means where it is known up to a constant."""
        if name in self.problem.gauge:
            prediction = prediction - (prediction - reference).nanmean()
        pair = {"reference": reference.numpy(), "prediction": prediction.numpy()}
        return {"symbol": name, **pair}

    def as_dict(self) -> dict:
        """Return what tables and plots show, see `sciml.callbacks.plots`."""
        report: dict = {"metrics": dict(self.metrics), **self.own}
        if self.shown:
            report |= {name: value[:SHOWN].numpy() for name, value in self.shown.items()}
            report["baselines"] = {"best constants": self.flat} if hasattr(self, "flat") else {}
        if self.fields:
            report["fields"] = self.fields
        return report


def identified(module: PINN) -> dict[str, float]:
    """Return unknown constants with standard errors, and misfits of observations, by name."""
    problem, found = module.problem, {}
    generator = torch.Generator().manual_seed(0)
    for name, condition in problem.terms.items():
        if isinstance(condition, Observed):
            p: PointSet = condition.sample(problem, 0, generator)
            p = p.to(module.device).to(module.network.dtype)
            with torch.no_grad():
                parts = module.residuals(name, p).values()
            rows = torch.cat(list(parts))
            misfit = found[f"misfit/{name}"] = float(rows.square().mean().sqrt())
            if len(rows) >= FEW and not LOW < misfit < HIGH:
                _warn_of_misfit(name, misfit)
    if problem.unknowns:
        errors = standard_errors(module)
        for name, constant in problem.unknowns.items():
            found[f"unknown/{name}"] = float(constant().detach())
            if name in errors:
                found[f"standard_error/{name}"] = errors[name]
    return found


def _warn_of_misfit(name: str, misfit: float) -> None:
    if misfit < 1:
        reason = (
            "far below the noise: the solution follows single readings, and unknowns are less "
            "certain than their standard errors say. Give the equations more weight, "
            "weights = {'<equation>': 100}, or say the right sigma"
        )
    else:
        reason = (
            "above the noise: training has not ended, the equations are not those of the data, or "
            "sigma is too small. Train longer first"
        )
    warnings.warn(f"The misfit of '{name}' is {misfit:.2g} sigma, {reason}", stacklevel=2)
