"""What pictures show, read back from the figure and compared with the report it was drawn from."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sciml.callbacks.figures import plot_confusion, plot_curve, plot_fields, readable
from sciml.callbacks.plots import draw, plot_losses, plot_ray, plot_scatter, plot_unknowns

S = np.linspace(0.0, 2.0, 11)


def drawn(function, *given):
    figure = Figure(layout="constrained")
    assert function(figure, *given)
    return figure


def metrics(folder, text):
    path = folder / "metrics.csv"
    path.write_text(text)
    return path


def test_the_line_of_exact_values_spans_what_is_plotted():
    """Whichever of prediction and reference reaches further, on either side."""
    wide, narrow = np.array([-3.0, 0.0, 7.0]), np.array([-1.0, 0.5, 2.0])
    for prediction, reference in ((wide, narrow), (narrow, wide)):
        axes = drawn(plot_scatter, {"prediction": prediction, "reference": reference}).axes
        assert len(axes) == 1
        line = axes[0].lines[0]
        assert list(line.get_xdata()) == list(line.get_ydata()) == [-3.0, 7.0]
        np.testing.assert_array_equal(
            axes[0].collections[0].get_offsets(), np.stack([reference, prediction], 1)
        )
        assert axes[0].get_xlabel() == "reference u [-]"
        assert axes[0].get_ylabel() == "predicted u [-]"


def test_the_error_in_the_title_is_the_measured_one_else_that_of_the_points():
    report = {"prediction": [3.0, 4.5], "reference": [3.0, 4.0], "unit": "K"}
    axis = drawn(plot_scatter, report).axes[0]
    assert axis.get_title() == "test points, relative L2 error 0.1"  # 0.5 / 5
    assert axis.get_xlabel() == "reference u [K]"
    axis = drawn(plot_scatter, {**report, "metrics": {"test/rel_l2": 0.25}}).axes[0]
    assert axis.get_title() == "test points, relative L2 error 0.25"


def test_baselines_stand_from_the_worst_to_the_best():
    report = {"prediction": [1.0, 2.1], "reference": [1.0, 2.0], "metrics": {"test/rel_l2": 0.01}}
    report["baselines"] = {"constant": 0.3, "closed_form": 0.002}
    left, right = drawn(plot_scatter, report).axes
    names = [text.get_text() for text in right.get_yticklabels()]
    widths = [bar.get_width() for bar in right.patches]
    assert names == ["constant", "this model", "closed_form"] and widths == [0.3, 0.01, 0.002]
    assert [text.get_text() for text in right.texts] == ["3.00e-01", "1.00e-02", "2.00e-03"]
    assert [text.xy for text in right.texts] == [(0.3, 0), (0.01, 1), (0.002, 2)]
    colours = [to_hex(bar.get_facecolor()) for bar in right.patches]
    assert colours[0] == colours[2] != colours[1]  # the model stands out
    assert right.get_xscale() == "log"
    low, high = right.get_xlim()
    assert low < 0.002 and high > 0.3 and high / low < 1e4  # all bars, and room for their numbers
    assert left.get_xscale() == "linear"


def test_many_points_are_thinned_evenly():
    values = np.arange(20_000.0)
    axis = drawn(plot_scatter, {"prediction": values, "reference": values}).axes[0]
    shown = np.asarray(axis.collections[0].get_offsets())[:, 0]
    assert 4000 <= len(shown) <= 6000 and shown[0] == 0.0 and shown[-1] > 19_990.0
    assert set(np.diff(shown)) == {4.0}


def test_tensors_that_hold_a_graph_are_drawn_like_others():
    values = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    report = {"prediction": 1.1 * values, "reference": values.detach().double()}
    axis = drawn(plot_scatter, report).axes[0]
    np.testing.assert_allclose(
        axis.collections[0].get_offsets(), [[1, 1.1], [2, 2.2], [4, 4.4]], rtol=1e-6
    )


def test_what_is_missing_leaves_out_the_picture():
    assert not plot_scatter(Figure(), {"prediction": [1.0]})
    assert not plot_scatter(Figure(), {"reference": [1.0]})
    assert not plot_ray(Figure(), {}) and not plot_fields(Figure(), {"fields": []})


def test_a_ray_with_the_part_that_was_trained_on():
    reference = S**2
    ray = {"s": S, "prediction": reference + 0.1 * S, "reference": reference, "label": "r"}
    top, bottom = drawn(plot_ray, {"ray": {**ray, "training": (0.5, 1.5)}, "unit": "m"}).axes
    for axis in (top, bottom):
        (band,) = axis.patches
        edges = band.get_window_extent().transformed(axis.transData.inverted())
        assert (edges.x0, edges.x1) == pytest.approx((0.5, 1.5))
    texts = {text.get_text() for text in top.get_legend().get_texts()}
    assert texts == {"98 % of training points", "reference", "prediction"}
    assert (top.get_ylabel(), bottom.get_ylabel()) == ("u [m]", "|prediction - reference| [m]")
    assert bottom.get_xlabel() == "r" and bottom.get_yscale() == "log"
    assert top.get_yscale() == "linear"
    lines = {line.get_label(): line.get_ydata() for line in top.lines}
    np.testing.assert_array_equal(lines["reference"], reference)
    np.testing.assert_array_equal(lines["prediction"], ray["prediction"])
    plain = drawn(plot_ray, {"ray": ray}).axes
    assert not plain[0].patches and not plain[1].patches


@pytest.mark.parametrize(("least", "low"), [(1e-3, 5e-4), (1e-30, 1e-7)])
def test_an_exact_hit_does_not_stretch_the_axis_of_errors(least, low):
    """Errors 0, `least` and 0.1: down to half the least, but over six decades at most."""
    error = np.array([0.0, least, 0.1])
    ray = {"s": [0.0, 1.0, 2.0], "prediction": error, "reference": np.zeros(3)}
    bottom = drawn(plot_ray, {"ray": ray}).axes[1]
    assert bottom.get_ylim() == pytest.approx((low, 0.2))


def test_the_error_on_the_way_against_the_baselines(tmp_path):
    path = metrics(tmp_path, "step,train/loss,val/rel_l2\n1,4,0.3\n2,2,0.2\n4,1,0.1\n")
    left, right = drawn(plot_losses, path, {"baselines": {"constant": 0.07}}).axes
    assert left.get_title() == "training loss" and right.get_title() == "error during training"
    assert left.get_yscale() == right.get_yscale() == "log"
    assert right.get_ylabel() == "relative L2 error"
    assert list(left.lines[0].get_xdata()) == [1, 2, 4]
    assert list(left.lines[0].get_ydata()) == [4, 2, 1]
    curve, level = right.lines
    assert list(curve.get_ydata()) == [0.3, 0.2, 0.1] and list(level.get_ydata()) == [0.07] * 2
    assert [text.get_text() for text in right.texts] == ["constant"]


def test_one_validation_is_no_curve_and_a_loss_is_no_error(tmp_path):
    path = metrics(tmp_path, "step,train/loss,val/rel_l2\n1,4,0.3\n2,2,\n")
    assert len(drawn(plot_losses, path, {}).axes) == 1
    path = metrics(tmp_path, "step,train/loss,val/loss\n1,4,0.3\n2,2,0.2\n")
    right = drawn(plot_losses, path, {"baselines": {"constant": 0.07}}).axes[1]
    assert (right.get_title(), right.get_ylabel()) == ("validation", "val/loss")
    assert len(right.lines) == 1 and not right.texts  # baselines are errors
    assert not plot_losses(Figure(), metrics(tmp_path, "step,val/loss\n1,4\n2,1\n"), {})


def test_the_sum_lies_behind_its_terms_and_only_positive_numbers_are_drawn(tmp_path):
    text = "step,train/loss,train/b,train/a\n1,3,1,2\n2,0,0,nan\n3,5,1,4\n"
    axis = drawn(plot_losses, metrics(tmp_path, text), {}).axes[0]
    shown = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
             for line in axis.lines}  # fmt: skip
    assert list(shown) == ["loss", "a", "b"]
    assert shown == {"loss": ([1, 3], [3, 5]), "a": ([1, 3], [2, 4]), "b": ([1, 3], [1, 1])}
    total, *terms = axis.lines
    assert total.get_linewidth() > max(line.get_linewidth() for line in terms)
    assert len({line.get_color() for line in axis.lines}) == 3
    many = [f"train/t{k}" for k in range(12)]
    text = (
        ",".join(["step", *many]) + "\n" + "\n".join(f"{k}," + ",".join("1" * 12) for k in (1, 2))
    )
    assert len(drawn(plot_losses, metrics(tmp_path, text + "\n"), {}).axes[0].lines) == 8


def test_short_series_are_drawn_as_they_are(tmp_path):
    for count, lines in ((59, 1), (60, 2)):
        rows = "".join(f"{k},{1 + k % 5}\n" for k in range(count))
        axis = drawn(plot_losses, metrics(tmp_path, "step,train/loss\n" + rows), {}).axes[0]
        assert len(axis.lines) == lines
    assert axis.lines[1].get_label() == "loss (median of 11 around; faint: each)"


def test_unknown_constants_over_the_steps(tmp_path):
    text = "step,train/loss,unknown/nu,unknown/k\n1,1,0.5,2\n2,1,0.25,1\n"
    axis = drawn(plot_unknowns, metrics(tmp_path, text)).axes[0]
    shown = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert shown == {"nu = 0.25": [0.5, 0.25], "k = 1": [2.0, 1.0]}
    assert axis.get_yscale() == "linear"
    assert not plot_unknowns(Figure(), metrics(tmp_path, "step,train/loss\n1,1\n"))


def test_every_picture_of_a_report_is_written_and_readable(tmp_path):
    metrics(tmp_path, "step,train/loss,unknown/k\n1,1,0.5\n2,1,0.25\n")
    found = draw(tmp_path, {"curves": {"budget": {"x": [1, 2], "y": {"e": [1, 2]}}}})
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "plots/losses.png", "plots/unknowns.png", "plots/budget.png"
    ]  # fmt: skip


def test_the_colours_of_a_row_are_those_of_its_reference():
    reference = np.array([[1.0, 2.0], [3.0, 4.0]])
    prediction = reference + np.array([[0.5, 0.0], [0.0, -0.25]])
    figure = drawn(plot_fields, {"fields": [{"title": "", "reference": reference,
                                             "prediction": prediction}]})  # fmt: skip
    first, second, third = (axis.images[0] for axis in figure.axes[:3])
    assert first.get_clim() == second.get_clim() == (1.0, 4.0)
    assert third.get_clim() == (-0.5, 0.5)
    np.testing.assert_array_equal(first.get_array(), reference)
    np.testing.assert_array_equal(second.get_array(), prediction)
    np.testing.assert_array_equal(third.get_array(), prediction - reference)
    assert all(axis.images[0].origin == "lower" for axis in figure.axes[:3])
    error = np.sqrt((0.25 + 0.0625) / 30)
    assert figure.axes[2].get_title() == f"prediction - reference\nrelative L2 error {error:.2e}"
    assert figure.axes[0].get_title() == "reference u"


@pytest.mark.parametrize(
    ("ends", "extend"),
    [((1.5, 3.5), "neither"), ((0.5, 3.5), "min"), ((1.5, 4.5), "max"), ((0.5, 4.5), "both")],
)
def test_a_bar_says_what_lies_beyond_it(ends, extend):
    row = {"title": "", "reference": np.array([[1.0, 4.0]]), "prediction": np.array([ends])}
    figure = drawn(plot_fields, {"fields": [row]})
    bars = [axis.images[0].colorbar.extend for axis in figure.axes[:3]]
    assert bars == ["neither", extend, "neither"]


def test_space_has_one_scale_and_the_domain_its_outline():
    level = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    field = np.zeros((3, 3))
    row = {"title": "", "reference": field, "prediction": field, "extent": [0, 1, 0, 1]}
    space = drawn(plot_fields, {"fields": [{**row, "xlabel": "x", "ylabel": "y"}]}).axes[0]
    time = drawn(plot_fields, {"fields": [{**row, "xlabel": "x", "ylabel": "t"}]}).axes[0]
    assert (space.get_aspect(), time.get_aspect()) == (1.0, "auto")
    cloud = {"title": "", "reference": field[0], "prediction": field[0], "points": np.eye(3, 2)}
    for name, aspect in (("y", 1.0), ("t", "auto")):
        row_of_points = {**cloud, "xlabel": "x", "ylabel": name}
        assert drawn(plot_fields, {"fields": [row_of_points]}).axes[0].get_aspect() == aspect
    assert not space.collections
    inside = drawn(plot_fields, {"fields": [{**row, "outline": level}]}).axes[0]
    (path,) = inside.collections[0].get_paths()
    np.testing.assert_allclose(path.vertices.mean(0), [0.5, 0.5], rtol=0, atol=0.05)
    whole = drawn(plot_fields, {"fields": [{**row, "outline": level + 3}]}).axes[0]
    assert not whole.collections  # all of the picture is the domain
    zero = drawn(plot_fields, {"fields": [row]}).axes
    assert zero[2].images[0].get_clim() == (-1.0, 1.0) and "undefined" in zero[2].get_title()


def test_shares_of_the_confusion_are_those_of_the_true_class():
    axis = drawn(plot_confusion, {"confusion": [[8, 0], [1, 3]], "names": ("a", "b")}).axes[0]
    np.testing.assert_array_equal(axis.images[0].get_array(), [[1.0, 0.0], [0.25, 0.75]])
    places = {text.get_text(): text.get_position() for text in axis.texts}
    assert places == {"8": (0, 0), "1": (0, 1), "3": (1, 1)}  # predicted across, true down
    colours = {text.get_text(): text.get_color() for text in axis.texts}
    assert colours == {"8": "white", "1": "black", "3": "white"}
    assert axis.get_title() == f"test samples, accuracy {11 / 12:.4f}"
    assert [text.get_text() for text in axis.get_xticklabels()] == ["a", "b"]
    empty = drawn(plot_confusion, {"confusion": np.zeros((21, 21))}).axes[0]
    assert not empty.texts and empty.get_title().endswith("0.0000")


def test_a_curve_has_the_scales_that_it_asks_for():
    curve = {"x": [1, 2, 4], "y": {"the_error": [1.0, 0.5, 0.25]}, "xlabel": "n", "ylabel": "e"}
    for scale, both in (
        ("", ("linear", "linear")),
        ("y", ("linear", "log")),
        ("xy", ("log",) * 2),
    ):
        axis = drawn(plot_curve, "some_curve", {**curve, "log": scale}).axes[0]
        assert (axis.get_xscale(), axis.get_yscale()) == both
    assert (axis.get_title(), axis.get_xlabel(), axis.get_ylabel()) == ("some curve", "n", "e")
    assert axis.lines[0].get_label() == "the error" and axis.lines[0].get_marker() == "o"
    named = {"x": [1, 2], "y": {"e": [3.0, 2.0]}, "ticks": ["test", "test 128"], "log": "y"}
    axis = drawn(plot_curve, "c", named).axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["test", "test 128"]
    assert axis.get_xticks().tolist() == [1, 2]
    long = {"x": range(31), "y": {"e": range(31)}}
    assert drawn(plot_curve, "c", long).axes[0].lines[0].get_marker() in ("None", None, "")


def test_axes_of_many_decades_and_linear_ones_stay_as_they_are():
    for low, high, scale in ((1e-3, 2.0, "log"), (1.0, 2.0, "linear")):
        figure = Figure()
        axis = figure.subplots()
        axis.plot([1, 2], [low, high])
        axis.set_yscale(scale)
        before = axis.yaxis.get_major_locator()
        readable(figure)
        assert axis.yaxis.get_major_locator() is before


def test_bars_of_reference_and_prediction_have_the_same_ticks():
    for high in (0.6, 0.7, 1.3, 1.7):  # bars with arrows are shorter, and take fewer ticks
        reference = np.linspace(0.0, high, 12).reshape(3, 4)
        row = {"title": "", "reference": reference, "prediction": 3 * reference - 1}
        figure = drawn(plot_fields, {"fields": [row]})
        FigureCanvasAgg(figure).draw()
        bars = [axis.images[0].colorbar for axis in figure.axes[:2]]
        assert [bar.extend for bar in bars] == ["neither", "both"]
        ticks = [bar.get_ticks().tolist() for bar in bars]
        assert ticks[0] == ticks[1] and len(ticks[0]) >= 3
        assert bars[0].vmin == bars[1].vmin == 0 and bars[0].vmax == bars[1].vmax == high
    still = {"title": "", "reference": np.ones((3, 4)), "prediction": np.zeros((3, 4))}
    assert drawn(plot_fields, {"fields": [still]}).axes[0].images  # a constant has a bar too


def test_the_scatter_calls_the_output_by_its_name():
    report = {"prediction": np.arange(4.0), "reference": np.arange(1.0, 5.0), "unit": "K"}
    axis = drawn(plot_scatter, {**report, "symbol": "temperature"}).axes[0]
    assert axis.get_xlabel() == "reference temperature [K]"
    assert axis.get_ylabel() == "predicted temperature [K]"
    assert drawn(plot_scatter, report).axes[0].get_xlabel() == "reference u [K]"
    scored = {"symbol": "outputs, each over its size", "unit": ""}
    axis = drawn(plot_scatter, {**report, "symbol": "u", "scatter": scored}).axes[0]
    assert axis.get_xlabel() == "reference outputs, each over its size [-]"
