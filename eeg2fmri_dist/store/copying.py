"""Copy the rows of uncompressed stores as they lie in their files, several pieces at a time."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eeg2fmri_dist.store.reading import chunk_offsets, damage_named, open_checked
from eeg2fmri_dist.store.schema import FLOAT

# One more than two cores, for when the disk is waited for.
_THREADS = 3
_PIECES_AHEAD = 2 * _THREADS
_PIECE_BYTES = 32 << 20


@dataclass(frozen=True)
class _Piece:
    """Rows of one data set that follow each other in one source."""

    source: Path
    dataset: str
    first: int
    row_bytes: int
    offsets: np.ndarray
    checksums: np.ndarray
    places: np.ndarray


def copy_rows(sources: Sequence[Path], path: Path, places: Mapping[str, np.ndarray]) -> None:
    """Copy rows into a file that has room for them, each compared with its checksum on the way.

    Checksums take as long as copying, and neither holds the interpreter.

    Parameters
    ----------
    sources : sequence of Path
        Uncompressed stores, in the order in which their rows shall lie.
    path : Path
        File to write into.
    places : mapping of str to ndarray of int64, (row,)
        Byte in the file at which each row of a data set begins.

    Raises
    ------
    StoreError
        If a source is damaged.
    OSError
        If the file cannot be written.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        copies: deque[Future[None]] = deque()
        for piece in _pieces(sources, places):
            copies.append(pool.submit(_copy, piece, path))
            if len(copies) > _PIECES_AHEAD:
                copies.popleft().result()
        for copy in copies:
            copy.result()


def _pieces(sources: Sequence[Path], places: Mapping[str, np.ndarray]) -> Iterator[_Piece]:
    for name, waiting in places.items():
        done = 0
        for source in sources:
            with open_checked(source) as file:
                row_bytes = int(np.prod(file[name].shape[1:])) * FLOAT.itemsize
                offsets = chunk_offsets(file[name], source.stat().st_size)
                checksums = file[f"checksums/{name}"][()]
            here = waiting[done : done + len(offsets)]
            done += len(offsets)
            step = max(1, _PIECE_BYTES // row_bytes)
            for first in range(0, len(offsets), step):
                rows = slice(first, first + step)
                yield _Piece(
                    source, name, first, row_bytes, offsets[rows], checksums[rows], here[rows]
                )


def _copy(piece: _Piece, path: Path) -> None:
    row = bytearray(piece.row_bytes)
    with piece.source.open("rb") as source, path.open("r+b") as target:
        for number, place in enumerate(piece.places):
            with damage_named(piece.source):
                _read_checked(source, row, piece, number)
            target.seek(place)
            target.write(row)
        target.flush()
        _hand_over(target.fileno(), piece)


def _read_checked(source: BinaryIO, row: bytearray, piece: _Piece, number: int) -> None:
    source.seek(piece.offsets[number])
    n_read = source.readinto(row)  # type: ignore[attr-defined]
    if n_read != len(row) or zlib.crc32(row) != piece.checksums[number]:
        raise ValueError(
            f"row {piece.first + number} of {piece.dataset} does not match its checksum"
        )


def _hand_over(descriptor: int, piece: _Piece) -> None:
    """Have the disk begin on what was written, so that little is left to flush at the end."""
    begin, end = int(piece.places.min()), int(piece.places.max()) + piece.row_bytes
    os.posix_fadvise(descriptor, begin, end - begin, os.POSIX_FADV_DONTNEED)
