"""Systems of equations: named parts, conditions, reading, exact solutions, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciml.autodiff.multi_indices import lattice_of
from sciml.autodiff.multijet import variables
from sciml.errors import InvalidArgument, InvalidType, NumericalWarning
from sciml.physics.suite.burgers_shock import Burgers1D
from sciml.physics.suite.coefficients import HeatCoefficient, PoissonCoefficient
from sciml.physics.suite.poisson_holes import Poisson2DHoles, series
from sciml.physics.suite.simple import Heat2DMultiscale, Helmholtz2D, Kovasznay, Wave1D
from sciml.physics.systems import (
    At,
    Box,
    Disk,
    Initial,
    Interval,
    Observed,
    On,
    Polygon,
    Range,
    Rectangle,
    Same,
    System,
    Time,
    Unknown,
)
from sciml.physics.systems.lifted import meet
from sciml.physics.systems.named_arguments import call
from sciml.physics.systems.region import Region, shares

PLATE = Rectangle((0, 0), (2, 1)) - Disk((1, 0.5), 0.25, name="hole")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact_residuals(system: System, n: int = 50) -> dict[str, torch.Tensor]:
    """Return the residuals of the exact solution, its derivatives by Taylor arithmetic."""
    p = system.sample(n, generator())
    x = variables(p.x, lattice_of(system.needs["equations"]))
    columns = {v: x[:, k : k + 1] for k, v in enumerate(system.region.variables)}
    made = call("exact", system.exact, columns)
    made = made if isinstance(made, dict) else {system.outputs[0]: made}
    jet = torch.cat([made[name] for name in system.outputs], -1)
    return system.equations(p, system.fields(p, jet))


# --- shapes -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "measures"),
    [
        (Interval(-1, 1), {"left": 1, "right": 1}),
        (Rectangle((0, 0), (2, 1)), {"left": 1, "right": 1, "bottom": 2, "top": 2}),
        (Box((0, 0, 0), (1, 2, 3)), {"left": 6, "bottom": 3, "back": 2}),
        (Disk((0, 0), 2), {"circle": 4 * math.pi}),
        (PLATE, {"hole": math.pi / 2, "left": 1}),
        (Polygon([(0, 0), (1, 0), (0, 1)], ["floor", "slope", "wall"]), {"slope": math.sqrt(2)}),
        (
            Rectangle((0, 0), (4, 2)) - Rectangle((0, 1), (2, 2), name="step"),
            {"left": 1, "top": 2, "right": 2, "bottom": 4, "step": 3},
        ),
        (Rectangle((0, 0), (1, 1)) | Rectangle((1, 0), (2, 1)), {"bottom": 2, "left": 1}),
        (Disk((0, 0), 1) & Rectangle((0, 0), (2, 2)), {"circle": math.pi / 2, "left": 1}),
    ],
)  # fmt: skip
def test_named_parts_have_their_lengths_and_normals_point_outwards(shape, measures) -> None:
    found: dict[str, float] = {}
    for piece in shape.pieces:
        found[piece.label] = found.get(piece.label, 0.0) + piece.measure
        points, normals = piece.sample(400, generator())
        torch.testing.assert_close(
            normals.norm(dim=1), torch.ones(len(points)).double(), rtol=1e-12, atol=0
        )
        step = 1e-5 * normals
        assert shape.contains(points - step).all() and not shape.contains(points + step).any()
    for label, measure in measures.items():
        assert found[label] == pytest.approx(measure, rel=6e-3), label


def test_points_on_a_cut_boundary_are_uniform_and_none_is_left_out() -> None:
    step = Rectangle((0, 0), (4, 2)) - Rectangle((0, 1), (2, 2), name="step")
    region = (step * Time(0, 1)).shape
    domain = step * Time(0, 1)
    n = 7000
    x, _ = domain.sample_part(region.pieces, n, generator())
    # arc length along the boundary, counter-clockwise from the origin
    corners = torch.tensor([[0, 0], [4, 0], [4, 2], [2, 2], [2, 1], [0, 1], [0, 0]]).double()
    s = torch.full((len(x),), torch.nan).double()
    start = 0.0
    for a, b in zip(corners, corners[1:], strict=False):
        edge = b - a
        along = (x[:, :2] - a) @ edge / edge.norm()
        away = ((x[:, :2] - a) - along[:, None] * edge / edge.norm()).norm(dim=1)
        on = (away < 1e-9) & (along >= 0) & (along <= edge.norm())
        s[on] = start + along[on]
        start += float(edge.norm())
    assert s.isfinite().all()
    counts = torch.histc(s, bins=24, min=0, max=12)
    chi2 = float(((counts - n / 24) ** 2 / (n / 24)).sum())
    assert chi2 < 49.7  # 0.1 % of draws are above, 23 degrees of freedom
    assert 0 <= x[:, 2].min() < 0.01 and 0.99 < x[:, 2].max() <= 1


def test_points_inside_are_uniform() -> None:
    x = PLATE.sample(8000, generator())
    assert not Disk((1, 0.5), 0.25).contains(x).any()
    cells = torch.histogramdd(x, bins=[8, 4], range=[0.0, 2.0, 0.0, 1.0]).hist
    whole = torch.tensor([True, True, False, False, False, False, True, True])
    counts = cells[whole].flatten()
    mean = counts.mean()
    assert float(((counts - mean) ** 2 / mean).sum()) < 39.3  # 15 degrees of freedom, 0.06 %


def test_shares_add_up_and_nothing_gets_none() -> None:
    assert shares([1, 1, 2], 8) == [2, 2, 4]
    assert shares([1, 1e-9], 10) == [10, 1]
    assert sum(shares([1, 1, 1], 100)) == 100


def test_conditions_built_in_hold_and_their_masks_are_distances() -> None:
    """`Lifted`: two conditions with other values, each on its own part."""
    problem = Poisson2DHoles()
    assert problem.terms == {} and set(problem.every_condition) == {"outside", "holes"}

    def ansatz(x, n: float):
        known = dict(zip(("x", "y"), x.unbind(1), strict=True))
        return problem.transform({**known, "u": torch.full_like(x[:, 0], n)})["u"]

    pieces = {p: problem.region.shape.pieces for p in ("outside", "holes")}
    for label, wanted in (("outside", 1.0), ("holes", 0.0)):
        edge = [p for p in pieces[label] if p.label == label]
        x, normals = problem.region.sample_part(edge, 200, generator())
        for n in (0.0, 3.0):
            value = torch.full((len(x),), wanted).double()
            torch.testing.assert_close(ansatz(x, n), value, rtol=0, atol=1e-12)
        near = x - 1e-6 * normals  # unit slope of the mask into the domain
        mask = ansatz(near, 1.0) - ansatz(near, 0.0)
        torch.testing.assert_close(mask, torch.full_like(mask, 1e-6), rtol=1e-3, atol=0)
    inside = problem.sample(1000, generator()).x
    assert (ansatz(inside, 1.0) - ansatz(inside, 0.0) > 0).all()
    lift, mask = problem.transform.curvature()["u"]
    assert 10 < lift < 1e4 and 1 < mask < 1e4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conditions_built_in_hold_in_corners(dtype) -> None:
    """Where two pieces meet, and where two conditions with equal values there do."""
    a, b = torch.tensor([[-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5]], dtype=dtype)
    known = {"x": a, "y": b, "u": torch.full((4,), 3.0, dtype=dtype)}
    value = Poisson2DHoles().transform(known)["u"]
    torch.testing.assert_close(value, torch.ones(4, dtype=dtype), rtol=1e-6, atol=0)

    shape = Polygon([(0, 0), (1, 0), (1, 1)], ["floor", "wall", "slope"])
    sides = {
        "floor": On(shape.floor, u=lambda x, y: 1 + x),
        "rest": On(shape.wall | shape.slope, u=lambda x, y: 1 + x + y),
    }
    triangle = made(domain=shape, conditions=sides, hard_conditions=("floor", "rest"))
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=dtype).unbind(1)
    value = triangle.transform({"x": x, "y": y, "u": torch.full((3,), 3.0, dtype=dtype)})["u"]
    torch.testing.assert_close(value, 1 + x + y, rtol=1e-6, atol=0)


def test_a_box_in_time_is_lifted_by_products() -> None:
    class Plate(System):
        domain = Rectangle((0, 0), (2, 1)) * Time(1, 3)
        conditions = {
            "start": Initial(u=lambda x, y: x * y),
            "sides": On(domain.boundary, u=lambda x, y: x * y),
        }
        hard_conditions = ("start", "sides")

        def residual(self, u):
            return u.t - u.lap

    plate = Plate()
    assert plate.needs and plate.terms == {}
    x = plate.sample(20, generator()).x
    known = dict(zip("xyt", x.unbind(1), strict=True))
    a, b, t = x.unbind(1)
    made = plate.transform({**known, "u": torch.ones(20).double()})["u"]
    wanted = a * b + a * (2 - a) / 2 * b * (1 - b) * (1 - torch.exp(1 - t))
    torch.testing.assert_close(made, wanted, rtol=1e-12, atol=1e-13)


def test_what_cannot_be_built_in_is_refused() -> None:
    notched = Rectangle((-1, -1), (1, 1)) - Rectangle((0, 0), (1, 1), name="notch")
    walls = {"notch": On(notched.notch, u=0), "flux": On(notched.left, u_n=0)}
    for names, message in (
        (("notch",), "cross the domain.*one side"),
        (("flux",), "condition 'flux' in hard_conditions.*values of outputs alone"),
        (("nothc",), "Did you mean 'notch'"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            made(domain=notched, conditions=walls, hard_conditions=names).transform  # noqa: B018
    a, b = torch.tensor([0.5]).double(), torch.tensor([0.25]).double()
    assert float(meet(a, b)) == pytest.approx(1 / (2 + 4))


# --- exact solutions and references ---------------------------------------------------------------
@pytest.mark.parametrize(
    "system", [Wave1D(), Heat2DMultiscale(), Helmholtz2D(a1=2, a2=3), Kovasznay()]
)
def test_closed_forms_solve_their_equations(system) -> None:
    for name, value in exact_residuals(system).items():
        assert float(value.abs().max()) < 1e-12, name


@pytest.mark.parametrize("system", [PoissonCoefficient(), HeatCoefficient()])
def test_sources_are_what_the_solution_needs(system) -> None:
    found = exact_residuals(system)
    assert float(found["equation"].abs().max()) < 1e-12
    x = system.sample(40, generator()).x
    raw = system.solution(x)
    hard = call(
        "hard",
        system.hard,
        {**dict(zip(system.region.variables, x.unbind(1), strict=True)), "u": 0 * raw["u"],
         "a": 0 * raw["a"]},
    )  # fmt: skip
    assert set(hard) == {"u", "a"}
    # on the boundary the ansatz is the solution whatever the network says
    p, _ = system.region.sample_part(system.region.shape.pieces, 100, generator())
    known = dict(zip(system.region.variables, p.unbind(1), strict=True))
    built = call("hard", system.hard, {**known, "u": p[:, 0], "a": p[:, 1]})
    for name, wanted in system.solution(p).items():
        torch.testing.assert_close(built[name], wanted, rtol=1e-12, atol=1e-12)


def test_the_series_of_the_holes_is_as_good_as_it_says() -> None:
    assert series()[1] < Poisson2DHoles.reference_accuracy
    problem = Poisson2DHoles()
    # harmonic: the mean over a circle is the value in the middle
    angle = torch.arange(64).double() * 2 * math.pi / 64
    middle = torch.tensor([0.05, -0.1]).double()
    ring = middle + 0.1 * torch.stack([angle.cos(), angle.sin()], 1)
    value = problem.exact(*middle[:, None])
    torch.testing.assert_close(problem.exact(*ring.T).mean()[None], value, rtol=1e-9, atol=0)


def test_cole_hopf_against_finite_differences() -> None:
    problem = Burgers1D()

    def solved(n: int) -> np.ndarray:
        """Return u(0.2, x) by central differences and Heun's method; there is no shock yet."""
        x, h, dt = np.linspace(-1, 1, n + 1), 2 / n, 0.2 / 1000
        u = -np.sin(np.pi * x)

        def slope(u):
            d = np.zeros_like(u)
            convection = (u[2:] ** 2 - u[:-2] ** 2) / (4 * h)
            d[1:-1] = problem.nu * (u[2:] - 2 * u[1:-1] + u[:-2]) / h**2 - convection
            return d

        for _ in range(1000):
            k = slope(u)
            u = u + dt / 2 * (k + slope(u + dt * k))
        return u

    coarse, fine = solved(400), solved(800)[::2]
    u = fine + (fine - coarse) / 3  # what is left is of fourth order
    x = torch.linspace(-1, 1, 401).double()
    found = problem.exact(x, torch.full_like(x, 0.2)).numpy()
    assert np.linalg.norm(found - u) / np.linalg.norm(u) < 2e-6
    assert float(problem.exact(torch.tensor([0.3]), torch.tensor([0.0]))) == pytest.approx(
        -math.sin(0.3 * math.pi), rel=1e-6
    )


