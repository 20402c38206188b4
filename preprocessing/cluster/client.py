"""Where the Dask job runs: this machine, the tasks of a Slurm job, MPI ranks, or jobs of its own.

A Dask scheduler runs whatever reaches it: ``local`` listens on the loopback only, the other kinds
speak TLS with credentials that only the user can read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eeg2fmri_dist.config.preprocess import ClusterConfig
from eeg2fmri_dist.errors import DataError, LaunchError
from preprocessing.cluster.nodes import (
    client_of_tasks,
    fitting_workers,
    mpi_task,
    node_memory_gib,
    slurm_task,
)
from preprocessing.cluster.slurm_jobs import client_of_jobs

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

logger = logging.getLogger(__name__)

_START_ATTEMPTS = 3
# One recording a core: native threads would only compete. ITK reads its variable on import.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    # On nodes without a route to the internet, each process would say so.
    "PYTHONWARNINGS": "ignore::RuntimeWarning:distributed.utils",
}
# Dask sees nothing of the memory of native libraries: spilling and pausing on its account would
# only stall. A worker near its limit is ended, and its step tried elsewhere.
_WORKER_SETTINGS = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # Looking at itself so often as it does by default takes a twentieth of all processor time.
    "distributed.admin.tick.interval": "500ms",
    "distributed.worker.profile.interval": "500ms",
}
_DASK_SETTINGS = {
    **_WORKER_SETTINGS,
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.scheduler.allowed-failures": 3,
    # Adaptive clusters grow by it until the first steps have been measured.
    "distributed.scheduler.unknown-task-duration": "30s",
}


class WorkerDiedError(DataError):
    """Several workers died while they had this step, which another step of theirs may have done."""


class Cluster:
    """Runs steps on workers, each a process with one thread.

    Parameters
    ----------
    connect : callable
        Called once, with the number of steps to come, when the first worker is needed.
    place : Path or None
        Folder in which processes of several nodes find each other; None where there is none yet.
    """

    def __init__(self, connect: Callable[[int], Client], place: Path | None = None):
        self.place = place
        self._connect = connect
        self._client: Client | None = None

    def start(self, n_steps: int) -> None:
        """Start workers, where they do not run already, no more than there are steps."""
        if self._client is None:
            self._client = self._connect(n_steps)

    def submit(self, function: Callable[..., Any], *arguments: Any, name: str, rank: int) -> Future:
        """Run a function on a worker.

        Parameters
        ----------
        function : callable
            A function that can be pickled.
        *arguments
            Values, or futures of earlier steps, which then come first.
        name : str
            Unique name of the step.
        rank : int
            Steps of low rank run before those of high rank.

        Returns
        -------
        Future
        """
        assert self._client is not None, "start() comes first"
        # A step that was lost with its worker runs again by itself; one that raised would again.
        return self._client.submit(function, *arguments, key=name, pure=False, priority=-rank)

    def completed(self, futures: Iterable[Future]) -> Iterator[Future]:
        """Yield futures as they finish or fail."""
        from distributed import as_completed

        yield from as_completed(list(futures))

    def error(self, future: Future) -> BaseException | None:
        """Return why a step failed, None if it did not."""
        from distributed import KilledWorker

        if future.status == "finished":
            return None
        if future.status != "error":
            return LaunchError(
                f"the Dask cluster was lost ({future.key}: {future.status})",
                remedy="start the same command again: finished shards are kept",
            )
        error = future.exception()
        if isinstance(error, KilledWorker):
            return WorkerDiedError(
                f"{future.key}: the worker process died each time it was tried",
                remedy="most often for want of memory: raise cluster.memory_gib, or lower "
                "cluster.workers",
            )
        return error


@contextlib.contextmanager
def open_cluster(config: ClusterConfig, folder: Path) -> Iterator[Cluster]:
    """Open the cluster that the config names; on leaving, its workers end.

    With ``local`` and ``slurm-jobs``, workers start when the first step is submitted. With
    ``slurm`` and ``mpi`` the same command runs in every task of the job: all tasks have workers,
    and only the first returns from here.

    Parameters
    ----------
    config : ClusterConfig
    folder : Path
        Folder that all processes see, in which those of different nodes find each other.

    Raises
    ------
    LaunchError
        If a package is missing, the processes do not find each other, or this is no such job.
    """
    with contextlib.ExitStack() as closing:
        if config.name == "local":
            yield Cluster(lambda n_steps: closing.enter_context(_local_client(config, n_steps)))
            return
        closing.enter_context(_dask_settings())
        os.environ.update(WORKER_ENVIRONMENT)
        if config.name == "slurm-jobs":
            yield Cluster(
                lambda n_steps: closing.enter_context(
                    client_of_jobs(config, folder, n_steps, WORKER_ENVIRONMENT, _WORKER_SETTINGS)
                )
            )
        else:
            task = slurm_task(config) if config.name == "slurm" else mpi_task(config)
            client = closing.enter_context(client_of_tasks(task, config, folder))
            yield Cluster(lambda _: client, task.meeting_place(folder))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def _local_client(config: ClusterConfig, n_steps: int) -> Iterator[Client]:
    from distributed import Client

    n_workers = config.workers or fitting_workers(config, available_cores(), node_memory_gib())
    with contextlib.ExitStack() as closing:
        closing.enter_context(_dask_settings())
        with _interrupts_held_back():
            cluster = closing.enter_context(_start_local(config, min(n_workers, n_steps)))
            client = closing.enter_context(Client(cluster))
        yield client


def _start_local(config: ClusterConfig, n_workers: int) -> LocalCluster:
    """Start scheduler and workers; Dask gives all up when a worker is killed meanwhile."""
    from distributed import LocalCluster

    for attempt in range(_START_ATTEMPTS):
        try:
            return LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=int(config.memory_gib * 2**30),
                # No dashboard; what is left of its web server takes any free port.
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:
            logger.debug("start %d of the workers failed", attempt + 1, exc_info=error)
    raise LaunchError(
        f"worker processes ended while they started, {_START_ATTEMPTS} times",
        remedy="most often for want of memory: lower cluster.workers; --debug shows Dask's reason",
    )


@contextlib.contextmanager
def _dask_settings() -> Iterator[None]:
    """Our settings of Dask, and silence.

    It logs each connection, each failed step and each end of a worker; we say what matters.
    """
    import dask
    import distributed  # noqa: F401  (its import sets up its own logging)

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="distributed.utils")
    with dask.config.set(_DASK_SETTINGS):
        yield


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Keep Ctrl-C from worker processes: this process ends them in good order.

    Threads and processes made meanwhile inherit the block; for this process it only waits.
    """
    # Started later, it would lift the block in the thread that starts it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
