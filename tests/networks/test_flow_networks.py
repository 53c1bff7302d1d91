"""HomoODE, Neural ODEs and the explicit block: sizes, gradients, starts, masks, equilibria."""

import copy
import pickle

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.image.flow_classifier import ExplicitNetwork, NeuralODE
from sciml.networks.image.flow_start import AlternatingStart, LearnedStart
from sciml.networks.image.homoode_classifier import HomoODE
from sciml.solvers import ODE, Anderson, HomotopyPath, ResidualFlow

torch.set_num_threads(1)
SMALL = {"width": 4, "head": 4, "groups": 2}
RK4 = ODE("rk4", steps=2)


def count(network):
    return sum(p.numel() for p in network.parameters())


def images(n=3, size=8, **kind):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(3), **kind)


def make(cls=HomoODE, **options):
    torch.manual_seed(0)
    network = cls(**{**SMALL, "solver": RK4, **options}).double()
    if isinstance(getattr(network, "start", None), LearnedStart):
        network.start.shift += 0.1
    return network


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 31_274),
        ({"in_channels": 3, "image_size": 32, "width": 64, "head": 256}, 132_938),
        (
            {"in_channels": 3, "image_size": 32, "classes": 100, "width": 128, "head": 512},
            565_988,
        ),
        (
            {"in_channels": 3, "image_size": 64, "classes": 200, "width": 128, "head": 512}
            | {"stride": 2},
            617_288,
        ),
    ],
)
def test_published_sizes(options, size):
    """Digits, CIFAR-10, CIFAR-100, Tiny-ImageNet; the start's 3 C numbers are not among them."""
    network = HomoODE(**options)
    assert count(network) == size
    channels = options.get("width", 32)
    assert sum(b.numel() for b in network.start.buffers()) == 3 * channels
    assert count(NeuralODE(**options)) == count(ExplicitNetwork(**options)) == size


# --- gradients ----------------------------------------------------------------------------------
def gradients(network, **options):
    image = images(1, dtype=torch.float64).requires_grad_()
    x = network.encoder(image)
    wanted = [*network.field.parameters(), *network.encoder.parameters(), image]
    if isinstance(network, HomoODE):
        z0 = network.initial(x).detach().requires_grad_()
        network.initial = lambda x: z0
        wanted.append(z0)
    loss = network.solve(x, None, **options).value.square().sum()
    network.__dict__.pop("initial", None)
    return torch.autograd.grad(loss, wanted)


@pytest.mark.parametrize("cls", [HomoODE, NeuralODE])
@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint"])
def test_adjoint_and_checkpoint_are_backpropagation(cls, gradient):
    """Of the field's weights, the encoder's (through x), the image and z_0, with a smooth field."""
    tight = ODE(rtol=1e-9, atol=1e-9)
    network = make(cls, activation="silu", solver=tight).eval()
    wanted = gradients(network)
    network.gradient = gradient
    for found, exact in zip(gradients(network), wanted, strict=True):
        assert float((found - exact).norm()) <= 1e-6 * float(exact.norm() + 1e-12 * len(wanted))


