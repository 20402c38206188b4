"""A recording of a store as NIfTI and TSV, for programs that do not read HDF5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.files.atomic import write_json, write_text
from eeg2fmri_dist.files.nifti import write_run
from eeg2fmri_dist.store.reading import Store
from eeg2fmri_dist.store.schema import RecordingEntry


def export_recording(store: Store, key: str, folder: Path) -> list[Path]:
    """Write one recording as files that need no HDF5.

    Parameters
    ----------
    store : Store
    key : str
        Such as ``sub-32_run-01``; `RecordingEntry.key`.
    folder : Path
        Gets ``KEY_bold.nii.gz`` with a JSON sidecar, ``KEY_eeg.tsv`` (one row a volume, one column
        a channel and frequency) and ``KEY_confounds.tsv`` where the store has confounds.

    Returns
    -------
    list of Path
        Files written.

    Raises
    ------
    DataError
        If the store has no such recording.
    """
    entry = _find(store, key)
    span = entry.first_sample, entry.first_sample + entry.n_samples
    bold, sidecar, eeg, confounds = (
        folder / f"{key}_{name}"
        for name in ("bold.nii.gz", "bold.json", "eeg.tsv", "confounds.tsv")
    )
    write_run(bold, store.bold(*span), store.layout.affine, entry.tr_s)
    write_json(sidecar, _describe(store, entry))
    write_text(eeg, _table(_eeg_columns(store), store.eeg(*span).reshape(entry.n_samples, -1)))
    written = [bold, sidecar, eeg]
    if store.confounds is not None:
        values = store.confounds.values[span[0] : span[1]]
        write_text(confounds, _table(store.confounds.names, values))
        written.append(confounds)
    return written


def _find(store: Store, key: str) -> RecordingEntry:
    for entry in store.recordings:
        if entry.key == key:
            return entry
    raise DataError(
        f"no recording {key!r}",
        where=store.path,
        remedy=f"there are {', '.join(entry.key for entry in store.recordings)}",
    )


def _describe(store: Store, entry: RecordingEntry) -> dict[str, object]:
    return {
        "RepetitionTime": entry.tr_s,
        "SpatialReference": store.layout.space,
        "EEGUnit": store.layout.eeg_unit,
        "StoreFingerprint": store.fingerprint,
        "Sources": [source.path for source in entry.sources],
        "Quality": entry.quality,
    }


def _eeg_columns(store: Store) -> list[str]:
    return [
        f"{channel}_{frequency_hz:g}Hz"
        for channel in store.layout.channel_names
        for frequency_hz in store.layout.frequencies_hz
    ]


def _table(columns: Sequence[str], values: np.ndarray) -> str:
    """Return tab-separated values; nine digits give each float32 back."""

    def lines() -> Iterator[str]:
        yield "\t".join(columns)
        for row in values:
            yield "\t".join("n/a" if np.isnan(value) else f"{value:.9g}" for value in row)

    return "\n".join(lines()) + "\n"