# --- reading --------------------------------------------------------------------------------------
class Flow(System):
    outputs = ("u", "v")
    domain = PLATE * Time(0, 1) * Range("nu", 0.1, 1)
    k = Unknown(2.0, positive=True)
    conditions = {
        "start": Initial(u=lambda x: 1 + 0 * x, v=0, u_t=1),
        "inlet": On(domain.left | domain.right, u=1),
        "hole": On(domain.hole, lambda u, v, nx: (u.n + 2 * (u - 5), v * nx)),
        "rest": On(domain.rest, v_n=0, v_lap=0),
        "gauge": At(x=0, y=0, t=0, nu=0.5, v=1),
    }

    def residual(self, u, v, x, nu):
        return {"mass": u.x + v.y.y, "heat": u.t - nu * u.lap + self.k * v.xt * torch.sin(u) - x}


def test_what_is_read_is_known_beforehand() -> None:
    system = Flow()
    zero = (0, 0, 0, 0)
    assert system.needs["equations"] == {
        zero, (1, 0, 0, 0), (0, 2, 0, 0), (0, 0, 1, 0), (2, 0, 0, 0), (1, 0, 1, 0),
    }  # fmt: skip
    assert system.needs["start"] == {zero, (0, 0, 1, 0)}
    assert system.needs["hole"] == {zero, (1, 0, 0, 0), (0, 1, 0, 0)}
    assert system.needs["inlet"] == {zero}
    assert "heat" not in str(system) and "xt" in str(system)
    labels = {p.label for p in system.pieces(system.terms["rest"])}
    assert labels == {"bottom", "top"}


