"""Bounds of a law's error by the Fenchel residual, and `sciml verify` and `simulate` on a run."""

import json
import shutil

import numpy as np
import pytest
import torch

from sciml.cli.main import main
from sciml.errors import InvalidArgument
from sciml.physics.solids import DiskCell
from sciml.pretrained import load_pretrained
from sciml.pretrained.judging.trained_law import recorded_cell, verify_law
from sciml.pretrained.saving.save import write
from sciml.testing import runs

WORDS = (
    "model=equino_disk",
    "data.cell.n=2",
    "data.train=24",
    "data.val=2",
    "data.test=2",
    "data.small=1",
    "data.points=40",
    "data.batch_size=24",
    "network.modes=9",
    "network.width=16",
    "network.depth=2",
    "optimizer.adam_steps=100",
    "optimizer.lr=5e-3",
    "trainer.max_steps=200",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    runs.fit(runs.prepare(WORDS, place, callbacks=["export"]))
    return place / "pretrained"


def test_the_bound_lies_above_the_error(folder):
    model = load_pretrained(folder)
    assert recorded_cell(model.spec) == DiskCell(2)
    solver = DiskCell(2).solver()
    strain = np.random.default_rng(5).uniform(-0.02, 0.02, (6, 3))
    exact = solver.solve(np.vstack([strain, [[1e-8, 0, 0]]]))
    error = model.predict(strain=strain)["stress"].numpy() - exact.stress[:-1]
    compliance = np.linalg.inv(exact.tangent[-1])
    wanted = np.sqrt(np.einsum("pi,ij,pj->p", error, compliance, error))
    found = verify_law(model, strain)
    assert (found.bound >= wanted).all()
    assert (found.bound <= 30 * wanted + 0.02 * found.size).all()  # and it says something
    stress = model.predict(strain=strain)["stress"].numpy()
    size = np.sqrt(np.einsum("pi,ij,pj->p", stress, compliance, stress))
    np.testing.assert_allclose(found.size, size, rtol=1e-2)


def test_verify_tells_a_good_law_from_a_spoiled_one(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = load_pretrained(folder)
    words = ["--problems", "5", "--worst", "1", "--tolerance", "0.5"]
    assert main(["verify", str(folder), *words]) == 0
    said = capsys.readouterr().out
    assert "verdict: within 0.5" in said
    assert (tmp_path / "verification.png").exists()
    with torch.no_grad():
        model.network.branch.skip.mul_(1.5)
    write(tmp_path / "spoiled", dict(model.spec), model.network)
    assert main(["verify", str(tmp_path / "spoiled"), *words]) == 1
    assert "verdict: undecided" in capsys.readouterr().out


def test_modes_of_another_recipe_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    file = tmp_path / "other" / "model.json"
    spec = json.loads(file.read_text())
    spec["data"]["recipe"]["train"] = 20
    file.write_text(json.dumps(spec))
    with pytest.raises(InvalidArgument, match="those of its recipe"):
        verify_law(load_pretrained(tmp_path / "other"), np.zeros((1, 3)))
    del spec["data"]["recipe"]["cell"]
    file.write_text(json.dumps(spec))
    with pytest.raises(InvalidArgument, match="names no cell"):
        verify_law(load_pretrained(tmp_path / "other"), np.zeros((1, 3)))


def test_the_folder_holds_the_branch_and_the_means_only(folder):
    state = load_pretrained(folder).network.state_dict()
    parts = {name.partition(".")[0] for name in state}
    assert parts == {"branch", "means"}
    assert sum(f.stat().st_size for f in folder.iterdir()) < 30_000


def test_a_run_is_the_microscale_of_a_structure(folder, tmp_path, capsys):
    words = ["fe2", "case=l_profile", f"model={folder}", f"out={tmp_path / 'out'}"]
    assert main(["simulate", *words]) == 0
    assert "192 points; equino" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["equino_disk", "equino_rve1", "equino_rve2", "equino_rve3"])
def test_the_tangent_of_a_shipped_law_is_the_derivative_of_its_stress(name):
    """Central differences; none at zero strain, where the tangent is that of a solid."""
    network = load_pretrained(name).network
    strain = torch.from_numpy(np.random.default_rng(1).uniform(-0.04, 0.04, (50, 3)))
    tangent = network.stress_and_tangent(strain)[1]
    steps = 1e-6 * torch.eye(3, dtype=torch.float64)
    slopes = [(network(strain + step) - network(strain - step)) / 2e-6 for step in steps]
    size = tangent.flatten(1).norm(dim=1)
    off = (torch.stack(slopes, -1) - tangent).flatten(1).norm(dim=1)
    assert float((off / size).max()) < 1e-8
    stress, at_rest = network.stress_and_tangent(torch.zeros(1, 3, dtype=torch.float64))
    assert (stress == 0).all()
    assert torch.linalg.eigvalsh((at_rest[0] + at_rest[0].T) / 2).min() > 100
