"""The same commands on an accelerator; skipped where there is none."""

from __future__ import annotations

import json

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MODELS = {
    "pinn_hjb": ["problem.dim=10", "estimator.num_dims=4"],
    "pinn_sine_gordon": ["problem.dim=10", "estimator.num_dims=4"],
    "pinn_bsb": ["problem.dim=10", "estimator.num_dims=4"],
    "pinn_biharmonic": ["problem.dim=5"],
    "pinn_semilinear_heat": ["problem.dim=10", "estimator.num_dims=4"],
}


@pytest.mark.parametrize("model", MODELS)
def test_trains_and_predicts_on_the_gpu_as_on_the_cpu(model, tmp_path) -> None:
    from sciml.cli.train import main
    from sciml.pretrained import load_pretrained

    words = [f"model={model}", *MODELS[model], "trainer.max_steps=20", "data.test_points=64"]
    words += ["trainer=gpu", "callbacks.plots=null", f"hydra.run.dir={tmp_path}/run"]
    assert main(words) == 0
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert record["device"] == "cuda"
    solution = load_pretrained(tmp_path / "run")
    x = torch.rand(7, solution.solution.problem.dim) * 0.2
    t = torch.rand(7, 1) * 0.2 if solution.solution.problem.time_dependent else None
    on_cpu = solution.predict(x, t)["value"]
    on_gpu = solution.to("cuda").predict(x, t)["value"].cpu()
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)


def test_streams_on_the_gpu_repeat() -> None:
    from sciml.data.collocation import CollocationData
    from sciml.physics.problems.hjb import HJBLQG

    data = CollocationData(problem=HJBLQG(dim=5))
    data._device = lambda: torch.device("cuda")
    assert torch.equal(data.batch(3).points.x, data.batch(3).points.x)
