"""A user's program with types, from the README and the docs: read by `test_typing`, never run."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

import sciml
from sciml import pinn
from sciml.autodiff import Differentiable, Jet, laplacian, squared_norm
from sciml.callbacks import Plots
from sciml.data import FieldFiles
from sciml.modules import SupervisedOperator
from sciml.networks import MLP
from sciml.optim import ENGD, KFAC, LossTerm, Objective
from sciml.physics import PDE, Dirichlet, Fields, Mixed, Points, WalkOnSpheres, WalkOnStars
from sciml.physics.geometry import Annulus, Box, Ellipse, MixedPolygon, Polygon, l_shape
from sciml.physics.samplers import ball
from sciml.physics.systems import Field
from sciml.pretrained import PretrainedOperator, PretrainedPINN
from sciml.simulate import Smoke
from sciml.solvers import CG, Anderson, Implicit, Newton, fixed_point, linear_solve, minimise, root


def loaded() -> dict[str, Tensor]:
    operator = sciml.load_pretrained("wos_poisson2d")
    assert isinstance(operator, PretrainedOperator)
    domain = Ellipse((1.2, 0.8))
    problem = Dirichlet(boundary=lambda x, i: x[0] * x[1], source=lambda x, i: torch.exp(-x[0]))
    points = torch.zeros(1, 1, 2, dtype=torch.float64)
    torch.export.save(operator.export(), "operator.pt2")
    grid = torch.zeros(1, 44, 44)
    print(operator.predict(grid, grid, source=grid)["value"].shape, sciml.list_pretrained())
    return operator.solve(domain, problem, points, walks=1000)


def in_many_dimensions() -> Tensor:
    solution = sciml.load_pretrained("runs/pinn_hjb/2026-01-31", device="cpu")
    assert isinstance(solution, PretrainedPINN)
    return solution.predict(torch.randn(5, 100), torch.rand(5, 1))["value"]


class Helmholtz(PDE):
    def sample(self, n: int, generator: torch.Generator) -> Points:
        return Points(ball(n, self.dim, generator))

    def lift(self, x: Differentiable, t: Differentiable | None) -> tuple[Tensor | Jet, None]:
        return 1 - squared_norm(x), None

    def residual(self, u: Fields, p: Points) -> Tensor:
        return u.laplacian + u.value - torch.exp(p.x[:, 0]) + u.grad.square().sum(-1)

    def exact(self, x: Tensor, t: Tensor | None) -> Tensor:
        return (1 - x.square().sum(-1)) * torch.exp(x[:, 0])


class Cavity(pinn.System):
    outputs = ("u", "v", "p")
    domain = pinn.Rectangle((0, 0), (1, 1)) * pinn.Time(0, 1)
    nu = pinn.Unknown(0.2, positive=True)
    conditions = {
        "start": pinn.Initial(u=0, v=0),
        "walls": pinn.On(pinn.Rectangle((0, 0), (1, 1)).boundary, u=0, v=0),
        "gauge": pinn.At(x=0, y=0, p=0),
        "readings": pinn.Observed({"x": [0.5], "y": [0.5], "t": [1.0], "u": [0.1]}, sigma=0.01),
    }

    def residual(self, u: Field, v: Field, p: Field, x: Tensor) -> Mapping[str, Tensor]:
        return {
            "momentum": u.t + u * u.x + v * u.y + p.x - self.nu * u.lap + torch.sin(x),
            "continuity": u.x + v.y,
        }

    def hard(self, u: Tensor, x: Tensor) -> Tensor:
        return x * (1 - x) * u


def solved() -> None:
    solution = pinn.solve(Cavity(), optimizer=("adam", "ssbroyden"), steps=300, width=20)
    print(solution(x=0.5, y=[0.25, 0.5], t=1.0)["u"], solution.unknowns["nu"], solution.metrics)
    print(sciml.solve(Helmholtz(dim=20), steps=1000)(torch.zeros(1, 20)))


def systems(a: Tensor, b: Tensor, x0: Tensor) -> Tensor:
    solved = linear_solve(lambda x, a: x @ a, b, (a,), linear=CG(), on_failure="raise")
    point = fixed_point(lambda z, a: torch.tanh(z @ a), x0, (a,), on_failure="mask",
                        solver=Anderson(), adjoint=Implicit(CG()))  # fmt: skip
    zero = root(lambda z: z**2 - 2, x0, solver=Newton(), on_failure="warn")
    least = minimise(lambda z: z.square().sum(-1), x0, on_failure="best")
    return (
        torch.where(zero.converged, zero.residual, least.residual)
        * solved.converged
        * point.converged
    )


def trained(x: Tensor) -> None:
    network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def terms() -> list[LossTerm]:
        return [LossTerm("pde", network(x)[:, 0] - torch.sin(3 * x[:, 0]), 1.0, len(x))]

    for optimizer in (KFAC(network, lr=0.1), ENGD(network)):
        optimizer.update_curvature(Objective(terms, step=0))
        optimizer.step()
    print(laplacian(MLP(dim=3, width=8), torch.rand(5, 3)))


def walked(generator: torch.Generator) -> Tensor:
    domain = MixedPolygon(l_shape(), neumann=lambda x, i: x[0] > 0.99)
    problem = Mixed(boundary=lambda x, i: x[1], flux=lambda x, i, n: n[1])
    points = domain.sample_interior(8, generator)
    print(WalkOnStars(walks=1000)(domain, problem, points, generator).mean)
    for shape in (Box((0, 0), (1, 2)), Annulus(0.5, 1.0), Polygon([[0, 0], [1, 0], [0, 1]])):
        equation = Dirichlet(boundary=lambda x, i: x[1])
        estimate = WalkOnSpheres(walks=64)(shape, equation, points, generator)
    return estimate.standard_error


def learned() -> tuple[int, ...]:
    data = FieldFiles(path="darcy_train_16.pt", test_path=["darcy_test_32.pt"], inputs=["x"])
    print(Smoke, SupervisedOperator, Plots)
    return tuple(data.batch(0).target.shape)
