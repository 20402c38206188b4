"""What BIDS says of an EEG recording: ``*_channels.tsv``, ``*_events.tsv``, its own or inherited.

Both are read as they are found in published data sets, with tabs at the ends of lines, or with
spaces and quotes in place of tabs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.continuous import ContinuousEeg, Marker
from preprocessing.layouts.bids_names import applicable_files

# BIDS channel types that are of scalp, heart, eyes and muscles; others are `misc`.
_TYPES = {"EEG": "eeg", "ECG": "ecg", "EMG": "emg"} | dict.fromkeys(("EOG", "HEOG", "VEOG"), "eog")
_QUOTES = "'\"\u2018\u2019\u201c\u201d"
_INSIDE = re.compile(r"sub-|ses-|eeg")


def tables_of(path: Path) -> list[Path]:
    """Tables that apply to a recording: at most one of channels and one of events."""
    found = (_table_of(path, kind) for kind in ("channels", "events"))
    return [table for table in found if table is not None]


def with_types(eeg: ContinuousEeg) -> ContinuousEeg:
    """Return the recording with the channel types that its table states.

    Raises
    ------
    DataError
        If the table cannot be read.
    """
    path = _table_of(eeg.header_path, "channels")
    if path is None:
        return eeg
    stated = {row["name"]: row["type"].upper() for row in _rows(path, ("name", "type"))}
    types = (
        _TYPES.get(stated[name], "misc") if name in stated else kind
        for name, kind in zip(eeg.channel_names, eeg.channel_types, strict=True)
    )
    return replace(eeg, channel_types=tuple(types))


def with_events(eeg: ContinuousEeg, marker: str | None) -> ContinuousEeg:
    """Return the recording with the events of its table too, if its file has no volume markers.

    Parameters
    ----------
    eeg : ContinuousEeg
    marker : str or None
        Regular expression of a volume marker; None = any marker is one.

    Raises
    ------
    DataError
        If the table is needed and cannot be read.
    """
    path = _table_of(eeg.header_path, "events")
    marked = any(re.search(marker or "", found.description) for found in eeg.markers)
    if marked or path is None:
        return eeg
    events = []
    for row in _rows(path, ("onset",)):
        texts = [row.get(column, "n/a") for column in ("trial_type", "value")]
        text = "/".join(text for text in texts if text not in ("", "n/a"))
        events.append(Marker(_sample(row["onset"], eeg.sfreq_hz, path), text))
    return replace(eeg, markers=(*eeg.markers, *events))


def _sample(onset: str, sfreq_hz: float, path: Path) -> int:
    try:
        return round(float(onset) * sfreq_hz)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"onset holds something else than seconds ({error})", where=path, remedy="correct it"
        ) from None


def _table_of(path: Path, kind: str) -> Path | None:
    """The table of channels or events that applies to a recording."""
    own = path.with_name(f"{path.stem.removesuffix('_eeg')}_{kind}.tsv")
    if own.is_file():
        return own
    # The data set begins above the folders of subject, session and data type.
    root = next(folder for folder in path.parents if not _INSIDE.match(folder.name))
    return next(applicable_files(path, f"{kind}.tsv", root), None)


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a table as text, by column."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"the table cannot be read ({error})", where=path, remedy="correct it, or remove it"
        ) from None
    lines = [line for line in lines if line.strip()]
    separator = r"\t" if lines and "\t" in lines[0] else r"\s{2,}|\t"
    table = [[cell.strip().strip(_QUOTES) for cell in re.split(separator, x)] for x in lines]
    columns = table[0] if table else []
    if missing := [column for column in needed if column not in columns]:
        raise DataError(
            f"the table has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}",
            where=path,
            remedy="correct it, or remove it",
        )
    for cells in table[1:]:
        row = dict(zip(columns, cells, strict=False))
        yield {column: "" for column in needed} | row
