"""What the laws of cells promise by construction, and their losses against naive formulas."""

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.solids import EQUINO_FIBRE, EQUINO_MATRIX
from sciml.testing import runs

SMALL = (
    "data.cell.n=2",
    "data.train=12",
    "data.val=2",
    "data.test=2",
    "data.small=1",
    "data.batch_size=4",
    "network.modes=5",
    "network.width=8",
    "network.depth=2",
    "optimizer=adam",
)


def prepared(tmp_path, *words):
    run = runs.prepare([*words, *SMALL], tmp_path)
    torch.manual_seed(1)
    return run.module.double(), run.data


def strains(count=3):
    return torch.from_numpy(np.random.default_rng(3).uniform(-0.04, 0.04, (count, 3)))


def test_any_branch_is_in_equilibrium_and_periodic(tmp_path):
    module, data = prepared(tmp_path, "model=equino_disk", "data.points=160")
    for branch in (module.network.branch, module.displacement):
        for parameter in branch.parameters():
            torch.nn.init.normal_(parameter)  # nothing that training would find
    fields = module.local_fields(strains())
    solver = data.solver
    # the last mode, which amplifies what snapshots are out of balance, as much as the first
    for mode in module.stress_modes.numpy():
        force, scale = solver.balance(mode.reshape(*solver.mesh.weights.shape, 3))
        assert np.linalg.norm(force) <= 1e-8 * scale
    for stress, w in zip(fields["stress"], fields["displacement"], strict=True):
        local = stress.detach().numpy().reshape(*solver.mesh.weights.shape, 3)
        force, scale = solver.balance(local)
        assert np.linalg.norm(force) <= 1e-8 * scale
        w = w.detach().numpy()
        first = np.zeros((solver.mesh.periodic_nodes, 2))
        first[solver.mesh.glued] = w
        assert np.abs(w - first[solver.mesh.glued]).max() <= 1e-12 * np.abs(w).max()
    mean = np.einsum("q,pqi->pi", solver.mesh.weights.ravel(), fields["stress"].detach())
    assert np.allclose(mean, module.network(strains()).detach(), rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("norm", ["energy", "plain"])
def test_the_loss_is_the_disagreement(tmp_path, norm):
    module, data = prepared(tmp_path, "model=equino_disk", f"module.norm={norm}", "data.points=30")
    batch = data.batch(0)
    found = float(module.loss_terms(batch)[0].loss().detach())
    e, mesh = batch.inputs["strain"], data.solver.mesh
    basis = data.sets["train"].basis(data.solver, 5)
    phase = np.repeat(mesh.phase, 9)
    rest = data.solver.solve(np.zeros((1, 3))).tangent[0]
    total = 0.0
    for n in range(len(e)):
        b = module.displacement(e[n : n + 1])[0].detach().numpy()
        s = module.network.branch(e[n : n + 1])[0].detach().numpy()
        for q, w in zip(*data.quadrature, strict=True):
            local = e[n].numpy() + b @ basis.strain.reshape(5, -1, 3)[:, q]
            law = (EQUINO_MATRIX, EQUINO_FIBRE)[phase[q]]
            r = s @ basis.stress.reshape(5, -1, 3)[:, q] - law.stress(local)
            double = 50 / 0.06 if phase[q] == 0 else 2 * law.shear
            p, d = (r[0] + r[1]) / 2, (r[0] - r[1]) / 2
            if norm == "plain":
                total += (r**2).sum() / 3 / 30
            else:
                size = float(e[n] @ rest @ e[n]) + np.linalg.eigvalsh(rest)[0] * 0.004**2
                total += w * (p**2 / law.bulk + (2 * d**2 + 2 * r[2] ** 2) / double) / size
    assert found == pytest.approx(total / len(e), rel=1e-9)


def test_variational_loss_is_the_energy_and_its_tangent_the_derivative(tmp_path):
    module, data = prepared(tmp_path, "model=vpionet_disk")
    e = strains()
    local = module.local_strain(e)
    mesh, w = data.solver.mesh, module.network.fluctuation(e)
    by_mesh = mesh.strain(w.detach().numpy()).reshape(3, -1, 3) + e[:, None].numpy()
    assert np.allclose(local.detach(), by_mesh, rtol=0, atol=1e-14)
    batch = data.batch(0)
    energy = module.composite.energy(module.local_strain(batch.inputs["strain"]))
    size = batch.inputs["strain"].square().sum(1) + 0.004**2
    wanted = ((energy @ module.cell_weights) / size).mean()
    assert torch.allclose(module.loss_terms(batch)[0].loss(), wanted, rtol=1e-9, atol=0)
    stress, tangent = module.homogenised(e)
    for j in range(3):
        step = 1e-6 * torch.eye(3, dtype=torch.float64)[j]
        slope = (module.homogenised(e + step)[0] - module.homogenised(e - step)[0]) / 2e-6
        assert torch.allclose(tangent[:, :, j], slope, rtol=1e-6, atol=1e-3)
    # the exact displacement has less energy than any other
    exact = data.solver.solve(e.numpy()).local_strain.reshape(3, -1, 3)
    least = module.composite.energy(torch.from_numpy(exact)) @ module.cell_weights
    assert (least <= module.composite.energy(local) @ module.cell_weights).all()


def test_the_published_functional_is_another_one(tmp_path):
    module, data = prepared(tmp_path, "model=vpionet_disk", "module.functional=published")
    batch = data.batch(0)
    local = module.local_strain(batch.inputs["strain"])
    half = (module.composite.stress(local) * local).sum(-1) / 2
    wanted = (half @ module.cell_weights).mean()
    assert torch.allclose(module.loss_terms(batch)[0].loss(), wanted, rtol=1e-9, atol=0)


def test_labels_and_networks_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="data.labels=true"):
        runs.prepare(
            ["model=equino_disk", *SMALL, "module=stress_law", "network.modes=3"], tmp_path
        )
    with pytest.raises(InvalidArgument, match="network.modes=3"):
        runs.prepare(
            ["model=equino_disk", *SMALL, "module=stress_law", "data.labels=true"], tmp_path
        )
    with pytest.raises(InvalidArgument, match="rank=13|modes"):
        runs.prepare(["model=equino_disk", *SMALL, "network.modes=13"], tmp_path)
