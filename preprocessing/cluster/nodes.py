"""A Dask cluster of several processes that were started elsewhere: tasks of Slurm, or MPI ranks.

The same command runs in every task. Each has workers, as many as it has cores and memory for;
the first has the scheduler and goes on with the pipeline besides. All connections are TLS with
credentials made for this one job. They and the scheduler's address lie in a folder that only the
user can enter, on the disk that all tasks see.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from eeg2fmri_dist.config.preprocess import ClusterConfig
from eeg2fmri_dist.errors import LaunchError
from eeg2fmri_dist.files.atomic import write_json
from preprocessing.cluster.credentials import make_credentials

if TYPE_CHECKING:
    from distributed import Client, Security

logger = logging.getLogger(__name__)

# Beside the shards; the next run removes what a killed one left.
MEETING_PREFIX = ".dask-"
_LOOPBACK = "127.0.0.1"
_DASHBOARD_PORT = 8787
# Starting Python on all nodes from a busy shared disk takes a while.
_MEETING_TIMEOUT_S = 300


@dataclass(frozen=True)
class Task:
    """One of the processes that form the cluster.

    Attributes
    ----------
    rank : int
        0 = the one with the scheduler.
    job : str
        Same in all tasks of this job and in no other.
    n_workers : int
        Worker processes of this task.
    """

    rank: int
    job: str
    n_workers: int

    def meeting_place(self, folder: Path) -> Path:
        """Return the folder, in one that all tasks see, in which they find each other."""
        return folder / f"{MEETING_PREFIX}{self.job}"


def slurm_task(config: ClusterConfig) -> Task:
    """Return which task of a Slurm step this is.

    Raises
    ------
    LaunchError
        If it is none.
    """
    try:
        rank = int(os.environ["SLURM_PROCID"])
        job = "-".join(os.environ[f"SLURM_{name}"] for name in ("JOB_ID", "STEP_ID"))
    except (KeyError, ValueError):
        raise LaunchError(
            "cluster.name is slurm, but this is no task of Slurm",
            remedy="use `sbatch slurm/preprocess.sbatch CONFIG`, or `srun` in your own batch file",
        ) from None
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    cores = int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    n_workers = config.workers or fitting_workers(config, cores, _slurm_memory_gib(cores))
    return Task(rank, f"{job}-{restart}", n_workers)


def mpi_task(config: ClusterConfig) -> Task:
    """Return which MPI rank this is; each is one worker unless the config says otherwise.

    Raises
    ------
    LaunchError
        If mpi4py or an MPI library is missing.
    """
    mpi = import_optional("mpi4py.MPI", kind="mpi", package="mpi4py", extra="mpi")
    world = mpi.COMM_WORLD
    job = world.bcast(secrets.token_hex(8) if world.rank == 0 else None, root=0)
    return Task(world.rank, str(job), config.workers or 1)


def fitting_workers(config: ClusterConfig, cores: int, memory_gib: float) -> int:
    """Return how many workers cores and memory are enough for: at least one."""
    fitting = max(1, min(cores, int(memory_gib / config.memory_gib)))
    if fitting < cores:
        logger.info(
            "%d workers on %d cores of %s: %.1f GiB are there, each may use %g "
            "(cluster.memory_gib)",
            *(fitting, cores, socket.gethostname(), memory_gib, config.memory_gib),
        )
    return fitting


@contextlib.contextmanager
def client_of_tasks(task: Task, config: ClusterConfig, folder: Path) -> Iterator[Client]:
    """Start scheduler and workers of the first task; the other tasks serve and end here.

    Parameters
    ----------
    task : Task
    config : ClusterConfig
    folder : Path
        Folder that all tasks see; the meeting place is made in it, and removed at the end.

    Raises
    ------
    LaunchError
        If the tasks do not find each other.
    SystemExit
        In tasks other than the first, when the scheduler has closed.
    """
    place = task.meeting_place(folder)
    check_folder(folder)
    if task.rank > 0:
        _serve(task, config, place)
        sys.exit(0)
    from distributed import Client, Nanny, Scheduler, SpecCluster

    with _saying_when_it_ended(place), meeting_place(place) as security:
        options = worker_options(config, security)
        workers = {
            f"0-{number}": {"cls": Nanny, "options": options} for number in range(task.n_workers)
        }
        scheduler = {"cls": Scheduler, "options": scheduler_options(config, security)}
        with (
            SpecCluster(
                workers=workers, scheduler=scheduler, security=security, silence_logs=False
            ) as cluster,
            Client(cluster) as client,
        ):
            announce(cluster, config)
            write_json(place / "scheduler.json", {"address": cluster.scheduler_address})
            yield client


def check_folder(folder: Path) -> None:
    """Make the folder in which tasks meet.

    Raises
    ------
    LaunchError
        If this user may not write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise LaunchError(
            f"cannot be written ({error.strerror})",
            where=folder,
            remedy="set another `output`, or ask for write permission",
        ) from error


