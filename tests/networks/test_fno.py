"""Fourier layers and operators against FFTs, neuraloperator, dense norms and other solvers."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from sciml.errors import InvalidArgument
from sciml.networks.spectral.fourier_equilibrium import FNODEQ, SLOPE, stretched
from sciml.networks.spectral.fourier_layer import FourierLayer, clipping
from sciml.networks.spectral.square_fno import FNO, Pointwise
from sciml.solvers import GMRES, Anderson, Broyden, FixedPointIteration, Implicit, NewtonKrylov


def seeded(seed=0):
    torch.manual_seed(seed)


def layer(channels=3, modes=2, **options):
    seeded()
    made = FourierLayer(channels, modes, **options).double()
    for weight in made.parameters():  # far from the start, where the kernel is smooth and real
        torch.nn.init.normal_(weight, std=0.5 * options.get("scale", 1.0))
    return made


def by_fft(made, z):
    """The layer's formula with FFTs and complex weights."""
    c, m = made.channels, made.modes
    n1, n2 = z.shape[-2:]
    weight = torch.view_as_complex(made.waves).reshape(2 * m, m, c, c) / c**0.5
    spectrum = torch.fft.rfft2(z)
    out = torch.zeros_like(spectrum)
    for i in range(2 * m):
        k1 = i if i < m else i - 2 * m
        for k2 in range(m):
            out[:, :, k1, k2] = torch.einsum("oi,ni->no", weight[i, k2], spectrum[:, :, k1, k2])
    mixed = torch.einsum("oi,nixy->noxy", made.mix / c**0.5, z)
    return mixed + made.bias[:, None, None] + torch.fft.irfft2(out, s=(n1, n2))


class TestFourierLayer:
    @pytest.mark.parametrize("shape", [(4, 4), (9, 7), (16, 12)])
    def test_is_the_formula_with_ffts(self, shape):
        made = layer()
        z = torch.randn(2, 3, *shape, dtype=torch.float64)
        assert torch.allclose(made(z), by_fft(made, z), atol=1e-12, rtol=1e-12)

    def test_is_the_spectral_convolution_of_neuraloperator(self):
        spectral = pytest.importorskip("neuralop.layers.spectral_convolution")
        made = layer(channels=3, modes=4)
        other = spectral.SpectralConv(3, 3, (8, 7), bias=False).double()  # 7: four of rfft's
        with torch.no_grad():
            made.mix.zero_()
            made.bias.zero_()
            weight = torch.view_as_complex(made.waves).reshape(8, 4, 3, 3) / 3**0.5
            # theirs are ordered from the most negative frequency, indices (in, out, k1, k2)
            theirs = torch.fft.fftshift(weight, dim=0).permute(3, 2, 0, 1)
            other.weight.tensor = torch.nn.Parameter(theirs.clone())
        z = torch.randn(2, 3, 16, 16, dtype=torch.float64)
        assert torch.allclose(
            made(z), other(z).double(), atol=1e-5, rtol=1e-5
        )  # theirs in single precision

    def test_a_finer_grid_carries_the_same_operator(self):
        made = layer()
        z = by_fft(made, torch.randn(1, 3, 8, 8, dtype=torch.float64))
        spectrum = torch.fft.rfft2(z, norm="forward")
        spectrum[:, :, 4], spectrum[:, :, :, 4] = 0, 0  # the coarse grid's Nyquist lines
        low = torch.zeros(1, 3, 16, 9, dtype=spectrum.dtype)
        low[:, :, :4, :5], low[:, :, -3:, :5] = spectrum[:, :, :4], spectrum[:, :, -3:]
        z = torch.fft.irfft2(spectrum, s=(8, 8), norm="forward")
        fine = torch.fft.irfft2(low, s=(16, 16), norm="forward")
        assert torch.allclose(made(fine)[:, :, ::2, ::2], made(z), atol=1e-11, rtol=1e-12)

    def test_a_grid_without_the_modes_is_refused(self):
        with pytest.raises(InvalidArgument, match="network.modes=2"):
            layer()(torch.zeros(1, 3, 3, 8, dtype=torch.float64))

    def test_training_goes_on_after_inference_mode(self):
        made = layer()
        z = torch.randn(1, 3, 8, 8, dtype=torch.float64)
        with torch.inference_mode():
            first = made(z)
        made(z.requires_grad_()).sum().backward()
        assert z.grad.isfinite().all()
        assert torch.equal(made(z.detach()).detach(), first.clone())

    def test_starts_as_a_short_smooth_kernel(self):
        seeded()
        made = FourierLayer(3, 8).double()
        with torch.no_grad():
            made.mix.zero_()
        impulse = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
        impulse[:, 0, 16, 16] = 1.0
        answer = made(impulse)[0].abs()
        assert answer[:, 0].max() < 0.02 * answer[:, 16, 16].max()
        # one kernel, a number per pair of channels
        sizes = torch.linalg.svdvals(answer.flatten(1))
        assert sizes[1] < 1e-6 * sizes[0]

    @pytest.mark.parametrize("scale", [0.01, 3.0])
    def test_norm_stays_below_the_bound(self, scale):
        made = layer(channels=2, modes=2, scale=scale, bound=0.7)
        with torch.no_grad():
            made.bias.zero_()
        unit = torch.eye(2 * 36, dtype=torch.float64).reshape(72, 2, 6, 6)
        dense = made(unit).reshape(72, 72)
        norm = torch.linalg.matrix_norm(dense, 2).item()
        assert norm <= 0.7 + 1e-12
        free = copy.deepcopy(made)
        free.bound = None
        if scale < 1:  # nothing to clip
            assert torch.allclose(made(unit), free(unit), rtol=1e-12, atol=1e-14)
        else:
            assert norm > 0.7 / 4 ** (1 / 32) * 0.9
            assert torch.linalg.matrix_norm(free(unit).reshape(72, 72), 2) > 0.7

    def test_clipping_brings_norms_to_the_bound(self):
        m = torch.randn(20, 5, 5, dtype=torch.float64) * 3
        norms = torch.linalg.matrix_norm(m * clipping(m, 0.5), 2)
        assert (norms <= 0.5 + 1e-12).all()
        assert (norms > 0.5 / 5 ** (1 / 32) - 1e-9).all()
        small = m / torch.linalg.matrix_norm(m, 2, keepdim=True) * 0.4
        assert torch.equal(clipping(small, 0.5), torch.ones(20, 1, 1, dtype=torch.float64))
        zero = torch.zeros(1, 4, 4, requires_grad=True)
        clipping(zero, 0.5).sum().backward()
        assert zero.grad.isfinite().all()

    def test_pointwise_is_a_convolution_of_size_one(self):
        seeded()
        made, z = Pointwise(3, 5), torch.randn(2, 3, 4, 6)
        assert torch.allclose(
            made(z), F.conv2d(z, made.weight[..., None, None], made.bias), atol=1e-6, rtol=1e-6
        )

    def test_gelu_has_the_slope_claimed(self):
        x = torch.linspace(-6, 6, 200_001, dtype=torch.float64, requires_grad=True)
        slope = torch.autograd.grad(F.gelu(x).sum(), x)[0]
        assert slope.abs().max().item() == pytest.approx(SLOPE, abs=1e-4)
        assert slope.abs().max().item() <= SLOPE


