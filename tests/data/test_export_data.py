"""Data sets as HDF5 files: what is in them, that they repeat, that half a file never appears."""

import json
import sys

import pytest
import torch

from sciml.cli.verbs.export_data import main
from sciml.data.export_sets import export, parts, verify
from sciml.data.graph.graph_sets import GraphFolds
from sciml.data.graph.graphs import GraphData
from sciml.data.steady_fields import FieldData
from sciml.data.walk_labels.walk_clouds import WalkClouds
from sciml.data.walk_labels.walk_data import WalkData
from sciml.errors import InvalidArgument, MissingPackage
from sciml.physics.elliptic.elliptic_families import (
    BoxPoisson,
    StarDiffusion,
    StarPoisson,
    StarScreened,
)
from sciml.physics.graphs.motifs import MotifSet
from sciml.physics.graphs.porous import PorousNetwork
from sciml.physics.steady.steady_semilinear import Semilinear

h5py = pytest.importorskip("h5py")

SMALL = {"nodes": 12, "val_count": 2, "test_count": 2, "table": 16}
SETS = {
    "star": lambda seed=0: WalkData(StarPoisson(wide=0.5), seed=seed, **SMALL),
    "screened": lambda seed=0: WalkData(StarScreened(), seed=seed, **SMALL),
    "diffusion": lambda seed=0: WalkData(StarDiffusion(), seed=seed, **SMALL),
    "boxes": lambda seed=0: WalkData(BoxPoisson(), seed=seed, **{**SMALL, "nodes": 8}),
    "clouds": lambda seed=0: WalkClouds(
        StarPoisson(), interior=20, boundary=10, val_count=2, test_count=2, seed=seed
    ),
    "graphs": lambda seed=0: GraphData(
        task=PorousNetwork(), train_sizes=[20, 30], graphs=2, val_graphs=2, test_graphs=2,
        test_sizes=[40], seed=seed
    ),
    "motifs": lambda seed=0: GraphFolds(source=MotifSet(count=40), seed=seed),
    "fields": lambda seed=0: FieldData(
        problem=Semilinear(n=20), train=4, val=2, test=3, hard=2, batch_size=2, seed=seed
    ),
}  # fmt: skip
FIXED = ("motifs", "fields")


def written(name, path, seed=0):
    return export(SETS[name](seed), path, train=None if name in FIXED else 5)


@pytest.mark.parametrize("name", SETS)
def test_arrays_come_back_and_the_checksum_repeats(name, tmp_path):
    digest = written(name, tmp_path / "a.h5")
    assert verify(tmp_path / "a.h5") == digest
    assert written(name, tmp_path / "b.h5") == digest
    if name not in FIXED:  # the answers of fixed sets do not depend on the run's seed
        assert written(name, tmp_path / "c.h5", seed=1) != digest
    with h5py.File(tmp_path / "a.h5") as file:
        names = [part for part, _ in parts(SETS[name](), None)]
        assert sorted(file) == sorted(names) and {"train", "val", "test"} <= set(names)
        assert file.attrs["seed"] == 0 and file.attrs["format"] == 1
        assert "sciml" in json.loads(file.attrs["versions"])
        assert file["train"].attrs["count"] >= (4 if name in FIXED else 5)
        for part in names:
            target = torch.from_numpy(file[part]["target"][()])
            assert len(target) and target.isfinite().all()
            first = file[part]["inputs"]
            for key in first:
                assert torch.from_numpy(first[key][()]).isfinite().all(), key


