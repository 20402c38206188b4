"""Read a store: uncompressed chunks are mapped into memory, compressed ones go through h5py."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from eeg2fmri_dist.errors import StoreError
from eeg2fmri_dist.store import contents
from eeg2fmri_dist.store.confounds import read_confounds
from eeg2fmri_dist.store.left_out import read_left_out
from eeg2fmri_dist.store.schema import (
    FLOAT,
    FORMAT,
    FORMAT_VERSION,
    ROW_DATASETS,
    Confounds,
    Layout,
    LeftOut,
    RecordingEntry,
)

# What h5py raises when it meets damaged structures.
DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)
_MAKE_AGAIN = "run the same preprocessing command again: it rebuilds what is missing or damaged"


class Store:
    """A store of samples, opened lazily in each process and safe to pickle.

    Parameters
    ----------
    path : path-like
        HDF5 file written by `write_shard` or `merge`.

    Attributes
    ----------
    path : Path

    Raises
    ------
    StoreError
        If the file is missing, truncated, no store, of another format version, or damaged; in
        another process also if the file was replaced by other contents meanwhile.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._open_store: _OpenStore | None = None
        self._expected_fingerprint: str | None = None
        self._expected_fingerprint = self.fingerprint

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the contents."""
        return self._opened().fingerprint

    @property
    def layout(self) -> Layout:
        """Channels, frequencies, grid, mask, atlases, settings."""
        return self._opened().layout

    @property
    def recordings(self) -> tuple[RecordingEntry, ...]:
        """The recordings, in the order of their samples."""
        return self._opened().recordings

    @property
    def n_samples(self) -> int:
        """Number of samples of all recordings."""
        return len(self._opened().rows["bold"])

    @property
    def grid(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        return self.layout.grid

    @property
    def is_mapped(self) -> bool:
        """Whether windows are views of the file mapped into memory."""
        return isinstance(self._opened().rows["bold"], _MappedRows)

    def eeg(self, start: int, stop: int) -> np.ndarray:
        """Return the EEG of samples ``[start, stop)``, float32 (sample, channel, frequency).

        The array is a read-only view of the file where the store is mapped and the samples lie
        back to back, else a copy.
        """
        return self._read("eeg", start, stop)

    def bold(self, start: int, stop: int) -> np.ndarray:
        """Return the volumes of samples ``[start, stop)``, float32 (sample, x, y, z).

        View or copy as for `eeg`.
        """
        return self._read("bold", start, stop)

    def bold_mean(self, recording: int) -> np.ndarray:
        """Return the voxelwise mean of one recording (index into `recordings`), (x, y, z)."""
        return self._read("bold_mean", recording, recording + 1)[0]

    def bold_std(self, recording: int) -> np.ndarray:
        """Return the voxelwise standard deviation of one recording, (x, y, z)."""
        return self._read("bold_std", recording, recording + 1)[0]

    @property
    def confounds(self) -> Confounds | None:
        """Nuisance regressors of the samples, read anew each time; None where there are none."""
        with open_checked(self.path) as file:
            return read_confounds(file)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Recordings that were excluded or failed, and why; read anew each time."""
        with open_checked(self.path) as file:
            return read_left_out(file)

    def close(self) -> None:
        """Let go of the file; it is opened again when next needed. Views stay valid."""
        if self._open_store is not None and self._open_store.pid == os.getpid():
            self._open_store.file.close()
        self._open_store = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open_store": None}

    def _read(self, dataset: str, start: int, stop: int) -> np.ndarray:
        rows = self._opened().rows[dataset]
        if not 0 <= start <= stop <= len(rows):
            raise IndexError(f"{dataset}[{start}:{stop}] is outside 0..{len(rows)} of {self.path}")
        try:
            return rows.read(start, stop)
        except OSError as error:
            raise StoreError(
                f"{dataset} {start} to {stop} cannot be read ({error})",
                where=self.path,
                remedy=_MAKE_AGAIN,
            ) from error

    def _opened(self) -> _OpenStore:
        # HDF5 handles must not cross a fork: another process id means opening anew.
        if self._open_store is None or self._open_store.pid != os.getpid():
            opened = _open(self.path)
            if self._expected_fingerprint not in (None, opened.fingerprint):
                raise StoreError(
                    "the file was replaced by other contents while it was in use",
                    where=self.path,
                    remedy="start the command again",
                )
            self._open_store = opened
        return self._open_store


class _Rows(Protocol):
    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> np.ndarray: ...


class _FileRows:
    """Rows read through h5py."""

    def __init__(self, dataset: h5py.Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return int(self.dataset.shape[0])

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.dataset[start:stop]


class _MappedRows:
    """Rows in a memory-mapped file, one uncompressed chunk a row."""

    def __init__(self, mapping: mmap.mmap, offsets: np.ndarray, row_shape: tuple[int, ...]):
        self.mapping, self.offsets, self.row_shape = mapping, offsets, row_shape
        row_bytes = int(np.prod(row_shape)) * FLOAT.itemsize
        # Rows of one number lie back to back.
        self.stretch = np.cumsum(np.diff(offsets, prepend=offsets[:1]) != row_bytes)

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, start: int, stop: int) -> np.ndarray:
        if start == stop:
            return np.empty((0, *self.row_shape), FLOAT)
        if self.stretch[start] == self.stretch[stop - 1]:
            return self._view(start, stop - start)
        return np.concatenate([self._view(index, 1) for index in range(start, stop)])

    def _view(self, start: int, count: int) -> np.ndarray:
        shape = (count, *self.row_shape)
        offset = int(self.offsets[start])
        values = np.frombuffer(self.mapping, FLOAT, count=int(np.prod(shape)), offset=offset)
        return values.reshape(shape)