def test_every_condition_is_a_term_of_its_name() -> None:
    system = Flow()
    assert system.needs
    p = system.terms["hole"].sample(system, 50, generator())
    x = variables(p.x, lattice_of(system.needs["hole"]))
    jet = torch.cat([x[:, :1] * x[:, 1:2], x[:, 1:2]], -1)  # u = x y, v = y
    found = system.residuals("hole", p, system.fields(p, jet))
    assert list(found) == ["hole.0", "hole.1"]
    normal = p.normals
    u_n = normal[:, 0] * p.x[:, 1] + normal[:, 1] * p.x[:, 0]
    wanted = u_n + 2 * (p.x[:, 0] * p.x[:, 1] - 5)
    torch.testing.assert_close(found["hole.0"], wanted, rtol=1e-12, atol=1e-12)
    # out of the plate is into the disk
    assert ((p.x[:, :2] - torch.tensor([1, 0.5])) * normal).sum(1).max() < -0.2


def test_observations_are_residuals_in_units_of_their_noise(tmp_path) -> None:
    rows = {"x": [0.1, 0.2, 0.3], "u": [1.0, 2.0, 3.0]}
    table = "x,u\n" + "\n".join(f"{a},{b}" for a, b in zip(*rows.values(), strict=True))
    (tmp_path / "d.csv").write_text(table)
    np.savez(tmp_path / "d.npz", **{k: np.array(v) for k, v in rows.items()})
    for source in (rows, tmp_path / "d.csv", tmp_path / "d.npz"):

        class Line(System):
            domain = Interval(0, 1)
            conditions = {"data": Observed(source, sigma=0.5)}  # noqa: B023

            def residual(self, u):
                return u.xx

        line = Line()
        p = line.terms["data"].sample(line, 99, generator())
        jet = variables(p.x, lattice_of(line.needs["data"]))
        found = line.residuals("data", p, line.fields(p, 10 * jet))["data"]
        torch.testing.assert_close(found, torch.zeros(3).double(), rtol=0, atol=1e-12)
        line.terms["data"].points = 2
        assert len(line.terms["data"].sample(line, 99, generator())) == 2


