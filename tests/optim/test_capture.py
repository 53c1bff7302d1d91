"""Recorded layer uses against row-by-row reverse mode."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sciml.autodiff.estimators import SDGD, Exact, Hutchinson
from sciml.data.collocation import CollocationBatch, CollocationData
from sciml.errors import InvalidArgument
from sciml.modules.sdgd_pinn import SDGDPINN
from sciml.networks.pointwise.mlp import MLP, FourierMLP, ModifiedMLP, ResidualMLP
from sciml.networks.pointwise.pairs import PairNetwork
from sciml.optim.curvature.capture import Capture, affine_layers
from sciml.optim.curvature.jacobian import jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.curvature.uses import mixing_terms
from sciml.physics.problems.biharmonic import Biharmonic
from sciml.physics.problems.evolution_box import Heat
from sciml.physics.problems.hjb import HJBLQG
from sciml.physics.problems.poisson_box import PoissonBox
from sciml.physics.problems.unit_ball import SineGordon

torch.set_num_threads(1)
N = 5


def pinn(problem, network, estimator, inputs=None, **options):
    """Return a float64 module and one batch."""
    torch.manual_seed(0)
    timed = problem.time_dependent
    inputs = inputs or (("x", "t") if timed else ("x",))
    network = network(
        dim=problem.dim if "x" in inputs else 0,
        time="t" in inputs,
        features=len([name for name in inputs if name not in ("x", "t")]),
    )
    module = SDGDPINN(
        problem=problem,
        network=network,
        estimator=estimator,
        optimizer=torch.optim.SGD,
        inputs=inputs,
        **options,
    ).double()
    for p in module.parameters():  # biases that start at zero would hide mistakes
        if p.requires_grad:
            p.data += 0.1 * torch.randn_like(p)
    b = CollocationData(problem=problem, points=N, condition_points=4, seed=5).batch(0, 0, 1)
    conditions = {name: q.to(torch.float64) for name, q in b.conditions.items()}
    return module, CollocationBatch(b.points.to(torch.float64), conditions, b.streams, b.counts)


def naive_jacobian(terms, parameters):
    """Return rows by one reverse pass per residual, scaled as `jacobian_of` scales."""
    rows = []
    for term in terms:
        for c in term.roots() * term.scale**0.5:
            for n in range(len(c)):
                grads = torch.autograd.grad(
                    (term.outputs[n] * c[n]).sum(), parameters, retain_graph=True, allow_unused=True
                )
                pairs = zip(grads, parameters, strict=True)
                rows.append(torch.cat([(0 * p if g is None else g).flatten() for g, p in pairs]))
    return torch.stack(rows)


small = functools.partial(MLP, width=9, depth=4)
CASES = {
    "hjb": lambda: pinn(HJBLQG(dim=6), small, SDGD(num_dims=3)),
    "hjb features": lambda: pinn(HJBLQG(dim=6), small, Exact(), inputs=("t", "terminal")),
    "hjb x and feature": lambda: pinn(
        HJBLQG(dim=6), small, SDGD(num_dims=2, algorithm=2), inputs=("x", "t", "terminal")
    ),
    "hjb sampled gradient": lambda: pinn(
        HJBLQG(dim=6), small, SDGD(num_dims=3), gradient="sampled"
    ),
    "sine-gordon": lambda: pinn(SineGordon(dim=6), small, SDGD(num_dims=3), inputs=("x", "radius")),
    "dense probes": lambda: pinn(SineGordon(dim=6), small, Hutchinson(probes=3)),
    "wide enough to fuse": lambda: pinn(
        SineGordon(dim=6), functools.partial(MLP, width=16, depth=3), SDGD(num_dims=3)
    ),
    "residual network": lambda: pinn(
        SineGordon(dim=6), functools.partial(ResidualMLP, width=8, blocks=2), SDGD(num_dims=3)
    ),
    "gated network": lambda: pinn(
        SineGordon(dim=6), functools.partial(ModifiedMLP, width=8, depth=3), SDGD(num_dims=3)
    ),
    "fourier features": lambda: pinn(
        SineGordon(dim=6),
        functools.partial(FourierMLP, width=8, depth=3, frequencies=5),
        SDGD(num_dims=3),
    ),
    "slope of the residual": lambda: pinn(
        SineGordon(dim=4), small, SDGD(num_dims=2), gradient_enhanced=0.1
    ),
    "fourth order": lambda: pinn(Biharmonic(dim=4), small, Hutchinson(probes=2, law="gaussian")),
    "conditions": lambda: pinn(PoissonBox(dim=2), small, Exact()),
    "heat": lambda: pinn(Heat(dim=3), small, Exact()),
    "shared kernel": lambda: pinn(
        SineGordon(dim=6), functools.partial(MLP, width=9, depth=3, share=2), SDGD(num_dims=3)
    ),
    "pairs": lambda: pinn(SineGordon(dim=6, centred=True), PairNetwork, SDGD(num_dims=3)),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_are_the_gradients_of_the_residuals(name):
    module, batch = CASES[name]()
    parameters = [p for p in module.parameters() if p.requires_grad]
    expected = naive_jacobian(module.loss_terms(batch), parameters)
    layers = affine_layers(module)
    if name == "shared kernel":  # its first weight is used outside its layer's forward
        layers.pop("trial.network.input.x")
    objective = Objective(lambda: module.loss_terms(batch))
    assert not mixing_terms(objective, layers, tolerance=1e-9)
    jacobian = jacobian_of(objective, layers, parameters)
    torch.testing.assert_close(jacobian.dense(), expected, rtol=1e-9, atol=1e-11)
    kernel = expected @ expected.t()
    torch.testing.assert_close(
        jacobian.kernel(), kernel, rtol=1e-9, atol=1e-10 * kernel.abs().max()
    )
    v = [torch.randn_like(p) for p in parameters]
    flat = torch.cat([x.flatten() for x in v])
    torch.testing.assert_close(jacobian.times(v), expected @ flat, rtol=1e-9, atol=1e-10)
    w = torch.randn(len(expected), dtype=torch.float64)
    got = torch.cat([x.flatten() for x in jacobian.transposed_times(w)])
    torch.testing.assert_close(got, expected.t() @ w, rtol=1e-9, atol=1e-10)
    loss = sum(term.loss() for term in module.loss_terms(batch))
    torch.testing.assert_close(
        0.5 * jacobian.residual.square().sum(), loss.detach(), rtol=1e-12, atol=1e-8
    )


def test_loss_and_gradients_are_the_same_while_recording():
    module, batch = CASES["hjb"]()
    parameters = [p for p in module.parameters() if p.requires_grad]

    def gradients():
        loss = sum(term.loss() for term in module.loss_terms(batch))
        return loss, torch.autograd.grad(loss, parameters)

    loss, plain = gradients()
    with Capture(affine_layers(module)):
        again, recorded = gradients()
    torch.testing.assert_close(loss, again, rtol=1e-13, atol=0)
    for a, b in zip(plain, recorded, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


def test_a_weight_used_outside_its_layer_is_found_out():
    module, batch = CASES["shared kernel"]()
    layers = affine_layers(module)
    with pytest.raises(InvalidArgument, match="input.x"):
        mixing_terms(Objective(lambda: module.loss_terms(batch)), layers)


class Convolutions(nn.Module):
    """Convolutions of one to three dimensions with everything they may have."""

    def __init__(self, spatial: int) -> None:
        super().__init__()
        kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[spatial]
        self.first = kind(2, 4, 3, stride=2, padding=1)
        self.second = kind(4, 6, 2, dilation=2, padding="same", groups=2, padding_mode="circular")
        self.third = kind(6, 2, 1, bias=False, groups=2)
        self.last = nn.Linear(2, 3)

    def forward(self, x):
        z = torch.tanh(self.second(torch.tanh(self.first(x))))
        return self.last(self.third(z).flatten(2).mean(2))


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("kind", ["residual", "categorical"])
def test_convolutions_and_logits(spatial, kind):
    torch.manual_seed(1)
    module = Convolutions(spatial).double()
    x = torch.randn(4, 2, *[7, 6, 5][:spatial], dtype=torch.float64)
    target = torch.tensor([0, 2, 1, 1])

    def terms():
        if kind == "residual":
            return [LossTerm("data", module(x) - 1.0, 0.7, 4)]
        return [LossTerm("data", module(x), 0.7, 4, kind, target)]

    parameters = list(module.parameters())
    expected = naive_jacobian(terms(), parameters)
    jacobian = jacobian_of(Objective(terms), affine_layers(module), parameters)
    torch.testing.assert_close(jacobian.dense(), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(jacobian.kernel(), expected @ expected.t(), rtol=1e-10, atol=1e-12)
    gradient = torch.autograd.grad(sum(t.loss() for t in terms()), parameters)
    got = jacobian.transposed_times(jacobian.residual)
    for a, b in zip(gradient, got, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    v = [torch.randn_like(p) for p in parameters]
    flat = torch.cat([z.flatten() for z in v])
    torch.testing.assert_close(jacobian.times(v), expected @ flat, rtol=1e-12, atol=1e-12)


def test_roots_are_square_roots_of_the_hessian_and_draws_have_its_covariance():
    torch.manual_seed(2)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    term = LossTerm("data", logits, 1.0, 3, "categorical", torch.tensor([0, 1, 3]))
    for n in range(3):
        hessian = torch.func.hessian(lambda f, n=n: F.cross_entropy(f, term.target[n]))(
            logits[n].detach()
        )
        root = term.roots()[:, n]
        torch.testing.assert_close(root.t() @ root, hessian, rtol=1e-12, atol=1e-14)
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([term.draw(generator) for _ in range(4000)])
    root = term.roots()
    covariance = torch.einsum("cni,cnj->nij", root, root)
    products = torch.einsum("kni,knj->knij", draws, draws)
    error = products.std(0) / 4000**0.5
    assert ((products.mean(0) - covariance).abs() <= 4 * error + 1e-12).all()


def test_tokens_are_slots():
    torch.manual_seed(3)
    layer = nn.Linear(3, 2).double()
    x = torch.randn(4, 5, 3, dtype=torch.float64)

    def terms():
        return [LossTerm("data", torch.tanh(layer(x)).sum((1, 2)), 1.0, 4)]

    parameters = list(layer.parameters())
    jacobian = jacobian_of(Objective(terms), {"layer": layer}, parameters)
    assert jacobian.blocks[0][2]["layer"].inputs.shape == (5, 4, 4)
    torch.testing.assert_close(
        jacobian.dense(), naive_jacobian(terms(), parameters), rtol=1e-12, atol=1e-11
    )


def test_calls_inside_transforms_leave_no_use_and_are_right():
    layer, x = nn.Linear(3, 2), torch.randn(N, 3)
    with Capture({"layer": layer}) as capture:
        mapped = torch.func.vmap(layer)(x)
        slopes = torch.func.vmap(torch.func.jacrev(layer))(x)
        assert capture.uses == []
        plain = layer(x)
        assert len(capture.uses) == 1
    torch.testing.assert_close(mapped, plain, rtol=1e-6, atol=1e-6)
    assert torch.equal(slopes.detach(), layer.weight.detach().expand(N, 2, 3))
