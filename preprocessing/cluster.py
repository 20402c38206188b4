"""Where the Dask job runs: this machine, the tasks of a Slurm job, or MPI ranks.

Tested so far: ``local`` by the test suite; ``slurm`` by the test suite with the processes and
environment that `srun` would make, on one machine without Slurm; ``mpi`` by hand, under MPICH's
`mpirun` on one machine. A Dask scheduler runs whatever reaches it:
``local`` listens on the loopback only, the other two trust the network of the cluster.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from types import ModuleType
from typing import TYPE_CHECKING, Any

from eeg2fmri_dist.config.preprocess import ClusterConfig
from eeg2fmri_dist.errors import DataError, LaunchError

if TYPE_CHECKING:
    from distributed import Client, Future

# One recording a core: native threads would only compete. ITK reads its variable on import.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
}
# Dask sees nothing of the memory of native libraries: spilling and pausing on its account would
# only stall. A worker near its limit is ended, and its step tried elsewhere.
_DASK_SETTINGS = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.scheduler.allowed-failures": 3,
}


class WorkerDiedError(DataError):
    """Several workers died while they had this step, which another step of theirs may have done."""


class Cluster:
    """Runs steps on workers, each a process with one thread.

    Parameters
    ----------
    connect : callable
        Called once, with the number of steps to come, when the first worker is needed.
    """

    def __init__(self, connect: Callable[[int], Client]):
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
def open_cluster(config: ClusterConfig) -> Iterator[Cluster]:
    """Open the cluster that the config names; on leaving, its workers end.

    With ``local``, worker processes start when the first step is submitted. With ``slurm`` and
    ``mpi`` the same command runs in every task of the job: rank 0 becomes the scheduler, ranks
    from 2 on become workers, and none of these returns from here; rank 1 goes on alone.

    Raises
    ------
    LaunchError
        If a package is missing, the job has fewer than three tasks, or this is no such job.
    """
    with contextlib.ExitStack() as closing:
        if config.kind == "local":
            yield Cluster(lambda n_steps: closing.enter_context(_local_client(config, n_steps)))
        else:
            client = closing.enter_context(_rank_client(config))
            yield Cluster(lambda _: client)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def _local_client(config: ClusterConfig, n_steps: int) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    _silence_dask()
    with contextlib.ExitStack() as closing:
        closing.enter_context(dask.config.set(_DASK_SETTINGS))
        with _interrupts_held_back():
            cluster = closing.enter_context(
                LocalCluster(
                    n_workers=min(config.workers or available_cores(), n_steps),
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=int(config.memory_gib * 2**30),
                    # No dashboard; what is left of its web server takes any free port.
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"dashboard": False},
                    silence_logs=logging.CRITICAL,
                )
            )
            client = closing.enter_context(Client(cluster))
        yield client


def _silence_dask() -> None:
    """Dask logs each connection, each failed step and each end of a worker; we say what matters."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


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


@contextlib.contextmanager
def _rank_client(config: ClusterConfig) -> Iterator[Client]:
    import dask
    from distributed import Client

    _silence_dask()
    os.environ.update(WORKER_ENVIRONMENT)
    runners = {"slurm": _slurm_runner, "mpi": _mpi_runner}
    options = {
        "scheduler_options": {"dashboard": False},
        "worker_options": {"nthreads": 1, "memory_limit": int(config.memory_gib * 2**30)},
    }
    with dask.config.set(_DASK_SETTINGS), runners[config.kind](config, options) as runner:
        # All ranks but one have ended above, when the scheduler told them to.
        # The runner made an interrupt a plain exit; here it stays an interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Client(runner) as client:
            client.wait_for_workers(1)
            yield client


def _slurm_runner(config: ClusterConfig, options: dict[str, Any]) -> Any:
    """One task of `srun`: roles by SLURM_PROCID, the address through a file on the shared disk."""
    slurm = _import("dask_jobqueue.slurm", kind="slurm", package="dask-jobqueue", extra="slurm")
    n_tasks = os.environ.get("SLURM_NTASKS")
    if n_tasks is None or int(n_tasks) < 3:
        raise LaunchError(
            f"cluster.kind is slurm, but there are {n_tasks or 'no'} Slurm tasks",
            remedy="start it with `srun` and at least 3 tasks: scheduler, this script, workers",
        )
    scheduler_file = str(config.scheduler_file or "scheduler-{job_id}.json")
    return slurm.SLURMRunner(scheduler_file=scheduler_file, **options)


def _mpi_runner(_: ClusterConfig, options: dict[str, Any]) -> Any:
    """One MPI rank: roles by rank, the address by broadcast."""
    mpi = _import("mpi4py.MPI", kind="mpi", package="mpi4py", extra="mpi")
    runner = _import("dask_jobqueue.runner", kind="mpi", package="dask-jobqueue", extra="mpi")
    world = mpi.COMM_WORLD
    if world.size < 3:
        raise LaunchError(
            f"cluster.kind is mpi, but the world has {world.size} ranks",
            remedy="start it with `mpirun -n N` or `srun --mpi=...` and at least 3 ranks: "
            "scheduler, this script, workers",
        )

    base: Any = runner.BaseRunner

    class MpiRunner(base):
        async def get_role(self) -> Any:
            roles = {0: runner.Role.scheduler, 1: runner.Role.client}
            return roles.get(world.rank, runner.Role.worker)

        async def set_scheduler_address(self, scheduler: Any) -> None:
            world.bcast(scheduler.address, root=0)

        async def get_scheduler_address(self) -> str:
            return world.bcast(None, root=0)

        async def get_worker_name(self) -> str:
            return str(world.rank)

    return MpiRunner(**options)


def _import(module: str, *, kind: str, package: str, extra: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LaunchError(
            f"cluster.kind is {kind}, which needs {package} ({error})",
            remedy=f"pip install 'eeg2fmri_dist[{extra}]', or set cluster.kind to local",
        ) from error
    except RuntimeError as error:
        raise LaunchError(
            f"cluster.kind is {kind}: {str(error).partition(chr(10))[0]}",
            remedy="make an MPI library available (such as `module load openmpi`, or "
            "`pip install mpich`), or set cluster.kind to local",
        ) from error
