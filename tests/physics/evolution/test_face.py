"""What every problem of the room offers, and Darcy flow among them."""

import doctest
import importlib
import subprocess
import sys

import pytest
import torch

import sciml.physics.evolution as room
from sciml.physics.evolution import (
    Burgers,
    DarcyFlow,
    DiffusionSorption,
    Heat,
    HeterogeneousDiffusionSorption,
    VorticityNavierStokes,
)

PROBLEMS = [
    DiffusionSorption(16, time_count=3, rtol=1e-5),
    HeterogeneousDiffusionSorption(16, time_count=3, rtol=1e-5),
    VorticityNavierStokes(32, time_count=3, horizon=0.1),
    Burgers(32, time_count=3, horizon=0.1),
    Burgers(32, boundary="dirichlet", time_count=3, horizon=0.1),
    Heat(32, time_count=3),
    Heat(32, boundary="dirichlet", time_count=3),
    DarcyFlow(16),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: type(p).__name__)
def test_the_contract(problem):
    inputs = problem.sample(2, torch.Generator().manual_seed(3))
    grid = tuple(len(axis) for axis in problem.grids)
    assert inputs.shape == (2, len(problem.channels), *grid) and inputs.dtype == torch.float64
    assert torch.equal(inputs, problem.sample(2, torch.Generator().manual_seed(3)))
    assert len(problem.periods) == len(grid)
    found = problem.solve(inputs)
    assert found.value.shape == (2, len(problem.times), *grid)
    assert found.value.dtype == torch.float64 and found.value.isfinite().all()
    assert found.status.shape == found.residual.shape == (2,) and found.converged.all()
    if len(problem.times) > 1:
        torch.testing.assert_close(found.value[:, 0], inputs[:, 0], rtol=0, atol=1e-13)
    nothing = problem.solve(inputs[:0])
    assert nothing.value.shape == (0, len(problem.times), *grid)


def test_darcy_is_the_solution_of_the_dense_system():
    problem = DarcyFlow(6)
    a = problem.sample(2, torch.Generator().manual_seed(0))
    eye = torch.eye(36, dtype=torch.float64).view(36, 6, 6)
    for i in range(2):
        matrix = problem.steady.product(eye, a[i].expand(36, 6, 6)).view(36, 36).T
        wanted = torch.linalg.solve(matrix, torch.ones(36, dtype=torch.float64)).view(6, 6)
        torch.testing.assert_close(problem.solve(a).value[i, 0], wanted, rtol=1e-8, atol=1e-10)


def test_the_face_is_complete_and_lazy():
    for name in room.__all__:
        assert getattr(room, name).__name__ == name
    assert set(room.__all__) == set(dir(room))
    with pytest.raises(AttributeError, match="Burger"):
        room.Burger  # noqa: B018
    code = "import sys, sciml.physics.evolution; print('scipy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize(
    "file",
    ["viscous_burgers", "darcy_snapshots", "diffusion_sorption", "heat_interval", "vorticity_flow"],
)
def test_examples_run(file):
    module = importlib.import_module(f"sciml.physics.evolution.{file}")
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
