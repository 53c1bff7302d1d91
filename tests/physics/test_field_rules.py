"""Derivatives of expressions of outputs: exact, and the same as what one expands by hand."""

from __future__ import annotations

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.systems import Field, Interval, On, Rectangle, System, Time, Unknown
from sciml.physics.systems.system_fields import DerivativeNames

NAMES = DerivativeNames(("x", "y"), ("x", "y"))
POINTS = torch.rand(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
C = torch.tensor(0.7, dtype=torch.float64)


def u_of(p: torch.Tensor) -> torch.Tensor:
    return 1.5 + torch.sin(p[:, 0]) * torch.cos(2 * p[:, 1])


def v_of(p: torch.Tensor) -> torch.Tensor:
    return torch.exp(0.5 * p[:, 0] * p[:, 1])


def derivative(function, index: tuple[int, ...], p: torch.Tensor) -> torch.Tensor:
    """Return D^index by autograd."""
    p = p.clone().requires_grad_()
    value = function(p)
    for column, times in enumerate(index):
        for _ in range(times):
            (g,) = torch.autograd.grad(value.sum(), p, create_graph=True)
            value = g[:, column]
    return value.detach()


def fields() -> tuple[Field, Field]:
    return tuple(
        Field(name, lambda index, f=f: derivative(f, index, POINTS), NAMES)
        for name, f in (("u", u_of), ("v", v_of))
    )


EXPRESSIONS = {
    "sum": lambda u, v: 2 + u - 3 * v + C,
    "differences": lambda u, v: (1 - u) + (C - v) - (u - 2.5),
    "product": lambda u, v: (1 + 0.5 * u) * v,
    "tensors on the left": lambda u, v: C * u + C / v - u * C,
    "quotient": lambda u, v: u / v + 2 / u - v / 3,
    "powers": lambda u, v: u**2 + v**3 - u**-1 + u**0.5 + (u * v) ** 1,
    "functions": lambda u, v: torch.sin(u) * v.cos() + torch.exp(-u) + torch.log(v),
    "more functions": lambda u, v: torch.tanh(u * v) + u.sqrt() + torch.sinh(v) - v.cosh(),
    "squares": lambda u, v: torch.square(u) + torch.reciprocal(v) + abs(C) * u,
    "torch names": lambda u, v: torch.add(u, v) + torch.sub(u, v) * torch.div(v, u),
    "powers by name": lambda u, v: torch.pow(u, 3) - -v,
}  # fmt: skip


@pytest.mark.parametrize("case", EXPRESSIONS)
@pytest.mark.parametrize("index", [(1, 0), (0, 2), (1, 1), (3, 1)])
def test_rules_are_those_of_autograd(case: str, index: tuple[int, ...]) -> None:
    f = EXPRESSIONS[case]
    found = f(*fields())
    torch.testing.assert_close(found.value, f(u_of(POINTS), v_of(POINTS)), rtol=1e-12, atol=1e-12)
    wanted = derivative(lambda p: f(u_of(p), v_of(p)), index, POINTS)
    torch.testing.assert_close(found.derivative(index).value, wanted, rtol=1e-11, atol=1e-11)


def test_laplacians_and_derivatives_of_derivatives() -> None:
    u, v = fields()
    flux = ((1 + 0.5 * u) * u.x).x + ((1 + 0.5 * u) * u.y).y
    by_hand = (1 + 0.5 * u.value) * u.lap.value + 0.5 * (u.x.value**2 + u.y.value**2)
    torch.testing.assert_close(flux.value, by_hand, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        (u * u).lap.value, (2 * (u * u.lap + u.x**2 + u.y**2)).value, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(
        u.lap.lap.value, (u.xxxx + 2 * u.xxyy + u.yyyy).value, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(u.lap.x.value, (u.xxx + u.xyy).value, rtol=1e-12, atol=1e-12)
    assert not (u == v).any() and (u != v).all() and (u == u).all()  # noqa: PLR0124


def test_the_flux_form_reads_what_its_expansion_reads() -> None:
    class Plate(System):
        domain = Rectangle((0, 0), (1, 1))
        outputs = ("T",)
        k = Unknown(0.5)
        conditions = {"walls": On(domain.boundary, lambda T: ((1 + T) * T).n)}  # noqa: RUF012

        def residual(self, T):
            return ((1 + self.k * T) * T.x).x + (torch.exp(T) * T.y).y

    plate = Plate()
    assert plate.needs["equations"] == {(0, 0), (1, 0), (2, 0), (0, 1), (0, 2)}
    assert plate.needs["walls"] == {(0, 0), (1, 0), (0, 1)}


def test_what_has_no_rule_says_what_to_write() -> None:
    u, v = fields()
    x = POINTS[:, 0]
    torch.testing.assert_close((x * u).value, x * u.value, rtol=1e-12, atol=1e-12)
    for expression in (x * u, u + x.sin(), u**v, u**C):
        with pytest.raises(InvalidArgument, match=r"k \* u.xx \+ k_x \* u.x"):
            expression.x.value  # noqa: B018


def test_values_may_be_changed_and_then_have_no_derivatives() -> None:
    u, _ = fields()
    r = u * u
    r[r > 2] = 0.0
    assert float(r.value.max()) <= 2 and float((u * u).value.max()) > 2
    assert float(r[0]) == float(r.value[0])
    with pytest.raises(InvalidArgument, match="no output"):
        r.x.value  # noqa: B018


def test_time_without_time_is_no_transpose() -> None:
    class Rod(System):
        domain = Interval(0, 1)
        conditions = {"ends": On(domain.boundary, u=0)}  # noqa: RUF012

        def residual(self, u):
            return u.t - u.xx

    with pytest.raises(InvalidArgument, match=r"u.t in a domain without.*\* Time\(0, 1\)"):
        Rod().needs  # noqa: B018
    ode = type("Ode", (Rod,), {"domain": Time(0, 1), "conditions": {}})
    ode.residual = lambda self, u: u.t + u.lap
    with pytest.raises(InvalidArgument, match="u.lap in a domain without space"):
        ode().needs  # noqa: B018
