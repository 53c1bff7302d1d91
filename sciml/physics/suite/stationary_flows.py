"""Stationary flows: the lid-driven cavity, and a channel behind a step.

    u u_x + v u_y + p_x = nu Lap u,   u v_x + v v_y + p_y = nu Lap v,   u_x + v_y = 0

References are quadratic finite elements (`elements.flow`) on grids that are graded towards
corners. Near corners of the lid, where u_x = +-4 on the lid contradicts the wall, velocities are
not smooth and the pressure is unbounded: equations count less within `NEAR` of them, and errors
are measured outside that distance.

Prescribing the pressure alone at an outflow, as the benchmark does, leaves one condition too few;
the step has nu u_x = p and v_x = 0 there, the natural ones of the equations as they are written.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sciml.physics.checks import check_positive
from sciml.physics.suite.reference_elements import GradedGrid, flow, graded
from sciml.physics.systems import On, Rectangle, System
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.physics.systems.system_fields import Field

NEAR = 0.05  # of the corners of the lid
CELLS = 20  # of the references, per unit


def momentum_and_mass(u: Field, v: Field, p: Field, nu: float) -> dict[str, Tensor]:
    """Return the stationary Navier-Stokes equations."""
    return {
        "x-momentum": u * u.x + v * u.y + p.x - nu * u.lap,
        "y-momentum": u * v.x + v * v.y + p.y - nu * v.lap,
        "continuity": u.x + v.y,
    }


@typed
class Cavity(System):
    """Flow in a square below a lid that moves with 4 x (1 - x).

    Args:
        reynolds: Reynolds number.

    Example:
        >>> from sciml.physics.suite import Cavity
        >>> cavity = Cavity(reynolds=100.0)
        >>> cavity.outputs, cavity.gauge, cavity.term_names
        (('u', 'v', 'p'), ('p',), ('x-momentum', 'y-momentum', 'continuity'))
    """

    outputs = ("u", "v", "p")
    gauge = ("p",)
    domain = Rectangle((0, 0), (1, 1))
    reference_accuracy = 5e-4

    def __init__(self, *, reynolds: float = 100.0) -> None:
        self.nu = 1 / check_positive("problem.reynolds", reynolds)

    def residual(self, u: Field, v: Field, p: Field, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the equations, less of them at the corners of the lid."""
        share = 1.0
        for corner in (0.0, 1.0):
            square = (x - corner) ** 2 + (y - 1) ** 2
            share = share * square / (square + NEAR**2)
        found = momentum_and_mass(u, v, p, self.nu)
        return {name: share * value for name, value in found.items()}

    def hard(
        self,
        u: Differentiable,
        v: Differentiable,
        p: Differentiable,
        x: Differentiable,
        y: Differentiable,
    ) -> Differentiable:
        """Return velocities as they are on the walls."""
        mask = 16 * x * (1 - x) * y * (1 - y)
        return {"u": 4 * x * (1 - x) * y**2 + mask * u, "v": mask * v}

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the finite element solution at 20 000 points away from the lid's corners."""
        x = self.region.sample(20_000, generator)
        away = torch.ones(len(x), dtype=torch.bool)
        for corner in (0.0, 1.0):
            away &= (x - x.new_tensor([corner, 1.0])).norm(dim=1) > NEAR
        return x[away], _read(cavity(self.nu), x[away])


@typed
class StepFlow(System):
    """A channel that opens behind a step: inflow 4 y (1 - y), no slip, outflow without traction.

    Args:
        reynolds: Reynolds number.

    Example:
        >>> from sciml.physics.suite import StepFlow
        >>> step = StepFlow(reynolds=100.0)
        >>> step.outputs, step.term_names[:3]
        (('u', 'v', 'p'), ('x-momentum', 'y-momentum', 'continuity'))
    """

    outputs = ("u", "v", "p")
    domain = Rectangle((0, 0), (4, 2)) - Rectangle((0, 1), (2, 2), name="step")
    reference_accuracy = 2e-3

    def __init__(self, *, reynolds: float = 100.0) -> None:
        self.nu = 1 / check_positive("problem.reynolds", reynolds)

    def conditions(self) -> dict:
        """Return inflow and outflow."""
        nu = self.nu
        return {
            "inflow": On(self.domain.left, u=lambda y: 4 * y * (1 - y), v=0),
            "outflow": On(self.domain.right, lambda u, v, p: {"u": nu * u.x - p, "v": nu * v.x}),
        }

    def residual(self, u: Field, v: Field, p: Field, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the equations, less of them at the corner, where the pressure is unbounded."""
        square = (x - 2) ** 2 + (y - 1) ** 2
        share = square / (square + NEAR**2)
        found = momentum_and_mass(u, v, p, self.nu)
        return {name: share * value for name, value in found.items()}

    def hard(
        self,
        u: Differentiable,
        v: Differentiable,
        p: Differentiable,
        x: Differentiable,
        y: Differentiable,
    ) -> Differentiable:
        """Return velocities that vanish on walls and step, by an R-function of its two sides."""
        a, b = x - 2, 1 - y
        step = a + b + torch.sqrt(a**2 + b**2)
        mask = y * (2 - y) * step / (1 + step)
        return {"u": 4 * mask * u, "v": 4 * mask * v}

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the finite element solution at 20 000 points."""
        x = self.region.sample(20_000, generator)
        return x, _read(step(self.nu), x)


def _read(found: tuple, x: Tensor) -> dict[str, Tensor]:
    velocity, pressure, values = found
    matrices = (velocity.at_points(x.numpy()), pressure.at_points(x.numpy()))
    u, v, p = values
    return {
        "u": torch.from_numpy(matrices[0] @ u),
        "v": torch.from_numpy(matrices[0] @ v),
        "p": torch.from_numpy(matrices[1] @ p),
    }


@functools.cache
def cavity(nu: float, cells: int = CELLS) -> tuple[GradedGrid, GradedGrid, tuple[np.ndarray, ...]]:
    """Return grids of velocity and pressure, and u, v, p at their nodes.

    Args:
        nu: Viscosity.
        cells: Per half side.
    """
    x = graded((0, 0.5, cells, 8), (0.5, 1, cells, 1 / 8))
    velocity, pressure = GradedGrid(x, x), GradedGrid(x, x, order=1)
    a, b = velocity.nodes.T
    fixed = np.flatnonzero((a == 0) | (a == 1) | (b == 0) | (b == 1))
    lid = np.where(b == 1, 4 * a * (1 - a), 0.0)[fixed]
    return velocity, pressure, flow(velocity, pressure, nu, fixed, (lid, 0 * lid), pinned=[0])


@functools.cache
def step(
    nu: float, cells: int = CELLS // 2
) -> tuple[GradedGrid, GradedGrid, tuple[np.ndarray, ...]]:
    """Return the same of the step.

    Args:
        nu: Viscosity.
        cells: Across the step.
    """
    x = graded((0, 2, 2 * cells, 1 / 10), (2, 4, 2 * cells, 10))
    y = graded((0, 1, cells + cells // 2, 1 / 6), (1, 2, cells, 6))

    def keep(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a > 2) | (b < 1)

    velocity, pressure = GradedGrid(x, y, keep), GradedGrid(x, y, keep, order=1)
    a, b = velocity.nodes.T
    wall = (a == 0) | (b == 0) | (b == 2) | ((a <= 2) & (b == 1)) | ((a == 2) & (b >= 1))
    fixed = np.flatnonzero(wall)
    inflow = np.where(a == 0, 4 * b * (1 - b), 0.0)[fixed]
    return velocity, pressure, flow(velocity, pressure, nu, fixed, (inflow, 0 * inflow))
