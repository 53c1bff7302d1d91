"""Packed numbers and missing values in NetCDF, HDF5 and zarr are those that are meant."""

import numpy as np
import pytest

from sciml.data.field_files import FieldFiles
from sciml.data.readers import open_source
from sciml.errors import InvalidArgument

ABOUT = {"scale_factor": 0.01, "add_offset": -1.0, "_FillValue": np.int16(-32767), "units": "m"}
RAW = np.random.default_rng(0).integers(-3000, 3000, (12, 8)).astype("i2")
RAW[3, 4] = -32767
MEANT = np.where(RAW == -32767, np.nan, RAW * 0.01 - 1.0)


def write(path, arrays, **about):
    """Write arrays with named dimensions and the same attributes, by the ending of the file."""
    if path.suffix == ".nc":
        from scipy.io import netcdf_file

        with netcdf_file(path, "w") as file:
            file.createDimension("sample", 12)
            file.createDimension("x", 8)
            for name, values in arrays.items():
                node = file.createVariable(name, values.dtype, ("sample", "x"))
                node[:] = values
                for key, value in about.items():
                    setattr(node, key, value)
        return
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
            file[name].attrs.update(about)


@pytest.mark.parametrize("name", ["a.nc", "a.h5"])
def test_packed_numbers_are_unpacked_and_missing_ones_told(tmp_path, name):
    write(tmp_path / name, {"a": RAW, "u": RAW}, **ABOUT)
    array = open_source(tmp_path / name).arrays["a"]
    assert array.unit == "m" and array.dtype.kind == "f"
    np.testing.assert_allclose(array.rows(slice(None)), MEANT, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(array.rows([5, 3]), MEANT[[5, 3]], rtol=1e-6, atol=1e-6)
    with pytest.raises(InvalidArgument, match=r"a\[3, 4\] is nan"):
        FieldFiles(path=str(tmp_path / name))
    data = FieldFiles(path=str(tmp_path / name), skip="nan")
    assert sorted(np.concatenate([*data.chosen.values()])) == [k for k in range(12) if k != 3]


def test_valid_numbers_missing_values_and_unsigned_bytes(tmp_path):
    values = np.linspace(0, 1, 96).reshape(12, 8).astype("f4")
    values[0, 0], values[1, 1] = 1e20, -5.0
    write(tmp_path / "a.h5", {"x": values}, missing_value=np.float64(1e20), valid_min=np.float32(0))
    wanted = values.copy()
    wanted[0, 0] = wanted[1, 1] = np.nan
    np.testing.assert_array_equal(
        open_source(tmp_path / "a.h5").arrays["x"].rows(slice(None)), wanted
    )
    signed = np.arange(96).reshape(12, 8).astype("u1") * np.uint8(2) + np.uint8(60)
    write(tmp_path / "b.nc", {"x": signed.view("i1")}, _Unsigned="true", scale_factor=0.5,
          _FillValue=np.int8(-6))  # fmt: skip
    found = open_source(tmp_path / "b.nc").arrays["x"].rows(slice(None))
    np.testing.assert_array_equal(found, np.where(signed == 250, np.nan, signed * 0.5))


@pytest.mark.parametrize("version", [2, 3])
def test_packed_zarr_stores(tmp_path, version):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    node = group.create_array("x", data=RAW)
    node.attrs.update({"scale_factor": 0.01, "add_offset": -1.0, "_FillValue": -32767})
    found = open_source(tmp_path / "a.zarr").arrays["x"].rows(slice(None))
    np.testing.assert_allclose(found, MEANT, rtol=1e-6, atol=1e-6)
