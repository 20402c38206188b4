"""A recording, and where recordings are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eeg2fmri_dist.config.preprocess import SourceConfig
from eeg2fmri_dist.errors import DataError


@dataclass(frozen=True)
class Recording:
    """One run of simultaneously recorded EEG and BOLD.

    Attributes
    ----------
    subject, session, run : str
        Entities without their prefix ("32", "", "01"); empty where the layout has none.
    eeg_path : Path
        BrainVision header (``.vhdr``), or an EEGLAB, EDF or BDF file.
    bold_path : Path
        4-D NIfTI.
    t1_path : Path or None
        Anatomy, where there is one.
    tr_s : float or None
        Repetition time that overrides the NIfTI header (config or BIDS sidecar), in seconds.
    slice_times_s : tuple of float or None
        When each slice of the last axis is acquired after the volume's start (BIDS sidecar).
    """

    subject: str
    eeg_path: Path
    bold_path: Path
    session: str = ""
    run: str = ""
    t1_path: Path | None = None
    tr_s: float | None = None
    slice_times_s: tuple[float, ...] | None = None

    @property
    def key(self) -> str:
        """Name of the recording in file names and messages, such as ``sub-32_run-01``."""
        parts = [("sub", self.subject), ("ses", self.session), ("run", self.run)]
        return "_".join(f"{name}-{value}" for name, value in parts if value)


def find_recordings(source: SourceConfig) -> list[Recording]:
    """All recordings of a source, sorted by key.

    Parameters
    ----------
    source : SourceConfig
        Layout, folder and selection.

    Returns
    -------
    list of Recording

    Raises
    ------
    DataError
        If there is none, if half of a pair is missing, or if a label holds characters that have
        no place in a file name.
    """
    from preprocessing import bids, noddi

    layouts = {"noddi": noddi.find_recordings, "bids": bids.find_recordings}
    recordings = sorted(layouts[source.kind](source), key=lambda recording: recording.key)
    if not recordings:
        raise DataError(
            f"no {source.kind} recordings found",
            where=source.path,
            remedy="check source.path, source.kind and source.subjects in the config",
        )
    for recording in recordings:
        _check_labels(recording)
    return recordings


def _check_labels(recording: Recording) -> None:
    """Refuse labels that are no labels: they become file names, job names and text in pages."""
    for label in (recording.subject, recording.session, recording.run):
        allowed = all(character.isalnum() or character in "+-" for character in label)
        if not allowed or not recording.subject:
            raise DataError(
                f"{label!r} cannot be a subject, session or run: letters, digits, + and - can",
                where=recording.bold_path,
                remedy="rename the files, or leave them out with source.subjects",
            )
