"""Initial value problems against closed forms, other gradients, and naive transcriptions."""

import copy
import gc
import math
import pickle
import weakref

import pytest
import torch

from sciml.errors import ConvergenceError, InvalidArgument, NumericalWarning
from sciml.solvers import ODE, Segments, Status, integrate
from sciml.solvers.ode.embedded import ERROR, NODES, STAGES
from sciml.solvers.ode.initial_value import local_estimates

TIGHT = ODE(rtol=1e-9, atol=1e-9)
METHODS = ["dopri5", "dopri8", "bosh3", "adaptive_heun", "euler", "midpoint", "heun2", "heun3"]
METHODS += ["rk4", "explicit_adams", "implicit_adams", "fehlberg2"]


def leaves():
    w, b = 0.5 * torch.randn(4, 4), torch.randn(4)
    x, z0 = torch.randn(3, 4), torch.randn(3, 4)
    return [v.requires_grad_() for v in (w, b, x, z0)]


def flow(w, b):
    return lambda t, z, x: (1 + t) * torch.tanh(z @ w.T + b + x)


def gradients(gradient, ode=TIGHT, **options):
    torch.manual_seed(0)
    w, b, x, z0 = leaves()
    solution = integrate(
        flow(w, b), z0, (x,), on_failure="raise", ode=ode, gradient=gradient, **options
    )
    weight = torch.linspace(1, 2, 4)
    return torch.autograd.grad((weight * solution.value.square()).sum(), (w, b, x, z0)), solution


def apart(found, wanted):
    pairs = zip(found, wanted, strict=True)
    return max(float((a - b).detach().norm() / b.detach().norm()) for a, b in pairs)


class Saved:
    """Bytes that a graph keeps for its backward pass."""

    def __enter__(self):
        self.sizes = {}

        def pack(t):
            self.sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            self.alive.append(t)
            return t

        self.alive = []
        self.hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)
        self.bytes = sum(self.sizes.values())


# --- values -----------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
def test_every_method_reaches_the_matrix_exponential(method):
    a, z0 = 0.7 * torch.randn(3, 3), torch.randn(2, 3)
    loose = {"euler": 2e-2, "adaptive_heun": 1e-4, "fehlberg2": 1e-3}.get(method, 1e-3)
    ode = ODE(method, rtol=1e-6, atol=1e-6, steps=100)
    found = integrate(lambda t, z: z @ a.T, z0, on_failure="raise", ode=ode)
    exact = z0 @ torch.linalg.matrix_exp(a).T
    assert apart([found.value], [exact]) < (loose if method != "dopri5" else 1e-5)
    assert bool(found.converged.all())


def test_gradient_of_the_matrix_exponential():
    a, z0 = torch.randn(3, 3, requires_grad=True), torch.randn(2, 3)
    for gradient in ("backprop", "checkpoint", "adjoint"):
        found = integrate(
            lambda t, z: z @ a.T, z0, on_failure="raise", ode=TIGHT, gradient=gradient
        ).value
        wanted = torch.autograd.grad((z0 @ torch.linalg.matrix_exp(a).T).sum(), a)
        assert apart(torch.autograd.grad(found.sum(), a), wanted) < 1e-7


@pytest.mark.parametrize("ode", [TIGHT, ODE("rk4", steps=40)])
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint", "adjoint"])
def test_states_between_and_backwards_in_time(ode, gradient):
    rate = torch.tensor(0.8, requires_grad=True)
    times = (1.0, 0.4, -0.5)
    found = integrate(
        lambda t, z: -rate * z,
        torch.ones(1, 1),
        on_failure="raise",
        ode=ode,
        times=times,
        gradient=gradient,
    )
    path = found.stats["path"][:, 0, 0]
    exact = torch.tensor([math.exp(-0.8 * (t - 1.0)) for t in times])
    assert torch.allclose(path, exact, atol=1e-6, rtol=1e-7)
    (slope,) = torch.autograd.grad(path[1] + path[2], rate)
    wanted = sum((1.0 - t) * math.exp(-0.8 * (t - 1.0)) for t in times[1:])
    assert abs(float(slope) - wanted) < 1e-5


# --- gradients --------------------------------------------------------------------------------
def test_adjoint_is_backpropagation():
    """The published code keeps the adjoint constant and misses these by about 1."""
    wanted, _ = gradients("backprop")
    found, solution = gradients("adjoint")
    assert apart(found, wanted) < 1e-6
    assert float(solution.stats["evaluations"].drift) < 1e-6


