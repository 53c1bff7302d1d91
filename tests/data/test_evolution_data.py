"""Data of problems in space and time: parts, levels, caches, files."""

import pytest
import torch

from sciml.data.export_sets import export, verify
from sciml.data.trajectories import solved
from sciml.data.trajectories.evolution_data import EvolutionData
from sciml.data.trajectories.write_pdebench import write_pdebench
from sciml.errors import InvalidArgument
from sciml.physics.evolution import Burgers, DarcyFlow, DiffusionSorption, Heat

COUNTS = {"train": 12, "val": 2, "test": 18, "references": 3}


def heat(**options):
    return EvolutionData(
        problem=Heat(32, time_count=6), **{**COUNTS, "batch_size": 3, "share": 0.6, **options}
    )


def test_parts_are_the_problems_own_solutions():
    d = heat()
    for part, count in (("val", 2), ("test", 18)):
        wanted = d.problem.solve(d.inputs[part]).value
        assert torch.equal(d.targets[part], wanted) and len(wanted) == count
    assert torch.equal(d.references, d.problem.solve(d.inputs["train"][:3]).value)
    assert d.levels == 4 and d.beyond and d.solver_seconds > 0 and d.file_distance is None
    assert not torch.equal(d.inputs["val"][0], d.inputs["test"][0])


def test_training_levels_and_those_beyond():
    d = heat()
    chunks = [d.test_chunk(i) for i in range(d.test_chunks)]
    assert [(c.part, len(c.target), c.target.shape[1]) for c in chunks] == [
        ("test", 16, 4), ("test", 2, 4), ("test_beyond", 16, 6), ("test_beyond", 2, 6),
    ]  # fmt: skip
    assert torch.equal(chunks[2].target[:, :4], chunks[0].target)
    assert not heat(share=1.0).beyond
    darcy = EvolutionData(problem=DarcyFlow(8), train=2, val=1, test=1, references=1)
    assert darcy.levels is None and darcy.test_chunk(0).target.shape == (1, 8, 8)


def test_an_epoch_shows_every_input_once_to_all_ranks_together():
    d = heat()
    seen = torch.cat([d.places(step, rank, 2) for step in (0, 1) for rank in (0, 1)])
    assert seen.sort().values.tolist() == list(range(12))
    later = torch.cat([d.places(step, rank, 2) for step in (2, 3) for rank in (0, 1)])
    assert later.sort().values.tolist() == list(range(12)) and not torch.equal(seen, later)
    assert not torch.equal(heat(seed=1).places(0, 0, 1), d.places(0, 0, 1))
    assert torch.equal(heat(seed=1).inputs["train"], d.inputs["train"])


def test_solutions_are_made_once_and_kept_in_files(tmp_path, monkeypatch):
    monkeypatch.setattr(solved, "_MADE", {})
    calls = []
    monkeypatch.setattr(
        Heat, "solve", lambda self, a, solve=Heat.solve: calls.append(len(a)) or solve(self, a)
    )
    first = heat(cache=str(tmp_path))
    assert calls == [2, 18, 3] and len(list(tmp_path.iterdir())) == 3
    heat(cache=str(tmp_path), seed=5, batch_size=2)
    solved._MADE.clear()  # as in a new process
    again = heat(cache=str(tmp_path))
    assert len(calls) == 3 and again.solver_seconds == first.solver_seconds
    assert torch.equal(again.targets["test"], first.targets["test"])
    assert torch.equal(again.references, first.references)
    solved._MADE.clear()
    EvolutionData(problem=Heat(32, time_count=6, diffusivity=0.02), **COUNTS, cache=str(tmp_path))
    assert len(calls) == 6


