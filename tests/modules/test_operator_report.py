"""What the test of an operator reports beside its error: spectra, baselines, several test sets."""

import numpy as np
import pytest
import torch

from sciml.data.field_files import FieldFiles
from sciml.modules.evaluation.operator_report import OperatorReport
from sciml.networks.fields.fno import GridFNO
from sciml.testing import small_files as small


def reported(data, prediction=None):
    """Return a report on the first chunk of the tests, and what it saw."""
    network = GridFNO(data.sizes["fields"], width=4, modes=2, layers=1, hidden=4)
    report = OperatorReport(network, data, lambda value: value, baselines=True)
    report.start()
    batch = data.test_chunk(0)
    prediction = torch.zeros_like(batch.target) if prediction is None else prediction
    report.add(batch, prediction)
    return report, batch.target.double().numpy()


@pytest.mark.parametrize("size", [(16, 17), (9, 10, 11), (7, 9), (8, 6), (5, 4)])
def test_spectra_hold_every_wave_of_odd_and_even_grids(size, tmp_path):
    x = small.smooth(20, *size) + 0.3 * np.random.default_rng(0).normal(size=(20, *size))
    np.savez(tmp_path / "a.npz", x=x, y=small.smoothed(x))
    axes = ["n", *"xyz"[: len(size)]]
    data = FieldFiles(path=str(tmp_path / "a.npz"), axes={"x": axes, "y": axes})
    report, y = reported(data)
    power = np.abs(np.fft.fftn(y, axes=range(2, y.ndim))) ** 2
    waves = np.stack(np.meshgrid(*map(np.fft.fftfreq, size), indexing="ij"))
    number = np.floor(np.abs(waves).max(0) * max(size) + 0.5).astype(int)
    wanted = [power[..., number == k].sum() for k in range(number.max() + 1)]
    for row in report.spectrum.numpy():  # the error of zero is the solution itself
        np.testing.assert_allclose(row, wanted, rtol=1e-9)
    extra, _, shown = report.finished({"test/rel_l2": 1.0})
    assert "spectrum" in shown["curves"]
    bands = [extra[f"test/band/{name}"] for name in ("low", "mid", "high")]
    assert sum(b**2 for b in bands) == pytest.approx(1.0, rel=1e-9)
