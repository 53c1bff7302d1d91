"""What methods of a problem return: every wrong shape is refused with what to write instead."""

import pytest
import torch
from torch import nn

from sciml.autodiff import squared_norm
from sciml.autodiff.estimators import Exact
from sciml.data.collocation import CollocationData
from sciml.errors import (
    InvalidArgument,
    InvalidType,
    NumericalWarning,
    SciMLWarning,
    TrainingDiverged,
)
from sciml.modules.sdgd_pinn import SDGDPINN
from sciml.modules.solve_pde import PDESolution, solve
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.trial import TrialSolution
from sciml.optim import ENGD, KFAC, Objective
from sciml.physics.pde import PDE, Fields, LiftTerms, Points
from sciml.physics.problems.semilinear_allen_cahn import SemilinearAllenCahn
from sciml.physics.problems.unit_ball import SineGordon
from sciml.physics.residual.reduced import evaluate_reduced
from sciml.physics.residual.soundness import check_answers, check_problem
from sciml.physics.samplers import box, uniform

torch.set_num_threads(1)
N, D = 6, 2


class Heat(PDE):
    """u_t = Lap u + f with u = t x_1."""

    time_dependent = True

    def sample(self, n, generator):
        return Points(box(n, self.dim, generator), uniform(n, generator))

    def lift(self, x, t):
        return t, None

    def residual(self, u, p):
        return u.dt - u.laplacian - p.x[:, 0]

    def exact(self, x, t):
        return t[:, 0] * x[:, 0]


def points(n=N):
    g = torch.Generator().manual_seed(0)
    return Points(torch.rand(n, D, generator=g), torch.rand(n, 1, generator=g))


def fields(n=N):
    values = torch.rand(4, n)
    return Fields(values[0], values[1], values[2], gradient=lambda: torch.rand(n, D))


def call(problem, method, p):
    arguments = {
        "residual": (fields(len(p)), p),
        "condition_residual": ("start", fields(len(p)), p),
        "exact": (p.x, p.t),
        "source": (p.x,),
        "lift": (p.x, p.t),
        "feature": ("terminal", p.x, p.t),
        "sample": (len(p), torch.Generator()),
        "sample_test": (len(p), torch.Generator()),
        "sample_condition": ("start", len(p), torch.Generator()),
    }
    return getattr(problem, method)(*arguments.get(method, (p,)))


def problem_with(method, function):
    return type("Mine", (Heat,), {method: lambda self, *given: function(*given)})(dim=D)


