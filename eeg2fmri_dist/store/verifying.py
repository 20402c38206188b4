"""Check a store against its own checksums."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from eeg2fmri_dist.errors import StoreError
from eeg2fmri_dist.store import contents
from eeg2fmri_dist.store.confounds import damaged_confounds
from eeg2fmri_dist.store.left_out import damaged_left_out
from eeg2fmri_dist.store.reading import DAMAGE, Store, open_checked
from eeg2fmri_dist.store.schema import (
    FLOAT,
    ROW_DATASETS,
    SAMPLE_DATASETS,
    RecordingEntry,
    crc,
    fingerprint,
    small_checksums,
)


def verify(path: str | os.PathLike[str]) -> list[str]:
    """Read everything and compare it with the checksums, counts and fingerprint.

    Parameters
    ----------
    path : path-like
        Store to check.

    Returns
    -------
    list of str
        One line for each problem, with data set, sample and recording; empty if it is whole.
    """
    try:
        Store(path).close()
        with open_checked(Path(path)) as file:
            return list(_problems(file))
    except StoreError as error:
        return [str(error.what)]


def _problems(file: h5py.File) -> Iterator[str]:
    layout, recordings = contents.read_layout(file), contents.read_recordings(file)
    checksums = {name: file[f"checksums/{name}"][()] for name in ROW_DATASETS}
    yield from _misplaced(recordings)
    for name in ROW_DATASETS:
        yield from _damaged_rows(file[name], checksums[name], recordings)
    for name, expected in small_checksums(layout, recordings).items():
        if not np.array_equal(file[f"checksums/{name}"][()], expected):
            yield f"/{name} does not match its checksum"
    yield from damaged_confounds(file)
    yield from damaged_left_out(file)
    if fingerprint(layout, recordings, checksums) != file.attrs["fingerprint"]:
        yield "the fingerprint does not match the contents"


def _misplaced(recordings: Sequence[RecordingEntry]) -> Iterator[str]:
    """Recordings must follow one another without gap."""
    first_sample = 0
    for entry in recordings:
        if entry.first_sample != first_sample:
            yield f"{entry.key} starts at sample {entry.first_sample}, expected {first_sample}"
        first_sample += entry.n_samples


def _damaged_rows(
    dataset: h5py.Dataset, checksums: np.ndarray, recordings: Sequence[RecordingEntry]
) -> Iterator[str]:
    if len(checksums) != dataset.shape[0]:
        yield f"{dataset.name} has {dataset.shape[0]} rows but {len(checksums)} checksums"
        return
    for index, checksum in enumerate(checksums):
        try:
            damaged = crc(dataset[index].astype(FLOAT)) != checksum
        except DAMAGE:
            damaged = True
        if damaged:
            yield f"{_place(dataset.name, index, recordings)} does not match its checksum"


def _place(dataset: str, index: int, recordings: Sequence[RecordingEntry]) -> str:
    """Name a row in words, such as ``/bold, sample 300 (sub-33, its sample 5)``."""
    if dataset.strip("/") not in SAMPLE_DATASETS:
        return f"{dataset} of {recordings[index].key}"
    for entry in recordings:
        if entry.first_sample <= index < entry.first_sample + entry.n_samples:
            return (
                f"{dataset}, sample {index} ({entry.key}, its sample {index - entry.first_sample})"
            )
    return f"{dataset}, sample {index}"
