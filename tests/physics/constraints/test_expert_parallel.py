"""Experts on several ranks against the same experts in one process: values, reports, gradients."""

import contextlib

import pytest
import torch
import torch.distributed as dist
from discrete_cases import burgers_case

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.physics.constraints import HardConstraint
from sciml.testing.ranks import run_ranks

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


def _solve(rank, folder, ranks, world):
    with group(rank, folder, world):
        torch.save(found(*one_rank(ranks, rank)), folder / f"found{rank}")


def _fail(rank, folder, ranks, world):
    with group(rank, folder, world):
        layer, basis, inputs = one_rank(ranks, rank)
        layer.on_failure = "raise"
        if rank:
            basis = basis.detach() * float("nan")
        try:
            layer(basis, inputs)
            said = "solved"
        except ConvergenceError as error:
            said = str(error)
        (folder / f"said{rank}").write_text(said)


@contextlib.contextmanager
def group(rank, folder, world):
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("ranks", "world"),
    [(2, 2), *(pytest.param(n, 4, marks=pytest.mark.slow) for n in (2, 4))],
)
def test_experts_over_ranks_equal_one_process(tmp_path, ranks, world):
    run_ranks(_solve, (tmp_path, ranks, world), world)
    for rank in range(world):
        value, slope, *reports = torch.load(tmp_path / f"found{rank}")
        wanted, exact, *others = found(*one_rank(1, rank))
        torch.testing.assert_close(value, wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(slope, exact, rtol=1e-10, atol=1e-10)
        for mine, other in zip(reports, others, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_a_failure_is_raised_on_the_rank_of_its_samples_and_holds_nobody_up(tmp_path):
    run_ranks(_fail, (tmp_path, 2, 2), 2)
    first, second = ((tmp_path / f"said{rank}").read_text() for rank in range(2))
    assert first == "solved"
    assert "the constraint failed for 4 of 4 problems of this rank's samples" in second


def test_experts_that_do_not_divide_are_refused():
    equation, *_ = burgers_case()
    with pytest.raises(InvalidArgument, match="a divisor of the number of experts"):
        HardConstraint(equation, experts=4, expert_ranks=3)


def test_without_a_process_group_experts_stay_here():
    plain = found(*one_rank(1, 0))
    for a, b in zip(found(*one_rank(2, 0)), plain, strict=True):
        assert torch.equal(a, b)
