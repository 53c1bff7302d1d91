"""M-FAC against the dense formula, and its state."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.optim.low_rank.mfac import MFAC

torch.set_num_threads(1)
SHAPES = [(3, 4), (4,), (2, 2, 2)]


def parameters(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, generator=g, dtype=dtype)) for s in SHAPES]


def gradients(steps, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    return [[torch.randn(s, generator=g, dtype=dtype) for s in SHAPES] for _ in range(steps)]


def feed(optimizer, params, sequence):
    for grads in sequence:
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return torch.cat([torch.view_as_real(p).flatten() if p.is_complex() else p.detach().flatten()
                      for p in params])  # fmt: skip


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_equals_the_dense_formula(momentum, relative):
    params, m, damping, lr, decay = parameters(), 4, 1e-2, 0.1, 0.3
    theta = torch.cat([p.detach().flatten() for p in params])
    sequence = gradients(9)
    flat = [torch.cat([g.flatten() for g in grads]) for grads in sequence]
    velocity = torch.zeros_like(theta)
    for k, g in enumerate(flat):
        kept = torch.stack(flat[max(0, k - m + 1) : k + 1])
        shift = damping * (kept.square().sum(1).mean() / m if relative else 1.0)
        fisher = shift * torch.eye(len(g), dtype=g.dtype) + kept.t() @ kept / m
        velocity = momentum * velocity + torch.linalg.solve(fisher, g)
        theta = theta * (1 - lr * decay) - lr * velocity
    optimizer = MFAC(
        params,
        lr=lr,
        momentum=momentum,
        weight_decay=decay,
        history=m,
        damping=damping,
        relative=relative,
    )
    found = feed(optimizer, params, sequence)
    assert (found - theta).norm() < 1e-10 * theta.norm()


def test_complex_parameters_are_pairs_of_real_ones():
    z = torch.nn.Parameter(torch.zeros(5, dtype=torch.complex128))
    x = torch.nn.Parameter(torch.zeros(5, 2, dtype=torch.float64))
    g = torch.randn(6, 5, dtype=torch.complex128)
    options = {"lr": 0.1, "history": 3}
    one = feed(MFAC([z], **options), [z], [[v] for v in g])
    two = feed(MFAC([x], **options), [x], [[torch.view_as_real(v)] for v in g])
    assert torch.allclose(one, two.detach(), rtol=1e-13)


def test_parameters_without_gradient_stay():
    params = parameters()
    optimizer = MFAC(params, lr=0.1, history=3)
    feed(optimizer, params, gradients(2))
    before = params[1].detach().clone()
    params[0].grad, params[1].grad, params[2].grad = *gradients(1)[0][:1], None, None
    optimizer.step()
    assert torch.equal(params[1], before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("history_dtype", [None, "bfloat16"])
def test_state_restores_exactly(tmp_path, dtype, history_dtype):
    options = {"lr": 0.05, "history": 6, "history_dtype": history_dtype}
    sequence = gradients(20, dtype)
    params = parameters(dtype)
    wanted = feed(MFAC(params, **options), params, sequence)
    params = parameters(dtype)
    optimizer = MFAC(params, **options)
    feed(optimizer, params, sequence[:13])
    torch.save((optimizer.state_dict(), params), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)[0]
    again = [torch.nn.Parameter(p.detach().clone()) for p in params]
    optimizer = MFAC(again, **options)
    optimizer.load_state_dict(state)
    assert optimizer.memory["gram"].dtype == torch.float64
    assert torch.equal(feed(optimizer, again, sequence[13:]), wanted)
    held = [v for s in optimizer.state.values() for v in s.values()] + [optimizer.memory["gram"]]
    assert optimizer.bytes_needed() == sum(t.numel() * t.element_size() for t in held)


def test_too_long_a_history_is_refused_with_its_size():
    params = [torch.nn.Parameter(torch.zeros(1 << 20))]
    with pytest.raises(InvalidArgument, match=r"needs 2 GiB.*memory_limit=0.5.*history=128"):
        MFAC(params, history=512, memory_limit=0.5)
    MFAC(params, history=128, memory_limit=0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"history": 0}, "optimizer.history=0"),
        ({"damping": 0.0}, "optimizer.damping=0.0"),
        ({"momentum": 1.0}, "optimizer.momentum=1.0"),
        ({"history_dtype": "int8"}, "history_dtype=int8"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(InvalidArgument, match=words):
        MFAC(parameters(), **options)


def test_state_of_another_optimizer_is_refused():
    params = parameters()
    with pytest.raises(InvalidArgument, match="another optimizer"):
        MFAC(params).load_state_dict(torch.optim.SGD(params, lr=0.1).state_dict())
