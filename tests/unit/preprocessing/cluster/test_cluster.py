"""Workers: their environment, their death, Ctrl-C, and the tasks of a Slurm job."""

import contextlib
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import psutil
import pytest

from eeg2fmri_dist.config.preprocess import ClusterConfig
from eeg2fmri_dist.errors import DataError, LaunchError
from preprocessing.cluster.client import WorkerDiedError, open_cluster
from preprocessing.cluster.credentials import make_credentials
from preprocessing.cluster.nodes import fitting_workers

TWO_WORKERS = ClusterConfig(workers=2, memory_gib=1.0)


def threads_of_worker(_):
    return [os.environ[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")] + [
        os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"]
    ]


def die_once(marker):
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(_):
    raise DataError("flat channel", where="sub-32", remedy="exclude it")


def add(first, second):
    return first + second


@pytest.mark.slow
def test_local_workers(tmp_path):
    with open_cluster(TWO_WORKERS, tmp_path) as cluster:
        assert multiprocessing.active_children() == []
        cluster.start(2)
        threads = cluster.submit(threads_of_worker, None, name="threads", rank=0)
        once = cluster.submit(die_once, tmp_path / "marker", name="die once", rank=1)
        refused = cluster.submit(refuse, None, name="refuse", rank=3)
        after = cluster.submit(add, once, refused, name="after", rank=4)
        futures = [threads, once, refused, after]
        assert {future.key for future in cluster.completed(futures)} == {
            future.key for future in futures
        }
        assert threads.result() == ["1"] * 4
        assert once.result() == "survived"
        assert cluster.error(once) is None
        for future in (refused, after):
            error = cluster.error(future)
            assert isinstance(error, DataError)
            assert (error.what, error.where) == ("flat channel", "sub-32")
        deadly = cluster.submit(die, None, name="die", rank=0)
        (deadly,) = cluster.completed([deadly])
        error = cluster.error(deadly)
        assert isinstance(error, WorkerDiedError)
        assert "memory_gib" in str(error)


SCRIPT = """
import sys, time
from pathlib import Path
from eeg2fmri_dist.config.preprocess import ClusterConfig
from preprocessing.cluster.client import open_cluster

def step(seconds):
    time.sleep(seconds)
    return seconds

if __name__ == "__main__":
    kind, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    config = ClusterConfig(name=kind, workers=2, memory_gib=1)
    try:
        with open_cluster(config, folder) as cluster:
            cluster.start(2)
            futures = [cluster.submit(step, seconds, name=f"s{i}", rank=i) for i in range(2)]
            (folder / "started").touch()
            print("sum", sum(future.result() for future in cluster.completed(futures)))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def processes_of_session(session):
    listed = subprocess.run(
        ["ps", "-o", "stat=,args=", "-s", str(session)], capture_output=True, text=True, check=False
    )
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_command(script, tmp_path, how):
    command = [sys.executable, str(script), "local", str(tmp_path), "600"]
    started = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        while not (tmp_path / "started").exists():
            assert started.poll() is None, started.stderr.read()
            time.sleep(0.05)
        assert len(processes_of_session(started.pid)) >= 3
        if how == signal.SIGINT:
            os.killpg(started.pid, how)
            output, errors = started.communicate(timeout=60)
            assert "interrupted" in output
            assert errors == ""
        else:
            started.send_signal(how)
            started.communicate()
        for _ in range(200):
            if not processes_of_session(started.pid):
                break
            time.sleep(0.05)
        assert processes_of_session(started.pid) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)


def start_task(script, folder, rank, seconds):
    """What `srun` starts: the same command in each task, told apart by variables."""
    return subprocess.Popen(
        [sys.executable, str(script), "slurm", str(folder), str(seconds)],
        env={
            **os.environ,
            "SLURM_PROCID": str(rank),
            "SLURM_JOB_ID": "1",
            "SLURM_STEP_ID": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_tasks_of_a_slurm_job(script, tmp_path):
    tasks = [start_task(script, tmp_path, rank, 0.1) for rank in range(2)]
    outputs = [task.communicate(timeout=100) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    assert [output for output, _ in outputs] == ["sum 0.2\n", ""]
    assert not list(tmp_path.glob(".dask-*/*"))


def test_a_task_that_comes_late_ends_at_once(script, tmp_path):
    first = start_task(script, tmp_path, 0, 0.1)
    assert first.communicate(timeout=100)[0] == "sum 0.2\n"
    late = start_task(script, tmp_path, 1, 0.1)
    assert late.communicate(timeout=100) == ("", "")
    assert late.returncode == 0


@pytest.mark.faults
def test_tasks_end_when_the_first_is_killed(script, tmp_path):
    tasks = [start_task(script, tmp_path, rank, 600) for rank in range(2)]
    try:
        while not (tmp_path / "started").exists():
            assert tasks[0].poll() is None, tasks[0].stderr.read()
            time.sleep(0.05)
        tasks[0].kill()
        tasks[1].communicate(timeout=100)
    finally:
        for task in tasks:
            task.kill()


def test_a_worker_killed_while_it_starts_is_started_again(tmp_path):
    killed = []

    def kill_the_first() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error):  # a child that is gone already
                for child in psutil.Process().children(recursive=True):
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.kill()
                        killed.append(child.pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with open_cluster(ClusterConfig(workers=1, memory_gib=1), tmp_path) as cluster:
        cluster.start(1)
        killer.join()
        assert cluster.submit(os.getpid, name="pid", rank=0).result() not in [os.getpid(), *killed]
    assert killed


def test_workers_that_never_start(tmp_path, monkeypatch):
    def fail(**_):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("distributed.LocalCluster", fail)
    with (
        open_cluster(ClusterConfig(workers=1), tmp_path) as cluster,
        pytest.raises(LaunchError, match="ended while they started") as error,
    ):
        cluster.start(1)
    assert "cluster.workers" in error.value.remedy


def test_a_slurm_cluster_without_a_job_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with (
        pytest.raises(LaunchError, match="no task of Slurm") as caught,
        open_cluster(ClusterConfig(name="slurm"), tmp_path),
    ):
        pass
    assert "sbatch" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [("slurm-jobs", "dask_jobqueue", "slurm"), ("mpi", "mpi4py", "mpi")],
)
def test_a_missing_package_is_named(monkeypatch, tmp_path, kind, package, extra):
    for module in (package, f"{package}.MPI"):
        monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(LaunchError, match=package.replace("_", "-")) as caught,
        open_cluster(ClusterConfig(name=kind, workers=2), tmp_path) as cluster,
    ):
        cluster.start(2)
    assert f"eeg2fmri_dist[{extra}]" in str(caught.value)


def test_workers_are_as_many_as_cores_with_memory():
    config = ClusterConfig(memory_gib=3)
    assert fitting_workers(config, cores=8, memory_gib=64) == 8
    assert fitting_workers(config, cores=8, memory_gib=13) == 4
    assert fitting_workers(config, cores=8, memory_gib=2) == 1


def test_jobs_need_a_bound_and_take_options_of_sbatch():
    with pytest.raises(ValueError, match=r"needs cluster\.workers"):
        ClusterConfig(name="slurm-jobs")
    for option in ("cpu", "--time=1\nrm -r x", ""):
        with pytest.raises(ValueError, match="not an option of sbatch"):
            ClusterConfig(job_options=[option])


def test_credentials_are_new_and_of_the_user_alone(tmp_path):
    paths = [tmp_path / "first.pem", tmp_path / "second.pem"]
    for path in paths:
        make_credentials(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = path.read_text()
        assert "PRIVATE KEY" in text
        assert "CERTIFICATE" in text
    assert paths[0].read_text() != paths[1].read_text()
    with pytest.raises(FileExistsError):
        make_credentials(paths[0])


def test_without_openssl_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match=r"cluster\.name to local"):
        make_credentials(tmp_path / "new.pem")
