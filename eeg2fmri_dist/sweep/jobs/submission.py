"""Commands as jobs: on this machine, on Slurm, or in this process; the only importer of submitit.

A job outlives the process that submitted it. Whether it is still there is asked of the machine, and
how it ended is read from its folder, so any process can follow a job that another one started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eeg2fmri_dist.config.sweep import ResourcesConfig
from eeg2fmri_dist.errors import ConfigError, LaunchError, StoppedError
from eeg2fmri_dist.sweep.jobs.job_command import (
    EXIT_STOPPED,
    Job,
    lock_is_held,
    run_beside,
    run_first,
    run_here,
)

_START_S = 120  # longest time from a job's submission on another machine to its lock
_SLURM_TIMEOUT_S = 60
_NOT_ENDED = ("PENDING", "RUNNING", "REQUEUED", "RESIZING", "SUSPENDED")


@dataclass(frozen=True)
class Handle:
    """Where a submitted job is found again; a mapping of its fields is plain JSON.

    Attributes
    ----------
    cluster : str
        local, slurm or debug.
    job_id : str
        Of Slurm, or the process id.
    host : str
        Machine that submitted it.
    submitted : float
        Seconds since the epoch.
    created : float
        local: start time of the process, so that a reused process id is not taken for it.
    slot : int
        local: which share of the machine's GPUs it has.
    """

    cluster: str
    job_id: str
    host: str
    submitted: float
    created: float = 0.0
    slot: int = 0


class Cluster(Protocol):
    """A place where jobs run.

    Attributes
    ----------
    poll_s : float
        How often it may be asked what has become of its jobs.
    """

    poll_s: float

    def submit(self, jobs: Sequence[Job], busy: Sequence[Handle]) -> list[Handle]:
        """Start jobs beside those that are `busy`; return where they are found."""

    def alive(self, handles: Mapping[Path, Handle]) -> set[Path]:
        """Return the folders of the jobs that wait, run, or cannot be asked."""

    def stop(self, handle: Handle) -> None:
        """Ask a job to stop (SIGTERM); one that waits in a queue is taken out of it."""

    def account_of(self, handle: Handle) -> str | None:
        """Return how the place itself says that a job ended; None where it keeps no accounts."""


def choose_cluster(name: str) -> str:
    """Return local, slurm or debug; ``auto`` is Slurm where sbatch is found."""
    if name != "auto":
        return name
    return "slurm" if shutil.which("sbatch") and shutil.which("srun") else "local"


def open_cluster(name: str, folder: Path, resources: ResourcesConfig, parallel: int) -> Cluster:
    """Return the place that a config names.

    Parameters
    ----------
    name : str
        local, slurm or debug (see `choose_cluster`).
    folder : Path
        Where submitit keeps its files.
    resources : ResourcesConfig
        Of each job.
    parallel : int
        Most jobs at a time, of an array.
    """
    if name == "debug":
        return DebugCluster()
    if name == "local":
        return LocalCluster(folder, resources)
    return SlurmCluster(folder, resources, parallel)


class LocalCluster:
    """Jobs as processes of this machine, by submitit's local executor."""

    poll_s = 0.5

    def __init__(self, folder: Path, resources: ResourcesConfig):
        if resources.nodes > 1:
            raise ConfigError(
                f"resources.nodes = {resources.nodes}, but cluster=local has one",
                remedy="set resources.nodes=1, or cluster=slurm",
            )
        self._folder, self._resources = folder, resources

    def submit(self, jobs: Sequence[Job], busy: Sequence[Handle]) -> list[Handle]:
        """Start jobs; each takes the first free share of the machine's GPUs."""
        taken = {handle.slot for handle in busy}
        handles = []
        for job in jobs:
            slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
            taken.add(slot)
            handles.append(self._submit(job, slot))
        return handles

    def _submit(self, job: Job, slot: int) -> Handle:
        import psutil
        import submitit

        resources = self._resources
        executor = submitit.LocalExecutor(self._folder)
        executor.update_parameters(
            timeout_min=60 * resources.hours,
            signal_delay_s=resources.grace_s,
            tasks_per_node=resources.ranks_per_node,
            gpus_per_node=resources.gpus_per_node,
            visible_gpus=_visible_gpus(slot, resources.gpus_per_node),
            stderr_to_stdout=True,
            setup=resources.setup,
        )
        # Ctrl-C goes to all processes of the terminal; jobs are stopped one by one instead.
        with _ignoring(signal.SIGINT):
            job_id = executor.submit(run_job, job).job_id
        created = psutil.Process(int(job_id)).create_time()
        return Handle("local", job_id, socket.gethostname(), time.time(), created, slot)

    def alive(self, handles: Mapping[Path, Handle]) -> set[Path]:
        """Ask for the process, and for the lock that its training holds."""
        return {
            folder
            for folder, handle in handles.items()
            if _process(handle) is not None
            or lock_is_held(folder)
            or (_is_elsewhere(handle) and time.time() - handle.submitted < _START_S)
        }

    def stop(self, handle: Handle) -> None:
        """Send SIGTERM to the job; it passes it on to the training."""
        process = _process(handle)
        if process is not None:
            process.terminate()

    def account_of(self, handle: Handle) -> str | None:
        """Return None: a machine keeps no accounts of its processes."""