@dataclass(frozen=True)
class _OpenStore:
    """What one process knows of an open store; `file` is closed already where rows are mapped."""

    pid: int
    fingerprint: str
    layout: Layout
    recordings: tuple[RecordingEntry, ...]
    rows: dict[str, _Rows]
    file: h5py.File


@contextlib.contextmanager
def open_checked(path: Path) -> Iterator[h5py.File]:
    """Open a store with h5py, for reading alone in the block; format and version are checked.

    Raises
    ------
    StoreError
        If it cannot be opened, is no store of this version, or turns out damaged in the block.
    """
    with _open_file(path) as file, damage_named(path):
        _check_version(file, path)
        yield file


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raise what a damaged file makes h5py or us raise in the block as a StoreError of its name."""
    try:
        yield
    except DAMAGE as error:
        raise StoreError(
            f"damaged ({type(error).__name__}: {error})", where=path, remedy=_MAKE_AGAIN
        ) from error


def _open(path: Path) -> _OpenStore:
    file = _open_file(path)
    try:
        with damage_named(path):
            _check_version(file, path)
            opened = _read_index(file)
    except StoreError:
        file.close()
        raise
    if isinstance(opened.rows["bold"], _MappedRows):
        file.close()
    return opened


def _read_index(file: h5py.File) -> _OpenStore:
    opened = _OpenStore(
        pid=os.getpid(),
        fingerprint=str(file.attrs["fingerprint"]),
        layout=contents.read_layout(file),
        recordings=contents.read_recordings(file),
        rows=_map_rows(file) or {name: _FileRows(file[name]) for name in ROW_DATASETS},
        file=file,
    )
    _check_counts(opened)
    return opened


def _map_rows(file: h5py.File) -> dict[str, _Rows] | None:
    """Map all row data sets, or None where their chunks are not plain."""
    datasets = [file[name] for name in ROW_DATASETS]
    if not all(map(_is_plain, datasets)):
        return None
    mapping = mmap.mmap(file.id.get_vfd_handle(), 0, access=mmap.ACCESS_READ)
    return {
        name: _MappedRows(mapping, chunk_offsets(dataset, len(mapping)), dataset.shape[1:])
        for name, dataset in zip(ROW_DATASETS, datasets, strict=True)
    }


def _is_plain(dataset: h5py.Dataset) -> bool:
    """Whether each chunk is one row, stored as it is."""
    one_row = dataset.chunks == (1, *dataset.shape[1:])
    return one_row and dataset.dtype == FLOAT and not dataset.id.get_create_plist().get_nfilters()


def chunk_offsets(dataset: h5py.Dataset, file_bytes: int) -> np.ndarray:
    """Place of each row in the file, checked to lie inside it."""
    offsets = np.full(dataset.shape[0], -1, dtype=np.int64)

    def note(chunk: Any) -> None:
        offsets[chunk.chunk_offset[0]] = chunk.byte_offset

    # One pass; asking for each chunk by its number takes quadratic time.
    dataset.id.chunk_iter(note)
    row_bytes = int(np.prod(dataset.shape[1:])) * FLOAT.itemsize
    outside = (offsets < 0) | (offsets + row_bytes > file_bytes)
    if outside.any():
        raise ValueError(f"{dataset.name} lacks row {int(outside.argmax())}")
    return offsets


def _check_counts(opened: _OpenStore) -> None:
    n_samples = sum(entry.n_samples for entry in opened.recordings)
    expected = [n_samples, n_samples, len(opened.recordings), len(opened.recordings)]
    for name, rows in zip(ROW_DATASETS, expected, strict=True):
        if len(opened.rows[name]) != rows:
            raise ValueError(f"{name} has {len(opened.rows[name])} rows, recordings say {rows}")


def _open_file(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        what, remedy = _why_not_opened(path, error)
        raise StoreError(what, where=path, remedy=remedy) from None


def _why_not_opened(path: Path, error: OSError) -> tuple[str, str]:
    if not path.exists():
        return "no such store", "make it with launch/preprocess.py, or correct the path"
    if not path.is_file():
        return "not a file", "give the HDF5 file itself"
    if not os.access(path, os.R_OK):
        return "may not be read by you", "ask its owner for read permission"
    if "truncated" in str(error):
        return "truncated: the file is shorter than it says", _MAKE_AGAIN
    return f"not an HDF5 file, or damaged ({error})", _MAKE_AGAIN


def _check_version(file: h5py.File, path: Path) -> None:
    if file.attrs.get("format") != FORMAT:
        raise StoreError(
            "an HDF5 file, but not a store of this suite",
            where=path,
            remedy="give the file that launch/preprocess.py wrote",
        )
    version = file.attrs.get("version")
    if version != FORMAT_VERSION:
        raise StoreError(
            f"store format version {version}; this suite reads version {FORMAT_VERSION}",
            where=path,
            remedy="use the version of eeg2fmri_dist that wrote it, or preprocess again",
        )
