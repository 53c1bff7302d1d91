"""What is read from clouds and arrays of several axes: numbers and roles, written a second time."""

import numpy as np
import pytest
import torch

from sciml.data.cloud_files import CloudFiles
from sciml.data.layouts.field_layout import recognise
from sciml.data.readers import open_source


def test_scales_of_clouds_are_of_all_their_training_points(tmp_path):
    draw = torch.Generator().manual_seed(0)
    held = []
    for n in (40, 55, 48, 60):
        p = 3 * torch.rand(n, 3, generator=draw) - 1
        p[:, 2] = 0.5  # a flat body
        normal = torch.randn(n, 2, generator=draw) * torch.tensor([2.0, 0.0]) + 7
        held.append({"vertices": p, "normal": normal, "press": p[:, :2] @ torch.ones(2)})
    torch.save(held, tmp_path / "a.pt")
    data = CloudFiles(path=str(tmp_path / "a.pt"), inputs=("normal",), samples=32, batch_size=2)
    known = [held[i] for i in data.chosen["train"]]
    sizes = data.sizes["clouds"]
    place, normal, press = (
        np.concatenate([c[n].numpy() for c in known]) for n in ("vertices", "normal", "press")
    )
    assert (sizes["dim"], sizes["channels"], sizes["out_channels"]) == (3, 2, 1)
    assert sizes["low"] == pytest.approx(place.min(0), rel=1e-6)
    assert sizes["high"][:2] == pytest.approx(place.max(0)[:2], rel=1e-6)
    assert sizes["high"][2] >= 0.5  # no division by the width of a flat body
    assert sizes["mean"] == pytest.approx(normal.mean(0), rel=1e-5)
    assert sizes["std"] == pytest.approx([normal[:, 0].std(ddof=1), 1.0], rel=1e-5)
    assert sizes["out_mean"] == pytest.approx([press.mean()], abs=1e-6)
    assert sizes["out_std"] == pytest.approx([press.std(ddof=1)], rel=1e-5)


def test_a_field_that_is_the_same_everywhere_keeps_its_scale(tmp_path):
    held = [{"vertices": torch.rand(40, 2), "press": torch.full((40,), 2.5)} for _ in range(4)]
    torch.save(held, tmp_path / "a.pt")
    sizes = CloudFiles(path=str(tmp_path / "a.pt"), samples=16).sizes["clouds"]
    assert (sizes["out_mean"], sizes["out_std"]) == ([2.5], [1.0])


def test_only_what_is_input_and_output_moves(tmp_path):
    """A start that leads to a trajectory is an input; a trajectory in both roles moves."""
    u = np.random.default_rng(0).random((12, 5, 16)).astype("f4")
    axes = {"u": ["n", "t", "x"], "a": ["n", "x"]}
    np.savez(tmp_path / "a.npz", a=u[:, 0], u=u)
    source = open_source(str(tmp_path / "a.npz"))
    start = recognise(source, ["a"], ["u"], axes)
    assert start.moving == ()
    assert [a.name for a in start.inputs] == ["a"]
    assert start.space == (16,)
    rolled = recognise(source, ["u", "a"], ["u"], axes)
    assert rolled.moving == ("u",)
    assert rolled.outputs[0].axes[0] == "t"
