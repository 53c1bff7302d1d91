"""Point clouds from files, and the networks that read them."""

import pytest
import torch

from sciml.data.cloud_files import CloudFiles
from sciml.errors import InvalidArgument
from sciml.pretrained import load_pretrained
from sciml.testing import runs


def write(path, sizes=(40, 55, 48, 60), bad=False):
    draw = torch.Generator().manual_seed(0)
    held = []
    for n in sizes:
        p = torch.rand(n, 3, generator=draw)
        held.append({"vertices": p, "press": p[None, :, 0] + p[None, :, 1] ** 2})
    if bad:
        held[2]["press"] = held[2]["press"][:, 1:]
    torch.save(held, path)
    return path


def test_samples_of_different_sizes_share_a_batch(tmp_path):
    data = CloudFiles(path=str(write(tmp_path / "a.pt")), samples=32, batch_size=2, outputs="press")
    batch = data.batch(0)
    assert batch.inputs["vertices"].shape == (2, 32, 3) and batch.target.shape == (2, 32, 1)
    p = batch.inputs["vertices"]
    torch.testing.assert_close(batch.target[..., 0], p[..., 0] + p[..., 1] ** 2, rtol=0, atol=0)
    whole = data.test_chunk(0).target.shape[1]
    assert whole in (40, 55, 48, 60)


def test_clouds_of_different_sizes_are_scored_point_by_point(tmp_path):
    path = write(tmp_path / "a.pt", sizes=(30, 33, 36, 39, 42))
    words = ["model=gino", f"data.path={path}", "data.test=3", "network.nodes=4", "network.width=4",
             "network.modes=2", "network.layers=1", "network.radius=0.5"]  # fmt: skip
    run = runs.prepare(words, tmp_path, trainer={"max_steps": 2, "limit_val_batches": 1})
    runs.fit(run)
    run.trainer.test(run.module, run.data, verbose=False)
    report = run.module.test_report
    chunks = [run.data.test_chunk(k) for k in range(3)]
    with torch.no_grad():
        found = [run.module.network.eval()(**c.inputs) for c in chunks]
    errors = [(f - c.target).norm() / c.target.norm() for f, c in zip(found, chunks, strict=True)]
    assert report["metrics"]["test/rel_l2"] == pytest.approx(float(sum(errors) / 3), rel=1e-5)
    value = torch.cat([c.target.flatten() for c in chunks]).double()
    constant = float((value - value.mean()).norm() / value.norm())
    assert report["baselines"]["constant"] == pytest.approx(constant, rel=1e-6)


def test_values_that_do_not_belong_to_points_are_told(tmp_path):
    path = write(tmp_path / "a.pt", bad=True)
    with pytest.raises(InvalidArgument, match=r"sample 2 has press \(1, 47\) for 48 points"):
        CloudFiles(path=str(path))


@pytest.mark.parametrize("model", ["gino", "fnogno"])
def test_clouds_are_learned_and_predicted_from_a_folder(tmp_path, model):
    words = [f"model={model}", f"data.path={write(tmp_path / 'a.pt')}", "network.nodes=4",
             "network.width=4", "network.modes=2", "network.layers=1", "network.radius=0.5",
             "data.samples=32", "optimizer.lr=1e-2", "schedule=constant"]  # fmt: skip
    seen = runs.Losses()
    # FNOGNO stands still for the first fifty steps
    trainer = {"max_steps": 120, "limit_val_batches": 0}
    run = runs.fit(runs.prepare(words, tmp_path, callbacks=["export"], trainer=trainer), seen)
    assert sum(seen.values[-8:]) < 0.2 * sum(seen.values[:8])  # 0.05 for FNOGNO
    inputs = run.data.test_chunk(0).inputs
    with torch.no_grad():
        wanted = run.module.network.eval()(**inputs)
    found = load_pretrained(tmp_path).predict(**inputs)["press"]
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
