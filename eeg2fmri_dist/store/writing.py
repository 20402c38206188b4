"""Write one recording's shard, and merge shards into a store, so that no half file is ever seen."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from eeg2fmri_dist.errors import DataError, LaunchError, StoreError
from eeg2fmri_dist.files.atomic import replacing
from eeg2fmri_dist.store import contents
from eeg2fmri_dist.store.confounds import (
    check_confounds,
    damaged_confounds,
    join_confounds,
    read_confounds,
    write_confounds,
)
from eeg2fmri_dist.store.copying import copy_rows
from eeg2fmri_dist.store.left_out import join_left_out, read_left_out, write_left_out
from eeg2fmri_dist.store.matching import common_index
from eeg2fmri_dist.store.reading import chunk_offsets, open_checked
from eeg2fmri_dist.store.schema import (
    DESCRIPTIONS,
    FLOAT,
    ROW_DATASETS,
    Atlas,
    Confounds,
    Layout,
    LeftOut,
    RecordingEntry,
    crc,
    fingerprint,
    small_checksums,
)

# HDF5's own index nodes gather in blocks of this size, so that the chunks lie back to back.
_META_BLOCK_BYTES = 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_shard(
    path: str | os.PathLike[str],
    layout: Layout,
    entry: RecordingEntry,
    eeg: np.ndarray,
    bold: np.ndarray,
    compression: str = "none",
    confounds: Confounds | None = None,
) -> None:
    """Write a store that holds one recording.

    Parameters
    ----------
    path : path-like
        File to write; it appears whole or not at all.
    layout : Layout
        What the recording shares with the others of the store to be.
    entry : RecordingEntry
        The recording; `first_sample` must be 0.
    eeg : ndarray of float32, (sample, channel, frequency)
        Power, unit as `layout.eeg_unit`.
    bold : ndarray of float32, (sample, x, y, z)
        Volumes on the grid of `layout.mask`.
    compression : {"none", "gzip"}
        Chunks without compression can be mapped into memory by readers.
    confounds : Confounds, optional
        Nuisance regressors of the samples.

    Raises
    ------
    DataError
        If shapes disagree with the layout, or a value is NaN or infinite.
    LaunchError
        If the disk is full.
    """
    _check_layout(layout, where=entry.key)
    _check_rows("eeg", eeg, layout, entry)
    _check_rows("bold", bold, layout, entry)
    if entry.first_sample != 0:
        raise DataError("the first sample of a shard is 0", where=entry.key)
    if confounds is not None:
        check_confounds(confounds, entry.n_samples, where=entry.key)
    rows = {"eeg": eeg, "bold": bold}
    rows["bold_mean"], rows["bold_std"] = _voxel_statistics(bold)
    needed_bytes = eeg.nbytes + bold.nbytes
    with _whole_file(Path(path), needed_bytes) as temporary, _hdf5_file(temporary) as file:
        contents.write_layout(file, layout)
        contents.create_rows(file, layout, entry.n_samples, 1, compression)
        checksums = {name: _write_rows(file[name], rows[name]) for name in ROW_DATASETS}
        _write_index(file, layout, [entry], checksums, confounds)


def merge(
    shards: Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    atlases: dict[str, Atlas] | None = None,
    left_out: Sequence[LeftOut] = (),
) -> None:
    """Merge stores into one; rows are copied as they are, in the order given.

    Parameters
    ----------
    shards : sequence of path-like
        Stores of one layout.
    path : path-like
        Store to write; it appears whole or not at all.
    atlases : dict of str to Atlas, optional
        Region labels of the new store; without them, those of the shards.
    left_out : sequence of LeftOut
        Recordings that the new store does not hold, besides those that the shards name.

    Raises
    ------
    StoreError
        If there is none, one is damaged or does not match, or a recording comes twice.
    LaunchError
        If the disk is full.
    """
    if not shards:
        raise StoreError("no shards to merge", where=path)
    sources = [Path(shard) for shard in shards]
    layout, compression, recordings = common_index(sources)
    if atlases is not None:
        layout = dataclasses.replace(layout, atlases=atlases)
        _check_layout(layout, where=str(path))
    needed_bytes = sum(source.stat().st_size for source in sources)
    n_samples = sum(entry.n_samples for entry in recordings)
    with _whole_file(Path(path), needed_bytes) as temporary:
        with _hdf5_file(temporary) as file:
            contents.write_layout(file, layout)
            contents.create_rows(file, layout, n_samples, len(recordings), compression)
            places = _copy_or_place(sources, file, compression)
            confounds = join_confounds(map(_confounds, sources))
            _write_index(file, layout, recordings, _stored_checksums(sources), confounds)
            tables = [left_out, *map(_left_out, sources)]
            write_left_out(file, join_left_out(tables, recordings))
        copy_rows(sources, temporary, places)


def _copy_or_place(
    sources: Sequence[Path], file: h5py.File, compression: str
) -> dict[str, np.ndarray]:
    """Copy compressed chunks; of others, return the places in the file that wait for them."""
    if compression != "none":
        for name in ROW_DATASETS:
            _copy_chunks(sources, file[name])
        return {}
    return {name: chunk_offsets(file[name], file.id.get_filesize()) for name in ROW_DATASETS}


def _write_index(
    file: h5py.File,
    layout: Layout,
    recordings: Sequence[RecordingEntry],
    checksums: dict[str, np.ndarray],
    confounds: Confounds | None,
) -> None:
    """Write what is known once the rows are there: recordings, checksums, fingerprint."""
    contents.write_recordings(file, recordings)
    if confounds is not None:
        write_confounds(file, confounds)
    for group in (checksums, small_checksums(layout, recordings)):
        contents.write_checksums(file, group)
    file["checksums"].attrs["description"] = DESCRIPTIONS["checksums"]
    file.attrs["fingerprint"] = fingerprint(layout, recordings, checksums)


def _write_rows(dataset: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Write row by row, in order; return the checksums."""
    checksums = np.empty(len(rows), "u4")
    origin = (0,) * (rows.ndim - 1)
    for index, row in enumerate(rows):
        row = np.ascontiguousarray(row, FLOAT)
        checksums[index] = crc(row)
        if dataset.compression is None:
            dataset.id.write_direct_chunk((index, *origin), row)
        else:
            dataset[index] = row
    return checksums


