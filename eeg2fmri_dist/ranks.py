"""Where a process learns its rank: torchrun, Slurm, MPI, or alone.

The launcher is recognised by its environment variables; what they say is written into the five that
``torch.distributed`` reads (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from eeg2fmri_dist.errors import LaunchError

_FIRST_PORT, _PORTS = 20000, 20000


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
        If the world is not as large as expected, or the launcher's variables are incomplete.
    """
    ranks = _from_environment(environ)
    if expected_world_size is not None and ranks.world_size != expected_world_size:
        raise LaunchError(
            f"{expected_world_size} ranks were asked for (world_size), {ranks.world_size} came up "
            f"(launcher: {ranks.launcher})",
            remedy="start them with torchrun --nproc-per-node, srun --ntasks or mpirun -n; "
            "mpirun needs mpi4py built for the same MPI",
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
    if any(name in environ for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK")):
        return _from_mpi(environ)
    # An interactive allocation sets SLURM_* for the shell too: a step id tells srun's tasks.
    if "SLURM_PROCID" in environ and environ.get("SLURM_STEP_ID", "").isdigit():
        return _from_slurm(environ)
    return Ranks(0, 1, 0, 1, "alone")


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
    port = _FIRST_PORT + int(environ.get("SLURM_JOB_ID", "0")) % _PORTS
    environ.setdefault("MASTER_PORT", str(port))
    per_node = re.match(r"\d+", environ.get("SLURM_STEP_TASKS_PER_NODE", str(world_size)))
    return Ranks(
        rank=int(environ["SLURM_PROCID"]),
        world_size=world_size,
        local_rank=int(environ["SLURM_LOCALID"]),
        local_size=int(per_node.group()) if per_node else 1,
        launcher="slurm",
    )


def _first_host(environ: MutableMapping[str, str]) -> str:
    """First host of a Slurm node list such as ``node[03-05,9],other``."""
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "127.0.0.1")
    found = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    if found is None:
        raise LaunchError(f"cannot read a host name from the Slurm node list {nodes!r}")
    return found.group(1) + (found.group(2) or "")


def _from_mpi(environ: MutableMapping[str, str]) -> Ranks:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise LaunchError(
            f"started by MPI, but mpi4py cannot be used ({error})",
            remedy='pip install "eeg2fmri_dist[mpi]" with the cluster\'s MPI module loaded',
        ) from None
    world = MPI.COMM_WORLD
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
