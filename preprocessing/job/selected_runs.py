"""The recordings to preprocess, with what the headers of their BOLD runs say, read once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.bold.bold_run import open_run
from preprocessing.recordings import Recording


@dataclass(frozen=True)
class RunHeader:
    """What is planned with before any volume is read.

    Attributes
    ----------
    n_volumes : int
        Volumes in the file.
    n_kept : int
        Those left without the first, which are dropped.
    tr_s : float
        Repetition time in use, in s.
    """

    n_volumes: int
    n_kept: int
    tr_s: float


@dataclass(frozen=True)
class SelectedRun:
    """A recording to be preprocessed.

    Attributes
    ----------
    recording : Recording
    header : RunHeader or None
        Of its BOLD run; None where it cannot be used.
    problem : str
        Why it cannot be used; empty if it can.
    """

    recording: Recording
    header: RunHeader | None
    problem: str = ""

    @property
    def key(self) -> str:
        """Name of the recording."""
        return self.recording.key


def read_headers(
    recordings: Iterable[Recording], config: PreprocessConfig
) -> tuple[SelectedRun, ...]:
    """Read the headers of BOLD runs, and nothing else of them.

    One that cannot be used stops no other: its recording's own steps will fail.
    """
    return tuple(_with_header(recording, config) for recording in recordings)


def _with_header(recording: Recording, config: PreprocessConfig) -> SelectedRun:
    try:
        run = open_run(recording, config)
    except DataError as error:
        return SelectedRun(recording, None, error.what)
    n_kept = run.n_volumes - config.dummy_scans
    return SelectedRun(recording, RunHeader(run.n_volumes, n_kept, run.tr_s))
