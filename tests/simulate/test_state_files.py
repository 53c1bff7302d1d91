"""A state that was cut, changed or exchanged is refused by one message, never continued."""

import json

import numpy as np
import pytest

from sciml.errors import InvalidArgument
from sciml.simulate import MacroState, Smoke
from sciml.simulate.pressure_solvers import PressureSolvers

SMOKE = Smoke(grid=8, steps=1)


@pytest.fixture(scope="module")
def start():
    return SMOKE.flow().start()


@pytest.fixture
def written(tmp_path, start):
    SMOKE._save(tmp_path, start, [], PressureSolvers("multigrid", 2))
    return tmp_path / "state.npz"


def loaded(file, start):
    return SMOKE._loaded(file, start, PressureSolvers("multigrid", 2))


def changed(file, name, value):
    with np.load(file) as found:
        arrays = {key: found[key] for key in found.files}
    arrays.pop(name) if value is None else arrays.update({name: value(arrays[name])})
    np.savez(file, **arrays)


def test_what_was_written_is_read(written, start):
    state, rows = loaded(written, start)
    assert rows == []
    assert np.array_equal(state.pressure.numpy(), start.pressure.numpy())


@pytest.mark.parametrize("name", ["velocity_0", "field_density", "pressure", "time", "rows"])
@pytest.mark.parametrize(
    "how",
    [
        None,
        lambda v: v[None],
        lambda v: np.array([None], dtype=object),
        lambda v: v.astype(np.float32) if v.dtype.kind == "f" else np.array("{"),
        lambda v: v * np.nan if v.dtype.kind == "f" else np.array(json.dumps([1])),
    ],
)
def test_changed_arrays_are_refused(written, start, name, how):
    changed(written, name, how)
    with pytest.raises(InvalidArgument, match=r"state\.npz"):
        loaded(written, start)


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_cut_files_are_refused(written, start, keep):
    whole = written.read_bytes()
    written.write_bytes(whole[: int(keep * len(whole)) if keep == 0.5 else keep])
    for read in (lambda: loaded(written, start), lambda: MacroState.load_file(written)):
        with pytest.raises(InvalidArgument, match="cannot be read"):
            read()


def test_a_flipped_bit_is_refused(written, start):
    whole = bytearray(written.read_bytes())
    whole[len(whole) // 2] ^= 255
    written.write_bytes(bytes(whole))
    with pytest.raises(InvalidArgument, match=r"state\.npz"):
        loaded(written, start)


def test_structures_refuse_nan_as_well(tmp_path):
    zero = np.zeros((1, 3))
    state = MacroState(0.5, np.zeros((4, 2)), zero, zero, np.zeros((1, 3, 3)), {"state": zero})
    state.save(tmp_path / "state.npz")
    assert MacroState.load_file(tmp_path / "state.npz").load == 0.5
    for name in ("stress", "load", "micro.state"):
        state.save(tmp_path / "state.npz")
        changed(tmp_path / "state.npz", name, lambda v: v * np.nan)
        with pytest.raises(InvalidArgument, match="not finite"):
            MacroState.load_file(tmp_path / "state.npz")