def equilibrium(contraction=0.9, **options):
    seeded(1)
    options = {"solver": Anderson(rtol=1e-12, max_iter=300), **options}
    net = FNODEQ(width=4, hidden=8, modes=2, contraction=contraction, **options).double()
    with torch.no_grad():  # far from the initial state, where the bound matters
        for p in net.parameters():
            p.mul_(3)
    return net


def fields(count=3, n=8, seed=2):
    return torch.randn(count, 1, n, n, generator=torch.Generator().manual_seed(seed)).double()


class TestFNODEQ:
    def test_state_is_an_equilibrium_by_the_written_formula(self):
        net, a = equilibrium(), fields()
        u, solution = net.solve(a)
        g = net.lift((a - net.mean) / net.std)
        z = solution.value
        assert torch.allclose(z, g + F.gelu(net.layer(z)), atol=1e-9, rtol=1e-11)
        assert torch.allclose(u, net.decode(z), rtol=1e-12, atol=1e-10)

    @pytest.mark.parametrize(
        "solver",
        [
            FixedPointIteration(rtol=1e-12, max_iter=2000),
            Broyden(rtol=1e-12, max_iter=300),
            NewtonKrylov(rtol=1e-12),
        ],
        ids=lambda s: type(s).__name__,
    )
    def test_a_contraction_has_one_equilibrium_that_every_solver_finds(self, solver):
        net, a = equilibrium(), fields()
        reference, _ = net.solve(a)
        other, solution = net.solve(a, solver)
        assert solution.converged.all()
        assert torch.allclose(other, reference, atol=1e-8, rtol=1e-10)

    def test_gradient_is_that_of_the_recorded_iteration(self):
        net, a = equilibrium(adjoint=Implicit(GMRES(rtol=1e-12))), fields(2)
        a.requires_grad_()
        weight = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3)).double()
        inputs = [a, *net.parameters()]
        implicit = torch.autograd.grad((net(a) * weight).sum(), inputs)
        g = net.lifted(a)
        kernel = net.layer.kernel()
        z = torch.zeros_like(g)
        for _ in range(400):
            z = net.map(z, g, *kernel)
        unrolled = torch.autograd.grad((net.decoded(z) * weight).sum(), inputs)
        for x, y in zip(implicit, unrolled, strict=True):
            assert torch.allclose(x, y, rtol=1e-7, atol=1e-9 * float(y.abs().max()))

    def test_samples_do_not_see_each_other(self):
        net, a = equilibrium().eval(), fields(3)
        a[1] *= 50
        together, found = net.solve(a)
        for i in range(3):
            alone, one = net.solve(a[i : i + 1])
            assert torch.allclose(alone[0], together[i], atol=1e-12, rtol=1e-12)
            assert int(one.iterations[0]) == int(found.iterations[i])

    def test_a_bad_sample_is_flagged_and_leaves_the_others_alone(self):
        net, a = equilibrium().eval(), fields(3)
        clean = net.infer(a)
        a[1] = torch.nan
        found = net.infer(a)
        assert found["converged"].tolist() == [True, False, True]
        assert torch.equal(found["value"][::2], clean["value"][::2])

    def test_more_time_is_given_outside_training(self):
        net = equilibrium(solver=Anderson(rtol=1e-4, max_iter=5, window=3), patience=20)
        a = fields()
        few = net.train().solve(a)[1]
        many = net.eval().solve(a)[1]
        assert int(few.iterations.max()) <= 5 < int(many.iterations.max()) <= 100
        assert many.residual.max() < few.residual.max()

    def test_copies_and_pickles_give_the_same(self):
        net, a = equilibrium().eval(), fields()
        with torch.no_grad():
            expected = net(a)
            for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
                assert torch.equal(other(a), expected)
            fresh = equilibrium()
            fresh.load_state_dict(net.state_dict())
            assert torch.equal(fresh.eval()(a), expected)

    def test_memory_of_the_backward_pass_does_not_grow_with_the_iterations(self):
        def saved(iterations):
            # a map that does not settle: the budget is used up
            net, total = equilibrium(solver=Anderson(rtol=1e-15, max_iter=iterations)), [0]

            def pack(t):
                total[0] += t.numel()
                return t

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                net(fields())
            return total[0]

        assert saved(4) == saved(12)

    def test_wrong_settings_are_refused(self):
        with pytest.raises(InvalidArgument, match="contraction=0"):
            FNODEQ(contraction=0.0)
        with pytest.raises(InvalidArgument, match="patience"):
            FNODEQ(patience=0.5)
        with pytest.raises(InvalidArgument, match="network.mean"):
            FNODEQ(mean=[1.0, 2.0])
        with pytest.raises(InvalidArgument, match="blocks=0"):
            FNO(blocks=0)