# --- bad input ------------------------------------------------------------------------------------
def made(**parts):
    base = {"domain": Interval(0, 1), "residual": lambda self, u: u.xx}
    return type("Mine", (System,), base | parts)()


LINE = Interval(0, 1)
BAD = {
    "column": (
        {"residual": lambda self, u: u.xx[:, None]},
        r"Mine.residual\(\) returned shape \(7, 1\).*\(7,\)",
    ),
    "outer": (
        {"residual": lambda self, u, x: (u.value * x[:, None]).sum(0)},
        r"'equations' combines a tensor \(7,\) with a tensor \(7, 1\)",
    ),
    "mean": ({"residual": lambda self, u: u.xx.mean(0)[None]}, r"returned shape \(1,\)"),
    "no part": (
        {"conditions": {"lid": On(PLATE.hole, u=0)}},
        "condition 'lid' on the part 'hole'.*left, rest, right",
    ),
    "empty rest": (
        {"conditions": {"a": On(LINE.left | LINE.right, u=0), "b": On(LINE.rest, u=1)}},
        "condition 'b' on rest, which is empty",
    ),
    "unread output": (
        {"outputs": ("u", "v")},
        "the output 'v' of Mine, which no equation reads",
    ),
    "unread unknown": ({"k": Unknown(1.0)}, "the unknown 'k' of Mine, which no term depends on"),
    "unknown as a number": (
        {"k": Unknown(1.0), "residual": lambda self, u: u.xx - float(self.k.detach())},
        "the unknown 'k' of Mine, which no term depends on",
    ),
    "outside": (
        {"conditions": {"d": Observed({"x": [0.5, 2.0], "u": [0, 0]})}},
        "condition 'd': 1 of 2 points outside the domain, the first at x=2",
    ),
    "other columns": (
        {"conditions": {"d": Observed({"y": [0.5], "u": [0]})}},
        "condition 'd' without a column x",
    ),
    "other output": (
        {"conditions": {"d": Observed({"x": [0.5], "w": [0]})}},
        "condition 'd' about w.*an output",
    ),
    "condition on no output": ({"conditions": {"a": On(LINE.left, w=0)}}, "'a' about w"),
    "no derivative": (
        {"residual": lambda self, u: u.yy},
        "u.yy.*a derivative in the variables x",
    ),
    "normal inside": ({"residual": lambda self, u: u.n}, "u.n away from the boundary"),
    "unknown argument": (
        {"residual": lambda self, u, z: u.xx - z},
        "asks for an argument 'z'.*Available: position, u, x",
    ),
    "period of no variable": ({"periodic": ("y",)}, "periodic = .*variables of the domain"),
    "waves of no variable": ({"waves": {"y": (1.0,)}}, "waves of 'y' in Mine.*not periodic"),
    "waves of a period": (
        {"periodic": ("x",), "waves": {"x": (1.0,)}},
        "waves of 'x' in Mine.*not periodic",
    ),
    "same in no variable": ({"conditions": {"a": Same("t", u=0)}}, "condition 'a' in t"),
    "no domain": ({"domain": None}, "Mine without domain"),
    "outside point": ({"conditions": {"a": At(x=3, u=0)}}, "condition 'a' at .* a point of the"),
    "two of a name": ({"outputs": ("x",)}, "the name 'x' in Mine"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_message(case) -> None:
    parts, message = BAD[case]
    with pytest.raises(InvalidArgument, match=message):
        made(**parts).needs  # noqa: B018


def test_contradictory_conditions_are_pointed_out() -> None:
    square = Rectangle((0, 0), (1, 1))
    lid = {"lid": On(square.top, u=1), "walls": On(square.rest, u=0)}
    text = "'lid' and 'walls' contradict each other: u is 1 and 0 at x=0, y=1"
    with pytest.warns(NumericalWarning, match=text):
        made(domain=square, conditions=lid).needs  # noqa: B018
    bar = Interval(0, 1) * Time(0, 1)
    start = {"start": Initial(u=lambda x: 1 + x), "ends": On(bar.boundary, u=0)}
    with pytest.warns(NumericalWarning, match="'start' and 'ends'.* at x=[01], t=0"):
        made(domain=bar, conditions=start).needs  # noqa: B018
    agreeing = {"lid": On(square.top, u=lambda x: x * (1 - x)), "walls": On(square.rest, u=0)}
    assert made(domain=square, conditions=agreeing).needs  # our warnings are errors here
    cut = square - Rectangle((0.5, 0.5), (1, 1), name="notch")
    apart = {"notch": On(cut.notch, u=1), "left": On(cut.left, u=0), "free": On(cut.rest, u_n=0)}
    assert made(domain=cut, conditions=apart).needs


def test_what_is_wrong_at_once_is_refused_at_once(tmp_path) -> None:
    with pytest.raises(AttributeError, match="Rectangle.lid.*Did you mean|Rectangle.lid"):
        Rectangle((0, 0), (1, 1)).lid  # noqa: B018
    with pytest.raises(InvalidArgument, match="a part of the domain's boundary"):
        On("left", u=0)
    with pytest.raises(InvalidArgument, match="one number of rows"):
        Observed({"x": [1, 2], "u": [1]})
    with pytest.raises(InvalidArgument, match="does not exist"):
        Observed(tmp_path / "none.csv")
    with pytest.raises(InvalidArgument, match="a start between the bounds"):
        Unknown(-1.0, positive=True)
    with pytest.raises(InvalidArgument, match="two factors of kind time"):
        Time(0, 1) * Time(0, 2)
    with pytest.raises(InvalidType, match="a list as domain"):
        made(domain=[0, 1]).needs  # noqa: B018
    with pytest.raises(InvalidArgument, match=r"self.k = Unknown\(...\)"):
        system = made()
        system.k = Unknown(1.0)
        system.needs  # noqa: B018


def test_even_points_lie_inside_and_integrate_better_than_independent_ones() -> None:
    for region in (Region.of(PLATE), Disk((0, 0), 2) * Time(0, 3), Interval(-1, 1) * Time(0, 1)):
        errors = {True: [], False: []}
        for seed in range(20):
            for even, draw in ((True, region.sample_evenly), (False, region.sample)):
                x = draw(1000, generator(seed))
                assert x.shape == (1000, len(region.variables)) and bool(region.contains(x).all())
                errors[even].append(x.mean(0))
        spread = {even: torch.stack(found).std(0).norm() for even, found in errors.items()}
        assert spread[True] < 0.3 * spread[False]
        again = region.sample_evenly(1000, generator(0))
        assert torch.equal(again, region.sample_evenly(1000, generator(0)))
        assert not torch.equal(again, region.sample_evenly(1000, generator(1)))