# --- files ----------------------------------------------------------------------------------
def sorption(**options):
    return DiffusionSorption(16, time_count=5, rtol=1e-5, atol=1e-7, **options)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Twenty samples as PDEBench stores them, two to test on."""
    problem = sorption()
    inputs = problem.sample(20, torch.Generator().manual_seed(0))
    values = problem.solve(inputs).value
    path = tmp_path_factory.mktemp("pdebench") / "sorp.h5"
    write_pdebench(path, inputs, values, problem.times, problem.grids, layout="grouped")
    return str(path), inputs, values


def test_parts_of_a_file_are_those_of_pdebench(file):
    path, inputs, values = file
    d = EvolutionData(problem=sorption(), train=10, val=3, test=2, references=4, file=path)
    close = {"rtol": 1e-6, "atol": 1e-7}
    torch.testing.assert_close(d.inputs["train"], inputs[:10], **close)
    torch.testing.assert_close(d.inputs["val"], inputs[15:18], **close)
    torch.testing.assert_close(d.targets["val"], values[15:18], **close)
    torch.testing.assert_close(d.targets["test"], values[18:], **close)
    torch.testing.assert_close(d.references, values[:4], **close)
    assert d.targets["test"].dtype == torch.float64 and d.file_distance < 1e-4
    assert set(d.targets) == {"val", "test"}


def test_files_of_other_constants_or_sizes_are_refused(file):
    path = file[0]
    few = {"train": 10, "val": 3, "test": 2, "references": 0, "file": path}
    with pytest.raises(InvalidArgument, match="away from the one of DiffusionSorption"):
        EvolutionData(problem=sorption(dispersion=5e-3), **few)
    with pytest.raises(InvalidArgument, match="at most 18 for training and validation, and 2"):
        EvolutionData(problem=sorption(), **{**few, "test": 3})
    with pytest.raises(InvalidArgument, match="times from 0 to 500"):
        EvolutionData(problem=sorption(horizon=400.0), **few)
    with pytest.raises(InvalidArgument, match="16 x coordinates"):
        EvolutionData(problem=DiffusionSorption(12, time_count=5), **few)
    with pytest.raises(InvalidArgument, match="2 directions"):
        EvolutionData(problem=DarcyFlow(16), **few)


def test_cells_of_a_finer_file_are_averaged_and_points_taken(tmp_path, file):
    path, inputs, values = file
    coarse = DiffusionSorption(8, time_count=3, wall="face", rtol=1e-5)
    # the ghost cells of 8 and 16 cells differ by design: the distance is not small
    d = EvolutionData(problem=coarse, train=4, val=1, test=1, references=2, file=path)
    wanted = values[:2, ::2].unflatten(-1, (8, 2)).mean(-1)
    torch.testing.assert_close(d.references, wanted, rtol=1e-6, atol=1e-7)
    assert 1e-3 < d.file_distance < 0.1
    fine = Burgers(64, time_count=5, horizon=0.2, viscosity=0.03)
    given = fine.sample(10, torch.Generator().manual_seed(0))
    # PDEBench stores cell centres: half a cell to the right of our points
    write_pdebench(
        tmp_path / "burgers.h5", given, fine.solve(given).value, fine.times,
        [fine.grids[0] + 1 / 128], layout="tensor",
    )  # fmt: skip
    d = EvolutionData(
        problem=Burgers(32, time_count=3, horizon=0.2, viscosity=0.03),
        train=4, val=1, test=1, references=1, file=str(tmp_path / "burgers.h5"),
    )  # fmt: skip
    torch.testing.assert_close(d.inputs["train"], given[1:5, :, ::2], rtol=1e-6, atol=1e-7)
    assert d.file_distance < 1e-2


def test_sets_are_exported(tmp_path):
    import h5py

    d = heat()
    digest = export(d, tmp_path / "heat.h5")
    assert verify(tmp_path / "heat.h5") == digest
    with h5py.File(tmp_path / "heat.h5") as out:
        assert {name: out[name].attrs["count"] for name in out} == {
            "train": 3, "val": 2, "test": 18,
        }  # fmt: skip
        assert (torch.from_numpy(out["test/target"][()]) == d.targets["test"]).all()
        assert (torch.from_numpy(out["train/inputs/field"][()]) == d.inputs["train"][:3]).all()
    with pytest.raises(InvalidArgument, match="train=5"):
        export(d, tmp_path / "heat.h5", train=5)


@pytest.mark.parametrize(
    "bad",
    [{"train": 0}, {"val": 0}, {"batch_size": 0}, {"references": 13}, {"share": 0.0}],
    ids=lambda bad: next(iter(bad)),
)
def test_settings_that_cannot_be_are_refused(bad):
    with pytest.raises(InvalidArgument, match=f"data.{next(iter(bad))}="):
        heat(**bad)