class TestFNO:
    def test_explicit_network_is_its_formula(self):
        seeded()
        net = FNO(
            width=4, hidden=8, modes=2, blocks=3, mean=[1.0], std=[2.0], out_mean=3.0
        ).double()
        a = fields()
        z = net.lift((a - 1) / 2)
        for block in net.layers:
            z = z + F.gelu(by_fft(block, z))
        assert torch.allclose(net(a), 3 + net.decode(z), atol=1e-11, rtol=1e-12)

    def test_tied_network_is_the_cut_off_iteration_of_the_equilibrium(self):
        deq = equilibrium(contraction=None)
        tied = FNO(width=4, hidden=8, modes=2, blocks=5, tied=True).double()
        weights = {k.replace("layer.", "layers.0."): v for k, v in deq.state_dict().items()}
        tied.load_state_dict(weights)
        a = fields()
        z = g = deq.lifted(a)
        for _ in range(5):
            z = deq.map(z, g, *deq.layer.kernel())
        assert torch.allclose(tied(a), deq.decoded(z), rtol=1e-12, atol=1e-10)

    def test_positions_break_translation_and_their_absence_keeps_it(self):
        for positions in (False, True):
            seeded()
            net = FNO(width=4, hidden=8, modes=2, blocks=2, positions=positions).double()
            a = fields()
            moved = net(a.roll((1, 3), (2, 3))).roll((-1, -3), (2, 3))
            assert torch.allclose(moved, net(a), atol=1e-12, rtol=1e-12) != positions

    def test_four_blocks_have_four_times_the_weights(self):
        count = [sum(p.numel() for p in n.parameters()) for n in (FNODEQ(), FNO(blocks=4))]
        assert count[0] <= 70_000
        assert 3.8 < count[1] / count[0] < 4.0


def test_stretched_solver():
    long = stretched(Anderson(rtol=1e-3, max_iter=16), 10)
    assert (long.max_iter, long.rtol) == (160, 1e-4)
    assert stretched(Anderson(rtol=1e-3), 1e4).rtol == 1e-5
    assert stretched(Anderson(rtol=1e-8), 10).rtol == 1e-8  # asked for in float64: kept
    assert stretched(len, 10) is len
