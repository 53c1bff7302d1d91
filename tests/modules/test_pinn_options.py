"""Options of PINNs for systems: integrals, causal weights, attention, windows, sampled traces."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from torch.optim.lr_scheduler import LambdaLR

from sciml.data.point_sets import PointData
from sciml.errors import InvalidArgument
from sciml.modules.run_parts import repeated
from sciml.modules.system_pinn import PINN
from sciml.modules.weights.attention import ResidualAttention
from sciml.modules.weights.causal import CausalWeights
from sciml.networks.pointwise.fbpinn import FBPINN
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.ansatz import network_sizes
from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.jacobian import jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.uses import mixing_terms
from sciml.optim.full.damped_gauss_newton import LevenbergMarquardt
from sciml.physics.systems import (
    At,
    Ball,
    Box,
    Initial,
    Integral,
    Interval,
    Observed,
    On,
    Rectangle,
    System,
    Time,
    Unknown,
)
from sciml.physics.systems import sampled_laplacian as sampling
from sciml.pinn import solve
from sciml.system_solution import load


def module_of(system: System, network=None, data=None, **options) -> PINN:
    torch.manual_seed(0)
    network = network or MLP(**network_sizes(system), width=6, depth=3)
    made = PINN(problem=system, network=network, optimizer=torch.optim.Adam, data=data, **options)
    return made.double()


# --- integrals ----------------------------------------------------------------------------------
class Volterra(System):
    """u' + u = int_0^t e^{s - t} u(s) ds: u = e^{-t} cosh t."""

    domain = Time(0, 5)
    memory = Integral(lambda u, s, t: torch.exp(s - t) * u, "t", 0, lambda t: t)
    total = Integral(lambda u, s, t: u.t * s, "t", 0, 5)
    conditions = {"start": Initial(u=1)}

    def residual(self, u, memory):
        return u.t + u - memory

    def exact(self, t):
        return torch.exp(-t) * torch.cosh(t)


class Fredholm(Volterra):
    """A kernel that is a derivative, the same nodes for all rows."""

    domain = Time(0, 5)

    def residual(self, u, total, t):
        return u - t * total


def test_integrals_equal_adaptive_quadrature() -> None:
    for cls, kernel, upper in (
        (Volterra, lambda u, du, s, t: math.exp(s - t) * u, lambda t: t),
        (Fredholm, lambda u, du, s, t: du * s, lambda t: 5.0),
    ):
        system = cls()
        module = module_of(system)
        p = system.sample(4, torch.Generator().manual_seed(0))
        found = module.residuals("equations", p)["residual"].detach()

        def at(t: float) -> tuple[float, float]:
            x = torch.tensor([[t]], dtype=torch.float64, requires_grad=True)
            u = module.network(x)["u"]  # noqa: B023
            (slope,) = torch.autograd.grad(u.sum(), x)
            return float(u.detach()), float(slope)

        for (t,), got in zip(p.x.tolist(), found.tolist(), strict=True):
            u, slope = at(t)
            wanted, _ = quad(lambda s: kernel(*at(s), s, t), 0, upper(t))  # noqa: B023
            rest = slope + u - wanted if cls is Volterra else u - t * wanted
            assert got == pytest.approx(rest, rel=1e-7)


