"""`solve(run_dir=...)`: the folder of a run on the command line, and nothing is overwritten."""

import json

import pytest

from sciml.errors import InvalidArgument
from sciml.physics.suite import Kovasznay
from sciml.pinn import solve

SMALL = {"steps": 4, "width": 8, "points": 64}


@pytest.mark.parametrize("progress", [False, True])
def test_a_run_folder_has_pictures_and_a_record(tmp_path, progress):
    folder = tmp_path / "run"
    solution = solve(Kovasznay(), run_dir=folder, progress=progress, **SMALL)
    record = json.loads((folder / "metrics.json").read_text())
    assert (record["status"], record["steps"]) == ("completed", 4)
    assert (folder / "plots" / "fields.png").stat().st_size > 1000
    assert (folder / "checkpoints" / "last.ckpt").exists()
    plain = solve(Kovasznay(), **SMALL)  # what is written changes nothing
    assert float(solution(x=0.2, y=0.1)["u"]) == float(plain(x=0.2, y=0.1)["u"])
    before = (folder / "metrics.json").read_bytes()
    with pytest.raises(InvalidArgument, match="which holds files.*another name"):
        solve(Kovasznay(), run_dir=folder, **SMALL)
    assert (folder / "metrics.json").read_bytes() == before
    with pytest.raises(InvalidArgument, match="which is a file"):
        solve(Kovasznay(), run_dir=folder / "metrics.json", **SMALL)


def test_phases_have_a_folder_each(tmp_path):
    solve(Kovasznay(), run_dir=str(tmp_path), optimizer=("adam", "lm"), **SMALL)
    for phase in ("adam", "lm"):
        assert (tmp_path / phase / "plots" / "fields.png").exists()
