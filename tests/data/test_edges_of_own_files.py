"""Odd files and settings of people's own data: run through, or told in one message."""

import re
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from sciml.data import CloudFiles, FieldFiles
from sciml.data.regression import kernel_ridge, modal
from sciml.errors import InvalidArgument
from sciml.modules.evaluation.operator_report import OperatorReport
from sciml.networks.fields import GridFNO
from sciml.testing import small_files as small


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def told(**settings):
    with pytest.raises(InvalidArgument) as error:
        FieldFiles(**settings)
    return str(error.value)


# --- shapes --------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(17,), (16, 17), (9, 10, 11), (8, 9)])
def test_spectra_of_odd_and_even_sides_add_up(tmp_path, size):
    x = noise(12, *size)
    data = FieldFiles(path=save(tmp_path / "a.npz", x=x, y=x), periodic=False)
    network = GridFNO(data.sizes["fields"], width=2, modes=2, layers=1, hidden=2)
    report = OperatorReport(network, data, lambda value: value, baselines=False)
    batch = data.test_chunk(0)
    error = torch.from_numpy(noise(*batch.target.shape, seed=1))
    report._bands("test", batch.target + error, batch.target)
    points = np.prod(size)  # Parseval: every wave is in one shell
    assert float(report.spectrum[0].sum()) == pytest.approx(points * float((error**2).sum()))
    assert len(report.spectrum[0]) == max(size) // 2 + 1


def test_one_number_per_sample_is_an_input_with_or_without_its_axis(tmp_path):
    nu, a, u = noise(30), noise(30, 24), noise(30, 24, seed=2)
    for inputs in (["nu"], ["a", "nu"]):
        made = []
        for k, number in enumerate((nu, nu[:, None])):
            path = save(tmp_path / f"{k}.npz", nu=number, a=a, u=u)
            data = FieldFiles(path=path, inputs=inputs, outputs=["u"])
            assert data.fields.outputs[0].axes == ("x",)
            batch = data.batch(0)
            made.append(data.fields.pack(batch.inputs))
            rows = data.places(0, 0, 1)
            last = made[-1][:, -1] * torch.ones(1, 24)
            np.testing.assert_array_equal(last, np.repeat(nu[rows][:, None], 24, 1))
        assert torch.equal(*made)


def test_outputs_without_points_are_refused(tmp_path):
    path = save(tmp_path / "a.npz", x=noise(30, 4), y=noise(30))
    assert "y (30,)" in told(path=path) and "no axis of space" in told(path=path)


# --- baselines -----------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("constant", [True, False])
def test_regressions_of_few_or_constant_inputs_are_finite(count, constant):
    x = torch.ones(count, 1, 8) if constant else torch.from_numpy(noise(count, 1, 8))
    x, y = x.double(), torch.from_numpy(noise(count, 1, 8, seed=3))
    for learn in (modal, kernel_ridge):
        found = learn(x, y)(x[:1])
        assert torch.isfinite(found).all()
        if constant:  # nothing is known but the mean
            torch.testing.assert_close(found, y.mean(0, keepdim=True), rtol=1e-4, atol=1e-4)


def test_twins_among_inputs_do_not_spoil_the_kernel():
    x = torch.from_numpy(np.repeat(noise(3, 1, 8), [20, 1, 1], 0))  # the median distance is 0
    y = x.roll(1, 2)
    found = kernel_ridge(x, y)(x)
    assert torch.isfinite(found).all()


# --- settings ------------------------------------------------------------------------------------
@pytest.mark.parametrize("wrong", [{"horizon": 0}, {"horizon": -2}, {"train": 0}, {"train": 1.5}])
def test_counts_below_one_are_refused(tmp_path, wrong):
    key = next(iter(wrong))
    path = str(small.trajectories(tmp_path / "u.npz", count=16, times=8))
    assert f"data.{key}=" in told(path=path, **wrong)


def test_training_samples_by_share(tmp_path):
    path = str(small.pairs(tmp_path / "a.npz", count=40, n=8))
    assert len(FieldFiles(path=path, train=0.5).chosen["train"]) == 20


def test_parts_that_skipping_empties_are_named(tmp_path):
    path = str(small.pairs(tmp_path / "a.npz", count=20, n=8))
    chosen = FieldFiles(path=path).chosen
    for part, numbers in chosen.items():
        said = told(path=path, skip=numbers.tolist())
        assert f"all {len(numbers)} samples of the part {part} are left out" in said


@pytest.mark.parametrize("skip", ["nan", float("nan")])
def test_numbers_that_are_none_are_skipped_in_test_files_too(tmp_path, skip):
    x, y = noise(20, 8), noise(20, 8, seed=1)
    clean = save(tmp_path / "clean.npz", x=x, y=y)
    y[5, 2] = np.nan
    spoilt = save(tmp_path / "spoilt.npz", x=x, y=y)
    said = told(path=clean, test_path=spoilt)
    assert "spoilt.npz: y[5, 2]" in said and "data.skip=nan" in said and "[5]," not in said
    data = FieldFiles(path=clean, test_path=spoilt, skip=skip)
    assert data.tests["test"].numbers.tolist() == [k for k in range(20) if k != 5]
    assert any("1 samples of" in note and "spoilt.npz" in note for note in data.notes)
    assert len(FieldFiles(path=clean, test_path=spoilt, skip="nan").chosen["train"]) == 18