def test_rows_with_integrals_mix_and_their_jacobian_is_right() -> None:
    system = Volterra()
    module = module_of(system)
    batch = PointData(problem=system, points=5, condition_points=2).batch(0)
    layers, parameters = affine_layers(module.network), list(module.network.parameters())
    objective = Objective(lambda: module.loss_terms(batch))
    assert mixing_terms(objective, layers) == {"residual"}
    found = jacobian_of(objective, layers, parameters).dense()
    rows = []
    for term in module.loss_terms(batch):
        for r in term.residual:
            grads = torch.autograd.grad(term.scale**0.5 * r, parameters, retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:LevenbergMarquardt has lowered", "ignore:the loss terms")
def test_a_volterra_equation_is_solved() -> None:
    solution = solve(Volterra(), steps=30, points=30, width=10, depth=3)
    assert solution.metrics["test/rel_l2"] < 2e-3


def made(**parts):
    base = {"domain": Interval(0, 1), "residual": lambda self, u: u.xx}
    return type("Mine", (System,), base | parts)()


def integral(*given, **options):
    made_of = Integral(*given, **options)
    made_of.name = "total"
    return made_of


BAD = {
    "outside": (
        {"total": integral(lambda u: u, "x", 0, 2), "residual": lambda self, u, total: u - total},
        "'total' asks for x=1.*outside the domain",
    ),
    "variable": ({"total": integral(lambda u: u, "t", 0, 1)}, "'total' over t.*a variable"),
    "node": ({"total": integral(lambda u: u, "x", 0, 1, node="u")}, "node='u', which is taken"),
    "argument": (
        {
            "total": integral(lambda w: w, "x", 0, 1),
            "residual": lambda self, u, total: u - total,
        },
        "the integrand of 'total' asks for an argument 'w'",
    ),
    "self": (
        {"total": integral(lambda u: u, "x", 0, 1), "residual": lambda self, u: u - self.total},
        "self.total of Mine.*asked for by its name",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_integrals_that_cannot_be_are_refused(case) -> None:
    parts, message = BAD[case]
    with pytest.raises(InvalidArgument, match=message):
        made(**parts).needs  # noqa: B018


# --- weights of rows ----------------------------------------------------------------------------
class Advection(System):
    domain = Interval(0, 1) * Time(0, 2)
    periodic = ("x",)
    conditions = {"start": Initial(u=lambda x: torch.sin(2 * torch.pi * x))}

    def residual(self, u):
        return {"advection": u.t + 3 * u.x}


def stepped(module: PINN, batch, steps: int) -> list[dict[str, torch.Tensor]]:
    """Return the factors of the equations' rows over some steps, the weights being moved."""
    found = []
    module.log = module.log_dict = lambda *args, **kwargs: None
    for step in range(steps):
        module._weighed = (step - 1, None)  # as a new step of the trainer would
        plain = module.residuals("equations", batch.points)
        module.training_step(batch, 0)
        weighed = {t.name: t.residual for t in module.loss_terms(batch)}
        found.append({k: ((weighed[k] / v).detach(), v.detach()) for k, v in plain.items()})
        with torch.no_grad():
            module.network.network.output.weight.mul_(1.5)
    return found


def test_causal_weights_are_those_of_the_paper() -> None:
    system = Advection()
    module = module_of(system, causal=[0.02, 0.3], causal_chunks=4)
    batch = PointData(problem=system, points=60, fixed_for=9).batch(0)
    steps = stepped(module, batch, 3)
    part = (batch.points.x[:, 1] / 2 * 4).long().clamp_max(3).numpy()
    seen = np.zeros(4)
    for step in steps:
        factor, r = (v.numpy() for v in step["advection"])
        eps = 0.02
        wanted = np.exp(-eps * (np.cumsum(seen) - seen))[part] ** 0.5
        np.testing.assert_allclose(factor, wanted, rtol=1e-10)
        seen = np.array([(r[part == k] ** 2).mean() for k in range(4)])


def test_the_causal_ladder_is_climbed_when_all_times_count() -> None:
    system = Advection()
    rule = CausalWeights(system, [1.0, 10.0, 100.0], chunks=4).double()
    p = system.sample(40, torch.Generator().manual_seed(0))
    batch = PointData(problem=system, points=40).batch(0)
    small = {"advection": torch.full((40,), 1e-3).double()}
    found = []
    for _ in range(5):
        rule.begin(p, batch.streams)
        found.append(float(rule.ladder[rule.stage]))
        rule.update(p, small, batch.streams)
    # at 100 the smallest weight would be exp(-3e-4) and there is nothing above
    assert found == [1.0, 10.0, 100.0, 100.0, 100.0]
    large = {"advection": torch.ones(40).double()}
    rule.update(p, large, batch.streams)
    rule.begin(p, batch.streams)
    assert float(rule.weights[-1]) == pytest.approx(math.exp(-300), rel=1e-6)


def test_attention_follows_its_recursion() -> None:
    system = Advection()
    data = PointData(problem=system, points=30, fixed_for=1000)
    module = module_of(system, data=data, attention=True, attention_decay=0.9, attention_rate=0.2)
    wanted = np.ones(30)
    for k, step in enumerate(stepped(module, data.batch(0), 4)):
        factor, r = (v.numpy() for v in step["advection"])
        np.testing.assert_allclose(factor, wanted, rtol=1e-10)
        share = np.abs(r) / np.abs(r).max()
        wanted = share if k == 0 else 0.9 * wanted + 0.2 * share


@pytest.mark.filterwarnings("ignore:.*no condition")
def test_weights_of_rows_are_refused_where_they_mean_nothing() -> None:
    line = made(residual=lambda self, u: u.xx)
    with pytest.raises(InvalidArgument, match="which has no time"):
        module_of(line, causal=1.0)
    with pytest.raises(InvalidArgument, match="positive numbers that rise"):
        module_of(Advection(), causal=[1.0, 0.1])
    with pytest.raises(InvalidArgument, match="redrawn every 10 steps.*data.fixed_for=100000"):
        ResidualAttention(("residual",), 10)
    assert CausalWeights(Advection(), 1.0, chunks=2).weights.tolist() == [1.0, 1.0]
    for chunks in (1, 0, -3, 2.0):
        with pytest.raises(InvalidArgument, match=f"causal_chunks={chunks}.*at least 2"):
            CausalWeights(Advection(), 1.0, chunks=chunks)
    for ladder in ([], [0.0, 1.0], [1.0, 1.0], [1.0, math.inf], -1.0, [math.nan]):
        with pytest.raises(InvalidArgument, match="positive numbers that rise"):
            CausalWeights(Advection(), ladder)


# --- windows of time ------------------------------------------------------------------------------
@pytest.mark.parametrize(("windows", "steps"), [(3, 12), (1, 12), (5, 7), (3, 0), (3, -1)])
def test_repeated_schedules_run_through_in_every_window(windows: int, steps: int) -> None:
    """Without a number of steps a schedule stays as it is."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    repeated(schedule, windows, steps)
    for step in range(max(steps, 4)):
        share = windows * step / steps % 1 * steps if steps > 0 else step
        assert schedule.lr_lambdas[0](step) == pytest.approx(1 / (1 + share), rel=1e-12)


class Pendulum(System):
    """u' = v, v' = -sin u - v / 10."""

    outputs = ("u", "v")
    domain = Time(0, 9)
    conditions = {"start": Initial(u=2, v=0)}

    def residual(self, u, v):
        return u.t - v, v.t + torch.sin(u) + v / 10


@pytest.mark.filterwarnings("ignore:LevenbergMarquardt has lowered")
def test_windows_against_runge_kutta(tmp_path) -> None:
    words = ("data.fixed_for=1000", "trainer.log_every_n_steps=1")
    solution = solve(Pendulum(), *words, steps=90, points=40, width=10, depth=3, windows=3)
    t = np.linspace(0, 9, 60)
    exact = solve_ivp(
        lambda t, s: [s[1], -np.sin(s[0]) - s[1] / 10], (0, 9), [2, 0], t_eval=t, rtol=1e-10,
        atol=1e-12,
    ).y  # fmt: skip
    found = solution(t=t)
    for k, name in enumerate("uv"):
        error = np.linalg.norm(found[name].numpy() - exact[k]) / np.linalg.norm(exact[k])
        assert error < 5e-3, (name, error)
    # the state is handed over: both sides of a window's end agree
    for end in (3.0, 6.0):
        sides = solution(t=[end - 1e-9, end + 1e-9])["u"]
        assert abs(float(sides[0] - sides[1])) < 1e-3
    # the loss begins anew with every window
    losses = [row["train/loss"] for row in solution.history]
    assert losses[30] > 10 * losses[29] and losses[60] > 10 * losses[59]
    solution.save(tmp_path / "saved")
    again = load(tmp_path / "saved", Pendulum())
    torch.testing.assert_close(again(t=t)["v"], found["v"], rtol=1e-12, atol=0)


def timed(**parts):
    base = {"domain": Interval(0, 1) * Time(0, 1), "residual": lambda self, u: u.t - u.xx}
    return type("Mine", (System,), base | parts)()


START = {"start": Initial(u=0)}
NO_WINDOWS = {
    "no time": (made(), "which has no time"),
    "no start": (timed(), "without Initial"),
    "built in": (
        timed(hard=lambda self, u, t: t * u, conditions=START),
        "leaves the network nothing to say at the start",
    ),
    "unknown": (
        timed(k=Unknown(1.0), residual=lambda self, u: u.t - self.k * u.xx, conditions=START),
        "with unknown constants",
    ),
    "data": (
        timed(conditions=START | {"d": Observed({"x": [0.5], "t": [0.5], "u": [0.0]})}),
        "condition 'd' at times of its own",
    ),
    "point": (timed(conditions=START | {"p": At(x=0, t=0, u=0)}), "a pressure needs no point"),
    "memory": (
        timed(
            total=integral(lambda u: u, "t", 0, lambda t: t),
            residual=lambda self, u, total: u.t - total,
            conditions=START,
        ),
        "integral 'total' over t",
    ),
}


@pytest.mark.filterwarnings("ignore:.*no condition")
@pytest.mark.parametrize("case", NO_WINDOWS)
def test_windows_are_refused_where_they_mean_nothing(case) -> None:
    system, message = NO_WINDOWS[case]
    with pytest.raises(InvalidArgument, match=message):
        module_of(system, windows=2)


# --- windows in space -----------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:.*no condition")
def test_fbpinn_is_a_partition_of_unity_and_its_jets_are_right() -> None:
    system = made(domain=Rectangle((0, -1), (2, 1)), residual=lambda self, u: u.xxy + u.lap * u.y)
    torch.manual_seed(0)
    network = FBPINN(**network_sizes(system), parts=[3, 2], width=5)
    module = module_of(system, network)
    p = system.sample(6, torch.Generator().manual_seed(0))
    inputs = module.network.inputs(p.x)
    total = sum(network.windows(inputs))
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-12, atol=0)
    assert float(network.windows(inputs)[0].max()) > 0.8  # a window rules its own part
    found = module.residuals("equations", p)["residual"]
    x = p.x.clone().requires_grad_()

    def d(f: torch.Tensor, i: int) -> torch.Tensor:
        return torch.autograd.grad(f.sum(), x, create_graph=True)[0][:, i]

    u = module.network(x)["u"]
    lap = d(d(u, 0), 0) + d(d(u, 1), 1)
    wanted = d(d(d(u, 0), 0), 1) + lap * d(u, 1)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    with pytest.raises(InvalidArgument, match="network.parts=.* one per input"):
        FBPINN(features=2, parts=[2])


# --- sampled Laplacians ---------------------------------------------------------------------------
class Many(System):
    outputs = ("u", "v")
    domain = Box([0.0] * 6, [1.0] * 6) * Time(0, 1)
    conditions = {"wall": On(domain.x1_low, u=0, v_lap=0), "start": Initial(u=0)}

    def residual(self, u, v, position):
        return u.t - u.lap * v.x2 + position.sum(1), v.lap + u

    def hard(self, u, v, position):
        return {"u": u * (position**2).sum(-1, keepdim=True)}


def test_sampled_laplacians_average_to_the_exact_ones() -> None:
    system = Many()
    module = module_of(system, sampled=2)
    p = system.sample(5, torch.Generator().manual_seed(0))
    exact = module.residuals("equations", p)
    sums = dict.fromkeys(exact, 0.0)
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    for pair in pairs:
        known = sampling.fields(system, "equations", p, pair, module.network.jet)
        for name, value in system.equations(p, known).items():
            sums[name] = sums[name] + value / len(pairs)
    for name, value in exact.items():
        torch.testing.assert_close(sums[name], value, rtol=1e-10, atol=1e-11)
    # and the exact one is the sum that reverse mode finds
    x = p.x.clone().requires_grad_()
    v = module.network(x)["v"]
    (g,) = torch.autograd.grad(v.sum(), x, create_graph=True)
    lap = sum(torch.autograd.grad(g[:, k].sum(), x, retain_graph=True)[0][:, k] for k in range(6))
    u = module.network(x)["u"]
    torch.testing.assert_close(exact["1"], lap + u, rtol=1e-10, atol=1e-11)


@pytest.mark.filterwarnings("ignore:.*no condition")
def test_dimensions_are_drawn_anew_and_refused_where_there_are_none() -> None:
    drawn = {sampling.draw(Many(), 2, torch.Generator().manual_seed(k)) for k in range(40)}
    assert len(drawn) > 8 and all(0 <= a < b < 6 for a, b in drawn)
    with pytest.raises(InvalidArgument, match="module.sampled=7.*from 1 to 6"):
        module_of(Many(), sampled=7)
    with pytest.raises(InvalidArgument, match="which reads no Laplacian"):
        module_of(made(), sampled=1)
    system = made(domain=Ball([0] * 5, 1), residual=lambda self, u: u.x3.lap)
    with pytest.raises(InvalidArgument, match="u.x3.lap with sampled dimensions"):
        module_of(system, sampled=1)


# --- together -------------------------------------------------------------------------------------
def test_options_go_together() -> None:
    words = ("network.parts=[1,1,2]", "data.fixed_for=1000", "data.candidates=2")
    solution = solve(
        Advection(), *words, "module.balance_every=2", "optimizer.lr=1e-2", optimizer="adam",
        network="fbpinn", steps=60, points=50, balance="gradnorm", causal=True, attention=True,
        windows=2,
    )  # fmt: skip
    losses = [row["train/loss"] for row in solution.history]
    assert all(map(math.isfinite, losses))
    assert {"causal/eps", "causal/least"} <= set(solution.history[-1])


def test_glorot_weights_have_their_variance_and_frozen_ones_stay() -> None:
    system = Advection()
    sizes = network_sizes(system)
    torch.manual_seed(0)
    network = MLP(**sizes, width=100, depth=3)
    network.input.f.weight.requires_grad_(False)
    before = network.input.f.weight.clone()
    module_of(system, network, initial="glorot")
    hidden = network.hidden[0]
    assert float(hidden.weight.detach().var()) == pytest.approx(2 / 200, rel=0.05)
    assert not bool(hidden.bias.any())
    assert torch.equal(network.input.f.weight, before.double())
    with pytest.raises(InvalidArgument, match="module.initial=xavier"):
        module_of(system, initial="xavier")


def test_conditions_on_values_share_a_pass_where_no_layer_is_looked_at() -> None:
    class Plate(System):
        domain = Rectangle((0, 0), (1, 1)) * Time(0, 1)
        conditions = {
            "start": Initial(u=lambda x: torch.sin(x)),
            "flux": On(domain.left, u_n=0),
            "wall": On(domain.right, lambda u, y: {"a": u - y, "b": u**2}, points=3),
            "data": Observed({"x": [0.5], "y": [0.2], "t": [0.1], "u": [3.0]}, sigma=0.1),
        }

        def residual(self, u):
            return u.t - u.lap

        def hard(self, u, y):
            return 1 + y * u

    system = Plate()
    module = module_of(system)
    batch = PointData(problem=system, points=4, condition_points=5).batch(0)
    apart = module.loss_terms(batch)
    module._trainer = SimpleNamespace(optimizers=[torch.optim.Adam(module.parameters())])
    assert set(module._values_together(batch)) == {"start", "wall", "data"}
    together = module.loss_terms(batch)
    assert [t.name for t in together] == [t.name for t in apart]
    for a, b in zip(apart, together, strict=True):
        torch.testing.assert_close(a.residual, b.residual, rtol=1e-12, atol=1e-14)
    module._trainer.optimizers = [LevenbergMarquardt(module.network)]
    assert module._values_together(batch) == {}
