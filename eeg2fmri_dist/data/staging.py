"""Copy a store to the disks of the nodes, reading it once from the shared file system.

``python -m eeg2fmri_dist.data.staging STORE FOLDER`` runs as one task per node. With MPI, the first
task reads and broadcasts; without, each node reads for itself. A copy is named after the store's
fingerprint and gets its name when its checksum is right; a node without a copy reads the shared
store.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from eeg2fmri_dist.cli.signals import leave_on_signals
from eeg2fmri_dist.errors import StoreError
from eeg2fmri_dist.files.atomic import replacing
from eeg2fmri_dist.store import Store

logger = logging.getLogger(__name__)

SCRATCH_VARIABLE = "EEG2FMRI_SCRATCH"
_BLOCK_BYTES = 2**26
_MPI_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")


def staged_copy(store: Path) -> Path:
    """Return the copy of a store on this node, or the store itself where there is none."""
    folder = os.environ.get(SCRATCH_VARIABLE)
    if not folder:
        return store
    copy = _place_of_copy(store, Path(folder))
    if not copy.exists():
        return store
    logger.info("the store is %s; reading its copy in %s", store, folder)
    return copy


def stage(store: Path, folder: Path) -> str:
    """Copy a store into a folder of this node (called by one task per node).

    Parameters
    ----------
    store : Path
        On the shared file system.
    folder : Path
        On a disk of the node; made if it is missing.

    Returns
    -------
    str
        What was done, or why there is no copy; never an exception for want of space or rights.
    """
    copy = _place_of_copy(store, folder)
    world = _world()
    wanted = not copy.exists()
    if not any(world.allgather(wanted) if world else [wanted]):
        return f"the store is in {folder} already"
    problem = _no_place(store, folder) if wanted else ""
    blocks = _broadcast(store, world) if world else _read(store)
    how = "read once and broadcast" if world else "read by this node (no MPI)"
    if problem or not wanted:
        for _ in blocks:  # the others count on this task
            pass
        return problem or f"the store is in {folder} already"
    try:
        digest = _write(blocks, copy)
    except OSError as error:
        for _ in blocks:
            pass
        return f"no copy of the store: {error.strerror}; reading the shared one"
    return f"the store is copied to {folder}: {how}, SHA-256 {digest[:12]}"


def _write(blocks: Iterator[bytes], copy: Path) -> str:
    """Write a copy, read it again and compare; return its SHA-256."""
    sent = hashlib.sha256()
    with replacing(copy) as temporary:
        with temporary.open("wb") as file:
            for block in blocks:
                sent.update(block)
                file.write(block)
        with temporary.open("rb") as file:
            written = hashlib.file_digest(file, "sha256").hexdigest()
        if written != sent.hexdigest():
            raise OSError(0, "the copy differs from what was sent")
    return written


def _read(store: Path) -> Iterator[bytes]:
    with store.open("rb") as file:
        yield from _blocks(file)


def _broadcast(store: Path, world: Any) -> Iterator[bytes]:
    """Yield the blocks of a file that only the first task reads."""
    with contextlib.ExitStack() as closing:
        source = _blocks(closing.enter_context(store.open("rb"))) if world.rank == 0 else None
        while True:
            block = world.bcast(next(source, b"") if source else None)
            if not block:
                return
            yield block


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK_BYTES):
        yield block


def _place_of_copy(store: Path, folder: Path) -> Path:
    return folder / f"eeg2fmri-{Store(store).fingerprint[:16]}.h5"


def _no_place(store: Path, folder: Path) -> str:
    """Say why a copy cannot be made; empty if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"no copy of the store: {folder}: {error.strerror}; reading the shared one"
    needed = store.stat().st_size
    if free < needed:
        return (
            f"no copy of the store: {folder} has {free / 2**30:.1f} GiB free, "
            f"{needed / 2**30:.1f} are needed; reading the shared one"
        )
    return ""


def _world() -> Any:
    """Return the MPI world if it holds all tasks of this step; None without a usable MPI."""
    # Some MPI libraries end a process that no MPI launcher has started.
    if not any(name in os.environ for name in _MPI_VARIABLES):
        return None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return None
    expected = int(os.environ.get("SLURM_NTASKS", str(MPI.COMM_WORLD.size)))
    return MPI.COMM_WORLD if MPI.COMM_WORLD.size == expected else None


def main() -> int:
    """Stage by the command line."""
    leave_on_signals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    try:
        done = stage(arguments.store, arguments.folder)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{socket.gethostname()}: {done}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
