"""Signals: asked once, all ranks stop after the same step; SLURM starts a job again."""

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest

from sciml.callbacks.checkpoint import RunCheckpoint
from sciml.cli.records import interrupt


@pytest.fixture
def stop():
    found = interrupt.Stop()
    before = {name: signal.getsignal(getattr(signal, name)) for name in interrupt.POLITE}
    for name in interrupt.POLITE:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    found.listen(requeued=True)
    yield found
    found.leave()
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def trainer(folder, others):
    """Return a trainer of two ranks, of which the other was asked to stop or not."""
    return SimpleNamespace(
        world_size=2,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda asked, all: asked or others),
        _signal_connector=SimpleNamespace(received_sigterm=False),
        checkpoint_callbacks=[RunCheckpoint(folder, {})],
    )


@pytest.mark.parametrize("which", ["this", "other", "none"])
def test_several_ranks_stop_after_the_same_step(stop, tmp_path, which):
    found = trainer(tmp_path, which == "other")
    stop.on_train_start(found, None)
    if which == "this":
        signal.raise_signal(signal.SIGTERM)  # in the middle of a step: nothing happens yet
    assert not found._signal_connector.received_sigterm
    stop.on_train_batch_end(found, None, None, None, 0)
    assert found._signal_connector.received_sigterm == (which != "none")
    assert found.checkpoint_callbacks[0].stopping == (which != "none")


def test_slurm_is_asked_to_start_the_job_again(stop, tmp_path, monkeypatch, caplog):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGUSR1)
    assert stop.again and not stop.stepped
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/said\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    interrupt.requeue()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    interrupt.requeue()
    assert (tmp_path / "said").read_text() == "requeue 7\nrequeue 5_3\n"
    program.write_text("#!/bin/sh\necho Access denied >&2; exit 1\n")
    interrupt.requeue()
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    interrupt.requeue()
    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert "Access denied" in said[0] and "No such file" in said[1]


@pytest.mark.slow
def test_two_ranks_that_are_asked_leave_a_checkpoint_and_a_record(run, program):
    process = program("model=toy", "trainer=ddp", "trainer.max_steps=1000000", "hydra.run.dir=it")
    log = run.work / "it" / "metrics.csv"
    while process.poll() is None and not log.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in out
    assert json.loads((run.work / "it" / "metrics.json").read_text())["status"] == "interrupted"
