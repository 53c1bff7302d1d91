"""A trained operator inside an optimizer: where is a source, and how strong, from 24 sensors?

    python examples/find_source.py        # ten seconds on one core: 0.041, 0.003, 0.004 off

The operator is differentiable in its inputs, so the source is found through it; its own error then
limits the answer. Walks from the sensors say without bias what the operator gets wrong there; the
next round subtracts that. A few rounds leave the noise of the walks.
"""

import torch

import sciml
from sciml.physics import Dirichlet
from sciml.physics.elliptic.elliptic_grid import Grid, Shapes
from sciml.physics.elliptic.star_reference import Gaussians, star_reference
from sciml.physics.geometry import Star


def boundary(x, i):
    """Return the temperature on the boundary."""
    return 0.3 * x[0]


def gaussian(source):
    """Return the source term of strength `source[0]` around the place `source[1:]`."""
    return Gaussians(source[:1], source[None, 1:])


def search(hidden, rounds=3, walks=8192):
    """Return the source found in every round `(rounds, 3)`: strength, and place in the plane."""
    pretrained = sciml.load_pretrained("wos_poisson2d")
    operator = pretrained.network
    domain = Star([[0.15, -0.1]], orders=(4, 8))  # r = 1 + 0.15 cos 4 theta - 0.1 cos 8 theta
    grid = Grid(operator.nodes, operator.half)
    shapes, nodes = Shapes.of(domain, grid), grid.points()[0].float()
    fixed = {"sdf": shapes.sdf, "boundary": boundary(*domain.columns(shapes.closest))}
    fixed = {name: field.view(1, *grid.shape) for name, field in fixed.items()}
    generator = torch.Generator().manual_seed(0)
    sensors = domain.sample_interior(24, generator, torch.float64)
    distance = domain.signed_distance(sensors)
    measured = star_reference(domain, boundary, sensors, gaussian(hidden))

    def state(source):
        field = source[0] * torch.exp(-(nodes - source[1:]).square().sum(1))
        return operator.at(sensors, distance, **fixed, source=field.view(1, *grid.shape))

    found, defect = [torch.tensor([0.5, 0.0, 0.0])], torch.zeros_like(measured)
    for number in range(rounds):
        source = found[-1].clone().requires_grad_()
        newton = torch.optim.LBFGS(
            [source], max_iter=30, tolerance_grad=1e-12, line_search_fn="strong_wolfe"
        )

        def misfit(source=source, newton=newton, target=measured - defect):
            newton.zero_grad()
            value = (state(source) - target).square().mean() * 1e4
            value.backward()
            return value

        newton.step(misfit)
        found.append(source.detach())
        problem = Dirichlet(boundary, gaussian(found[-1]))
        walked = pretrained.solve(domain, problem, sensors, walks=walks, seed=number)
        defect = walked["value"] - walked["model"]
    return torch.stack(found[1:])


if __name__ == "__main__":
    hidden = torch.tensor([1.2, 0.4, -0.3])
    for number, source in enumerate(search(hidden)):
        error = (source - hidden).abs().max()
        print(f"round {number}: {source.tolist()}, largest error {error:.4f}")
