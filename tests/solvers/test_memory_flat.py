"""Memory while a solve runs, and after many training steps."""

import gc

import pytest
import torch
from torch import nn

from sciml.solvers import Anderson, Broyden, FixedPointIteration, fixed_point


def storage(tensor):
    """Return address and bytes; nothing for what other tests left of transforms and compilers."""
    try:
        kept = tensor.untyped_storage()
        return {kept.data_ptr(): kept.nbytes()}
    except RuntimeError:  # batched and fake tensors have no storage
        return {}


def live_bytes():
    """Return the bytes of all tensors that Python knows, each storage once."""
    sizes = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            sizes |= storage(thing)
    return sum(sizes.values())


def contraction(n):
    torch.manual_seed(0)
    w = torch.randn(n, n)
    return 0.9999 * w / torch.linalg.matrix_norm(w, 2)


@pytest.mark.usefixtures("own_objects")
@pytest.mark.parametrize("solver", [FixedPointIteration, Anderson, Broyden])
def test_the_tenth_iteration_needs_as_much_as_the_250th(solver):
    w, calls, found = contraction(32), 0, {}

    def layer(z, x):
        nonlocal calls
        calls += 1
        if calls in (10, 100, 250):
            gc.collect()
            found[calls] = live_bytes()
        return z @ w.mT + x

    x = torch.randn(8, 32, requires_grad=True)
    out = fixed_point(
        layer,
        torch.zeros(8, 32),
        (x,),
        solver=solver(max_iter=300, rtol=0, atol=1e-300),
        on_failure="best",
    )
    assert out.value.requires_grad and len(found) == 3
    assert max(found.values()) < 1.05 * min(found.values())


@pytest.mark.usefixtures("own_objects")
def test_two_hundred_training_steps_leave_less_than_a_mebibyte():
    weight = nn.Parameter(0.5 * contraction(16))
    optimizer = torch.optim.Adam([weight], lr=1e-4)
    x, sizes = torch.randn(1024, 16), []
    for step in range(220):
        optimizer.zero_grad()
        out = fixed_point(
            lambda z, x: torch.tanh(z @ weight.mT + x),
            torch.zeros(1024, 16),
            (x,),
            solver=FixedPointIteration(rtol=1e-2),
            on_failure="warn",
        )
        out.value.square().mean().backward()
        optimizer.step()
        if step in (19, 219):
            del out
            gc.collect()
            sizes.append(live_bytes())
    assert sizes[1] - sizes[0] < 2**20
    # one state kept per step would be 25 MiB
    assert 200 * x.numel() * x.element_size() > 20 * 2**20
