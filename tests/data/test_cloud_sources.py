"""Samples of points in every layout that people have: equal tensors, test files, refusals."""

import numpy as np
import pytest
import torch

from sciml.cli.verbs import predict
from sciml.data.cloud_files import CloudFiles
from sciml.data.files.cloud_samples import cloud_source, samples_of
from sciml.errors import InvalidArgument
from sciml.pretrained import load_pretrained
from sciml.testing import runs

SMALL = ["network.nodes=4", "network.width=4", "network.modes=2", "network.layers=1",
         "network.radius=0.5", "data.samples=32"]  # fmt: skip


def clouds(sizes=(30, 33, 36, 39, 42), seed=0):
    """Return samples: points of a plane, a feature, a number of the whole sample and a field."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for n in sizes:
        x = torch.rand(n, 2, generator=draw) * torch.tensor([2.0, 1.0])
        speed = torch.rand((), generator=draw)
        f = torch.sin(3 * x[:, 0])
        made.append({"pos": x, "f": f, "speed": speed, "u": (speed * f + x[:, 1])[:, None]})
    return made


def same(found, wanted):
    """Compare samples as read with those written, the number of a sample at all of its points."""
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        n = len(b["pos"])
        assert torch.equal(a["pos"], b["pos"]) and torch.equal(a["f"][:, 0], b["f"])
        assert torch.equal(a["speed"], b["speed"].expand(n, 1)) and torch.equal(a["u"], b["u"])


def read(path):
    return samples_of(cloud_source(path), "pos", ("f", "speed"), "u")


def test_a_list_and_a_folder_are_the_same_samples(tmp_path):
    made = clouds(sizes=(30, 33, 30, 31, 9, 10, 8, 11, 12, 30, 33))
    torch.save(made, tmp_path / "list.pt")
    for kind in ("npz", "pt"):
        folder = tmp_path / kind
        folder.mkdir()
        for i, sample in enumerate(made):  # the order is that of the numbers: 9 before 10
            name = folder / f"case_{i}.{kind}"
            if kind == "pt":
                torch.save(sample, name)
            else:
                np.savez(name, **{k: v.numpy() for k, v in sample.items()})
        same(read(folder), made)
    same(read(tmp_path / "list.pt"), made)


def test_arrays_of_clouds_of_one_size_are_cut(tmp_path):
    made = clouds(sizes=(20,) * 6)
    whole = {k: np.stack([s[k].numpy() for s in made]) for k in made[0]}
    np.savez(tmp_path / "dense.npz", **whole)
    same(read(tmp_path / "dense.npz"), made)


def test_one_mesh_serves_all_samples(tmp_path):
    made = clouds(sizes=(20,) * 6)
    for sample in made:
        sample["pos"] = made[0]["pos"]
    whole = {k: np.stack([s[k].numpy() for s in made]) for k in made[0]}
    np.savez(tmp_path / "mesh.npz", **(whole | {"pos": made[0]["pos"].numpy()}))
    same(read(tmp_path / "mesh.npz"), made)


def test_one_cloud_alone_is_one_sample(tmp_path):
    (made,) = clouds(sizes=(25,))
    np.savez(tmp_path / "one.npz", **{k: v.numpy() for k, v in made.items()})
    same(read(tmp_path / "one.npz"), [made])


def test_fields_on_grids_are_no_clouds(tmp_path):
    np.savez(tmp_path / "grid.npz", x=np.zeros((5, 16, 16)), y=np.zeros((5, 16, 16)))
    with pytest.raises(InvalidArgument, match=r"no list of samples.*model=fno"):
        cloud_source(tmp_path / "grid.npz")


def test_test_samples_come_from_a_file_of_their_own(tmp_path):
    torch.save(clouds(), tmp_path / "a.pt")
    torch.save(clouds(sizes=(12, 14), seed=1), tmp_path / "b.pt")
    words = {"path": str(tmp_path / "a.pt"), "inputs": ["f", "speed"], "outputs": "u"}
    data = CloudFiles(**words, test_path=str(tmp_path / "b.pt"), val=1)
    assert data.test_chunks == 2 and len(data.chosen["train"]) == 4
    wanted = clouds(sizes=(12, 14), seed=1)[1]
    assert torch.equal(data.test_chunk(1).target[0], wanted["u"])
    seen = torch.cat([data.clouds[i]["u"] for i in data.chosen["train"]])
    assert data.sizes["clouds"]["out_mean"] == pytest.approx([float(seen.mean())], rel=1e-6)
    torch.save([{**s, "f": s["f"][:, None].repeat(1, 2)} for s in clouds()], tmp_path / "c.pt")
    with pytest.raises(InvalidArgument, match="2 numbers per point in f"):
        CloudFiles(**words, test_path=str(tmp_path / "c.pt"))


def test_what_is_not_used_is_said_and_nothing_else(tmp_path):
    torch.save(clouds(), tmp_path / "a.pt")
    data = CloudFiles(path=str(tmp_path / "a.pt"))
    assert data.where == "pos" and data.wanted == "u"
    (said,) = data.doubts
    assert said.startswith("f stands at the points too") and "data.inputs=[f]" in said
    assert CloudFiles(path=str(tmp_path / "a.pt"), inputs=["f"]).doubts == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop("f"), "sample 3 has no f"),
        (lambda s: s.update(f=s["f"][1:]), "sample 3 has f"),
        (lambda s: s.update(u=s["u"].repeat(1, 2)), "2 numbers per point in u"),
        (lambda s: s["f"].__setitem__(2, float("nan")), "f"),
    ],
)
def test_damaged_samples_are_told_with_their_number(tmp_path, spoil, words):
    made = clouds()
    spoil(made[3])
    torch.save(made, tmp_path / "a.pt")
    with pytest.raises(InvalidArgument, match=words):
        CloudFiles(path=str(tmp_path / "a.pt"), inputs=["f"])


def test_the_nearest_point_is_that_of_a_search_by_hand(tmp_path):
    torch.save(clouds(), tmp_path / "a.pt")
    data = CloudFiles(path=str(tmp_path / "a.pt"), inputs=["f"])
    batch = data.test_chunk(0)
    known = [data.clouds[i] for i in data.chosen["train"]]
    x = np.concatenate([torch.cat([c["pos"], c["f"]], 1).double().numpy() for c in known])
    y = np.concatenate([c["u"].numpy() for c in known])
    new = torch.cat([batch.inputs["pos"][0], batch.inputs["f"][0]], 1).double().numpy()
    gap = ((new[:, None] - x[None]) / x.std(0, ddof=1)) ** 2
    found = data.rivals()["nearest_point"](batch.inputs)
    np.testing.assert_allclose(found[0], y[gap.sum(-1).argmin(1)], rtol=1e-7)


@pytest.mark.filterwarnings("ignore::sciml.errors.RangeWarning")  # speeds beyond those of training
def test_a_run_draws_compares_and_predicts_lists_folders_and_single_clouds(tmp_path, capsys):
    torch.save(clouds(), tmp_path / "a.pt")
    torch.save(clouds(sizes=(12, 14, 12), seed=1), tmp_path / "b.pt")
    words = ["model=gino", f"data.path={tmp_path / 'a.pt'}", "data.inputs=[f,speed]", *SMALL,
             f"data.test_path={tmp_path / 'b.pt'}"]  # fmt: skip
    trainer = {"max_steps": 3, "limit_val_batches": 1}
    run = runs.fit(runs.prepare(words, tmp_path, callbacks=["export"], trainer=trainer))
    run.trainer.test(run.module, run.data, verbose=False)
    report = run.module.test_report
    assert len(report["fields"]) == 2 and report["fields"][0]["points"].shape == (12, 2)
    rivals = report["baselines"]
    assert set(rivals) == {"constant", "nearest_point"}
    error = report["metrics"]["test/rel_l2"]
    assert report["metrics"]["test/skill"] == pytest.approx(error / min(rivals.values()), rel=1e-9)
    made = clouds(sizes=(12, 14, 12), seed=1)
    operator = load_pretrained(tmp_path)
    given = [{"pos": s["pos"], "f": s["f"][:, None], "speed": s["speed"].expand(len(s["f"]), 1)}
             for s in made]  # fmt: skip
    wanted = [operator.predict(**{k: v[None] for k, v in g.items()})["u"][0] for g in given]
    told = [said for g in given for said in operator.findings({k: v[None] for k, v in g.items()})]
    assert any("speed covers" in said for said in told)
    output = tmp_path / "out.npz"
    assert predict.main([str(tmp_path), str(tmp_path / "b.pt"), "-o", str(output)]) == 0
    held = np.load(output)
    assert held.files == ["u_0", "u_1", "u_2"] and output.with_suffix(".png").exists()
    for i, value in enumerate(wanted):
        np.testing.assert_allclose(held[f"u_{i}"], value, rtol=1e-6)
    each = [float((w - s["u"]).norm() / s["u"].norm()) for w, s in zip(wanted, made, strict=True)]
    assert f"relative L2 error {np.mean(each):.4g}" in capsys.readouterr().out
    assert np.mean(each) == pytest.approx(error, rel=1e-5)
    alone = {k: v.numpy() for k, v in made[1].items() if k != "u"}  # inputs alone, one cloud
    np.savez(tmp_path / "one.npz", **alone)
    assert predict.main([str(tmp_path), str(tmp_path / "one.npz"), "-o", str(output)]) == 0
    np.testing.assert_allclose(np.load(output)["u"][0], wanted[1], rtol=1e-6)
    np.savez(tmp_path / "without.npz", pos=alone["pos"], g=alone["f"])
    assert predict.main([str(tmp_path), str(tmp_path / "without.npz"), "-o", str(output)]) == 2
    assert "f is no array" in capsys.readouterr().err
