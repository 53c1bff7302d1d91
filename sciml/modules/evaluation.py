"""How good a trained solution is: errors against the reference, and against doing nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.modules.scores import everyone
from sciml.physics.baselines import Baselines, skills
from sciml.physics.pde import PDE, Points

SCATTER = 2000  # test points kept for the picture of predicted against reference values
RAY = 101  # points of the slice through the solution


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
        self._baselines = Baselines(problem, points)
        self._sums: Tensor | None = None
        self._largest: Tensor | None = None
        self._shown: list[Tensor] = []
        self._ray: dict = {}

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
        """Join the ranks, compute the metrics and evaluate a ray through the first test point."""
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
            self._ray = self._along(self._ray["through"], predict)

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
        }

    @torch.no_grad()
    def _along(self, through: Points, predict: Callable[[Points], Tensor]) -> dict:
        """Return the solution along x = s x_0, x_0 the first test point.

        s runs over [-1, 1] for a static problem; over [1/2, 3/2] for a time-dependent one, whose
        points lie around a shell and not near the origin.
        """
        low, high = (-1.0, 1.0) if through.t is None else (0.5, 1.5)
        s = torch.linspace(low, high, RAY, dtype=torch.float64, device=through.x.device)
        t = None if through.t is None else through.t.expand(RAY, 1)
        p = Points(s[:, None] * through.x, t)
        when = "" if t is None else f", t = {float(through.t):.2f}"
        return {
            "s": s.cpu().numpy(),
            "prediction": predict(p).cpu().numpy(),
            "reference": self.problem.exact(p.x, p.t).double().cpu().numpy(),
            "label": f"s on the line x = s x0, |x0| = {float(through.x.norm()):.2f}{when}",
        }