def test_elliptic_files_hold_exact_solutions(tmp_path):
    data = SETS["star"]()
    written("star", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        chunk = data.test_chunk(1)
        part = file[chunk.part]
        assert torch.equal(torch.from_numpy(part["target"][()]), chunk.target)
        assert torch.equal(torch.from_numpy(part["inputs/sdf"][()]), chunk.inputs["sdf"])
        assert torch.equal(torch.from_numpy(part["extra/mask"][()]), chunk.extra["mask"])
        assert "Laplacian u = -f" in file.attrs["conventions"]
        # training problems solve the same equation: their own walks agree with them
        (train,) = data.solved("train", 5)
        assert torch.equal(torch.from_numpy(file["train/target"][()]), train.target)
        seen = {name: set() for name in ("train", "val", "test")}
        for name in seen:
            seen[name] = {row.tobytes() for row in file[name]["inputs/sdf"][()]}
        assert not seen["train"] & seen["val"] and not seen["val"] & seen["test"]


def test_graphs_can_be_taken_apart_again(tmp_path):
    written("graphs", tmp_path / "a.h5")
    data = SETS["graphs"]()
    with h5py.File(tmp_path / "a.h5") as file:
        part = file["train"]
        edges, graph = part["inputs/edge_index"][()], part["inputs/batch"][()]
        assert (graph[edges[0]] == graph[edges[1]]).all()
        assert part.attrs["count"] == graph.max() + 1 == 6  # whole batches of two
        first = data.batch(0)
        n = len(first.inputs["x"])
        assert torch.equal(torch.from_numpy(part["inputs/x"][:n]), first.inputs["x"])
        second = data.batch(1).inputs["edge_index"] + n
        m = first.inputs["edge_index"].shape[1]
        assert torch.equal(torch.from_numpy(edges[:, m : m + second.shape[1]]), second)


def test_interrupted_writing_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    digest = written("graphs", path)
    data = SETS["graphs"]()
    whole = data.batch

    def stop(step, *rest):
        if step == 2:
            raise KeyboardInterrupt
        return whole(step, *rest)

    monkeypatch.setattr(data, "batch", stop)
    for target in (path, tmp_path / "new.h5"):
        with pytest.raises(KeyboardInterrupt):
            export(data, target, train=6)
    # the validation part fails after the training part was written
    monkeypatch.undo()
    data = SETS["graphs"]()
    monkeypatch.setattr(data, "val_chunk", lambda k: stop(2))
    with pytest.raises(KeyboardInterrupt):
        export(data, tmp_path / "new.h5", train=6)
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]
    assert verify(path) == digest


def test_damage_is_found(tmp_path):
    written("fields", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["val/target"][0, 0, 0, 0] += 1e-12
    with pytest.raises(InvalidArgument, match="checksum"):
        verify(tmp_path / "a.h5")
    written("fields", tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file.attrs["seed"] = 7
    with pytest.raises(InvalidArgument, match="checksum"):
        verify(tmp_path / "b.h5")
    content = (tmp_path / "b.h5").read_bytes()
    (tmp_path / "c.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidArgument, match="cannot be read"):
        verify(tmp_path / "c.h5")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = 1.0
    with pytest.raises(InvalidArgument, match="format 1"):
        verify(tmp_path / "d.h5")


def test_mistakes_are_named(tmp_path, monkeypatch):
    data = SETS["fields"]()
    with pytest.raises(InvalidArgument, match=r"\.h5"):
        export(data, tmp_path / "a.npz")
    with pytest.raises(InvalidArgument, match="train=0"):
        export(SETS["star"](), tmp_path / "a.h5", train=0)
    with pytest.raises(InvalidArgument, match="fixed size"):
        export(data, tmp_path / "a.h5", train=5)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingPackage, match=r"sciml-torch\[hdf5\]"):
        export(data, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_the_verb(tmp_path, capsys):
    out = tmp_path / "s.h5"
    small = ["data.train=4", "data.val=2", "data.test=2", "data.hard=2", "data.problem.n=20"]
    assert main(["data=semilinear2d", f"out={out}", *small]) == 0
    digest = capsys.readouterr().out.split()[-1]
    assert main([f"check={out}"]) == 0 and digest in capsys.readouterr().out
    with h5py.File(out) as file:
        recipe = json.loads(file.attrs["recipe"])
        assert recipe["problem"]["n"] == 20 and file["test_hard/target"].shape == (2, 1, 20, 20)
    for words, text in {
        "data=semilinear out=a.h5": "Did you mean 'semilinear2d'",
        "data=semilinear2d": "no out",
        "data=semilinear2d out=a.npz": ".h5 or .hdf5",
        "data=semilinear2d out=a.h5 data.trian=4": "Did you mean data.train",
        "data=semilinear2d out=a.h5 train=two": "whole number",
        "data=semilinear2d out=a.h5 tarin=2": "Did you mean 'train'",
        "data=collocation out=a.h5": "points only",
        "nonsense": "key=value",
        f"check={tmp_path / 'none.h5'}": "cannot be read",
    }.items():
        assert main(words.split()) == 2
        assert text in capsys.readouterr().err
    assert main(["--help"]) == 0 and "star_poisson" in capsys.readouterr().out
