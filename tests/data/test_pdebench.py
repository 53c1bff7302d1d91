"""PDEBench layouts, read and written."""

import sys

import h5py
import numpy as np
import pytest
import torch

from sciml.data.trajectories.pdebench import official_split, read_pdebench
from sciml.data.trajectories.write_pdebench import write_pdebench
from sciml.errors import InvalidArgument, MissingPackage
from sciml.physics.evolution import Burgers, DarcyFlow, DiffusionSorption

X, T = np.linspace(0.05, 0.95, 10, dtype="f4"), np.linspace(0, 5, 6, dtype="f4")


def grouped(path, numbers=(3, 0, 7, 12), variables=1, y=None):
    """Write a file as PDEBench's generators do: groups named by seeds, with gaps."""
    g = np.random.default_rng(0)
    shape = (6, 10) if y is None else (6, 10, len(y))
    held = {}
    with h5py.File(path, "w") as file:
        for number in numbers:
            held[number] = g.random((*shape, variables), dtype="f4")
            file.create_dataset(f"{number:04d}/data", data=held[number], compression="lzf")
            file.create_dataset(f"{number:04d}/grid/x", data=X, compression="lzf")
            file.create_dataset(f"{number:04d}/grid/t", data=T, compression="lzf")
            if y is not None:
                file[f"{number:04d}/grid/y"] = y
            file.attrs[f"{number:04d}/config"] = "sim:\n  D: 0.0005\n"
    return held


def test_grouped_files_are_read_in_the_order_of_their_seeds(tmp_path):
    held = grouped(tmp_path / "sorp.h5")
    found = read_pdebench(tmp_path / "sorp.h5")
    wanted = np.stack([held[n][..., 0] for n in (0, 3, 7, 12)])
    np.testing.assert_array_equal(found.values.numpy(), wanted)
    np.testing.assert_array_equal(found.inputs.numpy(), wanted[:, :1])
    assert found.layout == "grouped" and found.count == 4 and found.attributes == {}
    np.testing.assert_array_equal(found.times.numpy(), T)
    np.testing.assert_array_equal(found.grids[0].numpy(), X)
    part = read_pdebench(tmp_path / "sorp.h5", samples=[3, 1], every_time=2, every_point=3)
    np.testing.assert_array_equal(part.values.numpy(), wanted[[3, 1], ::2, ::3])
    np.testing.assert_array_equal(part.times.numpy(), T[::2])
    np.testing.assert_array_equal(part.grids[0].numpy(), X[::3])
    assert part.count == 4
    assert len(read_pdebench(tmp_path / "sorp.h5", samples=[]).values) == 0


def test_two_directions_and_several_variables(tmp_path):
    y = np.linspace(0, 1, 4, dtype="f4")
    held = grouped(tmp_path / "react.h5", variables=2, y=y)
    found = read_pdebench(tmp_path / "react.h5", samples=slice(0, 2))
    np.testing.assert_array_equal(found.values.numpy(), np.stack([held[0], held[3]]))
    assert found.inputs.shape == (2, 2, 10, 4) and len(found.grids) == 2
    np.testing.assert_array_equal(found.inputs[0, 1].numpy(), held[0][0, ..., 1])


def test_tensor_files_have_one_time_too_many(tmp_path):
    values = np.random.default_rng(0).random((5, 6, 10), dtype="f4")
    with h5py.File(tmp_path / "burgers.hdf5", "w") as file:
        file["tensor"], file["x-coordinate"] = values, X
        file["t-coordinate"] = np.linspace(0, 6, 7, dtype="f4")
        file.attrs["Nu"] = 0.01
    found = read_pdebench(tmp_path / "burgers.hdf5", samples=[4, 0, 4], every_time=5)
    np.testing.assert_array_equal(found.values.numpy(), values[[4, 0, 4], ::5])
    assert found.times.tolist() == [0, 5] and found.attributes == {"Nu": 0.01}
    assert found.inputs.shape == (3, 1, 10) and found.layout == "tensor"


def test_darcy_files_have_no_time(tmp_path):
    g = np.random.default_rng(0)
    media, values = g.random((3, 8, 8), dtype="f4"), g.random((3, 1, 8, 8), dtype="f4")
    with h5py.File(tmp_path / "darcy.hdf5", "w") as file:
        file["nu"], file["tensor"] = media, values
        file.attrs["beta"] = np.array([1.0])
    found = read_pdebench(tmp_path / "darcy.hdf5", samples=slice(1, None), every_point=2)
    np.testing.assert_array_equal(found.inputs.numpy(), media[1:, None, ::2, ::2])
    np.testing.assert_array_equal(found.values.numpy(), values[1:, :, ::2, ::2])
    assert found.layout == "darcy" and found.attributes == {"beta": 1.0}
    assert found.grids[0].tolist() == [0.0625, 0.3125, 0.5625, 0.8125]


