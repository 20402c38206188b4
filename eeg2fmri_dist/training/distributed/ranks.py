"""Where a process learns its rank: torchrun, Slurm, MPI, or alone.

The launcher is recognized by its environment variables; what they say is written into the five that
``torch.distributed`` reads (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from eeg2fmri_dist.errors import LaunchError

# Below the ports that Linux gives to outgoing connections.
_FIRST_PORT, _PORTS = 20000, 12000
_MPI_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_REMEDIES = {
    "torchrun": "torchrun: --nnodes x --nproc-per-node must be {wanted}",
    "slurm": "srun --ntasks={wanted} starts as many; it can be no more than sbatch asked for "
    "(--nodes, --ntasks-per-node)",
    "mpi": "mpirun -n {wanted} starts as many",
    "alone": "no launcher was seen: start it with torchrun --nproc-per-node={wanted}, "
    "srun --ntasks={wanted} or mpirun -n {wanted} (inside sbatch or salloc, python alone is one "
    "process)",
}


@dataclass(frozen=True)
class Ranks:
    """Place of this process among the processes of a training.

    Attributes
    ----------
    rank, world_size : int
        Number of this process, number of processes.
    local_rank, local_size : int
        The same on this node.
    launcher : str
        Who started it: torchrun, slurm, mpi or alone.
    """

    rank: int
    world_size: int
    local_rank: int
    local_size: int
    launcher: str

    @property
    def is_first(self) -> bool:
        """True on the rank that writes and prints."""
        return self.rank == 0


def discover_ranks(
    expected_world_size: int | None = None, environ: MutableMapping[str, str] = os.environ
) -> Ranks:
    """Find this process's rank and set the variables that ``torch.distributed`` reads.

    Parameters
    ----------
    expected_world_size : int or None
        Ranks that must be there.
    environ : mutable mapping
        Environment; changed in place.

    Raises
    ------
    LaunchError
        If the world is not as large as expected, or the launcher's variables are incomplete or
        contradict what MPI says.
    """
    ranks = _from_environment(environ)
    if expected_world_size is not None and ranks.world_size != expected_world_size:
        raise LaunchError(
            f"{expected_world_size} ranks were asked for (world_size), {ranks.world_size} came up "
            f"(launcher: {ranks.launcher})",
            remedy=_REMEDIES[ranks.launcher].format(wanted=expected_world_size),
        )
    environ["RANK"] = str(ranks.rank)
    environ["WORLD_SIZE"] = str(ranks.world_size)
    environ["LOCAL_RANK"] = str(ranks.local_rank)
    environ.setdefault("MASTER_ADDR", "127.0.0.1")
    environ.setdefault("MASTER_PORT", str(_free_port()))
    return ranks


def _from_environment(environ: MutableMapping[str, str]) -> Ranks:
    if "RANK" in environ and "WORLD_SIZE" in environ:
        return _from_torchrun(environ)
    if _is_slurm_task(environ) and not _has_other_ranks_than_slurm(environ):
        return _from_slurm(environ)
    if any(name in environ for name in (*_MPI_RANKS, *_MPI_SIZES)):
        return _from_mpi(environ)
    return Ranks(0, 1, 0, 1, "alone")


def _is_slurm_task(environ: MutableMapping[str, str]) -> bool:
    # An interactive allocation sets SLURM_* for the shell too: a step id tells srun's tasks.
    return "SLURM_PROCID" in environ and environ.get("SLURM_STEP_ID", "").isdigit()


def _has_other_ranks_than_slurm(environ: MutableMapping[str, str]) -> bool:
    """Tell whether these are ranks of an `mpirun` whose helpers, one a node, are Slurm's tasks."""
    ranks = {environ[name] for name in _MPI_RANKS if name in environ}
    sizes = {environ[name] for name in _MPI_SIZES if name in environ}
    return bool(ranks - {environ["SLURM_PROCID"]} or sizes - {environ.get("SLURM_NTASKS")})


def _from_torchrun(environ: MutableMapping[str, str]) -> Ranks:
    world_size = int(environ["WORLD_SIZE"])
    return Ranks(
        rank=int(environ["RANK"]),
        world_size=world_size,
        local_rank=int(environ.get("LOCAL_RANK", "0")),
        local_size=int(environ.get("LOCAL_WORLD_SIZE", str(world_size))),
        launcher="torchrun",
    )


def _from_slurm(environ: MutableMapping[str, str]) -> Ranks:
    missing = [n for n in ("SLURM_NTASKS", "SLURM_LOCALID") if n not in environ]
    if missing:
        raise LaunchError(
            f"Slurm started this process but {', '.join(missing)} is not set",
            remedy="start it with srun --ntasks=N",
        )
    world_size = int(environ["SLURM_NTASKS"])
    environ.setdefault("MASTER_ADDR", _first_host(environ))
    # The same on all tasks, another one for the next step, and for the next job on this node.
    job, step = int(environ.get("SLURM_JOB_ID", "0")), int(environ["SLURM_STEP_ID"])
    environ.setdefault("MASTER_PORT", str(_FIRST_PORT + (16 * job + step) % _PORTS))
    return Ranks(
        rank=int(environ["SLURM_PROCID"]),
        world_size=world_size,
        local_rank=int(environ["SLURM_LOCALID"]),
        local_size=_tasks_of_node(environ, world_size),
        launcher="slurm",
    )


def _first_host(environ: MutableMapping[str, str]) -> str:
    """First host of a Slurm node list such as ``node[03-05,9],other``."""
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "127.0.0.1")
    found = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    if found is None:
        raise LaunchError(f"cannot read a host name from the Slurm node list {nodes!r}")
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", found.group())


def _tasks_of_node(environ: MutableMapping[str, str], world_size: int) -> int:
    """Tasks of this node, by a list such as ``4(x2),3``: two nodes with 4, then one with 3."""
    per_node: list[int] = []
    listed = environ.get("SLURM_STEP_TASKS_PER_NODE", str(world_size))
    for tasks, nodes in re.findall(r"(\d+)(?:\(x(\d+)\))?", listed):
        per_node += [int(tasks)] * int(nodes or 1)
    return per_node[int(environ.get("SLURM_NODEID", "0"))]


def _from_mpi(environ: MutableMapping[str, str]) -> Ranks:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"started by MPI, but mpi4py cannot be used ({str(error).splitlines()[0]})",
            remedy='pip install "eeg2fmri_dist[mpi]" with the cluster\'s MPI module loaded',
        ) from None
    world = MPI.COMM_WORLD
    started = {environ[name] for name in _MPI_SIZES if name in environ}
    if started - {str(world.size)}:
        raise LaunchError(
            f"mpirun started {max(started)} ranks, but each of them is alone: mpi4py uses another "
            f"MPI ({MPI.Get_library_version().splitlines()[0].strip()})",
            remedy="use the mpirun of that MPI, or install mpi4py for the MPI whose mpirun it is",
        )
    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    address, port = world.bcast(
        (MPI.Get_processor_name(), _free_port()) if world.rank == 0 else None
    )
    environ.setdefault("MASTER_ADDR", address if world.size > node.size else "127.0.0.1")
    environ.setdefault("MASTER_PORT", str(port))
    return Ranks(world.rank, world.size, node.rank, node.size, "mpi")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
