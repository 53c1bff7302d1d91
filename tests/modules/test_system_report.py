"""Pictures of systems: rows by output, and what is known up to a constant only."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciml.modules.system_report import SystemReport
from sciml.physics.suite import Kovasznay


def trained(problem, shift):
    """Return what reports look at: the exact solution, moved by constants."""

    def predict_points(x):
        exact = problem.solution(x)
        return {name: value + shift.get(name, 0.0) for name, value in exact.items()}

    device = torch.device("cpu")
    return SimpleNamespace(problem=problem, device=device, predict_points=predict_points)


@pytest.mark.parametrize("gauge", [(), ("p",)])
def test_pictures_show_a_pressure_up_to_its_constant(gauge):
    problem = Kovasznay()
    problem.gauge = gauge
    report = SystemReport(trained(problem, {"p": 3.0, "v": 0.25}))
    rows = {row["symbol"]: row for row in report.fields}
    assert list(rows) == ["u", "v", "p"] and {row["title"] for row in report.fields} == {""}
    moved = {k: np.nanmax(np.abs(r["prediction"] - r["reference"])) for k, r in rows.items()}
    assert moved["u"] == 0 and moved["v"] == pytest.approx(0.25, rel=1e-9)
    assert moved["p"] == pytest.approx(0.0 if gauge else 3.0, rel=1e-9, abs=1e-9)
    # the picture and the figure of the output tell the same
    wanted = report.metrics["test/rel_l2/p"] < 1e-9
    assert wanted == bool(gauge)
