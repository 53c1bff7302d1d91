"""Steady reference solvers against closed forms, manufactured solutions and sparse matrices."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spl
import torch

from sciml.errors import InvalidArgument
from sciml.physics.steady.darcy import Darcy
from sciml.physics.steady.navier_stokes import SteadyNavierStokes
from sciml.physics.steady.periodic import Periodic, cosine_field, multiplied, periodic_field
from sciml.physics.steady.steady_semilinear import Semilinear


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def derivative(f, x, which, order=1):
    """Derivative by automatic differentiation, independent of any grid."""
    for _ in range(order):
        f = torch.autograd.grad(f.sum(), x[which], create_graph=True)[0]
    return f


def laplacian(f, x):
    return derivative(f, x, 0, 2) + derivative(f, x, 1, 2)


def leaves(points):
    return [p.clone().requires_grad_() for p in points]


class TestPeriodicFields:
    def test_variance_is_asked_for_and_the_same_in_all_directions(self):
        f = periodic_field(4000, 16, seeded(), cutoff=2.0, std=3.0)
        assert f.std().item() == pytest.approx(3.0, rel=0.02)
        spectrum = torch.fft.rfft2(f).abs().square().mean(0)
        # the waves (k, 0) and (0, k) have the same power
        assert torch.allclose(spectrum[1:4, 0], spectrum[0, 1:4], rtol=0.12)
        # standard deviation exp(-k^2 / (2 cutoff^2)): the power of k = 2 over k = 1
        ratio = (spectrum[0, 2] / spectrum[0, 1]).item()
        assert ratio == pytest.approx(math.exp(-(4 - 1) / 2.0**2), rel=0.15)

    def test_one_seed_is_one_function_on_all_grids(self):
        coarse = periodic_field(3, 16, seeded(4), cutoff=2.0)
        fine = periodic_field(3, 48, seeded(4), cutoff=2.0)
        assert torch.allclose(fine[:, ::3, ::3], coarse, atol=1e-12, rtol=1e-12)
        assert not torch.allclose(periodic_field(3, 16, seeded(5), cutoff=2.0), coarse, rtol=1e-3)

    def test_mean_can_be_left_out(self):
        f = periodic_field(3, 16, seeded(), cutoff=2.0, mean=False)
        assert f.mean((1, 2)).abs().max() < 1e-12

    def test_a_grid_that_does_not_carry_the_modes_is_refused(self):
        with pytest.raises(InvalidArgument, match="cutoff=3"):
            periodic_field(1, 16, seeded(), cutoff=3.0)
        with pytest.raises(InvalidArgument, match="even"):
            Periodic(7)

    def test_cosine_field_has_no_flux_and_unit_variance(self):
        m = cosine_field(4000, 16, seeded())
        assert m.square().mean().item() == pytest.approx(1.0, rel=0.05)
        # sum of squares of the closed-form expansion, evaluated naively for one sample
        draws = torch.randn(1, 16, 16, generator=seeded(), dtype=torch.float64)[0]
        value, total = 0.0, 0.0
        x, y = (3 + 0.5) / 16, (7 + 0.5) / 16
        for i in range(16):
            for j in range(16):
                if i + j:
                    size = (math.pi**2 * (i**2 + j**2) + 9.0) ** -1
                    both = math.sqrt(2) ** ((i > 0) + (j > 0))
                    wave = math.cos(math.pi * i * x) * math.cos(math.pi * j * y)
                    value += float(draws[i, j]) * size * both * wave
                    total += size**2
        assert m[0, 3, 7].item() == pytest.approx(value / math.sqrt(total), rel=1e-10)

    def test_multiplier_differentiates_a_wave(self):
        grid = Periodic(16, 2 * math.pi)
        x, y = grid.points(torch.zeros(1, dtype=torch.float64))
        u = torch.sin(3 * x + 2 * y)
        ux = multiplied(grid.slopes(u)[0], u)
        assert torch.allclose(ux, 3 * torch.cos(3 * x + 2 * y), atol=1e-12, rtol=1e-12)
        assert torch.allclose(multiplied(grid.squares(u), u), 13 * u, atol=1e-11, rtol=1e-12)


class TestSemilinear:
    def manufactured(self, n):
        problem = Semilinear(n)
        x = leaves(problem.grid.points(torch.zeros(1, dtype=torch.float64)))
        angle = [2 * math.pi * p for p in x]
        u = torch.exp(torch.sin(angle[0]) * torch.cos(angle[1])) - 0.5 * torch.sin(2 * angle[1])
        f = -0.02 * laplacian(u, x) + u + u**3
        found = problem.solve(f.detach()[None])
        assert found.converged.all()
        return (found.value[0] - u.detach()).abs().max().item()

    def test_manufactured_solution_converges_spectrally(self):
        errors = [self.manufactured(n) for n in (8, 16, 32)]
        assert errors[0] > 30 * errors[1] > 900 * errors[2]
        assert errors[2] < 1e-7

    def test_random_forcings_are_solved_to_the_residual_and_agree_between_grids(self):
        coarse, fine = Semilinear(32), Semilinear(64)
        f = coarse.draw(4, seeded(1))
        found = coarse.solve(f)
        size = f.flatten(1).norm(dim=1)
        assert (coarse.residual(found.value, f).flatten(1).norm(dim=1) < 1.1e-10 * size).all()
        other = fine.solve(fine.draw(4, seeded(1))).value[:, ::2, ::2]
        assert (other - found.value).norm() < 1e-6 * found.value.norm()

    def test_solution_is_differentiable_in_the_forcing(self):
        problem = Semilinear(8, cutoff=1.0)
        f = problem.draw(2, seeded())
        assert torch.autograd.gradcheck(
            lambda f: problem.solve(f).value, f.requires_grad_(), fast_mode=True
        )

    def test_a_longer_side_is_a_smaller_diffusion(self):
        long, thin = Semilinear(32, length=4.0), Semilinear(32, diffusion=0.02 / 16)
        f = long.draw(2, seeded(4))
        assert torch.allclose(long.solve(f).value, thin.solve(f).value, atol=1e-11, rtol=1e-12)
        assert (long.solve(f).value - Semilinear(32).solve(f).value).abs().max() > 0.1

    def test_hard_forcings_are_larger(self):
        problem = Semilinear(harder=2.0)
        easy, hard = (problem.draw(2, seeded(3), hard=h) for h in (False, True))
        assert torch.allclose(hard, 2 * easy, rtol=1e-12, atol=1e-10)


def assembled(a):
    """Matrix of the finite volumes, one face after the other."""
    n = a.shape[0]
    matrix = sp.lil_matrix((n * n, n * n))
    for i in range(n):
        for j in range(n):
            for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                k, m = i + di, j + dj
                row = i * n + j
                if 0 <= k < n and 0 <= m < n:
                    # two half cells in series
                    face = 1 / (0.5 / a[i, j] + 0.5 / a[k, m])
                    matrix[row, k * n + m] -= face * n * n
                else:
                    face = a[i, j] / 0.5
                matrix[row, row] += face * n * n
    return matrix.tocsr()


class TestDarcy:
    @pytest.mark.parametrize("kind", ["two_phase", "log_normal"])
    def test_matches_a_sparse_direct_solver(self, kind):
        problem = Darcy(12, kind=kind)
        a = problem.draw(3, seeded(2), hard=True)
        found = problem.solve(a)
        assert found.converged.all()
        for one, u in zip(a.numpy(), found.value.numpy(), strict=True):
            exact = spl.spsolve(assembled(one), np.ones(144)).reshape(12, 12)
            assert np.abs(u - exact).max() < 1e-8 * np.abs(exact).max()

    def test_manufactured_solution_is_second_order(self):
        errors = []
        for n in (8, 16, 32):
            s = (torch.arange(n, dtype=torch.float64) + 0.5) / n
            x = leaves(torch.meshgrid(s, s, indexing="ij"))
            u = torch.sin(math.pi * x[0]) * torch.sin(2 * math.pi * x[1])
            a = torch.exp(x[0] * x[1]) + 0.3 * torch.sin(3 * x[0])
            f = -sum(derivative(a * derivative(u, x, i), x, i) for i in (0, 1))
            problem = Darcy(n, kind="log_normal")
            found = problem.solve_source(a.detach()[None], f.detach()[None]).value[0]
            errors.append((found - u.detach()).abs().max().item())
        orders = [math.log2(errors[i] / errors[i + 1]) for i in (0, 1)]
        assert all(1.8 < order < 2.2 for order in orders), orders

    def test_layers_aligned_with_faces_carry_the_flux_of_the_closed_form(self):
        # no y dependence is possible with u = 0 on all sides, so only the operator is compared:
        # -(a u')' for u with constant flux a u' = 1 across the layers vanishes inside
        n = 8
        problem = Darcy(n)
        a = torch.where(torch.arange(n) < 4, 1.0, 5.0).double()[None, :, None].expand(1, n, n)
        edges = torch.cat([torch.zeros(1), (1 / a[0, :, 0]).cumsum(0)]) / n
        u = ((edges[1:] + edges[:-1]) / 2).double()[None, :, None].expand(1, n, n)
        inside = problem.product(u, a)[0, 1:-1, 1:-1]
        assert inside.abs().max() < 1e-10

    def test_fast_solver_is_the_inverse_for_constant_coefficients(self):
        problem = Darcy(16)
        v = torch.randn(2, 16, 16, generator=seeded(), dtype=torch.float64)
        back = problem.product(problem.inverse_laplacian(v), torch.ones_like(v))
        assert torch.allclose(back, v, atol=1e-11, rtol=1e-12)

    def test_iterations_do_not_grow_with_the_grid(self):
        counts = [
            int(Darcy(n).solve(Darcy(n).draw(4, seeded())).iterations.max()) for n in (16, 64)
        ]
        assert counts[1] <= counts[0] + 4

    def test_two_phases_have_the_two_values(self):
        assert Darcy().draw(2, seeded()).unique().tolist() == pytest.approx([3.0, 12.0])
        hard = Darcy(harder_contrast=2.0).draw(2, seeded(), hard=True).unique()
        assert (hard[1] / hard[0]).item() == pytest.approx(16.0)

    def test_derivative_in_the_coefficient(self):
        problem = Darcy(5, kind="log_normal")
        a = problem.draw(1, seeded()).requires_grad_()
        assert torch.autograd.gradcheck(lambda a: problem.solve(a).value, a, fast_mode=True)


class TestSteadyNavierStokes:
    def on_grid(self, n):
        problem = SteadyNavierStokes(n)
        return problem, leaves(problem.grid.points(torch.zeros(1, dtype=torch.float64)))

    def test_kolmogorov_flow_is_laminar_in_closed_form(self):
        problem, (x, y) = self.on_grid(16)
        g = torch.cos(3 * y.detach())[None] * 2
        found = problem.solve(g)
        assert torch.allclose(found.value, g / 9, atol=1e-12, rtol=1e-12)

    def test_eddies_of_one_wave_number_do_not_transport(self):
        problem, (x, y) = self.on_grid(16)
        w = (torch.sin(x) * torch.sin(2 * y) + torch.cos(2 * x + y)).detach()[None]
        assert problem.transport(w).abs().max() < 1e-11  # |k|^2 = 5 throughout

    def exact(self, n):
        problem, x = self.on_grid(n)
        psi = 2 * torch.exp(0.7 * torch.sin(x[0]) * torch.cos(x[1])) + torch.sin(2 * x[1])
        w = -laplacian(psi, x)
        u, v = derivative(psi, x, 1), -derivative(psi, x, 0)
        transport = u * derivative(w, x, 0) + v * derivative(w, x, 1)
        g = transport - laplacian(w, x)
        return problem, w.detach()[None], transport.detach()[None], g.detach()[None]

    def test_manufactured_flow_converges_spectrally(self):
        errors = []
        for n in (16, 24, 36):
            problem, w, transport, g = self.exact(n)
            found = problem.solve(g - g.mean())
            assert found.converged.all()
            errors.append(((found.value - w).norm() / w.norm()).item())
        assert transport.norm() > 0.1 * g.norm()  # the flow is not a creeping one
        assert errors[0] > 10 * errors[1] > 100 * errors[2]
        assert errors[2] < 1e-5

    def test_random_flows_agree_between_grids(self):
        coarse, fine = (SteadyNavierStokes(n, viscosity=0.2, hard_viscosity=0.15) for n in (32, 48))
        found = coarse.solve(coarse.draw(3, seeded(1)))
        assert found.converged.all()
        other = fine.solve(fine.draw(3, seeded(1))).value
        at = torch.fft.rfft2(other, norm="forward")
        own = torch.fft.rfft2(found.value, norm="forward")
        assert (at[:, :8, :8] - own[:, :8, :8]).norm() < 1e-5 * own.norm()

    def test_continuation_ends_where_newton_alone_does(self):
        alone, steps = (
            SteadyNavierStokes(16, viscosity=0.25, hard_viscosity=0.2, steps=s, cutoff=1.0)
            for s in (1, 3)
        )
        g = alone.draw(2, seeded(7))
        assert torch.allclose(alone.solve(g).value, steps.solve(g).value, atol=1e-8, rtol=1e-10)

    def test_similarity_in_the_viscosity(self):
        problem = SteadyNavierStokes(16, viscosity=0.2, hard_viscosity=0.1, cutoff=1.0)
        easy, hard = (problem.draw(1, seeded(2), hard=h) for h in (False, True))
        assert torch.allclose(hard, 4 * easy, rtol=1e-12, atol=1e-10)
        # nu W solves the equation with units: u . grad w - nu Lap w = nu^2 G
        nu, found = 0.2, problem.solve(easy).value
        lap = multiplied(problem.grid.squares(found), nu * found)
        left = problem.transport(nu * found) + nu * lap
        assert torch.allclose(left, nu**2 * easy, atol=1e-10, rtol=1e-10)

    def test_wrong_settings_are_refused(self):
        with pytest.raises(InvalidArgument, match="hard_viscosity"):
            SteadyNavierStokes(viscosity=0.1, hard_viscosity=0.2)
        with pytest.raises(InvalidArgument, match="steps=0"):
            SteadyNavierStokes(steps=0)


def test_the_symbol_leaves_the_shared_grid_alone():
    problem = SteadyNavierStokes(8)
    like = torch.zeros(1, 8, 8, dtype=torch.float64)
    assert problem._symbol(like)[0, 0] == 1
    assert problem.grid.squares(like)[0, 0] == 0
