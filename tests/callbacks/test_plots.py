import logging

import numpy as np
from matplotlib.figure import Figure

from sciml.callbacks import Plots
from sciml.callbacks.figures import plot_confusion, plot_fields, readable
from sciml.callbacks.plots import draw
from sciml.callbacks.run_figures import _curve, plot_losses, plot_ray, plot_scatter, read_history


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
    assert sum("was not drawn" in r.message for r in caplog.records) == 4


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
        "grid: reference u",
        "prediction u",
        "prediction - reference\nrelative L2 error 7.37e-02",
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


def test_axes_of_few_decades_have_plain_numbers_that_differ():
    for low, high in ((0.55, 0.57), (0.2, 2.0), (3.0, 80.0), (5e-3, 0.5)):
        figure = Figure()
        axis = figure.subplots()
        axis.plot([1, 2], [low, high])
        axis.set_yscale("log")
        readable(figure)
        figure.canvas.draw()
        bottom, top = axis.get_ylim()
        shown = [
            text.get_text()
            for tick, text in zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
            if bottom <= tick <= top
        ]
        assert 2 <= len(set(shown)) == len(shown) <= 9
        assert all(float(text) > 0 for text in shown) and not any("$" in text for text in shown)


def test_pdf_beside_png(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,train/loss\n1,0.5\n2,0.25\n")
    assert [p.name for p in draw(tmp_path, None, pdf=True)] == ["losses.png", "losses.pdf"]
    assert (tmp_path / "plots" / "losses.pdf").read_bytes()[:5] == b"%PDF-"


def test_a_smoothed_line_says_that_it_is_one(tmp_path):
    rows = "".join(f"{k},{1 + k % 3}\n" for k in range(100))
    (tmp_path / "metrics.csv").write_text("step,train/loss\n" + rows)
    figure = Figure()
    assert plot_losses(figure, tmp_path / "metrics.csv", {})
    shown = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(shown) == 1 and "loss (median of" in shown[0] and "faint: each" in shown[0]


def test_fields_show_inputs_axes_and_the_error_of_each():
    field = np.ones((4, 5))
    row = {"title": "problem 0", "reference": field, "prediction": field * 1.1, "xlabel": "x",
           "ylabel": "t", "extent": [0, 1, 0, 2], "inputs": {"source f": field * 2}}  # fmt: skip
    figure = Figure()
    assert plot_fields(figure, {"fields": [row], "unit": "K"})
    panels = [axis for axis in figure.axes if axis.get_title()]
    titles = [axis.get_title() for axis in panels]
    assert titles[:3] == ["problem 0: source f", "reference u [K]", "prediction u [K]"]
    assert "relative L2 error 1.00e-01" in titles[3]
    assert all((a.get_xlabel(), a.get_ylabel()) == ("x", "t") for a in panels)
    assert figure.get_supxlabel() == "dimensionless: t, x"
    figure = Figure()
    plot_fields(figure, {"fields": [row], "axis_units": {"x": "mm", "t": "s"}})
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert all((a.get_xlabel(), a.get_ylabel()) == ("x [mm]", "t [s]") for a in panels)
    assert figure.get_supxlabel() == "dimensionless: u"


def test_lines_show_the_numbers_they_name():
    """The curves of the three simplest pictures against the report they were drawn from."""
    s, reference = np.linspace(0, 1, 9), np.linspace(-2, 5, 9)
    prediction = reference + np.linspace(-0.3, 0.2, 9)
    ray, scatter, smooth = Figure(), Figure(), Figure()
    assert plot_ray(ray, {"ray": {"s": s, "prediction": prediction, "reference": reference}})
    np.testing.assert_allclose(
        ray.axes[1].lines[0].get_ydata(), np.abs(prediction - reference), rtol=1e-12
    )
    assert plot_scatter(scatter, {"prediction": prediction, "reference": reference})
    low, high = -2.3, 5.2
    np.testing.assert_allclose(scatter.axes[0].lines[0].get_xdata(), [low, high], rtol=1e-12)
    values = 1.0 + np.random.default_rng(0).random(200)
    _curve(smooth.subplots(), np.arange(200.0), values, "loss")
    middle = smooth.axes[0].lines[1].get_ydata()
    wanted = [np.median(values[max(0, i - 5) : i + 6]) for i in range(200)]
    np.testing.assert_allclose(middle, wanted, rtol=1e-12)
