"""Files as other programs write them: read to the numbers meant, or left out with the reason."""

import numpy as np
import pytest
import torch
from scipy.io import netcdf_file, savemat
from scipy.sparse import csr_matrix

from sciml.data.layouts.field_layout import recognise
from sciml.data.readers import open_source
from sciml.errors import InvalidArgument


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def rows(source, name):
    return np.asarray(source.arrays[name].rows(slice(None)))


def equal(found, wanted):
    np.testing.assert_array_equal(found, wanted)


def netcdf(path, sizes, coordinates=(), **variables):
    with netcdf_file(path, "w") as file:
        for name, n in sizes.items():
            file.createDimension(name, n)
        for name in coordinates:
            file.createVariable(name, "f8", (name,))[:] = np.arange(sizes[name])
        for name, (dims, values) in variables.items():
            file.createVariable(name, "f8", dims)[:] = values
    return open_source(path)


# --- named dimensions ---------------------------------------------------------------------------
def test_samples_are_found_by_name_wherever_their_axis_stands(tmp_path):
    a, u = noise(20, 12, 40), noise(20, 12, 3, 40, seed=1)
    dims = ("lat", "lon", "sample"), ("lat", "lon", "channel", "sample")
    sizes = {"lat": 20, "lon": 12, "sample": 40, "channel": 3}
    source = netcdf(tmp_path / "a.nc", sizes, a=(dims[0], a), u=(dims[1], u))
    layout = recognise(source)
    assert layout.count == 40 and layout.space == (12, 20)
    assert layout.inputs[0].axes == ("y", "x") and layout.outputs[0].axes == ("y", "x", "c")
    equal(rows(source, "a"), np.moveaxis(a, -1, 0))
    equal(source.arrays["u"].rows([7, 3]), np.moveaxis(u, -1, 0)[[7, 3]])


@pytest.mark.parametrize("name", ["number", "sample", "draw"])
def test_one_unknown_name_beside_known_ones_counts_samples(tmp_path, name):
    u = noise(24, 40, 16)
    sizes = {"x": 24, name: 40, "time": 16}
    source = netcdf(tmp_path / "a.nc", sizes, ("x", "time"), u=(("x", name, "time"), u))
    layout = recognise(source)
    assert layout.count == 40 and layout.outputs[0].axes == ("x", "t")
    equal(rows(source, "u"), u.swapaxes(0, 1))
    assert any(f"dimension {name}" in note for note in source.notes) == (name == "draw")


def test_times_count_the_pairs_of_a_file_without_samples(tmp_path):
    a, u = noise(32, 31, 64), noise(32, 31, 64, seed=1)
    sizes, dims = {"time": 32, "lat": 31, "lon": 64}, ("time", "lat", "lon")
    layout = recognise(netcdf(tmp_path / "a.nc", sizes, dims, a=(dims, a), u=(dims, u)))
    assert layout.count == 32 and layout.inputs[0].axes == layout.outputs[0].axes == ("y", "x")
    alone = netcdf(tmp_path / "b.nc", sizes, dims, u=(dims, u))
    assert alone.arrays["u"].shape == (1, 32, 31, 64) and alone.arrays["u"].axes[0] == "t"
    assert "one trajectory" in " ".join(alone.notes)


def test_folders_of_one_trajectory_each_know_their_axes(tmp_path):
    u = noise(5, 24, 16)
    for k in range(5):
        netcdf(
            tmp_path / f"run{k}.nc", {"x": 24, "time": 16}, ("x", "time"), u=(("x", "time"), u[k])
        )
    source = open_source(tmp_path)
    layout = recognise(source)
    assert layout.count == 5 and layout.outputs[0].axes == ("x", "t")
    equal(rows(source, "u"), u)


def test_folders_of_files_with_samples_are_joined(tmp_path):
    u, a = noise(3, 7, 24), noise(3, 7, 24, seed=1)
    for k in range(3):
        dims = ("sample", "x")
        netcdf(tmp_path / f"{k}.nc", {"sample": 7, "x": 24}, a=(dims, a[k]), u=(dims, u[k]))
    source = open_source(tmp_path)
    equal(rows(source, "u"), u.reshape(21, 24))
    assert recognise(source).count == 21


# --- parts and groups ---------------------------------------------------------------------------
def arrays():
    return {"x": noise(20, 8), "y": noise(20, 8, seed=1)}, {"x": noise(6, 8), "y": noise(6, 8)}


def parted(kind, path, train, test):
    h5py = pytest.importorskip("h5py") if kind == "h5" else None
    if kind == "h5":
        with h5py.File(path, "w") as file:
            for part, held in (("train", train), ("test", test)):
                for name, value in held.items():
                    file[f"{part}/{name}"] = value
    elif kind == "pt":
        parts = {"train": train, "test": test}
        torch.save(
            {p: {n: torch.from_numpy(v) for n, v in h.items()} for p, h in parts.items()}, path
        )
    else:
        np.savez(path, **{f"{n}_train": v for n, v in train.items()},
                 **{f"{n}_test": v for n, v in test.items()})  # fmt: skip


