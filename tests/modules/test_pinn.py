"""PINNs for systems: derivatives, curvature, identified constants, solve()."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.callbacks.plots import draw
from sciml.cli import train
from sciml.data.point_sets import PointData
from sciml.errors import ConfigError, InvalidArgument, InvalidType, PretrainedError
from sciml.modules.identified import standard_errors
from sciml.modules.system_pinn import PINN
from sciml.modules.weights.balance import balanced, gradient_norms, kernel_traces
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.ansatz import network_sizes
from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.jacobian import jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.curvature.uses import mixing_terms
from sciml.optim.full.damped_gauss_newton import LevenbergMarquardt
from sciml.physics.suite.simple import Kovasznay
from sciml.physics.systems import (
    Initial,
    Interval,
    Observed,
    On,
    Rectangle,
    Same,
    System,
    Time,
    Unknown,
)
from sciml.pinn import solve
from sciml.system_solution import load


def module_of(system: System, width: int = 6, depth: int = 3, **options) -> PINN:
    torch.manual_seed(0)
    network = MLP(**network_sizes(system), width=width, depth=depth)
    return PINN(problem=system, network=network, optimizer=torch.optim.Adam, **options).double()


class Channel(System):
    """Two outputs, an unknown, a hard constraint that is no multiple of an output, five terms."""

    outputs = ("u", "p")
    domain = Rectangle((0, 0), (1, 1)) * Time(0, 1)
    k = Unknown(0.7, positive=True)
    conditions = {
        "start": Initial(u=0, u_t=1),
        "side": On(domain.left, lambda u, p: u.n + p, points=5),
        "data": Observed({"x": [0.1, 0.5], "y": [0.5, 0.2], "t": [0.3, 1], "p": [1, 2]}, 0.1),
    }

    def residual(self, u, p, y):
        return u.tt - self.k * u.lap + p.xy - y, p.t + u * u.x

    def hard(self, u, p, x, y):
        return {"u": y * (1 - y) * u * self.k, "p": p + torch.sin(x) * u}


def test_residuals_equal_those_of_nested_reverse_mode() -> None:
    system = Channel()
    module = module_of(system)
    p = PointData(problem=system, points=9).batch(0).points
    found = module.residuals("equations", p)
    x = p.x.clone().requires_grad_()
    values = module.network(x)

    def d(f: torch.Tensor, i: int) -> torch.Tensor:
        return torch.autograd.grad(f.sum(), x, create_graph=True)[0][:, i]

    u, q = values["u"], values["p"]
    lap = d(d(u, 0), 0) + d(d(u, 1), 1)
    first = d(d(u, 2), 2) - system.k * lap + d(d(q, 0), 1) - x[:, 1]
    second = d(q, 2) + u * d(u, 0)
    torch.testing.assert_close(found["0"], first, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found["1"], second, rtol=1e-10, atol=1e-12)


def test_lift_and_mask_are_computed_once_where_the_constraint_allows() -> None:
    class Line(System):
        domain = Interval(0, 1)

        def residual(self, u):
            return u.xx

        def hard(self, u, x):
            return torch.sin(x) + x * (1 - x) * u

    class Bent(Line):
        domain = Line.domain

        def hard(self, u, x):
            return torch.exp(x * u)

    for system, affine in ((Line(), True), (Bent(), False)):
        module = module_of(system)
        p = system.sample(5, torch.Generator().manual_seed(0))
        first = module.residuals("equations", p)["residual"]
        again = module.residuals("equations", p)["residual"]  # from the cache
        assert module.network._is_affine() is affine
        assert torch.equal(first, again)
        x = p.x.clone().requires_grad_()
        u = module.network(x)["u"]
        for _ in range(2):
            (u,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            u = u[:, 0]
        torch.testing.assert_close(first, u, rtol=1e-10, atol=1e-12)


def dense(terms, parameters) -> torch.Tensor:
    """Return the scaled Jacobian of all rows, one reverse pass each."""
    rows = []
    for term in terms:
        for r in term.residual:
            grads = torch.autograd.grad(
                term.scale**0.5 * r, parameters, retain_graph=True, allow_unused=True
            )
            pairs = zip(grads, parameters, strict=True)
            rows.append(
                torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
            )
    return torch.stack(rows)


def test_curvature_of_several_outputs_and_lengths_equals_autograd() -> None:
    system = Channel()
    module = module_of(system)
    batch = PointData(problem=system, points=7, condition_points=4).batch(0)
    objective = Objective(lambda: module.loss_terms(batch))
    parameters = list(module.network.parameters())
    found = jacobian_of(objective, affine_layers(module.network), parameters)
    assert [len(t.residual) for t in objective.terms()] == [7, 7, 4, 4, 5, 2]
    assert [t.name for t in objective.terms()] == [
        "0", "1", "start.u", "start.u_t", "side", "data",
    ]  # fmt: skip
    wanted = dense(objective.terms(), parameters)
    torch.testing.assert_close(found.dense(), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:.*no condition")
def test_terms_that_mix_rows_are_found_and_their_jacobian_is_right() -> None:
    class Ring(System):
        domain = Interval(0, 1) * Time(0, 1)
        conditions = {"ends": Same("x", u=1)}

        def residual(self, u):
            return u.t - u.xx

    system = Ring()
    module = module_of(system)
    batch = PointData(problem=system, points=5, condition_points=3).batch(0)
    layers = affine_layers(module.network)
    objective = Objective(lambda: module.loss_terms(batch))
    assert mixing_terms(objective, layers) == {"ends.u", "ends.u_x"}
    assert [(t.name, len(t.residual), t.count) for t in objective.terms()][1] == ("ends.u", 3, 3)
    parameters = list(module.network.parameters())
    found = jacobian_of(objective, layers, parameters)
    wanted = dense(Objective(lambda: module.loss_terms(batch)).terms(), parameters)
    torch.testing.assert_close(found.dense(), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:.*no condition")
def test_periodic_inputs_make_outputs_periodic_with_all_derivatives() -> None:
    class Ring(System):
        domain = Interval(-1, 3) * Time(0, 1)
        periodic = ("x",)

        def residual(self, u):
            return u.t + u.xxxx

    system = Ring()
    sizes = network_sizes(system, 2)
    assert sizes["features"] == 5
    torch.manual_seed(0)
    network = MLP(**sizes, width=6, depth=3)
    data = type("Data", (), {"modes": 2})()
    module = PINN(problem=system, network=network, optimizer=torch.optim.Adam, data=data).double()
    p = system.sample(4, torch.Generator().manual_seed(0))
    q = type(p)(p.x + torch.tensor([4.0, 0.0]).double())
    here, there = (module.network.jet(s, system.needs["equations"]).packed for s in (p, q))
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-10)


@pytest.mark.filterwarnings("ignore:.*no condition")
def test_waves_are_inputs_beside_the_variable_with_right_derivatives() -> None:
    class Driven(System):
        domain = Interval(-1, 3) * Time(0, 2)
        waves = {"x": (2.0, 5.0), "t": (math.pi,)}

        def residual(self, u):
            return u.t + u.xx

    system = Driven()
    sizes = network_sizes(system)
    assert sizes["features"] == 2 + 4 + 2
    torch.manual_seed(0)
    network = MLP(**sizes, width=6, depth=3)
    module = PINN(problem=system, network=network, optimizer=torch.optim.Adam).double()
    p = system.sample(5, torch.Generator().manual_seed(0))
    at = p.x.clone().requires_grad_()
    x, t = at[:, :1], at[:, 1:]
    columns = [(x - 1) / 2, *(f(w * x) for w in (2.0, 5.0) for f in (torch.cos, torch.sin))]
    columns += [t - 1, torch.cos(math.pi * t), torch.sin(math.pi * t)]
    inputs = torch.cat(columns, 1)
    torch.testing.assert_close(module.network.inputs(p.x), inputs.detach(), rtol=1e-12, atol=1e-12)
    u = network(None, None, inputs)
    (first,) = torch.autograd.grad(u.sum(), at, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), at)
    found = module.residuals("equations", p)["residual"]
    torch.testing.assert_close(found, first[:, 1] + second[:, 0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("even", [True, False])
def test_points_inside_can_end_before_the_time_does(even) -> None:
    class Late(System):
        domain = Interval(0, 2) * Time(1, 5)
        conditions = {"sides": On(domain.boundary, u=0)}

        def residual(self, u):
            return u.t - u.xx

    def drawn(until: float | None) -> PointData:
        return PointData(problem=Late(), points=400, even=even, until=until)

    whole, early = (drawn(until).batch(3).points.x for until in (None, 2.0))
    torch.testing.assert_close(early[:, 0], whole[:, 0], rtol=0, atol=0)
    torch.testing.assert_close(early[:, 1], 1 + (whole[:, 1] - 1) / 4, rtol=1e-12, atol=0)
    assert float(early[:, 1].max()) == pytest.approx(2, abs=0.02)
    ends = drawn(2.0).batch(3).conditions["sides"].x[:, 1]
    assert float(ends.max()) > 4.5  # conditions keep their times
    for until in (1.0, 5.1):
        with pytest.raises(InvalidArgument, match=r"data.until=.*a time in \(1, 5\]"):
            drawn(until)


def fitted(module: PINN, data: PointData, steps: int) -> float:
    optimizer = LevenbergMarquardt(module.network)
    for step in range(steps):
        batch = data.batch(step // data.fixed_for)
        objective = Objective(lambda batch=batch: module.loss_terms(batch))
        optimizer.update_curvature(objective)
        optimizer.step()
    return float(objective.loss())


class Robin(System):
    """u'' = 2, u(-1) = 0, u' = u at 1: u = (x + 1)^2; with the other sign another parabola."""

    domain = Interval(-1, 1)
    conditions = {"left": On(domain.left, u=0), "right": On(domain.right, lambda u: u.n - u)}

    def residual(self, u):
        return u.xx - 2

    def exact(self, x):
        return (x + 1) ** 2


