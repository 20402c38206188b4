"""slurm/train.sbatch on two nodes: to the end, and cut in every way a cluster cuts jobs."""

import contextlib
import datetime
import os
import signal

import pytest

from tests.helpers.rank_processes import run_ranks
from tests.helpers.stores import make_store
from tests.slurm.slurm_trainings import (
    EPOCHS,
    assert_same_run,
    epochs_done,
    submit,
    task_processes,
    training,
    was_sent,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    make_store(folder / "store.h5", n_subjects=4, n_volumes=40)
    return folder


@pytest.fixture(scope="module")
def uncut(folder):
    """The same training, on two ranks of this machine."""
    run_ranks(["launch/train.py", *training(folder, "uncut", "threads=1")], 2)
    return folder / "uncut"


def test_trains_on_two_nodes_to_the_end(slurm, folder, uncut):
    job_id = submit(slurm, folder, *training(folder, "whole"), environment={"PREFLIGHT": "1"})
    job = slurm.wait_for_end(job_id)
    output = slurm.tail(job)
    assert job["JobState"] == "COMPLETED", output
    assert "preflight: 2 rank(s) on" in output
    assert "2 rank(s) by slurm" in output
    assert_same_run(folder / "whole", uncut)


def signal_all_ranks(slurm, job_id):
    slurm.call("scancel", "--signal=USR1", job_id)


def signal_one_rank(slurm, job_id):
    os.kill(task_processes(job_id)["1"], signal.SIGUSR2)


def signal_the_batch_shell(slurm, job_id):
    slurm.call("scancel", "--batch", "--signal=TERM", job_id)


def preempt(slurm, job_id):
    slurm.call(
        *("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null"),
        *("--wrap", "true"),
    )


def reach_the_time_limit(slurm, job_id):
    # Slurm looks every half minute; in that time the training would be over.
    ranks = list(task_processes(job_id).values())
    for rank in ranks:
        os.kill(rank, signal.SIGSTOP)
    # Less than the two minutes of --signal are left.
    soon = datetime.datetime.now() + datetime.timedelta(seconds=90)
    slurm.call("scontrol", "update", f"JobId={job_id}", f"EndTime={soon:%Y-%m-%dT%H:%M:%S}")
    slurm.wait(job_id, lambda _: all(was_sent(signal.SIGUSR1, rank) for rank in ranks))
    slurm.call("scontrol", "update", f"JobId={job_id}", "TimeLimit=60")
    for rank in ranks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGCONT)


def kill_a_node(slurm, job_id):
    slurm.kill_node("n2")
    try:
        slurm.wait(job_id, lambda job: job["JobState"] == "PENDING")
    finally:
        slurm.revive_node("n2")


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param((signal_one_rank, kill_a_node), id="twice", marks=pytest.mark.faults),
        pytest.param(
            (
                signal_all_ranks,
                signal_one_rank,
                signal_the_batch_shell,
                preempt,
                reach_the_time_limit,
                kill_a_node,
            ),
            id="six-times",
            marks=pytest.mark.faults,
        ),
    ],
)
def test_a_training_that_is_cut_ends_as_if_it_had_not_been_cut(slurm, folder, uncut, cuts):
    run = folder / f"cut-{len(cuts)}"
    job_id = submit(slurm, folder, *training(folder, run.name))
    for number, cut in enumerate(cuts, 1):
        done = epochs_done(run)
        slurm.wait(job_id, lambda _, done=done: epochs_done(run) > done)
        cut(slurm, job_id)
        slurm.wait(job_id, lambda job, number=number: job["Restarts"] == str(number))
        assert epochs_done(run) < EPOCHS, f"{cut.__name__} took too long to cut anything"
    job = slurm.wait_for_end(job_id)
    output = slurm.tail(job)
    assert job["JobState"] == "COMPLETED", output
    assert job["Restarts"] == str(len(cuts)), output
    assert "resumed from" in output
    assert_same_run(run, uncut)


def test_a_signal_while_ranks_start_is_no_failure(slurm, folder):
    job_id = submit(slurm, folder, *training(folder, "early", "optimization.epochs=1"))
    slurm.wait(job_id, lambda _: len(task_processes(job_id)) == 2)
    signal_all_ranks(slurm, job_id)
    job = slurm.wait_for_end(job_id)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), slurm.tail(job)


def test_a_cancelled_training_saves_and_does_not_come_back(slurm, folder):
    run = folder / "cancelled"
    job_id = submit(slurm, folder, *training(folder, run.name))
    slurm.wait(job_id, lambda _: epochs_done(run) >= 2)
    slurm.call("scancel", job_id)
    slurm.wait(job_id, lambda _: not task_processes(job_id))
    slurm.cancel_all()
    job = slurm.job(job_id)
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0"), slurm.tail(job)
    assert "a checkpoint was saved" in slurm.tail(job)


def test_a_failed_training_is_not_queued_again(slurm, folder):
    wrong = training(folder, "diverged", "optimization.learning_rate=1e25")
    job = slurm.wait_for_end(submit(slurm, folder, *wrong))
    assert (job["JobState"], job["Restarts"]) == ("FAILED", "0"), slurm.tail(job)
    assert job["ExitCode"] == "5:0", slurm.tail(job)


def test_an_array_trains_each_config(slurm, folder):
    numbered = training(folder, "array-%a", "optimization.epochs=1", "model.d_model=8")
    config, *overrides = numbered
    one_node = ("--nodes=1", "--array=0-1")
    job_id = submit(slurm, folder, config, config, *overrides, options=one_node)
    for number in (0, 1):
        job = slurm.wait_for_end(f"{job_id}_{number}")
        assert job["JobState"] == "COMPLETED", slurm.tail(job)
        assert epochs_done(folder / f"array-{number}") == 1