def test_adjoint_does_not_depend_on_the_size_of_the_loss():
    ode = ODE(rtol=1e-6, atol=1e-6)
    a = torch.randn(3, 3, requires_grad=True)
    value = integrate(
        lambda t, z: torch.tanh(z @ a.T),
        torch.randn(4, 3),
        on_failure="raise",
        ode=ode,
        gradient="adjoint",
    ).value
    large = torch.autograd.grad(value.sum(), a, retain_graph=True)
    small = torch.autograd.grad(1e-9 * value.sum(), a)
    assert apart([1e9 * small[0]], large) < 1e-12


def test_adjoint_finds_what_the_field_captures():
    """Parameters of a module, a tensor made outside from parameters, and theta in containers."""
    layer = torch.nn.Linear(4, 4)
    encoder = torch.nn.Linear(4, 4)
    image, z0 = torch.randn(3, 4), torch.randn(3, 4)

    def grads(gradient):
        x = torch.tanh(encoder(image))
        given = {"shift": torch.ones(4, requires_grad=True), "name": "not a tensor"}
        value = integrate(
            lambda t, z, d: torch.sin(layer(z) + x + d["shift"]),
            z0,
            (given,),
            on_failure="raise",
            ode=TIGHT,
            gradient=gradient,
        ).value
        wanted = [*layer.parameters(), *encoder.parameters(), given["shift"]]
        return torch.autograd.grad(value.square().sum(), wanted)

    assert apart(grads("adjoint"), grads("backprop")) < 1e-6


def test_flows_in_series_share_a_field():
    """Both solves are made before either is differentiated."""
    layer, z0 = torch.nn.Linear(3, 3), torch.randn(2, 3, requires_grad=True)

    def grads(gradient):
        z = z0
        for _ in range(2):
            z = integrate(
                lambda t, z: torch.tanh(layer(z)),
                z,
                on_failure="raise",
                ode=TIGHT,
                gradient=gradient,
            ).value
        return torch.autograd.grad(z.square().sum(), [*layer.parameters(), z0])

    assert apart(grads("adjoint"), grads("backprop")) < 1e-6


@pytest.mark.parametrize("method", ["rk4", "euler", "midpoint", "heun3"])
def test_checkpoint_is_backpropagation_of_fixed_steps(method):
    ode = ODE(method, steps=7)
    wanted, plain = gradients("backprop", ode)
    found, solution = gradients("checkpoint", ode)
    assert torch.equal(plain.value, solution.value)
    assert apart(found, wanted) < 1e-14


def test_checkpoint_is_backpropagation_of_adaptive_steps():
    wanted, plain = gradients("backprop", estimates=True)
    found, solution = gradients("checkpoint", estimates=True)
    assert torch.equal(plain.value, solution.value)
    assert apart(found, wanted) < 1e-14


def test_gradcheck_and_second_derivatives():
    w, b, x, z0 = leaves()

    def end(w, b, x, z0, gradient):
        ode = ODE("rk4", steps=3)
        return integrate(flow(w, b), z0, (x,), on_failure="raise", ode=ode, gradient=gradient).value

    for gradient in ("backprop", "checkpoint"):
        assert torch.autograd.gradcheck(lambda *v, g=gradient: end(*v, g), (w, b, x, z0))
    assert torch.autograd.gradgradcheck(lambda *v: end(*v, "backprop"), (w, b, x, z0))
    value = end(w, b, x, z0, "adjoint").sum()
    with pytest.raises(InvalidArgument, match="second derivative"):
        torch.autograd.grad(value, w, create_graph=True)


def test_a_contracting_flow_cannot_be_retraced():
    z0 = torch.randn(2, 3, requires_grad=True)
    value = integrate(
        lambda t, z: -40 * z, z0, on_failure="raise", ode=ODE("rk4", steps=40), gradient="adjoint"
    ).value
    with pytest.warns(NumericalWarning, match="gradient=checkpoint"):
        value.sum().backward()


