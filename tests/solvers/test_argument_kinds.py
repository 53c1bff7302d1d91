"""Text, lists, None and whole numbers where solvers and projections want something else."""

import pytest
import torch

from sciml import solvers
from sciml.errors import InvalidType
from sciml.testing.nonsense import only_ours, spoilt

X = torch.tensor([[0.5, 2.0, -1.0]])
SOLVE = {"x0": X, "theta": (), "on_failure": "best", "adjoint": None, "layout": None}
STEPS = {"x0": X.abs(), "theta": (), "on_failure": "best", "step": 0.1, "max_iter": 20}
STEPS |= {"rtol": None, "adjoint": None, "layout": None}
SPECTRUM = {"x": X, "theta": (), "steps": 3, "layout": None, "generator": None}


def minus(x):
    return x - 1


def squares(x):
    return (x - 1).square().sum(-1)


def shrink(x, weight):
    return solvers.soft_threshold(x, weight)


GOOD = {
    "project_box": {"x": X, "lower": 0.0, "upper": 1.0},
    "project_nonnegative": {"x": X},
    "project_simplex": {"x": X, "radius": 1.0},
    "project_l1_ball": {"x": X, "radius": 1.0},
    "project_l2_ball": {"x": X, "radius": 1.0},
    "project_second_order_cone": {"x": X},
    "project_affine": {"x": X, "matrix": torch.ones(1, 3), "rhs": torch.ones(1)},
    "soft_threshold": {"x": X, "weight": 0.1},
    "group_soft_threshold": {"x": X, "weight": 0.1},
    "prox_elastic_net": {"x": X, "l1": 0.1, "l2": 0.1},
    "root": {"function": minus, "solver": solvers.Newton(), **SOLVE},
    "fixed_point": {"function": lambda z: z / 2, "solver": solvers.Anderson(), **SOLVE},
    "minimise": {"function": squares, "solver": solvers.LBFGS(), **SOLVE},
    "least_squares": {"function": minus, "solver": solvers.LevenbergMarquardt(), **SOLVE},
    "linear_solve": {
        "product": lambda x: 2 * x,
        "b": X,
        "theta": (),
        "linear": solvers.GMRES(),
        "on_failure": "best",
        "adjoint": None,
        "layout": None,
    },
    "integrate": {
        "field": lambda t, z: -z,
        "z0": X,
        "theta": (),
        "on_failure": "best",
        "times": (0.0, 1.0),
        "ode": solvers.ODE("rk4"),
        "layout": None,
    },
    "implicit_derivative": {"function": minus, "x": X, "theta": (), "kind": "root"},
    "qp": {
        "quadratic": torch.eye(3)[None],
        "linear": X,
        "equality": None,
        "inequality": None,
        "on_failure": "best",
        "rtol": None,
        "max_iter": 50,
    },
    "projected_gradient": {
        "objective": squares,
        "projection": solvers.project_nonnegative,
        "accelerate": True,
        **STEPS,
    },
    "proximal_gradient": {"objective": squares, "prox": shrink, "accelerate": True, **STEPS},
    "mirror_descent": {"objective": squares, **STEPS, "x0": torch.full((1, 3), 1 / 3)},
    "spectral_norm": {"function": minus, **SPECTRUM},
    "spectral_radius": {"function": minus, **SPECTRUM},
    "jacobian_rows": {"function": minus, "x": X, "theta": (), "probe": X},
}
# Parameters of one's own function are its own business, and it says what it takes.
OWN = {"theta": ("nested list",)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GOOD)
def test_public_functions(name):
    function = getattr(solvers, name)
    function(**GOOD[name])
    for label, call in spoilt(function, GOOD[name], OWN):
        only_ours(f"{name}: {label}", call)


CLASSES = {name: getattr(solvers, name) for name in solvers.__all__}
CLASSES = {name: cls for name, cls in CLASSES.items() if hasattr(cls, "__dataclass_fields__")}


@pytest.mark.parametrize("name", CLASSES)
def test_settings_of_solvers(name):
    cls = CLASSES[name]
    fields = cls.__dataclass_fields__
    try:
        good = cls()
    except TypeError:
        pytest.skip("is made by a solve")
    settings = {key: getattr(good, key) for key, field in fields.items() if field.init}
    for label, call in spoilt(cls, settings):
        only_ours(f"{name}: {label}", call)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: solvers.project_simplex([1.0, 2.0]), "x is a list. Expected a tensor"),
        (lambda: solvers.project_l2_ball(X, "1"), "radius is '1'. Expected a number, or a tensor"),
        (lambda: solvers.soft_threshold(X.long(), 0.1), r"x is a tensor of int64, \(1, 3\)"),
        (
            lambda: solvers.root(minus, X, solver=solvers.Newton, on_failure="raise"),
            r"solver is the class Newton. Expected a solver, .* made by calling it: Newton\(...\)",
        ),
        (
            lambda: solvers.root(minus, X, X, on_failure="raise"),
            r"theta is a tensor .*Expected a tuple",
        ),
        (lambda: solvers.root(minus, X, layout=1, on_failure="raise"), r"layout is 1.*Rows\(n\)"),
        (lambda: solvers.minimise(X, X, on_failure="raise"), "function is a tensor.*a function"),
    ],
)
def test_what_is_said(call, said):
    with pytest.raises(InvalidType, match=said):
        call()
