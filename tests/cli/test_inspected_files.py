"""What `sciml inspect` says of a file: the ranges that a run trains on."""

import subprocess
import sys

import numpy as np

from sciml.cli.main import main
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


def test_unknown_names_are_refused_without_torch_and_with_a_line_to_copy(tmp_path):
    x = small.smooth(12, 8, 8)
    np.savez(tmp_path / "a.npz", kappa=x, temperature=small.smoothed(x))
    program = (
        "import sys; from sciml.cli.main import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'lightning', 'neuralop', 'hydra'} & set(sys.modules); sys.exit(code)"
    )
    words = ["inspect", str(tmp_path / "a.npz")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "temperature  (12, 8, 8) float64" in done.stdout
    assert "Type data.inputs=[kappa] data.outputs=[temperature]" in done.stderr


def test_settings_that_are_wrong_are_told_before_what_is_recognised(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", kappa=np.ones((12, 8, 8)), temperature=np.ones((12, 8, 8)))
    for word in ("data.input=kappa", "data.inputs=3"):
        assert main(["inspect", str(tmp_path / "a.npz"), word]) == 2
        assert word.partition("=")[0] in capsys.readouterr().err