COLUMN, NUMBERS = (lambda p: p.t), (lambda p: p.t[:, 0])
WRONG = {
    "residual column": ("residual", lambda u, p: u.value[:, None], r"\(6, 1\).*result\[:, 0\]"),
    "residual product": (
        "residual",
        lambda u, p: u.value - p.t,
        "combines.*, 6",
    ),
    "residual hidden": ("residual", lambda u, p: (u.value * p.t).mean(1), "combines"),
    "residual hidden in x": ("residual", lambda u, p: (p.x[:, :1] / u.value).sum(0), "combines"),
    "residual mean": ("residual", lambda u, p: u.value.mean(), r"\(\).*Leave means"),
    "residual None": ("residual", lambda u, p: None, "without return"),
    "residual numpy": ("residual", lambda u, p: u.value.numpy(), "ndarray.*torch operations"),
    "residual whole": ("residual", lambda u, p: u.value > 0, "dtype torch.bool"),
    "condition product": ("condition_residual", lambda k, u, p: u.value - p.t, "combines"),
    "condition hidden": ("condition_residual", lambda k, u, p: (u.value - p.t).sum(1), "combines"),
    "condition mean": ("condition_residual", lambda k, u, p: u.value.sum(), "of 'start'"),
    "condition rows": ("condition_residual", lambda k, u, p: u.value[:4], r"of 'start'.*\(4,\)"),
    "exact column": ("exact", lambda x, t: t, r"exact\(\) returned shape \(6, 1\)"),
    "exact product": ("exact", lambda x, t: (t * x[:, 0]).mean(1), "combines"),
    "source column": ("source", lambda x: x[:, :1], r"source\(\)"),
    "lift numbers": ("lift", lambda x, t: (t[:, 0], None), r"for A.*result\[:, None\]"),
    "lift second": ("lift", lambda x, t: (t, x[:, 0]), "for B"),
    "lift product": ("lift", lambda x, t: (t, t * x[:, 0]), "combines"),
    "lift alone": ("lift", lambda x, t: t, "two values"),
    "lift number": ("lift", lambda x, t: (t, 1.0), "a float"),
    "feature": ("feature", lambda k, x, t: t[:, 0], "of 'terminal'"),
    "diffusion numbers": ("diffusion", lambda p: p.t[:, 0], r"expand\(-1, 2\)"),
    "diffusion column": ("diffusion", lambda p: p.t, r"expand\(-1, 2\)"),
    "diffusion matrix": ("diffusion", lambda p: torch.eye(D), "Factor"),
    "lift terms": ("lift_terms", lambda p: LiftTerms(value=p.t), "lift_terms.*value"),
    "baselines": ("baselines", lambda p: {"zero": 0 * p.t}, r"\['zero'\]"),
    "basis": ("constant_basis", lambda p: (p.t, p.t[:, 0]), "constant_basis"),
    "gradient": ("source_gradient", lambda p: p.x[:, 0], r"\(6, 2\)"),
    "times": ("sample", lambda n, g: Points(torch.rand(n, D), torch.rand(n)), "column of times"),
    "no times": ("sample", lambda n, g: Points(torch.rand(n, D)), "without t"),
    "one coordinate": ("sample", lambda n, g: Points(torch.rand(n, 1), torch.rand(n, 1)), "6, 1"),
    "too few": ("sample", lambda n, g: points(n - 1), "5 points where 6"),
    "no tests": ("sample_test", lambda n, g: points(0), r"sample_test\(\) returned no points"),
    "no points": ("sample_condition", lambda k, n, g: points(0), "of 'start' returned no points"),
    "a tensor": ("sample_condition", lambda k, n, g: torch.rand(n, D), "Points"),
    "whole numbers": (
        "sample",
        lambda n, g: Points(torch.ones(n, D).int(), torch.rand(n, 1)),
        "int",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes_are_refused_with_advice(name):
    method, function, message = WRONG[name]
    with pytest.raises((InvalidArgument, InvalidType), match=message) as error:
        call(problem_with(method, function), method, points())
    assert f"Mine.{method}()" in str(error.value)


RIGHT = {
    "pairs that are meant": ("residual", lambda u, p: (u.value[:, None] - u.value[None]).mean(1)),
    "one row per pair": (
        "condition_residual",
        lambda k, u, p: u.value[: N // 2] - u.value[N // 2 :],
    ),
    "gradient": ("condition_residual", lambda k, u, p: u.grad),
    "no source": ("source", lambda x: None),
    "weights": ("diffusion", lambda p: torch.ones(D)),
    "weights of points": ("diffusion", lambda p: p.x),
    "no slope": ("source_gradient", lambda p: 0.0),
    "more points": ("sample_condition", lambda k, n, g: points(n + 1)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_meant_passes(name):
    method, function = RIGHT[name]
    call(problem_with(method, function), method, points())


def test_one_point_alone_does_not_end_the_watch():
    problem = problem_with("residual", lambda u, p: (u.value - p.t).mean(1))
    call(problem, "residual", points(1))  # nothing to be seen, and nothing wrong
    with pytest.raises(InvalidArgument, match="combines"):
        call(problem, "residual", points())


def test_keywords_and_inherited_methods_are_checked_too():
    class Mixin:
        def exact(self, x, t):
            return t

    class Mine(Mixin, Heat):
        pass

    p = points()
    with pytest.raises(InvalidArgument, match="exact"):
        Mine(dim=D).exact(x=p.x, t=p.t)
    sine = SineGordon(dim=3)
    x = torch.rand(4, 3)
    assert torch.equal(sine.feature(name="radius", x=x, t=None), sine.feature("radius", x, None))


# --- before training ----------------------------------------------------------------------------
def test_a_residual_of_other_points_is_told():
    class Norm(Heat):
        def residual(self, u, p):
            return u.dt - u.laplacian - p.x.norm()

    with pytest.warns(NumericalWarning, match="other points.*mixes_points"):
        check_problem(Norm(dim=D))
    Norm.mixes_points = True
    check_problem(Norm(dim=D))


BAD = {
    "without u": ({"residual": lambda self, u, p: p.x[:, 0]}, "does not depend on the solution"),
    "detached": ({"residual": lambda self, u, p: u.dt.detach()}, "does not depend"),
    "undeclared": ({"condition_residual": lambda self, k, u, p: u.value}, "and no conditions"),
    "reserved": ({"conditions": {"residual": 1.0}}, "another name"),
    "counted": ({"conditions": {"interior": 1.0}}, "another name"),
    "negative": ({"conditions": {"start": -1.0}}, "at least 0"),
    "not a number": ({"conditions": {"start": float("nan")}}, "at least 0"),
    "no methods": ({"conditions": {"start": 1.0}}, "does not define condition_residual"),
    "order": ({"time_order": 2, "time_dependent": False}, "time_dependent = True"),
    "gradient": (
        {"squared_gradient_only": True, "residual": lambda self, u, p: u.dt - u.grad.sum(1)},
        "squared_gradient_only = False",
    ),
    "static": ({"time_dependent": False}, "nothing would see"),
}


@pytest.mark.parametrize("name", BAD)
def test_declarations_that_cannot_be_meant(name):
    defined, message = BAD[name]
    with pytest.raises(InvalidArgument, match=message):
        check_problem(type("Mine", (Heat,), defined)(dim=D))


START = {
    "conditions": {"start": 1.0},
    "sample_condition": lambda self, name, n, generator: points(n),
}


def test_conditions_depend_on_the_solution():
    defined = START | {"condition_residual": lambda self, name, u, p: p.x[:, 0]}
    with pytest.raises(InvalidArgument, match="of 'start' does not depend on the solution"):
        check_problem(type("Mine", (Heat,), defined)(dim=D))


def test_residuals_that_are_not_finite_are_told_and_trained_to_an_error():
    class Log(Heat):
        def residual(self, u, p):
            return u.dt + (p.x[:, 0] - 9).log()

    with (
        pytest.warns(NumericalWarning, match=r"residual\(\) is not finite in 7 of 7"),
        pytest.raises(TrainingDiverged, match="after 1 steps the weights"),
    ):
        solve(Log(dim=D), steps=1, points=8)


@pytest.mark.parametrize("value", [torch.ones(5, 1), float("nan"), None])
@pytest.mark.parametrize("name", ["residual_scale", "final_time"])
def test_factors_are_numbers(name, value):
    with pytest.raises(InvalidArgument, match=rf"(?s)Mine.{name} = .*a finite number"):
        check_problem(type("Mine", (Heat,), {name: value})(dim=D))


def test_conditions_are_a_mapping():
    with pytest.raises(InvalidType, match="weights"):
        check_problem(type("Mine", (Heat,), {"conditions": ["start"]})(dim=D))


@pytest.mark.parametrize("name", ["residuals", "Lift", "baseline", "sample_tests", "exakt"])
def test_misspelt_names_are_told(name):
    problem = type("Mine", (Heat,), {name: lambda self, *given: None})(dim=D)
    with pytest.warns(SciMLWarning, match=f"Mine.{name} is read by nothing"):
        check_problem(problem)


def test_misspelt_attributes_of_the_object_are_told():
    problem = Heat(dim=D)
    problem.final_tim = 2.0
    with pytest.warns(SciMLWarning, match="Did you mean 'final_time'"):
        check_problem(problem)
    other = Heat(dim=D)
    other.exact = lambda x, t: t
    with pytest.raises(InvalidArgument, match="method of the class"):
        check_problem(other)


def test_references_are_looked_at_before_training():
    class Norm(Heat):
        def exact(self, x, t):
            return x.norm() * t[:, 0]

    class Undefined(Heat):
        def exact(self, x, t):
            return torch.log(x[:, 0] - 0.5)

    with pytest.raises(InvalidArgument, match="depends on the other points"):
        solve(Norm(dim=D), steps=1)
    with pytest.raises(InvalidArgument, match="not finite"):
        check_answers(Undefined(dim=D))
    check_answers(SemilinearAllenCahn(dim=100))  # known at the origin alone


# --- parts of a problem that are trained ----------------------------------------------------------
class Reaction(Heat):
    """u_t = k u with u = e^(1.5 t) known everywhere: the coefficient is what is looked for."""

    def __init__(self, dim):
        super().__init__(dim=dim)
        self.k = nn.Parameter(torch.tensor(0.5))

    def lift(self, x, t):
        return 0 * t, torch.exp(1.5 * t)

    def residual(self, u, p):
        return u.dt - self.k * u.value

    def exact(self, x, t):
        return torch.exp(1.5 * t[:, 0])


def pinn(problem):
    torch.manual_seed(0)
    return SDGDPINN(
        problem=problem,
        network=MLP(dim=problem.dim, time=True, width=8, depth=2),
        estimator=Exact(),
        optimizer=torch.optim.SGD,
        inputs=["x", "t"],
    )


def test_an_unknown_coefficient_is_found():
    problem = Reaction(dim=1)
    network = MLP(dim=1, time=True, width=4, depth=2)
    solve(problem, steps=80, points=8, lr=0.1, network=network)
    assert abs(problem.k.detach() - 1.5) < 1e-2


def test_gauss_newton_finds_it_in_one_step():
    problem = Reaction(dim=1)  # the residual is linear in k
    module = pinn(problem)
    batch = CollocationData(problem=problem, points=10).batch(0)
    optimizer = ENGD(module.trial)
    optimizer.update_curvature(Objective(lambda: module.loss_terms(batch)))
    optimizer.step()
    assert abs(problem.k.detach() - 1.5) < 1e-4


def test_every_optimizer_and_checkpoint_has_the_unknown():
    problem = Reaction(dim=1)
    solution = solve(problem, steps=2, points=8)
    assert not torch.equal(problem.k, torch.tensor(0.5))
    assert torch.equal(solution.module.state_dict()["trial.unknowns.k"], problem.k)
    optimizer = KFAC(solution.module.trial)
    assert "unknowns.k" in [name for name, _, _ in optimizer.unregistered_parameters()]


def test_modules_of_a_problem_are_trained():
    class Source(Heat):
        def __init__(self, dim):
            super().__init__(dim=dim)
            self.net = nn.Linear(dim, 1)

        def residual(self, u, p):
            return u.dt - self.net(p.x)[:, 0]

    problem = Source(dim=D)
    before = problem.net.weight.detach().clone()
    solve(problem, steps=2, points=8)
    assert not torch.equal(problem.net.weight, before)


@pytest.mark.parametrize(
    "value",
    [torch.ones(1, requires_grad=True), [nn.Parameter(torch.ones(1))], {"a": nn.Linear(1, 1)}],
)
def test_what_nothing_would_train_is_refused(value):
    problem = Heat(dim=D)
    problem.k = value
    with pytest.raises(InvalidArgument, match="nothing would train"):
        TrialSolution(problem, nn.Identity())


@pytest.mark.parametrize("used", [lambda k: k.item(), lambda k: k.detach(), lambda k: 1.0])
def test_an_unknown_cut_off_from_the_loss_is_refused(used):
    class Cut(Reaction):
        def residual(self, u, p):
            return u.dt - used(self.k) * u.value

    with pytest.raises(InvalidArgument, match="Cut.k, which no term of the loss depends on"):
        solve(Cut(dim=1), steps=1, points=8)


class Kept:
    def __init__(self, k):
        self.k = k


@pytest.mark.parametrize("keep", [lambda k: {"a": [k]}, lambda k: Kept(k), lambda k: lambda: k])
def test_unknowns_that_are_no_attributes_are_refused_when_the_loss_depends_on_them(keep):
    k = nn.Parameter(torch.tensor(0.5))

    class Hidden(Heat):
        def residual(self, u, p):
            return u.dt - k * u.value

    problem = Hidden(dim=D)
    problem.hidden = keep(k)
    with pytest.raises(InvalidArgument, match="nothing would train"):
        solve(problem, steps=1, points=8)


def test_an_unknown_weight_of_the_operator_is_refused():
    class Conduction(Heat):
        def __init__(self, dim):
            super().__init__(dim=dim)
            self.k = nn.Parameter(torch.ones(dim))

        def diffusion(self, p):
            return self.k

    with pytest.raises(InvalidArgument, match="into the residual"):
        check_problem(Conduction(dim=D))


class Several(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.layer, self.outputs = nn.Linear(D + 1, max(outputs, 1)), outputs

    def forward(self, x, t, f):
        out = self.layer(torch.cat([x, t], 1))
        return out if self.outputs else out[:, 0]


@pytest.mark.parametrize(("outputs", "shape"), [(3, r"\(20, 3\)"), (0, r"\(20,\)")])
def test_a_network_has_one_output(outputs, shape):
    with pytest.raises(InvalidArgument, match=f"Several.*{shape}.*one equation"):
        solve(Heat(dim=D), steps=1, points=20, network=Several(outputs))


# --- numbers of points ----------------------------------------------------------------------------
class Ends(Heat):
    """Two points whatever was asked for; a periodic pair for each of the others."""

    conditions = {"ends": 2.0, "pairs": 1.0}

    def sample_condition(self, name, n, generator):
        if name == "ends":
            return Points(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.ones(2, 1))
        return Points(torch.rand(2 * n, 2, generator=generator), torch.ones(2 * n, 1))

    def condition_residual(self, name, u, p):
        if name == "ends":
            return u.value - 3.0
        return u.value[: len(p) // 2] - u.value[len(p) // 2 :]


def test_conditions_are_means_over_what_is_there():
    module = pinn(Ends(dim=D))
    batch = CollocationData(problem=Ends(dim=D), points=10, condition_points=100).batch(0)
    _, ends, pairs = module.loss_terms(batch)
    u = module(batch.conditions["ends"].x, batch.conditions["ends"].t)[:, 0]
    assert torch.allclose(ends.loss(), 2 * (u - 3).square().mean(), rtol=1e-6, atol=0.0)
    q = batch.conditions["pairs"]
    left, right = module(q.x, q.t)[:, 0].chunk(2)
    assert len(left) == 100
    assert torch.allclose(pairs.loss(), (left - right).square().mean(), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize(
    ("method", "function", "message"),
    [
        ("lift", lambda self, x, t: (t * x.norm(), None), r"lift\(\)\[0\].*other points"),
        ("lift", lambda self, x, t: (t, t / t.mean()), r"lift\(\)\[1\].*other points"),
        ("lift", lambda self, x, t: (t.log() * 0 - t.sub(2).log(), None), "lift.*not finite"),
        ("feature", lambda self, name, x, t: x.sum() * t, r"feature\('total'\).*other points"),
        ("source", lambda self, x: x[:, 0] / x.sum(), r"source\(\).*other points"),
        ("source", lambda self, x: (x[:, 0] - 2).log(), r"source\(\) is not finite"),
        ("sample", lambda self, n, g: Points(torch.rand(n, D) / 0, torch.rand(n, 1)), "x is"),
    ],
)
def test_data_are_functions_of_the_point_and_finite(method, function, message):
    defined = {method: function, "feature_names": ("total",) if method == "feature" else ()}
    with pytest.raises(InvalidArgument, match=message):
        check_problem(type("Mine", (Heat,), defined)(dim=D))


def test_arguments_of_a_solution():
    solution = PDESolution(pinn(Heat(dim=D)), {})
    x, t = torch.rand(N, D), torch.rand(N, 1)
    assert solution(x, t).shape == (N,)
    for wrong in [(x, t[:, 0]), (x, None), (x[:, :1], t), (x[0], t[0])]:
        with pytest.raises(InvalidArgument, match="argument of the solution"):
            solution(*wrong)


def test_closed_forms_of_features_are_checked():
    class Radial(PDE):
        feature_names = ("radius",)

        def feature(self, name, x, t):
            return squared_norm(x)

        def feature_terms(self, name, x):
            return 2 * x, 2.0 * self.dim * torch.ones_like(x[:, :1])

    trial = TrialSolution(Radial(dim=D), MLP(dim=0, features=1, width=4, depth=2), ["radius"])
    with pytest.raises(InvalidArgument, match=r"feature_terms\(\) of 'radius'"):
        evaluate_reduced(trial, Points(torch.rand(N, D)))
