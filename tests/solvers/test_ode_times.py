"""Times of initial value problems: end points, order, and gradients, against closed forms."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers import ODE, integrate
from sciml.solvers.ode.initial_value import local_estimates


def turn(t, z):
    """A rotation: (0, 1) goes to (sin t, cos t)."""
    return torch.stack([z[:, 1], -z[:, 0]], -1)


def bend(t, z, rate):
    return torch.sin(rate * t) * z - 0.3 * z**2


@pytest.mark.parametrize("method", ["dopri5", "dopri8", "bosh3"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
@pytest.mark.parametrize("end", [1.3, 3.0, -2.2])
def test_states_at_all_times_meet_the_tolerance(method, tolerance, end):
    if method == "bosh3" and tolerance < 1e-6:
        tolerance = 1e-6  # of third order: thousands of steps below
    times = torch.linspace(0, end, 4)
    ode = ODE(method, rtol=tolerance, atol=tolerance)
    found = integrate(turn, torch.tensor([[0.0, 1.0]]), on_failure="raise", ode=ode, times=times)
    exact = torch.stack([times.sin(), times.cos()], -1)[:, None]
    # errors of the steps add up; interpolated ends were off by 27 to 2,400 times the tolerance
    assert float((found.stats["path"] - exact).abs().max()) < 15 * tolerance


def test_a_nonlinear_flow_agrees_with_another_library():
    z0, rate = torch.tensor([[0.7], [1.9]]), torch.tensor(2.3)
    wanted = [
        solve_ivp(
            lambda t, z: math.sin(2.3 * t) * z - 0.3 * z**2,
            (0.0, 4.0),
            [float(z)],
            method="DOP853",
            rtol=1e-12,
            atol=1e-12,
        ).y[:, -1]
        for z in z0
    ]
    wanted = torch.tensor([float(w[0]) for w in wanted])[:, None]
    for method in ("dopri5", "dopri8", "bosh3"):
        ode = ODE(method, rtol=1e-7, atol=1e-7)
        found = integrate(bend, z0, (rate,), on_failure="raise", ode=ode, times=(0.0, 4.0)).value
        assert torch.allclose(found, wanted, rtol=0, atol=2e-6), method


BAD = [
    (0.0,),
    (),
    (0.0, 0.0),
    (0.0, 1.0, 1.0),
    (0.0, 1.0, 0.5),
    (1.0, 0.5, 0.7),
    (0.0, math.nan),
    (0.0, math.inf),
    ((0.0, 1.0), (1.0, 2.0)),
]
WAYS = [
    {},
    {"gradient": "checkpoint"},
    {"gradient": "adjoint"},
    {"estimates": True},
    {"gradient": "checkpoint", "ode": ODE("rk4")},
    {"ode": ODE("implicit_adams")},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("times", BAD, ids=str)
def test_times_out_of_order_are_refused(times, way):
    z0 = torch.ones(1, 2, requires_grad=True)
    with pytest.raises(InvalidArgument, match="strictly increasing or strictly decreasing"):
        integrate(turn, z0, on_failure="best", times=times, **way)


def test_times_that_coincide_in_the_precision_of_the_state_are_refused():
    z0 = torch.ones(1, 2, dtype=torch.float32)
    with pytest.raises(InvalidArgument, match="float32"):
        integrate(turn, z0, on_failure="raise", ode=ODE("rk4"), times=(1.0, 1.0 + 1e-9))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("start", [1e9, -1e5])
def test_times_whose_round_off_is_long_are_refused(start, way):
    z0 = torch.ones(2, 1, dtype=torch.float32, requires_grad=True)

    def field(t, z):
        return torch.cos(t - start) * z

    # the field got the last time at all times: exp(1) instead of exp(sin 1)
    with pytest.raises(
        InvalidArgument, match=r"type z0\.double\(\)|increasing .* in torch.float32"
    ):
        integrate(field, z0, on_failure="raise", times=(start, start + 1), **way)
    found = integrate(field, z0.double(), on_failure="raise", times=(start, start + 1), **way).value
    wanted = torch.full_like(found, math.exp(math.sin(1.0)))
    assert torch.allclose(found, wanted, rtol=0.02, atol=0)


def test_a_clock_far_from_zero_is_kept_where_the_interval_is_long():
    z0 = torch.ones(2, 1, dtype=torch.float32)
    found = integrate(lambda t, z: z / t, z0, on_failure="raise", times=(1000.0, 4000.0)).value
    assert torch.allclose(found, torch.full_like(found, 4.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("times", ["01", [0, "1"], None, [0, None], 5.0, {}, [0, 1j], b"01"])
def test_times_that_are_no_numbers_are_refused(times):
    with pytest.raises((InvalidType, InvalidArgument), match="times=.*Type times="):
        integrate(turn, torch.ones(1, 2), on_failure="raise", times=times)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 2.5}, {"steps": math.nan}, {"max_steps": True}, {"rtol": "1e-3"}, {"atol": None}],
    ids=str,
)
def test_settings_of_the_wrong_type_are_refused(wrong):
    with pytest.raises(InvalidType, match=f"{next(iter(wrong))}( is|=).*number"):
        ODE(**wrong)


@pytest.mark.parametrize("way", WAYS[:5], ids=str)
@pytest.mark.parametrize("times", [(0.2, 0.9, 1.7), (1.1, 0.4)], ids=str)
def test_gradients_with_respect_to_times_are_those_of_differences(way, times):
    z0, rate = torch.tensor([[0.7], [1.9]], requires_grad=True), torch.tensor(2.3)
    weight = torch.linspace(1.0, 2.0, 2 * len(times)).reshape(len(times), 2, 1)
    tight = {"ode": ODE("dopri8", rtol=1e-11, atol=1e-11)}
    way = {"ode": ODE(rtol=1e-10, atol=1e-10), **way}
    if way["ode"].method == "rk4":
        way["ode"] = ODE("rk4", steps=60)

    def loss(t, **options):
        found = integrate(bend, z0, (rate,), on_failure="raise", times=t, **options)
        return (weight * found.stats["path"].square()).sum()

    given = torch.tensor(times, requires_grad=True)
    found = torch.autograd.grad(loss(given, **way), given)[0]
    wanted = torch.zeros(len(times))
    for i in range(len(times)):
        step = torch.zeros(len(times))
        step[i] = 1e-4
        with torch.no_grad():
            up, down = loss(given + step, **tight), loss(given - step, **tight)
        wanted[i] = (up - down) / 2e-4
    assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-7), (found, wanted)


def test_a_time_among_numbers_gets_its_gradient():
    end = torch.tensor(0.8, requires_grad=True)
    z0, ode = torch.tensor([[0.0, 1.0]]), ODE(rtol=1e-10, atol=1e-10)
    found = integrate(
        turn, z0, on_failure="raise", ode=ode, gradient="adjoint", times=(0.0, end)
    ).value
    assert torch.allclose(
        torch.autograd.grad(found[0, 0], end)[0], end.detach().cos(), rtol=1e-8, atol=0
    )


@pytest.mark.parametrize("numbers", [{"rtol": math.nan}, {"atol": math.inf}, {"atol": -1.0}])
def test_tolerances_that_mean_nothing_are_refused(numbers):
    with pytest.raises(InvalidArgument, match="finite tolerances|rtol=nan"):
        ODE(**numbers)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("shape", [(0, 2), (3, 0)], ids=str)
def test_nothing_to_integrate(way, shape):
    z0, rate = torch.zeros(shape, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    found = integrate(bend, z0, (rate,), on_failure="raise", times=(0.0, 1.0, 2.0), **way)
    assert found.value.shape == shape and found.stats["path"].shape == (3, *shape)
    assert bool(found.converged.all()) and found.status.shape == shape[:1]
    found.value.sum().backward()  # the graph reaches what the field depends on
    assert float(rate.grad) == 0


def test_estimates_of_nothing():
    error, stiffness = local_estimates(turn, 0.0, 0.1, torch.zeros(0, 2))
    assert error.shape == stiffness.shape == (0,)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_default_dtype_and_the_order_in_memory_change_nothing(way):
    rate, wide = torch.tensor(1.3, dtype=torch.float32), torch.linspace(0.1, 0.9, 8)
    found = []
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        for z0 in (wide.float().reshape(2, 4).T, wide.float().reshape(2, 4).T.contiguous()):
            z0 = z0.detach().requires_grad_()
            value = integrate(bend, z0, (rate,), on_failure="raise", **way).value
            assert value.dtype == torch.float32
            found.append((value.detach(), torch.autograd.grad(value.sum(), z0)[0]))
    for value, grad in found[1:]:
        assert torch.allclose(value, found[0][0], rtol=1e-6, atol=0)
        assert torch.allclose(grad, found[0][1], rtol=1e-5, atol=0)
