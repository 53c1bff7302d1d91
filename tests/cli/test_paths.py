"""Ranks and folder names under launchers."""

import pytest

from sciml.cli import paths

SRUN = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, 0),
        ({"RANK": "3", "LOCAL_RANK": "0"}, 3),
        ({"LOCAL_RANK": "1"}, 1),
        ({"LOCAL_RANK": "0", "NODE_RANK": "2"}, 2),
        (SRUN, 1),
        ({**SRUN, "SLURM_PROCID": "0"}, 0),
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, 0),
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, 0),
        ({**SRUN, "RANK": "0", "TORCHELASTIC_RUN_ID": "none"}, 0),  # torchrun inside srun
    ],
)
def test_rank(environ, rank):
    assert paths.rank(environ) == rank
    assert paths.is_worker(environ) == (rank > 0)


def test_steps_of_a_slurm_job_have_folders_of_their_own():
    assert paths.run_stamp(SRUN) == "slurm-7-0"
    assert paths.run_stamp({**SRUN, "SLURM_STEP_ID": "1"}) == "slurm-7-1"
    assert paths.run_stamp(SRUN) == paths.run_stamp({**SRUN, "SLURM_PROCID": "0"})
    without = {k: v for k, v in SRUN.items() if k != "SLURM_STEP_ID"}  # in the batch script
    assert not paths.run_stamp(without).startswith("slurm")


def test_torchrun_on_several_nodes_takes_the_name_it_asks_for():
    environ = {"TORCHELASTIC_RUN_ID": "none", "GROUP_WORLD_SIZE": "2", paths.STAMP: "mine"}
    assert paths.run_stamp(environ) == "mine"


def test_restarted():
    assert not paths.restarted(SRUN) and paths.restarted({**SRUN, "SLURM_RESTART_COUNT": "1"})
    assert paths.restarted({"TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_RESTART_COUNT": "2"})
