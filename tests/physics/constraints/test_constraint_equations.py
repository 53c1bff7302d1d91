"""Each equation against the solver of its problem: residuals of solutions, oracle bases, lifts."""

import pytest
import torch
from discrete_cases import midpoint_burgers, slopes

from sciml.errors import InvalidArgument
from sciml.physics.constraints import (
    BurgersConstraint,
    DarcyConstraint,
    DiffusionSorptionConstraint,
    HardConstraint,
    HeatConstraint,
    SoftConstraint,
    VorticityConstraint,
)
from sciml.physics.constraints.grid_derivatives import SCHEMES, in_time, spectral
from sciml.physics.evolution import (
    Burgers,
    DarcyFlow,
    DiffusionSorption,
    Heat,
    HeterogeneousDiffusionSorption,
    VorticityNavierStokes,
    pod_modes,
)

FINE = {"time_count": 41, "horizon": 0.2}


def solved(problem, count=2, seed=0):
    inputs = problem.sample(count, torch.Generator().manual_seed(seed))
    return inputs, problem.solve(inputs).value


def made(name):
    """Return a problem and its constraint, for orders of accuracy in time."""

    def problem(levels):
        if name == "vorticity":
            return VorticityNavierStokes(
                24, time_count=levels, horizon=0.4, viscosity=1e-2, forcing=0.5, step=1e-2
            )
        kind = {"heat": Heat, "burgers": Burgers}[name.split()[0]]
        boundary = name.split()[1]
        more = {"viscosity": 0.05, "step": 2e-3} if kind is Burgers else {"diffusivity": 0.05}
        return kind(32, boundary=boundary, time_count=levels, horizon=0.2, **more)

    constraint = {"h": HeatConstraint, "b": BurgersConstraint, "v": VorticityConstraint}[name[0]]
    return problem, constraint


def waves(problem):
    """Return initial states of two long waves, which even coarse steps in time follow."""
    x, *y = problem.grids
    if y:
        wave = torch.sin(2 * torch.pi * x)[:, None] * torch.cos(2 * torch.pi * y[0])
        return (wave + torch.cos(4 * torch.pi * y[0]))[None, None]
    return (torch.sin(2 * torch.pi * x) + 0.3 * torch.sin(4 * torch.pi * x))[None, None]


