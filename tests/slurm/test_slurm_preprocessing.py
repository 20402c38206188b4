"""Preprocessing over the nodes of a Slurm job, by jobs of its own, and under mpirun.

All give the store of one worker on one machine, bit for bit.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from preprocessing.cluster.credentials import make_credentials
from tests.helpers.preprocessing_jobs import (
    contents,
    costs,
    preprocess,
    simulate_recordings,
    write_config,
)
from tests.slurm.mpirun import mpirun
from tests.slurm.slurm_trainings import ROOT, submit, task_processes

STRANGER = Path(__file__).with_name("stranger.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preprocessing")
    simulate_recordings(folder)
    return folder


@pytest.fixture(scope="module")
def reference(folder):
    """What one worker makes of the recordings."""
    config = write_config(folder / "one", folder / "data", workers=1)
    done = preprocess(config)
    assert done.returncode == 0, done.stderr
    return contents(folder / "one")


def submit_preprocessing(slurm, folder, config, options=()):
    return submit(
        *(slurm, folder, str(config)),
        options=("--cpus-per-task=2", "--mem-per-cpu=1G", *options),
        batch="preprocess",
    )


def meeting_place(folder):
    """Return the folder in which the processes of a running job have met."""
    found = list((folder / "store.shards").glob(".dask-*/scheduler.json"))
    return found[0].parent if found else None


def try_as_stranger(slurm, folder, place):
    """Return what somebody on both nodes gets to see, with foreign and with the right keys."""
    foreign = folder / "foreign.pem"
    make_credentials(foreign)
    address = json.loads((place / "scheduler.json").read_text())["address"]
    return slurm.call(
        *("srun", "--nodes=2", "--ntasks-per-node=1", "--mem-per-cpu=500M", sys.executable),
        *(str(STRANGER), address, str(foreign), str(place / "credentials.pem")),
        timeout_s=100,
    ).splitlines()


def test_two_nodes_make_the_store_of_one_worker_and_let_nobody_in(slurm, folder, reference):
    ours = folder / "nodes"
    config = write_config(ours, folder / "data")
    job_id = submit_preprocessing(slurm, ours, config)
    slurm.wait(job_id, lambda _: meeting_place(ours))
    place = meeting_place(ours)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "credentials.pem").stat().st_mode) == 0o600
    seen = try_as_stranger(slurm, ours, place)
    # The last is the right key: the others failed for want of it.
    assert sorted(seen) == sorted(2 * ["plain refused", "0 refused", "1 in", "answering"])
    job = slurm.wait_for_end(job_id)
    assert job["JobState"] == "COMPLETED", slurm.tail(job)
    assert contents(ours) == reference
    assert {cost["host"] for cost in costs(ours)} == {"n1", "n2"} or not slurm.nodes.separate
    assert "Dask scheduler on" in slurm.tail(job)
    assert not place.exists()
    # Finished: a job on one node finds nothing to do.
    job_id = submit_preprocessing(slurm, ours, config, options=("--nodes=1",))
    job = slurm.wait_for_end(job_id)
    assert job["JobState"] == "COMPLETED", slurm.tail(job)
    assert "is up to date (4 recordings)" in slurm.tail(job)


@pytest.mark.faults
def test_a_node_that_dies_costs_its_steps_alone(slurm, folder, reference):
    ours = folder / "dead-node"
    job_id = submit_preprocessing(slurm, ours, write_config(ours, folder / "data"))
    # One recording is finished: the job's second start must keep it.
    slurm.wait(job_id, lambda _: list((ours / "store.shards").glob("sub-*.json")))
    kept = {path: path.stat().st_mtime_ns for path in (ours / "store.shards").glob("sub-*.h5")}
    slurm.kill_node("n2")
    try:
        slurm.wait(job_id, lambda job: job["Restarts"] == "1")
    finally:
        slurm.revive_node("n2")
    job = slurm.wait_for_end(job_id)
    assert job["JobState"] == "COMPLETED", slurm.tail(job)
    assert contents(ours) == reference
    finished = [path for path in kept if path.with_suffix(".json").exists()]
    assert any(path.stat().st_mtime_ns == kept[path] for path in finished)


@pytest.mark.faults
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_task_that_is_killed_costs_no_recording(slurm, folder, reference, rank):
    """The first has the scheduler; the other has workers alone."""
    ours = folder / f"killed-task-{rank}"
    job_id = submit_preprocessing(slurm, ours, write_config(ours, folder / "data"))
    slurm.wait(job_id, lambda _: "[2/12]" in slurm.tail(slurm.job(job_id)))
    os.kill(task_processes(job_id, "preprocess")[rank], signal.SIGKILL)
    job = slurm.wait_for_end(job_id)
    assert job["JobState"] == "COMPLETED", slurm.tail(job)
    assert "a task was killed" in slurm.tail(job)
    assert contents(ours) == reference


@pytest.mark.faults
def test_workers_may_be_jobs_of_their_own(slurm, folder, reference):
    # A name that a shell would take apart.
    ours = folder / "jobs of $(touch x) 'mine'"
    address = slurm.nodes.controller_address
    interface = next(
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(entry.address == address for entry in addresses)
    )
    config = write_config(
        ours,
        folder / "data",
        kind="slurm-jobs",
        workers=3,
        job_workers=1,
        interface=interface,
        job_options=["--partition=main"],
    )
    command = [sys.executable, "launch/preprocess.py", str(config)]
    started = subprocess.Popen(
        command, cwd=ROOT, env=slurm.environment, stderr=subprocess.PIPE, text=True
    )
    jobs, deadline = set(), time.monotonic() + 240
    while started.poll() is None and time.monotonic() < deadline:
        jobs |= set(slurm.call("squeue", "--noheader", "--format=%A").split())
        time.sleep(0.5)
    started.terminate()
    errors = started.communicate(timeout=60)[1]
    assert started.returncode == 0, errors
    assert len(jobs) > 1, errors
    assert contents(ours) == reference
    assert {cost["host"] for cost in costs(ours)} <= {"n1", "n2"} or not slurm.nodes.separate
    assert not list((ours / "store.shards").glob(".dask-*/*"))


def test_jobs_that_slurm_refuses_are_named(slurm, folder):
    options = '["--partition=nowhere"]'
    config = write_config(folder / "refused", folder / "data", kind="slurm-jobs", workers=2)
    done = preprocess(config, f"cluster.job_options={options}", environment=slurm.environment)
    assert done.returncode == 4, done.stderr
    assert "sbatch refuses the jobs of the workers" in done.stderr
    assert "nowhere" in done.stderr


@pytest.mark.faults
def test_mpirun_makes_the_same_store(mpi, folder, reference):
    ours = folder / "mpi"
    config = write_config(ours, folder / "data", kind="mpi")
    done = mpirun(mpi, "launch/preprocess.py", str(config), ranks=3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(ours) == reference
    assert len({cost["pid"] for cost in costs(ours)}) == 3


@pytest.mark.faults
def test_two_local_workers_make_the_same_store(folder, reference):
    ours = folder / "two"
    done = preprocess(write_config(ours, folder / "data", workers=2))
    assert done.returncode == 0, done.stderr
    assert contents(ours) == reference