# --- counts and memory ------------------------------------------------------------------------
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint", "adjoint"])
@pytest.mark.parametrize("ode", [ODE("rk4", steps=5), ODE(rtol=1e-6, atol=1e-6)])
def test_evaluations_are_those_of_the_field(ode, gradient):
    calls = []
    layer = torch.nn.Linear(3, 3)

    def field(t, z):
        calls.append(1)
        return torch.tanh(layer(z))

    solution = integrate(field, torch.randn(2, 3), on_failure="raise", ode=ode, gradient=gradient)
    counts = solution.stats["evaluations"]
    looked = 1 if gradient == "adjoint" else 0  # one look at what the field captures
    assert counts.forward == len(calls) - looked
    steps = counts.steps + counts.rejected
    assert counts.forward == (4 * 5 if ode.method == "rk4" else 2 + 6 * steps)
    assert counts.backward == 0
    calls.clear()
    solution.value.sum().backward()
    assert counts.backward == len(calls)
    assert (counts.backward == 0) == (gradient == "backprop")
    if gradient == "checkpoint":
        assert counts.backward == (20 if ode.method == "rk4" else 6 * steps)


def test_memory_of_the_four_ways():
    layer = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Tanh(), torch.nn.Linear(64, 16))
    z0 = torch.randn(32, 16)

    def kept(gradient, steps):
        with Saved() as saved:
            integrate(
                lambda t, z: layer(z),
                z0,
                on_failure="raise",
                ode=ODE("rk4", steps=steps),
                gradient=gradient,
            )
        return saved.bytes

    state = z0.numel() * 8
    assert kept("adjoint", 100) == kept("adjoint", 5)
    assert kept("backprop", 40) > 7 * kept("backprop", 5)
    assert kept("checkpoint", 40) < 0.1 * kept("backprop", 40)
    assert kept("checkpoint", 40) - kept("checkpoint", 20) <= 25 * state


@pytest.mark.usefixtures("own_objects")
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint", "adjoint"])
def test_nothing_outlives_the_solution(method, gradient):
    """No cycle keeps the arguments, and with them the graph before them, until a collection."""
    gc.collect()
    gc.disable()
    try:
        x = 2 * torch.randn(3, 2, requires_grad=True)
        alive = weakref.ref(x)
        solution = integrate(
            lambda t, z, x: torch.tanh(z + x),
            torch.zeros(3, 2),
            (x,),
            on_failure="raise",
            ode=ODE(method),
            gradient=gradient,
        )
        solution.value.sum().backward()
        del x, solution
        assert alive() is None
    finally:
        gc.enable()


# --- estimates --------------------------------------------------------------------------------
FOURTH = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)


def naive_step(f, t, h, z):
    """One Dormand-Prince step of one sample, in loops; the tableau is torchdiffeq's."""
    from torchdiffeq._impl.dopri5 import _DORMAND_PRINCE_SHAMPINE_TABLEAU as tableau

    k, u = [f(t, z)], [z]
    for node, row in zip(tableau.alpha, tableau.beta, strict=True):
        point = z.clone()
        for a, slope in zip(row, k, strict=True):
            point = point + h * a * slope
        u.append(point)
        k.append(f(t + node * h, point))
    fourth = z.clone()
    for b, slope in zip(FOURTH, k, strict=True):
        fourth = fourth + h * b * slope
    error = ((u[-1] - fourth) ** 2).mean().sqrt()
    return u[-1], error, ((k[6] - k[5]) ** 2).sum().sqrt() / ((u[6] - u[5]) ** 2).sum().sqrt()


def test_one_step_against_a_naive_one():
    w, z = torch.randn(4, 4), torch.randn(3, 4)
    error, stiffness = local_estimates(lambda t, z: torch.tanh(z @ w.T) * (1 + t), 0.3, 0.2, z)
    for i in range(3):
        _, e, s = naive_step(lambda t, z: torch.tanh(w @ z) * (1 + t), 0.3, 0.2, z[i])
        assert float(error[i]) == pytest.approx(0.2 * float(e), rel=1e-9)
        assert float(stiffness[i]) == pytest.approx(float(s), rel=1e-9)


