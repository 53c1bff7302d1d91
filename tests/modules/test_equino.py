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


@pytest.mark.slow  # a hundred snapshots of 448 elements: 15 s
def test_the_last_mode_of_the_default_recipe_is_in_equilibrium_too(tmp_path):
    """What snapshots are out of balance is divided by singular values over seven decades."""
    run = runs.prepare(["model=equino_disk", "data.val=1", "data.test=1", "data.small=1"], tmp_path)
    solver, modes = run.data.solver, run.module.stress_modes.numpy()
    assert len(modes) == 24
    for mode in modes:
        force, scale = solver.balance(mode.reshape(*solver.mesh.weights.shape, 3))
        assert np.linalg.norm(force) <= 1e-9 * scale


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
    rest = torch.from_numpy(data.solver.solve(np.zeros((1, 3))).tangent[0])
    given = batch.inputs["strain"]
    size = torch.einsum("ni,ij,nj->n", given, rest, given)
    size = size + np.linalg.eigvalsh(rest.numpy())[0] * 0.004**2
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


def test_the_linear_part_of_the_displacement_is_the_cell_at_rest(tmp_path):
    """Without its branch the operator has the stiffness of the small cell, strain by strain."""
    module, data = prepared(tmp_path, "model=vpionet_disk")
    torch.nn.init.zeros_(module.network.branch.output.weight)
    rest = data.solver.solve(np.zeros((1, 3))).tangent[0]  # condensed by the finite-element solver
    strain = 1e-6 * torch.eye(3, dtype=torch.float64)
    stress, tangent = module.homogenised(strain)
    assert np.allclose(stress.detach() / 1e-6, rest, rtol=1e-4, atol=0.1)
    none = torch.zeros(1, 3, dtype=torch.float64)
    assert np.allclose(module.homogenised(none)[1][0].detach(), rest, rtol=1e-9, atol=1e-6)
    exact = data.solver.solve(strain.numpy()).displacement
    found = module.local_fields(strain)["displacement"].detach().numpy()
    assert np.abs(found - exact).max() <= 1e-4 * np.abs(exact).max()
    assert torch.equal(module.local_strain(strain), -module.local_strain(-strain))


PUBLISHED = {
    "network": {"modes": 16, "width": 64, "depth": 4},
    "optimizer": {"lr": 1e-3, "adam_steps": 1000, "history": 50},
    "data": {"train": 100, "warm_batch": 10, "warm_steps": 1000, "points": None},
    "trainer": {"max_steps": 51000},
}


@pytest.mark.parametrize("name", ["equino_disk", "equino_rve1", "equino_rve2", "equino_rve3"])
def test_the_scale_of_the_paper_is_the_published_operator(name, tmp_path):
    """Section by section as published: sizes, sampling, loss and search."""
    words = [f"model={name}", "scale=paper"]
    config = runs.compose(words)
    for group, keys in PUBLISHED.items():
        assert {key: config[group].get(key) for key in keys} == keys
    if name == "equino_disk":
        small = ["data.cell.n=2", "data.train=20", "data.val=2", "data.test=2", "data.small=1"]
        run = runs.prepare([*words, *small], tmp_path)
        own, other = run.module.network.branch, run.module.displacement
        assert sum(p.numel() for b in (own, other) for p in b.parameters()) == 2 * 13776
        assert not (own.linear or own.anchor or own.odd)
        assert run.module.norm == "plain" and len(run.data.quadrature.index) == 28 * 9
        strain = run.data.batch(0).inputs["strain"]
        assert strain.shape == (10, 3) and run.data.batch(1000).inputs["strain"].shape == (100, 3)
