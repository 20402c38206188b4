"""A recording: one run of simultaneously recorded EEG and BOLD."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownTruth:
    """Files by which the processing of a recording can be judged, where its truth is known.

    Attributes
    ----------
    clean_eeg_path : Path or None
        EEG file or header with the same signal without scanner artifacts.
    head_map_path : Path or None
        ``.npz`` with the true map of the head to MNI space, as `preprocessing.template.head_map`
        reads it.
    """

    clean_eeg_path: Path | None = None
    head_map_path: Path | None = None


@dataclass(frozen=True)
class Recording:
    """One run of simultaneously recorded EEG and BOLD.

    Attributes
    ----------
    subject, session, task, run : str
        Entities without their prefix ("32", "", "rest", "01"); empty where the layout has none.
    eeg_path : Path
        BrainVision header (``.vhdr``), or an EEGLAB, EDF or BDF file; where one is missing, the
        path at which it was expected.
    bold_path : Path
        4-D NIfTI; where it is missing, the path at which it was expected.
    t1_path : Path or None
        Anatomy, where there is one.
    tr_s : float or None
        Repetition time that overrides the NIfTI header (config or BIDS sidecar), in seconds.
    slice_times_s : tuple of float or None
        When each slice of the last axis is acquired after the volume's start (BIDS sidecar).
    problem : str
        Why it cannot be used, as far as its layout knows; empty if nothing speaks against it.
    truth : KnownTruth or None
        What is known of it beyond what was measured, as of simulated or phantom recordings. It
        decides nothing but the numbers that say how good the processing was.
    """

    subject: str
    eeg_path: Path
    bold_path: Path
    session: str = ""
    run: str = ""
    t1_path: Path | None = None
    tr_s: float | None = None
    slice_times_s: tuple[float, ...] | None = None
    task: str = ""
    problem: str = ""
    truth: KnownTruth | None = None

    @property
    def key(self) -> str:
        """Name of the recording in file names and messages, such as ``sub-32_run-01``."""
        parts = [
            ("sub", self.subject),
            ("ses", self.session),
            ("task", self.task),
            ("run", self.run),
        ]
        key = "_".join(f"{name}-{value}" for name, value in parts if value)
        # Labels of files that are refused are shown too.
        return "".join(letter if letter.isprintable() else "?" for letter in key)