def _copy_chunks(sources: Sequence[Path], target: h5py.Dataset) -> None:
    """Copy the compressed chunks of one data set of all sources.

    They carry checksums of their own, which readers check.
    """
    origin = (0,) * (target.ndim - 1)
    first = 0
    for source in sources:
        with open_checked(source) as file:
            rows = file[target.name]
            for index in range(rows.shape[0]):
                filter_mask, chunk = rows.id.read_direct_chunk((index, *origin))
                target.id.write_direct_chunk((first + index, *origin), chunk, filter_mask)
            first += rows.shape[0]


def _stored_checksums(sources: Sequence[Path]) -> dict[str, np.ndarray]:
    """Checksums of the rows of all sources."""
    stored: dict[str, list[np.ndarray]] = {name: [] for name in ROW_DATASETS}
    for source in sources:
        with open_checked(source) as file:
            for name, checksums in stored.items():
                checksums.append(file[f"checksums/{name}"][()])
    return {name: np.concatenate(checksums) for name, checksums in stored.items()}


def _confounds(path: Path) -> tuple[Confounds | None, int]:
    with open_checked(path) as file:
        for problem in damaged_confounds(file):
            raise ValueError(problem)
        return read_confounds(file), len(file["bold"])


def _left_out(path: Path) -> tuple[LeftOut, ...]:
    with open_checked(path) as file:
        return read_left_out(file)


def _check_layout(layout: Layout, where: str) -> None:
    if layout.mask.ndim != 3 or layout.affine.shape != (4, 4):
        raise DataError(
            f"mask {layout.mask.shape} must be 3-D, affine {layout.affine.shape} 4 x 4", where=where
        )
    for name, atlas in layout.atlases.items():
        if atlas.labels.shape != layout.mask.shape:
            raise DataError(
                f"atlas {name} {atlas.labels.shape} is not on the grid {layout.grid}", where=where
            )


def _check_rows(name: str, rows: np.ndarray, layout: Layout, entry: RecordingEntry) -> None:
    expected = (entry.n_samples, *layout.row_shape(name))
    if rows.shape != expected or entry.n_samples < 1:
        raise DataError(f"{name} has shape {rows.shape}, expected {expected}", where=entry.key)
    for index, row in enumerate(rows):
        if not np.isfinite(row).all():
            raise DataError(
                f"{name} of sample {index} has NaN or infinite values",
                where=entry.key,
                remedy="look at the recording: a flat channel or a damaged volume does this",
            )


def _voxel_statistics(bold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over samples, (1, x, y, z) each, summed in double precision."""
    mean = bold.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for volume in bold:
        squares += np.square(volume - mean)
    return mean[None].astype(FLOAT), np.sqrt(squares / len(bold))[None].astype(FLOAT)


class _PatientFile(io.FileIO):
    """A file that notes a failed write and goes on, because HDF5 can crash closing after one."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        rest = memoryview(content)
        try:
            while self.error is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return self.tell() if size is None else size


@contextlib.contextmanager
def _hdf5_file(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file."""
    with _PatientFile(path, "w+") as disk:
        with h5py.File(disk, "w", meta_block_size=_META_BLOCK_BYTES) as file:
            yield file
        if disk.error is not None:
            raise disk.error


@contextlib.contextmanager
def _whole_file(path: Path, needed_bytes: int) -> Iterator[Path]:
    """A temporary path for a file that takes its name once it is whole and on the disk."""
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise LaunchError(f"cannot be written ({error.strerror})", where=path) from error
        raise LaunchError(
            f"no space left on the disk: the file needs {needed_bytes:,} bytes",
            where=path,
            remedy="free space or set another `output`, then start the same command again",
        ) from error