@pytest.mark.filterwarnings("ignore:LevenbergMarquardt has lowered")
def test_the_sign_of_a_robin_condition() -> None:
    solution = solve(Robin(), steps=40, points=30, width=8, depth=3)
    assert solution.metrics["test/rel_l2"] < 1e-2  # of order one with the other sign


class Decay(System):
    """u' = -k u from readings; u(0) = 1 built in."""

    domain = Time(0, 1)
    k = Unknown(1.5, positive=True)
    weights = {"residual": 1e4}
    noise: torch.Tensor | float = 0.0
    sigma = 0.01

    def conditions(self):
        t = torch.linspace(0.05, 1, 20).double()
        u = torch.exp(-2 * t) + self.sigma * self.noise
        return {"readings": Observed({"t": t, "u": u}, sigma=self.sigma)}

    def residual(self, u):
        return u.t + self.k * u

    def hard(self, u, t):
        return 1 + t * u


@pytest.mark.filterwarnings("ignore:LevenbergMarquardt has lowered")
def test_an_unknown_constant_is_recovered_from_exact_data() -> None:
    system = Decay()
    module = module_of(system, width=16)
    fitted(module, PointData(problem=system, points=40, fixed_for=100), 80)
    assert float(system.k.detach()) == pytest.approx(2.0, abs=3e-6)  # 1.5e-6 after 80 steps


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LevenbergMarquardt has lowered")
def test_standard_errors_against_two_hundred_noisy_repetitions() -> None:
    found, generator, errors = [], torch.Generator().manual_seed(0), []
    start = None
    for _ in range(200):
        system = Decay()
        system.noise = torch.randn(20, generator=generator).double()
        module = module_of(system, width=6)
        if start is not None:
            module.load_state_dict(start)
        fitted(
            module, PointData(problem=system, points=30, fixed_for=100), 40 if start is None else 12
        )
        start = start or {k: v.clone() for k, v in module.state_dict().items()}
        found.append(float(system.k.detach()))
        errors.append(standard_errors(module)["k"])
    spread = torch.tensor(found).std()
    # the standard deviation of 200 numbers is known to 5 %
    assert float(torch.tensor(errors).mean()) == pytest.approx(float(spread), rel=0.15)
    assert float(torch.tensor(found).mean()) == pytest.approx(2.0, abs=4 * float(spread) / 200**0.5)