@pytest.mark.parametrize("skip", ["all", 1.5, True, [0.5], {"a": 1}])
def test_other_words_to_skip_are_refused(tmp_path, skip):
    path = str(small.pairs(tmp_path / "a.npz", count=20, n=8))
    assert f"data.skip={skip}" in told(path=path, skip=skip)
    assert 3 not in np.concatenate([*FieldFiles(path=path, skip=3).chosen.values()])


# --- test files ----------------------------------------------------------------------------------
def test_test_files_of_one_name_are_kept_apart(tmp_path):
    x = noise(20, 8)
    for k, folder in enumerate(("A", "B", "C")):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "test.npz", x=x[: 5 + k], y=x[: 5 + k])
    every = [str(tmp_path / f / "test.npz") for f in "CAB"] + [save(tmp_path / "o.npz", x=x, y=x)]
    data = FieldFiles(path=save(tmp_path / "t.npz", x=x, y=x), test_path=[*every, every[1]])
    assert {name: len(held.numbers) for name, held in data.tests.items()} == {
        "test": 7, "test_A_test": 5, "test_B_test": 6, "test_o": 20, "test_A_test_no2": 5,
    }  # fmt: skip


def test_training_samples_do_not_test(tmp_path):
    path = str(small.pairs(tmp_path / "a.npz", count=20, n=8))
    again = str(tmp_path / "." / "a.npz")
    assert "which is data.path" in told(path=path, test_path=again)
    (tmp_path / "c.npz").symlink_to(path)
    assert "which is data.path" in told(path=path, test_path=str(tmp_path / "c.npz"))
    cloud = [{"x": torch.rand(9, 2), "y": torch.rand(9)} for _ in range(4)]
    torch.save(cloud, tmp_path / "c.pt")
    with pytest.raises(InvalidArgument, match="which is data.path"):
        CloudFiles(path=str(tmp_path / "c.pt"), test_path=str(tmp_path / "c.pt"))


# --- doubts --------------------------------------------------------------------------------------
@pytest.mark.parametrize(("names", "left"), [("xay", "a"), ("aum", "m"), ("auv", "v")])
def test_arrays_that_are_left_out_are_named(tmp_path, names, left):
    path = save(tmp_path / "a.npz", **{n: noise(40, 32, seed=k) for k, n in enumerate(names)})
    said = FieldFiles(path=path).doubts
    assert len(said) == 1 and f"{left} (40, 32)" in said[0] and "is not used" in said[0]
    (typed,) = re.findall(r"data.inputs=\[([\w,]+)\] data.outputs=\[(\w+)\] gives", said[0])
    given = FieldFiles(path=path, inputs=typed[0].split(","), outputs=typed[1].split(","))
    assert left in given.batch(0).inputs and given.doubts == []
    used = {"inputs": [names[0]], "outputs": [next(n for n in "yu" if n in names)]}
    assert FieldFiles(path=path, **used).doubts == []


def test_places_of_points_and_uneven_coordinates_are_named(tmp_path):
    path = save(tmp_path / "a.npz", branch=noise(40, 32), trunk=noise(50, 2), y=noise(40, 50))
    assert "trunk (50, 2)" in " ".join(FieldFiles(path=path).doubts)
    even = np.linspace(0, 1, 32)
    u = noise(40, 32)
    for x, count in ((even, 0), (even + 1e-4 * noise(32) / 32, 0), (even**2, 1)):
        path = save(tmp_path / "b.npz", a=u, u=u, x=x)
        doubts = FieldFiles(path=path).doubts
        assert len(doubts) == count
    assert "0.00104" in doubts[0] and "0.06348" in doubts[0]


def test_folders_of_batches_are_named(tmp_path):
    for k in range(4):
        save(tmp_path / f"run_{k}.npz", x=noise(40, 32), y=noise(40, 32))
    data = FieldFiles(path=str(tmp_path), val=1, test=1)
    assert any("train_" in text and "40 samples" in text for text in data.doubts)


# --- digits --------------------------------------------------------------------------------------
def test_digits_that_float32_does_not_hold_are_named(tmp_path):
    x = noise(40, 16)
    times = 1.7e9 + 60 * np.arange(40.0)
    data = FieldFiles(path=save(tmp_path / "a.npz", t0=times, u=x), inputs=["t0"], outputs=["u"])
    assert any(text.startswith("t0 varies by less") for text in data.doubts)
    data = FieldFiles(path=save(tmp_path / "b.npz", x=x, y=101325 + 1e-2 * x))
    assert any(text.startswith("y varies") and "relative" in text for text in data.doubts)
    assert FieldFiles(path=save(tmp_path / "c.npz", x=x, y=100 + x)).doubts == []
    assert "y with numbers" in told(path=save(tmp_path / "d.npz", x=x, y=1e60 * x))
    assert "x with numbers" in told(path=save(tmp_path / "e.npz", x=1e-40 * x, y=x))


# --- memory --------------------------------------------------------------------------------------
PEAK = """
import resource, sys
from sciml.data import FieldFiles
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = FieldFiles(path=sys.argv[1], memory=5)
data.known("train", 2000), data.batch(0), data.val_chunk(0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, data.rows.held)
"""


def test_large_samples_are_counted_in_bytes(tmp_path):
    x = noise(120, 128, 256).astype(np.float32)  # 15 MB an array, 1/4 MB a sample of both
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x)
    words = [sys.executable, "-c", PEAK, str(tmp_path)]
    peak, held = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert held == "False" and float(peak) < 60
    assert resource.getpagesize()  # this system has the module that measures
