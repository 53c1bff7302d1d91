"""Ninety kills, some in the folders of older runs. Takes a quarter of an hour."""

import json
import subprocess
import sys

import pytest
import torch

from sciml.testing import kills

MODELS = (
    "pinn_hjb",
    "pinn_poisson2d optimizer=kfac",
    "pinn_heat4d optimizer=spring",
    "pinn_allen_cahn optimizer=soap",
    "pinn_biharmonic optimizer=adamw",
    "wos_poisson2d",
    "deq_digits",
    "neural_ode_digits",
    "cgs_resistor",
)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_killed_runs_end_as_if_nothing_had_happened(model):
    command = [sys.executable, "-m", "sciml.testing.kills", f"{model} callbacks.plots=null"]
    done = subprocess.run(command, capture_output=True, text=True)  # forks: without our threads
    found = json.loads(done.stdout)
    assert found["wrong"] == [] and found["identical"] == found["kills"] == 10


def test_what_is_compared(tmp_path):
    a, b = {"x": [torch.ones(2), (1, "y")]}, {"x": [torch.ones(2), (1, "y")]}
    assert kills.same(a, b)
    b["x"][0] = torch.tensor([1.0, 1.0 + 2**-23])
    assert not kills.same(a, b)
    assert kills.end(kills.start(["model=nothing"])) == 2