@pytest.mark.parametrize("kind", ["h5", "pt", "npz"])
def test_parts_inside_one_file_are_kept(tmp_path, kind):
    train, test = arrays()
    parted(kind, tmp_path / f"a.{kind}", train, test)
    source = open_source(tmp_path / f"a.{kind}")
    layout = recognise(source)
    assert [a.name for a in layout.inputs] == ["x"] and [a.name for a in layout.outputs] == ["y"]
    for part, held in (("train", train), ("test", test)):
        for name, value in held.items():
            equal(source.arrays[name].rows(source.parts[part]), value)
    assert any("20 train, 6 test" in note for note in source.notes)


def test_numbered_groups_are_samples(tmp_path):
    h5py = pytest.importorskip("h5py")
    x, y = noise(12, 24, 24), noise(12, 24, 24, seed=1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for k in range(12):
            file[f"sample_{k}/x"], file[f"sample_{k}/y"] = x[k], y[k]
    source = open_source(tmp_path / "a.h5")
    layout = recognise(source)
    assert layout.count == 12 and layout.space == (24, 24) and len(layout.outputs) == 1
    equal(source.arrays["x"].rows([10, 2]), x[[10, 2]])  # in the order of numbers, not of letters


def test_parts_are_words_anywhere_in_names_of_files(tmp_path):
    train, test = arrays()
    np.savez(tmp_path / "darcy_train.npz", **train)
    np.savez(tmp_path / "darcy_test.npz", **test)
    np.savez(tmp_path / "more.npz", **train)
    source = open_source(tmp_path)
    equal(source.arrays["y"].rows(source.parts["test"]), test["y"])
    assert any(note.startswith("more.npz is of no part") for note in source.notes)


def test_numbers_of_every_file_are_an_array(tmp_path):
    nu = 0.01 * np.arange(1, 13)
    nu[[0, 6, 11]] = 1.0
    for k in range(12):
        np.savez(tmp_path / f"s{k}.npz", a=noise(8, seed=k), u=noise(8), nu=nu[k], length=2.0)
    source = open_source(tmp_path)
    equal(rows(source, "nu"), nu)  # though the first, the middle and the last are the same
    assert source.attributes == {"length": 2.0} and "length" not in source.arrays
    assert [a.name for a in recognise(source, ["a", "nu"], ["u"]).inputs] == ["a", "nu"]


# --- torch --------------------------------------------------------------------------------------
def test_tensors_of_every_kind_are_numbers(tmp_path):
    x, one = torch.from_numpy(noise(20, 8)).float(), torch.randn(20, 8, dtype=torch.complex64)
    kinds = {
        "csr": (x.to_sparse_csr(), x), "coo": (x.to_sparse(), x),
        "neg": (one.conj().imag, -one.imag),
        "bf16": (x.bfloat16(), x.bfloat16().float()), "f16": (x.half(), x.half().float()),
        "f8": (x.to(torch.float8_e4m3fn), x.to(torch.float8_e4m3fn).float()),
        "grad": (torch.nn.Parameter(x), x),
    }  # fmt: skip
    for name, (value, wanted) in kinds.items():
        torch.save({"x": x, "y": value}, tmp_path / f"{name}.pt")
        equal(rows(open_source(tmp_path / f"{name}.pt"), "y"), wanted.numpy())
    for name, each in (("bf16", [v.bfloat16() for v in x]), ("tuple", tuple(x))):
        torch.save({"x": x, "y": each}, tmp_path / f"list_{name}.pt")
        wanted = x.bfloat16().float() if name == "bf16" else x
        equal(rows(open_source(tmp_path / f"list_{name}.pt"), "y"), wanted.numpy())


# --- reasons ------------------------------------------------------------------------------------
def test_complex_numbers_and_tables_are_named(tmp_path):
    x, z = noise(20, 8), noise(20, 8) + 1j
    np.savez(tmp_path / "a.npz", x=x, y=z)
    savemat(tmp_path / "a.mat", {"x": x, "y": z})
    torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(z)}, tmp_path / "a.pt")
    for name in ("a.npz", "a.mat", "a.pt"):
        with pytest.raises(InvalidArgument, match=r"y \(20, 8\) is complex .*np.stack"):
            recognise(open_source(tmp_path / name))
    table = np.zeros((20, 8), [("a", "f8"), ("b", "f8")])
    np.savez(tmp_path / "b.npz", x=table, y=x)
    with pytest.raises(InvalidArgument, match="x is a table of a, b"):
        recognise(open_source(tmp_path / "b.npz"))


