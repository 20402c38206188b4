"""Put whole stores together: into a new one, or onto the end of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eeg2fmri_dist.errors import StoreError
from eeg2fmri_dist.files.atomic import replacing
from eeg2fmri_dist.store.reading import Store
from eeg2fmri_dist.store.verifying import verify
from eeg2fmri_dist.store.writing import merge


def merge_stores(sources: Sequence[Path], output: Path) -> Store:
    """Merge stores into a new one, and verify it before it takes its name.

    One chunk is in memory at a time. The sources stay as they are.

    Parameters
    ----------
    sources : sequence of Path
        Stores, in the order in which their recordings shall lie.
    output : Path
        Store to write.

    Returns
    -------
    Store
        The new one.

    Raises
    ------
    StoreError
        If `output` exists; if the sources do not match, hold a recording twice, or are damaged.
    LaunchError
        If the disk is full.
    """
    if output.exists():
        raise StoreError(
            "exists already", where=output, remedy="name another file, or remove this one"
        )
    _write(sources, output)
    return Store(output)


def append_stores(path: Path, others: Sequence[Path]) -> Store:
    """Append the recordings of other stores to one, which is replaced once the whole is verified.

    The disk holds both for a moment.

    Parameters
    ----------
    path : Path
        Store to append to.
    others : sequence of Path
        Stores whose recordings follow.

    Returns
    -------
    Store
        The longer one.

    Raises
    ------
    StoreError
        As `merge_stores`; or if launch/preprocess.py keeps the store, which would undo it.
    LaunchError
        If the disk is full.
    """
    Store(path).close()  # refuses what is no store
    shards = path.with_suffix(".shards")
    if shards.is_dir():
        raise StoreError(
            f"{shards.name} lies beside it: launch/preprocess.py makes this store of its shards, "
            "and would make it again without what is appended",
            where=path,
            remedy="add the recordings to its config, or merge the stores into a third",
        )
    _write([path, *others], path)
    return Store(path)


def _write(sources: Sequence[Path], output: Path) -> None:
    with replacing(output) as temporary:
        merge(sources, temporary)
        if problems := verify(temporary):
            raise StoreError(
                f"the merged store is not whole: {problems[0]}",
                where=output,
                remedy="verify the stores that it was made of; the disk may be failing",
            )
