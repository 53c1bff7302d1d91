"""Experts on several ranks against the same experts in one process: values, reports, gradients."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from discrete_cases import burgers_case

from sciml.errors import InvalidArgument
from sciml.physics.constraints import HardConstraint

SAMPLES = 1  # of every rank


def one_rank(ranks, rank):
    """Return the layer and this rank's samples; every rank has others."""
    equation, inputs, _, basis = burgers_case(samples=4 * SAMPLES, functions=4, levels=6, points=16)
    own = slice(SAMPLES * rank, SAMPLES * (rank + 1))
    settings = {"experts": 4, "points": 12, "sweeps": 1, "rank": True}
    layer = HardConstraint(equation, **settings, expert_ranks=ranks)
    return layer, basis[own, 1:].clone().requires_grad_(), inputs[own]


def found(layer, basis, inputs):
    """Return value, gradient, and what the experts did."""
    out = layer(basis, inputs, generator=torch.Generator().manual_seed(0))
    weight = torch.linspace(-1, 1, out.value.numel()).reshape(out.value.shape)
    loss = (out.value * weight).sum() + layer.residual(out.value, inputs).square().mean()
    (slope,) = torch.autograd.grad(loss, basis)
    reports = (out.status, out.iterations, out.residual, out.rank)
    return out.value.detach(), slope, *reports


RANK = """
import sys
import torch
import torch.distributed as dist

tests, folder, ranks, world, rank = *sys.argv[1:3], *map(int, sys.argv[3:])
sys.path.insert(0, tests)
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
from test_expert_parallel import found, one_rank

dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
ACT
dist.destroy_process_group()
"""
SOLVE = 'torch.save(found(*one_rank(ranks, rank)), f"{folder}/found{rank}")'
FAIL = """
from sciml.errors import ConvergenceError
layer, basis, inputs = one_rank(ranks, rank)
layer.on_failure = "raise"
if rank:
    basis = basis.detach() * float("nan")
try:
    layer(basis, inputs)
    print("solved")
except ConvergenceError as error:
    print(error)
"""


def on_ranks(act, tmp_path, ranks, world):
    """Return what the ranks print."""
    program = tmp_path / "rank.py"
    program.write_text(RANK.replace("ACT", act))
    here = Path(__file__).parent
    words = [sys.executable, program, here, tmp_path, str(ranks), str(world)]
    paths = os.pathsep.join([str(here.parents[2])])
    processes = [
        subprocess.Popen(
            [*words, str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(world)
    ]
    try:
        said = [p.communicate(timeout=300) for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert all(p.returncode == 0 for p in processes), "\n".join(err for _, err in said)
    return [out for out, _ in said]


@pytest.mark.parametrize(
    ("ranks", "world"),
    [(2, 2), *(pytest.param(n, 4, marks=pytest.mark.slow) for n in (2, 4))],
)
def test_experts_over_ranks_equal_one_process(tmp_path, ranks, world):
    on_ranks(SOLVE, tmp_path, ranks, world)
    for rank in range(world):
        value, slope, *reports = torch.load(tmp_path / f"found{rank}")
        wanted, exact, *others = found(*one_rank(1, rank))
        torch.testing.assert_close(value, wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(slope, exact, rtol=1e-10, atol=1e-10)
        for mine, other in zip(reports, others, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_a_failure_is_raised_on_the_rank_of_its_samples_and_holds_nobody_up(tmp_path):
    first, second = on_ranks(FAIL, tmp_path, 2, 2)
    assert first.strip() == "solved"
    assert "the constraint failed for 4 of 4 problems of this rank's samples" in second


def test_experts_that_do_not_divide_are_refused():
    equation, *_ = burgers_case()
    with pytest.raises(InvalidArgument, match="a divisor of the number of experts"):
        HardConstraint(equation, experts=4, expert_ranks=3)


def test_without_a_process_group_experts_stay_here():
    plain = found(*one_rank(1, 0))
    for a, b in zip(found(*one_rank(2, 0)), plain, strict=True):
        assert torch.equal(a, b)
