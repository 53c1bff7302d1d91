import logging

import numpy as np
from matplotlib.figure import Figure

from sciml.callbacks import Plots
from sciml.callbacks.figures import plot_confusion, plot_fields
from sciml.callbacks.plots import draw, plot_losses, read_history


def names(folder):
    return sorted(p.name for p in (folder / "plots").glob("*"))


def test_all_pictures_of_a_run(module, make_trainer, batches, few_batches, tmp_path):
    model = module()
    trainer = make_trainer(Plots(tmp_path))
    trainer.fit(model, batches)
    assert names(tmp_path) == ["losses.png"]
    trainer.test(model, few_batches, verbose=False)
    assert names(tmp_path) == ["losses.png", "ray.png", "scatter.png"]
    for path in (tmp_path / "plots").glob("*"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 5000


def test_losses_of_a_failed_run(module, make_trainer, batches, tmp_path):
    class Fails(module):
        def on_train_batch_start(self, batch, batch_idx):
            if batch_idx == 6:
                raise RuntimeError("stop")

    try:
        make_trainer(Plots(tmp_path)).fit(Fails(), batches)
    except RuntimeError:
        assert names(tmp_path) == ["losses.png"]


def test_history_of_a_resumed_run_keeps_the_later_row(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,val/rel_l2\n1,4,\n3,2,\n3,,0.5\n3,1,\n5,0.5,\n")
    history = read_history(path)
    assert np.array_equal(history["train/loss"], [[1, 3, 5], [4, 1, 0.5]])
    assert np.array_equal(history["val/rel_l2"], [[3], [0.5]])
    assert read_history(tmp_path / "absent.csv") == {}


def test_a_picture_that_cannot_be_made_is_a_warning(tmp_path, caplog):
    report = {"prediction": [1.0, 2.0], "reference": [1.0], "ray": {"s": [0.0]}}
    (tmp_path / "metrics.csv").write_text("step,train/loss\n1,x\n")
    with caplog.at_level(logging.WARNING):
        assert draw(tmp_path, report) == []
    assert sum("was not drawn" in r.message for r in caplog.records) == 3


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "plots").write_text("a file in the way")
    (tmp_path / "metrics.csv").write_text("step,train/loss\n1,0.5\n2,0.25\n")
    with caplog.at_level(logging.WARNING):
        assert draw(tmp_path, None) == []
    assert "losses.png was not drawn" in caplog.text


def test_degenerate_numbers_still_make_pictures(tmp_path):
    flat = np.zeros(30)
    report = {
        "prediction": np.ones(30),
        "reference": np.ones(30),
        "baselines": {"constant": 0.0},
        "ray": {"s": np.arange(30.0), "prediction": flat, "reference": flat, "label": "s"},
    }
    (tmp_path / "metrics.csv").write_text("step,train/loss\n1,nan\n2,0\n3,1\n")
    assert len(draw(tmp_path, report)) == 3


def test_pictures_of_data_driven_methods(tmp_path):
    field = np.random.default_rng(0).normal(size=(6, 8))
    curve = {"x": [1, 2, 4], "y": {"error": [1.0, 0.5, 0.25]}, "xlabel": "budget", "log": "xy"}
    report = {
        "fields": [{"title": "sample", "reference": field, "prediction": field + 0.1}] * 2,
        "confusion": np.array([[3, 1], [0, 4]]),
        "names": ("cat", "dog"),
        "curves": {"error_against_budget": curve},
    }
    found = {path.name for path in draw(tmp_path, report)}
    assert found == {"fields.png", "confusion.png", "error_against_budget.png"}


def test_fields_with_holes_and_on_clouds():
    field = np.arange(12.0).reshape(3, 4)
    field[0, 0] = np.nan
    cloud = {
        "title": "cloud",
        "points": np.eye(2),
        "reference": np.ones(2),
        "prediction": np.ones(2),
    }
    figure = Figure()
    rows = [{"title": "grid", "reference": field, "prediction": field + 0.5}, cloud]
    assert plot_fields(figure, {"fields": rows})
    assert [axis.get_title() for axis in figure.axes][:3] == [
        "grid: reference",
        "prediction",
        "difference",
    ]
    assert figure.axes[0].images[0].get_clim() == (1.0, 11.0)
    assert figure.axes[2].images[0].get_clim() == (-0.5, 0.5)
    assert len(figure.axes[3].collections[0].get_offsets()) == 2


def test_what_the_confusion_picture_says():
    figure = Figure()
    assert plot_confusion(figure, {"confusion": np.array([[3, 1], [0, 4]])})
    axis = figure.axes[0]
    assert {t.get_text() for t in axis.texts} == {"3", "1", "4"}  # zeros are left empty
    assert "0.8750" in axis.get_title()
    assert not plot_confusion(Figure(), {})


def test_validation_shows_errors_only(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "step,train/loss,val/loss,val/accuracy,val/deq/iters_mean\n1,2,2,0.5,6\n2,1,1,0.75,7\n"
    )
    figure = Figure()
    assert plot_losses(figure, tmp_path / "metrics.csv", {})
    drawn = {line.get_label(): list(line.get_ydata()) for line in figure.axes[1].lines}
    assert drawn == {"val/loss": [2.0, 1.0], "val/error_rate": [0.5, 0.25]}


def test_the_panel_of_losses_shows_losses(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(
        "step,train/loss,train/samples_per_s,train/walk_steps,train/walk_share,val/loss,val/rel_l2\n"
        "1,4,30,6.7,0.3,0.1,0.3\n2,2,30,6.7,0.3,0.05,0.2\n"
    )
    figure = Figure()
    assert plot_losses(figure, path, {})
    shown = [[line.get_label() for line in axis.lines] for axis in figure.axes]
    assert shown == [["loss"], ["val/rel_l2"]]
