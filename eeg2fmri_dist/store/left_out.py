"""Recordings that a store does not hold, and why: an addition that readers may ignore.

``/left_out`` has a checksum of its own. The fingerprint leaves it out: what the store holds is the
same whatever it does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import h5py
import numpy as np

from eeg2fmri_dist.store.schema import DESCRIPTIONS, LeftOut, RecordingEntry, text_crc, to_json

_NAME = "left_out"
_TEXT = h5py.string_dtype("utf-8")
_ROW = np.dtype([("recording", _TEXT), ("state", _TEXT), ("reason", _TEXT)])


def write_left_out(file: h5py.File, left_out: Sequence[LeftOut]) -> None:
    """Write the table and its checksum; nothing if it is empty."""
    if not left_out:
        return
    rows = [(entry.recording, entry.state, entry.reason) for entry in left_out]
    table = file.create_dataset(_NAME, data=np.array(rows, dtype=_ROW))
    table.attrs["description"] = DESCRIPTIONS[_NAME]
    file.create_dataset(f"checksums/{_NAME}", data=np.array([_crc(left_out)], "<u4"))


def read_left_out(file: h5py.File) -> tuple[LeftOut, ...]:
    """Read what `write_left_out` wrote; empty where a store has none."""
    if _NAME not in file:
        return ()
    return tuple(
        LeftOut(*(text.decode() if isinstance(text, bytes) else str(text) for text in row))
        for row in file[_NAME][()]
    )


def join_left_out(
    parts: Iterable[Sequence[LeftOut]], recordings: Iterable[RecordingEntry]
) -> list[LeftOut]:
    """Join the tables of several stores; recordings that one of them holds are not left out."""
    held = {entry.key for entry in recordings}
    joined = dict.fromkeys(entry for part in parts for entry in part)
    return [entry for entry in joined if entry.recording not in held]


def damaged_left_out(file: h5py.File) -> Iterator[str]:
    """Say what is wrong with the table of a store; nothing where it has none."""
    left_out = read_left_out(file)
    if left_out and _crc(left_out) != file[f"checksums/{_NAME}"][0]:
        yield f"/{_NAME} does not match its checksum"


def _crc(left_out: Sequence[LeftOut]) -> int:
    return text_crc(to_json([vars(entry) for entry in left_out]))
