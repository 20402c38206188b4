"""EEG files of any format that is read (BrainVision, EEGLAB, EDF), and what BIDS says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eeg2fmri_dist.errors import DataError
from preprocessing.brainvision import BrainVision, Marker, channel_type, open_brainvision

if TYPE_CHECKING:
    import mne
    import pandas as pd

SUFFIXES = (".vhdr", ".set", ".edf", ".bdf")
# BIDS channel types that are of scalp, heart, eyes and muscles; others are `misc`.
_BIDS_TYPES = {"EEG": "eeg", "ECG": "ecg", "EMG": "emg"} | dict.fromkeys(
    ("EOG", "HEOG", "VEOG"), "eog"
)


def open_eeg(path: Path) -> BrainVision:
    """Open a recording without writing anything.

    ``.vhdr`` is read by `open_brainvision`, ``.set`` (EEGLAB), ``.edf`` and ``.bdf`` by
    MNE-Python, whose annotations become the markers. In a BIDS folder ``*_channels.tsv`` states the
    types of channels, and ``*_events.tsv`` the markers of a file that holds none.

    Parameters
    ----------
    path : Path
        Header, or the file itself.

    Returns
    -------
    BrainVision

    Raises
    ------
    DataError
        If the recording cannot be read, or is of another format.
    """
    brainvision = path.suffix.lower() == ".vhdr"
    eeg = open_brainvision(path) if brainvision else _from_mne(path, _read(path))
    return _with_events(_with_types(eeg))


def files_beside(path: Path) -> list[Path]:
    """Files that belong to a recording beside its header, where they are there."""
    beside = [path.with_suffix(".fdt")] if path.suffix.lower() == ".set" else []
    beside += [_bids_table(path, kind) for kind in ("channels", "events")]
    return [file for file in beside if file.is_file() and file != path]


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


def _from_mne(path: Path, raw: mne.io.BaseRaw) -> BrainVision:
    """An opened recording that MNE reads."""
    sfreq_hz = float(raw.info["sfreq"])
    marks = raw.annotations
    samples = np.rint((marks.onset - raw.first_time) * sfreq_hz).astype(int)
    markers = [
        Marker(int(sample), str(description))
        for sample, description in zip(samples, marks.description, strict=True)
    ]
    return BrainVision(
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


def _bids_table(path: Path, kind: str) -> Path:
    """Where BIDS keeps the channels or events of a recording."""
    stem = path.stem.removesuffix("_eeg")
    return path.with_name(f"{stem}_{kind}.tsv")


def _with_types(eeg: BrainVision) -> BrainVision:
    """The recording with the channel types that its BIDS table states."""
    path = _bids_table(eeg.header_path, "channels")
    if not path.is_file():
        return eeg
    table = _read_table(path, ("name", "type"))
    stated = dict(zip(table["name"], table["type"].str.upper(), strict=True))
    types = (
        _BIDS_TYPES.get(stated[name], "misc") if name in stated else kind
        for name, kind in zip(eeg.channel_names, eeg.channel_types, strict=True)
    )
    return replace(eeg, channel_types=tuple(types))


def _with_events(eeg: BrainVision) -> BrainVision:
    """The recording with the markers of its BIDS table, if the file itself has none."""
    path = _bids_table(eeg.header_path, "events")
    if eeg.markers or not path.is_file():
        return eeg
    table = _read_table(path, ("onset",))
    named = [column for column in ("trial_type", "value") if column in table]
    try:
        samples = np.rint(table["onset"].astype(float) * eeg.sfreq_hz).astype(int)
    except ValueError as error:
        raise DataError(
            f"onset holds something else than seconds ({error})", where=path, remedy="correct it"
        ) from None
    texts = ["/".join(value for value in row if value != "n/a") for row in table[named].values]
    markers = tuple(Marker(int(s), text) for s, text in zip(samples, texts, strict=True))
    return replace(eeg, markers=markers)


def _read_table(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """A BIDS table as text."""
    import pandas as pd

    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the table cannot be read ({error})", where=path, remedy="correct it, or remove it"
        ) from None
    if missing := [column for column in needed if column not in table]:
        raise DataError(
            f"the table has no column {', '.join(missing)}; it has {', '.join(table.columns)}",
            where=path,
            remedy="correct it, or remove it",
        )
    return table
