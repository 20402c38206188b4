"""EEG files of any format that is read: ContinuousEeg, EEGLAB, EDF and BDF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.bids_sidecars import tables_of, with_events, with_types
from preprocessing.eeg.brainvision import open_brainvision
from preprocessing.eeg.continuous import ContinuousEeg, Marker, channel_type

if TYPE_CHECKING:
    import mne

SUFFIXES = (".vhdr", ".set", ".edf", ".bdf")


def open_eeg(path: Path, marker: str | None = None) -> ContinuousEeg:
    """Open a recording without writing anything.

    ``.vhdr`` is read by `open_brainvision`, ``.set`` (EEGLAB), ``.edf`` and ``.bdf`` by
    MNE-Python, whose annotations become the markers. In a BIDS folder ``*_channels.tsv`` states the
    types of channels, and ``*_events.tsv`` the markers of a file that has none of the volumes.

    Parameters
    ----------
    path : Path
        Header, or the file itself.
    marker : str or None
        Regular expression found in the description of a volume marker; without one, the table of
        events is read for a file without any markers.

    Returns
    -------
    ContinuousEeg

    Raises
    ------
    DataError
        If the recording cannot be read, or is of another format.
    """
    brainvision = path.suffix.lower() == ".vhdr"
    eeg = open_brainvision(path) if brainvision else _from_mne(path, _read(path))
    return with_events(with_types(eeg), marker)


def files_beside(path: Path) -> list[Path]:
    """Files that belong to a recording besides its header, where they are there."""
    beside = [path.with_suffix(".fdt")] if path.suffix.lower() == ".set" else []
    return [file for file in beside if file.is_file()] + tables_of(path)


def _read(path: Path) -> mne.io.BaseRaw:
    """The recording as MNE reads it."""
    import mne

    readers = {
        # Samples inside a .set are read whole at each access.
        ".set": lambda file: mne.io.read_raw_eeglab(
            file, preload=not file.with_suffix(".fdt").is_file(), verbose="error"
        ),
        ".edf": lambda file: mne.io.read_raw_edf(file, infer_types=True, verbose="error"),
        ".bdf": lambda file: mne.io.read_raw_bdf(file, infer_types=True, verbose="error"),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            "not an EEG format that is read", where=path, remedy="give " + ", ".join(SUFFIXES)
        )
    try:
        return reader(path)
    except Exception as error:  # a broken file makes the parser fail in any way
        raise DataError(
            f"the EEG cannot be read ({type(error).__name__}: {error})",
            where=path,
            remedy="compare it with the original recording; export it again if it is damaged",
        ) from error


def _from_mne(path: Path, raw: mne.io.BaseRaw) -> ContinuousEeg:
    """An opened recording that MNE reads."""
    sfreq_hz = float(raw.info["sfreq"])
    marks = raw.annotations
    samples = np.rint((marks.onset - raw.first_time) * sfreq_hz).astype(int)
    markers = [
        Marker(int(sample), str(description))
        for sample, description in zip(samples, marks.description, strict=True)
    ]
    return ContinuousEeg(
        header_path=path,
        data_path=path,
        sfreq_hz=sfreq_hz,
        n_samples=int(raw.n_times),
        channel_names=tuple(raw.ch_names),
        channel_types=tuple(map(channel_type, raw.ch_names, raw.get_channel_types())),
        markers=tuple(markers),
        _raw=raw,
        _multiplexed_type=None,
    )