def test_sums_over_the_path_against_naive_steps():
    w, z0 = torch.randn(4, 4), torch.randn(3, 4)
    sizes = []

    def field(t, z):
        return torch.tanh(z @ w.T)

    ode = ODE(rtol=1e-4, atol=1e-4)
    found = integrate(field, z0, on_failure="raise", ode=ode, estimates=True)
    # the sizes of the accepted steps, from the times at which the first new stage was asked for
    asked = []
    integrate(
        lambda t, z: (asked.append(float(t)), field(t, z))[1],
        z0,
        on_failure="raise",
        ode=ode,
        estimates=True,
    )
    starts = [0.0]
    for i in range(2, len(asked), 6):
        h = asked[i + 4] - starts[-1]
        sizes.append(h)
        starts.append(asked[i + 5])
    assert found.stats["evaluations"].rejected == 0
    assert sum(sizes) == pytest.approx(1.0)
    for i in range(3):
        z, total, stiff = z0[i], 0.0, 0.0
        for h in sizes:
            z, e, s = naive_step(lambda t, z: torch.tanh(w @ z), 0.0, h, z)
            total, stiff = total + float(e) * h, stiff + float(s)
        assert float(found.stats["error"][i]) == pytest.approx(total, rel=1e-8)
        assert float(found.stats["stiffness"][i]) == pytest.approx(stiff, rel=1e-8)


def test_stiffness_is_the_eigenvalue_and_errors_fall_with_the_fifth_power():
    z = torch.ones(2, 1)
    _, stiffness = local_estimates(lambda t, z: -30 * z, 0.0, 0.05, z)
    assert torch.allclose(stiffness, torch.full((2,), 30.0), rtol=1e-12, atol=1e-10)
    coarse, fine = (
        local_estimates(lambda t, z: torch.sin(3 * z) + t, 0.0, h, z)[0] / h for h in (0.1, 0.05)
    )
    assert 4.5 < float(torch.log2(coarse[0] / fine[0])) < 5.5


def test_tableau():
    for node, row in zip(NODES, STAGES, strict=True):
        assert sum(row) == pytest.approx(node, abs=1e-14)
    fifth = (*STAGES[-1], 0.0)
    for e, b, b4 in zip(ERROR, fifth, FOURTH, strict=True):
        assert e == pytest.approx(b - b4, abs=1e-15)


def test_estimates_have_gradients():
    w = (0.5 * torch.randn(3, 3)).requires_grad_()
    z = torch.randn(2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda w, z: local_estimates(lambda t, z: torch.tanh(z @ w.T), 0.0, 0.7, z), (w, z)
    )


# --- failures ---------------------------------------------------------------------------------
def test_underflow_names_the_problem_and_the_cure():
    z0 = torch.tensor([[0.1], [2.0], [0.2]])  # the second blows up at t = 0.5
    with pytest.raises(ConvergenceError, match=r"problem 1 of 3.*solver=rk4") as error:
        integrate(lambda t, z: z**2, z0, on_failure="raise")
    assert "t=0.5" in str(error.value) and "elsewhere" in str(error.value)


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
@pytest.mark.parametrize("gradient", ["backprop", "adjoint", "checkpoint"])
def test_failed_problems_leave_the_others_alone(method, gradient):
    rate = torch.ones(4, 1)
    rate[2] = torch.nan
    rate.requires_grad_()
    z0 = torch.tensor([[0.1], [3.0], [1.0], [0.2]], requires_grad=True)
    ode = ODE(method, rtol=1e-6, atol=1e-6, steps=50)

    def field(t, z, rate):
        return rate * z**2

    solution = integrate(field, z0, (rate,), on_failure="mask", ode=ode, gradient=gradient)
    assert solution.converged.tolist() == [True, False, False, True]
    assert int(solution.status[2]) == Status.NONFINITE
    assert torch.equal(solution.value[1:3], z0[1:3])
    few = torch.tensor([0, 3])
    alone = integrate(field, z0[few], (rate[few],), on_failure="raise", ode=ode, gradient=gradient)
    assert apart([solution.value[few]], [alone.value]) < 1e-5
    slopes = torch.autograd.grad(solution.value.sum(), (z0, rate))
    wanted = torch.autograd.grad(alone.value.sum(), (z0, rate))
    for found, exact in zip(slopes, wanted, strict=True):
        assert apart([found[few]], [exact[few]]) < 1e-3
    assert slopes[0][1:3].abs().sum() == 0 and float(slopes[1][1]) == 0


def test_too_many_steps_and_warning():
    ode = ODE(rtol=1e-9, atol=1e-9, max_steps=5)
    field = lambda t, z: torch.cos(40 * t) * torch.ones_like(z)  # noqa: E731
    with pytest.raises(ConvergenceError, match="used all iterations"):
        integrate(field, torch.zeros(2, 1), on_failure="raise", ode=ode)
    with pytest.warns(NumericalWarning, match="ODE solve failed"):
        found = integrate(field, torch.zeros(2, 1), on_failure="warn", ode=ode)
    assert (found.status == Status.MAX_ITER).all()


