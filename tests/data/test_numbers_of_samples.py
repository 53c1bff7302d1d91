"""Numbers of a whole sample: as inputs with or without an axis, never as outputs."""

import numpy as np
import pytest
import torch

from sciml.data.field_files import FieldFiles
from sciml.errors import InvalidArgument
from sciml.testing import small_files as small


def test_a_number_per_sample_is_an_input_with_or_without_an_axis(tmp_path):
    u = small.smooth(60, 24)
    nu = np.random.default_rng(0).uniform(size=60)
    np.savez(tmp_path / "a.npz", nu=nu, u=u, a=u[:, ::-1])
    np.savez(tmp_path / "b.npz", nu=nu[:, None], u=u, a=u[:, ::-1])
    for names in (["nu"], ["a", "nu"]):
        plain, told = (
            FieldFiles(path=str(tmp_path / f), inputs=names, outputs=["u"])
            for f in ("a.npz", "b.npz")
        )
        assert plain.fields.outputs[0].axes == ("x",) and plain.fields.size == [24]
        rows = plain.places(0, 0, 1)
        batch = plain.batch(0)
        np.testing.assert_array_equal(batch.inputs["nu"].numpy(), nu[rows])
        np.testing.assert_array_equal(batch.target[:, 0].numpy(), u[rows])
        packed = plain.fields.pack(batch.inputs)
        assert torch.equal(packed, told.fields.pack(told.batch(0).inputs))
        wanted = np.repeat(nu[rows][:, None], 24, 1)
        np.testing.assert_array_equal(packed[:, -1].numpy(), wanted)
        assert plain.ranges["nu"][1] == nu[plain.chosen["train"]].max()


def test_outputs_that_are_no_fields_are_refused(tmp_path):
    x, y = small.smooth(20, 16), np.random.default_rng(0).uniform(size=20)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.savez(tmp_path / "t.npz", x=x, y=x, t=np.arange(16.0))
    table = np.column_stack([x[:, :2], y])
    np.savetxt(tmp_path / "a.csv", table, delimiter=",", header="x0,x1,y", comments="")
    for name in ("a.npz", "a.csv"):
        with pytest.raises(InvalidArgument) as told:
            FieldFiles(path=str(tmp_path / name))
        assert "the output y (20,) float64, which has no axis of space" in str(told.value)
        assert "Expected a field on points" in str(told.value)
        assert "data.outputs=[NAME]" in str(told.value)
    axes = {"x": ["n", "x"], "y": ["n", "t"]}
    with pytest.raises(InvalidArgument, match=r"y \(20, 16\).*no axis of space"):
        FieldFiles(path=str(tmp_path / "t.npz"), axes=axes)