def test_eval_mode_differentiates_the_image():
    network = make(activation="silu").eval()
    image = images(2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(network, image, atol=1e-6)


def test_memory_of_the_adjoint_does_not_grow_with_the_steps():
    def kept(gradient, steps):
        network = make(gradient=gradient, solver=ODE("rk4", steps=steps))
        sizes = {}

        def pack(t):
            alive.append(t)
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        alive = []
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            network(images(dtype=torch.float64))
        return sum(sizes.values())

    assert kept("adjoint", 50) == kept("adjoint", 5)
    assert kept("checkpoint", 20) < 0.3 * kept("backprop", 20)


# --- the start ----------------------------------------------------------------------------------
def test_all_images_start_alike_and_the_loss_does_not_reach_the_start():
    for start in ("learned", "alternating", "zeros"):
        network = make(start=start)
        z0 = network.initial(torch.randn(5, 4, 3, 3))
        assert torch.equal(z0, z0[:1, :, :1, :1].expand_as(z0))
        assert not z0.requires_grad
    assert AlternatingStart(4)().tolist() == [1, -1, 1, -1]
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(make(NeuralODE).initial(x), x)


def test_slopes_of_the_start_against_differences():
    torch.manual_seed(0)
    start = LearnedStart(6).double()
    start.gain.uniform_(0.5, 1.5)
    ends = 2 * torch.randn(4, 6, 2, 2, dtype=torch.float64)
    loss, slopes = start.slopes(ends)

    def value():
        shape = start()[:, None, None].expand_as(ends)
        gap = (shape - ends).abs()
        return torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean()

    assert float(loss) == pytest.approx(float(value()))
    for row, name in enumerate(("weight", "gain", "shift")):
        for k in range(6):
            at = getattr(start, name)
            at[k] += 1e-6
            up = value()
            at[k] -= 2e-6
            down = value()
            at[k] += 1e-6
            assert float(slopes[row, k]) == pytest.approx(float((up - down) / 2e-6), abs=1e-7)
    before = start.weight.clone()
    start.descend(slopes, 0.1)
    assert torch.allclose(start.weight, before - 0.1 * slopes[0], rtol=1e-12, atol=1e-12)
    for _ in range(50):
        start.descend(start.slopes(ends)[1], 0.5)
    assert float(value()) < float(loss)


def test_augmented_state():
    network = make(NeuralODE, augment=2)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    z0 = network.initial(x)
    assert torch.equal(z0[:, :4], x) and z0.shape == (2, 6, 3, 3) and not z0[:, 4:].any()
    assert network.solve(x, None).value.shape == z0.shape
    assert network(images(dtype=torch.float64)).shape == (3, 10)


def test_explicit_block_is_one_euler_step():
    network = make(ExplicitNetwork).eval()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    assert torch.allclose(
        network.solve(x, None).value, x + network.field(x), rtol=1e-12, atol=1e-11
    )
    euler = make(NeuralODE, solver=ODE("euler", steps=1)).eval()
    image = images(dtype=torch.float64)
    assert torch.allclose(network(image), euler(image), rtol=1e-12, atol=1e-12)


# --- dropout ------------------------------------------------------------------------------------
def test_mask_is_frozen_in_a_solve_and_fresh_in_the_next():
    network = make(dropout=0.5).train()
    seen = []
    velocity = network.velocity

    def spy(t, z, x, mask):
        seen.append(mask)
        return velocity(t, z, x, mask)

    network.velocity = spy
    image = images(dtype=torch.float64)
    network(image)
    first = seen[0]
    assert len(seen) == 8 and all(mask is first for mask in seen)
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(first[0], first[1])
    seen.clear()
    network(image)
    assert not torch.equal(seen[0], first)
    one, two = (network.flow(image, torch.Generator().manual_seed(4)).logits for _ in range(2))
    assert torch.equal(one, two)
    network.eval()
    seen.clear()
    network(image)
    assert seen[0] is None


# --- fields with an equilibrium -----------------------------------------------------------------
def test_three_ways_to_the_same_equilibrium():
    """Residual flow, homotopy and Anderson: same state, same gradient."""
    found = []
    for kind, solver in (
        ("residual", ODE("rk4", steps=2)),
        ("homotopy", ODE("rk4", steps=2)),
        ("residual", Anderson(rtol=1e-9)),
        ("residual", ResidualFlow(ODE("heun2", steps=2), horizon=80, rtol=1e-8)),
        ("homotopy", HomotopyPath(ODE("rk4", steps=1), "newton")),
    ):
        # little of z in f: all five converge fast
        network = make(kind=kind, solver=solver, tolerance=1e-6, activation="silu").eval()
        network.field.norm1.weight.data.fill_(0.1)
        flow = network.flow(images(dtype=torch.float64))
        assert float(network.equilibrium_residual(flow).max()) < 1e-6
        loss = flow.logits.square().sum()
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        found.append([flow.solution.value.detach(), *slopes])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            assert torch.allclose(a, b, atol=1e-5 * float(b.abs().max() + 1), rtol=1e-5)


def test_residual_is_reported_relative_to_the_map():
    network = make(kind="residual", gradient="backprop", solver=RK4).eval()
    flow = network.flow(images(dtype=torch.float64))
    z = flow.solution.value
    f = 0.9 * torch.tanh(network.field(z, flow.x))
    wanted = (f - z).flatten(1).norm(dim=1) / f.flatten(1).norm(dim=1)
    assert torch.allclose(network.equilibrium_residual(flow), wanted, rtol=1e-12, atol=1e-12)
    learned = make().eval()
    flow = learned.flow(images(dtype=torch.float64))
    z = flow.solution.value
    wanted = learned.field(z, flow.x).flatten(1).norm(dim=1) / z.flatten(1).norm(dim=1)
    assert torch.allclose(learned.equilibrium_residual(flow), wanted, rtol=1e-12, atol=1e-12)
    assert float(wanted.detach().min()) > 0.1  # the end of a learned flow is no rest point


# --- batches, copies, precision -----------------------------------------------------------------
def test_an_image_does_not_see_its_neighbours():
    network = make().eval()
    image = images(5, dtype=torch.float64)
    together = network(image)
    for i in range(5):
        assert torch.allclose(network(image[i : i + 1])[0], together[i], rtol=0, atol=1e-12)


def test_statistics_are_part_of_the_network():
    network = make(mean=[0.25], std=[0.5]).eval()
    plain = make().eval()
    image = images(dtype=torch.float64)
    assert torch.allclose(network(image), plain((image - 0.25) / 0.5), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cls", [HomoODE, NeuralODE, ExplicitNetwork])
def test_copies_and_half_precision(cls):
    network = make(cls).float()
    image = images()
    network(image).sum().backward()
    network.eval()
    wanted = network(image)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(image), wanted)
    fresh = make(cls).float().eval()
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(image), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(image)
    assert float((half.float() - wanted).abs().max()) < 0.1 * float(wanted.abs().max())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient": "adjoint"},
        {"gradient": "checkpoint"},
        {"solver": ODE("rk4")},
        {"kind": "residual"},
        {"kind": "residual", "gradient": "backprop"},
        {"kind": "homotopy"},
    ],
    ids=str,
)
def test_no_images_give_no_logits(options):
    network = make(norm="group", **options)
    logits = network(images(0))
    assert logits.shape == (0, 10)
    logits.sum().backward()
    assert all(not bool(p.grad.any()) for p in network.parameters() if p.grad is not None)
    assert {v.shape[0] for v in network.infer(images(0)).values()} == {0}


