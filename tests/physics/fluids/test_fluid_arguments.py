"""Fluids with other types and shapes, NaN beside good samples, and steps that are too long."""

import pytest
import torch

from sciml.errors import ConvergenceError, InvalidArgument, InvalidType, NumericalWarning
from sciml.physics import fluids
from sciml.solvers import CG
from sciml.solvers.linear import Multigrid
from sciml.testing.nonsense import only_ours, spoilt

DRAW = torch.Generator().manual_seed(0)
U = torch.rand(2, 9, 8, generator=DRAW), torch.rand(2, 8, 9, generator=DRAW)
F = torch.rand(2, 8, 8, generator=DRAW)
PHI = torch.linspace(-3.5, 3.5, 8)[None, :, None].expand(2, 8, 8).clone()
GOOD = {
    "advect": {"fields": [F], "velocity": U, "steps": 0.5, "face_axis": None},
    "advect_velocity": {"velocity": U, "steps": 0.5},
    "interpolate": {"field": F, "at": [F[:, 0], F[:, 1]], "face_axis": None},
    "points": {"shape": [8, 8], "face_axis": 0, "like": F},
    "vorticity": {"velocity": U, "spacing": 1.0},
    "open_share": {"distance": F},
    "extrapolated": {"values": F, "known": F > 0.5, "layers": 2},
    "volume": {"level_set": PHI},
    "same_volume": {"level_set": PHI, "wanted": torch.full((2,), 30.0), "most": 0.5},
    "standing": {"centre": [0.5, 0.5], "radius": 0.1},
    "pressure_system": {"cells": torch.zeros(2, 8, 8, dtype=torch.long), "density": 1 + F},
    "SmokeFlow": {"shape": (8, 8), "spacing": 0.1, "buoyancy": 4.0, "source": (0.5, 0.1)},
    "RandomDomains": {"bodies": 5, "cut": 0.5, "coefficients": ("constant",)},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GOOD)
def test_nonsense_is_refused_by_name(name):
    function = getattr(fluids, name)
    function(**GOOD[name])
    for label, call in spoilt(function, GOOD[name], {"shape": ("huge",)}):
        only_ours(f"{name}: {label}", call)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fluids.redistance(PHI[0]),  # one sample read as eight lines
        lambda: fluids.volume(PHI[0]),
        lambda: fluids.redistance(PHI.long()),
        lambda: fluids.extrapolated(F[0], F > 0.5, 2),
        lambda: fluids.extrapolated(F, F[:1] > 0.5, 2),
        lambda: fluids.advect([F[:1]], U, 0.5),
        lambda: fluids.advect([F[:, :4]], U, 0.5),
        lambda: fluids.advect([F], (U[0], U[1].double()), 0.5),
        lambda: fluids.points([8.5, 8]),
        lambda: fluids.pressure_system(torch.zeros(2, 8, 8).long(), level_set=PHI[:1]),
        lambda: fluids.pressure_system(torch.zeros(2, 8, 8).long(), density=F[0]),
        lambda: fluids.SmokeFlow(shape=(8, 8, 8), spacing=0.1),  # a source in the plane
    ],
)
def test_what_used_to_broadcast_is_refused(call):
    with pytest.raises((InvalidArgument, InvalidType)):
        call()


def test_a_nan_sample_leaves_the_others_alone():
    spoilt_u = tuple(u.clone() for u in U)
    spoilt_u[0][1, 4, 4] = float("nan")
    alone = fluids.advect([F[:1]], tuple(u[:1] for u in U), 0.5)[0]
    both = fluids.advect([F], spoilt_u, 0.5)[0]
    assert torch.equal(both[:1], alone)
    assert both[1].isnan().any()


def test_steps_too_long_are_told():
    flow = fluids.SmokeFlow(shape=(16, 16), spacing=1 / 16)

    def solver(stencil):
        return CG(rtol=1e-6, preconditioner=Multigrid(stencil))

    state, _ = flow.step(flow.start(), 0.05, solver)
    with pytest.warns(NumericalWarning, match="more than a quarter of the grid"):
        flow.step(state, 5.0, solver)
    with pytest.raises(ConvergenceError, match="a flow that is finite"):
        flow.step(state, 1e9, solver)
    with pytest.raises(InvalidArgument, match="explicit substeps"):
        fluids.SmokeFlow(shape=(16, 16), spacing=1 / 16, viscosity=1e9).step(state, 0.1, solver)
