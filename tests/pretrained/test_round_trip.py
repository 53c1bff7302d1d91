import json
import os
import stat
import warnings

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType, PretrainedError, RangeWarning
from sciml.pretrained import list_pretrained, load_pretrained, save_pretrained
from sciml.pretrained.saving.save import update_metrics


def inside(n=9, dim=5):
    """Points that training surely covered."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, dim, generator=generator)
    return 2.0 * x / x.norm(dim=1, keepdim=True), 0.2 + 0.5 * torch.rand(n, 1, generator=generator)


@pytest.mark.parametrize("kind", ["float32", "float64", "complex64", "complex128"])
def test_predictions_are_bit_equal_after_loading(make, tmp_path, kind):
    solution, keywords = make(kind=kind)
    x, t = inside()
    if kind in ("float64", "complex128"):
        x, t = x.double(), t.double()
    before = solution(x, t).detach()[:, 0]
    model = load_pretrained(save_pretrained(tmp_path / "m", solution, **keywords))
    assert torch.equal(model.predict(x, t)["value"], before)
    assert torch.equal(model.predict(x, t, gradient=False)["value"], before)


def test_every_tensor_keeps_its_type(make, tmp_path):
    solution, keywords = make(kind="complex128")
    save_pretrained(tmp_path / "m", solution, **keywords)
    loaded = load_pretrained(tmp_path / "m").solution.state_dict()
    for name, value in solution.state_dict().items():
        assert loaded[name].dtype == value.dtype and torch.equal(loaded[name], value), name


def test_gradient_matches_finite_differences(make, tmp_path):
    solution, keywords = make(kind="float64")
    model = load_pretrained(save_pretrained(tmp_path / "m", solution, **keywords))
    x, t = (v.double() for v in inside())
    gradient = model.predict(x, t)["gradient"]
    h = 1e-6
    for j in range(5):
        e = h * torch.eye(5, dtype=torch.float64)[j]
        up, down = (model.predict(x + s * e, t)["value"] for s in (1, -1))
        assert torch.allclose(gradient[:, j], (up - down) / (2 * h), atol=1e-8, rtol=1e-8)


def test_chunks_devices_and_array_kinds(saved):
    model = load_pretrained(saved[0])
    x, t = inside(50)
    whole = model.predict(x, t)
    parts = model.predict(x, t, chunk=7)
    assert whole["value"].shape == (50,) and whole["gradient"].shape == (50, 5)
    for key in whole:
        assert torch.allclose(whole[key], parts[key], atol=1e-6, rtol=1e-6)
        assert not whole[key].requires_grad
    assert torch.equal(model.predict(x.numpy(), t.numpy())["value"], whole["value"])
    assert torch.equal(model.predict(x, t[:, 0])["value"], whole["value"])
    one = model.predict(x, 0.5)["value"]
    assert torch.equal(one, model.predict(x, torch.full((50, 1), 0.5))["value"])
    with torch.inference_mode():
        assert torch.equal(model.predict(x, t)["gradient"], whole["gradient"])


def test_static_problem(make, tmp_path):
    solution, keywords = make(problem="StaticProblem")
    model = load_pretrained(save_pretrained(tmp_path / "m", solution, **keywords))
    x, t = inside()
    assert model.predict(x)["value"].shape == (9,)
    with pytest.raises(InvalidArgument, match=r"static.*predict\(x\)"):
        model.predict(x, t)


@pytest.mark.parametrize(
    ("x", "t", "kind", "text"),
    [
        (torch.zeros(5), 0.5, InvalidArgument, r"shape \(5,\).*\(N, 5\).*x\[None\]"),
        (torch.zeros(3, 4), 0.5, InvalidArgument, r"shape \(3, 4\).*\(N, 5\)"),
        (torch.zeros(0, 5), 0.5, InvalidArgument, "at least one row"),
        (torch.zeros(3, 5), None, InvalidArgument, r"no time.*\(3, 1\)"),
        (torch.zeros(3, 5), torch.zeros(4, 1), InvalidArgument, r"t has shape \(4, 1\)"),
        (torch.full((3, 5), torch.nan), 0.5, InvalidArgument, "not finite in 3 of 3"),
        (torch.zeros(3, 5), float("inf"), InvalidArgument, "t is not finite"),
        (torch.zeros(3, 5, dtype=torch.complex64), 0.5, InvalidType, "complex64"),
        ("five", 0.5, InvalidType, "x is a str"),
        (np.array([["a"] * 5]), 0.5, InvalidType, "x is a ndarray"),
    ],
)
def test_wrong_points_are_refused(saved, x, t, kind, text):
    model = load_pretrained(saved[0])
    with pytest.raises(kind, match=text):
        model.predict(x, t)


def test_warns_outside_the_training_range_and_only_there(saved):
    model = load_pretrained(saved[0])
    x, t = inside()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(x, t)
        model.predict(x, 1.005)  # the ends of a range were sampled: a hair outside is not news
    with pytest.warns(RangeWarning, match=r"\|x\| covers"):
        model.predict(0.01 * x, t)
    with pytest.warns(RangeWarning, match=r"t covers \[3, 3\]; training covered"):
        model.predict(x, 3.0)


def test_model_json_and_card_tell_the_story(saved):
    spec = json.loads((saved[0] / "model.json").read_text())
    assert spec["format"] == 1 and spec["metrics"] == {"test/rel_l2": 0.25, "test/bad": None}
    assert spec["inputs"]["x"]["shape"] == ["N", 5] and spec["inputs"]["x"]["unit"] == "1"
    assert set(spec["inputs"]["x"]["ranges"]) == {"norm", "coordinate"}
    card = (saved[0] / "README.md").read_text()
    for text in (
        "# tiny",
        "A model for tests.",
        "TinyProblem",
        "test/rel_l2 | 0.25",
        'load_pretrained("path/to/this/folder")',
        "norm of x in [",
    ):
        assert text in card


def test_saving_again_replaces_the_folder_as_a_whole(make, saved):
    folder, _ = saved
    (folder / "stale").write_text("x")
    solution, keywords = make(kind="float64")
    save_pretrained(folder, solution, **keywords)
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "model.json",
        "weights.safetensors",
    ]
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    x, t = inside()
    assert load_pretrained(folder).predict(x, t)["value"].dtype == torch.float64


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_colleagues_may_read_a_model(make, tmp_path, mask):
    before = os.umask(mask)
    try:
        solution, keywords = make()
        folder = save_pretrained(tmp_path / "m", solution, **keywords)
        update_metrics(folder, {"test/rel_l2": 0.5})
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~mask
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask, file.name


def test_a_description_of_another_model_is_refused_at_save_time(make, tmp_path):
    solution, keywords = make()
    keywords["network"]["arguments"]["width"] = 8
    with pytest.raises(PretrainedError, match=r"do not fit.*shape \(7, 5\), not \(8, 5\)"):
        save_pretrained(tmp_path / "m", solution, **keywords)
    assert not (tmp_path / "m").exists()


def test_arguments_that_are_not_plain_data_are_refused(make, tmp_path):
    solution, keywords = make()
    keywords["data"] = {"law": torch.randn}
    with pytest.raises(InvalidArgument, match="plain data"):
        save_pretrained(tmp_path / "m", solution, **keywords)


def test_a_run_folder_is_enough(make, tmp_path):
    solution, keywords = make()
    save_pretrained(tmp_path / "run" / "pretrained", solution, **keywords)
    x, t = inside()
    assert load_pretrained(tmp_path / "run").predict(x, t)["value"].shape == (9,)


def test_unknown_names_and_empty_folders(tmp_path):
    with pytest.raises(PretrainedError, match="no pretrained model 'nothing_here'"):
        load_pretrained("nothing_here")
    with pytest.raises(PretrainedError, match="holds no model.json"):
        load_pretrained(tmp_path)
    assert list_pretrained() == sorted(list_pretrained())


def test_loading_leaves_the_random_stream_alone(saved):
    torch.manual_seed(5)
    load_pretrained(saved[0])
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
