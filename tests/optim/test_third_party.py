"""Optimizers of pytorch_optimizer as our configs use them: formulas and restored states."""

import copy
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from sciml.cli.targets import preflight, resolving
from sciml.optim.construct import construct

pytest.importorskip("pytorch_optimizer")
torch.set_num_threads(1)
CONFIGS = Path(__file__).parents[2] / "configs" / "optimizer"
NAMES = ["soap", "muon", "lion", "adan", "diffgrad", "shampoo"]
SEQUENCE = [0.3, -1.2, 0.7, 0.7, 0.0, 2.5, -0.1, 1e-4, -3.0, 0.9]


def settings(name):
    return OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))


def make(name, **changes):
    config = settings(name) | changes
    return partial(resolving.resolve(config.pop("_target_")), **config)


# --- formulas, one number at a time ---------------------------------------------------------------
def adan(theta, gradients, lr, betas, eps, decay):
    m = v = n = 0.0
    old = gradients[0]
    b1, b2, b3 = betas
    for t, g in enumerate(gradients, 1):
        d, old = g - old, g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * d
        n = b3 * n + (1 - b3) * (g + b2 * d) ** 2
        top = m / (1 - b1**t) + b2 * v / (1 - b2**t)
        u = top / (math.sqrt(n / (1 - b3**t)) + eps)
        theta = (theta - lr * u) / (1 + lr * decay)
    return theta


def lion(theta, gradients, lr, betas, eps, decay):
    m = 0.0
    for g in gradients:
        c = betas[0] * m + (1 - betas[0]) * g
        theta -= lr * ((c > 0) - (c < 0) + decay * theta)
        m = betas[1] * m + (1 - betas[1]) * g
    return theta


def diffgrad(theta, gradients, lr, betas, eps, decay):
    m = v = old = 0.0
    b1, b2 = betas
    for t, g in enumerate(gradients, 1):
        friction, old = 1 / (1 + math.exp(-abs(old - g))), g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        theta *= 1 - lr * decay
        # this library adds eps to the root before the bias correction, the paper after it
        root = (math.sqrt(v) + eps) / math.sqrt(1 - b2**t)
        theta -= lr * friction * m / (1 - b1**t) / root
    return theta


@pytest.mark.parametrize("reference", [adan, lion, diffgrad])
@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_formula(reference, foreach, decay):
    config = settings(reference.__name__)
    p = torch.nn.Parameter(torch.tensor([0.8], dtype=torch.float64))
    optimizer = make(reference.__name__, weight_decay=decay, lr=0.1, foreach=foreach)([p])
    for g in SEQUENCE:
        p.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
    wanted = reference(0.8, SEQUENCE, 0.1, config["betas"], config.get("eps", 0.0), decay)
    assert abs(p.item() - wanted) < 1e-12


# --- through our construction ---------------------------------------------------------------------
def net_and_batch():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    return net, torch.randn(16, 3)


def train(net, optimizer, x, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (net(x) - x.sin()[:, :2]).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("name", NAMES)
def test_config_trains_and_restores_exactly(tmp_path, name):
    net, x = net_and_batch()
    optimizer = construct(make(name), net)
    first = train(net, optimizer, x, 13)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    again = copy.deepcopy(net)
    last = train(net, optimizer, x, 7)
    assert last < first
    optimizer = construct(make(name), again)
    optimizer.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert train(again, optimizer, x, 7) == last
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_schedule_reaches_every_group(name):
    net, x = net_and_batch()
    optimizer = construct(make(name), net)
    before = [p.detach().clone() for p in net.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(net, optimizer, x, 2)
    for a, b in zip(net.parameters(), before, strict=True):
        assert torch.equal(a, b)


def test_our_galore_treats_complex_matrices_itself():
    net = torch.nn.ParameterDict({"spectral": torch.zeros(6, 5, dtype=torch.complex64)})
    optimizer = construct(make("galore", rank=2), net)
    assert optimizer.param_groups[0]["params"] == [net["spectral"]]


@pytest.mark.parametrize("name", [*NAMES, "galore", "natural_galore", "mfac"])
def test_config_passes_preflight(name):
    assert preflight.check({"optimizer": settings(name)}) == []