def test_an_error_in_the_field_is_passed_on():
    def field(t, z):
        assert z.shape == (1,), "a check of the user's"
        return z

    with pytest.raises(AssertionError, match="a check of the user's"):
        integrate(field, torch.zeros(2, 1), on_failure="mask")


def test_a_graph_that_fails():
    index = torch.tensor([0, 0, 1, 1, 1])
    z0 = torch.tensor([0.1, 0.2, 0.1, 5.0, 0.1])
    found = integrate(lambda t, z: z**2, z0, on_failure="mask", layout=Segments(index, 2))
    assert found.converged.tolist() == [True, False]
    assert torch.equal(found.value[2:], z0[2:])
    assert torch.allclose(found.value[:2], z0[:2] / (1 - z0[:2]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gradient": "ift"}, "ResidualFlow"),
        ({"gradient": "checkpoint", "ode": ODE("dopri8")}, "dopri5"),
        ({"gradient": "checkpoint", "ode": ODE("explicit_adams")}, "start afresh"),
        ({"gradient": "adjoint", "estimates": True}, "local_estimates"),
        ({"ode": ODE("rk4"), "estimates": True}, "local_estimates"),
    ],
)
def test_what_does_not_work_is_refused(options, said):
    with pytest.raises(InvalidArgument, match=said):
        integrate(lambda t, z: z, torch.ones(1, 1), on_failure="raise", **options)


def test_arguments_are_checked():
    for wrong in ({"method": "dopri6"}, {"rtol": -1.0}, {"rtol": 0, "atol": 0}, {"steps": 0}):
        with pytest.raises(InvalidArgument):
            ODE(**wrong)
    with pytest.raises(InvalidArgument, match="shape of the state"):
        integrate(lambda t, z: z[:, :1], torch.ones(2, 2), on_failure="raise")


# --- the rest ---------------------------------------------------------------------------------
def test_copies_and_half_precision():
    ode = ODE("rk4", steps=3)
    assert pickle.loads(pickle.dumps(ode)) == copy.deepcopy(ode) == ode
    layer = torch.nn.Linear(8, 8).float()
    z0 = torch.randn(4, 8, dtype=torch.float32)
    exact = integrate(lambda t, z: torch.tanh(layer(z)), z0, on_failure="raise", ode=ode).value
    kinds = []

    def field(t, z):
        y = torch.tanh(layer(z))
        kinds.append((z.dtype, y.dtype))
        return y

    grads = []
    for gradient in ("backprop", "adjoint", "checkpoint"):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = integrate(field, z0, on_failure="raise", ode=ode, gradient=gradient).value
        assert found.dtype == torch.float32
        assert apart([found], [exact]) < 2e-2
        grads.append(torch.autograd.grad(found.sum(), layer.weight))
    # the field ran in half precision in the backward pass too; the state never did
    assert set(kinds) == {(torch.float32, torch.bfloat16)}
    assert apart(grads[1], grads[0]) < 2e-2
    assert apart(grads[2], grads[0]) < 1e-6
    lifted = integrate(field, z0.bfloat16(), on_failure="raise", ode=ode).value
    assert lifted.dtype == torch.float32


@pytest.mark.parametrize(
    "settings",
    [
        {"ode": TIGHT},
        {"ode": TIGHT, "gradient": "checkpoint"},
        {"ode": TIGHT, "gradient": "adjoint"},
        {"ode": ODE(method="rk4", steps=64)},
    ],
)
def test_a_start_of_nan_leaves_the_other_problems_and_the_parameters_alone(settings):
    z0 = torch.tensor([[torch.nan], [1.0]], dtype=torch.float64)
    rate = torch.ones((), dtype=torch.float64, requires_grad=True)
    found = integrate(lambda t, z, rate: -rate * z, z0, (rate,), on_failure="mask", **settings)
    assert found.converged.tolist() == [False, True]
    assert found.value[0].isnan().all()
    torch.testing.assert_close(found.value[1].item(), math.exp(-1), rtol=1e-8, atol=0.0)
    found.value[1].sum().backward()
    torch.testing.assert_close(rate.grad.item(), -math.exp(-1), rtol=1e-8, atol=0.0)