@contextlib.contextmanager
def meeting_place(place: Path) -> Iterator[Security]:
    """Make a folder of the user alone with new credentials; it is removed on leaving."""
    place.mkdir(mode=0o700)
    try:
        make_credentials(place / "credentials.pem")
        yield _security(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def forget_meetings(folder: Path, keep: Path | None) -> None:
    """Remove what earlier jobs left in a folder, but not the meeting place of this one."""
    for left in set(folder.glob(f"{MEETING_PREFIX}*")) - {keep}:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def scheduler_options(config: ClusterConfig, security: Security) -> dict[str, Any]:
    """Return what a scheduler off the loopback needs to be told."""
    wanted = _has_dashboard(config)
    host = "" if config.dashboard == "network" and wanted else _LOOPBACK
    return {
        "security": security,
        "protocol": "tls://",
        "interface": config.interface,
        "dashboard": wanted,
        "dashboard_address": f"{host}:{_DASHBOARD_PORT if wanted else 0}",
    }


def worker_options(config: ClusterConfig, security: Security) -> dict[str, Any]:
    """Return what each worker off the loopback needs to be told.

    A worker listens on the address from which it reaches the scheduler.
    """
    return {
        "nthreads": 1,
        "memory_limit": int(config.memory_gib * 2**30),
        "security": security,
        "protocol": "tls://",
        # Its small web server takes no part in TLS.
        "dashboard": False,
        "dashboard_address": f"{_LOOPBACK}:0",
        "death_timeout": 60,
        "silence_logs": logging.CRITICAL,
    }


def announce(cluster: Any, config: ClusterConfig) -> None:
    """Log where the scheduler is, and how to see its dashboard."""
    host = socket.gethostname()
    logger.info("Dask scheduler on %s: %s", host, cluster.scheduler_address)
    if not _has_dashboard(config):
        logger.info("no Dask dashboard (cluster.dashboard is off, or bokeh is not installed)")
        return
    port = cluster.scheduler_info["services"]["dashboard"]
    tunnel = shlex.join(["ssh", "-N", "-L", f"{port}:{_LOOPBACK}:{port}", host])
    logger.info("Dask dashboard: http://%s:%d, there; from elsewhere: %s", _LOOPBACK, port, tunnel)


def _has_dashboard(config: ClusterConfig) -> bool:
    return config.dashboard != "off" and find_spec("bokeh") is not None


def import_optional(module: str, *, kind: str, package: str, extra: str) -> ModuleType:
    """Import what only one kind of cluster needs.

    Raises
    ------
    LaunchError
        If it is not installed, or if there is no MPI library.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LaunchError(
            f"cluster.name is {kind}, which needs {package} ({error})",
            remedy=f"pip install 'eeg2fmri_dist[{extra}]', or set cluster.name to local",
        ) from error
    except RuntimeError as error:
        raise LaunchError(
            f"cluster.name is {kind}: {str(error).partition(chr(10))[0]}",
            remedy="make an MPI library available (such as `module load openmpi`, or "
            "`pip install mpich`), or set cluster.name to local",
        ) from error


def _serve(task: Task, config: ClusterConfig, place: Path) -> None:
    """Run workers until the scheduler closes or is lost."""
    import asyncio

    # Worker processes end with this one, whatever ends it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    address = _scheduler_address(place)
    if address is None:
        return
    try:
        asyncio.run(_run_workers(task, config, address, _security(place)))
    except (OSError, RuntimeError, TimeoutError) as error:
        # A short job may be over before all workers are there.
        if not _has_ended(place):
            raise LaunchError(
                f"no workers on {socket.gethostname()}: {error}",
                where=address,
                remedy="check that nodes reach each other; cluster.interface names the network",
            ) from error


async def _run_workers(task: Task, config: ClusterConfig, address: str, security: Security) -> None:
    import asyncio

    from distributed import Nanny

    options = worker_options(config, security)
    nannies = [
        Nanny(address, name=f"{task.rank}-{number}", **options) for number in range(task.n_workers)
    ]
    await asyncio.gather(*nannies)
    await asyncio.gather(*(nanny.finished() for nanny in nannies))


@contextlib.contextmanager
def _saying_when_it_ended(place: Path) -> Iterator[None]:
    """Tell tasks that come late not to wait."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _end_mark(place).touch()


def _end_mark(place: Path) -> Path:
    return place.with_name(f"{place.name}.ended")


def _has_ended(place: Path) -> bool:
    return _end_mark(place).exists() or not place.exists()


def _scheduler_address(place: Path) -> str | None:
    """Wait for the first task, which says where its scheduler is; None = it has ended already."""
    path = place / "scheduler.json"
    deadline = time.monotonic() + _MEETING_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            # A look at the folder makes a network file system ask its server again.
            os.listdir(place.parent)
            if _end_mark(place).exists():
                return None
            return str(json.loads(path.read_text(encoding="utf-8"))["address"])
        time.sleep(0.2)
    raise LaunchError(
        f"{socket.gethostname()} found no scheduler within {_MEETING_TIMEOUT_S} s",
        where=path,
        remedy="look for an error of the first task; the folder must be on a disk that all "
        "nodes share",
    )


def _security(place: Path) -> Security:
    from distributed import Security

    pem = str(place / "credentials.pem")
    roles = {f"tls_{role}_cert": pem for role in ("client", "scheduler", "worker")}
    return Security(require_encryption=True, tls_ca_file=pem, **roles)


def _slurm_memory_gib(cores: int) -> float:
    """Memory that Slurm gives to a task of so many cores."""
    if per_cpu := int(os.environ.get("SLURM_MEM_PER_CPU", "0")):
        return cores * per_cpu / 1024
    if per_node := int(os.environ.get("SLURM_MEM_PER_NODE", "0")):
        return per_node / 1024 / int(os.environ.get("SLURM_NTASKS_PER_NODE", "1"))
    return node_memory_gib()


def node_memory_gib() -> float:
    """Memory of this machine, or of the control group that this process is confined to."""
    from distributed.system import MEMORY_LIMIT

    return float(MEMORY_LIMIT / 2**30)
