"""How good a trained solution is: errors against the reference, and against doing nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sciml.modules.evaluation.scores import everyone
from sciml.modules.evaluation.training_law import TrainingLaw
from sciml.physics.pde import PDE, Points
from sciml.physics.references.baselines import BaselineFit, skills

SCATTER = 2000  # test points kept for the picture of predicted against reference values


class Report:
    """Errors on the test set, gathered chunk by chunk and over ranks.

    Args:
        problem: The PDE.
        points: Number of test points in all.

    Attributes:
        metrics: `test/rel_l2`, `test/rel_l1`, `test/max_abs`, `test/skill`, `test/skill_affine`
            where an affine fit exists, and `test/baseline/<name>`; after `finish`.
    """

    def __init__(self, problem: PDE, points: int) -> None:
        self.problem = problem
        self.metrics: dict[str, float] = {}
        self._baselines = BaselineFit(problem, points)
        self._sums: Tensor | None = None
        self._largest: Tensor | None = None
        self._shown: list[Tensor] = []
        self._ray: dict = {}
        self._fields: list[dict] = []

    @torch.no_grad()
    def add(self, p: Points, prediction: Tensor) -> None:
        """Add a chunk of test points with the predictions `(n,)` there."""
        reference = self.problem.exact(p.x, p.t).double()
        error = (prediction - reference).abs()
        sums = [error.square(), reference.square(), error, reference.abs()]
        sums = torch.stack([s.sum() for s in sums]).cpu()
        self._sums = sums if self._sums is None else self._sums + sums
        largest = error.max().cpu()
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
        self._baselines.update(p, reference)
        if sum(len(s) for s in self._shown) < SCATTER:
            self._shown.append(torch.stack([reference, prediction], 1)[:SCATTER])
        if not self._ray:
            self._ray = {"through": p[:1]}

    def finish(self, predict: Callable[[Points], Tensor]) -> None:
        """Join the ranks, compute the metrics, evaluate a ray through the first test point."""
        own = None if self._sums is None else (self._sums, self._largest, self._baselines)
        ranks = [rank for rank in everyone(own) if rank is not None]  # some may have had no points
        if not ranks:
            return
        (sums, largest, self._baselines), *others = ranks
        for more, peak, baselines in others:
            sums, largest = sums + more, torch.maximum(largest, peak)
            for total, part in zip(self._baselines.sums(), baselines.sums(), strict=True):
                total += part
        e2, r2, e1, r1 = sums.tolist()
        error = (e2 / r2) ** 0.5
        baselines = self._baselines.errors()
        self.metrics = {
            "test/rel_l2": error,
            "test/rel_l1": e1 / r1,
            "test/max_abs": float(largest),
        }
        self.metrics |= {f"test/{name}": v for name, v in skills(error, baselines).items()}
        self.metrics |= {f"test/baseline/{name}": v for name, v in baselines.items()}
        if self._ray:
            through = self._ray["through"]
            self._ray = self._along(through, predict)
            self._fields = self._plane(through.x.device, predict)

    def as_dict(self) -> dict:
        """Return what tables and plots show: reference, prediction, baselines, metrics, ray."""
        if not self.metrics or not self._shown:
            return {}
        prefix = "test/baseline/"
        shown = torch.cat(self._shown)[:SCATTER].cpu()
        return {
            "reference": shown[:, 0].numpy(),
            "prediction": shown[:, 1].numpy(),
            "baselines": {
                k.removeprefix(prefix): v for k, v in self.metrics.items() if k.startswith(prefix)
            },
            "metrics": {k: v for k, v in self.metrics.items() if not k.startswith(prefix)},
            "ray": self._ray,
            **({"fields": self._fields} if self._fields else {}),
        }

    @torch.no_grad()
    def _along(self, through: Points, predict: Callable[[Points], Tensor]) -> dict:
        """Return the solution along the line from the middle of the training law through a point.

        The line ends where training points end, and so never leaves the domain.
        """
        time = None if through.t is None else float(through.t)
        law = TrainingLaw(self.problem, time)
        s, shaded = law.ray(through.x[0])
        x = law.centre + s[:, None] * law.direction(through.x[0])
        t = None if through.t is None else through.t.expand(len(s), 1)
        p = Points(x.to(through.x.device), t)
        when = "" if time is None else f", t = {time:.2f}"
        origin = "the middle c" if bool(law.centre.any()) else "0"
        return {
            "s": s.numpy(),
            "prediction": predict(p).cpu().numpy(),
            "reference": self.problem.exact(p.x, p.t).double().cpu().numpy(),
            "label": f"distance from {origin} on the line through a test point{when}",
            "training": shaded,
        }

    @torch.no_grad()
    def _plane(self, device: torch.device, predict: Callable[[Points], Tensor]) -> list[dict]:
        """Return the solution all over a problem of two variables, for the picture of fields."""
        plane = TrainingLaw(self.problem).plane(self.problem)
        if plane is None:
            return []
        points, level, axes = plane
        p, outside = points.to(device), level > 0

        def shown(values: Tensor) -> np.ndarray:
            return values.double().cpu().view(level.shape).masked_fill(outside, torch.nan).numpy()

        row = {
            "title": "",
            "reference": shown(self.problem.exact(p.x, p.t)),
            "prediction": shown(predict(p)),
            "outline": level.numpy(),
            **axes,
        }
        source = None if self.problem.time_dependent else self.problem.source(p.x)
        if source is not None:
            row["inputs"] = {"source f": shown(source)}
        return [row]
