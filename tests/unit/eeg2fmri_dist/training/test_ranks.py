"""Ranks from the variables that launchers set."""

import pytest

from eeg2fmri_dist.errors import LaunchError
from eeg2fmri_dist.training.distributed.ranks import Ranks, discover_ranks


def slurm_task(**changes):
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "1",
        "SLURM_PROCID": "5",
        "SLURM_NTASKS": "7",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NODELIST": "gpu[09-10]",
        "SLURM_STEP_TASKS_PER_NODE": "4,3",
    } | changes


def test_slurm_tasks_spread_unevenly():
    environ = slurm_task()
    assert discover_ranks(7, environ) == Ranks(5, 7, 1, 3, "slurm")
    assert environ["RANK"] == "5"
    assert environ["MASTER_ADDR"] == "gpu09"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("node[03-05,9],other", "node03"),
        ("rack[2,4]-node[01-16]-ib", "rack2-node01-ib"),
        ("login.example.org,b", "login.example.org"),
    ],
)
def test_the_first_host_of_a_node_list(nodes, first):
    environ = slurm_task(SLURM_STEP_NODELIST=nodes)
    discover_ranks(environ=environ)
    assert environ["MASTER_ADDR"] == first


def test_tasks_of_one_step_share_a_port_and_steps_do_not():
    def port(**changes):
        environ = slurm_task(**changes)
        discover_ranks(environ=environ)
        return int(environ["MASTER_PORT"])

    assert port() == port(SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0")
    others = {port(), port(SLURM_STEP_ID="2"), port(SLURM_JOB_ID="8")}
    assert len(others) == 3
    assert all(1024 < value < 32768 for value in others)


def test_a_user_chooses_the_master():
    environ = slurm_task(MASTER_ADDR="10.0.0.1", MASTER_PORT="5000")
    discover_ranks(environ=environ)
    assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == ("10.0.0.1", "5000")


def test_srun_with_pmi_needs_no_mpi():
    environ = slurm_task(PMI_RANK="5", PMI_SIZE="7", PMIX_RANK="5")
    assert discover_ranks(7, environ).launcher == "slurm"


def test_the_shell_of_an_allocation_is_no_rank():
    environ = slurm_task()
    del environ["SLURM_STEP_ID"]
    assert discover_ranks(environ=environ) == Ranks(0, 1, 0, 1, "alone")


@pytest.mark.parametrize(
    ("environ", "cause"),
    [
        ({}, "no launcher was seen"),
        (slurm_task(), "srun --ntasks=8"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "--nproc-per-node"),
    ],
)
def test_a_world_of_another_size_names_the_likely_cause(environ, cause):
    with pytest.raises(LaunchError, match="8 ranks were asked for") as caught:
        discover_ranks(8, environ)
    assert cause in str(caught.value)