@pytest.mark.filterwarnings("ignore:LevenbergMarquardt has lowered")
def test_the_standard_error_of_a_problem_with_a_known_one() -> None:
    system = Decay()
    module = module_of(system, width=10)
    fitted(module, PointData(problem=system, points=40, fixed_for=100), 60)
    t = torch.linspace(0.05, 1, 20).double()
    slope = -t * torch.exp(-2 * t)  # of u = e^{-k t} in k: the equation leaves nothing else free
    wanted = system.sigma / float(slope.norm())
    assert standard_errors(module)["k"] == pytest.approx(wanted, rel=0.02)


def test_weights_by_name() -> None:
    module = module_of(Channel(), weights={"side": 3.0})
    batch = PointData(problem=module.problem, points=4).batch(0)
    weights = {t.name: t.weight for t in module.loss_terms(batch)}
    assert weights == {"0": 1, "1": 1, "start.u": 10, "start.u_t": 10, "side": 3, "data": 1}
    with pytest.raises(InvalidArgument, match="module.weights={sides: ...}.*Did you mean 'side'"):
        module_of(Channel(), weights={"sides": 3.0})


def test_points_of_large_residuals_are_kept_as_long_as_their_batch() -> None:
    module = module_of(Kovasznay())
    data = PointData(problem=module.problem, points=50, candidates=4, fixed_for=2)
    chosen = []
    for step in (0, 0, 1):
        batch = module.choose_points(data.batch(step))
        assert len(batch.points) == 50
        chosen.append(batch.points.x)
        with torch.no_grad():
            module.network.network.output.weight.mul_(1.1)
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[1], chosen[2])