NAMES = ["heat periodic", "heat dirichlet", "burgers periodic", "burgers dirichlet", "vorticity"]
ORDERS = {"central": 2, "midpoint": 2, "bdf2": 2, "backward": 1}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", NAMES)
def test_residual_of_the_solution_falls_with_the_order_of_the_scheme(name, scheme):
    problem, constraint = made(name)

    def size(levels):
        known = problem(levels)
        inputs = waves(known)
        residual = HardConstraint(constraint(known, time_scheme=scheme)).residual(
            known.solve(inputs).value, inputs
        )
        return residual[:, levels // 2 :].square().mean().sqrt()

    rate = torch.log2(size(11) / size(21))
    assert abs(float(rate) - ORDERS[scheme]) < 0.35


@pytest.mark.parametrize("kind", [DiffusionSorption, HeterogeneousDiffusionSorption])
@pytest.mark.parametrize("wall", ["cell", "face"])
def test_diffusion_sorption_has_the_rate_of_its_problem(kind, wall):
    problem = kind(16, time_count=5, wall=wall)
    inputs = problem.sample(2, torch.Generator().manual_seed(0))
    u = torch.rand(2, 5, 16)
    equation = DiffusionSorptionConstraint(problem, time_scheme="backward", ramp=0.0)
    found = HardConstraint(equation).residual(u, inputs)
    step = float(problem.times[1])
    rate = torch.stack([problem.rate(u[:, k], inputs) for k in range(1, 5)], 1)
    wanted = (u.diff(dim=1) / step - rate) * problem.horizon
    torch.testing.assert_close(found[:, 1:], wanted, rtol=1e-11, atol=1e-9)
    assert float(found[:, 0].abs().max()) == 0.0  # no row at the first level


def test_features_are_affine_and_their_linear_part_is_data_free():
    problem = HeterogeneousDiffusionSorption(16, time_count=5)
    equation = DiffusionSorptionConstraint(problem)
    inputs = problem.sample(2, torch.Generator().manual_seed(0))
    a, b = torch.rand(2, 3, 5, 16), torch.rand(2, 5, 16)
    linear = equation.features(a, inputs, data=False)
    at = equation.features(b, inputs, data=True)
    both = equation.features(a[:, 1] * 2.0 + b, inputs, data=True)
    for part, rest, whole in zip(linear, at, both, strict=True):
        torch.testing.assert_close(2.0 * part[:, 1] + rest, whole, rtol=1e-11, atol=1e-10)
    rows = equation.conditions(a, inputs, data=False)
    whole = equation.conditions(a[:, 1] * 2.0 + b, inputs, data=True)
    rest = equation.conditions(b, inputs, data=True)
    torch.testing.assert_close(2.0 * rows[:, 1] + rest, whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("experts", [1, 2, 4, 8])
def test_oracle_basis_of_diffusion_sorption(experts):
    problem = DiffusionSorption(64, time_count=51)
    inputs, u = solved(problem, 9)
    modes = torch.linalg.svd(u[:8].flatten(1), full_matrices=False)[2][:6]
    basis = modes.unflatten(1, u.shape[1:])[None]
    equation = DiffusionSorptionConstraint(problem)
    out = HardConstraint(equation, experts=experts)(basis, inputs[8:])
    assert out.converged.all()
    error = (out.value - u[8:]).norm() / u[8:].norm()
    assert float(error) < 5e-3
    assert int(out.iterations.max()) < 20


@pytest.mark.parametrize("experts", [1, 4])
@pytest.mark.parametrize("initial", ["rows", "lift"])
def test_graded_times_resolve_the_jump_at_the_wall_without_hiding_it(initial, experts):
    # equally spaced, rows that count from the start (ramp 0.5) leave 50 % error and more
    problem = DiffusionSorption(64, time_count=51, grading=3)
    inputs, u = solved(problem, 9)
    equation = DiffusionSorptionConstraint(problem, initial=initial, ramp=0.5)
    modes, _ = pod_modes(u[:8] - equation.offset(u[:8, None], inputs[:8]), 6)
    out = HardConstraint(equation, experts=experts)(modes[None], inputs[8:], lifted=True)
    assert out.converged.all()
    error = (out.value - u[8:]).norm() / u[8:].norm()
    assert float(error) < 5e-3
    if initial == "lift":
        torch.testing.assert_close(out.value[:, 0], inputs[8:, 0], rtol=0, atol=1e-8)


def test_rows_on_graded_times_are_those_of_the_implicit_midpoint_rule():
    problem = DiffusionSorption(16, time_count=6, grading=2)
    inputs = problem.sample(2, torch.Generator().manual_seed(0))
    u = torch.rand(2, 6, 16)
    found = HardConstraint(DiffusionSorptionConstraint(problem, ramp=0.0)).residual(u, inputs)
    for k in range(1, 6):
        step = 500.0 * (k**2 - (k - 1) ** 2) / 25
        rate = problem.rate((u[:, k] + u[:, k - 1]) / 2, inputs)
        wanted = 500.0 * ((u[:, k] - u[:, k - 1]) / step - rate)
        torch.testing.assert_close(found[:, k], wanted, rtol=1e-11, atol=1e-9)
    equation = DiffusionSorptionConstraint(problem)
    later = equation.level_times(8)
    torch.testing.assert_close(later, 500.0 * torch.arange(8.0) ** 2 / 25, rtol=1e-12, atol=1e-12)
    assert DiffusionSorptionConstraint(problem, t_min=21.0).first_row == 2  # 20 s, 80 s


def test_times_that_no_scheme_knows_are_refused():
    problem = DiffusionSorption(16, time_count=6, grading=2)
    with pytest.raises(InvalidArgument, match="midpoint or backward"):
        DiffusionSorptionConstraint(problem, time_scheme="bdf2")
    problem.times = torch.tensor([0.0, 1.0, 2.0, 4.0, 5.0, 6.0], dtype=torch.float64)
    with pytest.raises(InvalidArgument, match="graded by a power"):
        DiffusionSorptionConstraint(problem)
    with pytest.raises(InvalidArgument, match=r"problem\.grading=0\.5"):
        DiffusionSorption(16, time_count=6, grading=0.5)


def test_oracle_basis_of_navier_stokes_and_what_its_lift_keeps():
    problem = VorticityNavierStokes(
        24, time_count=17, horizon=1.0, viscosity=1e-2, length_scale=1.0
    )
    inputs, w = solved(problem, 1)
    equation = VorticityConstraint(problem)
    clock = torch.linspace(0, 1, 17)[1:, None, None]
    exact = torch.zeros_like(w)
    exact[:, 1:] = (w[:, 1:] - w[:, :1]) / clock
    noise = torch.randn(1, 5, 17, 4, 4, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(noise[0], (24, 24), mode="bicubic")[None]
    out = HardConstraint(equation, experts=4)(torch.cat([exact[:, None], smooth], 1), inputs)
    assert out.converged.all()
    error = (out.value - w).norm() / w.norm()
    assert float(error) < 2e-3
    assert torch.equal(out.value[:, 0], inputs[:, 0])
    rough = HardConstraint(equation, experts=4)(smooth, inputs)
    assert torch.equal(rough.value[:, 0], inputs[:, 0])
    assert float(rough.value.mean((-2, -1)).abs().max()) < 1e-14


@pytest.mark.parametrize("constraint", [BurgersConstraint, HeatConstraint])
def test_zero_ends_are_exact(constraint):
    kind = Burgers if constraint is BurgersConstraint else Heat
    problem = kind(64, boundary="dirichlet", time_count=9, horizon=0.2)
    inputs, _ = solved(problem)
    out = HardConstraint(constraint(problem))(torch.randn(2, 3, 9, 65), inputs)
    assert float(out.value[..., [0, -1]].abs().max()) == 0.0


def test_darcy_flow_obeys_its_finite_volumes():
    problem = DarcyFlow(12)
    inputs, u = solved(problem)
    residual = HardConstraint(DarcyConstraint(problem)).residual(u[:, 0], inputs)
    assert float(residual.abs().max()) < 1e-6


def test_a_longer_grid_goes_on_beyond_the_problem():
    problem = Burgers(32, time_count=11, viscosity=0.05, horizon=0.5)
    equation = BurgersConstraint(problem)
    inputs, _ = solved(problem)
    longer = Burgers(32, time_count=21, viscosity=0.05, horizon=1.0)
    u = midpoint_burgers(longer, inputs[:, 0])
    layer = HardConstraint(equation, experts=3, split="time", ridge=0.0)
    basis = torch.cat([u[:, None], torch.randn(2, 3, 21, 32)], 1)
    out = layer(basis, inputs)
    torch.testing.assert_close(out.value, u, rtol=1e-6, atol=1e-7)
    again = equation.after(out.value, inputs)
    torch.testing.assert_close(again[:, 0], out.value[:, -1], rtol=0, atol=0)


def test_the_ramp_weighs_rows_and_t_min_leaves_them_out():
    problem = Heat(16, time_count=11, horizon=2.0)
    plain = HeatConstraint(problem).weight((11, 16))
    assert plain[0].max() == 0 and plain[1:].min() == 1
    ramp = HeatConstraint(problem, ramp=2.0, t_min=0.5).weight((13, 16))
    assert ramp[:3].max() == 0
    torch.testing.assert_close(ramp[5, 0], torch.tensor(0.5**4), rtol=1e-12, atol=0)
    assert ramp[12, 0] == 1  # not more than at the horizon
    with pytest.raises(InvalidArgument, match="less than the horizon"):
        HeatConstraint(problem, t_min=2.0)


def test_a_soft_constraint_is_the_function_itself():
    problem = DiffusionSorption(16, time_count=6)
    inputs = problem.sample(2, torch.Generator().manual_seed(0))
    layer = SoftConstraint(DiffusionSorptionConstraint(problem))
    u = torch.rand(2, 6, 16)
    out = layer(u[:, None], inputs)
    assert torch.equal(out.value, u)
    assert out.converged.all() and float(out.jump.max()) == 0
    hard = HardConstraint(layer.equation)
    assert torch.equal(layer.residual(u, inputs), hard.residual(u, inputs))
    with pytest.raises(InvalidArgument, match=r"network\.functions=1"):
        layer(torch.rand(2, 2, 6, 16), inputs)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_time_schemes_are_exact_for_straight_lines(scheme):
    t = torch.arange(6.0)[:, None] * 0.3
    u = 2 * t + torch.rand(3)
    slope, value = in_time(u, 0.3, scheme, -2)
    first = {"central": 0, "backward": 1, "midpoint": 1, "bdf2": 2}[scheme]
    torch.testing.assert_close(slope[first:], torch.full((6 - first, 3), 2.0), rtol=1e-12, atol=0)
    shift = 0.3 if scheme == "midpoint" else 0.0
    torch.testing.assert_close(value[first:], u[first:] - shift, rtol=1e-12, atol=1e-12)
    with pytest.raises(InvalidArgument, match="time levels"):
        in_time(u[:1], 0.3, scheme, -2)


@pytest.mark.parametrize("points", [12, 13])
def test_spectral_derivatives_are_those_of_the_interpolating_polynomial(points):
    first, second = slopes(points)
    u = torch.randn(4, points)
    found = spectral(u, 1.0, (1, 2))
    torch.testing.assert_close(found[0], u @ first.T, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found[1], u @ second.T, rtol=1e-9, atol=1e-9)
