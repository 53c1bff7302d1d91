"""AdamW of complex weights against the library's class, its formula and the turn of all phases."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.optim import ComplexAdamW


def weights(dtype=torch.float64):
    """Return a complex and a real parameter."""
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(4, generator=draw, dtype=dtype)
    pairs = torch.randn(3, 2, 2, generator=draw, dtype=dtype)
    return [torch.nn.Parameter(torch.view_as_complex(pairs)), torch.nn.Parameter(real)]


def gradients(k, of):
    """Return the gradients of step k, of very different sizes."""
    draw = torch.Generator().manual_seed(100 + k)
    return [torch.randn(p.shape, generator=draw, dtype=p.dtype) * 10.0 ** (-2 * i)
            for i, p in enumerate(of)]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_the_library_s(dtype, decay):
    neuralop = pytest.importorskip("neuralop.training.adamw")
    options = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": decay}
    ours, theirs = weights(dtype), weights(dtype)
    optimizers = ComplexAdamW(ours, **options), neuralop.AdamW(theirs, **options)
    for k in range(20):
        for optimizer, of in zip(optimizers, (ours, theirs), strict=True):
            for p, g in zip(of, gradients(k, of), strict=True):
                p.grad = None if k < 5 and not p.is_complex() else g  # begins later
            optimizer.step()
    for p, q in zip(ours, theirs, strict=True):
        close = 3e-6 if dtype == torch.float32 else 1e-14
        torch.testing.assert_close(p, q, rtol=close, atol=close)


def test_the_first_step_is_that_of_the_formula():
    p, lr, eps = weights()[0], 0.1, 0.5
    start = p.detach().clone()
    (p.grad,) = gradients(0, [p])
    ComplexAdamW([p], lr=lr, eps=eps, weight_decay=0.2).step()
    g = p.grad
    v = 1e-3 * (g.real**2 + g.imag**2)
    moved = start - lr * math.sqrt(1e-3) / 0.1 * (0.1 * g) / (v.sqrt() + eps)
    torch.testing.assert_close(p.detach(), moved * (1 - lr * 0.2), rtol=1e-12, atol=0)


def test_turned_gradients_turn_the_steps():
    turn = torch.tensor(complex(math.cos(0.7), math.sin(0.7)), dtype=torch.complex128)
    plain, turned = (torch.nn.Parameter(torch.zeros(5, dtype=torch.complex128)) for _ in range(2))
    one, other = ComplexAdamW([plain]), ComplexAdamW([turned])
    pair = torch.nn.Parameter(torch.zeros(5, dtype=torch.complex128))
    of_torch = torch.optim.AdamW([pair], weight_decay=0.0)
    for k in range(10):
        (g,) = gradients(k, [plain])
        plain.grad, turned.grad, pair.grad = g, turn * g, turn * g
        for optimizer in (one, other, of_torch):
            optimizer.step()
    torch.testing.assert_close(turned.detach(), turn * plain.detach(), rtol=1e-12, atol=1e-15)
    assert float((pair.detach() - turn * plain).abs().max() / plain.abs().max()) > 0.1


def test_a_state_comes_back_bit_for_bit():
    ours, again = weights(torch.float32), weights(torch.float32)
    optimizer, other = ComplexAdamW(ours, lr=0.1), ComplexAdamW(again, lr=0.1)
    for k in range(6):
        if k == 3:
            for p, q in zip(ours, again, strict=True):
                q.data.copy_(p.data)
            other.load_state_dict(optimizer.state_dict())
        for step, of in ((optimizer, ours), *([(other, again)] if k >= 3 else [])):
            for p, g in zip(of, gradients(k, of), strict=True):
                p.grad = g
            step.step()
    assert all(torch.equal(p, q) for p, q in zip(ours, again, strict=True))


@pytest.mark.parametrize(
    ("options", "error"),
    [({"lr": 0.0}, InvalidArgument), ({"eps": 0}, InvalidArgument), ({"lr": "a"}, InvalidType),
     ({"betas": (0.9, 1.0)}, InvalidArgument), ({"weight_decay": -1.0}, InvalidArgument)],
)  # fmt: skip
def test_what_cannot_be_is_refused(options, error):
    with pytest.raises(error):
        ComplexAdamW(weights(), **options)