class SlurmCluster:
    """Jobs of Slurm, several at a time as an array, by submitit's Slurm executor."""

    poll_s = 10.0

    def __init__(self, folder: Path, resources: ResourcesConfig, parallel: int):
        missing = [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]
        if missing:
            raise LaunchError(
                f"cluster=slurm, but {missing[0]} is not found",
                remedy="start the sweep on a login node, or with cluster=local",
            )
        self._folder, self._resources, self._parallel = folder, resources, parallel

    def submit(self, jobs: Sequence[Job], busy: Sequence[Handle]) -> list[Handle]:
        """Queue jobs with one sbatch."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        if not jobs:
            return []
        executor = submitit.SlurmExecutor(self._folder)
        try:
            executor.update_parameters(**self._options(jobs[0].name))
            submitted = executor.map_array(run_job, list(jobs))
        except (FailedJobError, FailedSubmissionError, ValueError) as error:
            raise LaunchError(
                f"sbatch refused the job: {error}",
                remedy="check resources.* against the partitions that sinfo shows",
            ) from None
        return [Handle("slurm", job.job_id, socket.gethostname(), time.time()) for job in submitted]

    def _options(self, name: str) -> dict[str, Any]:
        resources = self._resources
        options: dict[str, Any] = {
            "job_name": name,
            "time": max(1, round(60 * resources.hours)),
            "nodes": resources.nodes,
            "ntasks_per_node": resources.ranks_per_node,
            "cpus_per_task": resources.cpus_per_task,
            "gpus_per_node": resources.gpus_per_node or None,
            "partition": resources.partition,
            "account": resources.account,
            "signal_delay_s": resources.grace_s,
            "array_parallelism": self._parallel,
            "stderr_to_stdout": True,
            "setup": resources.setup or None,
            # A preempted job, or one whose node died, starts again by itself.
            "additional_parameters": {"requeue": True, **resources.slurm},
        }
        if resources.memory_gib is not None:
            options["mem"] = f"{round(1024 * resources.memory_gib)}M"
        return {name: value for name, value in options.items() if value is not None}

    def alive(self, handles: Mapping[Path, Handle]) -> set[Path]:
        """Ask squeue once for all jobs of this user; if it does not answer, all count as alive."""
        if not handles:
            return set()
        states = self._queue()
        if states is None:
            return set(handles)
        return {folder for folder, handle in handles.items() if handle.job_id in states}

    def stop(self, handle: Handle) -> None:
        """Signal a job that runs; take one that waits out of the queue."""
        states = self._queue() or {}
        if states.get(handle.job_id) == "PENDING":
            _slurm("scancel", handle.job_id)
        else:
            _slurm("scancel", "--signal=TERM", handle.job_id)

    def account_of(self, handle: Handle) -> str | None:
        """Ask sacct for the job's last state, as ``TIMEOUT on n2``."""
        answer = _slurm(
            *("sacct", f"--jobs={handle.job_id}", "--allocations", "--duplicates", "--noheader"),
            *("--parsable2", "--format=State,NodeList"),
        )
        if not answer:
            return None
        state, _, nodes = answer.splitlines()[-1].partition("|")
        # The accounts lag behind the queue by moments.
        return f"{state} on {nodes}" if state.split()[0] not in _NOT_ENDED else None

    def _queue(self) -> dict[str, str] | None:
        """State of each job of this user that is waiting, running or ending."""
        answer = _slurm("squeue", "--me", "--noheader", "--array", "--format=%i %T")
        if answer is None:
            return None
        return dict(line.split(maxsplit=1) for line in answer.splitlines() if line.strip())


class DebugCluster:
    """Jobs inside this process, one after the other: a debugger reaches them."""

    poll_s = 0.5

    def submit(self, jobs: Sequence[Job], busy: Sequence[Handle]) -> list[Handle]:
        """Run jobs to their end.

        Raises
        ------
        StoppedError
            If a signal stopped one; all that come after it are not started.
        """
        handles = []
        for job in jobs:
            handles.append(Handle("debug", str(os.getpid()), socket.gethostname(), time.time()))
            if run_here(job) == EXIT_STOPPED:
                raise StoppedError("stopped in a trial", remedy="the same command continues")
        return handles

    def alive(self, handles: Mapping[Path, Handle]) -> set[Path]:
        """Return the jobs that another process runs."""
        return {folder for folder in handles if lock_is_held(folder)}

    def stop(self, handle: Handle) -> None:
        """Do nothing: no job runs beside this call."""

    def account_of(self, handle: Handle) -> str | None:
        """Return None: nobody keeps accounts of this process."""


def run_job(job: Job) -> int:
    """Run the commands of a job inside it (called by submitit on every rank)."""
    from submitit import JobEnvironment
    from submitit.helpers import TorchDistributedEnvironment

    environment = JobEnvironment()
    if environment.cluster == "local" and environment.num_tasks > 1:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    return run_first(job) if environment.global_rank == 0 else run_beside(job)


@contextlib.contextmanager
def _ignoring(number: signal.Signals) -> Iterator[None]:
    """Ignore a signal here and in processes that are started meanwhile."""
    previous = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, previous)


def _visible_gpus(slot: int, count: int) -> tuple[int, ...]:
    """GPUs of a slot, among those that this process may use."""
    allowed = [int(n) for n in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if n.isdigit()]
    wanted = range(slot * count, (slot + 1) * count)
    if not allowed:
        return tuple(wanted)
    return tuple(allowed[index % len(allowed)] for index in wanted)


def _is_elsewhere(handle: Handle) -> bool:
    return handle.host != socket.gethostname()


def _process(handle: Handle) -> Any:
    """The process of a local job, if it runs on this machine."""
    import psutil

    if _is_elsewhere(handle):
        return None
    try:
        process = psutil.Process(int(handle.job_id))
        is_it = abs(process.create_time() - handle.created) < 1
        return process if is_it and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _slurm(*command: str) -> str | None:
    """Output of a Slurm command; None if it fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SLURM_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