def test_what_is_inferred():
    network = make(kind="residual").eval()
    found = network.infer(images(dtype=torch.float64))
    assert set(found) == set(network.schema()["outputs"]) == {"value", "residual", "converged"}
    assert found["residual"].shape == found["converged"].shape == (3,)
    assert found["converged"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("cls", "options", "said"),
    [
        (HomoODE, {"kind": "learned", "gradient": "ift"}, "network.kind=residual"),
        (HomoODE, {"kind": "homotopy", "gradient": "backprop"}, "ift"),
        (HomoODE, {"solver": Anderson()}, "solver=rk4"),
        (HomoODE, {"kind": "exact"}, "'learned', 'residual', 'homotopy'"),
        (HomoODE, {"start": "random"}, "alternating"),
        (NeuralODE, {"solver": Anderson()}, "solver=rk4"),
        (NeuralODE, {"gradient": "reverse"}, "backprop, checkpoint, adjoint"),
        (NeuralODE, {"gradient": "checkpoint", "solver": ODE("dopri8")}, "dopri5"),
        (NeuralODE, {"activation": "rely"}, "relu"),
        (NeuralODE, {"groups": 3}, "divisor"),
        (NeuralODE, {"norm": "layer"}, "'batch', 'group'"),
        (NeuralODE, {"dropout": 1.0}, "below 1"),
    ],
)
def test_what_does_not_fit_is_refused(cls, options, said):
    with pytest.raises(InvalidArgument, match=said):
        cls(**{**SMALL, **options})