@pytest.mark.parametrize(
    ("problem", "layout"),
    [
        (DiffusionSorption(16, time_count=4, rtol=1e-4), "grouped"),
        (Burgers(32, time_count=4, horizon=0.1), "tensor"),
        (DarcyFlow(8), "darcy"),
    ],
    ids=["grouped", "tensor", "darcy"],
)
def test_what_is_written_is_read_again(tmp_path, problem, layout):
    inputs = problem.sample(3, torch.Generator().manual_seed(0))
    values = problem.solve(inputs).value
    path = tmp_path / "new" / "set.h5"
    write_pdebench(
        path, inputs, values, problem.times, problem.grids, layout=layout, attributes={"Nu": 0.5}
    )
    found = read_pdebench(path)
    assert found.layout == layout and found.attributes == {"Nu": 0.5}
    torch.testing.assert_close(found.values.double(), values, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.inputs.double(), inputs, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.times.double(), problem.times, rtol=1e-6, atol=0)
    for a, b in zip(found.grids, problem.grids, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=1e-8)
    assert [p.name for p in path.parent.iterdir()] == ["set.h5"]


def test_official_splits():
    assert official_split(100, "grouped") == (range(90), range(90, 100))
    assert official_split(100, "tensor") == (range(10, 100), range(10))


def test_files_that_are_something_else_are_refused(tmp_path):
    with h5py.File(tmp_path / "flow.h5", "w") as file:
        file["velocity"] = np.zeros((2, 3))
    with pytest.raises(InvalidArgument, match=r"velocity \(2, 3\)"):
        read_pdebench(tmp_path / "flow.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_pdebench(tmp_path / "text.h5")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_pdebench(tmp_path / "missing.h5")
    with h5py.File(tmp_path / "short.h5", "w") as file:
        file["tensor"], file["t-coordinate"] = np.zeros((2, 3, 4)), np.zeros(3)
    with pytest.raises(InvalidArgument, match="without x-coordinate"):
        read_pdebench(tmp_path / "short.h5")
    with h5py.File(tmp_path / "short.h5", "a") as file:
        file["x-coordinate"] = np.zeros(7)
    with pytest.raises(InvalidArgument, match="7 points"):
        read_pdebench(tmp_path / "short.h5")


def test_samples_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "sorp.h5"
    grouped(path)
    with pytest.raises(InvalidArgument, match="sample 4 of .* 0 to 3"):
        read_pdebench(path, samples=[0, 4])
    with pytest.raises(InvalidArgument, match="every_time=0"):
        read_pdebench(path, every_time=0)
    with h5py.File(path, "a") as file:
        file["0003/data"][2, 4] = np.nan
    with pytest.raises(InvalidArgument, match="in 1 of 4 samples, the first one number 1"):
        read_pdebench(path)
    assert len(read_pdebench(path, samples=[0, 2]).values) == 2
    with h5py.File(path, "a") as file:
        del file["0007/grid/x"]
        file["0007/grid/x"] = X + 1
    with pytest.raises(InvalidArgument, match="another grid/x in sample 0007"):
        read_pdebench(path, samples=[0, 2])


def test_what_has_no_place_in_a_layout_is_refused(tmp_path):
    values, grid = torch.zeros(2, 3, 8), (torch.zeros(8),)
    times = torch.zeros(3)
    for inputs, layout in ((torch.zeros(2, 3, 8), "tensor"), (torch.zeros(2, 1, 8), "darcy")):
        with pytest.raises(InvalidArgument, match=f"layout='{layout}'"):
            write_pdebench(tmp_path / "x.h5", inputs, values, times, grid, layout=layout)
    with pytest.raises(
        InvalidArgument, match="layout='rows'. Expected 'grouped', 'tensor', 'darcy'"
    ):
        write_pdebench(tmp_path / "x.h5", values[:, :1], values, times, grid, layout="rows")
    assert not list(tmp_path.iterdir())


def test_without_the_library_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingPackage, match=r"sciml-torch\[hdf5\]"):
        read_pdebench(tmp_path / "sorp.h5")
