"""Snapshots of cells: what they hold, where their strains lie, files."""

import numpy as np
import pytest
import torch

from sciml.data.export_sets import export
from sciml.data.strain_data import SnapshotData
from sciml.errors import InvalidArgument
from sciml.physics.solids import DiskCell, PlasticDiskCell, macro_strains
from sciml.physics.solids import cell_snapshots as room

COUNTS = {"train": 6, "val": 2, "test": 3, "small": 2}


def made(**options):
    return SnapshotData(cell=DiskCell(2), points=10, batch_size=8, **COUNTS, **options)


def test_snapshots_are_solutions_of_the_cell():
    data = made()
    for part, found in data.sets.items():
        again = data.solver.solve(found.strain)
        np.testing.assert_allclose(found.stress, again.stress, rtol=1e-8, atol=1e-8, err_msg=part)
        np.testing.assert_allclose(found.tangent, again.tangent, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(found.local_stress, again.local_stress, rtol=1e-7, atol=1e-7)


def test_a_file_holds_what_memory_holds(tmp_path, monkeypatch):
    room._MADE.clear()
    kept = made(cache=str(tmp_path)).sets
    assert len(list(tmp_path.iterdir())) == 5
    (file,) = tmp_path.glob("train_*.npz")
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["displacement"].shape == kept["train"].displacement.shape
    room._MADE.clear()
    monkeypatch.setattr(room.RVESolver, "solve", None)  # read, not solved
    read = made(cache=str(tmp_path)).sets
    for part in kept:
        for name in ("strain", "stress", "tangent", "local_stress"):
            assert np.array_equal(getattr(kept[part], name), getattr(read[part], name))


def test_strains_lie_in_their_box():
    for law in ("latin_hypercube", "laplace"):
        train = macro_strains("train", 400, 0.04, law, radial=False)
        assert np.abs(train).max() <= 0.04
        assert np.abs(train).max() > 0.035
    # one in every layer
    cube = macro_strains("train", 50, 0.04, "latin_hypercube", radial=False)
    layers = np.floor((cube / 0.04 + 1) * 25).astype(int)
    assert all(set(column) == set(range(50)) for column in layers.T)
    radial = macro_strains("train", 400, 0.04, "latin_hypercube", radial=True)
    assert np.median(np.linalg.norm(radial, axis=1)) < 0.8 * np.median(
        np.linalg.norm(macro_strains("test", 400, 0.04, "latin_hypercube", True), axis=1)
    )
    small = macro_strains("test_small", 400, 0.04, "latin_hypercube", True)
    assert np.linalg.norm(small, axis=1).max() <= 0.004
    # half of them lose volume, at most down to 10^-1.5 of it; shear stays
    flat = macro_strains("train", 400, 0.04, "latin_hypercube", True, isochoric=True)
    left = flat[:, :2].sum(1) / radial[:, :2].sum(1)
    lost = np.arange(400) % 4 >= 2
    np.testing.assert_allclose(left[~lost], 1, rtol=1e-9, atol=0)
    assert ((left[lost] >= 10**-1.5 - 1e-9) & (left[lost] < 1)).all()
    np.testing.assert_allclose(flat[:, 2], radial[:, 2], rtol=0, atol=1e-16)
    np.testing.assert_allclose(
        flat[:, 0] - flat[:, 1], radial[:, 0] - radial[:, 1], rtol=0, atol=1e-16
    )
    thin = macro_strains("test_isochoric", 400, 0.04, "latin_hypercube", True)
    assert np.abs(thin[:, :2].sum(1)).max() <= 0.1 * 0.08
    # test strains are no training strains
    test = macro_strains("test", 100, 0.04, "latin_hypercube", True)
    assert not np.isin(test, cube).any()


def test_the_first_steps_are_small_and_fresh_the_others_stay():
    data = made(warm_steps=3, warm_batch=2, fixed_for=100)
    numbers = [data.next_step() for _ in range(6)]
    assert numbers == [0, 1, 2, 3, 3, 3]
    sizes = [len(data.batch(n).target) for n in numbers]
    assert sizes == [2, 2, 2, 8, 8, 8]
    first, second = (data.batch(n).inputs["strain"] for n in (0, 1))
    assert not torch.equal(first, second)
    assert data.batch(0, world=4).count == 8


def test_labels_are_those_of_the_snapshots():
    batch = made(labels=True).batch(0)
    known = made().sets["train"]
    for strain, stress, tangent in zip(
        batch.inputs["strain"], batch.target, batch.extra["tangent"], strict=True
    ):
        (row,) = np.flatnonzero((known.strain == strain.numpy()).all(1))
        assert np.array_equal(stress.numpy(), known.stress[row])
        assert np.array_equal(tangent.numpy(), known.tangent[row])


def test_files_for_other_libraries_hold_the_fields(tmp_path):
    h5py = pytest.importorskip("h5py")
    data = made()
    export(data, tmp_path / "cells.h5")
    with h5py.File(tmp_path / "cells.h5") as file:
        assert set(file) == {"train", "val", "test", "test_small", "test_isochoric"}
        stress = file["train/extra/local_stress"][:]
        known = data.sets["train"]
        np.testing.assert_array_equal(stress, known.local_stress.reshape(6, -1, 3))
        np.testing.assert_array_equal(file["train/target"][:], known.stress)
    with pytest.raises(InvalidArgument, match="fixed size"):
        export(data, tmp_path / "more.h5", train=3)


@pytest.mark.parametrize(
    "wrong", [{"box": 0}, {"law": "normal"}, {"warm_steps": -1}, {"warm_batch": 0}, {"workers": 0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(InvalidArgument, match=f"data.{next(iter(wrong))}"):
        made(**wrong)


def test_a_cell_with_history_has_no_law():
    with pytest.raises(InvalidArgument, match="history"):
        SnapshotData(cell=PlasticDiskCell(2), **COUNTS)
