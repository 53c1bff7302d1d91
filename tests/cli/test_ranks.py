"""Ranks that torchrun or srun start alike notice when one is gone."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sciml.cli import paths
from sciml.cli.records import rank_watch as watching
from sciml.cli.records import run_folder
from sciml.cli.records.rank_watch import Ranks, Stopped, is_held, process_of, said
from sciml.errors import ConfigError

SRUN = {"SLURM_NTASKS": "3", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}


@pytest.fixture
def companion(tmp_path):
    """Rank 1 of two, a process of its own that does nothing until it is killed."""
    process = os.fork()
    if not process:
        Ranks(tmp_path, 1, 2)
        time.sleep(60)
        os._exit(0)
    while not is_held(tmp_path / ".rank1"):
        time.sleep(0.001)
    yield process
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


@pytest.fixture
def first(tmp_path, monkeypatch):
    """Rank 0, which keeps what it is told instead of ending this process."""
    monkeypatch.setattr(Ranks, "_watch", lambda self: None)
    rank = Ranks(tmp_path, 0, 2, meeting=60.0)
    yield rank
    rank.leave(in_order=True)


def test_a_killed_rank_is_missed(first, companion):
    assert first.gone() is None
    os.kill(companion, signal.SIGKILL)
    while is_held(first.file(1)):
        time.sleep(0.001)
    assert first.gone() == "rank 1 has ended before its time"


def test_a_rank_that_ended_in_good_order_is_not_missed(first, companion):
    assert first.gone() is None
    first.file(1).unlink()  # as `leave` does
    os.kill(companion, signal.SIGKILL)
    assert first.gone() is None and first.others == []


def test_a_rank_that_never_comes_is_missed_after_a_while(first):
    first.file(1).touch()  # of an older run, or of one that died before anybody looked
    assert first.gone() is None
    first.meeting = 0.0
    assert first.gone() == "rank 1 has not shown up for 0 seconds"


def test_files_do_not_stay(tmp_path, first):
    second = Ranks(tmp_path, 1, 2)
    second.leave(in_order=False)  # it was refused, and the other still has to notice
    assert first.file(1).exists()
    first.leave(in_order=False)
    assert not tmp_path.exists()


def test_alone_there_is_no_file(tmp_path):
    for rank in (0, 1):  # the second is one that Lightning started
        alone = Ranks(tmp_path, rank, 1)
        assert not list(tmp_path.iterdir()) and alone.gone() is None
        alone.leave(in_order=True)


def test_the_same_rank_of_another_run(tmp_path, first):
    with pytest.raises(ConfigError, match="another process is writing a run"):
        Ranks(tmp_path, 0, 2)


def test_who_started_alike():
    assert paths.world({}) == 1 and paths.world({"LOCAL_RANK": "1"}) == 1
    assert paths.world(SRUN) == 3 and paths.nodes(SRUN) == 1
    torchrun = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"}
    assert paths.world(torchrun) == 4 and paths.nodes(torchrun) == 2
    assert paths.nodes({**SRUN, "SLURM_STEP_NUM_NODES": "2"}) == 2


PROGRAM = """
import sys, time
from pathlib import Path
from sciml.cli.records import rank_watch as ranks
ranks.GRACE = ranks.LOOK = 0.05
ranks.STOPPED = 0.5
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
one = ranks.Ranks(folder, rank, 2)
one.lost = (folder / f"lost{rank}").write_text
time.sleep(60)
"""


@pytest.mark.parametrize("victim", [0, 1])
def test_the_one_left_ends(tmp_path, victim):
    """Whatever it waits for: they have not met, and no connection is there to break."""
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(rank), str(tmp_path)])
        for rank in (0, 1)
    ]
    until = time.monotonic() + 60
    while not all(is_held(tmp_path / f".rank{rank}") for rank in (0, 1)):
        assert time.monotonic() < until and all(one.poll() is None for one in started)
        time.sleep(0.01)
    time.sleep(0.3)
    started[victim].kill()
    assert started[1 - victim].wait(timeout=20) == 1
    said = (tmp_path / f"lost{1 - victim}").read_text()
    assert said == f"rank {victim} has ended before its time"
    started[victim].wait()


def test_one_that_stays_stopped_is_ended(tmp_path):
    """Neither has its lock back, nor does a connection break: only the system knows."""
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(rank), str(tmp_path)])
        for rank in (0, 1)
    ]
    while not all(is_held(tmp_path / f".rank{rank}") for rank in (0, 1)):
        time.sleep(0.01)
    started[1].send_signal(signal.SIGSTOP)
    assert started[0].wait(timeout=20) == 1
    assert (tmp_path / "lost0").read_text() == "rank 1 was stopped for 0 seconds"
    assert started[1].wait(timeout=20) == -signal.SIGKILL


def test_a_pause_is_no_end(first, companion, monkeypatch):
    """Looks are counted, not seconds: where all were stopped together, nobody looked."""
    assert process_of(first.file(1)) == companion
    monkeypatch.setattr(watching, "STOPPED", 2.1 * watching.LOOK)
    stopped = Stopped()
    for _ in range(2):
        os.kill(companion, signal.SIGSTOP)
        os.waitpid(companion, os.WUNTRACED)
        assert not stopped.ended(companion) and not stopped.ended(companion)
        os.kill(companion, signal.SIGCONT)
        os.waitpid(companion, os.WCONTINUED)
        assert not stopped.ended(companion)
    assert not Stopped().ended(None)


def test_processes_of_other_machines_are_not_known(tmp_path):
    (tmp_path / "one").write_text(f"{os.getpid()} another-machine")
    assert process_of(tmp_path / "one") is None and process_of(tmp_path / "none") is None


def test_who_is_left_marks_the_record_of_a_first_rank_that_is_gone(tmp_path):
    record = tmp_path / "metrics.json"
    record.write_text('{"status": "running"}')
    held = run_folder.lock(tmp_path)
    said(tmp_path, "rank 2 has ended before its time")
    assert json.loads(record.read_text())["status"] == "running"  # the first lives and writes it
    os.close(held)
    said(tmp_path, "rank 0 has ended before its time")
    assert json.loads(record.read_text())["status"] == "failed"
