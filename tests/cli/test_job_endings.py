"""How a job ends when a step of its training fails: by itself, asked to stop, or left alone.

`sciml.cli.runs.job` tells these apart: an error of the job's own code is shown as it is, a
connection that breaks because all ranks were asked to stop is an interrupted job, and one that
breaks because a rank is gone says which one.
"""

import json

import pytest
import toy

from sciml.cli.records import interrupt
from sciml.cli.records.rank_watch import Ranks


def status(run):
    return json.loads((run.work / "it" / "metrics.json").read_text())["status"]


@pytest.mark.usefixtures("files_read_once")
@pytest.mark.parametrize("how", ["by itself", "asked", "alone"])
def test_a_job_whose_step_fails(run, monkeypatch, how):
    made, started = [], Ranks.started
    monkeypatch.setattr(Ranks, "started", lambda *given: made.append(started(*given)) or made[-1])

    def fail(self, batch, batch_idx):
        (stop,) = (c for c in self.trainer.callbacks if isinstance(c, interrupt.Stop))
        assert not stop.asked
        stop.asked = how == "asked"
        if how == "alone":
            made[-1].lost("rank 1 has ended before its time")
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(toy.Module, "training_step", fail)
    if how == "by itself":
        with pytest.raises(RuntimeError, match="shapes do not fit"):
            run("model=toy", "hydra.run.dir=it")
        assert status(run) == "failed"
        return
    code, out, err = run("model=toy", "hydra.run.dir=it")
    if how == "asked":
        assert code == 130 and status(run) == "interrupted"
    else:
        assert code == 1 and status(run) == "failed"
        assert "stopped: rank 1 has ended before its time" in out + err