def test_structures_cells_and_sparse_matrices_of_matlab(tmp_path):
    x, y = noise(20, 8), noise(20, 8, seed=1)
    y[y < 0] = 0
    cells = np.empty((20, 1), object)
    for k in range(20):
        cells[k, 0] = x[k][:, None]
    savemat(tmp_path / "a.mat", {"data": {"x": x, "y": y}})
    source = open_source(tmp_path / "a.mat")
    equal(rows(source, "data/x"), x)
    assert [a.name for a in recognise(source).outputs] == ["data/y"]
    savemat(tmp_path / "b.mat", {"x": cells, "y": csr_matrix(y)})
    source = open_source(tmp_path / "b.mat")
    equal(rows(source, "x"), x)
    equal(rows(source, "y"), y)


def test_links_and_empty_arrays_of_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    x, y = noise(20, 8), noise(20, 8, seed=1)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = x
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["inner/first"] = x
        file["x"], file["y"] = h5py.SoftLink("/inner/first"), y
        file["out"] = h5py.ExternalLink("other.h5", "/secret")
        file["gone"], file["loop"] = h5py.SoftLink("/nowhere"), h5py.SoftLink("/")
        file["again"] = file["inner"]
        file.create_dataset("none", data=h5py.Empty("f8"))
    source = open_source(tmp_path / "a.h5")
    equal(rows(source, "x"), x)
    said = " ".join(source.notes)
    assert "out is a link into other.h5" in said and "gone is a link to nothing" in said
    assert "none holds nothing" in said and "out" not in source.arrays
    assert recognise(source, ["x"], ["y"]).count == 20


def test_half_of_a_known_layout_is_read_by_its_names_or_told(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "groups.h5", "w") as file:
        for k in range(4):
            file[f"{k:04}/data"], file[f"{k:04}/grid/x"] = noise(5, 16, 1), np.arange(16.0)
    assert open_source(tmp_path / "groups.h5").arrays["data"].shape == (4, 5, 16, 1)
    with h5py.File(tmp_path / "well.h5", "w") as file:
        file["dimensions/x"], file["t0_fields/u"] = np.arange(8.0), noise(4, 3, 8)
        file["dimensions"].attrs["spatial_dims"] = ["x"]
    with pytest.raises(InvalidArgument, match="looks like a file of The Well, but for"):
        open_source(tmp_path / "well.h5")


def test_longer_floats_and_flat_coordinates(tmp_path):
    x = noise(20, 8)
    np.savez(tmp_path / "a.npz", a=x.astype(np.longdouble), u=x, x=np.zeros(8))
    source = open_source(tmp_path / "a.npz")
    assert rows(source, "a").dtype == np.float64
    assert any("0 to 0 apart" in text for text in recognise(source).doubts)


# --- tables -------------------------------------------------------------------------------------
def table(path, header, values, mark=",", point=".", encoding="utf-8"):
    lines = [header, *([f"{v:.6f}".replace(".", point) for v in row] for row in values)]
    path.write_text("\n".join(mark.join(line) for line in lines), encoding=encoding)
    return path


def test_tables_with_other_marks_and_letters(tmp_path):
    values = noise(20, 4).round(6)
    header = ["x0", "x1", "y0", "y1"]
    for mark, point in ((",", "."), (";", "."), (";", ","), ("\t", ".")):
        source = open_source(table(tmp_path / "a.csv", header, values, mark, point))
        equal(rows(source, "y"), values[:, 2:])
    source = open_source(
        table(tmp_path / "b.csv", ["größe", *header[1:]], values, encoding="latin-1")
    )
    equal(rows(source, "größe"), values[:, 0])
    assert "Latin-1" in " ".join(source.notes)
    (tmp_path / "c.csv").write_bytes(b"\x80\x00\x01")
    with pytest.raises(InvalidArgument, match="bytes that are no text"):
        open_source(tmp_path / "c.csv")


def test_columns_are_joined_only_where_names_say_so(tmp_path):
    values = noise(20, 4)
    for header, said in (
        (["x0", "y5", "y6", "y5"], "both of the array y"),
        (["x_0", "x0", "y0", "y1"], "both of the array x"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            open_source(table(tmp_path / "a.csv", header, values))
    source = open_source(table(tmp_path / "b.csv", ["", "x0", "y40", "y42"], values))
    said = " ".join(source.notes)
    assert "without a name is left out" in said and "y40 to y42, without number 41" in said


@pytest.mark.parametrize("shape", [(-4, 8), (2**40, 2**40)])
def test_shapes_that_cannot_be_are_told(tmp_path, shape):
    header = str({"descr": "<f8", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header.encode())
    with pytest.raises(InvalidArgument, match="damaged|cannot be read"):
        open_source(tmp_path / "x.npy")
