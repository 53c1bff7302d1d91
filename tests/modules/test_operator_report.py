"""What the test of an operator reports beside its error: spectra, baselines, several test sets."""

import numpy as np
import pytest
import torch

from sciml.data.field_files import FieldFiles
from sciml.data.regression import kernel_ridge, relative
from sciml.errors import SciMLWarning
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
    number = number.clip(max=max(size) // 2)  # half a wave beyond, beside an even side
    wanted = [power[..., number == k].sum() for k in range(number.max() + 1)]
    for row in report.spectrum.numpy():  # the error of zero is the solution itself
        np.testing.assert_allclose(row, wanted, rtol=1e-9)
    extra, _, shown = report.finished({"test/rel_l2": 1.0})
    assert "spectrum" in shown["curves"]
    bands = [extra[f"test/band/{name}"] for name in ("low", "mid", "high")]
    assert sum(b**2 for b in bands) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("case", ["four samples", "a constant input", "two kinds of input"])
def test_baselines_of_few_or_equal_samples_are_numbers(case, tmp_path):
    count = 4 if case == "four samples" else 20
    x = small.smooth(count, 12)
    y = small.smoothed(x)
    if case == "a constant input":
        x = np.broadcast_to(0.1 * x[:1], x.shape)
    if case == "two kinds of input":
        x = x[np.arange(count) % 8 // 7]  # most distances are zero
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = FieldFiles(path=str(tmp_path / "a.npz"), axes={"x": ["n", "x"], "y": ["n", "x"]})
    report, target = reported(data)
    _, rivals, _ = report.finished({"test/rel_l2": 1.0})
    assert set(rivals) == {"mean", "nearest", "linear_modes", "kernel_ridge"}
    assert all(np.isfinite(error) for error in rivals.values())
    known = y[data.chosen["train"]]
    size = np.linalg.norm(target[:, 0], axis=1)
    mean = (np.linalg.norm(target[:, 0] - known.mean(0), axis=1) / size).mean()
    assert rivals["mean"] == pytest.approx(mean, rel=1e-9)
    if case == "a constant input":  # which says nothing: nothing is better than the mean
        assert rivals["linear_modes"] == pytest.approx(mean, rel=1e-6)
        assert rivals["kernel_ridge"] == pytest.approx(mean, rel=1e-6)
    if case == "four samples":  # the line through two samples, by hand
        a, b = x[data.chosen["train"]]
        new = x[data.chosen["test"]]
        along = (new - (a + b) / 2) @ (b - a) / ((b - a) @ (b - a))
        line = known.mean(0) + along[:, None] * (known[1] - known[0])
        error = (np.linalg.norm(target[:, 0] - line, axis=1) / size).mean()
        assert rivals["linear_modes"] == pytest.approx(error, rel=1e-5)


def test_a_baseline_that_cannot_be_computed_is_left_out(tmp_path, monkeypatch):
    data = FieldFiles(path=str(small.pairs(tmp_path / "a.npz", count=20, n=8)))

    def singular(x, y):
        raise torch.linalg.LinAlgError("the matrix is singular")

    def none(x, y):
        return lambda new: torch.full((len(new), *y.shape[1:]), torch.nan, dtype=y.dtype)

    monkeypatch.setattr("sciml.data.regression.modal", singular)
    monkeypatch.setattr("sciml.data.regression.kernel_ridge", none)
    with pytest.warns(SciMLWarning, match="linear_modes is left out: the matrix is singular"):
        report, _ = reported(data)
    with pytest.warns(SciMLWarning, match="kernel_ridge is left out: its error is nan"):
        extra, rivals, _ = report.finished({"test/rel_l2": 1.0})
    assert set(rivals) == {"mean", "nearest"}
    assert extra["test/skill"] == pytest.approx(1 / min(rivals.values()), rel=1e-9)


def test_the_kernel_interpolates_where_most_samples_are_twins():
    draw = np.random.default_rng(0)
    a = np.concatenate([np.zeros(80), np.linspace(0, 3, 20)])  # the median distance is zero
    a = torch.from_numpy(draw.permutation(a))[:, None, None]
    direction = torch.from_numpy(draw.normal(size=(1, 1, 6)))
    new = torch.tensor([0.7, 1.9, 2.6], dtype=torch.float64)[:, None, None]
    found = kernel_ridge(a * direction, torch.sin(2 * a) * direction)(new * direction)
    wanted = torch.sin(2 * new) * direction
    assert relative(found, wanted) < 0.02
