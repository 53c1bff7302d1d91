"""Equilibrium networks: the bound of their cells, one sample or many, copies, precisions."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.networks.image.deq_cells import ContractionCell, NormalisedCell, convolution_bound
from sciml.networks.image.deq_classifier import DEQ, UnrolledNetwork
from sciml.solvers import (
    GMRES,
    ODE,
    Anderson,
    Backprop,
    Broyden,
    FixedPointIteration,
    ForwardInverse,
    Implicit,
    JacobianFree,
    Newton,
    NewtonKrylov,
    Phantom,
    Reversible,
    ReversibleIteration,
    SharedInverse,
    spectral_norm,
)

SMALL = {"width": 4, "head": 4, "groups": 2, "mean": [0.3], "std": [0.4]}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(kind=DEQ, **options):
    net = kind(**{**SMALL, **options}).double()
    if isinstance(net.cell, NormalisedCell):  # as it starts it is no contraction at this width
        with torch.no_grad():
            net.cell.norm2.weight *= 0.1
    return net


def images(n=5, size=8):
    return torch.rand(n, 1, size, size, dtype=torch.float64)


def dense(weight, size):
    """Return a convolution with zeros around as a matrix."""
    c = weight.shape[1]
    units = torch.eye(c * size * size, dtype=weight.dtype).reshape(-1, c, size, size)
    return F.conv2d(units, weight, padding=1).flatten(1).mT


@pytest.mark.parametrize("size", [3, 4, 7])
@pytest.mark.parametrize("kind", ["random", "constant", "delta"])
def test_the_bound_is_above_the_norm_of_the_dense_operator_and_close(size, kind):
    weight = torch.randn(6, 6, 3, 3, dtype=torch.float64)
    if kind == "constant":  # a blur, whose norm sits at frequency zero
        weight = torch.ones(6, 6, 3, 3, dtype=torch.float64)
    if kind == "delta":
        weight = torch.zeros(6, 6, 3, 3, dtype=torch.float64)
        weight[..., 1, 1] = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    norm = torch.linalg.matrix_norm(dense(weight, size), 2)
    bound = convolution_bound(weight, (size, size))
    assert norm <= bound * (1 + 1e-12)
    # exact for a delta up to the Frobenius norm at the end, 6^(1/32)
    assert bound < {"random": 1.4, "constant": 1.6, "delta": 1.06}[kind] * norm
    tripled = convolution_bound(3.0 * weight, (size, size))
    assert torch.isclose(tripled, 3.0 * bound, rtol=1e-12)


def test_the_bound_survives_extreme_scales_and_has_the_right_gradient():
    weight = torch.randn(4, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: convolution_bound(w, (4, 5)), weight)
    for scale in (1e-12, 1e12):
        w = (scale * weight.detach()).float()
        ratio = convolution_bound(w, (4, 5)) / (scale * convolution_bound(weight, (4, 5)))
        assert abs(ratio - 1) < 1e-5
    zero = torch.zeros(4, 4, 3, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(convolution_bound(zero, (4, 4)).clamp_min(1.0), zero)
    assert (slope == 0).all()


def test_the_contraction_contracts_whatever_the_weights():
    cell = ContractionCell(4, 0.9).double()
    x, z, y = torch.randn(3, 2, 4, 5, 5, dtype=torch.float64)
    for scale in (1.0, 100.0):
        with torch.no_grad():
            cell.w *= scale
            cell.v *= scale
            theta = cell.prepare(x)
            apart = (cell(z, *theta) - cell(y, *theta)).flatten(1).norm(dim=1)
        assert (apart <= 0.9 * (z - y).flatten(1).norm(dim=1)).all()
        assert (spectral_norm(cell, z, theta) <= 0.9).all()


def test_default_size_is_that_of_the_reference_layers():
    count = sum(p.numel() for p in DEQ().parameters())
    assert count == 31146 <= 32000
    normalised = sum(p.numel() for p in DEQ(cell="normalised").parameters())
    assert normalised == 31274
    tied = sum(p.numel() for p in UnrolledNetwork(layers=5).parameters())
    assert tied == count
    assert sum(p.numel() for p in UnrolledNetwork(layers=3, tied=False).parameters()) > count


def test_many_applications_reach_the_equilibrium():
    net = small(solver=Anderson(rtol=1e-12))
    unrolled = small(UnrolledNetwork, layers=80)
    unrolled.load_state_dict(net.state_dict())
    image = images()
    assert (net(image) - unrolled(image)).abs().max() < 1e-6


SOLVERS = [
    FixedPointIteration(rtol=1e-11),
    Anderson(rtol=1e-11),
    Broyden(rtol=1e-11),
    NewtonKrylov(rtol=1e-11),
    Newton(rtol=1e-11),
    ReversibleIteration(rtol=1e-11, max_iter=300),
]


def test_every_solver_and_start_reach_the_same_logits():
    image, net = images(), small()
    logits = []
    for solver in SOLVERS:
        found = net.solve(image, solver=solver, start=torch.randn(5, 4, 4, 4).double())
        assert found.solution.converged.all(), solver
        logits.append(found.logits)
    for other in logits[1:]:
        assert (other - logits[0]).abs().max() < 1e-8


def parameters_gradient(net, image):
    loss = net(image).sin().sum()
    return torch.autograd.grad(loss, list(net.parameters()))


EXACT = [
    (Anderson(rtol=1e-13), Implicit(GMRES(rtol=1e-12))),
    (Broyden(rtol=1e-13, share=True), Implicit(GMRES(rtol=1e-12, preconditioner=ForwardInverse()))),
    (FixedPointIteration(rtol=1e-13, max_iter=500), Backprop()),
]
NEAR = [
    (Anderson(rtol=1e-13), Phantom(8, 0.9)),
    (Anderson(rtol=1e-13), Implicit(JacobianFree())),
    (Broyden(rtol=1e-13, share=True), Implicit(SharedInverse())),
    (ReversibleIteration(rtol=1e-13, max_iter=14), Reversible(tolerance=0.1)),
]


@pytest.mark.parametrize("cell", ["contraction", "normalised"])
@pytest.mark.parametrize("pair", EXACT + NEAR, ids=lambda p: f"{type(p[0]).__name__}-{p[1]}"[:40])
def test_gradients_equal_those_of_a_long_unrolled_network(pair, cell):
    solver, adjoint = pair
    torch.manual_seed(1)
    net = small(solver=solver, adjoint=adjoint, cell=cell, bound=0.5)
    unrolled = small(UnrolledNetwork, layers=100, cell=cell, bound=0.5)
    unrolled.load_state_dict(net.state_dict())
    image = images()
    got, wanted = parameters_gradient(net, image), parameters_gradient(unrolled, image)
    error = torch.cat([(g - v).flatten() for g, v in zip(got, wanted, strict=True)]).norm()
    size = torch.cat([v.flatten() for v in wanted]).norm()
    assert error < (1e-8 if pair in EXACT else 0.2) * size
    for g in got:
        assert g.abs().max() > 0


@pytest.mark.parametrize("cell", ["contraction", "normalised"])
def test_a_sample_does_not_see_its_batch(cell):
    net = small(cell=cell, solver=Anderson(rtol=1e-9)).eval()
    image = images(6)
    image[2] *= 40  # a hard one
    together = net.solve(image)
    for k in range(6):
        alone = net.solve(image[k : k + 1])
        assert (alone.logits - together.logits[k]).abs().max() < 1e-12
        assert alone.solution.iterations == together.solution.iterations[k]


def test_a_bad_image_is_flagged_and_alone_in_it():
    net, image = small(solver=Anderson(rtol=1e-9)), images()
    image[1] = torch.nan
    found = net.solve(image)
    assert found.solution.converged.tolist() == [True, False, True, True, True]
    good = [0, 2, 3, 4]
    assert (found.logits[good] - net.solve(image[good]).logits).abs().max() < 1e-12
    assert found.solution.value[1].isnan().all()  # no answer to what is no number
    out = net.infer(image)
    assert out["converged"].tolist() == [1, 0, 1, 1, 1]
    with pytest.raises(ConvergenceError, match="1 of 5 problems"):
        small(on_failure="raise").solve(image)


def test_used_twice_copied_and_pickled_in_eval_mode():
    net, image = small(solver=Anderson(rtol=1e-13), adjoint=Implicit(GMRES(rtol=1e-12))), images()
    loss = net(image).sum() * net(2 * image).sin().sum()
    wanted = torch.autograd.grad(loss, list(net.parameters()))
    for used in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)).eval()):
        loss = used(image).sum() * used(2 * image).sin().sum()
        got = torch.autograd.grad(loss, list(used.parameters()))
        for g, v in zip(got, wanted, strict=True):
            assert torch.allclose(g, v, rtol=1e-9, atol=1e-12)
    fresh = small(solver=net.solver)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(image), net(image))
    # derivatives in the image, as forces and saliency need them, in eval mode too
    image.requires_grad_()
    (slope,) = torch.autograd.grad(net.eval()(image)[:, 0].sum(), image)
    h = 1e-6 * torch.randn_like(image)
    with torch.no_grad():
        change = (net(image + h) - net(image - h))[:, 0].sum() / 2
    assert abs(change - (slope * h).sum()) < 1e-6 * (slope * h).abs().sum()


def test_second_derivatives_are_right_or_raise():
    image = images(2).requires_grad_()
    once = small(solver=Anderson(rtol=1e-13))
    (slope,) = torch.autograd.grad(once(image).sin().sum(), image, create_graph=True)
    with pytest.raises(InvalidArgument, match="order=2"):
        torch.autograd.grad(slope.square().sum(), image)
    torch.manual_seed(0)
    twice = small(solver=Anderson(rtol=1e-13), adjoint=Implicit(GMRES(rtol=1e-12), order=2))
    unrolled = small(UnrolledNetwork, layers=120)
    unrolled.load_state_dict(twice.state_dict())
    found = []
    for net in (twice, unrolled):
        (slope,) = torch.autograd.grad(net(image).sin().sum(), image, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), list(net.parameters())))
    for g, v in zip(*found, strict=True):
        assert (g - v).abs().max() < 1e-7 * max(1, v.abs().max())


def test_bfloat16_autocast_solves_in_float32():
    net, image = small().float(), images().float()
    plain = net(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net.solve(image)
    assert found.solution.value.dtype == torch.float32 and found.solution.converged.all()
    assert (found.logits.float() - plain).abs().max() < 0.1 * plain.abs().max()
    found.logits.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_compiled_cells_give_the_same():
    net, image = small(solver=Anderson(rtol=1e-12)), images()
    wanted, slopes = net(image), parameters_gradient(net, image)
    compiled = torch.compile(net, backend="eager")
    assert (compiled(image) - wanted).abs().max() < 1e-10
    got = torch.autograd.grad(compiled(image).sin().sum(), list(net.parameters()))
    for g, v in zip(got, slopes, strict=True):
        assert (g - v).abs().max() < 1e-8


def test_dropout_is_constant_inside_a_solve_and_new_in_the_next():
    net, image = small(dropout=0.5, solver=Anderson(rtol=1e-10)), images()
    first, second = net.solve(image), net.solve(image)
    assert first.solution.converged.all()  # a fresh mask per evaluation would never converge
    zero = (first.theta[0] == 0).all(-1).all(-1)
    assert zero.any() and not torch.equal(first.theta[0], second.theta[0])
    generator = torch.Generator().manual_seed(7)
    drawn = [net.solve(image, generator.manual_seed(7)).logits for _ in range(2)]
    assert torch.equal(*drawn)
    net.eval()
    assert torch.equal(net(image), net(image))


@pytest.mark.parametrize(
    "wrong",
    [
        {"cell": "other"},
        {"bound": 1.0},
        {"dropout": 1.0},
        {"groups": 3},
    ],
)
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(InvalidArgument, match=f"network.{next(iter(wrong))}="):
        small(**wrong)
    with pytest.raises(InvalidArgument, match="solver=anderson"):
        small(solver=ODE())
    with pytest.raises(InvalidArgument, match="network.layers=0"):
        small(UnrolledNetwork, layers=0)


def test_cells_are_functions_of_their_arguments():
    for cell in (ContractionCell(4, 0.9), NormalisedCell(4, 0.9, 2)):
        x, z = torch.randn(2, 3, 4, 4, 4)
        theta = cell.prepare(x)
        assert torch.equal(cell(z, *theta), cell(z, *theta)) and theta[0] is x
