"""What `sciml inspect` says of a file: the ranges that a run trains on."""

import numpy as np

from sciml.cli.verbs.inspect import used
from sciml.data.field_files import FieldFiles
from sciml.testing import small_files as small


def test_ranges_are_over_all_channels_of_the_training_samples(tmp_path):
    x, y = small.smooth(10, 3, 8), small.smooth(10, 2, 8, seed=1)
    x += np.array([0.0, -40.0, 7.0])[:, None]
    y += np.array([30.0, -20.0])[:, None]
    np.savez(tmp_path / "a.npz", x=x, y=y)
    axes = {"x": ["n", "c", "x"], "y": ["n", "c", "x"]}
    path = str(tmp_path / "a.npz")
    data = FieldFiles(path=path, inputs=["x"], outputs=["y"], axes=axes)
    rows = np.asarray(data.chosen["train"])
    assert len(rows) == 8
    said = used(data)
    for side, a in (("input  x", x[rows]), ("output y", y[rows])):
        channels = a.shape[1]
        assert (
            f"{side}: (samples, {channels} channels, x), {channels} channels, unit 1, "
            f"{a.min():.4g} to {a.max():.4g} in training"
        ) in said