# --- solve ------------------------------------------------------------------------------------
def test_solve_in_two_phases_saves_and_predicts_by_name(tmp_path) -> None:
    problem = Robin()
    solution = solve(
        problem, optimizer=("adam", "ssbroyden"), steps=50, points=20, width=6, depth=2
    )
    assert {row["step"] for row in solution.history} >= {25.0}
    assert set(solution.metrics) == {"test/rel_l2", "test/max_abs", "test/skill"}
    x = torch.tensor([[0.0, 0.5], [1.0, -1.0]])
    found = solution(x=x)["u"]
    assert found.shape == (2, 2) and found.dtype == torch.float64
    torch.testing.assert_close(
        solution(x.reshape(-1, 1))["u"], found.reshape(-1), rtol=1e-6, atol=1e-7
    )
    solution.save(tmp_path / "saved")
    again = load(tmp_path / "saved", Robin())
    assert torch.equal(again(x=x)["u"], found)
    assert {p.name for p in solution.plot(tmp_path)} >= {"losses.png", "scatter.png"}
    with pytest.raises(InvalidArgument, match="solution at t.*all of x"):
        solution(t=1.0)
    with pytest.raises(PretrainedError, match="one of Decay"):
        load(tmp_path / "saved", Decay())


def test_unknown_constants_are_drawn_over_the_steps(tmp_path) -> None:
    rows = ["step,unknown/k,train/loss", "1,0.5,2.0", "2,0.7,1.0"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    assert "unknowns.png" in {path.name for path in draw(tmp_path, None)}
    (tmp_path / "metrics.csv").write_text("step,train/loss\n1,2.0\n")
    assert "unknowns.png" not in {path.name for path in draw(tmp_path, None)}


def test_solve_refuses_what_cannot_be() -> None:
    with pytest.raises(InvalidArgument, match="steps=1 and seconds=1"):
        solve(Robin(), steps=1, seconds=1)
    with pytest.raises(ConfigError, match="optimizer=engdd is unknown. Did you mean 'engd'"):
        solve(Robin(), optimizer="engdd")
    with pytest.raises(ConfigError, match="network.widht is unknown. Did you mean network.width"):
        solve(Robin(), "network.widht=3")
    with pytest.raises(InvalidType, match="an instance of a System"):
        solve(Robin)


OWN = """
from sciml.pinn import Interval, On, System

class Own(System):
    '''u'' = b, u = 0 at both ends.'''

    domain = Interval(0, 1)
    conditions = {"ends": On(domain.boundary, u=0)}

    def __init__(self, b=1.0):
        self.b = b

    def residual(self, u):
        return u.xx - self.b

    def exact(self, x):
        return self.b * x * (x - 1) / 2
"""


def test_a_class_of_the_users_own_from_the_command_line(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    words = ["model=pinn_system", "problem=own.py:Own", "problem.b=2.0", "optimizer=engd"]
    words += ["network.width=6", "data.points=20", "trainer.max_steps=5", "hydra.run.dir=run"]
    assert train.main(words) == 0
    assert (tmp_path / "run" / "metrics.json").exists()
    assert train.main([*words[:1], "problem=own.py:Owm"]) == 2
    assert "no class Owm. Did you mean 'Own'" in capsys.readouterr().err
    assert train.main([*words[:1], "problem=none.py:Own"]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert train.main(["model=pinn_system"]) == 2
    assert "needs problem. Type problem=NAME" in capsys.readouterr().err
    assert train.main(["model=pinn_burgers1d", "module=sdgd_pinn", "estimator=exact"]) == 2
    assert "Burgers1D does not fit module SDGDPINN" in capsys.readouterr().err


# --- balance ----------------------------------------------------------------------------------
def linear_terms(c: float = 1.0):
    """Return terms r_i = A_i theta - b_i of different sizes, the parameters and the A_i."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(6, generator=generator).double().requires_grad_()
    found, matrices = [], []
    for i, n in enumerate((5, 9)):
        a = torch.randn(n, 6, generator=generator).double() * 10**i
        matrices.append(a)
        weight = 2.0 * (c if i else 1.0)
        found.append(LossTerm(f"{i}", a @ theta - 1, weight, n))
    return found, [theta], matrices


def test_traces_of_the_kernel_are_those_of_the_matrices() -> None:
    terms, parameters, matrices = linear_terms()
    found = kernel_traces(terms, parameters, torch.Generator().manual_seed(0), probes=4000)
    for value, a in zip(found, matrices, strict=True):
        k = 2.0 / len(a) * a @ a.t()
        off = k - k.diag().diag()
        error = (2 * off.square().sum() / 4000).sqrt()  # of Hutchinson's estimate
        assert abs(float(value - k.trace())) < 3 * float(error)
    sizes = gradient_norms(terms, parameters)
    wanted = 2 * 2.0 / 5 * matrices[0].t() @ (matrices[0] @ parameters[0] - 1)
    assert float(sizes[0]) == pytest.approx(float(wanted.detach().norm()), rel=1e-12)


@pytest.mark.parametrize("rule", ["gradnorm", "ntk"])
def test_a_balanced_run_does_not_depend_on_preset_weights(rule) -> None:
    ratios = []
    for c in (1.0, 1e3):
        terms, parameters, _ = linear_terms(c)
        log = torch.zeros(2).double()
        for step in range(3):
            seed = torch.Generator().manual_seed(step)
            log = balanced(rule, terms, parameters, log, seed)
        assert float(log.sum()) == pytest.approx(0, abs=1e-12)
        weights = [t.weight * math.exp(v) for t, v in zip(terms, log.tolist(), strict=True)]
        ratios.append(weights[1] / weights[0])
    assert ratios[1] == pytest.approx(ratios[0], rel=1e-10)


def test_unit_weights_add_gradients_of_one_length_whatever_the_presets() -> None:
    sums = []
    for c in (1.0, 1e3):
        terms, parameters, matrices = linear_terms(c)
        log = balanced("unit", terms, parameters, torch.ones(2).double(), torch.Generator())
        grads = [
            2 * t.weight / len(a) * a.t() @ (a @ parameters[0] - 1)
            for t, a in zip(terms, matrices, strict=True)
        ]
        weighed = [v * g for v, g in zip(log.exp(), grads, strict=True)]
        # as long as that of the equation, which is the first term
        for g in weighed:
            assert float(g.detach().norm()) == pytest.approx(float(grads[0].detach().norm()))
        sums.append(sum(weighed))
    torch.testing.assert_close(sums[1], sums[0], rtol=1e-10, atol=0.0)
    terms, parameters, _ = linear_terms()
    log = balanced("unit", terms, parameters, torch.zeros(2), torch.Generator(), 2)
    both = gradient_norms(terms, parameters)
    torch.testing.assert_close(
        log, (both.square().mean().sqrt() / both).log().float(), rtol=1e-6, atol=0.0
    )
